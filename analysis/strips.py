"""One strip of Figure 4 or 5: a metric at one training size over one factor, drawn into axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from analysis import columns as c
from analysis import hover
from analysis.cells import SYMBOLS
from analysis.drawing import INK, PUBLISHED_DASHES
from analysis.sensitivity import Panel, Point, PublishedCurve, SensitivityInfo
from analysis.tasks import Task

POINTS_PER_INCH: Final = 72
SEED_STEP: Final = 1.7  # points between the dots of neighbouring seeds
WIDEST_SEEDS: Final = 8.5  # points that the dots of one cell may take
LABEL_STEP: Final = 8.0  # points between two values written at the lower edge
ARROW: Final = 3.8  # points
# Marks further below the lower quartile than this many interquartile ranges become arrows.
FENCE: Final = 3.0
SMALLEST_FENCE: Final = 0.01  # of a score
EDGE: Final = 0.02  # room for a mark that stands at 0 or at 1
SEEDS_LISTED: Final = 2


class Strip(NamedTuple):
    """What one pair of axes shows; `low` and `high` are its limits, as fractions.

    `levels` are those that the horizontal axis must hold, the same in all strips of a panel.
    """

    panel: Panel
    points: tuple[Point, ...]
    published: tuple[PublishedCurve, ...]
    levels: tuple[float, ...]
    low: float
    high: float
    task: Task


class Clipped(NamedTuple):
    """A cell with marks below the axis: where, and what is written there.

    `is_mean` says whether the cell's mean is among them or only single seeds.
    """

    level: float
    text: str
    is_mean: bool
    is_collapsed: bool
    is_published: bool


def make_strips(
    info: SensitivityInfo, size: int, reach: Mapping[str, tuple[float, ...]] | None = None
) -> tuple[Strip, ...]:
    """Return a strip per panel for one training size, all with the same limits of the score.

    Args:
        info: What the figure shows.
        size: The training size.
        reach: Factor -> further levels that its axis must hold.
    """
    points = [
        tuple(p for curve in panel.curves if curve.train_size == size for p in curve.points)
        for panel in info.panels
    ]
    published = [
        tuple(line for line in panel.published if line.train_size == size) for panel in info.panels
    ]
    low, high = score_limits(
        [point for strip in points for point in strip],
        [value for strip in published for line in strip for value in line.values],
    )
    return tuple(
        Strip(
            panel,
            strip,
            lines,
            _levels(panel) + (reach or {}).get(panel.factor, ()),
            low,
            high,
            info.task,
        )
        for panel, strip, lines in zip(info.panels, points, published, strict=True)
    )


def _levels(panel: Panel) -> tuple[float, ...]:
    ours = [point.level for curve in panel.curves for point in curve.points]
    return (*ours, *(level for line in panel.published for level in line.levels))


def score_limits(points: list[Point], published: list[float]) -> tuple[float, float]:
    """Return limits that hold all marks but those far below the others, within what can be.

    Ours and the published ones are judged apart: a published curve that lies as a whole far from
    ours is in view, and so is the distance.
    """
    ours = [p.mean for p in points] + [seed.value for p in points for seed in p.seeds]
    groups = [np.array([v for v in group if not math.isnan(v)]) for group in (ours, published)]
    shown = [_in_view(group) for group in groups if group.size]
    if not shown:
        return 0.0, 1.0
    if groups[0].size:
        floor, ceiling = _fences(groups[0])
        ends = [end for p in points for end in (p.low, p.high) if not math.isnan(end)]
        shown.append(np.clip(ends, max(floor, 0.0), min(ceiling, 1.0)))
    marks = np.concatenate(shown)
    low, high = float(marks.min()), float(marks.max())
    span = max(high - low, SMALLEST_FENCE)
    return max(low - 0.12 * span, -EDGE), min(high + 0.08 * span, 1.0 + EDGE)


def _fences(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return how far down and up from the quartiles of `values` a mark is not far off."""
    lower, upper = np.quantile(values, [0.25, 0.75])
    reach = max(FENCE * float(upper - lower), SMALLEST_FENCE)
    return float(lower) - reach, float(upper) + reach


def _in_view(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return those that are not far below the others."""
    return values[values >= _fences(values)[0]]


def clipped(strip: Strip) -> list[Clipped]:
    """Return what lies below the axis, ordered by level; none of it may go unsaid."""
    found = []
    for point in strip.points:
        below = [seed for seed in point.seeds if seed.value < strip.low]
        if not below:
            continue
        texts = sorted(strip.task.short_text(seed.value) for seed in below)
        many = len(texts) > SEEDS_LISTED
        seeds = f"{texts[0]} to {texts[-1]}" if many else ", ".join(texts)
        is_mean = point.mean < strip.low
        text = f"{strip.task.short_text(point.mean)} ({seeds})" if is_mean else f"({seeds})"
        collapsed = any(seed.outcome == c.COLLAPSED for seed in below)
        found.append(Clipped(point.level, text, is_mean, collapsed, False))
    for line in strip.published:
        for level, value in zip(line.levels, line.values, strict=True):
            if value < strip.low:
                found.append(Clipped(level, strip.task.short_text(value), False, False, True))
    return sorted(found)


def draw_strip(axes: Axes, strip: Strip, colour: str, marker: str) -> None:
    """Draw a strip; `axes` shows the score as its task prints it."""
    scale = strip.task.scale
    axes.set_ylim(scale * strip.low, scale * strip.high)
    set_levels(axes, strip.panel, strip.levels)
    _draw_intervals(axes, strip, colour)
    for line in strip.published:
        axes.plot(
            line.levels, [scale * value for value in line.values], color=colour, linewidth=0.9,
            linestyle=PUBLISHED_DASHES, marker="+", markersize=3.5, markeredgewidth=0.7, zorder=2,
        )  # fmt: skip
    axes.plot(
        [point.level for point in strip.points],
        [scale * point.mean for point in strip.points],
        # Schedules have no order, so nothing joins them.
        color=colour, linestyle="none" if strip.panel.labels else "-", marker=marker, zorder=4,
    )  # fmt: skip
    _note_values(axes, strip)
    for point in strip.points:
        _draw_seeds(axes, point, colour, scale)
        if point.is_baseline and point.n:
            axes.plot(
                [point.level], [scale * point.mean], marker="D", markersize=5.2, color=colour,
                markeredgecolor="black", markeredgewidth=0.7, linestyle="none", zorder=5,
            )  # fmt: skip
    _draw_clipped(axes, clipped(strip), colour)


def _note_values(axes: Axes, strip: Strip) -> None:
    """Note what the pointer shows: seeds, published values and, above them, means."""
    task, symbol = strip.task, SYMBOLS[strip.panel.factor]
    for line in strip.published:
        for level, value in zip(line.levels, line.values, strict=True):
            text = f"published, {symbol} = {level:g}: {task.text(value)}"
            hover.note(axes, level, task.scale * max(value, strip.low), text)
    for point in strip.points:
        where = f"{symbol} = {point.label}"
        for seed in point.seeds:
            if not math.isnan(seed.value):
                text = f"{where}, seed {seed.seed}, {seed.outcome}: {task.text(seed.value)}"
                hover.note(axes, point.level, task.scale * max(seed.value, strip.low), text)
        if point.n:
            text = f"{where}: {task.text(point.mean)}"
            if not math.isnan(point.low):
                text += f" [{task.text(point.low)}, {task.text(point.high)}], {point.n} seeds"
            text += ", baseline" if point.is_baseline else ""
            hover.note(axes, point.level, task.scale * max(point.mean, strip.low), text)


def set_levels(axes: Axes, panel: Panel, levels: Sequence[float]) -> None:
    """Set the horizontal scale, limits that hold `levels`, and ticks."""
    if panel.labels:
        axes.set_xlim(-0.6, len(panel.labels) - 0.4)
        axes.xaxis.set_major_locator(FixedLocator(range(len(panel.labels))))
        return
    if panel.logarithmic:
        logs = np.log10(levels)
        pad = 0.07 * max(float(np.ptp(logs)), 1.0)
        axes.set_xscale("log")
        axes.set_xlim(10 ** (logs.min() - pad), 10 ** (logs.max() + pad))
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
        return
    pad = 0.07 * max(float(np.ptp(levels)), 0.1)
    axes.set_xlim(min(levels) - pad, max(levels) + pad)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_intervals(axes: Axes, strip: Strip, colour: str) -> None:
    """Draw a band over neighbours that have an interval, a bar where there is none to join.

    The interval of a mean below the axis is left to the table of marks: it would cover the strip.
    """
    groups: list[list[Point]] = [[]]
    for point in strip.points:
        if math.isnan(point.low) or point.mean < strip.low:
            groups.append([])
        elif strip.panel.labels:
            groups.append([point])
        else:
            groups[-1].append(point)
    for group in (group for group in groups if group):
        x = [p.level for p in group]
        scale = strip.task.scale
        low, high = [scale * p.low for p in group], [scale * p.high for p in group]
        if len(group) > 1:
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0, zorder=1)
        else:
            axes.vlines(x, low, high, color=colour, alpha=0.35, linewidth=4, zorder=1)


def _moved(axes: Axes, right: float, up: float = 0.0) -> ScaledTranslation:
    """Return a shift in points, whatever the scale of the axes."""
    scale = axes.get_figure(root=True).dpi_scale_trans  # type: ignore[union-attr]
    return ScaledTranslation(right / POINTS_PER_INCH, up / POINTS_PER_INCH, scale)


def _draw_seeds(axes: Axes, point: Point, colour: str, scale: float) -> None:
    """Draw a dot per seed, side by side: open if it collapsed, a cross at the edge if diverged."""
    last = max(len(point.seeds) - 1, 1)
    step = min(SEED_STEP, WIDEST_SEEDS / last)
    for index, seed in enumerate(point.seeds):
        moved = _moved(axes, step * (index - (len(point.seeds) - 1) / 2))
        at_edge = axes.get_xaxis_transform() + moved
        at_value = axes.transData + moved
        value = scale * seed.value
        if seed.outcome == c.DIVERGED:
            axes.plot(
                [point.level], [0], transform=at_edge, marker="x", markersize=3.8,
                markeredgewidth=1.0, color="black", clip_on=False, zorder=7,
            )  # fmt: skip
        elif seed.outcome == c.COLLAPSED:
            axes.plot(
                [point.level], [value], transform=at_value, marker="o", markersize=4.4,
                markerfacecolor="none", markeredgecolor=colour, markeredgewidth=0.9, zorder=6,
            )  # fmt: skip
        elif not math.isnan(seed.value):
            axes.plot(
                [point.level], [value], transform=at_value, marker=".", markersize=3.0,
                color=colour, markeredgewidth=0, alpha=0.8, zorder=3,
            )  # fmt: skip


def _draw_clipped(axes: Axes, marks: list[Clipped], colour: str) -> None:
    """Draw an arrow and values at the lower edge for each mark, moved apart where they meet."""
    figure = axes.get_figure(root=True)
    per_pixel = POINTS_PER_INCH / figure.dpi  # type: ignore[union-attr]
    places = [axes.transData.transform((mark.level, 0.0))[0] * per_pixel for mark in marks]
    right = axes.transAxes.transform((1.0, 0.0))[0] * per_pixel
    for mark, place, drawn in zip(marks, places, _apart(places, right - ARROW), strict=True):
        edge = axes.get_xaxis_transform() + _moved(axes, drawn - place, 6)
        ink = INK if mark.is_published else colour
        axes.plot(
            [mark.level], [0], transform=edge, marker="v", markersize=ARROW, zorder=8,
            markeredgecolor=ink, markeredgewidth=0.8,
            markerfacecolor=ink if mark.is_mean else "white",
        )  # fmt: skip
        if mark.is_collapsed:
            axes.plot(
                [mark.level], [0], transform=edge, marker="o", markersize=7.5, zorder=8,
                markerfacecolor="none", markeredgecolor=colour, markeredgewidth=0.8,
            )  # fmt: skip
        axes.annotate(
            mark.text, (mark.level, 0), xycoords=axes.get_xaxis_transform(),
            xytext=(drawn - place, 12), textcoords="offset points", rotation=90, fontsize=5.5,
            ha="center", va="bottom", color=INK, zorder=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4},
        )  # fmt: skip


def _apart(places: list[float], right: float) -> list[float]:
    """Return ascending places moved to lie LABEL_STEP apart and, if they fit, left of `right`."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + LABEL_STEP) if moved else place)
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], right)
        right = moved[index] - LABEL_STEP
    return moved
