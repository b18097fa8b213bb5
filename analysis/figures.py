"""Figure 4 drawn from its info: a column per factor, a strip per training size.

Accuracies at 100 and 10,000 images lie so far apart that one axis would flatten every curve.
Each training size therefore has a strip of its own, with one accuracy axis across all factors.
Nothing is hidden: a mark below a strip's axis becomes an arrow with its value written beside it.
"""

from __future__ import annotations

import math
from pathlib import Path
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
    COLOURS,
    INK,
    LEGEND_LINE,
    MARGIN,
    PUBLISHED_DASHES,
    STYLE,
    WIDTH,
    caption_height,
    caption_lines,
    draw_caption,
    save,
)
from analysis.marks import points_frame
from analysis.sensitivity import (
    Panel,
    SensitivityInfo,
    has_sensitivity,
    sensitivity_info,
)
from analysis.strips import Strip, clipped, draw_strip, make_strips

__all__ = ["draw_sensitivity", "has_sensitivity", "sensitivity_info", "write_figure"]

MARKERS: Final = ("o", "s", "^", "v", "P", "X")
TITLES: Final = {
    "alpha": f"weight of the classifier, {SYMBOLS['alpha']}",
    "beta": f"distillation into C, {SYMBOLS['beta']}",
    "gamma": f"distillation into T, {SYMBOLS['gamma']}",
    "tau": f"temperature schedule, {SYMBOLS['tau']}",
}
# Inches, unless said otherwise.
LEFT, RIGHT, TOP = 0.5, 0.27, 0.25
COLUMN_GAP, STRIP_GAP = 0.13, 0.11
STRIP, SHORT_STRIP = 1.2, 1.0  # the short one from four training sizes on
TAU_WIDTH: Final = 1.2  # of a numeric column's width
NUMBER_AXIS: Final = 0.42
CHARACTER: Final = 0.052  # of a schedule's name
LEGEND_COLUMNS: Final = 3


class _Layout(NamedTuple):
    """Sizes in inches that depend on what is drawn."""

    height: float
    strip: float
    widths: tuple[float, ...]
    below: float
    legend_top: float


def draw_sensitivity(info: SensitivityInfo) -> Figure:
    """Return Figure 4; raises ValueError if `info` has no panel."""
    if not info.panels:
        raise ValueError("info has no panel: the sweep has no sensitivity trial to draw")
    strips = [make_strips(info, size) for size in info.train_sizes]
    caption = _caption(info, any(clipped(strip) for row in strips for strip in row))
    with matplotlib.rc_context(fname=STYLE):
        handles = _legend_handles(info, strips)
        layout = _layout(info, caption_height(caption), len(handles))
        figure = Figure(figsize=(WIDTH, layout.height))
        for row, size in enumerate(info.train_sizes):
            for column, strip in enumerate(strips[row]):
                axes = figure.add_axes(_rectangle(layout, row, column))
                look = row % len(COLOURS)
                draw_strip(axes, strip, COLOURS[look], MARKERS[look])
                _dress(axes, strip.panel, row, column, row == len(strips) - 1)
            _name_strip(figure, layout, row, size)
        middle = layout.below + (layout.height - TOP - layout.below) / 2
        figure.text(
            MARGIN / WIDTH, middle / layout.height, "Test accuracy (%)",
            rotation=90, ha="left", va="center", fontsize=7.5,
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


def write_figure(info: SensitivityInfo, folder: Path) -> list[Path]:
    """Write `figure4.pdf`, `.png` and `.csv` (the marks drawn) to `folder`; returns the paths."""
    return save(draw_sensitivity(info), points_frame(info), folder, "figure4")


def _layout(info: SensitivityInfo, caption: float, entries: int) -> _Layout:
    """Return the sizes; the legend goes beside long schedule names where there is room."""
    shares = [TAU_WIDTH if panel.labels else 1.0 for panel in info.panels]
    unit = (WIDTH - LEFT - RIGHT - COLUMN_GAP * (len(shares) - 1)) / sum(shares)
    longest = max((len(label) for panel in info.panels for label in panel.labels), default=0)
    names = 0.12 + longest * CHARACTER if longest else 0.0
    is_beside = len(shares) == 4
    above_legend = NUMBER_AXIS if is_beside else max(NUMBER_AXIS, names)
    legend = math.ceil(entries / LEGEND_COLUMNS) * LEGEND_LINE + 0.15
    below = caption + max(above_legend + legend, names + 0.08)
    rows = len(info.train_sizes)
    strip = STRIP if rows < 4 else SHORT_STRIP
    return _Layout(
        height=TOP + rows * strip + (rows - 1) * STRIP_GAP + below,
        strip=strip,
        widths=tuple(unit * share for share in shares),
        below=below,
        legend_top=below - above_legend - 0.04,
    )


def _caption(info: SensitivityInfo, has_clipped: bool) -> tuple[str, ...]:
    """Return the lines under the figure: the footer, then the first notes."""
    clipped_note = ["Intervals of means below the axis are in figure4.csv."] * has_clipped
    return caption_lines(info.footer, [*clipped_note, *info.notes], "figure4.csv")


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


def _dress(axes: Axes, panel: Panel, row: int, column: int, is_last: bool) -> None:
    """Set the title of the first strip, tick labels at the edges, the axis name below the last."""
    axes.yaxis.set_major_locator(MaxNLocator(4, prune="both"))
    axes.tick_params(labelleft=column == 0, labelbottom=is_last)
    if row == 0:
        axes.set_title(f"({'abcd'[column]}) {TITLES[panel.factor]}")
    if is_last and panel.labels:
        axes.set_xticks(range(len(panel.labels)), panel.labels, rotation=90)
    elif is_last:
        axes.set_xlabel(SYMBOLS[panel.factor], labelpad=1)


def _name_strip(figure: Figure, layout: _Layout, row: int, size: int) -> None:
    left, bottom, width, height = _rectangle(layout, row, len(layout.widths) - 1)
    figure.text(
        left + width + 0.06 / WIDTH, bottom + height / 2, f"n = {size:,}",
        rotation=270, ha="left", va="center", fontsize=7.5,
    )  # fmt: skip


def _legend_handles(
    info: SensitivityInfo, strips: list[tuple[Strip, ...]]
) -> list[Line2D | Patch]:
    """Return legend entries, only for what the figure holds."""

    def mark(marker: str, size: float, label: str, face: str = INK, edge: str = INK) -> Line2D:
        return Line2D(
            [], [], linestyle="none", color=INK, marker=marker, markersize=size, label=label,
            markerfacecolor=face, markeredgecolor=edge,
        )  # fmt: skip

    points = [p for panel in info.panels for curve in panel.curves for p in curve.points]
    outcomes = {seed.outcome for point in points for seed in point.seeds}
    has_interval = any(not math.isnan(point.low) for point in points)
    below = [found for row in strips for strip in row for found in clipped(strip)]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=INK, marker="o", label="mean over seeds")
    ]
    if has_interval:
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
    if any(panel.published for panel in info.panels):
        label = "published (best over test\nevaluations, 1 run)"
        handles.append(
            Line2D([], [], color=INK, linestyle=PUBLISHED_DASHES, linewidth=0.9, marker="+",
                   markersize=3.5, label=label)
        )  # fmt: skip
    return handles
