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
# The paper trains on every image; with some held back for validation fewer are left -> its size.
TABLE1_WHOLE: Final = {("cifar10", 45_000): 50_000}
TABLE1_LABEL: Final = "published (mean ± standard deviation, as printed)"
FIGURE3_SIZE: Final = 100  # whose values of Table 1 the published curves were moved to
# The same for table2.csv and for figure3b.csv and figure5_*.csv.
TABLE2_DATASETS: Final = {"yfcc-popular": "most_popular", "yfcc-random": "randomly_sampled"}
TABLE2_METHODS: Final = {
    "knn": "KNN", "tagprop": "TPROP", "tagfeature": "TFEAT", "relexample": "REXMP",
    "nagan": "NaGAN", "kdgan": "KDGAN",
}  # fmt: skip
TABLE2_LABEL: Final = "published (as printed)"
# The paper's F@N takes R-precision for its recall: it is compared with no other form.
TAG_METRICS: Final = {
    "p_at_3": "P@3", "p_at_5": "P@5", "authors_f_at_3": "F@3", "authors_f_at_5": "F@5",
    "map": "MAP", "mrr": "MRR",
}  # fmt: skip
FIGURE5_METRICS: Final = ("p_at_3", "authors_f_at_3", "map", "mrr")
FIGURE5_DATASET: Final = "yfcc-popular"
# Training posts that stand beside published values: all of the user's file, as many as in the
# authors' code (random tags, popular tags), or as in the paper.
TAG_SIZES: Final = (0, 8000, 9500, 20_000)

Floats = tuple[float, ...]


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
    """Return the published value of an arm, or None if Table 1 has no such cell.

    What is left of a whole training set is given the cell of the whole (`TABLE1_WHOLE`).
    """
    if dataset not in TABLE1_DATASETS or arm not in TABLE1_METHODS:
        return None
    frame = pd.read_csv(FOLDER / "table1.csv")
    found = frame[
        (frame["dataset"] == TABLE1_DATASETS[dataset])
        & (frame["method"] == TABLE1_METHODS[arm])
        & (frame["n"] == TABLE1_WHOLE.get((dataset, train_size), train_size))
    ]
    for record in found.to_dict("records"):
        return PublishedMean(float(record["mean"]) / 100, float(record["std"]) / 100)
    return None


def table2_cell(dataset: str, arm: str, train_size: int, metric: str) -> float | None:
    """Return the published value of an arm in a metric, or None if Table 2 has no such cell.

    The cell of NaGAN, most popular tags, MRR is blank on the page.
    """
    is_there = dataset in TABLE2_DATASETS and arm in TABLE2_METHODS and metric in TAG_METRICS
    if not is_there or train_size not in TAG_SIZES:
        return None
    frame = pd.read_csv(FOLDER / "table2.csv")
    (value,) = frame[
        (frame["label_set"] == TABLE2_DATASETS[dataset])
        & (frame["method"] == TABLE2_METHODS[arm])
        & (frame["metric"] == TAG_METRICS[metric])
    ]["value"]
    return None if pd.isna(value) else float(value)


def figure3_curves(panel: Literal["a", "b"] = "a") -> dict[str, tuple[Floats, Floats]]:
    """Return arm -> epochs and values of a published panel of Figure 3, in its own units.

    (a) is accuracy on MNIST, (b) is P@3 on YFCC100M.
    """
    arms = {name: arm for arm, name in (TABLE1_METHODS | TABLE2_METHODS).items()}
    return {
        arms[str(name)]: (
            tuple(float(epoch) for epoch in curve["epoch"]),
            tuple(float(value) for value in curve["value"]),
        )
        for name, curve in pd.read_csv(FOLDER / f"figure3{panel}.csv").groupby(
            "method", sort=False
        )
    }


def load_figure4(factor: str) -> pd.DataFrame:
    """Return the published Figure 4 panel of `factor`, one record per plotted point."""
    return _panel(4, factor)


def load_figure5(factor: str) -> pd.DataFrame:
    """Return the published Figure 5 panel of `factor`, one record per plotted point."""
    return _panel(5, factor)


def published_curve(
    dataset: str, metric: str, factor: str, train_size: int, mode: PublishedMode
) -> tuple[Floats, Floats]:
    """Return levels and values of the published curve that is of the same data, empty if none.

    On mnist that is Figure 4's of the same size, on yfcc-popular Figure 5's.
    """
    if dataset == DATASET:
        return figure4_curve(factor, train_size, mode)
    if dataset == FIGURE5_DATASET and train_size in TAG_SIZES:
        return figure5_curve(factor, metric, mode)
    return (), ()


def figure4_curve(factor: str, train_size: int, mode: PublishedMode) -> tuple[Floats, Floats]:
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
    return _curve(frame[frame["n"] == train_size], mode)


def figure5_curve(factor: str, metric: str, mode: PublishedMode) -> tuple[Floats, Floats]:
    """Return levels and values of one published curve, ordered by level; empty if none.

    Args:
        factor: alpha, beta, gamma, or tau (which has no published panel).
        metric: One of FIGURE5_METRICS; others were not drawn.
        mode: As for Figure 4.
    """
    if mode == "none" or factor not in FACTORS or metric not in FIGURE5_METRICS:
        return (), ()
    frame = load_figure5(factor)
    return _curve(frame[frame["metric"] == TAG_METRICS[metric]], mode)


def best_figure4_cell(train_size: int) -> PublishedCell | None:
    """Return the highest published cell of `train_size`, plotting constants removed, or None."""
    cells = [
        PublishedCell(train_size, factor, level, accuracy)
        for factor in FACTORS
        for level, accuracy in zip(*figure4_curve(factor, train_size, "corrected"), strict=True)
    ]
    return max(cells, key=lambda cell: cell.accuracy, default=None)


def _panel(figure: int, factor: str) -> pd.DataFrame:
    if factor not in FACTORS:
        known = ", ".join(FACTORS)
        raise ValueError(f"factor is {factor!r}; Figure {figure} was published for {known}")
    return pd.read_csv(FOLDER / f"figure{figure}_{factor}.csv")


def _curve(frame: pd.DataFrame, mode: PublishedMode) -> tuple[Floats, Floats]:
    level, value = (
        ("equation_axis", "unshifted_value")
        if mode == "corrected"
        else ("printed_axis", "printed_value")
    )
    frame = frame.sort_values(level)
    return tuple(map(float, frame[level])), tuple(map(float, frame[value]))
