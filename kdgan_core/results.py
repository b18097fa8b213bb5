"""What a trial says of itself: its state at a check, and how each seed and the whole ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdgan_core.config import score_of
from kdgan_core.data.task import Detail

# From best to worst; a trial's outcome is the worst of its seeds'.
OUTCOMES = ("finished", "stopped", "collapsed", "diverged")


@dataclass(frozen=True)
class Evaluation:
    """The state of a trial at one validation check.

    Attributes:
        step: updates of C so far; 0 is the pretrained player.
        steps: updates of C in all.
        tau: temperature of the round before the check (of the first round at step 0).
        seconds: training time since the trial began, evaluation and pretraining included.
        metrics: seed -> metric -> value; `valid_accuracy`, or for tags `valid_map` and the other
            metrics of the ranking, in [0, 1], losses as means since the last check. A diverged
            seed is absent.
        seed_seconds: seed -> seconds of its training so far, without pretraining and checks.
    """

    step: int
    steps: int
    tau: float
    seconds: float
    metrics: Mapping[int, Mapping[str, float]]
    seed_seconds: Mapping[int, float] = field(default_factory=dict)

    def mean_valid_score(self) -> float:
        """Mean of the score over the seeds still training; NaN when all have diverged."""
        values = [score_of(seed) for seed in self.metrics.values()]
        return sum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class SeedResult:
    """How one seed ended. Scores are fractions; None where a diverged seed has none.

    Attributes:
        outcome: finished, stopped, collapsed (C ends below its own pretrained validation score by
            more than two standard errors of that score) or diverged (a non-finite weight).
        best_step: updates of C at the best validation check, step 0 not counted.
        test_score: on the test images at `best_step`; the test set is used nowhere else.
        test_metrics: the score and whatever else the task is judged by, at the same time.
        best_test_evaluation: the authors' statistic, the best of each metric over all test
            evaluations; empty unless the config asks for it.
        train_seconds, pretrain_seconds: of this seed; pretraining as it took when it was done.
        updates_classifier, updates_teacher, updates_discriminator: of the player's optimizer,
            pretraining included.
        score: the metric that the scores are of, accuracy or map.
    """

    seed: int
    outcome: str
    best_step: int | None
    best_valid_score: float | None
    last_valid_score: float | None
    pretrained_valid_score: float
    test_score: float | None
    test_metrics: Mapping[str, float] = field(default_factory=dict)
    best_test_evaluation: Mapping[str, float] = field(default_factory=dict)
    train_seconds: float = field(default=0.0, compare=False)
    pretrain_seconds: float = field(default=0.0, compare=False)
    updates_classifier: int = 0
    updates_teacher: int = 0
    updates_discriminator: int = 0
    score: str = "accuracy"

    def as_record(self) -> dict[str, Any]:
        """Plain values by name, scores named after their metric: `best_valid_map`, `test_map`."""
        values = dict(vars(self))
        score = values.pop("score")
        test, best = values.pop("test_metrics"), values.pop("best_test_evaluation")
        record = {
            f"{name.removesuffix('score')}{score}" if name.endswith("_score") else name: value
            for name, value in values.items()
        }
        record |= {f"test_{name}": value for name, value in test.items()}
        alone = "best_test_evaluation"  # where accuracy is all there is
        record |= {
            alone if name == "accuracy" else f"{alone}_{name}": v for name, v in best.items()
        }
        return record


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended: the worst outcome of its seeds, each seed's scores, and its cost.

    Attributes:
        seconds: wall time of the whole trial.
        prepare_seconds: the part of it before the first update: data, and pretraining unless the
            players were in the cache.
        step: updates of C.
        details: seed -> test scores image by image, for a task that has them.
    """

    trial_id: str
    outcome: str
    seeds: tuple[SeedResult, ...]
    seconds: float
    step: int
    prepare_seconds: float = 0.0
    details: Mapping[int, Detail] = field(default_factory=dict, compare=False)
