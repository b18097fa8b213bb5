"""Optuna's part: one study per training size, kept in a journal file in the sweep's folder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from sweeps.plan import Row
from sweeps.space import Space, dimension_field
from sweeps.spool import score

ASKS_FOR_A_NEW_POINT = 20
EXHAUSTED = "exhausted"  # attribute of a study whose space has no further point


class Search:
    """Asks Optuna for configurations of one training size and tells it how they did.

    Logarithms are sampled as linear dimensions named log10_X: Optuna's importance of a dimension
    declared `log=True` comes out as 0 where the truth is .56 (measured with Optuna 5.0.0).
    """

    def __init__(
        self, space: Space, train_size: int, name: str, journal: Path, seed: int,
        planned: list[Row],
    ) -> None:  # fmt: skip
        """Opens the study, or makes it.

        Args:
            space: dimensions, number of trials, and the baseline that is tried first.
            train_size: n of this search.
            name: the study's name in the journal.
            journal: the journal file.
            seed: of the sampler.
            planned: the search rows of this size that are in the plan already.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.train_size = space, train_size
        self.base = space.base_config(train_size).replace(seeds=space.search_seeds)
        self.distributions = {k: _distribution(v) for k, v in space.search.items()}
        self.rows = {row.trial_id: row for row in planned}
        storage = JournalStorage(JournalFileBackend(str(journal)))
        sampler = _sampler(seed + train_size + len(planned))
        self.study = optuna.create_study(
            study_name=name, storage=storage, sampler=sampler, direction="maximize",
            load_if_exists=True,
        )  # fmt: skip
        self._exhausted = bool(self.study.user_attrs.get(EXHAUSTED))
        self._numbers = self._reap()
        if not self.study.trials:
            self.study.enqueue_trial(self._baseline_point())

    @property
    def complete(self) -> bool:
        """Whether all trials have been asked for, or the space has no other point."""
        return self._exhausted or len(self.rows) >= self.space.trials

    def ask(self) -> Row | None:
        """A row not asked for before, running in the study from now on.

        None, and `complete`, when the sampler keeps naming known points: the space is a small one.
        """
        for _ in range(ASKS_FOR_A_NEW_POINT):
            trial = self.study.ask(self.distributions)
            row = Row(self._config(trial.params), "search")
            if row.trial_id in self.rows:
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            trial.set_user_attr("trial_id", row.trial_id)
            self.rows[row.trial_id] = row
            self._numbers[row.trial_id] = trial.number
            return row
        self._exhausted = True
        self.study.set_user_attr(EXHAUSTED, True)
        return None

    def tell(self, trial_id: str, result: Mapping[str, Any] | None) -> None:
        """How a trial of `rows` ended: its score, or FAIL. Telling it again changes nothing."""
        number = self._numbers.pop(trial_id, None)
        if number is None:
            return
        value = score(result)
        if value is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, value)

    def _reap(self) -> dict[str, int]:
        """trial_id -> number of the planned trials still open; others left RUNNING become FAIL.

        Those are leftovers of a driver that died between asking and planning.
        """
        numbers = {}
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial_id = trial.user_attrs.get("trial_id")
            if trial_id in self.rows:
                numbers[trial_id] = trial.number
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)
        return numbers

    def _config(self, point: Mapping[str, Any]) -> TrialConfig:
        changes: dict[str, object] = {}
        for dimension, value in point.items():
            if dimension.startswith("log10_"):
                value = float(f"{10.0**value:.4g}")
            elif isinstance(value, float):
                value = round(value, 4)
            changes[dimension_field(dimension)] = value
        return self.base.replace(**changes)

    def _baseline_point(self) -> dict[str, Any]:
        point: dict[str, Any] = {}
        for dimension in self.distributions:
            value = getattr(self.base, dimension_field(dimension))
            point[dimension] = math.log10(value) if dimension.startswith("log10_") else value
        return point


def _distribution(values: tuple[object, ...]) -> BaseDistribution:
    """Strings are choices, two numbers are the ends of a range."""
    if all(isinstance(value, str) for value in values):
        return CategoricalDistribution([str(value) for value in values])
    low, high = (float(str(value)) for value in values)
    return FloatDistribution(low, high)


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    """TPE that spreads concurrent trials out (they count as bad until they are told)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
