"""A trial as a cell of the figure: where it lies, and how each of its seeds ended."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import pandas as pd

from analysis import columns as c

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


class SeedPoint(NamedTuple):
    """One seed of a cell; `value` is NaN where the seed has no score."""

    seed: int
    outcome: str
    value: float


class Cell(NamedTuple):
    """A trial: one configuration under each of its seeds."""

    trial_id: str
    train_size: int
    started: pd.Timestamp
    numbers: dict[str, float]
    tau: str
    outcome: str
    error: str
    seeds: tuple[SeedPoint, ...]

    def label(self, factor: str) -> str:
        """Return the cell's level of `factor` as text: a number, or a schedule's name for tau."""
        return self.tau if factor == "tau" else f"{self.numbers[factor]:g}"


def trial_cells(trials: pd.DataFrame) -> Iterator[Cell]:
    """Yield one cell per trial of a frame with a record per trial and seed."""
    for trial_id, records in trials.groupby(c.TRIAL_ID, sort=False):
        first = records.iloc[0]
        seeds = (
            SeedPoint(int(seed), str(outcome), math.nan if outcome in UNSCORED else float(value))
            for seed, outcome, value in zip(
                records[c.SEED],
                records[c.SEED_OUTCOME],
                records[c.SEED_PREFIX + c.TEST_ACCURACY],
                strict=True,
            )
        )
        yield Cell(
            trial_id=str(trial_id),
            train_size=int(first[c.TRAIN_SIZE]),
            started=first[c.STARTED],
            numbers={name: float(first[name]) for name in (c.ALPHA, c.BETA, c.GAMMA)},
            tau=str(first[c.TAU]),
            outcome=str(first[c.OUTCOME]),
            error="" if pd.isna(first[c.ERROR]) else str(first[c.ERROR]),
            seeds=tuple(seeds),
        )


def differ_only_in(factor: str, cell: Cell, other: Cell) -> bool:
    """Return whether two cells have the same values of every factor but `factor`."""
    same = all(
        math.isclose(value, other.numbers[name], rel_tol=SAME_LEVEL)
        for name, value in cell.numbers.items()
        if name != factor
    )
    return same and (factor == "tau" or cell.tau == other.tau)
