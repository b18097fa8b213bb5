"""The neighbour search against scikit-learn's, its ties, and the choice of how many."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from kdgan_core.tagging import neighbours
from kdgan_core.tagging.neighbours import best, nearest, sizes, weighted_votes

CLOSE = 1e-6


def normal(rows: int, width: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 7, 60])
def test_they_are_those_of_scikit_learn(count: int) -> None:
    training, images = normal(60, 5, 0), normal(20, 5, 1)
    found = nearest(images, training, count)
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute")
    distances, rows = search.fit(training.astype(np.float64)).kneighbors(images.astype(float))
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances, atol=CLOSE)
    np.testing.assert_array_equal(found.first(1).rows, rows[:, :1])


@pytest.mark.parametrize("chunk", [1, 130, 1 << 24])
def test_the_size_of_a_chunk_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    training = normal(60, 5, 0)
    whole = nearest(training, training, 9, exclude_self=True)
    monkeypatch.setattr(neighbours, "CHUNK_DISTANCES", chunk)
    found = nearest(training, training, 9, exclude_self=True)
    np.testing.assert_array_equal(found.rows, whole.rows)
    np.testing.assert_allclose(found.distances, whole.distances, atol=CLOSE)


def test_equal_distances_are_ordered_by_the_lower_row() -> None:
    """Whole numbers on the axes: cosines are exactly 0 or 1, so most ties are at the cut."""
    axes = np.eye(4, dtype=np.float32)
    training = np.concatenate([axes[[2, 0, 1, 0, 3, 0]], 2.0 * axes[[0, 1]]])
    found = nearest(axes[:2], training, 3)
    np.testing.assert_array_equal(found.rows, [[1, 3, 5], [2, 7, 0]])
    np.testing.assert_array_equal(found.distances, [[0, 0, 0], [0, 0, 1]])


def test_no_image_is_a_neighbour_of_itself_but_its_copy_is() -> None:
    training = normal(40, 3, 0)
    training[30] = training[4]
    found = nearest(training, training, 39, exclude_self=True)
    for row in range(40):
        assert sorted(found.rows[row]) == [other for other in range(40) if other != row]
    assert (found.rows[4, 0], found.rows[30, 0]) == (30, 4)


def test_features_that_are_all_zero_are_at_distance_one() -> None:
    training = normal(5, 3, 0)
    training[2] = 0.0
    found = nearest(np.zeros((1, 3), dtype=np.float32), training, 5)
    np.testing.assert_array_equal(found.rows, [[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(found.distances, np.ones((1, 5)))


def test_votes_are_weighted_sums_of_the_neighbours_tags() -> None:
    rng = np.random.default_rng(0)
    tags = rng.random((9, 4)) < 0.4
    rows, weights = rng.integers(0, 9, (6, 3)), rng.random((6, 3))
    expected = [
        [sum(weights[i, r] * tags[rows[i, r], w] for r in range(3)) for w in range(4)]
        for i in range(6)
    ]
    np.testing.assert_allclose(weighted_votes(rows, weights, tags), expected, atol=1e-12)
    same = weighted_votes(rows, np.broadcast_to(weights[0], (6, 3)), tags)
    np.testing.assert_allclose(weighted_votes(rows, weights[0], tags), same, atol=1e-12)


def test_sizes_are_those_that_there_are_images_for() -> None:
    assert sizes(0, (100, 10, 50), 60) == (10, 50)
    assert sizes(0, (100, 10), 100) == (10, 100)
    assert sizes(0, (10,), 7) == (7,)
    assert sizes(3, (10,), 7) == (3,)


@pytest.mark.parametrize("count, available", [(8, 7), (-1, 7), (0, 0)])
def test_sizes_outside_are_refused(count: int, available: int) -> None:
    with pytest.raises(ValueError, match=rf"neighbours={count} is outside \[0, {available}\]"):
        sizes(count, (10,), available)


def test_the_best_is_the_first_with_the_highest_map() -> None:
    tags = np.array([[True, False, False], [False, False, False]])
    tables = {"low": [[1.0, 2.0, 3.0]], "high": [[3.0, 2.0, 1.0]], "same": [[9.0, 2.0, 1.0]]}
    choices = ["low", "high", "same"]
    assert best(choices, lambda one: np.array(tables[one] * 2), tags) == "high"
    assert best(["low"], lambda one: np.array([[np.nan]]), np.zeros((0, 3), bool)) == "low"
    with pytest.raises(ValueError, match="no validation image has a tag"):
        best(choices, lambda one: np.array(tables[one] * 2), tags[1:])


def test_bad_input_is_refused() -> None:
    training = normal(5, 3, 0)
    with pytest.raises(ValueError, match=r"neighbours=6 is outside \[1, 5\]"):
        nearest(training, training, 6)
    with pytest.raises(ValueError, match=r"neighbours=5 is outside \[1, 4\]"):
        nearest(training, training, 5, exclude_self=True)
    with pytest.raises(ValueError, match="images have 2 features, training images have 3"):
        nearest(training[:, :2], training, 1)
    training[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3 are not all finite"):
        nearest(training[:1], training, 1)
