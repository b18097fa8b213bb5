"""What the tests of the recommenders share: a small table of posts, fitting, fitted lines."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import label_ranking_average_precision_score

from kdgan_core.tagging.linear_svm import fit_line
from kdgan_core.tagging.recommender import Recommender

Table = tuple[NDArray[np.float32], NDArray[np.bool_]]
Rows = NDArray[np.int64]
Fitted = TypeVar("Fitted", bound=Recommender)
WIDTH, TAGS = 12, 6


class Call(NamedTuple):
    """One fitted line, and what on."""

    rows: NDArray[np.float32]
    positives: Rows
    negatives: Rows
    cost: float
    line: NDArray[np.float64]


def small_posts() -> dict[str, Table]:
    """Images whose tags are more likely the further they are along one of the features."""
    rng = np.random.default_rng(0)
    tables: dict[str, Table] = {}
    for split, images in (("train", 200), ("validation", 60), ("test", 60)):
        features = rng.normal(size=(images, WIDTH)).astype(np.float32)
        limits = np.linspace(0.0, 1.2, TAGS)
        tables[split] = features, features[:, :TAGS] + 0.5 * rng.normal(size=(images, 6)) > limits
    return tables


def watch_lines(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every line that the module fits from now on, in order; it is fitted as ever."""
    seen: list[Call] = []

    def watched(
        rows: NDArray[np.float32], positives: Rows, negatives: Rows, cost: float
    ) -> NDArray[np.float64]:
        line = fit_line(rows, positives, negatives, cost)
        seen.append(Call(rows, positives, negatives, cost, line))
        return line.copy()

    monkeypatch.setattr(module, "fit_line", watched)
    return seen


def fitted(model: Fitted, posts: dict[str, Table], seed: int = 0) -> Fitted:
    model.fit(*posts["train"], *posts["validation"], np.random.default_rng(seed))
    return model


def mean_precision(scores: NDArray[np.float64], tags: NDArray[np.bool_]) -> float:
    """MAP over the images with a tag, by scikit-learn."""
    has_tag = tags.any(axis=1)
    return float(label_ranking_average_precision_score(tags[has_tag], scores[has_tag]))
