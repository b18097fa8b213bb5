"""How long a sweep will take: from its finished trials, else from a probe of a few steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kdgan_core.config import TrialConfig

PROBE_ROUNDS = 4


class Probe(NamedTuple):
    """Estimated seconds of one seed: its training, and its pretraining (once per sweep)."""

    train: float
    pretrain: float


def probe_seconds(config: TrialConfig, data_dir: Path | None, device: str) -> Probe:
    """What one seed of `config` takes on `device` here.

    Times a few rounds of freshly initialised players and one validation check, and takes a step of
    pretraining all players to cost as much as a round. Good to about a factor of 1.5.

    Raises:
        DataError: the data are absent or damaged.
    """
    import torch

    from kdgan_core.data import load_dataset
    from kdgan_core.replica import Replica

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        untrained = config.replace(pretrain_steps=0, seeds=config.seeds[:1])
        dataset = load_dataset(config.dataset, data_dir)
        with tempfile.TemporaryDirectory() as cache:
            replica = Replica(
                untrained, config.seeds[0], dataset, Path(cache), torch.device(device)
            )
        replica.train_to(1)
        started = time.perf_counter()
        replica.train_to(1 + PROBE_ROUNDS)
        per_round = (time.perf_counter() - started) / PROBE_ROUNDS
        started = time.perf_counter()
        replica.validate()
        per_check = time.perf_counter() - started
    finally:
        torch.set_num_threads(before)
    train = per_round * config.rounds + per_check * config.evaluations
    return Probe(train, per_round * config.pretrain_steps)


class CostModel:
    """Seconds a trial takes once its players are pretrained, by training size; learns from trials.

    Pretraining happens once per size and seed: `pretrain_seconds` counts it apart.
    """

    def __init__(self, seconds_per_seed: Mapping[int, float]) -> None:
        """seconds_per_seed: training size -> a first estimate for one seed."""
        self._first = dict(seconds_per_seed)
        self._measured: dict[int, list[float]] = {}
        self._pretrain: dict[int, float] = {}

    def knows(self, train_size: int) -> bool:
        """Whether there is an estimate or a measurement for the size."""
        return train_size in self._first or train_size in self._measured

    def expect(self, train_size: int, probe: Probe) -> None:
        """Sets the first estimate of a size."""
        self._first[train_size], self._pretrain[train_size] = probe

    def pretrain_seconds(self, train_size: int) -> float:
        """Of one seed; 0 once a trial of the size has ended, or where nothing is known."""
        return 0.0 if train_size in self._measured else self._pretrain.get(train_size, 0.0)

    def learn(self, config: TrialConfig, result: Mapping[str, Any]) -> None:
        """Takes in what an ended trial cost, pretraining apart; failed ones teach nothing."""
        if result.get("seconds") and result["outcome"] in ("finished", "collapsed"):
            trained = result["seconds"] - result.get("prepare_seconds", 0.0)
            per_seed = trained / len(config.seeds)
            self._measured.setdefault(config.train_size, []).append(per_seed)

    def trial_seconds(self, config: TrialConfig) -> float:
        return self.seconds_per_seed(config.train_size) * len(config.seeds)

    def seconds_per_seed(self, train_size: int) -> float:
        """Mean of the measured ones, else the first estimate."""
        measured = self._measured.get(train_size)
        return sum(measured) / len(measured) if measured else self._first[train_size]


def format_seconds(seconds: float) -> str:
    """'45 s', '12 min', '3.5 h' or '2.1 days'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
