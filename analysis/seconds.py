"""Score against training seconds: what a configuration or a method costs and what it reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis import columns as c
from analysis import hover
from analysis.cells import SYMBOLS, Cell, cells_of
from analysis.drawing import (
    COLOURS,
    INK,
    LEGEND_LINE,
    STYLE,
    WIDTH,
    caption_height,
    caption_lines,
    draw_caption,
    place,
    save,
)
from analysis.figure3 import ARM_COLOURS
from analysis.frames import Runs, RunsError, origin, runs_task
from analysis.history import value_limits
from analysis.methods import TEACHER, VARIANT, Arm, arm_place, arms_of, has_methods
from analysis.stats import t_interval
from analysis.tasks import IMAGES, Task, size_order, size_text

# Inches, unless said otherwise.
LEFT, RIGHT, TOP, AXIS = 0.6, 0.12, 0.27, 0.42
STRIP: Final = 1.7
COLUMNS: Final = 2
WIDE_SPAN: Final = 8.0  # ratio of seconds from which the axis is logarithmic
FRONT: Final = "black"
# A triangle that points down is what lies below the axis.
ARM_MARKERS: Final = ("o", "s", "^", "D", "P", "X", "*", "<", ">")
LEGEND_COLUMNS: Final = 4


class Timed(NamedTuple):
    """A configuration or arm: seconds of a seed's training, pretraining included, mean over its
    seeds, and their mean score with its t interval.

    `arm` is its name in a methods sweep, else empty. `is_front` says that nothing as fast or
    faster is as good.
    """

    label: str
    arm: str
    seconds: float
    mean: float
    low: float
    high: float
    n: int
    collapsed: int
    is_front: bool
    trial_id: str


class SecondsPart(NamedTuple):
    """One training size, its points by seconds."""

    train_size: int
    points: tuple[Timed, ...]


class SecondsInfo(NamedTuple):
    """All that the figure of seconds draws and prints."""

    experiment: str
    parts: tuple[SecondsPart, ...]
    footer: str
    notes: tuple[str, ...]
    task: Task = IMAGES


def has_seconds(runs: Runs) -> bool:
    """Return whether any seed's training seconds are recorded beside a test score."""
    score = runs.trials[c.SEED_PREFIX + runs_task(runs).score.test]
    return bool((runs.trials[c.SEED_PREFIX + c.TRAIN_SECONDS].notna() & score.notna()).any())


def seconds_info(runs: Runs) -> SecondsInfo:
    """Return what the figure shows: the arms of a methods sweep, else every configuration.

    Raises:
        RunsError: If no configuration has both a test score and its seconds.
    """
    timed, lost = _arms(runs) if has_methods(runs) else _cells(runs)
    if not timed:
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no trial with a test score and training seconds"
        )
    parts = tuple(
        SecondsPart(size, tuple(pareto(timed[size]))) for size in sorted(timed, key=size_order)
    )
    notes = [f"{lost} configurations without a test score or seconds are not drawn."] * bool(lost)
    bars = " Bars: 95 % t interval over seeds." if has_methods(runs) else ""
    footer = (
        "Seconds of wall time on the machine that trained, a seed's training and the pretraining "
        "of its players, mean over seeds; machines that trained other trials at the same time "
        f"make them longer.{bars} {runs_task(runs).statement} {origin(runs)}."
    )
    return SecondsInfo(runs.sweep.experiment, parts, footer, tuple(notes), runs_task(runs))


def pareto(points: Sequence[Timed]) -> list[Timed]:
    """Return the points by seconds, those marked that nothing as fast or faster equals."""
    best = -math.inf
    marked = []
    for point in sorted(points, key=lambda point: (point.seconds, -point.mean)):
        marked.append(point._replace(is_front=point.mean > best))
        best = max(best, point.mean)
    return marked


def seconds_frame(info: SecondsInfo) -> pd.DataFrame:
    """Return a record per point."""
    names = {"mean": info.task.score.name, "label": "configuration"}
    records = [
        {"train_size": part.train_size, **point._asdict()}
        for part in info.parts
        for point in part.points
    ]
    return pd.DataFrame(records).rename(columns=names)


def write_seconds(info: SecondsInfo, folder: Path) -> list[Path]:
    """Write seconds.pdf, .png and .csv to `folder`; returns the paths."""
    return save(draw_seconds(info), seconds_frame(info), folder, "seconds")


def draw_seconds(info: SecondsInfo) -> Figure:
    """Return the figure."""
    lines = caption_lines(info.footer, info.notes, "seconds.csv")
    columns = min(COLUMNS, len(info.parts))
    rows = -(-len(info.parts) // columns)
    width = (WIDTH - columns * (LEFT + RIGHT)) / columns
    block = TOP + STRIP + AXIS
    with matplotlib.rc_context(fname=STYLE):
        handles = _legend_handles(info)
        legend = -(-len(handles) // LEGEND_COLUMNS) * LEGEND_LINE + 0.1
        height = rows * block + legend + caption_height(lines)
        figure = Figure(figsize=(WIDTH, height))
        for number, part in enumerate(info.parts):
            row, column = divmod(number, columns)
            axes = place(
                figure, LEFT + column * (width + LEFT + RIGHT), row * block + TOP, width, STRIP
            )
            axes.set_title(f"n = {size_text(part.train_size)}")
            if column == 0:
                axes.set_ylabel(f"Test {info.task.axis}", labelpad=2)
            _draw_part(axes, part, info.task)
        figure.legend(
            handles=handles, loc="upper left", ncols=LEGEND_COLUMNS, borderaxespad=0,
            bbox_to_anchor=((LEFT - 0.1) / WIDTH, 1 - rows * block / height),
        )  # fmt: skip
        draw_caption(figure, lines)
    return figure


def _cells(runs: Runs) -> tuple[dict[int, list[Timed]], int]:
    """Return the configurations by size, and how many have no score or no seconds."""
    spent = _spent(runs)
    found: dict[int, list[Timed]] = {}
    lost = 0
    for cell in cells_of(runs):
        values = {seed.seed: seed for seed in cell.seeds if not math.isnan(seed.value)}
        times = [spent.get((seed.trial_id, seed.seed), math.nan) for seed in values.values()]
        if not times or any(map(math.isnan, times)):
            lost += 1
            continue
        scores = [seed.value for seed in values.values()]
        collapsed = sum(seed.outcome == c.COLLAPSED for seed in cell.seeds)
        timed = _timed(_cell_label(cell), "", times, scores, collapsed, cell.trial_id)
        found.setdefault(cell.train_size, []).append(timed)
    return found, lost


def _arms(runs: Runs) -> tuple[dict[int, list[Timed]], int]:
    """The same of the arms of a methods sweep that have a student."""
    found: dict[int, list[Timed]] = {}
    lost = 0
    score = runs_task(runs).score.test
    for arm in arms_of(runs):
        if arm.name == TEACHER:  # no student: its players are not what a light classifier costs
            continue
        scores = arm.scores(score)
        times = [_arm_seconds(arm, seed) for seed in scores]
        if not times or any(map(math.isnan, times)):
            lost += 1
            continue
        collapsed = len(arm.ended(c.COLLAPSED))
        timed = _timed(
            arm.label,
            arm.name,
            times,
            list(scores.values()),
            collapsed,
            ",".join(arm.trial_ids),
        )
        found.setdefault(arm.train_size, []).append(timed)
    return found, lost


def _arm_seconds(arm: Arm, seed: int) -> float:
    return _sum(next(one.numbers for one in arm.seeds if one.seed == seed))


def _spent(runs: Runs) -> dict[tuple[str, int], float]:
    """Return the seconds of each trial's seeds."""
    names = [c.TRAIN_SECONDS, c.PRETRAIN_SECONDS]
    used = [c.TRIAL_ID, c.SEED, *(c.SEED_PREFIX + name for name in names)]
    return {
        (str(record[c.TRIAL_ID]), int(record[c.SEED])): _sum(
            {name: record[c.SEED_PREFIX + name] for name in names}
        )
        for record in runs.trials[used].to_dict("records")
    }


def _sum(numbers: Mapping[str, Any]) -> float:
    """Return training and pretraining seconds; a method that pretrains nothing has none of the
    latter."""
    pretrained = float(numbers[c.PRETRAIN_SECONDS])
    return float(numbers[c.TRAIN_SECONDS]) + (0.0 if math.isnan(pretrained) else pretrained)


def _timed(
    label: str, arm: str, times: list[float], scores: list[float], collapsed: int, trial_id: str
) -> Timed:
    mean = t_interval(scores)
    seconds = sum(times) / len(times)
    return Timed(
        label, arm, seconds, mean.mean, mean.low, mean.high, mean.n, collapsed, False, trial_id
    )


def _cell_label(cell: Cell) -> str:
    """Return a configuration's knobs; a method without them is its own name."""
    if math.isnan(cell.numbers[c.ALPHA]):
        return cell.method
    knobs = ", ".join(f"{SYMBOLS[name]} {value:.3g}" for name, value in cell.numbers.items())
    return f"{knobs}, {SYMBOLS['tau']} {cell.tau}"


def _draw_part(axes: Axes, part: SecondsPart, task: Task) -> None:
    scale = task.scale
    points = part.points
    low, high = _limits(part)
    front = [point for point in points if point.is_front]
    seconds = [point.seconds for point in points]
    if max(seconds) > WIDE_SPAN * min(seconds):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.plot(
        [point.seconds for point in front], [scale * point.mean for point in front],
        color=FRONT, drawstyle="steps-post", marker="none", linewidth=0.9, zorder=2,
    )  # fmt: skip
    _draw_points(axes, points, low, scale)
    for point in sorted(points, key=lambda point: -point.mean)[: hover.MOST]:
        hover.note(axes, point.seconds, scale * max(point.mean, low), timed_text(point, task))
    axes.set_ylim(scale * low, scale * high)
    axes.set_xlabel("seconds of a seed", labelpad=1)


def _limits(part: SecondsPart) -> tuple[float, float]:
    """Return limits of the score that hold all means, and the arms' intervals, but those far
    below the others."""
    ends = [end for one in part.points if one.arm for end in (one.low, one.high)]
    return value_limits([*(one.mean for one in part.points), *ends])


def _draw_points(axes: Axes, points: Sequence[Timed], low: float, scale: float) -> None:
    """Draw points, all of one look at once: there may be thousands."""
    looks: dict[tuple[str, str, bool, bool], list[Timed]] = {}
    for point in points:
        key = (*_look(point), bool(point.collapsed), point.mean < low)
        looks.setdefault(key, []).append(point)
        if point.arm and not math.isnan(point.low) and point.mean >= low:
            axes.vlines(point.seconds, scale * point.low, scale * point.high,
                        color=_look(point)[0], linewidth=0.8, alpha=0.6, zorder=3)  # fmt: skip
    for (colour, marker, has_collapsed, is_below), found in looks.items():
        axes.plot(
            [point.seconds for point in found],
            [0.03 if is_below else scale * point.mean for point in found],
            transform=axes.get_xaxis_transform() if is_below else axes.transData,
            marker="v" if is_below else marker, markersize=4.2 if found[0].arm else 3.4,
            color=colour, markerfacecolor="white" if has_collapsed and not is_below else colour,
            markeredgewidth=0.7, linestyle="none", zorder=4,
        )  # fmt: skip


def _look(point: Timed) -> tuple[str, str]:
    """Return colour and marker: an arm's own, or that of all configurations."""
    if not point.arm:
        return COLOURS[0], "o"
    place_, _ = arm_place(point.arm)
    method = point.arm.partition(VARIANT)[0]
    return ARM_COLOURS.get(method, INK), ARM_MARKERS[place_ % len(ARM_MARKERS)]


def timed_text(point: Timed, task: Task) -> str:
    """Return what a point's hover says."""
    text = f"{point.label}: {task.text(point.mean)}"
    if not math.isnan(point.low):
        text += f" [{task.text(point.low)}, {task.text(point.high)}], {point.n} seeds"
    text += f", {point.seconds:.3g} s"
    return f"{text}; {point.collapsed} seeds collapsed" if point.collapsed else text


def _legend_handles(info: SecondsInfo) -> list[Line2D]:
    """Return legend entries, only for what the figure holds."""
    points = [point for part in info.parts for point in part.points]
    looks: dict[str, Timed] = {}
    for point in points:
        looks.setdefault(point.label if point.arm else "mean over seeds", point)
    handles = [
        Line2D([], [], color=_look(point)[0], marker=_look(point)[1], markersize=4,
               linestyle="none", label=label)
        for label, point in looks.items()
    ]  # fmt: skip
    if any(point.collapsed for point in points):
        handles.append(
            Line2D([], [], color=INK, marker="o", markersize=4, linestyle="none",
                   markerfacecolor="white", label="open: a seed collapsed")
        )  # fmt: skip
    if any(min(one.mean for one in part.points) < _limits(part)[0] for part in info.parts):
        handles.append(
            Line2D([], [], color=INK, marker="v", markersize=4, linestyle="none",
                   label="below the axis")
        )  # fmt: skip
    front = "Pareto front: nothing as fast is better"
    return [*handles, Line2D([], [], color=FRONT, linewidth=0.9, marker="none", label=front)]
