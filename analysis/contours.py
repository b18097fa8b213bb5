"""Two factors at once: the mean score over a grid of their levels, and where training breaks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from analysis import columns as c
from analysis import hover
from analysis.cells import SYMBOLS, Cell, by_trial_id, cells_of, distinct
from analysis.drawing import (
    INK,
    LEGEND_LINE,
    MARGIN,
    STYLE,
    WIDTH,
    caption_height,
    caption_lines,
    draw_caption,
    place,
    save,
)
from analysis.frames import Runs, RunsError, origin, runs_task
from analysis.sensitivity import TAU_KINDS
from analysis.stats import t_interval
from analysis.tasks import IMAGES, Task, size_order, size_text

CROSS: Final = "×"
DASHES: Final = (0, (2, 1))
COLOURMAP: Final = "cividis"  # even in lightness, so that it reads the same in grey
BROKEN: Final = {c.COLLAPSED, c.DIVERGED, c.FAILED}
# Inches, unless said otherwise.
LEFT, RIGHT, TOP = 0.95, 0.75, 0.3
AXIS, TAU_AXIS = 0.45, 1.05
ROW: Final = 0.27
SMALLEST_SPAN: Final = 1e-4  # of a score
PLATEAU: Final = 0.01  # of a score: what counts as close to the best cell
MOST_LEVELS: Final = 7  # across, for two panels side by side


class Tile(NamedTuple):
    """One cell of a grid; `mean` is NaN if no seed has a score, `broken` counts the seeds that
    collapsed, diverged or failed."""

    across: str
    up: str
    mean: float
    low: float
    high: float
    n: int
    broken: int
    seeds: int
    is_baseline: bool


class Grid(NamedTuple):
    """A pair of factors at one training size; levels are labels in their order, ascending."""

    across: str
    up: str
    train_size: int
    across_levels: tuple[str, ...]
    up_levels: tuple[str, ...]
    tiles: tuple[Tile, ...]

    @property
    def missing(self) -> int:
        """How many of the grid's cells no trial has trained."""
        return len(self.across_levels) * len(self.up_levels) - len(self.tiles)


class ContoursInfo(NamedTuple):
    """All that the figure of grids draws and prints."""

    experiment: str
    grids: tuple[Grid, ...]
    footer: str
    notes: tuple[str, ...]
    task: Task = IMAGES


def has_grid(runs: Runs) -> bool:
    """Return whether any recorded trial belongs to a grid of two factors."""
    return bool((runs.rows[c.ROLE] == c.ROLE_GRID).any())


def contours_info(runs: Runs) -> ContoursInfo:
    """Return what the figure of grids shows, a panel per pair of factors and training size.

    Raises:
        RunsError: If there is no grid.
    """
    if not has_grid(runs):
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no grid of two factors; name one with --sweep, "
            f"or run: python sweeps/run.py {runs.sweep.experiment} --mode grid "
            "--factors beta,gamma"
        )
    cells = by_trial_id(cells_of(runs))
    rows = runs.rows[runs.rows[c.ROLE] == c.ROLE_GRID]
    based = set(runs.rows[runs.rows[c.ROLE] == c.ROLE_BASELINE][c.TRIAL_ID])
    grids = []
    for pair, ids in rows.groupby(c.FACTOR, sort=True)[c.TRIAL_ID]:
        across, up = str(pair).split(CROSS)
        chosen = distinct(cells[trial_id] for trial_id in ids)
        for size in sorted({cell.train_size for cell in chosen}, key=size_order):
            mine = [cell for cell in chosen if cell.train_size == size]
            grids.append(_grid(across, up, mine, based))
    notes = [
        f"n = {size_text(grid.train_size)}, {_name(grid)}: {grid.missing} cells not run yet."
        for grid in grids
        if grid.missing
    ]
    return ContoursInfo(
        runs.sweep.experiment, tuple(grids), _footer(grids, runs), tuple(notes), runs_task(runs)
    )


def contours_frame(info: ContoursInfo) -> pd.DataFrame:
    """Return a record per cell."""
    records = [
        {"train_size": grid.train_size, "factors": f"{grid.across}{CROSS}{grid.up}",
         grid.across: tile.across, grid.up: tile.up, info.task.score.name: tile.mean,
         "low": tile.low, "high": tile.high, "n": tile.n, "broken_seeds": tile.broken,
         "is_baseline": tile.is_baseline}
        for grid in info.grids
        for tile in grid.tiles
    ]  # fmt: skip
    return pd.DataFrame(records)


def grid_breaks(info: ContoursInfo) -> list[tuple[Grid, list[Tile]]]:
    """Return each grid with its tiles in which a seed broke."""
    return [(grid, [tile for tile in grid.tiles if tile.broken]) for grid in info.grids]


def write_contours(info: ContoursInfo, folder: Path) -> list[Path]:
    """Write contours.pdf, .png and .csv to `folder`; returns the paths."""
    return save(draw_contours(info), contours_frame(info), folder, "contours")


def draw_contours(info: ContoursInfo) -> Figure:
    """Return the figure of grids."""
    widest = max(len(grid.across_levels) for grid in info.grids)
    columns = 1 if widest > MOST_LEVELS or len(info.grids) == 1 else 2
    lines = caption_lines(info.footer, info.notes, "contours.csv")
    with matplotlib.rc_context(fname=STYLE):
        rows = [info.grids[i : i + columns] for i in range(0, len(info.grids), columns)]
        axis = TAU_AXIS if any(grid.across == "tau" for grid in info.grids) else AXIS
        heights = [ROW * max(len(grid.up_levels) for grid in row) for row in rows]
        height = sum(heights) + len(rows) * (TOP + axis) + LEGEND_LINE + 0.1
        figure = Figure(figsize=(WIDTH, height + caption_height(lines)))
        width = (WIDTH - columns * (LEFT + RIGHT)) / columns
        top = 0.0
        for row, tall in zip(rows, heights, strict=True):
            for column, grid in enumerate(row):
                left = LEFT + column * (width + LEFT + RIGHT)
                axes = place(figure, left, top + TOP, width, tall)
                bar = place(figure, left + width + 0.08, top + TOP, 0.09, tall)
                _draw_grid(axes, bar, grid, info.task)
            top += TOP + tall + axis
        figure.legend(
            handles=_legend_handles(info), loc="upper left", ncols=3, borderaxespad=0,
            bbox_to_anchor=(MARGIN / WIDTH, 1 - top / figure.get_size_inches()[1]),
        )  # fmt: skip
        draw_caption(figure, lines)
    return figure


def _grid(across: str, up: str, cells: Sequence[Cell], based: set[str]) -> Grid:
    tiles = [_tile(cell, across, up, bool(based & set(cell.trial_ids))) for cell in cells]
    return Grid(
        across,
        up,
        cells[0].train_size,
        _ordered({tile.across for tile in tiles}, across),
        _ordered({tile.up for tile in tiles}, up),
        tuple(tiles),
    )


def _ordered(labels: set[str], factor: str) -> tuple[str, ...]:
    if factor != "tau":
        return tuple(sorted(labels, key=float))
    kinds = list(TAU_KINDS)
    return tuple(sorted(labels, key=lambda label: (kinds.index(label.split()[0]), label)))


def _tile(cell: Cell, across: str, up: str, is_baseline: bool) -> Tile:
    mean = t_interval([seed.value for seed in cell.seeds if not math.isnan(seed.value)])
    broken = sum(seed.outcome in BROKEN for seed in cell.seeds)
    return Tile(
        cell.label(across), cell.label(up), mean.mean, mean.low, mean.high, mean.n, broken,
        len(cell.seeds), is_baseline,
    )  # fmt: skip


def _table(grid: Grid) -> NDArray[np.float64]:
    """Return the means, NaN where there is none; shape (levels up, levels across)."""
    table = np.full((len(grid.up_levels), len(grid.across_levels)), math.nan)
    for tile in grid.tiles:
        table[grid.up_levels.index(tile.up), grid.across_levels.index(tile.across)] = tile.mean
    return table


def _draw_grid(axes: Axes, bar: Axes, grid: Grid, task: Task) -> None:
    table = task.scale * _table(grid)
    low, high = (task.scale * end for end in _limits(grid))
    axes.set_title(f"n = {size_text(grid.train_size)}")
    axes.set_facecolor("white")
    axes.grid(visible=False)
    image = axes.imshow(
        table, cmap=COLOURMAP, vmin=low, vmax=high, origin="lower", aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    _outline(axes, table >= high - task.scale * PLATEAU)
    for tile in grid.tiles:
        _draw_tile(axes, tile, grid, task, (low + high) / 2)
    axes.set_xticks(
        range(len(grid.across_levels)), grid.across_levels,
        rotation=90 if grid.across == "tau" else 0,
    )  # fmt: skip
    axes.set_yticks(range(len(grid.up_levels)), grid.up_levels)
    axes.set_xlabel(SYMBOLS[grid.across], labelpad=1)
    axes.set_ylabel(SYMBOLS[grid.up], labelpad=1)
    figure = axes.get_figure(root=True)
    figure.colorbar(image, cax=bar)  # type: ignore[union-attr]
    bar.set_ylabel(f"Test {task.axis}", labelpad=2)
    bar.grid(visible=False)


def _limits(grid: Grid) -> tuple[float, float]:
    """Return the lowest and highest mean of cells that did not break: one that did would take
    all colours for itself."""
    known = [tile for tile in grid.tiles if tile.n]
    means = [tile.mean for tile in known if not tile.broken] or [tile.mean for tile in known]
    low, high = (min(means), max(means)) if means else (0.0, 1.0)
    return low, max(high, low + SMALLEST_SPAN)


def _outline(axes: Axes, inside: NDArray[np.bool_]) -> None:
    """Draw a line along the cells' edges around those inside; shape (levels up, across)."""
    padded = np.pad(inside, 1)
    for row, column in np.argwhere(inside):
        for step_up, step_across in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            if padded[row + 1 + step_up, column + 1 + step_across]:
                continue
            x = np.array([-0.5, 0.5]) if step_up else np.full(2, step_across / 2)
            y = np.full(2, step_up / 2) if step_up else np.array([-0.5, 0.5])
            axes.plot(column + x, row + y, color="black", linewidth=1.4, clip_on=False, zorder=5,
                      solid_capstyle="projecting")  # fmt: skip


def _draw_tile(axes: Axes, tile: Tile, grid: Grid, task: Task, middle: float) -> None:
    x, y = grid.across_levels.index(tile.across), grid.up_levels.index(tile.up)
    value = task.scale * tile.mean
    ink = "black" if math.isnan(value) or value > middle else "white"
    text = "none" if math.isnan(value) else task.short_text(tile.mean)
    axes.text(x, y, text, ha="center", va="center", fontsize=5.5, color=ink)
    if tile.broken:
        axes.add_patch(
            Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, edgecolor=ink, linewidth=1.0,
                      linestyle=DASHES)
        )  # fmt: skip
    if tile.is_baseline:
        axes.plot([x - 0.36], [y + 0.3], marker="D", markersize=3, color=ink, linestyle="none")
    hover.note(axes, x, y, _tile_text(tile, grid, task))


def _tile_text(tile: Tile, grid: Grid, task: Task) -> str:
    where = f"{SYMBOLS[grid.across]} = {tile.across}, {SYMBOLS[grid.up]} = {tile.up}: "
    text = "no score" if math.isnan(tile.mean) else task.text(tile.mean)
    if not math.isnan(tile.low):
        text += f" [{task.text(tile.low)}, {task.text(tile.high)}], {tile.n} seeds"
    return where + text + (f"; {tile.broken} of {tile.seeds} broke" if tile.broken else "")


def _legend_handles(info: ContoursInfo) -> list[Patch | Line2D]:
    """Return legend entries, only for what the figure holds."""
    tiles = list(_tiles(info.grids))
    near = f"within {info.task.text(PLATEAU)} of the best cell"
    handles: list[Patch | Line2D] = [Line2D([], [], color="black", linewidth=1.4, label=near)]
    if any(tile.broken for tile in tiles):
        handles.append(
            Patch(facecolor="none", edgecolor=INK, linestyle=DASHES,
                  label="a seed collapsed, diverged or failed")
        )  # fmt: skip
    if any(tile.is_baseline for tile in tiles):
        handles.append(
            Line2D([], [], marker="D", markersize=3, color=INK, linestyle="none",
                   label="baseline cell")
        )  # fmt: skip
    return handles


def _name(grid: Grid) -> str:
    return f"{SYMBOLS[grid.across]} {CROSS} {SYMBOLS[grid.up]}"


def _footer(grids: Sequence[Grid], runs: Runs) -> str:
    tiles = list(_tiles(grids))
    counts = sorted({tile.n for tile in tiles if tile.n})
    many = "-".join(str(n) for n in dict.fromkeys(counts[:1] + counts[-1:])) or "no"
    broken = sum(tile.broken for tile in tiles)
    return (
        f"Mean over {many} scored seeds a cell; intervals are in contours.csv. "
        f"{runs_task(runs).statement} Colours span the cells in which no seed broke. Seeds that "
        f"collapsed (in the mean), diverged or failed (not in it): {broken}. {origin(runs)}."
    )


def _tiles(grids: Sequence[Grid]) -> Iterator[Tile]:
    for grid in grids:
        yield from grid.tiles
