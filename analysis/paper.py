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
# Our name of a data set or an arm -> the one in table1.csv.
TABLE1_DATASETS: Final = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
TABLE1_METHODS: Final = {
    "codis": "CODIS", "distn": "DISTN", "noisy": "NOISY", "mimic": "MIMIC", "nagan": "NaGAN",
    "kdgan": "KDGAN",
}  # fmt: skip
TABLE1_LABEL: Final = "published (mean ± standard deviation, as printed)"
FIGURE3_SIZE: Final = 100  # whose values of Table 1 the published curves were moved to


class PublishedCell(NamedTuple):
    """One published point: training size, factor, its value in the equation, accuracy."""

    train_size: int
    factor: str
    level: float
    accuracy: float


class PublishedMean(NamedTuple):
    """A published cell of Table 1: accuracies as fractions."""

    mean: float
    std: float


def table1_cell(dataset: str, arm: str, train_size: int) -> PublishedMean | None:
    """Return the published value of an arm, or None if Table 1 has no such cell."""
    if dataset not in TABLE1_DATASETS or arm not in TABLE1_METHODS:
        return None
    frame = pd.read_csv(FOLDER / "table1.csv")
    found = frame[
        (frame["dataset"] == TABLE1_DATASETS[dataset])
        & (frame["method"] == TABLE1_METHODS[arm])
        & (frame["n"] == train_size)
    ]
    for record in found.to_dict("records"):
        return PublishedMean(float(record["mean"]) / 100, float(record["std"]) / 100)
    return None


def figure3_curves() -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return arm -> epochs and accuracies of the published Figure 3(a), in its own units."""
    arms = {name: arm for arm, name in TABLE1_METHODS.items()}
    return {
        arms[str(name)]: (
            tuple(float(epoch) for epoch in curve["epoch"]),
            tuple(float(value) for value in curve["value"]),
        )
        for name, curve in pd.read_csv(FOLDER / "figure3a.csv").groupby("method", sort=False)
    }


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
