"""Lines, sigmoids and cross-fitting against scikit-learn's own, and who sees which images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from kdgan_core.tagging.linear_svm import (
    COSTS,
    TOLERANCE,
    TagLines,
    cross_fitted,
    decisions,
    fit_line,
    fit_platt,
    fit_with_cost,
    unit_rows,
)

Rows = NDArray[np.int64]


class Recorder:
    """Fits lines at a cost of 1, and remembers what on."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self.rows = rows
        self.calls: list[tuple[Rows, Rows, int, NDArray[np.float64]]] = []

    def __call__(
        self, positives: Rows, negatives: Rows, tag: int, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        line = fit_line(self.rows, positives, negatives, 1.0)
        self.calls.append((positives, negatives, tag, line))
        return line


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    return unit_rows(np.random.default_rng(0).normal(size=(150, 8)))


@pytest.fixture(scope="module")
def tags(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(150, 4), from frequent to rare, each along one of the features."""
    noise = 0.2 * np.random.default_rng(1).normal(size=(150, 4))
    return rows[:, :4] + noise > np.array([0.0, 0.2, 0.4, 0.6])


def test_rows_have_length_one_and_rows_of_zeros_stay() -> None:
    found = unit_rows(np.array([[3, 4], [0, 0], [-6e4, 8e4]], dtype=np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, 0.0], [-0.6, 0.8]], rtol=1e-6)
    assert found.dtype == np.float32
    with pytest.raises(ValueError, match="NaN"):
        unit_rows(np.array([[1.0, np.nan]]))


@pytest.mark.parametrize("cost", COSTS)
def test_a_line_is_scikit_learns_with_both_classes_of_equal_weight(
    rows: NDArray[np.float32], tags: NDArray[np.bool_], cost: float
) -> None:
    positives, negatives = np.flatnonzero(tags[:, 2]), np.flatnonzero(~tags[:, 2])
    weights = {True: 0.5 * 150 / len(positives), False: 0.5 * 150 / len(negatives)}
    model = LinearSVC(dual=False, C=cost, class_weight=weights, tol=1e-8)
    expected = model.fit(rows, tags[:, 2]).decision_function(rows)
    found = decisions(rows, fit_line(rows, positives, negatives, cost))
    np.testing.assert_allclose(found, expected, atol=2 * TOLERANCE)


def test_decisions_of_one_line_and_of_many(rows: NDArray[np.float32]) -> None:
    lines = np.random.default_rng(0).normal(size=(3, 9))
    expected = rows.astype(np.float64) @ lines[:, :8].T + lines[:, 8]
    np.testing.assert_allclose(decisions(rows, lines), expected, atol=1e-5)
    np.testing.assert_allclose(decisions(rows, lines[1]), expected[:, 1], atol=1e-5)
    with pytest.raises(ValueError, match="8 features, training images 9"):
        decisions(rows, np.zeros((3, 10)))


@pytest.mark.parametrize("tag", range(4))
def test_platts_sigmoid_is_scikit_learns(
    rows: NDArray[np.float32], tags: NDArray[np.bool_], tag: int
) -> None:
    model = LinearSVC(dual=False).fit(rows[:75], tags[:75, tag])
    found = model.decision_function(rows[75:])
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid", ensemble=False)
    calibrated.fit(rows[75:], tags[75:, tag])
    slope, offset = fit_platt(found, tags[75:, tag])
    expected = calibrated.predict_proba(rows[75:])[:, 1]
    np.testing.assert_allclose(expit(slope * found + offset), expected, atol=1e-4)


def test_platts_sigmoid_is_near_to_a_logistic_regression_where_there_are_many_images() -> None:
    rng = np.random.default_rng(0)
    found = rng.normal(size=20_000)
    is_positive = rng.random(20_000) < expit(2.0 * found - 3.0)
    model = LogisticRegression(C=np.inf).fit(found[:, None], is_positive)
    slope, offset = fit_platt(found, is_positive)
    assert slope == pytest.approx(model.coef_[0, 0], rel=5e-3)
    assert offset == pytest.approx(model.intercept_[0], rel=5e-3)


@settings(max_examples=25, deadline=None)
@given(exponent=st.integers(-9, 9), centre=st.floats(-10, 10), present=st.integers(1, 59))
def test_the_scale_of_decisions_does_not_matter(
    exponent: int, centre: float, present: int
) -> None:
    found = np.random.default_rng(present).normal(size=60)
    is_positive = np.arange(60) < present
    slope, offset = fit_platt(found, is_positive)
    moved = (found + centre) * 10.0**exponent
    moved_slope, moved_offset = fit_platt(moved, is_positive)
    np.testing.assert_allclose(
        expit(moved_slope * moved + moved_offset), expit(slope * found + offset), atol=1e-6
    )


def test_separable_decisions_have_finite_sigmoids_and_equal_ones_a_flat_one() -> None:
    is_positive = np.arange(50) < 10
    slope, offset = fit_platt(np.where(is_positive, 1.0, -1.0), is_positive)
    assert 0.0 < slope < 10.0
    assert expit(slope + offset) == pytest.approx(11 / 12, abs=1e-6)
    assert expit(offset - slope) == pytest.approx(1 / 42, abs=1e-6)
    slope, offset = fit_platt(np.full(50, 0.1), is_positive)
    assert slope == 0.0
    assert expit(offset) == pytest.approx((10 * 11 / 12 + 40 / 42) / 50)


def test_every_image_is_judged_by_a_line_that_did_not_see_it(
    rows: NDArray[np.float32], tags: NDArray[np.bool_]
) -> None:
    fit = Recorder(rows)
    fitted, held_out = cross_fitted(rows, tags, 3, fit, np.random.default_rng(0))
    assert [call[2] for call in fit.calls] == [tag for tag in range(4) for _ in range(3)]
    for tag in range(4):
        judged = np.zeros(150, dtype=int)
        calls = [call for call in fit.calls if call[2] == tag]
        found = np.empty(150)
        for positives, negatives, _, line in calls:
            assert tags[positives, tag].all() and not tags[negatives, tag].any()
            unseen = np.setdiff1d(np.arange(150), np.concatenate([positives, negatives]))
            assert tags[unseen, tag].sum() >= tags[:, tag].sum() // 3
            judged[unseen] += 1
            found[unseen] = decisions(rows[unseen], line)
        assert (judged == 1).all()
        slope, offset = fit_platt(found, tags[:, tag])
        assert (fitted.slopes[tag], fitted.offsets[tag]) == pytest.approx((slope, offset))
        np.testing.assert_allclose(held_out[:, tag], expit(slope * found + offset), atol=1e-6)
        mean = np.mean([call[3] for call in calls], axis=0)
        np.testing.assert_allclose(fitted.lines[tag], mean, atol=1e-12)
        expected = expit(slope * decisions(rows, mean) + offset)
        np.testing.assert_allclose(fitted.probabilities(rows)[:, tag], expected, atol=1e-6)


def test_the_probability_follows_the_bag_of_the_sigmoid(
    rows: NDArray[np.float32], tags: NDArray[np.bool_]
) -> None:
    """All images: the tag's frequency. Two negatives to a positive: a third, for any tag."""
    means = {}
    for each in (0, 2):
        fitted, held_out = cross_fitted(
            rows, tags, 3, Recorder(rows), np.random.default_rng(0), each
        )
        np.testing.assert_array_less(0.0, fitted.slopes)
        means[each] = held_out.mean(axis=0)
    present = tags.mean(axis=0)
    np.testing.assert_allclose(means[0], present, atol=0.02)
    rare = present < 0.3
    assert rare.sum() == 2
    assert (means[2][rare] > present[rare] + 0.03).all()


def test_a_tag_that_too_few_images_have_or_lack_is_the_same_everywhere(
    rows: NDArray[np.float32],
) -> None:
    tags = np.zeros((150, 5), dtype=bool)
    for tag, present in enumerate((0, 2, 3, 148, 150)):
        tags[:present, tag] = True
    fit = Recorder(rows)
    fitted, held_out = cross_fitted(rows, tags, 3, fit, np.random.default_rng(0))
    assert {call[2] for call in fit.calls} == {2}
    constant = [0, 1, 3, 4]
    expected = np.tile(np.array([1, 3, 149, 151]) / 152, (150, 1))
    np.testing.assert_allclose(fitted.probabilities(rows)[:, constant], expected)
    np.testing.assert_allclose(held_out[:, constant], expected)
    assert np.ptp(fitted.probabilities(rows)[:, 2]) > 0.0


def test_noise_is_not_learned_by_heart() -> None:
    """More features than images: an SVM knows its own images, but no other."""
    rng = np.random.default_rng(0)
    rows, tags = unit_rows(rng.normal(size=(200, 400))), rng.random((200, 10)) < 0.4
    _, held_out = cross_fitted(rows, tags, 3, Recorder(rows), rng)
    assert abs(np.mean(held_out[tags]) - np.mean(held_out[~tags])) < 0.03
    own = [fit_line(rows, np.flatnonzero(t), np.flatnonzero(~t), 1.0) for t in tags.T]
    assert np.mean((decisions(rows, np.stack(own)) > 0.0) == tags) > 0.97


def model_of(cost: float, generator: np.random.Generator) -> tuple[float, float]:
    return cost, generator.random()


def test_a_given_cost_is_taken_unseen() -> None:
    def scores(model: tuple[float, float]) -> NDArray[np.float64]:
        raise AssertionError("there is nothing to choose")

    no_tags = np.zeros((2, 2), dtype=bool)
    found = fit_with_cost(0.3, model_of, scores, no_tags, np.random.default_rng(0))
    assert found[0] == found[1][0] == 0.3


def test_the_cost_with_the_best_map_is_chosen_and_all_get_the_same_numbers() -> None:
    valid_tags = np.array([[False, True]])
    seen: list[tuple[float, float]] = []

    def scores(model: tuple[float, float]) -> NDArray[np.float64]:
        seen.append(model)
        return np.array([[0.5, 1.0 if model[0] == 0.1 else 0.0]])

    cost, model = fit_with_cost(0.0, model_of, scores, valid_tags, np.random.default_rng(0))
    assert cost == model[0] == 0.1
    assert tuple(one for one, _ in seen) == COSTS
    assert len({number for _, number in seen}) == 1
    given = fit_with_cost(0.1, model_of, scores, valid_tags, np.random.default_rng(0))
    assert given == (cost, model)
    with pytest.raises(ValueError, match="give a cost"):
        fit_with_cost(0.0, model_of, scores, ~np.ones((1, 2), bool), np.random.default_rng(0))


def test_calibrated_is_the_sigmoid_of_each_tags_decisions() -> None:
    fitted = TagLines(np.zeros((2, 4)), np.array([1.0, -2.0]), np.array([0.5, 0.0]))
    found = fitted.calibrated(np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(found, expit([[0.5, -2.0]]))
