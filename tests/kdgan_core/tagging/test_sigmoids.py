"""The sigmoids per tag against scikit-learn's logistic regression, and tags without an answer."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_expit
from sklearn.linear_model import LogisticRegression

from kdgan_core.tagging import sigmoids
from kdgan_core.tagging.sigmoids import RIDGE, Sigmoids, fit_sigmoids

Case = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]


@pytest.fixture(scope="module")
def case() -> Case:
    """Votes, tags that follow them with noise, and costs that differ between the two kinds."""
    rng = np.random.default_rng(0)
    votes = rng.random((300, 6)) ** 3
    tags = rng.random(votes.shape) < votes
    present = tags.sum()
    return votes, tags, np.where(tags, 1 / present, 1 / (tags.size - present))


def zeros(width: int) -> Sigmoids:
    return Sigmoids(np.zeros(width), np.zeros(width))


def values(case: Case, at: Sigmoids) -> NDArray[np.float64]:
    votes, tags, costs = case
    margins = np.where(tags, 1, -1) * (votes * at.slopes + at.offsets)
    penalty = RIDGE / 2 * (at.slopes**2 + at.offsets**2)
    found: NDArray[np.float64] = np.sum(costs * log_expit(margins), axis=0) - penalty
    return found


def test_they_are_scikit_learns(case: Case) -> None:
    votes, tags, costs = case
    found = fit_sigmoids(*case, zeros(6))
    for w in range(6):
        model = LogisticRegression(C=1 / RIDGE, tol=1e-10, solver="newton-cholesky")
        model.fit(votes[:, [w]], tags[:, w], sample_weight=costs[:, w])
        assert found.slopes[w] == pytest.approx(model.coef_[0, 0], rel=1e-3)
        assert found.offsets[w] == pytest.approx(model.intercept_[0], rel=1e-3)


@pytest.mark.parametrize("slope, offset", [(0.0, 0.0), (60.0, -40.0), (-300.0, 200.0)])
def test_every_start_ends_at_the_same_maximum_and_none_below_itself(
    case: Case, slope: float, offset: float
) -> None:
    """Far starts need halved steps: there Newton's own goes downhill."""
    start = Sigmoids(np.full(6, slope), np.full(6, offset))
    found = fit_sigmoids(*case, start)
    assert (values(case, found) >= values(case, start)).all()
    np.testing.assert_allclose(found.slopes, fit_sigmoids(*case, zeros(6)).slopes, rtol=1e-3)


def test_a_step_that_no_halving_helps_is_not_taken(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sigmoids, "HALVINGS", 1)
    start = Sigmoids(np.full(6, 60.0), np.full(6, -40.0))
    assert (values(case, fit_sigmoids(*case, start)) >= values(case, start)).all()


def test_tags_that_no_image_or_every_image_has_and_separable_ones_stay_finite() -> None:
    votes = np.tile(np.linspace(0.0, 1.0, 50)[:, None], (1, 4))
    votes[:, 3] = 0.0  # a tag that no neighbour has
    tags = np.stack([votes[:, 0] < 0, votes[:, 0] >= 0, votes[:, 0] > 0.5, votes[:, 0] > 0.9], 1)
    costs = np.where(tags, 1 / tags.sum(), 1 / (~tags).sum())
    logits = fit_sigmoids(votes, tags, costs, zeros(4)).logits(votes)
    assert np.isfinite(logits).all()
    assert (logits[:, 0] < -3).all() and (logits[:, 1] > 3).all()
    np.testing.assert_array_equal(logits[:, 2] > 0, tags[:, 2])
    assert np.ptp(logits[:, 3]) == 0.0
