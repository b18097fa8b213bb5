"""The arms of a methods sweep: for each training size, what every method came to, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pandas as pd

from analysis import columns as c
from analysis.cells import UNSCORED, counting_records
from analysis.frames import Runs, RunsError
from analysis.tasks import IMAGES, SCORES, TAGS, size_order, size_text

KDGAN: Final = "kdgan"
NAGAN: Final = "nagan"
TEACHER: Final = "teacher"
# Published tag recommenders, which are fitted rather than trained.
RECOMMENDERS: Final = ("knn", "tagprop", "tagfeature", "relexample")
BASELINES: Final = (*RECOMMENDERS, "codis", "distn", "noisy", "mimic", NAGAN, "supervised")
LABELS: Final = {
    "knn": "KNN",
    "tagprop": "TPROP",
    "tagfeature": "TFEAT",
    "relexample": "REXMP",
    "codis": "CODIS",
    "distn": "DISTN",
    "noisy": "NOISY",
    "mimic": "MIMIC",
    NAGAN: "NaGAN",
    KDGAN: "KDGAN",
    "supervised": "C alone",
    TEACHER: "T alone (no student)",
}
VARIANT: Final = "+"  # between a method and what an arm changes of it, as in kdgan+ema
# The paper's order of rows, ours without a game or a teacher last.
ORDER: Final = (
    *RECOMMENDERS, "codis", "distn", "noisy", "mimic", NAGAN, KDGAN, "supervised", TEACHER,
)  # fmt: skip


class ArmSeed(NamedTuple):
    """One seed of an arm, in the trial that counts for it.

    `numbers` has every per-seed metric of `columns.SEED_METRICS`, NaN where the seed has none; a
    seed that diverged or failed has no score.
    """

    seed: int
    outcome: str
    numbers: dict[str, float]
    trial_id: str

    @property
    def is_scored(self) -> bool:
        """Whether the seed has its task's test score."""
        return any(not math.isnan(self.numbers[task.score.test]) for task in (IMAGES, TAGS))


class Arm(NamedTuple):
    """One method at one training size: its seeds, and the trials that trained them.

    `matched` is what of KDGAN's compute it was given: none, steps or seconds, and empty where an
    older run does not say. `error` is that of its last trial that failed.
    """

    name: str
    train_size: int
    matched: str
    estimator: str
    seeds: tuple[ArmSeed, ...]
    trial_ids: tuple[str, ...]
    error: str

    @property
    def label(self) -> str:
        return arm_label(self.name)

    def scores(self, metric: str = c.TEST_ACCURACY) -> dict[int, float]:
        """Return seed -> value of a per-seed metric, for the seeds that have one."""
        values = {seed.seed: seed.numbers[metric] for seed in self.seeds}
        return {seed: value for seed, value in values.items() if not math.isnan(value)}

    def ended(self, outcome: str) -> tuple[int, ...]:
        """Return the seeds that ended so."""
        return tuple(seed.seed for seed in self.seeds if seed.outcome == outcome)


def has_methods(runs: Runs) -> bool:
    """Return whether any recorded trial is an arm of Table 1 or 2."""
    return bool(_is_arm(runs.rows).any())


def arms_of(runs: Runs) -> list[Arm]:
    """Return the arms by training size and in the order of the table; search trials are in none.

    Trials of one configuration are one arm, since seeds may have been added later, in the same
    sweep or in another.

    Raises:
        RunsError: If there is no arm, or an arm has two configurations at a training size.
    """
    reasons = runs.rows[_is_arm(runs.rows)]
    if reasons.empty:
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no trial of a methods sweep; name one with "
            f"--sweep, or run: python sweeps/run.py {runs.sweep.experiment} --mode methods"
        )
    names = reasons.groupby(c.TRIAL_ID)[c.LEVEL].apply(list).to_dict()
    members: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for record in runs.trials.sort_values([c.STARTED, c.TRIAL_ID]).to_dict("records"):
        for name in names.get(record[c.TRIAL_ID], ()):
            members.setdefault((int(record[c.TRAIN_SIZE]), str(name)), []).append(record)
    arms = [_arm(name, size, records) for (size, name), records in members.items()]
    return sorted(arms, key=lambda arm: (size_order(arm.train_size), arm_place(arm.name)))


def arm_label(name: str) -> str:
    """Return an arm's name as the tables print it, such as 'KDGAN + ema' for kdgan+ema."""
    method, *changes = name.split(VARIANT)
    return " + ".join([LABELS.get(method, method), *changes])


def arm_place(name: str) -> tuple[int, str]:
    """Return what sorts arms: the table's order, an arm that changes a method right behind it."""
    method = name.partition(VARIANT)[0]
    return (ORDER.index(method) if method in ORDER else len(ORDER), name)


def is_variant(name: str, method: str = KDGAN) -> bool:
    """Return whether an arm is `method` with something changed."""
    return name.startswith(method + VARIANT)


def named_seeds(seeds: Sequence[int]) -> str:
    """Return 'seed 3' or 'seeds 0-4, 7'."""
    return f"seed{'s' * (len(seeds) != 1)} {seed_ranges(seeds)}"


def seed_ranges(seeds: Iterable[int]) -> str:
    """Return seeds with runs of three or more shortened, such as '0-4, 7, 8'."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    texts = [[f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(s) for s in run] for run in runs]
    return ", ".join(text for run in texts for text in run)


def _is_arm(rows: pd.DataFrame) -> pd.Series:
    return (rows[c.ROLE] == c.ROLE_METHODS) & (rows[c.FACTOR] == c.FACTOR_METHOD)


def _arm(name: str, size: int, ordered: Sequence[Mapping[str, Any]]) -> Arm:
    """Return the arm of records that are in the order their trials started."""
    first, last = ordered[0], ordered[-1]
    for record in ordered:
        if record[c.CELL_ID] != first[c.CELL_ID]:
            raise RunsError(
                f"{arm_label(name)} at n = {size_text(size)} has two configurations, trial "
                f"{first[c.TRIAL_ID]} of sweep {first[c.SWEEP_ID]} and trial "
                f"{record[c.TRIAL_ID]} of sweep {record[c.SWEEP_ID]}: "
                "name sweeps that agree with --sweep"
            )
    errors = [str(record[c.ERROR]) for record in ordered if not pd.isna(record[c.ERROR])]
    return Arm(
        name=name,
        train_size=size,
        matched=_text(last[c.MATCHED]),
        estimator=_text(last[c.ESTIMATOR]),
        seeds=tuple(_seed(seed, found) for seed, found in counting_records(ordered).items()),
        trial_ids=tuple(dict.fromkeys(str(record[c.TRIAL_ID]) for record in ordered)),
        error=errors[-1] if errors else "",
    )


def _seed(seed: int, record: Mapping[str, Any]) -> ArmSeed:
    outcome = str(record[c.SEED_OUTCOME])
    numbers = {name: float(record[c.SEED_PREFIX + name]) for name in c.SEED_METRICS}
    if outcome in UNSCORED:
        numbers |= dict.fromkeys(SCORES, math.nan)
    return ArmSeed(seed, outcome, numbers, str(record[c.TRIAL_ID]))


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value)
