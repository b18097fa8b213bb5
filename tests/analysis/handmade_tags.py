"""Sweeps of tag recommendation written by hand, as plausible for Flickr8k."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from handmade import Trial, realistic_trials
from handmade_methods import Curve, arm_trial, costs

from analysis.columns import TAG_METRICS

RECOMMENDERS = ("knn", "tagprop", "tagfeature", "relexample")
TAG_ARMS = (
    *RECOMMENDERS, "kdgan", "nagan", "distn", "mimic", "noisy", "codis", "supervised", "teacher",
)  # fmt: skip
# MAP on test images, and seconds a seed.
LEVELS = {
    "knn": (0.431, 1.0), "tagprop": (0.452, 20.0), "tagfeature": (0.468, 60.0),
    "relexample": (0.461, 90.0), "kdgan": (0.517, 80.0), "nagan": (0.478, 40.0),
    "distn": (0.503, 30.0), "mimic": (0.508, 28.0), "noisy": (0.505, 28.0),
    "codis": (0.498, 60.0), "supervised": (0.489, 12.0), "teacher": (0.66, 30.0),
}  # fmt: skip
# What a metric is where MAP is 0.5; all are proportional.
AT_HALF = {
    "p_at_3": 0.47, "p_at_5": 0.38, "f_at_3": 0.39, "f_at_5": 0.41, "authors_f_at_3": 0.43,
    "authors_f_at_5": 0.39, "map": 0.5, "mrr": 0.68,
}  # fmt: skip


def metrics_of(score: float) -> dict[str, float]:
    """Return every metric of a player whose MAP is `score`."""
    return {name: 2 * at_half * score for name, at_half in AT_HALF.items()}


def with_metrics(trial: Trial, gain: float = 0.0) -> Trial:
    """Return the trial with the other test metrics of its seeds, and where `gain` is positive the
    authors' statistic, by that much higher."""
    scored = {seed: value for seed, (_, value) in trial.seeds.items() if not math.isnan(value)}
    extra: dict[str, dict[int, float]] = {}
    for name in TAG_METRICS:
        values = {seed: metrics_of(score)[name] for seed, score in scored.items()}
        extra[f"test_{name}"] = values
        if gain:
            extra[f"best_test_evaluation_{name}"] = {s: v + gain for s, v in values.items()}
    return trial._replace(extra={**trial.extra, **extra})


def tag_arm(
    name: str, scores: Mapping[int, float], train_size: int = 0, gain: float = 0.0,
    **changes: object,
) -> Trial:  # fmt: skip
    """Return an arm's trial of seeds that finished with these test MAPs."""
    made = arm_trial(name, scores, train_size, **{"dataset": "flickr8k", **changes})
    return with_metrics(made, gain)


def tag_curves(
    finals: Mapping[int, float], start: float, checks: int = 20, steps: int = 2000,
    seconds: float = 60.0,
) -> Curve:  # fmt: skip
    """Return validation metrics over updates and seconds, from a MAP of `start` to each final."""
    points: list[tuple[int, int, str, float | None]] = []
    for seed, final in finals.items():
        for check in range(checks + 1):
            step, done = steps * check // checks, check / checks
            score = final - (final - start) * math.exp(-5 * done)
            found = {f"valid_{name}": value for name, value in metrics_of(score).items()}
            points += [(seed, step, name, value) for name, value in found.items()]
            points.append((seed, step, "seconds", seconds * done * (1 + 0.05 * seed)))
    return tuple(points)


def tag_images(
    finals: Mapping[int, float], images: int, key: int = 0, untagged: int = 0
) -> tuple[tuple[int, str, float], ...]:
    """Return average precisions of test images whose mean is each seed's MAP; the first
    `untagged` of them have none. How hard an image is, all arms share; the rest goes by `key`."""
    hardness = np.random.default_rng(3).normal(0, 0.2, images)
    points = []
    for seed, final in finals.items():
        values = hardness + np.random.default_rng([4, key, seed]).normal(0, 0.1, images)
        values[:untagged] = np.nan
        values += final - np.nanmean(values)
        points += [(seed, f"image-{i}", float(value)) for i, value in enumerate(values)]
    return tuple(points)


def realistic_tag_arms(
    *, n_seeds: int = 5, names: Sequence[str] = TAG_ARMS, images: int = 200,
    dataset: str = "flickr8k",
) -> list[Trial]:  # fmt: skip
    """Return a methods sweep with the order seen in practice, and a seed that went wrong."""
    trials: list[Trial] = []
    shared = np.random.default_rng(0).normal(0, 0.003, n_seeds)
    for number, name in enumerate(names):
        level, seconds = LEVELS[name.partition("+")[0]]
        own = np.random.default_rng([1, number]).normal(0, 0.002, n_seeds)
        noise = np.zeros(n_seeds) if name in RECOMMENDERS else shared + own
        scores = {seed: round(level + float(noise[seed]), 4) for seed in range(n_seeds)}
        checks = 1 if name in RECOMMENDERS else 20
        made = tag_arm(
            name, scores, gain=0.004, dataset=dataset,
            curves=tag_curves(scores, 0.25, checks, checks * 100, seconds),
            extra=costs(range(n_seeds), seconds, 0 if name in RECOMMENDERS else 3000),
        )  # fmt: skip
        if name == "nagan":
            wrong = made.seeds | {1: ("diverged", math.nan), 2: ("collapsed", 0.24)}
            kept = tuple(point for point in made.curves if point[0] != 1 or point[1] < 900)
            made = made._replace(seeds=wrong, outcome="diverged", curves=kept)
            made = with_metrics(made, 0.004)
        finals = {s: value for s, (_, value) in made.seeds.items() if not math.isnan(value)}
        trials.append(made._replace(images=tag_images(finals, images, number, untagged=1)))
    return trials


def realistic_tag_trials(
    *, n_seeds: int = 3, taus: int = 4, dataset: str = "flickr8k", sizes: Sequence[int] = (0,)
) -> list[Trial]:
    """Return a sensitivity sweep of tags, with the accidents of `realistic_trials`."""
    trials = []
    for size in sizes:
        for trial in realistic_trials([100], n_seeds=n_seeds, taus=taus, dataset=dataset):
            found = {s: (outcome, 0.58 * value) for s, (outcome, value) in trial.seeds.items()}
            trials.append(with_metrics(trial._replace(train_size=size, seeds=found)))
    return trials
