"""The cache of pretrained players: bounded, whole, and never without what is in use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch

from kdgan_core import player_cache
from kdgan_core.config import TrialConfig
from kdgan_core.player_cache import cached, size_limit
from kdgan_core.trial import Trial

CPU = torch.device("cpu")
NUMBERS = 25_000  # 100 kB an entry


def entry(value: float) -> dict[str, Any]:
    return {"player": torch.full((NUMBERS,), value), "seconds": value}


class Folder:
    """A cache folder whose entries are made by name and used at times that a test sets."""

    def __init__(self, path: Path) -> None:
        self.path, self.made, self.time = path, list[str](), 1_000

    def use(self, name: str) -> float:
        """The value that the entry holds; that of a new one is the number made so far."""

        def make() -> dict[str, Any]:
            self.made.append(name)
            return entry(float(len(self.made)))

        path = self.path / f"{name}.pt"
        kept = cached(path, CPU, make)
        assert bool((kept["player"] == kept["seconds"]).all())
        self.time += 10
        os.utime(path, (self.time, self.time))
        return float(kept["seconds"])

    def names(self) -> set[str]:
        return {path.stem for path in self.path.glob("*.pt")}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def allow(monkeypatch: pytest.MonkeyPatch, entries: float) -> None:
    monkeypatch.setenv(player_cache.LIMIT_VARIABLE, str(entries * 102e3 / 1e9))


def test_the_least_recently_used_are_dropped(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, 3)
    for name in ("a", "b", "c"):
        folder.use(name)
    assert folder.use("a") == 1.0
    folder.use("d")
    assert folder.names() == {"a", "c", "d"}
    folder.use("b")
    assert folder.names() == {"a", "b", "d"}
    assert folder.made == ["a", "b", "c", "d", "b"]


def test_reading_is_using(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, without the test's clock."""
    folder.use("a")
    before = (folder.path / "a.pt").stat().st_mtime
    cached(folder.path / "a.pt", CPU, lambda: entry(0.0))
    assert (folder.path / "a.pt").stat().st_mtime > before + 1_000


def test_an_entry_in_use_is_not_dropped(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 2)
    folder.use("a")
    folder.use("b")
    with filelock.FileLock(folder.path / "a.lock"):
        folder.use("c")
    assert folder.names() == {"a", "c"}


def test_a_new_entry_is_kept_however_large(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, 0)
    folder.use("a")
    folder.use("b")
    assert folder.names() == {"b"}
    assert folder.use("b") == 2.0


@pytest.mark.parametrize("place", [0, 30, 5_000, -1])
def test_a_damaged_entry_is_made_again(place: int, folder: Folder) -> None:
    folder.use("a")
    path = folder.path / "a.pt"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert folder.use("a") == 2.0
    assert folder.use("a") == 2.0


def test_half_an_entry_is_made_again(folder: Folder) -> None:
    folder.use("a")
    path = folder.path / "a.pt"
    path.write_bytes(path.read_bytes()[:5_000])
    assert folder.use("a") == 2.0


def test_an_entry_of_an_earlier_version_is_read(folder: Folder) -> None:
    torch.save(entry(7.0), folder.path / "a.pt")
    assert folder.use("a") == 7.0
    content = (folder.path / "a.pt").read_bytes()
    (folder.path / "a.pt").write_bytes(content[: len(content) // 2])
    assert folder.use("a") == 1.0


@pytest.mark.parametrize("text", ["many", "-1", "nan"])
def test_a_limit_that_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(player_cache.LIMIT_VARIABLE, text)
    with pytest.raises(ValueError, match=f"KDGAN_CACHE_LIMIT='{text}' is not a number of GB"):
        size_limit()


def test_the_limit_is_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(player_cache.LIMIT_VARIABLE, "1.5")
    assert size_limit() == 1.5e9
    monkeypatch.delenv(player_cache.LIMIT_VARIABLE)
    assert size_limit() == 20e9


def test_a_trial_with_a_damaged_cache_is_the_same_trial(
    make_config: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    scores = []
    for _ in range(2):
        config = make_config(pretrain_steps=12)
        trial = Trial(config, data_dir=None, cache_dir=tmp_path, device="cpu")
        trial.advance()
        scores.append(trial.advance().metrics)
        for path in tmp_path.rglob("*.pt"):
            path.write_bytes(path.read_bytes()[:-1])
    assert scores[0] == scores[1]
