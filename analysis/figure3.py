"""Figure 3 drawn from its info: a row per training size, over updates and over seconds.

The published curve has a panel of its own: it is of other data (test scores), on an axis of epochs
that are not ours, and has been reshaped; no shared axis would be honest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import LineStyleType

from analysis import hover
from analysis.curves import PUBLISHED_TITLES, ArmCurves, Band, CurveRow, CurvesInfo, Line
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
from analysis.methods import RECOMMENDERS, arm_label
from analysis.strips import EDGE
from analysis.tasks import Task, size_text

ARM_COLOURS: Final = {
    "kdgan": COLOURS[0], "nagan": COLOURS[1], "distn": COLOURS[2], "mimic": COLOURS[3],
    "noisy": COLOURS[4], "codis": COLOURS[5], "supervised": "0.45", "knn": "0.7",
    "tagprop": "#332288", "tagfeature": "#999933", "relexample": "#882255",
}  # fmt: skip
# Inches, unless said otherwise.
LEFT, RIGHT, TOP = 0.55, 0.1, 0.28
ROW, ROW_GAP, COLUMN_GAP = 1.7, 0.52, 0.42
AXIS: Final = 0.36
LEGEND_COLUMNS: Final = 6
SMALLEST_SPAN: Final = 0.01  # of a score
PUBLISHED_LINE: Final = 0.7
LEVEL_LINE: Final = 0.7
FREE_SHARE: Final = 0.05  # of the axis, left free below and above


def draw_curves(info: CurvesInfo) -> Figure:
    """Return Figure 3."""
    lines = caption_lines(info.footer, info.notes, "figure3.csv")
    columns = 3 if info.published else 2
    with matplotlib.rc_context(fname=STYLE):
        handles = _legend_handles(info)
        legend = -(-len(handles) // LEGEND_COLUMNS) * LEGEND_LINE + 0.1
        below = caption_height(lines) + legend + AXIS
        rows = len(info.rows)
        height = TOP + rows * ROW + (rows - 1) * ROW_GAP + below
        width = (WIDTH - LEFT - RIGHT - COLUMN_GAP * (columns - 1)) / columns
        figure = Figure(figsize=(WIDTH, height))
        for number, row in enumerate(info.rows):
            bottom = height - TOP - ROW - number * (ROW + ROW_GAP)
            panels = [
                figure.add_axes(
                    (
                        (LEFT + column * (width + COLUMN_GAP)) / WIDTH,
                        bottom / height,
                        width / WIDTH,
                        ROW / height,
                    )
                )
                for column in range(3 if row.has_published else 2)
            ]
            _draw_row(panels, row, info, number == 0)
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=((LEFT - 0.1) / WIDTH, (below - AXIS) / height),
            ncols=LEGEND_COLUMNS,
            borderaxespad=0,
            columnspacing=1.2,
            handlelength=1.8,
        )
        figure.text(
            MARGIN / WIDTH, (below + (height - TOP - below) / 2) / height,
            _axis(info.task), rotation=90, ha="left", va="center", fontsize=7.5,
        )  # fmt: skip
        draw_caption(figure, lines)
    return figure


def write_figure3(info: CurvesInfo, folder: Path) -> list[Path]:
    """Write figure3.pdf, .png and .csv (what is drawn) to `folder`; returns the paths."""
    return save(draw_curves(info), curves_frame(info), folder, "figure3")


def curves_frame(info: CurvesInfo) -> pd.DataFrame:
    """Return what is drawn, a record a point; scores are fractions, in a column of their metric.

    `axis` is updates, seconds or epochs (of the published curves), `mark` is mean, seed (one that
    is in no mean), level or published.
    """
    records = [record for row in info.rows for record in _records(row)]
    size = next((row.train_size for row in info.rows if row.has_published), None)
    for arm, (epochs, values) in info.published.items():
        place = {"train_size": size, "arm": arm, "axis": "epochs", "mark": "published"}
        records += [
            {**place, "x": x, "value": value} for x, value in zip(epochs, values, strict=True)
        ]
    order = ["train_size", "arm", "axis", "mark", "seed", "x", "value", "low", "high", "n"]
    frame = pd.DataFrame(records).reindex(columns=order)
    frame = frame.rename(columns={"value": info.task.curve.name})
    return frame.astype({"seed": "Int64", "n": "Int64"})


def _records(row: CurveRow) -> Iterator[dict[str, object]]:
    for one in row.curves:
        for axis, band, broken in (
            ("updates", one.updates, one.broken_updates),
            ("seconds", one.seconds, one.broken_seconds),
        ):
            place = {"train_size": row.train_size, "arm": one.arm.name, "axis": axis}
            if band is not None:
                for x, mean, low, high in zip(band.x, band.mean, band.low, band.high, strict=True):
                    ends = {"low": low, "high": high, "n": band.n}
                    yield {**place, "mark": "mean", "x": x, "value": mean, **ends}
            for line in broken:
                for x, y in zip(line.x, line.y, strict=True):
                    yield {**place, "mark": "seed", "seed": line.seed, "x": x, "value": y}
    for level in row.levels:
        place = {"train_size": row.train_size, "arm": level.arm.name, "mark": "level"}
        yield {**place, "value": level.mean, "n": level.n}


def _draw_row(panels: list[Axes], row: CurveRow, info: CurvesInfo, is_first: bool) -> None:
    over_updates, over_seconds = panels[:2]
    scale = info.task.scale
    for one in row.curves:
        colour = ARM_COLOURS[one.arm.name]
        for axes, band in ((over_updates, one.updates), (over_seconds, one.seconds)):
            _draw_band(axes, band, colour, scale)
            _note_band(axes, band, one.arm.label, info.task)
        for axes, broken in (
            (over_updates, one.broken_updates), (over_seconds, one.broken_seconds),
        ):  # fmt: skip
            for line in broken:
                _draw_broken(axes, line, colour, scale)
    for axes in (over_updates, over_seconds):
        for level in row.levels:
            axes.axhline(
                scale * level.mean, color=ARM_COLOURS[level.arm.name], linewidth=LEVEL_LINE,
                linestyle=_level_style(level.arm.name), zorder=2,
            )  # fmt: skip
        axes.set_ylim(*(scale * end for end in _limits(row)))
        axes.set_xlim(left=0)
    if not any(_has_seconds(one) for one in row.curves):
        over_seconds.text(
            0.5, 0.5, "no seconds recorded", ha="center", transform=over_seconds.transAxes
        )
    over_updates.set_xlabel("updates of C after pretraining", labelpad=1)
    over_seconds.set_xlabel("seconds of a seed's training", labelpad=1)
    titles = [f"n = {size_text(row.train_size)}", "", ""]
    if is_first:
        titles[0] = f"(a) over updates, {titles[0]}"
        titles[1] = "(b) over seconds"
    if row.has_published:
        titles[2] = f"{'(c) ' * is_first}{PUBLISHED_TITLES[info.task.name]}"
        _draw_published(panels[2], info)
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(title)
        axes.xaxis.set_major_locator(MaxNLocator(5))


def _draw_band(axes: Axes, band: Band | None, colour: str, scale: float) -> None:
    if band is None:
        return
    axes.plot(band.x, scale * band.mean, color=colour, zorder=4)
    if band.n > 1:
        low, high = scale * band.low, scale * band.high
        axes.fill_between(band.x, low, high, color=colour, alpha=0.2, linewidth=0, zorder=1)


def _note_band(axes: Axes, band: Band | None, label: str, task: Task) -> None:
    """Note what the pointer shows."""
    if band is None:
        return
    for x, mean, low, high in zip(band.x, band.mean, band.low, band.high, strict=True):
        ends = f" [{task.text(low)}, {task.text(high)}], {band.n} seeds" if band.n > 1 else ""
        text = f"{label}, {x:g}: {task.text(mean)}{ends}"
        hover.note(axes, float(x), task.scale * float(mean), text)


def _draw_broken(axes: Axes, line: Line, colour: str, scale: float) -> None:
    """Draw a seed that did not train to the end, with a cross where it stops."""
    axes.plot(line.x, scale * line.y, color=colour, linewidth=0.6, linestyle=":", zorder=3)
    axes.plot(
        line.x[-1:], scale * line.y[-1:], marker="x", markersize=4, color="black", zorder=6,
        linestyle="none", markeredgewidth=0.9,
    )  # fmt: skip


def _draw_published(axes: Axes, info: CurvesInfo) -> None:
    for arm, (epochs, values) in info.published.items():
        is_curve = len(set(values)) > 1
        axes.plot(
            epochs, [info.task.scale * value for value in values], color=ARM_COLOURS[arm],
            linestyle=PUBLISHED_DASHES, linewidth=1.0 if is_curve else PUBLISHED_LINE,
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epochs, as printed", labelpad=1)


def _limits(row: CurveRow) -> tuple[float, float]:
    """Return the scores that both panels of a row show: all means, bands, lines and levels."""
    values = [level.mean for level in row.levels]
    for one in row.curves:
        for band in (one.updates, one.seconds):
            if band is not None:
                ends = (band.low, band.high) if band.n > 1 else (band.mean, band.mean)
                values += [float(ends[0].min()), float(ends[1].max())]
        values += [float(y) for line in one.broken_updates for y in line.y]
    low, high = max(min(values), 0.0), min(max(values), 1.0)
    pad = FREE_SHARE * max(high - low, SMALLEST_SPAN)
    return max(low - pad, -EDGE), min(high + pad, 1 + EDGE)


def _axis(task: Task) -> str:
    return f"Validation {task.curve.label}{' (%)' * (task.scale == 100)}"


def _level_style(arm: str) -> LineStyleType:
    """Return how a level is drawn: dotted for recommenders, whose colours are near others'."""
    return (0, (1, 1)) if arm in RECOMMENDERS else "-"


def _has_seconds(one: ArmCurves) -> bool:
    return one.seconds is not None or bool(one.broken_seconds)


def _legend_handles(info: CurvesInfo) -> list[Line2D | Patch]:
    """Return legend entries, only for what the figure holds."""
    curves = [one for row in info.rows for one in row.curves]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=ARM_COLOURS[name], label=arm_label(name))
        for name in dict.fromkeys(one.arm.name for one in reversed(curves))
    ]
    if any(one.updates is not None and one.updates.n > 1 for one in curves):
        handles.append(Patch(color=INK, alpha=0.2, linewidth=0, label="95 % t interval"))
    levels = dict.fromkeys(level.arm.name for row in info.rows for level in row.levels)
    handles += [
        Line2D([], [], color=ARM_COLOURS[name], linewidth=LEVEL_LINE,
               linestyle=_level_style(name), label=f"{arm_label(name)}, end")
        for name in levels
    ]  # fmt: skip
    if any(one.broken_updates for one in curves):
        handles.append(
            Line2D([], [], color=INK, linestyle=":", linewidth=0.6, marker="x", markersize=4,
                   markeredgecolor="black", label="diverged or failed seed")
        )  # fmt: skip
    if info.published:
        handles.append(
            Line2D([], [], color=INK, linestyle=PUBLISHED_DASHES, linewidth=1.0,
                   label="as published")
        )  # fmt: skip
    ours = {*levels, *(one.arm.name for one in curves)}
    handles += [
        Line2D([], [], color=ARM_COLOURS[name], linestyle=PUBLISHED_DASHES,
               linewidth=PUBLISHED_LINE, label=f"{arm_label(name)}, published")
        for name in info.published if name not in ours
    ]  # fmt: skip
    return handles
