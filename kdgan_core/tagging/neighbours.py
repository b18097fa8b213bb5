"""The nearest training images, and how many of them to use: what KNN and TagProp share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from kdgan_core.metrics import means, per_image

CHUNK_DISTANCES = 1 << 24  # 64 MB of float32 distances at a time

Choice = TypeVar("Choice")


class Neighbours(NamedTuple):
    """k training images of each of m images, nearest first.

    Attributes:
        rows: (m, k) their row numbers.
        distances: (m, k) cosine distances, in [0, 2].
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]

    def first(self, count: int) -> Neighbours:
        """The `count` nearest."""
        return Neighbours(self.rows[:, :count], self.distances[:, :count])


def nearest(
    images: NDArray[np.float32],
    training: NDArray[np.float32],
    count: int,
    *,
    exclude_self: bool = False,
) -> Neighbours:
    """The `count` training images at the least cosine distance of each image.

    Equal distances are ordered by the lower row. An image whose features are all zero is at
    distance 1 of every other. Distances are held for some of the images at a time.

    Args:
        images: (m, F).
        training: (n, F).
        count: k, at most n, or n - 1 with `exclude_self`.
        exclude_self: `images` are the training images, and none is a neighbour of itself; a copy
            of it in another row is.

    Raises:
        ValueError: `count` is outside its range, the widths differ or a feature is not finite.
    """
    available = len(training) - exclude_self
    if not 1 <= count <= available:
        raise ValueError(f"neighbours={count!r} is outside [1, {available}], the training images")
    units = _normalised(training)
    queries = units if exclude_self else _normalised(images)
    if queries.shape[1] != units.shape[1]:
        raise ValueError(
            f"images have {queries.shape[1]} features, training images have {units.shape[1]}"
        )
    rows = np.empty((len(queries), count), dtype=np.int64)
    distances = np.empty((len(queries), count), dtype=np.float32)
    step = max(1, CHUNK_DISTANCES // len(units))
    for start in range(0, len(queries), step):
        chunk = slice(start, start + step)
        table = np.maximum(1.0 - queries[chunk] @ units.T, np.float32(0.0))
        if exclude_self:
            own = np.arange(len(table))
            table[own, start + own] = np.inf
        rows[chunk] = _least(table, count)
        distances[chunk] = np.take_along_axis(table, rows[chunk], axis=1)
    return Neighbours(rows, distances)


def weighted_votes(
    rows: NDArray[np.int64], weights: NDArray[np.float64], tags: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """sum_r weights[i, r] tags[rows[i, r], w], shape (m, K).

    Args:
        rows: (m, k) row numbers of training images.
        weights: (m, k), or (k,) for all images the same.
        tags: (n, K) of the training images.
    """
    data = np.broadcast_to(weights, rows.shape).ravel()
    starts = np.arange(len(rows) + 1) * rows.shape[1]
    table = csr_array((data, rows.ravel(), starts), shape=(len(rows), len(tags)))
    votes: NDArray[np.float64] = table @ tags.astype(np.float64)
    return votes


def sizes(neighbours: int, candidates: Sequence[int], available: int) -> tuple[int, ...]:
    """The neighbourhood sizes to choose among, rising.

    Args:
        neighbours: the size if it is given, 0 to choose among the candidates.
        candidates: those that are at most `available` are kept; `available` itself if none is.
        available: how many training images can be neighbours.

    Raises:
        ValueError: `neighbours` is outside [0, available], or nothing is available.
    """
    if not 0 <= neighbours <= available or available < 1:
        raise ValueError(
            f"neighbours={neighbours!r} is outside [0, {available}], the training images that"
            " can be neighbours; 0 chooses on the validation images"
        )
    if neighbours:
        return (neighbours,)
    return tuple(k for k in sorted(candidates) if k <= available) or (available,)


def best(
    choices: Sequence[Choice],
    scores: Callable[[Choice], NDArray[np.float64]],
    tags: NDArray[np.bool_],
) -> Choice:
    """The choice with the best MAP on the validation images, the first of equals.

    Args:
        choices: one or more; a single one is returned unseen.
        scores: (m, K) of the validation images under a choice.
        tags: (m, K) of the validation images.

    Raises:
        ValueError: there is something to choose but no validation image with a tag.
    """
    if len(choices) == 1:
        return choices[0]
    if not tags.any():
        raise ValueError("no validation image has a tag: give neighbours, there is no choosing")
    found = [mean_average_precision(scores(choice), tags) for choice in choices]
    return choices[int(np.argmax(found))]


def mean_average_precision(scores: NDArray[np.float64], tags: NDArray[np.bool_]) -> float:
    """MAP over the images that have a tag.

    Args:
        scores: (m, K).
        tags: (m, K).
    """
    return means(per_image(torch.tensor(scores), torch.tensor(tags)))["map"]


def _normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row over its Euclidean length; rows of zeros stay."""
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise ValueError(f"the features of row {bad[0]} are not all finite")
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.where(lengths > 0.0, lengths, 1.0)).astype(np.float32, copy=False)


def _least(table: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Columns of the `count` least values of each row, rising, ties by the lower column."""
    columns = np.argpartition(table, count - 1, axis=1)[:, :count]
    columns.sort(axis=1)
    values = np.take_along_axis(table, columns, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    columns = np.take_along_axis(columns, order, axis=1)
    # A partition takes any of those that tie for the last place.
    largest = values.max(axis=1, keepdims=True)
    for row in np.flatnonzero((table <= largest).sum(axis=1) > count):
        columns[row] = np.argsort(table[row], kind="stable")[:count]
    return columns
