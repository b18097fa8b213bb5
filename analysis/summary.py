"""A report's summary in plain words, made from the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np

from analysis.agreement import Agreement, agreement_text, is_agreement
from analysis.cells import SYMBOLS
from analysis.contours import ContoursInfo, grid_breaks
from analysis.effects import Break, Effect
from analysis.importance import HALF_SAMPLES, ImportanceInfo
from analysis.methods import KDGAN, arm_label
from analysis.sensitivity import SensitivityInfo
from analysis.stats import t_interval
from analysis.table1 import TableInfo
from analysis.tables import BestRow
from analysis.tasks import IMAGES, Task, size_text

SURE: Final = 0.05  # p below which a difference is called beyond chance
SLOPE: Final = 0.03  # of a score, from where on a factor that moves the median seed has a slope


class Said(NamedTuple):
    """A heading of the summary and its sentences."""

    title: str
    sentences: tuple[str, ...]


def what_matters(effects: Sequence[Effect], task: Task = IMAGES) -> Iterator[str]:
    """Yield for each training size which factor matters most and how surely.

    The order is by the median over seeds of each seed's own range: a mean would let one seed that
    collapsed decide.
    """
    for size, found in groupby(effects, key=lambda effect: effect.train_size):
        mine = sorted((e for e in found if e.of_seed), key=lambda effect: -_median(effect))
        if not mine:
            continue
        first, *others = mine
        yield _most(first, others, size, task)
        if others:
            rest = ", ".join(f"{SYMBOLS[e.factor]} {_amount(_median(e), task)}" for e in others)
            yield f"n = {size_text(size)}: the others move the median seed by {rest}."
        yield from _wild(mine, size, task)
        yield _beyond_chance(mine, size)


def _most(first: Effect, others: Sequence[Effect], size: int, task: Task) -> str:
    symbol, moved = SYMBOLS[first.factor], _amount(_median(first), task)
    how = (
        f"Over its {first.levels} levels, the other factors at the baseline, the median seed's "
        f"score moves by {moved}"
    )
    start = f"n = {size_text(size)}:"
    common = [s for s in first.of_seed if all(s in other.of_seed for other in others)]
    if not others or not common:
        return f"{start} {symbol} alone was varied. {how}."
    wins = sum(
        all(first.of_seed[seed] > other.of_seed[seed] for other in others) for seed in common
    )
    how += f"; for {wins} of {len(common)} seeds no other factor moves it further"
    gap = t_interval([first.of_seed[s] - others[0].of_seed[s] for s in common])
    if math.isnan(gap.low):
        return f"{start} {symbol} comes first, by one seed, which is no certainty. {how}."
    claim = "matters most" if gap.low > 0 else "comes first, but not surely"
    return (
        f"{start} **{symbol} {claim}.** {how}. Its mean lead over the next, "
        f"{SYMBOLS[others[0].factor]}, is {_signed(gap.mean, gap.low, gap.high, task)} "
        f"(95 % t interval, paired by seed, {gap.n} seeds)."
    )


def _wild(effects: Sequence[Effect], size: int, task: Task) -> Iterator[str]:
    """Yield the factors at which a few seeds move several times as far as the median one."""
    for effect in effects:
        least = max(3 * _median(effect), 0.1)
        moved = {seed: by for seed, by in sorted(effect.of_seed.items()) if by > least}
        if moved:
            amounts = " and ".join(_amount(by, task) for by in moved.values())
            what = "besides" if _median(effect) >= SLOPE else "rather than"
            yield (
                f"n = {size_text(size)}: {SYMBOLS[effect.factor]} is a risk {what} a slope: "
                f"{_seeds_named(moved)} alone moved by {amounts} (worst level "
                f"{effect.worst}), the median seed by {_amount(_median(effect), task)}."
            )


def _seeds_named(seeds: Iterable[int]) -> str:
    names = list(map(str, seeds))
    return f"seed{'s' * (len(names) > 1)} {' and '.join(names)}"


def _beyond_chance(effects: Sequence[Effect], size: int) -> str:
    tested = [effect for effect in effects if not math.isnan(effect.p_holm)]
    sure = [SYMBOLS[effect.factor] for effect in tested if effect.p_holm < SURE]
    how = f"(Friedman's test within seeds, Holm over {len(tested)} factors, p < {SURE:g})"
    start = f"n = {size_text(size)}:"
    if not sure:
        return f"{start} for no factor do levels differ beyond chance {how}."
    unsure = [SYMBOLS[effect.factor] for effect in tested if effect.p_holm >= SURE]
    rest = f", not shown for {', '.join(unsure)}" if unsure else ""
    return (
        f"{start} levels differ beyond chance for {', '.join(sure)}{rest} {how}; that says an "
        "effect is there, not that it is large."
    )


def baselines(info: SensitivityInfo) -> Iterator[str]:
    """Yield the baseline of each training size and its score."""
    for size in info.train_sizes:
        at = {
            panel.factor: point
            for panel in info.panels
            for curve in panel.curves
            if curve.train_size == size
            for point in curve.points
            if point.is_baseline
        }
        if not at:
            continue
        knobs = ", ".join(f"{SYMBOLS[factor]} = {point.label}" for factor, point in at.items())
        point = next(iter(at.values()))
        score = _interval_text(point.mean, point.low, point.high, info.task)
        yield f"n = {size_text(size)}: the baseline is {knobs}; it scores {score}."


def over_the_space(info: ImportanceInfo) -> Iterator[str]:
    """Yield for each training size which parameter accounts for most over the whole space."""
    for part in info.parts:
        start = f"n = {size_text(part.train_size)}, {part.trials} settings spread over the space:"
        if not part.shares:
            yield f"{start} nothing varies."
            continue
        first, *others = part.shares
        text = (
            f"{start} **{first.label}** accounts for {first.share:.0%} of the variation "
            f"[{first.low:.0%}, {first.high:.0%}] and comes first in {first.first} of "
            f"{HALF_SAMPLES} random halves of the runs"
        )
        if others:
            text += f"; then {others[0].label} with {others[0].share:.0%}"
        yield f"{text}; {part.rest:.0%} is not of one parameter alone (interactions, noise)."


def where_it_breaks(breaks: Sequence[Break], cut: Mapping[int, Sequence[str]]) -> Iterator[str]:
    """Yield where seeds collapsed, diverged or failed, size by size.

    Args:
        breaks: As `effects.breaks_of` returns them.
        cut: As `effects.factors_cut`: what was cut through, also where nothing broke.
    """
    for size, factors in cut.items():
        start = f"n = {size_text(size)}:"
        mine = [one for one in breaks if one.train_size == size]
        most = [one for one in mine if 2 * one.broken >= one.seeds]
        fewer = [one for one in mine if one not in most]
        sound = [factor for factor in factors if factor not in {one.factor for one in mine}]
        if mine:
            texts = [f"half of the seeds or more broke at {_levels_text(most)}."] if most else []
            if fewer:
                who = "Fewer broke" if most else "fewer than half of the seeds broke"
                texts.append(f"{who} at {_levels_text(fewer)}.")
            if sound:
                texts.append(f"None broke along {_symbols(sound)}.")
            yield f"{start} {' '.join(texts)}"
        else:
            known = _symbols(factors)
            yield f"{start} no seed collapsed, diverged or failed at any level of {known}."


def _levels_text(breaks: Sequence[Break]) -> str:
    """The levels factor by factor, with how many seeds broke."""
    return "; ".join(
        f"{SYMBOLS[factor]} = {', '.join(map(_break_text, several))}"
        for factor, several in groupby(breaks, key=lambda one: one.factor)
    )


def where_grids_break(info: ContoursInfo) -> Iterator[str]:
    """Yield how many cells of each grid broke, and between which levels."""
    for grid, tiles in grid_breaks(info):
        name = f"n = {size_text(grid.train_size)}, {SYMBOLS[grid.across]} × {SYMBOLS[grid.up]}"
        if not tiles:
            yield f"{name}: no seed broke in any of {len(grid.tiles)} cells."
            continue
        spans = [
            f"{SYMBOLS[factor]} from {hit[0]} to {hit[-1]}" if len(hit) > 1 else
            f"{SYMBOLS[factor]} = {hit[0]}"
            for factor, levels, place in (
                (grid.across, grid.across_levels, 0), (grid.up, grid.up_levels, 1),
            )
            for hit in [[level for level in levels if level in {tile[place] for tile in tiles}]]
        ]  # fmt: skip
        yield f"{name}: {len(tiles)} of {len(grid.tiles)} cells broke, {' and '.join(spans)}."


def best_found(rows: Sequence[BestRow], task: Task = IMAGES) -> Iterator[str]:
    """Yield the best configuration of each size and method, with its interval."""
    for row in rows:
        if not row.trial_id or row.method != KDGAN:
            continue
        knobs = ", ".join(
            f"{SYMBOLS[name]} = {value:.3g}"
            for name, value in (("alpha", row.alpha), ("beta", row.beta), ("gamma", row.gamma))
        )
        yield (
            f"n = {size_text(row.train_size)}: **{knobs}, {SYMBOLS['tau']} {row.tau}**, the best "
            f"of {row.candidates} configurations by validation, reaches "
            f"{_interval_text(row.test.mean, row.test.low, row.test.high, task)} on the test set "
            f"({_seeds(row.test.n)}"
            + (")." if math.isnan(row.test.low) else "; 95 % t interval).")
        )


def methods_compared(info: TableInfo) -> Iterator[str]:
    """Yield for each size how KDGAN stands against the best other student."""
    for size in info.train_sizes:
        cells = {name: info.cells.get((name, size)) for name in info.arms}
        ours = cells.get(KDGAN)
        rows = [d for d in info.differences if d.train_size == size and d.arm == KDGAN]
        if ours is None or not rows:
            continue
        scored = {
            name: cell.test.mean
            for name, cell in cells.items()
            if cell is not None and cell.test.n and name not in (KDGAN, "teacher")
        }
        best = max(scored, key=lambda name: scored[name], default=None)
        found = next((row for row in rows if row.other == best), None)
        if best is None or found is None:
            continue
        change = found.test.difference
        test = _interval_text(ours.test.mean, ours.test.low, ours.test.high)
        yield (
            f"n = {size_text(size)}: KDGAN reaches {test}, {arm_label(best)}, the best other "
            f"student, {100 * scored[best]:.2f} %; KDGAN less that, paired by seed: "
            f"{_signed(change.mean, change.low, change.high, IMAGES)} "
            f"({_seeds(change.n)})."
        )


def beside_the_paper(found: Sequence[Agreement]) -> Iterator[str]:
    """Yield how high our curves lie, then where they agree with the published ones, and where
    not."""
    for size in dict.fromkeys(one.train_size for one in found):
        mine = [one for one in found if one.train_size == size]
        yield (
            f"n = {size_text(size)}: at their highest our curves lie "
            f"{_apart([100 * one.above for one in mine])} the published ones, which are the best "
            "of some 600 test evaluations of one run each."
        )
        for one in sorted(mine, key=is_agreement):
            yield agreement_text(one)
    if found:
        yield f"The paper has no curve of {SYMBOLS['tau']} to compare with."


def _apart(above: Sequence[float]) -> str:
    """How far curves lie above others, in points, in words that end before the others' name."""
    low, high = min(above), max(above)
    if max(abs(low), abs(high)) < 1.0:
        return "within a point of"
    if low < 0.0 < high:
        return f"between {-low:.1f} points below and {high:.1f} above"
    near, far = sorted((abs(low), abs(high)))
    return f"{near:.0f} to {far:.0f} points {'above' if high > 0 else 'below'}"


def _median(effect: Effect) -> float:
    return float(np.median(list(effect.of_seed.values())))


def _amount(value: float, task: Task) -> str:
    return f"{task.short_text(value)} points" if task.scale == 100 else task.text(value)


def _signed(mean: float, low: float, high: float, task: Task) -> str:
    unit = " points" if task.scale == 100 else ""
    if math.isnan(low):
        return f"{task.text(mean, '+')}{unit}"
    return f"{task.text(mean, '+')}{unit} [{task.text(low, '+')}, {task.text(high, '+')}]"


def _interval_text(mean: float, low: float, high: float, task: Task = IMAGES) -> str:
    unit = " %" if task.scale == 100 else ""
    if math.isnan(low):
        return f"{task.text(mean)}{unit}"
    return f"{task.text(mean)}{unit} [{task.text(low)}, {task.text(high)}]"


def _break_text(one: Break) -> str:
    return f"{one.label} ({one.broken} of {one.seeds})"


def _seeds(n: int) -> str:
    return f"{n} seed{'s' * (n != 1)}"


def _symbols(factors: Iterable[str]) -> str:
    return ", ".join(SYMBOLS[factor] for factor in factors) or "any factor"
