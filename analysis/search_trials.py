"""The trials that a search or a Sobol design drew: what each was, and what it came to.

A search is judged by the number that its Optuna study holds, so pictures of the study and these
agree: the mean over a trial's seeds of the best validation score, where a seed that collapsed
counts with its last one and a seed that diverged counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
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
    values = _values(runs.trials, runs_task(runs).best_valid)
    wanted = {trial_id for trial_id, _ in arms}
    records = runs.trials.assign(**{VALUE: values})
    records = records[records[c.TRIAL_ID].isin(wanted)].sort_values([c.STARTED, c.TRIAL_ID])
    means = records.groupby(c.TRIAL_ID)[VALUE].mean()
    firsts = records.drop_duplicates(c.TRIAL_ID)[
        [c.TRIAL_ID, c.TRAIN_SIZE, c.OUTCOME, *KNOBS]
    ]  # fmt: skip
    members: dict[tuple[int, str, str], list[SearchTrial]] = {}
    for first in firsts.to_dict("records"):
        trial_id = str(first[c.TRIAL_ID])
        for role in roles:
            if (trial_id, role) in arms:
                key = (int(first[c.TRAIN_SIZE]), arms[trial_id, role], role)
                mine = members.setdefault(key, [])
                mine.append(_trial(first, len(mine), float(means[trial_id])))
    order = sorted(members, key=lambda key: (size_order(key[0]), key[1], key[2]))
    return [Branch(*key, tuple(members[key])) for key in order]


def _values(records: pd.DataFrame, best: str) -> pd.Series:
    """Return what each seed counts in the search."""
    last = records[c.SEED_PREFIX + best.replace("best_", "last_")]
    collapsed = records[c.SEED_OUTCOME] == c.COLLAPSED
    return records[c.SEED_PREFIX + best].mask(collapsed, last).fillna(0.0)


def _trial(first: Mapping[Hashable, Any], number: int, value: float) -> SearchTrial:
    """Return a trial from the first of its records."""
    outcome = str(first[c.OUTCOME])
    return SearchTrial(
        str(first[c.TRIAL_ID]),
        number,
        outcome,
        math.nan if outcome == c.FAILED else value,
        {name: None if pd.isna(first[name]) else first[name] for name in KNOBS},
    )
