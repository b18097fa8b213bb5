"""Slices through a search: the value of each trial over one parameter at a time.

The other parameters differ from trial to trial, so a slice shows where good trials lie and no
curve; the curves are Figure 4's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from analysis import columns as c
from analysis.cells import SYMBOLS
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
from analysis.history import Mark, branch_name, draw_marks, value_limits
from analysis.search_trials import KNOBS, Branch, search_branches
from analysis.sensitivity import TAU_KINDS
from analysis.tasks import IMAGES, Task

ROLES: Final = (c.ROLE_SEARCH, c.ROLE_SOBOL)
TAU: Final = SYMBOLS["tau"]
NAMES: Final = {
    c.ALPHA: SYMBOLS["alpha"], c.BETA: SYMBOLS["beta"], c.GAMMA: SYMBOLS["gamma"],
    c.TAU_KIND: f"{TAU} shape", c.TAU_START: f"{TAU} start", c.TAU_END: f"{TAU} end",
}  # fmt: skip
LOGARITHMIC: Final = {c.BETA, c.GAMMA, c.TAU_START, c.TAU_END}
LOOKS: Final = {c.ROLE_SEARCH: COLOURS[0], c.ROLE_SOBOL: COLOURS[2]}
SHORT: Final = {
    "exponential": "exp", "linear": "lin", "cosine": "cos", "constant": "const",
}  # fmt: skip
JITTER: Final = 0.25  # of a category's place, so that trials of one shape do not hide each other
# Inches, unless said otherwise.
LEFT, RIGHT, TOP = 0.55, 0.1, 0.27
STRIP, GAP, AXIS, ROW_GAP = 1.2, 0.1, 0.42, 0.1


class Slice(NamedTuple):
    """One search over one parameter: x, value, outcome and trial of each trial with both.

    `labels` names the positions 0, 1, ... of a categorical axis, else is empty.
    """

    name: str
    labels: tuple[str, ...]
    x: tuple[float, ...]
    values: tuple[float, ...]
    outcomes: tuple[str, ...]
    trial_ids: tuple[str, ...]


class SliceRow(NamedTuple):
    """One search or design: a slice per parameter that varies, the best trial marked in each."""

    branch: Branch
    slices: tuple[Slice, ...]


class SlicesInfo(NamedTuple):
    """All that the figure of slices draws and prints."""

    experiment: str
    rows: tuple[SliceRow, ...]
    footer: str
    notes: tuple[str, ...]
    task: Task = IMAGES


def has_slices(runs: Runs) -> bool:
    """Return whether a search or a design varies a parameter."""
    return bool(_rows(runs))


def slices_info(runs: Runs) -> SlicesInfo:
    """Return what the figure shows, a row per search or design.

    Arms of a methods sweep are left out: what is tuned of them are other parameters.

    Raises:
        RunsError: If no search or design varies a parameter.
    """
    rows = _rows(runs)
    if not rows:
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no search over {SYMBOLS['alpha']}, "
            f"{SYMBOLS['beta']}, {SYMBOLS['gamma']} and {TAU}; name one with --sweep, or run: "
            f"python sweeps/run.py {runs.sweep.experiment} --mode search"
        )
    task = runs_task(runs)
    count = sum(len(row.branch.trials) for row in rows)
    footer = (
        f"{count} trials, each at its own setting of all parameters: a slice shows where good "
        f"trials lie, not what one parameter does. Values: validation {task.score.label} as the "
        f"search's study holds it. {origin(runs)}."
    )
    return SlicesInfo(runs.sweep.experiment, tuple(rows), footer, (), task)


def slices_frame(info: SlicesInfo) -> pd.DataFrame:
    """Return a record per trial and parameter."""
    return pd.DataFrame(
        [
            {"train_size": row.branch.train_size, "role": row.branch.role, "parameter": one.name,
             "level": one.labels[int(x)] if one.labels else f"{x:g}", "value": value,
             "outcome": outcome, "trial_id": trial_id}
            for row in info.rows
            for one in row.slices
            for x, value, outcome, trial_id in zip(
                one.x, one.values, one.outcomes, one.trial_ids, strict=True
            )
        ]
    )  # fmt: skip


def write_slices(info: SlicesInfo, folder: Path) -> list[Path]:
    """Write slices.pdf, .png and .csv to `folder`; returns the paths."""
    return save(draw_slices(info), slices_frame(info), folder, "slices")


def draw_slices(info: SlicesInfo) -> Figure:
    """Return the figure."""
    lines = caption_lines(info.footer, info.notes, "slices.csv")
    columns = max(len(row.slices) for row in info.rows)
    width = (WIDTH - LEFT - RIGHT - GAP * (columns - 1)) / columns
    block = TOP + STRIP + AXIS + ROW_GAP
    height = len(info.rows) * block + LEGEND_LINE + 0.1
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(WIDTH, height + caption_height(lines)))
        for number, row in enumerate(info.rows):
            limits = value_limits([trial.value for trial in row.branch.trials])
            for column, one in enumerate(row.slices):
                left = LEFT + column * (width + GAP)
                axes = place(figure, left, number * block + TOP, width, STRIP)
                _draw_slice(axes, one, row.branch, limits, info.task)
                axes.tick_params(labelleft=column == 0)
                if column == 0:
                    kind = "search" if row.branch.role == c.ROLE_SEARCH else "Sobol design"
                    axes.set_title(f"{branch_name(row.branch)}, {kind}", loc="left")
                    unit = " (%)" if info.task.scale == 100 else ""
                    axes.set_ylabel(f"Validation {info.task.score.label}{unit}", labelpad=2)
        top = 1 - len(info.rows) * block / figure.get_size_inches()[1]
        figure.legend(
            handles=_legend_handles(info), loc="upper left", ncols=5, borderaxespad=0,
            bbox_to_anchor=((LEFT - 0.1) / WIDTH, top),
        )  # fmt: skip
        draw_caption(figure, lines)
    return figure


def _rows(runs: Runs) -> list[SliceRow]:
    return [
        SliceRow(branch, slices)
        for branch in search_branches(runs, ROLES)
        if not branch.arm and (slices := tuple(_slices(branch)))
    ]


def _slices(branch: Branch) -> Iterator[Slice]:
    for name in KNOBS:
        pairs = [(t.knobs[name], t) for t in branch.trials if t.knobs[name] is not None]
        pairs = [(knob, trial) for knob, trial in pairs if not math.isnan(trial.value)]
        if len({knob for knob, _ in pairs}) < 2:
            continue
        labels: tuple[str, ...] = ()
        if name == c.TAU_KIND:
            labels = tuple(kind for kind in TAU_KINDS if kind in {knob for knob, _ in pairs})
        yield Slice(
            name,
            labels,
            tuple(float(labels.index(knob)) if labels else float(knob) for knob, _ in pairs),
            tuple(trial.value for _, trial in pairs),
            tuple(trial.outcome for _, trial in pairs),
            tuple(trial.trial_id for _, trial in pairs),
        )


def _draw_slice(
    axes: Axes, one: Slice, branch: Branch, limits: tuple[float, float], task: Task
) -> None:
    low, high = limits
    colour = LOOKS[branch.role]
    generator = np.random.default_rng(0)
    moved = generator.uniform(-JITTER, JITTER, len(one.x)) if one.labels else np.zeros(len(one.x))
    places = (np.array(one.x) + moved).tolist()
    marks = [
        Mark(
            x, value, outcome,
            f"{NAMES[one.name]} = {one.labels[round(at)] if one.labels else f'{at:.3g}'}: "
            f"{task.text(value)}, {outcome}, trial {trial_id}",
        )
        for x, at, value, outcome, trial_id in zip(
            places, one.x, one.values, one.outcomes, one.trial_ids, strict=True
        )
    ]  # fmt: skip
    draw_marks(axes, marks, low, task.scale, colour)
    best = branch.best
    if best is not None:
        axes.plot(
            [places[one.trial_ids.index(best.trial_id)]] if best.trial_id in one.trial_ids else [],
            [task.scale * best.value] if best.trial_id in one.trial_ids else [],
            marker="o", markersize=5.5, color=COLOURS[1], markeredgecolor="black",
            markeredgewidth=0.7, linestyle="none", clip_on=False, zorder=6,
        )  # fmt: skip
    _dress(axes, one)
    axes.set_ylim(task.scale * low, task.scale * high)


def _dress(axes: Axes, one: Slice) -> None:
    axes.set_xlabel(NAMES[one.name], labelpad=1)
    if one.labels:
        axes.set_xticks(range(len(one.labels)), [SHORT.get(name, name) for name in one.labels])
        axes.set_xlim(-0.6, len(one.labels) - 0.4)
        return
    if one.name in LOGARITHMIC:
        axes.set_xscale("log")
        logs = np.log10(one.x)
        pad = 0.06 * float(np.ptp(logs))
        axes.set_xlim(10 ** (logs.min() - pad), 10 ** (logs.max() + pad))
        ticks = log_ticks(float(logs.min()), float(logs.max()))
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        if float(np.ptp(logs)) < 2.0:
            axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
        axes.xaxis.set_minor_locator(NullLocator())
        return
    pad = 0.06 * float(np.ptp(one.x))
    axes.set_xlim(min(one.x) - pad, max(one.x) + pad)
    axes.xaxis.set_major_locator(MaxNLocator(3))


def log_ticks(low: float, high: float) -> list[float]:
    """Return up to three ticks between 10**low and 10**high, away from the ends, where labels of
    neighbouring panels would meet: powers of ten, over less than two decades 1, 2 and 5 times."""
    margin = 0.12 * (high - low)
    digits = (1, 2, 5) if high - low < 2.0 else (1,)
    every = [d * 10.0**n for n in range(math.floor(low), math.ceil(high) + 1) for d in digits]
    inner = [tick for tick in every if low + margin <= math.log10(tick) <= high - margin]
    return inner[:: max(1, math.ceil((len(inner) - 1) / 2))]


def _legend_handles(info: SlicesInfo) -> list[Line2D]:
    """Return legend entries, only for what the figure holds."""
    roles = dict.fromkeys(row.branch.role for row in info.rows)
    names = {c.ROLE_SEARCH: "search trial", c.ROLE_SOBOL: "trial of the Sobol design"}
    handles = [_dot(LOOKS[role], names[role]) for role in roles]
    outcomes = {trial.outcome for row in info.rows for trial in row.branch.trials}
    if c.STOPPED in outcomes:
        handles.append(_dot(INK, "stopped early", face="white"))
    if outcomes & {c.COLLAPSED, c.DIVERGED}:
        handles.append(_dot(INK, "a seed collapsed or diverged", "s", "white"))
    handles.append(_dot("black", "best", face=COLOURS[1], size=5.5))
    return handles


def _dot(
    colour: str, label: str, marker: str = "o", face: str | None = None, size: float = 3.2
) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, markersize=size, linestyle="none",
                  markerfacecolor=face or colour, markeredgewidth=0.7, label=label)  # fmt: skip
