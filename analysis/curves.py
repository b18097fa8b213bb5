"""What Figure 3(a) shows, as plain tuples: validation accuracy over updates and over seconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns as c
from analysis.frames import Runs, RunsError, origin
from analysis.methods import BASELINES, KDGAN, NAGAN, Arm, arms_of, named_seeds
from analysis.paper import DATASET, FIGURE3_SIZE, figure3_curves
from analysis.stats import LEVEL, t_interval

DRAWN: Final = (NAGAN, KDGAN)
GRID: Final = 101  # points of a band over seconds
PUBLISHED_TITLE: Final = "as published: test accuracy"
PUBLISHED_NOTE: Final = (
    "As published: a curve of its own kind, on its own axes. It is test accuracy of one run with "
    "50 images, moved so that its maxima are the values printed for n = 100, and smoothed in "
    "pieces; the straight lines are the values drawn there."
)

Floats = NDArray[np.float64]


class Line(NamedTuple):
    """One seed's curve: x and accuracies, both of shape (points,)."""

    seed: int
    outcome: str
    x: Floats
    y: Floats


class Band(NamedTuple):
    """Mean over `n` seeds with its interval; arrays of shape (points,), NaN ends for one seed."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    n: int


class ArmCurves(NamedTuple):
    """An arm's curves over updates of C and over seconds of a seed's training.

    A band is over the seeds that trained to the end; one that diverged or that failed on the way
    is a line of its own in `broken`. A band is None where no seed has such a curve.
    """

    arm: Arm
    updates: Band | None
    seconds: Band | None
    broken_updates: tuple[Line, ...]
    broken_seconds: tuple[Line, ...]


class Level(NamedTuple):
    """Where a baseline ends: mean over `n` seeds of its last validation accuracy."""

    arm: Arm
    mean: float
    n: int


class CurveRow(NamedTuple):
    """One training size."""

    train_size: int
    curves: tuple[ArmCurves, ...]
    levels: tuple[Level, ...]
    has_published: bool


class CurvesInfo(NamedTuple):
    """All that Figure 3(a) draws; accuracies are fractions."""

    experiment: str
    rows: tuple[CurveRow, ...]
    published: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
    footer: str
    notes: tuple[str, ...]


def curve_trials(runs: Runs) -> set[str]:
    """Return the trials whose curves the figure needs.

    Raises:
        RunsError: If there is no arm, or an arm has two configurations at a training size.
    """
    return {seed.trial_id for arm in arms_of(runs) if arm.name in DRAWN for seed in arm.seeds}


def curves_info(runs: Runs, curves: pd.DataFrame, with_published: bool = True) -> CurvesInfo:
    """Return what Figure 3(a) shows.

    Args:
        runs: A methods sweep, or several put together.
        curves: The curves of its trials, as `runs.read_curves` returns them.
        with_published: Put the paper's curve beside ours where it has one.

    Raises:
        RunsError: If neither NaGAN nor KDGAN has a curve.
    """
    arms = arms_of(runs)
    found = {
        (arm.train_size, arm.name): _arm_curves(arm, curves) for arm in arms if arm.name in DRAWN
    }
    drawn = {key: one for key, one in found.items() if one.updates or one.broken_updates}
    if not drawn:
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no curve of NaGAN or KDGAN to draw: "
            "name one that has with --sweep"
        )
    sizes = sorted({size for size, _ in drawn})
    is_paper = with_published and set(runs.trials[c.DATASET]) == {DATASET}
    rows = tuple(
        CurveRow(
            train_size=size,
            curves=tuple(drawn[size, name] for name in DRAWN if (size, name) in drawn),
            levels=tuple(_levels([arm for arm in arms if arm.train_size == size])),
            has_published=is_paper and size == FIGURE3_SIZE,
        )
        for size in sizes
    )
    published = figure3_curves() if any(row.has_published for row in rows) else {}
    return CurvesInfo(
        experiment=runs.sweep.experiment,
        rows=rows,
        published=published,
        footer=_footer(rows, origin(runs)),
        notes=tuple(_notes(rows, is_paper)),
    )


def seed_lines(arm: Arm, curves: pd.DataFrame, metric: str) -> dict[int, tuple[Floats, Floats]]:
    """Return seed -> steps and values of a metric, from the trial that counts for the seed.

    Points without a finite value are left out, and so are seeds without a point.
    """
    mine = curves[curves[c.METRIC] == metric]
    lines = {}
    for seed in arm.seeds:
        own = mine[(mine[c.TRIAL_ID] == seed.trial_id) & (mine[c.SEED] == seed.seed)]
        own = own[np.isfinite(own[c.VALUE].astype(float))].sort_values(c.STEP)
        if len(own):
            lines[seed.seed] = (
                own[c.STEP].to_numpy(dtype=np.float64),
                own[c.VALUE].to_numpy(dtype=np.float64),
            )
    return lines


def band_at_points(lines: Sequence[Line]) -> Band | None:
    """Return the band at the points that all lines share."""
    if not lines:
        return None
    shared = sorted(set.intersection(*({float(x) for x in line.x} for line in lines)))
    if not shared:
        return None
    values = [line.y[np.isin(line.x, shared)] for line in lines]
    return _band(np.array(shared), np.array(values))


def band_on_grid(lines: Sequence[Line], points: int = GRID) -> Band | None:
    """Return the band on an even grid, every line interpolated between its points.

    The grid ends where the first line ends, so that every mean is over the same seeds.
    """
    if not lines:
        return None
    start, end = max(line.x[0] for line in lines), min(line.x[-1] for line in lines)
    if end < start:
        return None
    grid = np.linspace(start, end, points)
    return _band(grid, np.array([np.interp(grid, line.x, line.y) for line in lines]))


def _band(x: Floats, values: Floats) -> Band:
    """values: (seeds, points)."""
    intervals = [t_interval(column) for column in values.T]
    mean, low, high = (
        np.array([getattr(interval, end) for interval in intervals])
        for end in ("mean", "low", "high")
    )
    return Band(x, mean, low, high, len(values))


def _arm_curves(arm: Arm, curves: pd.DataFrame) -> ArmCurves:
    accuracy = seed_lines(arm, curves, c.VALID_ACCURACY)
    seconds = seed_lines(arm, curves, c.SECONDS)
    outcomes = {seed.seed: seed.outcome for seed in arm.seeds}
    over_updates = [Line(seed, outcomes[seed], *line) for seed, line in accuracy.items()]
    over_seconds = [
        Line(seed, outcomes[seed], *_on(seconds[seed], line))
        for seed, line in accuracy.items()
        if seed in seconds
    ]
    whole = _whole(over_updates)
    return ArmCurves(
        arm,
        band_at_points([line for line in over_updates if line.seed in whole]),
        band_on_grid([line for line in over_seconds if line.seed in whole]),
        tuple(line for line in over_updates if line.seed not in whole),
        tuple(line for line in over_seconds if line.seed not in whole),
    )


def _on(seconds: tuple[Floats, Floats], line: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return the seconds and accuracies of the steps that have both."""
    shared = np.intersect1d(seconds[0], line[0])
    return seconds[1][np.isin(seconds[0], shared)], line[1][np.isin(line[0], shared)]


def _whole(lines: Sequence[Line]) -> Collection[int]:
    """Return the seeds that neither diverged nor failed."""
    return {line.seed for line in lines if line.outcome not in (c.DIVERGED, c.FAILED)}


def _levels(arms: Sequence[Arm]) -> list[Level]:
    by_name: Mapping[str, Arm] = {arm.name: arm for arm in arms}
    levels = []
    for name in BASELINES:
        if name in by_name and name not in DRAWN:
            mean = t_interval(list(by_name[name].scores(c.LAST_VALID_ACCURACY).values()))
            if mean.n:
                levels.append(Level(by_name[name], mean.mean, mean.n))
    return levels


def _footer(rows: Sequence[CurveRow], where: str) -> str:
    counts = sorted({b.n for row in rows for one in row.curves if (b := one.updates) is not None})
    many = "-".join(str(n) for n in dict.fromkeys(counts[:1] + counts[-1:])) or "no"
    ends = f" and {100 * LEVEL:g} % Student-t interval" if counts[-1:] > [1] else ""
    return (
        f"Validation accuracy: mean{ends} over {many} seeds. Seconds: of a seed's training, "
        "without pretraining and checks; a seed's curve is interpolated between its checks, and "
        "the mean ends where the fastest seed does. Thin lines: where the other methods end, "
        f"mean of the last validation accuracy. {where}."
    )


def _notes(rows: Sequence[CurveRow], is_paper: bool) -> list[str]:
    notes = []
    if any(row.has_published for row in rows):
        notes.append(PUBLISHED_NOTE)
    elif is_paper:
        notes.append(f"The published curve is of n = {FIGURE3_SIZE}, which is not here.")
    for row in rows:
        for one in row.curves:
            where = f"n = {row.train_size:,}, {one.arm.label}:"
            for outcome in (c.DIVERGED, c.FAILED):
                if one.arm.ended(outcome):
                    seeds = named_seeds(one.arm.ended(outcome))
                    notes.append(f"{where} {seeds} {outcome}, drawn alone as far as it goes.")
            if one.arm.ended(c.COLLAPSED):
                seeds = named_seeds(one.arm.ended(c.COLLAPSED))
                notes.append(f"{where} {seeds} collapsed (in the mean).")
            if one.updates is not None and one.seconds is None:
                notes.append(f"{where} no seconds recorded.")
    return notes
