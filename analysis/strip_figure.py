"""A figure of strips, as Figures 4 and 5 are: a column per factor, strips below each other.

Scores of different sizes or metrics lie so far apart that one axis would flatten every curve.
Each row of strips therefore has a score axis of its own, the same across all factors. Nothing is
hidden: a mark below a strip's axis becomes an arrow with its value written beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis import columns as c
from analysis.cells import SYMBOLS
from analysis.drawing import (
    INK,
    LEGEND_LINE,
    MARGIN,
    PUBLISHED_DASHES,
    STYLE,
    WIDTH,
    caption_height,
    caption_lines,
    draw_caption,
)
from analysis.sensitivity import Panel
from analysis.strips import Strip, clipped, draw_strip, set_levels

MARKERS: Final = ("o", "s", "^", "v", "P", "X")
TITLES: Final = {
    "alpha": f"weight of C's game, {SYMBOLS['alpha']}",
    "beta": f"distillation into C, {SYMBOLS['beta']}",
    "gamma": f"distillation into T, {SYMBOLS['gamma']}",
    "tau": f"temperature schedule, {SYMBOLS['tau']}",
}
PUBLISHED_LABEL: Final = "published (best over test\nevaluations, 1 run)"
APART_TITLE: Final = "as published on other data: change from each curve's highest value"
# Inches, unless said otherwise.
LEFT, RIGHT, TOP = 0.58, 0.27, 0.25
COLUMN_GAP, STRIP_GAP = 0.13, 0.11
STRIP, SHORT_STRIP = 1.2, 1.0  # the short one from four rows on
APART_STRIP, APART_GAP = 1.1, 0.22
APART_FACE: Final = "0.95"
TAU_WIDTH: Final = 1.2  # of a numeric column's width
NUMBER_AXIS: Final = 0.42
CHARACTER: Final = 0.052  # of a schedule's name
LEGEND_COLUMNS: Final = 3
NAME_SIZE, SMALL_NAME_SIZE = 7.5, 5.5  # points; the small one for two lines
FREE_SHARE: Final = 0.08  # of the axis, left free below and above


class StripRow(NamedTuple):
    """A strip per panel, the row's name (one line or two) and its look."""

    strips: tuple[Strip, ...]
    name: str
    colour: str
    marker: str


class ApartLine(NamedTuple):
    """A published curve that is of other data than ours; `values` are changes of the score."""

    label: str
    levels: tuple[float, ...]
    values: tuple[float, ...]
    colour: str
    marker: str


class StripFigure(NamedTuple):
    """What a figure of strips shows.

    `apart` has, by factor, published curves of other data: they are drawn in a row of their own,
    on an axis of their own, over the same levels.
    """

    panels: tuple[Panel, ...]
    rows: tuple[StripRow, ...]
    axis: str
    footer: str
    notes: tuple[str, ...]
    csv: str
    apart: Mapping[str, tuple[ApartLine, ...]]


class _Layout(NamedTuple):
    """Sizes in inches that depend on what is drawn."""

    height: float
    strip: float
    widths: tuple[float, ...]
    below: float
    legend_top: float


def draw_strips(shown: StripFigure) -> Figure:
    """Return the figure."""
    caption = _caption(shown)
    with matplotlib.rc_context(fname=STYLE):
        handles = _legend_handles(shown)
        layout = _layout(shown, caption_height(caption), len(handles))
        figure = Figure(figsize=(WIDTH, layout.height))
        last = len(shown.rows) - 1
        for number, row in enumerate(shown.rows):
            for column, strip in enumerate(row.strips):
                axes = figure.add_axes(_rectangle(layout, number, column))
                draw_strip(axes, strip, row.colour, row.marker)
                has_labels = number == last and (bool(strip.panel.labels) or not shown.apart)
                _dress(axes, strip.panel, number == 0, column, has_labels)
            _name_row(figure, _rectangle(layout, number, len(layout.widths) - 1), row.name)
        if shown.apart:
            _draw_apart(figure, shown, layout)
        middle = layout.below + (layout.height - TOP - layout.below) / 2
        figure.text(
            MARGIN / WIDTH, middle / layout.height, shown.axis,
            rotation=90, ha="left", va="center", fontsize=NAME_SIZE,
        )  # fmt: skip
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=((LEFT - 0.1) / WIDTH, layout.legend_top / layout.height),
            ncols=LEGEND_COLUMNS,
            borderaxespad=0,
            columnspacing=1.4,
            handlelength=2.2,
        )
        draw_caption(figure, caption)
    return figure


def _layout(shown: StripFigure, caption: float, entries: int) -> _Layout:
    """Return the sizes; the legend goes beside long schedule names where there is room."""
    shares = [TAU_WIDTH if panel.labels else 1.0 for panel in shown.panels]
    unit = (WIDTH - LEFT - RIGHT - COLUMN_GAP * (len(shares) - 1)) / sum(shares)
    longest = max((len(label) for panel in shown.panels for label in panel.labels), default=0)
    names = 0.12 + longest * CHARACTER if longest else 0.0
    numbers = NUMBER_AXIS + (APART_GAP + APART_STRIP if shown.apart else 0.0)
    above_legend = numbers if len(shares) == 4 else max(numbers, names)
    legend = math.ceil(entries / LEGEND_COLUMNS) * LEGEND_LINE + 0.15
    below = caption + max(above_legend + legend, names + 0.08)
    rows = len(shown.rows)
    strip = STRIP if rows < 4 else SHORT_STRIP
    return _Layout(
        height=TOP + rows * strip + (rows - 1) * STRIP_GAP + below,
        strip=strip,
        widths=tuple(unit * share for share in shares),
        below=below,
        legend_top=below - above_legend - 0.04,
    )


def _caption(shown: StripFigure) -> tuple[str, ...]:
    """Return the lines under the figure: the footer, then the first notes."""
    has_clipped = any(clipped(strip) for row in shown.rows for strip in row.strips)
    note = [f"Intervals of means below the axis are in {shown.csv}."] * has_clipped
    return caption_lines(shown.footer, [*note, *shown.notes], shown.csv)


def _rectangle(layout: _Layout, row: int, column: int) -> tuple[float, float, float, float]:
    """Return left, bottom, width, height of a strip as fractions of the figure."""
    left = LEFT + sum(layout.widths[:column]) + COLUMN_GAP * column
    top = layout.height - TOP - row * (layout.strip + STRIP_GAP)
    return (
        left / WIDTH,
        (top - layout.strip) / layout.height,
        layout.widths[column] / WIDTH,
        layout.strip / layout.height,
    )


def _dress(axes: Axes, panel: Panel, is_first: bool, column: int, has_labels: bool) -> None:
    """Set the title of the first strip, tick labels at the edges, the axis name below the last."""
    axes.yaxis.set_major_locator(MaxNLocator(4, prune="both"))
    axes.tick_params(labelleft=column == 0, labelbottom=has_labels)
    if is_first:
        axes.set_title(f"({'abcd'[column]}) {TITLES[panel.factor]}")
    if has_labels and panel.labels:
        axes.set_xticks(range(len(panel.labels)), panel.labels, rotation=90)
    elif has_labels:
        axes.set_xlabel(SYMBOLS[panel.factor], labelpad=1)


def _name_row(figure: Figure, box: tuple[float, float, float, float], name: str) -> None:
    """Write a row's name to the right of its last strip."""
    left, bottom, width, height = box
    figure.text(
        left + width + 0.06 / WIDTH, bottom + height / 2, name, rotation=270, ha="left",
        va="center", fontsize=SMALL_NAME_SIZE if "\n" in name else NAME_SIZE,
    )  # fmt: skip


def _draw_apart(figure: Figure, shown: StripFigure, layout: _Layout) -> None:
    """Draw the published curves of other data below our strips, on a grey ground."""
    values = [v for lines in shown.apart.values() for line in lines for v in line.values]
    pad = FREE_SHARE * (max(values) - min(values))
    bottom = (layout.below - APART_GAP - APART_STRIP) / layout.height
    for column, panel in enumerate(shown.panels):
        if panel.factor not in shown.apart:
            continue
        left, _, width, _ = _rectangle(layout, 0, column)
        place = (left, bottom, width, APART_STRIP / layout.height)
        axes = figure.add_axes(place, facecolor=APART_FACE)
        for line in shown.apart[panel.factor]:
            axes.plot(
                line.levels, line.values, color=line.colour, linestyle=PUBLISHED_DASHES,
                linewidth=0.9, marker=line.marker, markersize=2.6, markerfacecolor="white",
            )  # fmt: skip
        set_levels(axes, panel, shown.rows[0].strips[column].levels)
        axes.set_ylim(min(values) - pad, max(values) + pad)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelleft=column == 0)
        axes.set_xlabel(SYMBOLS[panel.factor], labelpad=1)
    top = (layout.below - APART_GAP + 0.05) / layout.height
    figure.text(LEFT / WIDTH, top, APART_TITLE, fontsize=SMALL_NAME_SIZE, color=INK)


def _legend_handles(shown: StripFigure) -> list[Line2D | Patch]:
    """Return legend entries, only for what the figure holds."""

    def mark(marker: str, size: float, label: str, face: str = INK, edge: str = INK) -> Line2D:
        return Line2D(
            [], [], linestyle="none", color=INK, marker=marker, markersize=size, label=label,
            markerfacecolor=face, markeredgecolor=edge,
        )  # fmt: skip

    strips = [strip for row in shown.rows for strip in row.strips]
    points = [point for strip in strips for point in strip.points]
    outcomes = {seed.outcome for point in points for seed in point.seeds}
    below = [found for strip in strips for found in clipped(strip)]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=INK, marker="o", label="mean over seeds")
    ]
    if any(not math.isnan(point.low) for point in points):
        handles.append(Patch(color=INK, alpha=0.2, linewidth=0, label="95 % Student-t interval"))
    handles.append(mark(".", 3.5, "one seed"))
    if any(point.is_baseline for point in points):
        handles.append(mark("D", 5, "baseline cell", edge="black"))
    if c.COLLAPSED in outcomes:
        handles.append(mark("o", 4.4, "collapsed seed", face="none"))
    if c.DIVERGED in outcomes:
        handles.append(mark("x", 3.8, "diverged seed, no score", edge="black"))
    if any(not found.is_published for found in below):
        handles.append(mark("v", 3.8, "below axis: mean (seeds)"))
    if any(found.is_published for found in below):
        handles.append(mark("v", 3.8, "below axis: published", face="white"))
    if any(strip.published for strip in strips):
        handles.append(
            Line2D([], [], color=INK, linestyle=PUBLISHED_DASHES, linewidth=0.9, marker="+",
                   markersize=3.5, label=PUBLISHED_LABEL)
        )  # fmt: skip
    apart = {line.label: line for lines in shown.apart.values() for line in lines}
    handles += [
        Line2D([], [], color=line.colour, linestyle=PUBLISHED_DASHES, linewidth=0.9,
               marker=line.marker, markersize=2.6, markerfacecolor="white", label=label)
        for label, line in apart.items()
    ]  # fmt: skip
    return handles
