"""What the curves of Figure 4 or 5 say of each factor: how much it moves the score, how surely,
and where training breaks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from analysis import columns as c
from analysis.sensitivity import Curve, Panel, Point, SensitivityInfo
from analysis.stats import PairedTest, friedman, holm, paired_test

NOTE: Final = (
    "A range is the mean at a factor's best level less that at its worst, paired by seed. The two "
    "levels were picked for being extreme, so it is somewhat too large where a factor does little."
)


class Effect(NamedTuple):
    """One factor at one training size, the others at the baseline.

    `range` is the score at `best` less that at `worst`, paired by seed. `of_seed` is each seed's
    own range over the levels, for the seeds that have a score at all of them. `p` is Friedman's,
    that no level differs, `p_holm` corrected over the factors of this size.
    """

    factor: str
    train_size: int
    best: str
    worst: str
    range: PairedTest
    of_seed: dict[int, float]
    levels: int
    p: float
    p_holm: float


class Break(NamedTuple):
    """A level at which seeds collapsed, diverged or failed; `mean` is NaN if none has a score."""

    factor: str
    train_size: int
    level: float
    label: str
    collapsed: int
    diverged: int
    failed: int
    seeds: int
    mean: float

    @property
    def broken(self) -> int:
        """How many of its seeds did not train as they should."""
        return self.collapsed + self.diverged + self.failed


def effects_of(info: SensitivityInfo) -> list[Effect]:
    """Return an effect for each factor and size with at least two levels, the largest first.

    They are ordered by training size as in `info`, then by range.
    """
    found = []
    for size in info.train_sizes:
        mine = [
            _effect(panel, curve)
            for panel in info.panels
            for curve in panel.curves
            if curve.train_size == size and len(_scored(curve)) > 1
        ]
        corrected = holm([effect.p for effect in mine])
        mine = [e._replace(p_holm=p) for e, p in zip(mine, corrected, strict=True)]
        found += sorted(mine, key=lambda effect: -effect.range.difference.mean)
    return found


def breaks_of(info: SensitivityInfo) -> list[Break]:
    """Return the levels with a seed that collapsed, diverged or failed, as the figure orders
    them; the baseline, which all factors share, comes under the first."""
    found: list[Break] = []
    said: set[str] = set()
    for size in info.train_sizes:
        for panel, curve in _curves(info.panels, size):
            for point in curve.points:
                one = _break(panel.factor, size, point)
                if one.broken and point.trial_id not in said:
                    said.add(point.trial_id)
                    found.append(one)
    return found


def factors_cut(info: SensitivityInfo) -> dict[int, list[str]]:
    """Training size -> the factors that have levels beside the baseline's there."""
    return {
        size: [panel.factor for panel, curve in _curves(info.panels, size) if curve.points[1:]]
        for size in info.train_sizes
    }


def _curves(panels: Sequence[Panel], size: int) -> Iterator[tuple[Panel, Curve]]:
    for panel in panels:
        for curve in panel.curves:
            if curve.train_size == size:
                yield panel, curve


def _effect(panel: Panel, curve: Curve) -> Effect:
    points = _scored(curve)
    scores = {point.label: _scores(point) for point in points}
    best = max(points, key=lambda point: point.mean)
    worst = min(points, key=lambda point: point.mean)
    # Two levels with other seeds each cannot be compared; a pair needs one seed of both.
    shared = sorted(scores[best.label].keys() & scores[worst.label].keys())
    everywhere = sorted(set.intersection(*(set(found) for found in scores.values())))
    table = np.array([[found[seed] for seed in everywhere] for found in scores.values()])
    return Effect(
        factor=panel.factor,
        train_size=curve.train_size,
        best=best.label,
        worst=worst.label,
        range=paired_test(
            [scores[best.label][seed] for seed in shared],
            [scores[worst.label][seed] for seed in shared],
        ),
        of_seed={seed: float(np.ptp(table[:, column])) for column, seed in enumerate(everywhere)},
        levels=len(points),
        p=friedman(table) if everywhere else math.nan,
        p_holm=math.nan,
    )


def _break(factor: str, size: int, point: Point) -> Break:
    ended = [seed.outcome for seed in point.seeds]
    return Break(
        factor,
        size,
        point.level,
        point.label,
        ended.count(c.COLLAPSED),
        ended.count(c.DIVERGED),
        ended.count(c.FAILED),
        len(ended),
        point.mean,
    )


def _scored(curve: Curve) -> list[Point]:
    return [point for point in curve.points if point.n]


def _scores(point: Point) -> dict[int, float]:
    return {seed.seed: seed.value for seed in point.seeds if not math.isnan(seed.value)}
