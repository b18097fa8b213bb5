"""Where our curves of Figure 4 fall and where the published ones do.

The published curves have one run a level and another statistic, so neither heights nor small
differences can be compared; where a curve falls steeply can be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from analysis.cells import SYMBOLS
from analysis.ranks import Rank
from analysis.sensitivity import SensitivityInfo
from analysis.tasks import size_text

# Neighbouring levels of the published beta curves, on which nothing seems to hang, lie up to 3
# points apart: one run a level. A fall must be larger than that to say anything.
STEEP: Final = 0.03


class Fall(NamedTuple):
    """The steepest fall of a curve between neighbouring levels, in either direction.

    `low` and `high` are the two levels, ascending; `drop` is how much lower the worse of the two
    lies, and `is_up` whether that is at `high`.
    """

    low: float
    high: float
    drop: float
    is_up: bool

    @property
    def is_steep(self) -> bool:
        return self.drop >= STEEP


class Agreement(NamedTuple):
    """One curve of ours and the published one.

    `above` is the highest value of ours less that of the published curve: levels at which
    training breaks say nothing of how high a curve lies.
    `reach` holds the ends of the published axis.
    """

    factor: str
    train_size: int
    ours: Fall
    theirs: Fall
    above: float
    reach: tuple[float, float]
    rank: Rank | None


def agreements_of(info: SensitivityInfo, ranks: Sequence[Rank] = ()) -> list[Agreement]:
    """Return an agreement for each curve that has a published one.

    Args:
        info: What Figure 4 shows, published curves on the equation's axes.
        ranks: Rank correlations of the same curves, if there are any.
    """
    found = []
    ranked = {(rank.factor, rank.train_size): rank for rank in ranks}
    for panel in info.panels:
        lines = {line.train_size: line for line in panel.published}
        for curve in panel.curves:
            line = lines.get(curve.train_size)
            points = [(point.level, point.mean) for point in curve.points if point.n]
            if line is None or len(points) < 2:
                continue
            theirs = list(zip(line.levels, line.values, strict=True))
            found.append(
                Agreement(
                    panel.factor,
                    curve.train_size,
                    _steepest(points),
                    _steepest(theirs),
                    max(mean for _, mean in points) - max(line.values),
                    (min(line.levels), max(line.levels)),
                    ranked.get((panel.factor, curve.train_size)),
                )
            )
    return found


def agreement_text(one: Agreement) -> str:
    """Return whether the two curves fall in the same place, in words."""
    symbol = SYMBOLS[one.factor]
    start = f"{symbol}, n = {size_text(one.train_size)}:"
    ours, theirs = (_fall_text(fall, symbol) for fall in (one.ours, one.theirs))
    least = f"{100 * STEEP:g} points"
    if not one.ours.is_steep and not one.theirs.is_steep:
        text = f"{start} agreement that little hangs on it: neither curve falls by {least} or "
        text += "more between neighbouring levels."
    elif not one.theirs.is_steep:
        is_beyond = one.ours.low >= one.reach[1] or one.ours.high <= one.reach[0]
        why = " The published axis does not reach there." if is_beyond else ""
        text = f"{start} disagreement: ours falls {ours}, the published curve nowhere by {least}."
        text += why
    elif not one.ours.is_steep:
        text = (
            f"{start} disagreement: the published curve falls {theirs}, ours nowhere by {least}."
        )
    else:
        is_same = (
            one.ours.low < one.theirs.high
            and one.theirs.low < one.ours.high
            and one.ours.is_up == one.theirs.is_up
        )
        word = "agreement" if is_same else "disagreement"
        text = f"{start} {word}: ours falls {ours}, the published curve {theirs}."
    if one.rank is not None and not math.isnan(one.rank.correlation.rho):
        rho, p, n, _ = one.rank.correlation
        text += f" Rank correlation {rho:+.2f} at {n} common levels (p = {p:.3f})."
    return text


def is_agreement(one: Agreement) -> bool:
    """Return whether the two curves fall in the same place, or both nowhere."""
    return ": agreement" in agreement_text(one)


def _steepest(points: Sequence[tuple[float, float]]) -> Fall:
    """Return the steepest fall between neighbours of points that are ordered by level."""
    steps = [
        Fall(low, high, abs(after - before), after < before)
        for (low, before), (high, after) in pairwise(points)
    ]
    return max(steps, key=lambda fall: fall.drop)


def _fall_text(fall: Fall, symbol: str) -> str:
    first, second = (fall.low, fall.high) if fall.is_up else (fall.high, fall.low)
    return f"by {100 * fall.drop:.1f} points from {symbol} = {first:g} to {second:g}"
