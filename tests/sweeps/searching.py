"""Asks and tells a `Search`, and reads its journal as any user of Optuna does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweeps.plan import Row
from sweeps.search import Search

NAME = "toy-n50"
FAILED: Mapping[str, Any] = {"outcome": "failed", "seeds": []}
COMPLETE, FAIL = TrialState.COMPLETE, TrialState.FAIL
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING
OPEN = (RUNNING, WAITING)


def ended(accuracy: float, outcome: str = "finished") -> Mapping[str, Any]:
    """A trial's result."""
    seed = {"outcome": outcome, "best_valid_accuracy": accuracy, "last_valid_accuracy": accuracy}
    return {"outcome": outcome, "seeds": [seed]}


def load(journal: Path) -> optuna.Study:
    """The study as any user of Optuna reads it."""
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name=NAME, storage=storage)


def states(journal: Path) -> list[TrialState]:
    """Of the study's trials, in order."""
    return [trial.state for trial in load(journal).trials]


def ask(search: Search) -> Row:
    """The row that the search names next; it must name one."""
    row = search.ask()
    assert row is not None
    return row
