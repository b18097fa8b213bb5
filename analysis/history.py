"""How a search went on: the value of each trial in the order they started, and the best so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis import columns as c
from analysis import hover
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
from analysis.frames import Runs, RunsError, origin, runs_task
from analysis.methods import arm_label
from analysis.search_trials import BROKEN, Branch, search_branches
from analysis.tasks import IMAGES, Task, size_text

# Inches, unless said otherwise.
LEFT, RIGHT, TOP, AXIS = 0.6, 0.12, 0.27, 0.4
STRIP, COLUMN_GAP = 1.25, 0.5
COLUMNS, MOST_COLUMNS = 2, 4  # more than four panels stand four in a row
FREE_SHARE: Final = 0.06
FENCE: Final = 3.0  # interquartile ranges below the lower quartile, where the axis ends


class HistoryInfo(NamedTuple):
    """All that the figure of the search's history draws and prints."""

    experiment: str
    branches: tuple[Branch, ...]
    footer: str
    notes: tuple[str, ...]
    task: Task = IMAGES


def has_search(runs: Runs) -> bool:
    """Return whether any recorded trial was asked for by a search of the space; the few trials
    that tune each arm of a table are no history."""
    rows = runs.rows
    return bool(((rows[c.ROLE] == c.ROLE_SEARCH) & (rows[c.FACTOR] != c.FACTOR_METHOD)).any())


def history_info(runs: Runs) -> HistoryInfo:
    """Return what the figure shows, a panel per search.

    Raises:
        RunsError: If there is no search.
    """
    branches = search_branches(runs)
    if not branches:
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no search; name one with --sweep, or run: "
            f"python sweeps/run.py {runs.sweep.experiment} --mode search"
        )
    task = runs_task(runs)
    notes = []
    for branch in branches:
        failed = sum(trial.outcome == c.FAILED for trial in branch.trials)
        if failed:
            notes.append(f"{branch_name(branch)}: {failed} trial(s) failed, without a value.")
    count = sum(len(branch.trials) for branch in branches)
    footer = (
        f"{count} search trials. A trial's value is what its Optuna study holds: validation "
        f"{task.score.label}, the mean over its seeds at their best check; a collapsed seed "
        f"counts with its last check, a diverged one as 0. {origin(runs)}."
    )
    return HistoryInfo(runs.sweep.experiment, tuple(branches), footer, tuple(notes), task)


def branch_name(branch: Branch) -> str:
    """Return 'n = 100', with the arm where several methods were tuned."""
    arm = f", {arm_label(branch.arm)}" if branch.arm else ""
    return f"n = {size_text(branch.train_size)}{arm}"


def best_so_far(branch: Branch) -> list[float]:
    """Return for each trial the highest value until then, NaN before the first."""
    values = np.array([trial.value for trial in branch.trials])
    best = np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values))
    return [float(value) if math.isfinite(value) else math.nan for value in best]


def history_frame(info: HistoryInfo) -> pd.DataFrame:
    """Return a record per trial."""
    return pd.DataFrame(
        [
            {"train_size": branch.train_size, "arm": branch.arm, "number": trial.number,
             "trial_id": trial.trial_id, "outcome": trial.outcome, "value": trial.value,
             "best_so_far": best, **trial.knobs}
            for branch in info.branches
            for trial, best in zip(branch.trials, best_so_far(branch), strict=True)
        ]
    )  # fmt: skip


def write_history(info: HistoryInfo, folder: Path) -> list[Path]:
    """Write history.pdf, .png and .csv to `folder`; returns the paths."""
    return save(draw_history(info), history_frame(info), folder, "history")


def draw_history(info: HistoryInfo) -> Figure:
    """Return the figure."""
    lines = caption_lines(info.footer, info.notes, "history.csv")
    count = len(info.branches)
    columns = min(COLUMNS if count <= MOST_COLUMNS else MOST_COLUMNS, count)
    rows = -(-len(info.branches) // columns)
    height = rows * (TOP + STRIP + AXIS) + LEGEND_LINE + 0.1
    width = (WIDTH - columns * (LEFT + RIGHT)) / columns
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(WIDTH, height + caption_height(lines)))
        for number, branch in enumerate(info.branches):
            row, column = divmod(number, columns)
            left = LEFT + column * (width + LEFT + RIGHT)
            axes = place(figure, left, row * (TOP + STRIP + AXIS) + TOP, width, STRIP)
            _draw_branch(axes, branch, info.task)
            axes.set_title(branch_name(branch))
            if row == rows - 1 or number + columns >= len(info.branches):
                axes.set_xlabel("trial, in order", labelpad=1)
            if column == 0:
                unit = " (%)" if info.task.scale == 100 else ""
                axes.set_ylabel(f"Validation {info.task.score.label}{unit}", labelpad=2)
        top = 1 - rows * (TOP + STRIP + AXIS) / figure.get_size_inches()[1]
        figure.legend(
            handles=_legend_handles(info), loc="upper left", ncols=5, borderaxespad=0,
            bbox_to_anchor=((LEFT - 0.1) / WIDTH, top),
        )  # fmt: skip
        draw_caption(figure, lines)
    return figure


def value_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return limits that hold all values but those far below the others."""
    known = np.array([value for value in values if not math.isnan(value)])
    if not known.size:
        return 0.0, 1.0
    lower, upper = np.quantile(known, [0.25, 0.75])
    shown = known[known >= lower - FENCE * max(upper - lower, 0.01)]
    span = max(float(np.ptp(shown)), 0.005)
    return float(shown.min()) - FREE_SHARE * span, float(shown.max()) + FREE_SHARE * span


def marker_of(outcome: str) -> tuple[str, str]:
    """Return a trial's marker and whether its face is filled ('full') or not ('none')."""
    if outcome in BROKEN:
        return "s", "none"
    return "o", "none" if outcome == c.STOPPED else "full"


class Mark(NamedTuple):
    """A trial in a panel: where, its value and outcome, and what the pointer shows."""

    x: float
    value: float
    outcome: str
    text: str


def draw_marks(axes: Axes, marks: Sequence[Mark], low: float, scale: float, colour: str) -> None:
    """Draw trials, all of one look at once: there may be thousands.

    Args:
        axes: Shows values times `scale`.
        marks: The trials.
        low: Those below it are drawn at the lower edge.
        scale: What values are printed times.
        colour: Of all marks.
    """
    looks: dict[tuple[str, str, bool], list[Mark]] = {}
    for mark in marks:
        looks.setdefault((*marker_of(mark.outcome), mark.value < low), []).append(mark)
    for (marker, fill, is_below), found in looks.items():
        transform = axes.get_xaxis_transform() if is_below else axes.transData
        axes.plot(
            [mark.x for mark in found],
            [0.0 if is_below else scale * mark.value for mark in found],
            transform=transform, marker="v" if is_below else marker, markersize=3.4,
            color=colour, markerfacecolor=colour if fill == "full" else "white",
            markeredgewidth=0.7, linestyle="none", clip_on=False, zorder=4,
        )  # fmt: skip
    for mark in sorted(marks, key=lambda mark: -mark.value)[: hover.MOST]:
        is_below = mark.value < low
        height = 0.01 if is_below else scale * mark.value
        hover.note(
            axes, mark.x, height, mark.text,
            axes.get_xaxis_transform() if is_below else axes.transData,
        )  # fmt: skip


def _draw_branch(axes: Axes, branch: Branch, task: Task) -> None:
    scale = task.scale
    low, high = value_limits([trial.value for trial in branch.trials])
    numbers = [trial.number for trial in branch.trials]
    best = [scale * value for value in best_so_far(branch)]
    axes.plot(numbers, best, color=COLOURS[1], drawstyle="steps-post", marker="none", zorder=3)
    marks = [
        Mark(
            trial.number, trial.value, trial.outcome,
            f"trial {trial.number} ({trial.trial_id}), {trial.outcome}: {task.text(trial.value)}",
        )
        for trial in branch.trials
        if not math.isnan(trial.value)
    ]  # fmt: skip
    draw_marks(axes, marks, low, scale, COLOURS[0])
    axes.set_ylim(scale * low, scale * high)
    axes.set_xlim(-0.5, max(numbers) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _legend_handles(info: HistoryInfo) -> list[Line2D]:
    """Return legend entries, only for what the figure holds."""
    trials = [trial for branch in info.branches for trial in branch.trials]
    ended = {trial.outcome for trial in trials}
    blue = COLOURS[0]

    def dot(marker: str, label: str, face: str = blue) -> Line2D:
        return Line2D([], [], color=blue, marker=marker, markersize=3.6, linestyle="none",
                      markerfacecolor=face, label=label)  # fmt: skip

    handles = [Line2D([], [], color=COLOURS[1], marker="none", label="best so far")]
    if c.FINISHED in ended:
        handles.append(dot("o", "finished"))
    if c.STOPPED in ended:
        handles.append(dot("o", "stopped early", "white"))
    if ended & (BROKEN - {c.FAILED}):
        handles.append(dot("s", "a seed collapsed or diverged", "white"))
    values = [[trial.value for trial in branch.trials] for branch in info.branches]
    if any(np.nanmin([*found, math.inf]) < value_limits(found)[0] for found in values):
        handles.append(dot("v", "below the axis"))
    for handle in handles:
        handle.set_markeredgecolor(blue if handle.get_marker() != "none" else INK)
    return handles
