"""What is written of a sweep: what was asked for, or else all that its runs are for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis import columns as c
from analysis.curves import curve_trials, curves_info
from analysis.figure3 import write_figure3
from analysis.figure7 import write_figure7
from analysis.figures import has_sensitivity, sensitivity_info, write_figure
from analysis.frames import Runs, RunsError
from analysis.methods import has_methods
from analysis.paper import PublishedMode
from analysis.ranks import rank_text, ranks_of, write_ranks
from analysis.table1 import table_info
from analysis.table1_pages import write_table1
from analysis.tables import write_best
from analysis.variance import variance_info, variance_trials

ReadCurves = Callable[[Collection[str]], pd.DataFrame]


class Wanted(NamedTuple):
    """What was asked for: Table 1, figures by their numbers; neither is all there are runs for."""

    table: bool
    figures: frozenset[str]
    published: PublishedMode


class Done(NamedTuple):
    """Files written, and sentences for the reader."""

    paths: tuple[Path, ...]
    said: tuple[str, ...]


def write_outputs(runs: Runs, wanted: Wanted, folder: Path, read_curves: ReadCurves) -> Done:
    """Write figures and tables to `folder`.

    Args:
        runs: A sweep, or methods sweeps put together.
        wanted: What was asked for.
        folder: Of the experiment, made if absent.
        read_curves: Trial ids -> their curves, read only for Figures 3 and 7.

    Raises:
        RunsError: If the runs cannot give what was asked for.
        OSError: If a file cannot be written.
    """
    is_asked = wanted.table or bool(wanted.figures)
    methods, sensitivity = has_methods(runs), has_sensitivity(runs)
    with_published = wanted.published != "none"
    paths: list[Path] = []
    said: list[str] = []
    if runs.sweep.mode == c.ROLE_METHODS and not methods and not is_asked:
        return Done((), ("No arm of Table 1 has been trained yet, so there is nothing to write.",))
    if not methods and not is_asked:
        _one_sweep(runs, "best.md")
        paths.append(write_best(runs, folder))
    if "4" in wanted.figures or (sensitivity and not is_asked):
        paths += _figure4(runs, wanted.published, folder, said)
    elif not methods and not is_asked:
        said.append("It has no sensitivity trial, so there is no Figure 4 to draw.")
    if wanted.table or (methods and not is_asked):
        paths += write_table1(table_info(runs, with_published), folder)
    if "3" in wanted.figures or (methods and not is_asked):
        try:
            curves = read_curves(curve_trials(runs))
            paths += write_figure3(curves_info(runs, curves, with_published), folder)
        except RunsError as error:
            if is_asked:
                raise
            said.append(f"No Figure 3: {error}.")
    logged = variance_trials(runs)
    if "7" in wanted.figures or (logged and not is_asked):
        paths += write_figure7(variance_info(runs, read_curves(logged)), folder)
    return Done(tuple(paths), tuple(said))


def _figure4(runs: Runs, published: PublishedMode, folder: Path, said: list[str]) -> list[Path]:
    """Write Figure 4 and, on mnist, how its ranks compare with the published ones."""
    _one_sweep(runs, "Figure 4")
    if not has_sensitivity(runs):
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no sensitivity trial; name one with --sweep, or "
            f"run: python sweeps/run.py {runs.sweep.experiment} --mode sensitivity"
        )
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
