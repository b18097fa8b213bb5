"""Optuna's part: one study per branch, kept in a journal file in the sweep's folder."""

from __future__ import annotations

import contextlib
import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Set
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from kdgan_core.config import TrialConfig
from sweeps.arms import Branch
from sweeps.design import point_config, value_at
from sweeps.plan import PlanError, Row
from sweeps.space import Space, dimension_field
from sweeps.spool import score

JOURNAL = "optuna.journal"  # in the sweep's folder
ASKS_FOR_A_NEW_POINT = 5  # a sampler that names known points so often has nothing else to name
DRAWS_FOR_A_NEW_POINT = 200  # then from a range; a space of choices alone is gone through
EXHAUSTED = "exhausted"  # attribute of a study whose space has no further point


class Search:
    """Asks Optuna for configurations of one branch and tells it how they did.

    Logarithms are sampled as linear dimensions named log10_X: Optuna's importance of a dimension
    declared `log=True` comes out as 0 where the truth is .56 (measured with Optuna 5.0.0).

    Attributes:
        rows: trial_id -> row of all that have been asked for.
    """

    def __init__(
        self, space: Space, branch: Branch, name: str, journal: Path, sampler: str, seed: int,
        planned: Iterable[Row], superseded: Iterable[Row] = (),
    ) -> None:  # fmt: skip
        """Opens the study, or makes it.

        Args:
            space: the branch's: dimensions, number of trials, the baseline that is tried first.
            branch: what is searched.
            name: the study's name in the journal.
            journal: the journal file.
            sampler: one of words.SAMPLERS.
            seed: of the sampler.
            planned: the search rows of this branch that are in the plan already.
            superseded: rows that a change took out of the plan; those that this study has asked
                for are its rows again.

        Raises:
            OSError: the journal cannot be written.
            PlanError: the journal cannot be read.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        train_size = branch.train_size
        self.space, self.labels = space, branch.labels
        self.base = space.tuning_config(train_size)
        self.distributions = {k: _distribution(v) for k, v in space.search.items()}
        self.study = optuna.create_study(
            study_name=name, storage=_open(journal), direction="maximize", load_if_exists=True
        )
        self._exhausted = bool(self.study.user_attrs.get(EXHAUSTED))
        known = self._ids()
        self.rows = {row.trial_id: row for row in planned}
        for row in superseded:
            if row.trial_id in known:
                self.rows[row.trial_id] = Row(row.config, "search", *self.labels)
        # A scrambled Sobol sequence goes on where it was, if it is scrambled in the same way.
        again = 0 if sampler == "qmc" else len(self.rows)
        self.study.sampler = make_sampler(sampler, seed + train_size + again)
        self._rng = np.random.default_rng((seed, train_size, len(self.rows)))
        self._numbers = self._reap()
        self._adopt(known)
        failed = self._ids(TrialState.FAIL) - self._ids(TrialState.COMPLETE)
        self._failed = failed & self.rows.keys()
        self._enqueue_baseline()

    @property
    def complete(self) -> bool:
        """Whether all trials have been asked for, or the space has no other point."""
        return self._exhausted or len(self.rows) >= self.space.trials

    def ask(self) -> Row | None:
        """A row not asked for before, running in the study from now on.

        Where the sampler keeps naming known points (it has converged, or the space is a small
        one) the point is drawn at random. None, and `complete`, if there is no other.
        """
        for _ in range(ASKS_FOR_A_NEW_POINT):
            row = self._ask_once()
            if row is not None:
                return row
        point = self._new_point()
        if point is None:
            self._exhausted = True
            self.study.set_user_attr(EXHAUSTED, True)
            return None
        self.study.enqueue_trial(point)
        while (row := self._ask_once()) is None:
            pass  # known points that were enqueued before it
        return row

    def tell(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """How a trial of `rows` ended: its score, or FAIL. Telling it again changes nothing."""
        number = self._numbers.pop(trial_id, None)
        value = score(result)
        if value is None:
            if number is not None:
                self.study.tell(number, state=TrialState.FAIL)
                self._failed.add(trial_id)
            return
        if number is not None:
            self.study.tell(number, value)
        elif trial_id in self._failed:
            self._add(trial_id, value)
        self._failed.discard(trial_id)

    def _ask_once(self) -> Row | None:
        """A new row, None if the study names a known point."""
        trial = self.study.ask(self.distributions)
        row = Row(point_config(self.base, trial.params), "search", *self.labels)
        if row.trial_id in self.rows:
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr("trial_id", row.trial_id)
        self.rows[row.trial_id] = row
        self._numbers[row.trial_id] = trial.number
        return row

    def _new_point(self) -> dict[str, Any] | None:
        """A point not asked for before; None if there is none, as far as drawing can tell."""
        values = self.space.search
        if all(isinstance(value, str) for choices in values.values() for value in choices):
            points = [dict(zip(values, point, strict=True)) for point in product(*values.values())]
        else:
            points = [
                {name: value_at(ends, float(self._rng.random())) for name, ends in values.items()}
                for _ in range(DRAWS_FOR_A_NEW_POINT)
            ]
        new = (p for p in points if point_config(self.base, p).trial_id not in self.rows)
        return next(new, None)

    def _add(self, trial_id: str, value: float) -> None:
        """A trial that failed, and was told so, has been tried again with success: one more."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.user_attrs.get("trial_id") == trial_id:
                again = optuna.trial.create_trial(
                    params=trial.params, distributions=trial.distributions, value=value,
                    user_attrs={"trial_id": trial_id},
                )  # fmt: skip
                self.study.add_trial(again)
                return

    def _ids(self, *states: TrialState) -> set[str]:
        """trial_ids of the study's trials in these states, or in any."""
        trials = self.study.get_trials(deepcopy=False, states=states or None)
        return {str(t.user_attrs["trial_id"]) for t in trials if "trial_id" in t.user_attrs}

    def _reap(self) -> dict[str, int]:
        """trial_id -> number of the planned trials still open; others left RUNNING become FAIL.

        Those are leftovers of a driver that died between asking and planning: their points are
        asked for again.
        """
        numbers: dict[str, int] = {}
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial_id = trial.user_attrs.get("trial_id")
            if trial_id in self.rows and trial_id not in numbers:
                numbers[trial_id] = trial.number
                continue
            point = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            if point and trial_id not in self.rows:
                self._enqueue(point)
            self.study.tell(trial.number, state=TrialState.FAIL)
        return numbers

    def _adopt(self, known: Set[str]) -> None:
        """Gives the study the planned trials that it does not know: its journal was lost."""
        for trial_id, row in self.rows.items():
            if trial_id not in known:
                lost = optuna.trial.create_trial(
                    state=TrialState.RUNNING, params=self._point(row.config),
                    distributions=self.distributions, user_attrs={"trial_id": trial_id},
                )  # fmt: skip
                self._numbers[trial_id] = len(self.study.get_trials(deepcopy=False))
                self.study.add_trial(lost)

    def _enqueue_baseline(self) -> None:
        """Has the baseline tried next, unless it was asked for or lies outside the ranges."""
        point = self._point(self.base)
        tried = point_config(self.base, point)
        for dimension, values in self.space.search.items():
            wanted, value = (getattr(c, dimension_field(dimension)) for c in (self.base, tried))
            if isinstance(wanted, str):
                inside = wanted in values
            else:
                inside = math.isclose(wanted, value, rel_tol=1e-3, abs_tol=1e-4)
            if not inside:
                return
        if not self.complete and tried.trial_id not in self.rows:
            self._enqueue(point)

    def _enqueue(self, point: Mapping[str, Any]) -> None:
        """Has a point asked for next, unless it waits for that already."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if point not in [trial.system_attrs.get("fixed_params") for trial in waiting]:
            self.study.enqueue_trial(dict(point))

    def _point(self, config: TrialConfig) -> dict[str, Any]:
        """Where a cell lies in the search space, or next to it: rounding may lead out of it."""
        point: dict[str, Any] = {}
        for dimension, values in self.space.search.items():
            value = getattr(config, dimension_field(dimension))
            if not isinstance(value, str):
                if dimension.startswith("log10_"):
                    value = math.log10(value) if value > 0.0 else -math.inf
                low, high = (float(str(end)) for end in values)
                value = min(max(value, low), high)
            point[dimension] = value
        return point


def close_studies(journal: Path, but: Set[str], planned: Set[str]) -> None:
    """Ends what is left RUNNING in studies that a change of the plan has put aside, as FAIL.

    Args:
        journal: the journal file.
        but: names of the studies that are open.
        planned: trial_ids of the plan's search rows: they will be run yet.
    """
    storage = _open(journal)
    for name in set(optuna.get_all_study_names(storage)) - but:
        study = optuna.load_study(study_name=name, storage=storage)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get("trial_id") not in planned:
                study.tell(trial.number, state=TrialState.FAIL)


def _distribution(values: tuple[object, ...]) -> BaseDistribution:
    """Strings are choices, two numbers are the ends of a range."""
    if all(isinstance(value, str) for value in values):
        return CategoricalDistribution([str(value) for value in values])
    low, high = (float(str(value)) for value in values)
    return FloatDistribution(low, high)


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Optuna's sampler of a name in SAMPLERS.

    tpe spreads concurrent trials out (they count as bad until they are told). cmaes samples
    choices and the first trials at random, qmc (scrambled Sobol) only the first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed)
        if name == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        if name == "qmc":
            return optuna.samplers.QMCSampler(
                qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False
            )
        if name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


class Journal(JournalFileBackend):
    """The journal's file; what a full disk refused leaves no half line, which the next line would
    be joined to."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        end = self._path.stat().st_size
        try:
            super().append_logs(logs)
        except OSError:
            with contextlib.suppress(OSError):  # what matters is why it could not be written
                os.truncate(self._path, end)
            raise


def _open(journal: Path) -> JournalStorage:
    """The journal, freed of what a killed driver left: a lock, half a line.

    The caller holds the sweep's lock, so no other process writes it.

    Raises:
        PlanError: a line of the journal cannot be read.
    """
    for leftover in journal.parent.glob(f"{journal.name}.lock*"):
        leftover.unlink(missing_ok=True)
    if journal.exists():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(journal, whole)
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                json.loads(line)
            except ValueError:
                raise PlanError(
                    f"{journal} cannot be read at line {number}: move the file away, and the"
                    " search learns how its trials did from their results"
                ) from None
    return JournalStorage(Journal(journal))
