"""The figure of importances drawn from its info: shares of the variation, ranges beside them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import hover
from analysis.cells import SYMBOLS
from analysis.drawing import (
    COLOURS,
    INK,
    STYLE,
    WIDTH,
    caption_height,
    caption_lines,
    draw_caption,
    place,
    save,
)
from analysis.effects import NOTE, Effect
from analysis.importance import (
    HALF_SAMPLES,
    ImportanceInfo,
    ImportancePart,
    Share,
    importance_frame,
)
from analysis.tasks import Task, size_text

# Inches, unless said otherwise.
LEFT, RIGHT, TOP, AXIS = 0.75, 0.15, 0.3, 0.42
GAP: Final = 0.75
BAR: Final = 0.23
ROW_GAP: Final = 0.3
FILL: Final = 0.62  # of a bar's place
DOTS: Final = 0.2  # below the middle of a bar, as a share of its place
RIGHT_TEXT: Final = "Right: circles are the ranges of single seeds. "
REST: Final = "interactions,\nnoise"


def draw_importance(info: ImportanceInfo) -> Figure:
    """Return the figure: a row per training size."""
    has_ranges = any(part.effects for part in info.parts)
    notes = [*([RIGHT_TEXT + NOTE] if has_ranges else []), *info.notes]
    lines = caption_lines(info.footer, notes, "importance.csv")
    heights = [BAR * max(len(part.shares) + 1, len(part.effects)) for part in info.parts]
    height = sum(heights) + len(heights) * (TOP + AXIS) + ROW_GAP * (len(heights) - 1)
    width = (WIDTH - LEFT - RIGHT - GAP) / 2
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(WIDTH, height + caption_height(lines)))
        top = 0.0
        for part, tall in zip(info.parts, heights, strict=True):
            name = f"n = {size_text(part.train_size)}"
            axes = place(figure, LEFT, top + TOP, width, tall)
            axes.set_title(f"{name}: share of the variation over the whole space")
            _draw_shares(axes, part)
            if part.effects:
                beside = place(figure, LEFT + width + GAP, top + TOP, width, tall)
                beside.set_title(f"{name}: range of one factor, others at the baseline")
                _draw_ranges(beside, part.effects, info.task)
            top += TOP + tall + AXIS + ROW_GAP
        draw_caption(figure, lines)
    return figure


def write_importance(info: ImportanceInfo, folder: Path) -> list[Path]:
    """Write importance.pdf, .png and .csv to `folder`; returns the paths."""
    return save(draw_importance(info), importance_frame(info), folder, "importance")


def _draw_shares(axes: Axes, part: ImportancePart) -> None:
    labels = [share.label for share in part.shares]
    for place_, share in enumerate(part.shares):
        axes.barh(place_, 100 * share.share, height=FILL, color=COLOURS[0], alpha=0.75)
        axes.hlines(place_, 100 * share.low, 100 * share.high, color="black", linewidth=1.1)
        hover.note(axes, 100 * share.share, place_, share_text(share))
    rest = len(part.shares)
    axes.barh(rest, 100 * part.rest, height=FILL, color="0.85", edgecolor=INK, linewidth=0.5)
    hover.note(axes, 100 * part.rest, rest, f"not of one parameter alone: {part.rest:.0%}")
    axes.set_yticks(range(rest + 1), [*labels, REST])
    axes.set_xlim(0, 100)
    axes.set_xlabel("%", labelpad=1)
    _dress(axes, rest + 1)


def _draw_ranges(axes: Axes, effects: tuple[Effect, ...], task: Task) -> None:
    ends = [0.0]
    for place_, effect in enumerate(effects):
        found = effect.range.difference
        if math.isnan(found.mean):
            continue
        mean, low, high = (task.scale * end for end in (found.mean, found.low, found.high))
        axes.barh(place_, mean, height=FILL, color=COLOURS[1], alpha=0.75)
        if not math.isnan(low):
            axes.hlines(place_, low, high, color="black", linewidth=1.1)
        seeds = [task.scale * value for value in effect.of_seed.values()]
        axes.plot(
            seeds, [place_ + DOTS] * len(seeds), linestyle="none", marker="o", markersize=2.6,
            color="black", markerfacecolor="white", markeredgewidth=0.7, zorder=5,
        )  # fmt: skip
        ends += [mean, *seeds]
        hover.note(axes, mean, place_, range_text(effect, task))
    axes.set_yticks(range(len(effects)), [SYMBOLS[effect.factor] for effect in effects])
    # An interval that one wild seed made wide is cut off: it would squeeze all that is known.
    span = max(ends) - min(ends) or 1.0
    axes.set_xlim(min(ends) - 0.05 * span, max(ends) + 0.08 * span)
    axes.axvline(0, color=INK, linewidth=0.6)
    unit = "points" if task.scale == 100 else task.score.label
    axes.set_xlabel(f"best level less worst ({unit}), 95 % t interval", labelpad=1)
    _dress(axes, len(effects))


def _dress(axes: Axes, rows: int) -> None:
    axes.set_ylim(rows - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def share_text(share: Share) -> str:
    """Return what a bar's hover says."""
    return (
        f"{share.label}: {share.share:.0%} of the variation "
        f"[{share.low:.0%}, {share.high:.0%}]; largest in {share.first} of {HALF_SAMPLES} halves"
    )


def range_text(effect: Effect, task: Task) -> str:
    """Return a factor's range in words, with its interval where there is one."""
    found = effect.range.difference
    text = f"{SYMBOLS[effect.factor]}: {task.text(found.mean)}"
    if not math.isnan(found.low):
        text += f" [{task.text(found.low)}, {task.text(found.high)}], {found.n} seeds"
    return f"{text}; best at {effect.best}, worst at {effect.worst}"
