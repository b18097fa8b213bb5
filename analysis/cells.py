"""Trials as cells: one configuration, the trials that share it, and how each seed ended."""

from __future__ import annotations

import math
import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pandas as pd

from analysis import columns as c
from analysis.frames import Runs, runs_task
from analysis.tasks import Metric

FACTORS: Final = ("alpha", "beta", "gamma", "tau")
SYMBOLS: Final = {
    "alpha": "\N{GREEK SMALL LETTER ALPHA}",
    "beta": "\N{GREEK SMALL LETTER BETA}",
    "gamma": "\N{GREEK SMALL LETTER GAMMA}",
    "tau": "\N{GREEK SMALL LETTER TAU}",
}
UNSCORED: Final = {c.DIVERGED, c.FAILED}
# A value that went through its logarithm comes back with other last digits.
SAME_LEVEL: Final = 1e-6
TRIAL_SEPARATOR: Final = ","
# What a cell is made of, besides scores.
CELL_COLUMNS: Final = [
    c.TRIAL_ID, c.CELL_ID, c.STARTED, c.OUTCOME, c.ERROR, c.TRAIN_SIZE, c.METHOD, c.ALPHA, c.BETA,
    c.GAMMA, c.TAU, c.SEED, c.SEED_OUTCOME,
]  # fmt: skip


class SeedPoint(NamedTuple):
    """One seed of a cell, in the trial that counts for it.

    `value` is the test score and `valid` the best validation score, NaN where the seed has no such
    score: neither if it diverged or failed, no test score if it was stopped early.
    """

    seed: int
    outcome: str
    value: float
    valid: float
    trial_id: str


class Cell(NamedTuple):
    """One configuration under each of its seeds, which one trial or several have trained.

    `trial_ids` are in the order the trials started, `started` is when the last of them did,
    `outcome` is the worst of theirs, and `error` is that of the last that failed.
    """

    trial_ids: tuple[str, ...]
    train_size: int
    method: str
    started: pd.Timestamp
    numbers: dict[str, float]
    tau: str
    outcome: str
    trial_outcomes: tuple[str, ...]
    error: str
    seeds: tuple[SeedPoint, ...]

    @property
    def trial_id(self) -> str:
        """The ids of all its trials, joined with a comma."""
        return TRIAL_SEPARATOR.join(self.trial_ids)

    @property
    def failed_trials(self) -> int:
        """How many of its trials failed."""
        return self.trial_outcomes.count(c.FAILED)

    def label(self, factor: str) -> str:
        """Return the cell's level of `factor` as text: a number, or a schedule's name for tau."""
        return self.tau if factor == "tau" else f"{self.numbers[factor]:g}"


def cells_of(runs: Runs, metric: Metric | None = None) -> list[Cell]:
    """Return the cells of a sweep, in the order of their first records.

    Their seeds have the test score of `metric`, by default the one that selects.

    Trials of one configuration are one cell: seeds may be added to a sweep later, and the new ones
    are then trained as a trial of their own. A trial that serves only the search stays by itself:
    the search chose by the score of its seeds, so they may not join those that measure.

    The cells of the last runs are kept: several figures ask for them, and of 10,000 trials they
    take a second. Frames of runs are never changed once they are read.
    """
    task = runs_task(runs)
    names = ((metric or task.score).test, task.best_valid)
    kept = _kept.get(names)
    if kept is None or not kept.is_of(runs):
        cells = tuple(_grouped(runs, names))
        kept = _kept[names] = _Kept(weakref.ref(runs.trials), weakref.ref(runs.rows), cells)
    return list(kept.cells)


class _Kept(NamedTuple):
    """Cells, and the frames that they were made of."""

    trials: weakref.ref[pd.DataFrame]
    rows: weakref.ref[pd.DataFrame]
    cells: tuple[Cell, ...]

    def is_of(self, runs: Runs) -> bool:
        return self.trials() is runs.trials and self.rows() is runs.rows


_kept: dict[tuple[str, str], _Kept] = {}  # the columns of the scores -> the last cells


def _grouped(runs: Runs, names: tuple[str, str]) -> Iterator[Cell]:
    """Yield the cells whose scores are in the columns `names`, as `cells_of` says."""
    measuring = set(runs.rows[runs.rows[c.ROLE] != c.ROLE_SEARCH][c.TRIAL_ID])
    members: dict[Hashable, list[Mapping[str, Any]]] = {}
    used = [*CELL_COLUMNS, *(c.SEED_PREFIX + name for name in names)]
    for record in runs.trials[used].to_dict("records"):
        measures = record[c.TRIAL_ID] in measuring
        key = (measures, record[c.CELL_ID if measures else c.TRIAL_ID])
        members.setdefault(key, []).append(record)
    for records in members.values():
        yield _cell(records, names)


def by_trial_id(cells: Iterable[Cell]) -> dict[str, Cell]:
    """Return the cell of each trial."""
    return {trial_id: cell for cell in cells for trial_id in cell.trial_ids}


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells in their order, each once."""
    return list({cell.trial_ids: cell for cell in cells}.values())


def differ_only_in(factor: str, cell: Cell, other: Cell) -> bool:
    """Return whether two cells have the same values of every factor but `factor`."""
    same = all(
        math.isclose(value, other.numbers[name], rel_tol=SAME_LEVEL)
        for name, value in cell.numbers.items()
        if name != factor
    )
    return same and (factor == "tau" or cell.tau == other.tau)


def _cell(records: Sequence[Mapping[str, Any]], names: tuple[str, str]) -> Cell:
    """Return the cell of the records of its trials, of which there is one per trial and seed."""
    ordered = sorted(records, key=lambda record: (record[c.STARTED], record[c.TRIAL_ID]))
    trials = {str(record[c.TRIAL_ID]): record for record in ordered}
    outcomes = tuple(str(trial[c.OUTCOME]) for trial in trials.values())
    errors = [str(t[c.ERROR]) for t in trials.values() if not pd.isna(t[c.ERROR])]
    last = ordered[-1]
    return Cell(
        trial_ids=tuple(trials),
        train_size=int(last[c.TRAIN_SIZE]),
        method=str(last[c.METHOD]),
        started=last[c.STARTED],
        numbers={name: float(last[name]) for name in (c.ALPHA, c.BETA, c.GAMMA)},
        tau="" if pd.isna(last[c.TAU]) else str(last[c.TAU]),
        outcome=max(outcomes, key=c.OUTCOMES.index),
        trial_outcomes=outcomes,
        error=errors[-1] if errors else "",
        seeds=tuple(_seeds(ordered, names)),
    )


def _seeds(ordered: Sequence[Mapping[str, Any]], names: tuple[str, str]) -> Iterator[SeedPoint]:
    """Yield each seed once, ascending, from records in the order that their trials started.

    Args:
        ordered: The records.
        names: The columns of the test score and of the validation score.
    """
    for seed, record in counting_records(ordered).items():
        outcome = str(record[c.SEED_OUTCOME])
        value, valid = (
            math.nan if outcome in UNSCORED else float(record[c.SEED_PREFIX + name])
            for name in names
        )
        yield SeedPoint(seed, outcome, value, valid, str(record[c.TRIAL_ID]))


def counting_records(ordered: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """Return the record that counts for each seed, seeds ascending.

    Of two trials of a seed the later one counts; but one that failed says nothing of the seed, so
    it takes no seed from one that did not.

    Args:
        ordered: Records of one cell, a trial and seed each, in the order that the trials started.
    """
    failed_first = sorted(ordered, key=lambda record: record[c.SEED_OUTCOME] != c.FAILED)
    counting = {int(record[c.SEED]): record for record in failed_first}
    return dict(sorted(counting.items()))
