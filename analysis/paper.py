"""The paper's numbers, read from `published/*.csv`; its README.md says where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, NamedTuple

import pandas as pd

PublishedMode = Literal["corrected", "printed", "none"]

LABEL: Final = "published (best over test evaluations, 1 run)"
FOLDER: Final = Path(__file__).with_name("published")
FACTORS: Final = ("alpha", "beta", "gamma")
DATASET: Final = "mnist"


class PublishedCell(NamedTuple):
    """One published point: training size, factor, its value in the equation, accuracy."""

    train_size: int
    factor: str
    level: float
    accuracy: float


def load_figure4(factor: str) -> pd.DataFrame:
    """Return the published Figure 4 panel of `factor`, one record per plotted point."""
    if factor not in FACTORS:
        raise ValueError(f"factor is {factor!r}; Figure 4 was published for {', '.join(FACTORS)}")
    return pd.read_csv(FOLDER / f"figure4_{factor}.csv")


def figure4_curve(
    factor: str, train_size: int, mode: PublishedMode
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return levels and accuracies of one published curve, ordered by level; empty if none.

    Args:
        factor: alpha, beta, gamma, or tau (which has no published panel).
        train_size: Number of training images, matched exactly.
        mode: `corrected` uses the equation's axis and removes the constants added before
            plotting, `printed` repeats the page, `none` returns nothing.
    """
    if mode == "none" or factor not in FACTORS:
        return (), ()
    frame = load_figure4(factor)
    level, accuracy = (
        ("equation_axis", "unshifted_value")
        if mode == "corrected"
        else ("printed_axis", "printed_value")
    )
    frame = frame[frame["n"] == train_size].sort_values(level)
    return (
        tuple(float(value) for value in frame[level]),
        tuple(float(value) for value in frame[accuracy]),
    )


def best_figure4_cell(train_size: int) -> PublishedCell | None:
    """Return the highest published cell of `train_size`, plotting constants removed, or None."""
    cells = [
        PublishedCell(train_size, factor, level, accuracy)
        for factor in FACTORS
        for level, accuracy in zip(*figure4_curve(factor, train_size, "corrected"), strict=True)
    ]
    return max(cells, key=lambda cell: cell.accuracy, default=None)
