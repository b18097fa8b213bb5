"""The trials that a search or a Sobol design drew: what each was, and what it came to.

A search is judged by the number that its Optuna study holds, so pictures of the study and these
agree: the mean over a trial's seeds of the best validation score, where a seed that collapsed
counts with its last one and a seed that diverged counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import pandas as pd

from analysis import columns as c
from analysis.frames import Runs, runs_task
from analysis.tasks import size_order

VALUE: Final = "value"
BROKEN: Final = {c.COLLAPSED, c.DIVERGED, c.FAILED}


class SearchTrial(NamedTuple):
    """One trial; `number` counts those of its branch in the order they started, from 0.

    `value` is what the study holds, NaN if the trial failed. `knobs` has a value for each of
    KNOBS, None where the method has no such knob.
    """

    trial_id: str
    number: int
    outcome: str
    value: float
    knobs: Mapping[str, Any]


class Branch(NamedTuple):
    """A search of its own: one training size, and one arm where several methods were tuned."""

    train_size: int
    arm: str
    role: str
    trials: tuple[SearchTrial, ...]

    @property
    def best(self) -> SearchTrial | None:
        """The scored trial with the highest value, the first of several; None without one."""
        scored = [trial for trial in self.trials if not math.isnan(trial.value)]
        return max(scored, key=lambda trial: trial.value, default=None)


KNOBS: Final = (c.ALPHA, c.BETA, c.GAMMA, c.TAU_KIND, c.TAU_START, c.TAU_END)


def search_branches(runs: Runs, roles: Sequence[str] = (c.ROLE_SEARCH,)) -> list[Branch]:
    """Return the branches with trials of these roles, ordered by size, arm and role."""
    rows = runs.rows[runs.rows[c.ROLE].isin(roles)]
    arms: dict[tuple[str, str], str] = {
        (str(row[c.TRIAL_ID]), str(row[c.ROLE])): str(row[c.LEVEL])
        for row in rows.to_dict("records")
    }
    best = runs_task(runs).best_valid
    values = _values(runs.trials, best)
    members: dict[tuple[int, str, str], list[SearchTrial]] = {}
    trials = runs.trials.assign(**{VALUE: values})
    ordered = trials[trials[c.TRIAL_ID].isin({trial_id for trial_id, _ in arms})]
    for trial_id, records in ordered.sort_values([c.STARTED, c.TRIAL_ID]).groupby(
        c.TRIAL_ID, sort=False
    ):
        for role in roles:
            if (str(trial_id), role) not in arms:
                continue
            arm = arms[str(trial_id), role]
            mine = members.setdefault((int(records[c.TRAIN_SIZE].iloc[0]), arm, role), [])
            mine.append(_trial(str(trial_id), len(mine), records))
    order = sorted(members, key=lambda key: (size_order(key[0]), key[1], key[2]))
    return [Branch(*key, tuple(members[key])) for key in order]


def _values(records: pd.DataFrame, best: str) -> pd.Series:
    """Return what each seed counts in the search."""
    last = records[c.SEED_PREFIX + best.replace("best_", "last_")]
    collapsed = records[c.SEED_OUTCOME] == c.COLLAPSED
    return records[c.SEED_PREFIX + best].mask(collapsed, last).fillna(0.0)


def _trial(trial_id: str, number: int, records: pd.DataFrame) -> SearchTrial:
    first = records.iloc[0]
    failed = first[c.OUTCOME] == c.FAILED
    return SearchTrial(
        trial_id,
        number,
        str(first[c.OUTCOME]),
        math.nan if failed else float(records[VALUE].mean()),
        {name: None if pd.isna(first[name]) else first[name] for name in KNOBS},
    )
