"""The parts of a report: each figure and table that the sweeps have runs for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis import columns as c
from analysis.contours import contours_frame, contours_info, draw_contours, has_grid
from analysis.curves import curve_trials, curves_info
from analysis.effects import Effect, effects_of
from analysis.figure3 import curves_frame, draw_curves
from analysis.figure5 import draw_figure5, figure5_frame, figure5_info
from analysis.figure7 import draw_variance, variance_frame
from analysis.figures import draw_sensitivity, has_sensitivity, sensitivity_info
from analysis.frames import Runs, RunsError, runs_task
from analysis.history import draw_history, has_search, history_frame, history_info
from analysis.images import image_trials
from analysis.importance import ImportanceInfo, has_design, importance_frame, importance_info
from analysis.importance_figure import draw_importance
from analysis.marks import points_frame
from analysis.methods import has_methods
from analysis.outputs import Readers
from analysis.paper import PublishedMode
from analysis.seconds import draw_seconds, has_seconds, seconds_frame, seconds_info
from analysis.seeds import draw_seeds, has_seeds, seeds_frame, seeds_info
from analysis.slices import draw_slices, has_slices, slices_frame, slices_info
from analysis.table1 import table_info
from analysis.table1_pages import markdown
from analysis.table2 import table2_info
from analysis.table2_pages import table2_markdown
from analysis.tables import best_markdown
from analysis.tasks import IMAGES, TAGS
from analysis.variance import variance_info, variance_trials

# What two sweeps must share for one's ranges to stand beside the other's importances.
SETTINGS: Final = (c.METHOD, c.ESTIMATOR, c.STEPS, c.BATCH_SIZE)
READING: Final = {
    "sensitivity": (
        "One factor moves at a time, the others stay at the baseline, the diamond. The line is "
        "the mean over seeds, the band its 95 % interval; every dot is a seed, an open ring one "
        "that collapsed: it ended below the student it started from."
    ),
    "importance": (
        "Left, over the whole search space with everything else varying too; right, around the "
        "baseline alone. A factor may matter in one and not in the other: the baseline may lie "
        "where a factor is harmless."
    ),
    "contours": (
        "Each cell is a pair of levels, the number its mean score. Dashed cells broke; the thick "
        "line runs around all cells nearly as good as the best one."
    ),
    "slices": "Where the search and the Sobol design looked, and what it came to.",
    "history": "Every trial of the search in order, and the best value until then.",
    "seconds": "Up and left is better: a good score for little training time.",
    "seeds": (
        "A seed draws the training images, which shifts all settings alike as far as the bars on "
        "the left lie apart. Differences paired by seed are free of that shift and then need "
        "fewer seeds."
    ),
    "figure3": "Validation score while C trains, over updates and over seconds.",
    "figure7": (
        "The variance of C's gradient under each loss. The paper's Lemma 4.3 needs that of the "
        "distillation to be the smaller one."
    ),
}


class Source(NamedTuple):
    """A sweep, or methods sweeps put together, and what reads the files of its trials."""

    runs: Runs
    read: Readers


class Section(NamedTuple):
    """A part of the report: a figure with its points, or a page of tables in Markdown.

    `name` is its anchor and the name of the file that holds its points; `sweep_id` says whose
    runs it shows.
    """

    name: str
    title: str
    reading: str
    sweep_id: str
    figure: Callable[[], Figure] | None = None
    frame: pd.DataFrame | None = None
    page: str = ""


def first_with(sources: Sequence[Source], has: Callable[[Runs], bool]) -> Source | None:
    """Return the first source whose runs are for something."""
    return next((source for source in sources if has(source.runs)), None)


def best_measured(sources: Sequence[Source], has: Callable[[Runs], bool]) -> Source | None:
    """Return the source, of those whose runs are for something, with the most seeds a trial; of
    several the one with the most trials, then the first."""

    def measured(source: Source) -> tuple[float, int]:
        seeds = source.runs.trials.groupby(c.TRIAL_ID)[c.SEED].nunique()
        return float(seeds.median()), len(seeds)

    return max((one for one in sources if has(one.runs)), key=measured, default=None)


def importance_of(sources: Sequence[Source]) -> ImportanceInfo | None:
    """Return the importances of the latest design, ranges beside them if a sweep of the same
    settings has them; None without a design that is scored."""
    source = first_with(sources, has_design)
    if source is None:
        return None
    effects: list[Effect] = []
    notes: list[str] = []
    cuts = first_with(sources, has_sensitivity)
    if cuts is not None:
        effects = effects_of(sensitivity_info(cuts.runs, "none"))
        for size in sorted({effect.train_size for effect in effects}):
            differing = unlike(source.runs, cuts.runs, size)
            if differing:
                effects = [effect for effect in effects if effect.train_size != size]
                notes.append(
                    f"n = {size:,}: ranges are left out, sweep {cuts.runs.sweep.sweep_id} has "
                    f"another {' and '.join(differing)}."
                )
    try:
        info = importance_info(source.runs, effects)
    except RunsError:
        return None
    return info._replace(notes=(*info.notes, *notes))


def unlike(first: Runs, second: Runs, size: int) -> list[str]:
    """Return the settings that two sweeps differ in at a training size."""

    def values(runs: Runs, name: str) -> set[object]:
        return set(runs.trials[runs.trials[c.TRAIN_SIZE] == size][name].dropna())

    found = []
    for name in SETTINGS:
        one, other = values(first, name), values(second, name)
        if one and other and one != other:
            found.append(name)
    return found


def sections_of(
    sources: Sequence[Source], importance: ImportanceInfo | None, published: PublishedMode
) -> Iterator[Section]:
    """Yield the parts of the report that there are runs for, each of the latest sweep that has
    them.

    Args:
        sources: The most recently started sweep first.
        importance: As `importance_of` returns it.
        published: What of the paper stands beside our numbers.
    """
    source = first_with(sources, has_sensitivity)
    if source is not None:
        yield _sensitivity(source.runs, published)
    if importance is not None:
        yield Section(
            "importance", "Which parameter matters", READING["importance"],
            _sweep(first_with(sources, has_design)), partial(draw_importance, importance),
            importance_frame(importance),
        )  # fmt: skip
    source = first_with(sources, has_grid)
    if source is not None:
        grids = contours_info(source.runs)
        yield Section(
            "contours", "Two factors at once", READING["contours"], _sweep(source),
            partial(draw_contours, grids), contours_frame(grids),
        )  # fmt: skip
    yield from _methods(sources, published)
    yield from _search(sources)
    source = first_with(sources, has_seeds)
    if source is not None:
        seeds = seeds_info(source.runs)
        yield Section(
            "seeds", "How much the seed does, and how many are enough", READING["seeds"],
            _sweep(source), partial(draw_seeds, seeds), seeds_frame(seeds),
        )  # fmt: skip
    source = first_with(sources, lambda runs: bool(variance_trials(runs)))
    if source is not None:
        variances = variance_info(source.runs, source.read.curves(variance_trials(source.runs)))
        yield Section(
            "figure7", "Figure 7: the variance of gradients", READING["figure7"], _sweep(source),
            partial(draw_variance, variances), variance_frame(variances),
        )  # fmt: skip


def _sensitivity(runs: Runs, published: PublishedMode) -> Section:
    title = "one factor at a time"
    if runs_task(runs) is TAGS:
        tags = figure5_info(runs, published)
        return Section(
            "figure5", f"Figure 5: {title}", READING["sensitivity"], runs.sweep.sweep_id,
            partial(draw_figure5, tags), figure5_frame(tags),
        )  # fmt: skip
    info = sensitivity_info(runs, published)
    return Section(
        "figure4", f"Figure 4: {title}", READING["sensitivity"], runs.sweep.sweep_id,
        partial(draw_sensitivity, info), points_frame(info),
    )  # fmt: skip


def _methods(sources: Sequence[Source], published: PublishedMode) -> Iterator[Section]:
    """Yield Table 1 or 2, training curves, and scores against seconds."""
    source = first_with(sources, has_methods)
    if source is not None:
        runs = source.runs
        task, with_published = runs_task(runs), published != "none"
        if task is IMAGES:
            page = markdown(table_info(runs, with_published))
        else:
            images = source.read.images(image_trials(runs))
            page = table2_markdown(table2_info(runs, images, with_published))
        title = f"Table {task.table}: methods compared"
        # The page begins with a title of its own.
        yield Section(
            f"table{task.table}", title, "", _sweep(source), page=page.partition("\n")[2]
        )
        try:
            curves = curves_info(runs, source.read.curves(curve_trials(runs)), with_published)
        except RunsError:
            curves = None  # runs of an older version have none
        if curves is not None:
            yield Section(
                "figure3", "Figure 3: training curves", READING["figure3"], _sweep(source),
                partial(draw_curves, curves), curves_frame(curves),
            )  # fmt: skip
    timed = [found for found in sources if has_seconds(found.runs)]
    # Arms say more than settings of one method.
    source = first_with(timed, has_methods) or best_measured(timed, has_seconds)
    if source is not None:
        seconds = seconds_info(source.runs)
        yield Section(
            "seconds", "Score against training seconds", READING["seconds"], _sweep(source),
            partial(draw_seconds, seconds), seconds_frame(seconds),
        )  # fmt: skip


def _search(sources: Sequence[Source]) -> Iterator[Section]:
    source = first_with(sources, has_slices)
    if source is not None:
        slices = slices_info(source.runs)
        yield Section(
            "slices", "What was tried", READING["slices"], _sweep(source),
            partial(draw_slices, slices), slices_frame(slices),
        )  # fmt: skip
    source = first_with(sources, has_search)
    if source is not None:
        history = history_info(source.runs)
        yield Section(
            "history", "How the search went on", READING["history"], _sweep(source),
            partial(draw_history, history), history_frame(history),
        )  # fmt: skip
    source = best_measured(sources, lambda runs: not has_methods(runs))
    if source is not None:
        yield Section(
            "best", "Best configurations", "", _sweep(source),
            page=best_markdown(source.runs).partition("\n")[2],
        )  # fmt: skip


def _sweep(source: Source | None) -> str:
    return "" if source is None else source.runs.sweep.sweep_id
