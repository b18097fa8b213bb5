"""What is written of a sweep: what was asked for, or else all that its runs are for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd

from analysis import columns as c
from analysis.contours import contours_info, write_contours
from analysis.curves import curve_trials, curves_info
from analysis.effects import effects_of
from analysis.figure3 import write_figure3
from analysis.figure5 import figure5_info, write_figure5
from analysis.figure7 import write_figure7
from analysis.figures import has_sensitivity, sensitivity_info, write_figure
from analysis.frames import Runs, RunsError, runs_task
from analysis.history import has_search, history_info, write_history
from analysis.images import image_trials
from analysis.importance import importance_info
from analysis.importance_figure import write_importance
from analysis.methods import has_methods
from analysis.paper import PublishedMode
from analysis.ranks import rank_text, ranks_of, write_ranks
from analysis.seconds import seconds_info, write_seconds
from analysis.seeds import seeds_info, write_seeds
from analysis.slices import slices_info, write_slices
from analysis.table1 import table_info
from analysis.table1_pages import write_table1
from analysis.table2 import table2_info
from analysis.table2_pages import write_table2
from analysis.tables import write_best
from analysis.tasks import IMAGES, TAGS, Task
from analysis.variance import variance_info, variance_trials

Read = Callable[[Collection[str]], pd.DataFrame]
WORDS: Final = {IMAGES.name: "images with one label", TAGS.name: "tag recommendation"}


# Figures that are asked for by name, in the order they are written.
NAMED: Final = ("importance", "contours", "slices", "history", "seconds", "seeds")


class Wanted(NamedTuple):
    """What was asked for: a table and figures by their numbers; neither is all there are runs for.

    `table` is empty if none was asked for.
    """

    table: str
    figures: frozenset[str]
    published: PublishedMode


class Readers(NamedTuple):
    """What reads the files of trials by their ids: curves for Figures 3 and 7, images for
    Table 2."""

    curves: Read
    images: Read


class Done(NamedTuple):
    """Files written, and sentences for the reader."""

    paths: tuple[Path, ...]
    said: tuple[str, ...]


def write_outputs(runs: Runs, wanted: Wanted, folder: Path, read: Readers) -> Done:
    """Write figures and tables to `folder`.

    Args:
        runs: A sweep, or methods sweeps put together.
        wanted: What was asked for.
        folder: Of the experiment, made if absent.
        read: Reads what of the runs is in files of their own.

    Raises:
        RunsError: If the runs cannot give what was asked for.
        OSError: If a file cannot be written.
    """
    is_asked = bool(wanted.table or wanted.figures)
    methods, sensitivity = has_methods(runs), has_sensitivity(runs)
    task = runs_task(runs)
    _require_task(runs, wanted, task)
    with_published = wanted.published != "none"
    paths: list[Path] = []
    said: list[str] = []
    if runs.sweep.mode == c.ROLE_METHODS and not methods and not is_asked:
        text = f"No arm of Table {task.table} has been trained yet, so there is nothing to write."
        return Done((), (text,))
    if not methods and not is_asked:
        _one_sweep(runs, "best.md")
        paths.append(write_best(runs, folder))
    if task.figure in wanted.figures or (sensitivity and not is_asked):
        paths += _sensitivity(runs, wanted.published, folder, said)
    elif not methods and not is_asked:
        said.append(f"It has no sensitivity trial, so there is no Figure {task.figure} to draw.")
    if wanted.table or (methods and not is_asked):
        paths += _table(runs, with_published, folder, read)
    if "3" in wanted.figures or (methods and not is_asked):
        try:
            curves = read.curves(curve_trials(runs))
            paths += write_figure3(curves_info(runs, curves, with_published), folder)
        except RunsError as error:
            if is_asked:
                raise
            said.append(f"No Figure 3: {error}.")
    logged = variance_trials(runs)
    if "7" in wanted.figures or (logged and not is_asked):
        paths += write_figure7(variance_info(runs, read.curves(logged)), folder)
    for name in NAMED:
        if name in wanted.figures:
            paths += write_named(name, runs, folder)
        elif not is_asked and (name != "history" or has_search(runs)):
            with suppress(RunsError):  # the runs are not for it
                paths += write_named(name, runs, folder)
    return Done(tuple(paths), tuple(said))


def write_named(name: str, runs: Runs, folder: Path) -> list[Path]:
    """Write a figure of NAMED; raises RunsError if the runs are not for it."""
    if name == "importance":
        # One factor at a time stands beside it where the same sweeps have that too.
        effects = effects_of(sensitivity_info(runs, "none")) if has_sensitivity(runs) else []
        return write_importance(importance_info(runs, effects), folder)
    if name == "contours":
        return write_contours(contours_info(runs), folder)
    if name == "slices":
        return write_slices(slices_info(runs), folder)
    if name == "history":
        return write_history(history_info(runs), folder)
    if name == "seconds":
        return write_seconds(seconds_info(runs), folder)
    return write_seeds(seeds_info(runs), folder)


def _require_task(runs: Runs, wanted: Wanted, task: Task) -> None:
    """Raise if the other task's table or figure was asked for."""
    other = IMAGES if task is TAGS else TAGS
    for option, asked, theirs, mine in (
        ("table", {wanted.table}, other.table, task.table),
        ("figure", wanted.figures, other.figure, task.figure),
    ):
        if theirs in asked:
            raise RunsError(
                f"{option.capitalize()} {theirs} is of {WORDS[other.name]}, and "
                f"{runs.sweep.experiment} is of {WORDS[task.name]}: use --{option} {mine}"
            )


def _table(runs: Runs, with_published: bool, folder: Path, read: Readers) -> list[Path]:
    """Write the task's table of methods."""
    if runs_task(runs) is IMAGES:
        return write_table1(table_info(runs, with_published), folder)
    images = read.images(image_trials(runs))
    return write_table2(table2_info(runs, images, with_published), folder)


def _sensitivity(
    runs: Runs, published: PublishedMode, folder: Path, said: list[str]
) -> list[Path]:
    """Write Figure 4 and, on mnist, how its ranks compare with the published ones; or Figure 5."""
    task = runs_task(runs)
    _one_sweep(runs, f"Figure {task.figure}")
    if not has_sensitivity(runs):
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no sensitivity trial; name one with --sweep, or "
            f"run: python sweeps/run.py {runs.sweep.experiment} --mode sensitivity"
        )
    if task is TAGS:
        return write_figure5(figure5_info(runs, published), folder)
    info = sensitivity_info(runs, published)
    paths = write_figure(info, folder)
    ranks = ranks_of(runs, info) if published != "none" else []
    if ranks:
        paths.append(write_ranks(ranks, folder))
        said += [rank_text(rank) for rank in ranks]
    return paths


def _one_sweep(runs: Runs, what: str) -> None:
    if ", " in runs.sweep.sweep_id:
        raise RunsError(
            f"{what} is of one sweep, not of {runs.sweep.sweep_id}: name one with --sweep"
        )
