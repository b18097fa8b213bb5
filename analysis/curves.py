"""What Figure 3 shows, as plain tuples: a validation metric over updates and over seconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns as c
from analysis.frames import Runs, RunsError, dataset_of, origin, runs_task
from analysis.methods import BASELINES, KDGAN, NAGAN, Arm, arms_of, named_seeds
from analysis.paper import DATASET, FIGURE3_SIZE, figure3_curves
from analysis.stats import LEVEL, t_interval
from analysis.tasks import IMAGES, TAGS, Task, size_order, size_text

DRAWN: Final = (NAGAN, KDGAN)
GRID: Final = 101  # points of a band over seconds
PUBLISHED_TITLES: Final = {
    IMAGES.name: "as published: test accuracy (%)",
    TAGS.name: "as published: P@3, YFCC100M",
}
PUBLISHED_NOTE: Final = (
    "As published: a curve of its own kind, on its own axes. It is test accuracy of one run with "
    "50 images, moved so that its maxima are the values printed for n = 100, and smoothed in "
    "pieces; the straight lines are the values drawn there."
)
PUBLISHED_TAG_NOTE: Final = (
    "As published: other data (YFCC100M) and a curve of its own kind, on its own axes. It is P@3 "
    "of one run on the posts it is tested on; in its second half each point is the smallest, "
    "largest or mean value of a stretch, at random; noise was added, and the whole rescaled to "
    "maxima of .290 and .310; the straight lines are the values drawn there."
)

Floats = NDArray[np.float64]


class Line(NamedTuple):
    """One seed's curve: x and scores, both of shape (points,)."""

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
    """Where a baseline ends: mean over `n` seeds of its last validation score."""

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
    """All that Figure 3 draws, (a) of images or (b) of tags; scores are fractions."""

    experiment: str
    task: Task
    rows: tuple[CurveRow, ...]
    published: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
    footer: str
    notes: tuple[str, ...]


def curve_trials(runs: Runs) -> set[str]:
    """Return the trials whose curves the figure needs.

    Raises:
        RunsError: If there is no arm, or an arm has two configurations at a training size.
    """
    names = DRAWN if runs_task(runs).curve_end else (*DRAWN, *BASELINES)
    return {seed.trial_id for arm in arms_of(runs) if arm.name in names for seed in arm.seeds}


def curves_info(runs: Runs, curves: pd.DataFrame, with_published: bool = True) -> CurvesInfo:
    """Return what Figure 3 shows.

    Args:
        runs: A methods sweep, or several put together.
        curves: The curves of its trials, as `runs.read_curves` returns them.
        with_published: Put the paper's curve beside ours where it has one.

    Raises:
        RunsError: If neither NaGAN nor KDGAN has a curve.
    """
    arms, task = arms_of(runs), runs_task(runs)
    found = {
        (arm.train_size, arm.name): _arm_curves(arm, curves, task.curve.valid)
        for arm in arms
        if arm.name in DRAWN
    }
    drawn = {key: one for key, one in found.items() if one.updates or one.broken_updates}
    if not drawn:
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no curve of NaGAN or KDGAN to draw: "
            "name one that has with --sweep"
        )
    sizes = sorted({size for size, _ in drawn}, key=size_order)
    is_paper = with_published and (task is TAGS or dataset_of(runs) == DATASET)
    place = sizes[0] if task is TAGS else FIGURE3_SIZE
    rows = tuple(
        CurveRow(
            train_size=size,
            curves=tuple(drawn[size, name] for name in DRAWN if (size, name) in drawn),
            levels=tuple(_levels([arm for arm in arms if arm.train_size == size], curves, task)),
            has_published=is_paper and size == place,
        )
        for size in sizes
    )
    panel: Literal["a", "b"] = "b" if task is TAGS else "a"
    published = figure3_curves(panel) if any(row.has_published for row in rows) else {}
    return CurvesInfo(
        experiment=runs.sweep.experiment,
        task=task,
        rows=rows,
        published=published,
        footer=_footer(rows, task, origin(runs)),
        notes=tuple(_notes(rows, task, is_paper)),
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


def _arm_curves(arm: Arm, curves: pd.DataFrame, metric: str) -> ArmCurves:
    scores = seed_lines(arm, curves, metric)
    seconds = seed_lines(arm, curves, c.SECONDS)
    outcomes = {seed.seed: seed.outcome for seed in arm.seeds}
    over_updates = [Line(seed, outcomes[seed], *line) for seed, line in scores.items()]
    over_seconds = [
        Line(seed, outcomes[seed], *_on(seconds[seed], line))
        for seed, line in scores.items()
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
    """Return the seconds and scores of the steps that have both."""
    shared = np.intersect1d(seconds[0], line[0])
    return seconds[1][np.isin(seconds[0], shared)], line[1][np.isin(line[0], shared)]


def _whole(lines: Sequence[Line]) -> Collection[int]:
    """Return the seeds that neither diverged nor failed."""
    return {line.seed for line in lines if line.outcome not in (c.DIVERGED, c.FAILED)}


def _levels(arms: Sequence[Arm], curves: pd.DataFrame, task: Task) -> list[Level]:
    by_name: Mapping[str, Arm] = {arm.name: arm for arm in arms}
    levels = []
    for name in BASELINES:
        if name in by_name and name not in DRAWN:
            mean = t_interval(_ends(by_name[name], curves, task))
            if mean.n:
                levels.append(Level(by_name[name], mean.mean, mean.n))
    return levels


def _ends(arm: Arm, curves: pd.DataFrame, task: Task) -> list[float]:
    """Return the last validation score of each seed that trained to the end."""
    if task.curve_end:
        return list(arm.scores(task.curve_end).values())
    broken = {*arm.ended(c.DIVERGED), *arm.ended(c.FAILED)}
    lines = seed_lines(arm, curves, task.curve.valid)
    return [float(scores[-1]) for seed, (_, scores) in lines.items() if seed not in broken]


def _footer(rows: Sequence[CurveRow], task: Task, where: str) -> str:
    counts = sorted({b.n for row in rows for one in row.curves if (b := one.updates) is not None})
    many = "-".join(str(n) for n in dict.fromkeys(counts[:1] + counts[-1:])) or "no"
    ends = f" and {100 * LEVEL:g} % Student-t interval" if counts[-1:] > [1] else ""
    levels = (
        " Thin lines: where the other methods end, mean of the last validation"
        f" {task.curve.label}."
        if any(row.levels for row in rows)
        else ""
    )
    return (
        f"Validation {task.curve.label}: mean{ends} over {many} seeds. Seconds: of a seed's "
        "training, without pretraining and checks; a seed's curve is interpolated between its "
        f"checks, and the mean ends where the fastest seed does.{levels} {where}."
    )


def _notes(rows: Sequence[CurveRow], task: Task, is_paper: bool) -> list[str]:
    notes = []
    if any(row.has_published for row in rows):
        notes.append(PUBLISHED_TAG_NOTE if task is TAGS else PUBLISHED_NOTE)
    elif is_paper:
        notes.append(f"The published curve is of n = {FIGURE3_SIZE}, which is not here.")
    for row in rows:
        for one in row.curves:
            where = f"n = {size_text(row.train_size)}, {one.arm.label}:"
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
