"""Methods sweeps written by hand: arms with scores, costs and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from handmade import Trial, arm

Curve = tuple[tuple[int, int, str, float | None], ...]
METHODS = ("kdgan", "nagan", "distn", "mimic", "noisy", "codis", "supervised", "teacher")
# Error in percent at 100 images, and seconds a seed.
ERRORS = {
    "kdgan": (9.1, 80.0), "nagan": (14.0, 40.0), "distn": (10.0, 30.0), "mimic": (9.4, 28.0),
    "noisy": (9.6, 28.0), "codis": (11.5, 60.0), "supervised": (13.5, 12.0),
    "teacher": (6.0, 30.0), "kdgan+ema": (8.5, 82.0),
}  # fmt: skip


def arm_trial(
    name: str, scores: Mapping[int, float], train_size: int = 100, **changes: object
) -> Trial:
    """Return an arm's trial of seeds that finished with these test accuracies."""
    method = "supervised" if name == "teacher" else name.partition("+")[0]
    params = {
        "matched": "none",
        "player": "teacher" if name == "teacher" else "classifier",
        "estimator": "concrete",
        **({"remedy": name} if "+" in name else {}),
    }
    made = Trial(
        {seed: ("finished", score) for seed, score in scores.items()},
        (arm(name),), train_size, method=method, params=params,
    )  # fmt: skip
    return made._replace(**changes)  # type: ignore[arg-type]


def costs(
    seeds: Sequence[int], seconds: float, updates: int = 3000
) -> dict[str, dict[int, float]]:
    """Return the per-seed metrics of what training took."""
    values = {
        "train_seconds": seconds, "pretrain_seconds": seconds / 4, "updates_classifier": updates,
        "updates_teacher": updates, "updates_discriminator": updates,
    }  # fmt: skip
    return {name: dict.fromkeys(seeds, float(value)) for name, value in values.items()}


def learning_curves(
    finals: Mapping[int, float], start: float, checks: int = 20, steps: int = 2000,
    seconds: float = 60.0, noise: float = 0.003,
) -> Curve:  # fmt: skip
    """Return validation accuracy over updates and seconds, from `start` to each seed's final."""
    generator = np.random.default_rng(1)
    points: list[tuple[int, int, str, float | None]] = []
    for seed, final in finals.items():
        speed = seconds * float(generator.uniform(0.9, 1.1))
        for check in range(checks + 1):
            step, done = steps * check // checks, check / checks
            value = final - (final - start) * math.exp(-5 * done)
            value += noise * float(generator.normal()) if 0 < check else 0.0
            points += [
                (seed, step, "valid_accuracy", min(value, 1.0)),
                (seed, step, "seconds", speed * done),
            ]
    return tuple(points)


def variance_curves(
    seeds: Sequence[int], levels: Mapping[str, float], checks: int = 10, steps: int = 2000,
    noise: float = 0.1,
) -> Curve:  # fmt: skip
    """Return gradient variances around `levels` (adversarial, ...) and mean squares of a tenth."""
    generator = np.random.default_rng(2)
    points: list[tuple[int, int, str, float | None]] = []
    for seed in seeds:
        for check in range(checks + 1):
            for name, level in levels.items():
                value = level * math.exp(-0.2 * check + noise * float(generator.normal()))
                step = steps * check // checks
                points += [
                    (seed, step, f"gradient_variance_{name}", value),
                    (seed, step, f"gradient_mean_square_{name}", level / len(name) * (1 + check)),
                ]
    return tuple(points)


def realistic_arms(
    sizes: Sequence[int], *, n_seeds: int = 10, names: Sequence[str] = METHODS
) -> list[Trial]:
    """Return a methods sweep with the effects seen in practice, and some seeds that went wrong."""
    trials: list[Trial] = []
    for size in sizes:
        for name in names:
            generator = np.random.default_rng([size, sum(name.encode())])
            shared = np.random.default_rng(size).normal(0, 0.05, n_seeds)
            base, seconds = ERRORS[name]
            error = base / 100 * (100 / size) ** 0.55
            own = generator.normal(0, 0.03, n_seeds)
            scores = {
                seed: round(1 - error * math.exp(float(shared[seed] + own[seed])), 4)
                for seed in range(n_seeds)
            }
            made = arm_trial(name, scores, size)
            best = {seed: min(1.0, score + 0.15 * error) for seed, score in scores.items()}
            made = made._replace(
                extra={
                    **costs(range(n_seeds), seconds * (size / 100) ** 0.5),
                    "best_test_evaluation": best,
                    "last_valid_accuracy": {s: v - 0.001 for s, v in scores.items()},
                },
                curves=learning_curves(scores, 1 - 2 * error, seconds=seconds),
            )
            trials.append(_with_accidents(made, name, size, sizes[0]))
    return trials


def _with_accidents(trial: Trial, name: str, size: int, smallest: int) -> Trial:
    if name == "nagan" and size == smallest:
        wrong = {3: ("diverged", math.nan), 5: ("collapsed", 0.41)}
        kept = tuple(point for point in trial.curves if point[0] != 3 or point[1] < 900)
        return trial._replace(seeds={**trial.seeds, **wrong}, outcome="diverged", curves=kept)
    return trial
