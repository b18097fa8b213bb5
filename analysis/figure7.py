"""Figure 7 drawn from its info: a column per temperature schedule, two strips per training size.

The upper strip of a size is the variance of C's gradients, the lower one the same relative to
the squared mean gradient. The strips of a row share one axis.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.typing import LineStyleType

from analysis import columns as c
from analysis import hover
from analysis.cells import SYMBOLS
from analysis.curves import Band
from analysis.drawing import (
    COLOURS,
    INK,
    LEGEND_LINE,
    MARGIN,
    STYLE,
    WIDTH,
    caption_height,
    caption_lines,
    draw_caption,
    save,
)
from analysis.tasks import size_text
from analysis.variance import LABELS, NAIVE, VarianceInfo, VariancePanel, lemma_text

LOOKS: Final[dict[str, tuple[str, LineStyleType]]] = {
    c.ADVERSARIAL: (COLOURS[1], "-"),
    c.DISTILLATION: (COLOURS[0], "-"),
    c.MIXTURE: (COLOURS[2], (0, (5, 1.5))),
    NAIVE: (COLOURS[3], (0, (1, 1))),
}
# Inches, unless said otherwise.
LEFT, RIGHT, TOP = 0.62, 0.1, 0.08
STRIP, STRIP_GAP, COLUMN_GAP = 1.25, 0.12, 0.14
AXIS: Final = 0.38
TITLE: Final = 0.17
TEXT_LINE: Final = 0.1
TEXT_SIZE: Final = 5.5  # points
CHARACTER: Final = 0.042  # of that size, on average
LEGEND_COLUMNS: Final = 5
FREE_SHARE: Final = 0.05  # of the axis, left free below and above
MOST_COLUMNS: Final = 3  # panels side by side
WIDEST: Final = 100.0  # how far an interval may stretch an axis beyond the means


class _Layout(NamedTuple):
    """Sizes in inches that depend on what is drawn; `texts` has each panel's wrapped lines."""

    height: float
    column: float
    head: float
    below: float
    texts: dict[tuple[int, str], list[str]]

    def box(self, block: int, strip: int, column: int) -> tuple[float, float, float, float]:
        """Return left, bottom, width, height of a strip as fractions of the figure."""
        block_height = self.head + 2 * STRIP + STRIP_GAP + AXIS
        top = self.height - TOP - block * block_height - self.head
        bottom = top - STRIP - strip * (STRIP + STRIP_GAP)
        left = LEFT + column * (self.column + COLUMN_GAP)
        return (
            left / WIDTH,
            bottom / self.height,
            self.column / WIDTH,
            STRIP / self.height,
        )


def draw_variance(info: VarianceInfo) -> Figure:
    """Return Figure 7."""
    lines = caption_lines(info.footer, info.notes, "figure7.csv")
    with matplotlib.rc_context(fname=STYLE):
        handles = _legend_handles(info)
        layout = _layout(info, caption_height(lines), len(handles))
        figure = Figure(figsize=(WIDTH, layout.height))
        places = {(panel.train_size, panel.tau): panel for panel in info.panels}
        for block, (size, taus) in enumerate(_blocks(info)):
            row = [
                (column, places[size, tau])
                for column, tau in enumerate(taus)
                if (size, tau) in places
            ]
            if not row:
                continue
            for strip in (0, 1):
                limits = _limits([panel for _, panel in row], strip)
                for column, panel in row:
                    axes = figure.add_axes(layout.box(block, strip, column))
                    _draw_strip(axes, panel, strip, limits, column == row[0][0])
                    if strip == 0:
                        _write_head(axes, panel, layout)
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=((LEFT - 0.1) / WIDTH, layout.below / layout.height),
            ncols=LEGEND_COLUMNS,
            borderaxespad=0,
            columnspacing=1.4,
            handlelength=2.2,
        )
        draw_caption(figure, lines)
    return figure


def write_figure7(info: VarianceInfo, folder: Path) -> list[Path]:
    """Write figure7.pdf, .png and .csv (what is drawn) to `folder`; returns the paths."""
    return save(draw_variance(info), variance_frame(info), folder, "figure7")


def variance_frame(info: VarianceInfo) -> pd.DataFrame:
    """Return what is drawn, a record a point; `quantity` is variance or relative_variance."""
    records = [record for panel in info.panels for record in _records(panel)]
    order = ["train_size", "tau", "gradient", "quantity", "step", "mean", "low", "high", "n"]
    return pd.DataFrame(records).reindex(columns=order)


def _records(panel: VariancePanel) -> Iterator[dict[str, object]]:
    for line in panel.lines:
        for quantity, band in (("variance", line.variance), ("relative_variance", line.relative)):
            if band is None:
                continue
            place = {"train_size": panel.train_size, "tau": panel.tau, "gradient": line.name}
            for x, mean, low, high in zip(band.x, band.mean, band.low, band.high, strict=True):
                ends = {"mean": mean, "low": low, "high": high, "n": band.n}
                yield {**place, "quantity": quantity, "step": int(x), **ends}


def _blocks(info: VarianceInfo) -> list[tuple[int, tuple[str, ...]]]:
    """Return the rows of panels: a training size, and as many schedules as stand side by side."""
    parts = [
        info.taus[start : start + MOST_COLUMNS] for start in range(0, len(info.taus), MOST_COLUMNS)
    ]
    return [(size, part) for size in info.train_sizes for part in parts]


def _layout(info: VarianceInfo, caption: float, entries: int) -> _Layout:
    columns = min(len(info.taus), MOST_COLUMNS)
    column = (WIDTH - LEFT - RIGHT - COLUMN_GAP * (columns - 1)) / columns
    characters = int(column / CHARACTER)
    texts = {
        (panel.train_size, panel.tau): textwrap.wrap(lemma_text(panel), characters)
        for panel in info.panels
    }
    head = TITLE + TEXT_LINE * max((len(lines) for lines in texts.values()), default=0) + 0.06
    below = caption + -(-entries // LEGEND_COLUMNS) * LEGEND_LINE + 0.06
    block = head + 2 * STRIP + STRIP_GAP + AXIS
    return _Layout(TOP + len(_blocks(info)) * block + below, column, head, below, texts)


def _bands(panel: VariancePanel, strip: int) -> list[tuple[str, Band]]:
    """Return the bands of a strip: variances above, relative ones below."""
    bands = [(line.name, line.relative if strip else line.variance) for line in panel.lines]
    return [(name, band) for name, band in bands if band is not None]


def _limits(panels: list[VariancePanel], strip: int) -> tuple[float, float] | None:
    """Return limits of a logarithmic axis that hold all means of a row, and its intervals unless
    one is so wide that nothing else would be seen."""
    bands = [band for panel in panels for _, band in _bands(panel, strip)]
    if not bands:
        return None
    means = [float(end) for band in bands for end in (band.mean.min(), band.mean.max())]
    wide = [band for band in bands if band.n > 1]
    low = min(means + [max(float(b.low.min()), min(means) / WIDEST) for b in wide])
    high = max(means + [min(float(b.high.max()), max(means) * WIDEST) for b in wide])
    pad = (high / low) ** FREE_SHARE * 1.1
    return low / pad, high * pad


def _draw_strip(
    axes: Axes, panel: VariancePanel, strip: int, limits: tuple[float, float] | None, is_left: bool
) -> None:
    axes.set_yscale("log")
    for name, band in _bands(panel, strip):
        colour, dashes = LOOKS[name]
        axes.plot(band.x, band.mean, color=colour, linestyle=dashes, zorder=4)
        for x, mean in zip(band.x, band.mean, strict=True):
            hover.note(axes, float(x), float(mean), f"{LABELS[name]}, update {x:g}: {mean:.3g}")
        if band.n > 1:
            axes.fill_between(
                band.x, band.low, band.high, color=colour, alpha=0.2, linewidth=0, zorder=1
            )
    if limits is not None:
        axes.set_ylim(*limits)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelleft=is_left, labelbottom=strip == 1)
    if is_left:
        box = axes.get_position()
        axes.get_figure(root=True).text(  # type: ignore[union-attr]
            MARGIN / WIDTH, box.y0 + box.height / 2, "Relative variance" if strip else "Variance",
            rotation=90, ha="left", va="center", fontsize=7.5,
        )  # fmt: skip
    if strip == 1:
        axes.set_xlabel("updates of C after pretraining", labelpad=1)


def _write_head(axes: Axes, panel: VariancePanel, layout: _Layout) -> None:
    """Write above a panel what it is of and, below that, how Lemma 4.3 fares there."""
    lines = layout.texts.get((panel.train_size, panel.tau), [])
    box = axes.get_position()
    figure = axes.get_figure(root=True)
    title = f"n = {size_text(panel.train_size)}, {SYMBOLS['tau']} {panel.tau}"
    for number, text in enumerate([title, *lines]):
        drop = TITLE - 0.04 + TEXT_LINE * number
        figure.text(  # type: ignore[union-attr]
            box.x0, box.y1 + (layout.head - drop) / layout.height, text, va="bottom",
            fontsize=TEXT_SIZE if number else 7.5, color=INK if number else "black",
            parse_math=False,
        )  # fmt: skip


def _legend_handles(info: VarianceInfo) -> list[Line2D | Patch]:
    """Return legend entries, only for what the figure holds."""
    lines = [line for panel in info.panels for line in panel.lines]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=LOOKS[name][0], linestyle=LOOKS[name][1], label=LABELS[name])
        for name in LOOKS
        if any(line.name == name for line in lines)
    ]
    if any(line.variance.n > 1 for line in lines):
        handles.append(Patch(color=INK, alpha=0.2, linewidth=0, label="95 % t interval"))
    return handles
