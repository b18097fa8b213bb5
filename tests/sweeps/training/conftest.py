"""Pretrained players, a trial that nothing disturbed, and where a worker keeps things."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from working import CONFIG, Whole

from kdgan_core import Trial
from sweeps import worker
from sweeps.worker import Workers


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pretrained players, shared by the tests."""
    torch.set_num_threads(1)
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def a_checkpoint_at_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """These trials are too short to be worth one otherwise."""
    monkeypatch.setattr(worker, "CHECKPOINT_SHARE", 1e9)


@pytest.fixture
def workers(cache_dir: str, tmp_path: Path) -> Workers:
    return Workers(1, 0, None, cache_dir, str(tmp_path / "spool"), str(tmp_path / "checkpoints"))


@pytest.fixture(scope="session")
def undisturbed(cache_dir: str) -> Whole:
    """The trial of `CONFIG`, trained without spool or checkpoint."""
    trial, checks = Trial(CONFIG, data_dir=None, cache_dir=Path(cache_dir), device="cpu"), []
    while not trial.done:
        checks.append({str(seed): dict(m) for seed, m in trial.advance().metrics.items()})
    return Whole(trial, checks)
