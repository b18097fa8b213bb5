"""A short trial, trained without disturbance and by a worker: is the outcome the same?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from kdgan_core import Trial, TrialConfig
from sweeps import worker
from sweeps.spool import SpoolState, read_spool, spool_path
from sweeps.worker import Training, Workers, checkpoint_path

SHARE = worker.CHECKPOINT_SHARE
CONFIG = TrialConfig.from_dict(
    {
        "dataset": "digits", "architecture": "small", "train_size": 100, "valid_size": 200,
        "batch_size": 20, "pretrain_steps": 60, "steps": 20, "evaluations": 5, "seeds": (0, 1),
    }
)  # fmt: skip


class Whole(NamedTuple):
    """A trained trial and the metrics of its checks, as JSON has them."""

    trial: Trial
    checks: list[dict[str, dict[str, float]]]


def state(workers: Workers, config: TrialConfig = CONFIG) -> SpoolState:
    return read_spool(spool_path(Path(workers.spool), config.trial_id))


def checkpoint(workers: Workers) -> Path:
    return checkpoint_path(Path(workers.checkpoints), CONFIG.trial_id)


def begun(workers: Workers, advances: int = 0) -> Training:
    training = Training(CONFIG, workers)
    training.begin()
    for _ in range(advances):
        training.advance()
    return training


def steps(spool: SpoolState) -> list[int]:
    return [check["step"] for check in spool.evaluations]


def weights(trial: Trial) -> list[torch.Tensor]:
    players = [player for replica in trial.replicas for player in replica.players.values()]
    return [parameter for player in players for parameter in player.parameters()]


def untimed(seed: Mapping[str, object]) -> dict[str, object]:
    """A seed's result but for what it took."""
    return {name: value for name, value in seed.items() if not name.endswith("_seconds")}


def ends_as(whole: Whole, training: Training, workers: Workers) -> bool:
    """Trains to the end: equal weights, checks and scores, and no checkpoint left."""
    while not training.trial.done:
        training.advance()
    training.close()
    spool, result = state(workers), whole.trial.result()
    assert steps(spool) == [0, 4, 8, 12, 16, 20]
    assert [check["metrics"] for check in spool.evaluations] == whole.checks
    assert spool.result is not None
    assert list(map(untimed, spool.result["seeds"])) == [
        untimed(s.as_record()) for s in result.seeds
    ]
    assert (spool.outcome, spool.corrupt) == (result.outcome, [])
    assert not checkpoint(workers).exists()
    mine, expected = weights(training.trial), weights(whole.trial)
    return len(mine) == len(expected) and all(map(torch.equal, mine, expected))
