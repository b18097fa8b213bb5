"""A sigmoid per tag that turns votes into probabilities: K logistic regressions at once."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

# Keeps the sigmoid of a tag finite that no image carries, or that its votes separate. The costs of
# all images and tags add up to 2: beside any image's it is nothing.
RIDGE: Final = 1e-8
NEWTON_STEPS: Final = 50
NEWTON_GAIN: Final = 1e-10
HALVINGS: Final = 30


class Sigmoids(NamedTuple):
    """p(y_iw = 1) = sigmoid(slope_w x_iw + offset_w) of the votes x_iw; both (K,)."""

    slopes: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def logits(self, votes: NDArray[np.float64]) -> NDArray[np.float64]:
        """slope_w x_iw + offset_w, (m, K).

        Args:
            votes: (m, K).
        """
        return votes * self.slopes + self.offsets

    def moved(self, step: Sigmoids, fraction: NDArray[np.float64]) -> Sigmoids:
        """These plus `fraction`, (K,), of `step`."""
        return Sigmoids(
            self.slopes + fraction * step.slopes, self.offsets + fraction * step.offsets
        )

    def penalty(self) -> NDArray[np.float64]:
        """RIDGE / 2 (slope_w^2 + offset_w^2), (K,)."""
        return 0.5 * RIDGE * (self.slopes**2 + self.offsets**2)


def fit_sigmoids(
    votes: NDArray[np.float64],
    tags: NDArray[np.bool_],
    costs: NDArray[np.float64],
    start: Sigmoids,
) -> Sigmoids:
    """For each tag the maximum of sum_i c_iw ln p(y_iw) - penalty_w, by Newton's method.

    A step that would lower a tag's value is halved until it does not: no tag ends below its start.

    Args:
        votes: (n, K) x_iw.
        tags: (n, K).
        costs: (n, K) c_iw.
        start: where to start.
    """
    signs = np.where(tags, 1.0, -1.0)
    here, value = start, _values(votes, signs, costs, start)
    for _ in range(NEWTON_STEPS):
        step, gain = _newton(votes, tags, costs, here)
        fraction = np.where(gain > NEWTON_GAIN, 1.0, 0.0)
        if not fraction.any():
            break
        for _ in range(HALVINGS):
            reached = _values(votes, signs, costs, here.moved(step, fraction))
            lower = reached < value
            if not lower.any():
                break
            fraction[lower] /= 2.0
        fraction[lower] = 0.0
        here, value = here.moved(step, fraction), np.maximum(value, reached)
    return here


def _values(
    votes: NDArray[np.float64],
    signs: NDArray[np.float64],
    costs: NDArray[np.float64],
    sigmoids: Sigmoids,
) -> NDArray[np.float64]:
    """What each tag maximises, (K,)."""
    log_likelihood = np.einsum("iw,iw->w", costs, log_expit(signs * sigmoids.logits(votes)))
    value: NDArray[np.float64] = log_likelihood - sigmoids.penalty()
    return value


def _newton(
    votes: NDArray[np.float64],
    tags: NDArray[np.bool_],
    costs: NDArray[np.float64],
    sigmoids: Sigmoids,
) -> tuple[Sigmoids, NDArray[np.float64]]:
    """The Newton step, and what each tag, (K,), would gain by it were its function a parabola."""
    probability = expit(sigmoids.logits(votes))
    residual = costs * (tags - probability)
    curvature = costs * probability * (1.0 - probability)
    by_slope = np.einsum("iw,iw->w", residual, votes) - RIDGE * sigmoids.slopes
    by_offset = residual.sum(axis=0) - RIDGE * sigmoids.offsets
    slope_slope = np.einsum("iw,iw,iw->w", curvature, votes, votes) + RIDGE
    slope_offset = np.einsum("iw,iw->w", curvature, votes)
    offset_offset = curvature.sum(axis=0) + RIDGE
    determinant = slope_slope * offset_offset - slope_offset**2
    step = Sigmoids(
        (offset_offset * by_slope - slope_offset * by_offset) / determinant,
        (slope_slope * by_offset - slope_offset * by_slope) / determinant,
    )
    return step, 0.5 * (by_slope * step.slopes + by_offset * step.offsets)
