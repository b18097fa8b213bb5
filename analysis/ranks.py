"""Rank correlation of Figure 4's curves, ours against the published ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd

from analysis import columns as c
from analysis.cells import SAME_LEVEL, SYMBOLS
from analysis.frames import Runs, dataset_of
from analysis.paper import DATASET, figure4_curve
from analysis.sensitivity import Curve, SensitivityInfo
from analysis.stats import RankCorrelation, spearman

AUTHORS: Final = "authors"
FEWEST: Final = 3


class Rank(NamedTuple):
    """Spearman's correlation of one curve's means with the published ones at `levels`."""

    factor: str
    train_size: int
    levels: tuple[float, ...]
    correlation: RankCorrelation
    estimators: tuple[str, ...]


def ranks_of(runs: Runs, info: SensitivityInfo) -> list[Rank]:
    """Return a rank for each panel and size that was published; none but for mnist.

    Levels are compared on the equation's axis, and only those are that both have. Constants
    added for plotting change no rank.

    Args:
        runs: The sweep.
        info: What its Figure 4 shows.
    """
    if dataset_of(runs) != DATASET:
        return []
    return [
        Rank(panel.factor, curve.train_size, levels, spearman(ours, theirs), estimators)
        for panel in info.panels
        for curve in panel.curves
        for published in [figure4_curve(panel.factor, curve.train_size, "corrected")]
        if published[0]
        for levels, ours, theirs in [_common(curve, published)]
        for estimators in [_estimators(runs, curve)]
    ]


def rank_text(rank: Rank) -> str:
    """Return the sentence printed for one curve."""
    rho, p, n, is_exact = rank.correlation
    symbol, size = SYMBOLS[rank.factor], f"n = {rank.train_size:,}"
    runs = ""
    if rank.estimators == (AUTHORS,):
        runs = ", runs with estimator=authors"
    elif AUTHORS in rank.estimators:
        runs = f", runs with estimator={'|'.join(rank.estimators)}"
    start = f"Rank correlation with the published curve, {symbol}, {size}{runs}:"
    if math.isnan(rho):
        why = "one of the two is flat" if n >= FEWEST else f"it needs {FEWEST}"
        return f"{start} none at {n} common level{'s' * (n != 1)} ({why})."
    how = "exact" if is_exact else "t approximation"
    return f"{start} {rho:+.2f} at {n} common levels (p = {p:.3f}, {how})."


def ranks_frame(ranks: list[Rank]) -> pd.DataFrame:
    """Return a record per rank."""
    names = ["panel", "train_size", "rho", "p", "n_levels", "is_exact", "levels", "estimator"]
    records = [
        (r.factor, r.train_size, r.correlation.rho, r.correlation.p, r.correlation.n,
         r.correlation.is_exact, " ".join(f"{level:g}" for level in r.levels),
         " ".join(r.estimators))
        for r in ranks
    ]  # fmt: skip
    return pd.DataFrame(records, columns=names)


def write_ranks(ranks: list[Rank], folder: Path) -> Path:
    """Write figure4_ranks.csv to `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "figure4_ranks.csv"
    ranks_frame(ranks).to_csv(path, index=False)
    return path


def _common(
    curve: Curve, published: tuple[tuple[float, ...], tuple[float, ...]]
) -> tuple[tuple[float, ...], list[float], list[float]]:
    """Return the levels that both curves have a value at, ours and the published values."""
    pairs = [
        (point.level, point.mean, value)
        for point in curve.points
        if not math.isnan(point.mean)
        for level, value in zip(*published, strict=True)
        if math.isclose(point.level, level, rel_tol=SAME_LEVEL, abs_tol=SAME_LEVEL**2)
    ]
    levels, ours, theirs = ([pair[i] for pair in pairs] for i in range(3))
    return tuple(levels), ours, theirs


def _estimators(runs: Runs, curve: Curve) -> tuple[str, ...]:
    """Return the estimators that the trials of a curve were run with."""
    ids = {trial_id for point in curve.points for trial_id in point.trial_id.split(",")}
    found = runs.trials[runs.trials[c.TRIAL_ID].isin(ids)][c.ESTIMATOR].dropna()
    return tuple(sorted(set(found)))
