"""What the seed does: how scores spread between seeds, and how many seeds an answer takes.

A seed draws the training images, so it moves all cells alike; a difference paired by seed has
lost that part of the spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from analysis import columns as c
from analysis import hover
from analysis.cells import Cell, SeedPoint, cells_of
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
from analysis.frames import Runs, RunsError, origin, runs_task
from analysis.stats import half_width_at, seeds_needed
from analysis.tasks import IMAGES, Task, size_order, size_text

FEWEST_CELLS: Final = 2
MOST_SEEDS: Final = 30  # of the right panel's axis
DRAWN_CELLS: Final = 400  # of a seed; a random choice of more
# Half-widths that are asked for, as fractions of the score.
WANTED: Final = (0.01, 0.005, 0.0025)
# Inches, unless said otherwise.
LEFT, RIGHT, TOP, AXIS, GAP = 0.6, 0.15, 0.27, 0.45, 0.65
STRIP: Final = 1.5


class SeedEffect(NamedTuple):
    """One seed: its score less the cell's mean, over all cells that have every seed's score."""

    seed: int
    deviations: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.deviations))


class SeedsPart(NamedTuple):
    """One training size.

    `std` is the median over cells of the standard deviation between seeds, `paired_std` that of
    the differences between neighbouring cells paired by seed; `needed` maps a wanted half-width to
    the seeds of a mean and of a paired difference.
    """

    train_size: int
    seeds: tuple[SeedEffect, ...]
    cells: int
    left_out: int
    std: float
    paired_std: float
    needed: dict[float, tuple[int, int]]


class SeedsInfo(NamedTuple):
    """All that the figure of seeds draws and prints."""

    experiment: str
    parts: tuple[SeedsPart, ...]
    footer: str
    notes: tuple[str, ...]
    task: Task = IMAGES


def has_seeds(runs: Runs) -> bool:
    """Return whether there are cells enough with several seeds that all have a score."""
    return bool(_parts(runs))


def seeds_info(runs: Runs) -> SeedsInfo:
    """Return what the figure shows, a row per training size.

    Cells count that have a score of every seed, none of which collapsed: how a cell breaks is
    Figure 4's matter, and one such seed would be all there is to see. Search trials have seeds of
    their own and are left out.

    Raises:
        RunsError: If fewer than two such cells share their seeds.
    """
    parts = _parts(runs)
    if not parts:
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has fewer than {FEWEST_CELLS} cells with the same "
            "seeds, at least two, none of which collapsed"
        )
    left_out = sum(part.left_out for part in parts)
    footer = (
        "Left: a seed's score less its cell's mean, a dot a cell, a bar at the median. Right: "
        "expected half-width of the 95 % t interval by the median standard deviation of cells "
        "(solid) and of differences paired by seed (dashed). "
        f"Cells left out, with a seed that collapsed or has no score: {left_out}. {origin(runs)}."
    )
    notes = [needed_text(part, runs_task(runs)) for part in parts]
    return SeedsInfo(runs.sweep.experiment, tuple(parts), footer, tuple(notes), runs_task(runs))


def needed_text(part: SeedsPart, task: Task) -> str:
    """Return how many seeds a wanted half-width takes, in words."""
    unit = " points" if task.scale == 100 else ""
    first, *others = part.needed.items()
    text = (
        f"n = {size_text(part.train_size)}: a 95 % interval of ±{_trimmed(task.scale * first[0])}"
        f"{unit} takes {first[1][0]} seeds for a mean, {first[1][1]} for a paired difference"
    )
    for width, (plain, paired) in others:
        text += f"; ±{_trimmed(task.scale * width)}{unit} takes {plain} and {paired}"
    return f"{text}."


def seeds_frame(info: SeedsInfo) -> pd.DataFrame:
    """Return a record per seed and size, then one per wanted half-width."""
    records: list[dict[str, object]] = []
    for part in info.parts:
        for seed in part.seeds:
            low, high = np.quantile(seed.deviations, [0, 1])
            records.append({
                "train_size": part.train_size, "mark": "seed", "seed": seed.seed,
                "deviation": seed.median, "low": low, "high": high, "cells": part.cells,
            })  # fmt: skip
        for width, (plain, paired) in part.needed.items():
            records.append({
                "train_size": part.train_size, "mark": "needed", "half_width": width,
                "seeds": plain, "seeds_paired": paired, "std": part.std,
                "paired_std": part.paired_std,
            })  # fmt: skip
    order = ["train_size", "mark", "seed", "deviation", "low", "high", "cells", "half_width",
             "seeds", "seeds_paired", "std", "paired_std"]  # fmt: skip
    whole = dict.fromkeys(["seed", "cells", "seeds", "seeds_paired"], "Int64")
    return pd.DataFrame(records).reindex(columns=order).astype(whole)


def write_seeds(info: SeedsInfo, folder: Path) -> list[Path]:
    """Write seeds.pdf, .png and .csv to `folder`; returns the paths."""
    return save(draw_seeds(info), seeds_frame(info), folder, "seeds")


def draw_seeds(info: SeedsInfo) -> Figure:
    """Return the figure: a row per training size."""
    lines = caption_lines(info.footer, info.notes, "seeds.csv")
    block = TOP + STRIP + AXIS
    width = (WIDTH - LEFT - RIGHT - GAP) / 2
    unit = "points" if info.task.scale == 100 else info.task.score.label
    with matplotlib.rc_context(fname=STYLE):
        height = len(info.parts) * block + caption_height(lines)
        figure = Figure(figsize=(WIDTH, height))
        for row, part in enumerate(info.parts):
            name = f"n = {size_text(part.train_size)}"
            axes = place(figure, LEFT, row * block + TOP, width, STRIP)
            axes.set_title(f"{name}: what a seed adds, {part.cells} cells")
            axes.set_ylabel(f"less the cell's mean ({unit})", labelpad=2)
            _draw_deviations(axes, part, info.task)
            beside = place(figure, LEFT + width + GAP, row * block + TOP, width, STRIP)
            beside.set_title(f"{name}: how many seeds are enough")
            beside.set_ylabel(f"half-width ({unit})", labelpad=2)
            _draw_widths(beside, part, info.task)
        draw_caption(figure, lines)
    return figure


def _parts(runs: Runs) -> list[SeedsPart]:
    searching = runs.rows[c.ROLE].isin([c.ROLE_SEARCH, c.ROLE_SOBOL])
    measured = set(runs.rows[~searching][c.TRIAL_ID])
    cells: dict[int, list[Cell]] = {}
    for cell in cells_of(runs):
        if measured & set(cell.trial_ids):
            cells.setdefault(cell.train_size, []).append(cell)
    parts = [_part(size, cells[size]) for size in sorted(cells, key=size_order)]
    return [part for part in parts if part is not None]


def _part(size: int, cells: Sequence[Cell]) -> SeedsPart | None:
    sound = [cell for cell in cells if all(_is_sound(seed) for seed in cell.seeds)]
    if not sound:
        return None
    # Cells are compared seed by seed, so they must have the same: those most of them have.
    sets = [tuple(seed.seed for seed in cell.seeds) for cell in sound]
    common = max(dict.fromkeys(sets), key=lambda found: (sets.count(found), len(found)))
    sound = [cell for cell, found in zip(sound, sets, strict=True) if found == common]
    if len(sound) < FEWEST_CELLS or len(common) < 2:
        return None
    table = np.array([[seed.value for seed in cell.seeds] for cell in sound])
    centred = table - table.mean(axis=1, keepdims=True)
    std = float(np.median(table.std(axis=1, ddof=1)))
    paired = float(np.median([np.std(one - other, ddof=1) for one, other in pairwise(table)]))
    return SeedsPart(
        train_size=size,
        seeds=tuple(
            SeedEffect(seed, tuple(map(float, centred[:, i]))) for i, seed in enumerate(common)
        ),
        cells=len(sound),
        left_out=len(cells) - len(sound),
        std=std,
        paired_std=paired,
        needed={
            width: (seeds_needed(std, width), seeds_needed(paired, width)) for width in WANTED
        },
    )


def _is_sound(seed: SeedPoint) -> bool:
    return seed.outcome == c.FINISHED and not math.isnan(seed.value)


def _draw_deviations(axes: Axes, part: SeedsPart, task: Task) -> None:
    generator = np.random.default_rng(0)
    for place_, seed in enumerate(part.seeds):
        values = task.scale * np.array(seed.deviations)
        if len(values) > DRAWN_CELLS:
            values = generator.choice(values, DRAWN_CELLS, replace=False)
        x = place_ + generator.uniform(-0.22, 0.22, len(values))
        axes.plot(x, values, linestyle="none", marker=".", markersize=3, color=COLOURS[0],
                  alpha=0.6, markeredgewidth=0)  # fmt: skip
        middle = task.scale * seed.median
        axes.hlines(middle, place_ - 0.32, place_ + 0.32, color="black", linewidth=1.4, zorder=4)
        text = f"seed {seed.seed}: median {task.text(seed.median, '+')} over {part.cells} cells"
        hover.note(axes, place_, middle, text)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_xticks(range(len(part.seeds)), [str(seed.seed) for seed in part.seeds])
    axes.set_xlabel("seed", labelpad=1)


def _draw_widths(axes: Axes, part: SeedsPart, task: Task) -> None:
    counts = range(2, MOST_SEEDS + 1)
    now = len(part.seeds)
    looks = ((part.std, "-", "mean"), (part.paired_std, "--", "paired difference"))
    for std, dashes, name in looks:
        widths = [task.scale * half_width_at(n, std) for n in counts]
        axes.plot(counts, widths, color=COLOURS[0], linestyle=dashes, marker="none", label=name)
        for n, width in zip(counts, widths, strict=True):
            unit = " points" if task.scale == 100 else ""
            hover.note(axes, n, width, f"{n} seeds, {name}: ±{width:.3g}{unit}")
    axes.axvline(now, color=INK, linewidth=0.6, linestyle=":", label=f"{now} seeds, as run")
    # With two seeds the interval is so wide that the rest of the axis would be empty.
    axes.set_ylim(0, 1.15 * task.scale * half_width_at(min(now, 3), max(part.std, 1e-9)))
    axes.xaxis.set_major_locator(FixedLocator([2, 5, 10, 15, 20, 25, 30]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("seeds", labelpad=1)
    axes.legend(loc="upper right")


def _trimmed(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")
