"""One pass of the command line: what of a store is read, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from analysis import columns as c
from analysis.cache import Cache
from analysis.frames import Runs, RunsError, merge, recorded_trials, write_runs
from analysis.methods import has_methods
from analysis.outputs import Readers, Wanted, write_outputs
from analysis.report import write_report
from analysis.runs import log_files, read_curves, read_images, read_latest, read_runs
from analysis.sections import Source

CACHE: Final = "cache"


class Asked(NamedTuple):
    """What the command line asks for; `sweeps` is empty for the latest ones."""

    experiment: str
    tracking_uri: str
    sweeps: tuple[str, ...]
    wanted: Wanted
    has_report: bool
    is_logged: bool
    out: Path
    runs_file: Path

    @property
    def folder(self) -> Path:
        return self.out / self.experiment

    @property
    def cache(self) -> Cache:
        return Cache(self.folder / CACHE)


def read(asked: Asked) -> list[Runs]:
    """Return the sweeps asked for: for a report each by itself, the latest first; else one, or
    several put together.

    Raises:
        RunsError: If they cannot be read, or cannot be put together.
    """
    experiment, uri, cache = asked.experiment, asked.tracking_uri, asked.cache
    if asked.has_report and not asked.sweeps:
        return read_latest(experiment, uri, cache)
    named = dict.fromkeys(asked.sweeps) or (None,)
    several = [read_runs(experiment, uri, sweep, cache) for sweep in named]
    if not asked.has_report:
        return [merge(several)]
    methods = [runs for runs in several if has_methods(runs)]
    if len(methods) > 1:  # lines of one table
        several = [merge(methods), *(runs for runs in several if not has_methods(runs))]
    return sorted(several, key=lambda runs: -(runs.sweep.started or 0))


def write(asked: Asked, several: list[Runs], say: Callable[[str], None]) -> None:
    """Write what was asked for of the sweeps that `read` returned, and say what was written.

    Raises:
        RunsError: If the runs cannot give it.
        OSError: If a file cannot be written.
    """
    for runs in several:
        say(f"Sweep {runs.sweep.sweep_id}: {counted(runs)}.")
    write_runs(several[0], asked.runs_file)
    if asked.has_report:
        paths = _write_report(asked, several, say)
    else:
        done = write_outputs(several[0], asked.wanted, asked.folder, readers(asked, several[0]))
        for sentence in done.said:
            say(sentence)
        paths = list(done.paths)
    for path in [asked.runs_file, *paths]:
        say(f"Wrote {path}")


def readers(asked: Asked, runs: Runs) -> Readers:
    """Return what reads the files of a sweep's trials."""
    uri = asked.tracking_uri
    return Readers(
        partial(read_curves, runs, uri, cache=asked.cache), partial(read_images, runs, uri)
    )


def counted(runs: Runs) -> str:
    """Return how complete a sweep is: '26 of 28 trials, 1 failed, 3 collapsed'."""
    trials = runs.trials.drop_duplicates([c.SWEEP_ID, c.TRIAL_ID])
    recorded, planned = recorded_trials(runs), runs.sweep.planned_trials
    missing = "" if planned is None or planned <= recorded else f" of {planned} planned"
    counts = trials[c.OUTCOME].value_counts()
    bad = [
        f"{counts[outcome]} {outcome}"
        for outcome in (c.COLLAPSED, c.DIVERGED, c.FAILED)
        if outcome in counts
    ]
    return ", ".join([f"{recorded}{missing} trials", *bad])


def _write_report(asked: Asked, several: list[Runs], say: Callable[[str], None]) -> list[Path]:
    sources = [Source(runs, readers(asked, runs)) for runs in several]
    written = write_report(sources, asked.wanted.published, asked.folder)
    if asked.is_logged:
        try:
            for runs in several:
                drawn = written.figures.get(runs.sweep.sweep_id, [])
                pictures = [path for path in drawn if path.suffix == ".png"]
                log_files(runs, asked.tracking_uri, [written.page, *pictures])
        except RunsError as error:
            say(f"The report is not in MLflow: {error}.")
        else:
            say("Logged the report and its figures to the sweep's parent run in MLflow.")
    return [written.page, *(path for paths in written.figures.values() for path in paths)]
