"""Searches, Sobol designs and grids written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from handmade import BASELINE, Trial, seeds
from scipy.stats import qmc

SOBOL = {"role": "sobol", "factor": "", "level": ""}
SHAPES = ("exponential", "linear", "cosine", "constant")


def sobol_trials(
    count: int, score: Callable[[dict[str, float]], float], size: int = 100, seed: int = 1
) -> list[Trial]:
    """Return a scrambled Sobol design over alpha, log beta, log gamma and tau.

    Args:
        count: Trials, a power of two.
        score: Maps coordinates, each uniform in [0, 1), to a score: alpha, beta, gamma, kind,
            start and end, of which beta, gamma, start and end are logarithms.
        size: Training images.
        seed: Of the scrambling.
    """
    trials = []
    for point in qmc.Sobol(6, scramble=True, rng=seed).random(count):
        at = dict(zip(("alpha", "beta", "gamma", "kind", "start", "end"), map(float, point)))  # noqa: B905
        kind = SHAPES[int(at["kind"] * len(SHAPES))]
        start, end = 10 ** (1.5 * at["start"] - 0.5), 10 ** (1.5 * at["end"] - 1.5)
        trials.append(
            Trial(
                seeds(round(score(at), 6)), (SOBOL,), size, alpha=round(at["alpha"], 4),
                beta=10 ** (6 * at["beta"] - 3), gamma=10 ** (6 * at["gamma"] - 4),
                tau=(kind, start, end),
                params={"tau_kind": kind, "tau_start": start, "tau_end": end},  # type: ignore[dict-item]
            )
        )  # fmt: skip
    return trials


def grid_trials(size: int = 100, collapsing: bool = True) -> list[Trial]:
    """Return a grid of beta by gamma around a baseline; large values of both collapse."""
    generator = np.random.default_rng(1)
    trials = []
    for beta in (0.01, 1.0, 100.0):
        for gamma in (0.001, 0.01, 1.0, 100.0):
            row = {"role": "grid", "factor": "beta×gamma", "level": f"{beta:g}×{gamma:g}"}
            is_base = (beta, gamma) == (1.0, 0.01)
            breaks = collapsing and beta == 100.0 and gamma >= 1
            mean = 0.4 if breaks else 0.9 - 0.02 * max(0.0, math.log10(gamma) + 1)
            values = [round(float(mean + d), 4) for d in generator.normal(0, 0.003, 3)]
            outcome = "collapsed" if breaks else "finished"
            rows = (row, BASELINE) if is_base else (row,)
            trials.append(
                Trial(seeds(*values, outcome=outcome), rows, size, beta=beta, gamma=gamma,
                      outcome=outcome)
            )  # fmt: skip
    return trials


def search_trials(
    outcomes: list[tuple[str, float]], size: int = 100, last: dict[int, float] | None = None
) -> list[Trial]:
    """Return search trials of one seed, each with its outcome and best validation accuracy.

    Args:
        outcomes: How each trial ended and its score.
        size: Training images.
        last: Trial -> its last validation accuracy, where it differs from the best.
    """
    trials = []
    for number, (outcome, value) in enumerate(outcomes):
        is_scored = not math.isnan(value)
        trials.append(
            Trial(
                {0: (outcome, value)}, ({"role": "search", "factor": "", "level": ""},), size,
                alpha=round(0.05 + 0.1 * number, 2), beta=10.0 ** (number - 3),
                gamma=10.0 ** (number - 4), outcome=outcome,
                valid={0: value} if is_scored else {},
                params={"tau_kind": SHAPES[number % 4], "tau_start": 1.0 + number, "tau_end": 0.1},  # type: ignore[dict-item]
                extra={"last_valid_accuracy": {0: (last or {}).get(number, value)}}
                if is_scored else {},
            )
        )  # fmt: skip
    return trials
