"""What TagProp maximises, with its gradient (Guillaumin et al., ICCV 2009, section 3).

Shapes: n training images, K tags, k neighbours of each image, none of them itself. y_iw is 1 if
image i carries tag w; pi_ij is the weight of its neighbour j, with pi >= 0 and sum_j pi_ij = 1.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit, log_expit, softmax

from kdgan_core.tagging.sigmoids import Sigmoids

VARIANTS: Final = ("rank", "distance")
EPSILON: Final = 1e-5  # p(y_iw = 1 | j) is 1 - epsilon if j carries w, else epsilon
STEP_GAIN: Final = 1e-5  # the share of L that a step must gain for another to be made
STEPS: Final = 200
# With a bound L-BFGS-B's first step is at most the gradient, which of L itself is so short that
# the small gain would end the search.
LOUDNESS: Final = 1e6


class Likelihood:
    """L = sum_{i,w} c_iw ln p(y_iw), c_iw = 1/n+ for the tags present, 1/n- for the absent.

    n+ and n- count the present and the absent entries of the whole (n, K) table. It holds every
    neighbour's tags: 12 bytes for each of n x k x (tags an image has).

    Args:
        rows: (n, k) row numbers of the neighbours of each training image.
        tags: (n, K).

    Attributes:
        costs: (n, K) c_iw.
    """

    def __init__(self, rows: NDArray[np.int64], tags: NDArray[np.bool_]) -> None:
        present = int(tags.sum())
        absent = tags.size - present
        self.tags = tags
        self.costs = np.where(tags, 1.0 / max(present, 1), 1.0 / max(absent, 1))
        self._signs = np.where(tags, 1.0, -1.0)
        self._shape = rows.shape
        self._carried = _carried(rows, tags)

    def votes(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """x_iw = sum_j pi_ij y_jw, (n, K).

        Args:
            weights: (n, k) pi.
        """
        flat: NDArray[np.float64] = self._carried.T @ weights.ravel()
        return flat.reshape(self.tags.shape)

    def value_and_gradient(
        self, weights: NDArray[np.float64], sigmoids: Sigmoids | None
    ) -> tuple[float, NDArray[np.float64]]:
        """L and dL/dpi, (n, k).

        Without sigmoids p(y_iw = 1) = sum_j pi_ij p(y_iw = 1 | j), which is written as epsilon +
        (1 - 2 epsilon) x_iw: the gradient is that of weights that add up to 1.

        Args:
            weights: (n, k) pi.
            sigmoids: None for the mixture itself.
        """
        votes = self.votes(weights)
        if sigmoids is None:
            scale = 1.0 - 2.0 * EPSILON
            present = EPSILON + scale * votes
            probability = np.where(self.tags, present, 1.0 - present)
            value = np.vdot(self.costs, np.log(probability))
            by_vote = scale * self._signs * self.costs / probability
        else:
            margins = self._signs * sigmoids.logits(votes)
            value = np.vdot(self.costs, log_expit(margins)) - sigmoids.penalty().sum()
            by_vote = self._signs * self.costs * expit(-margins) * sigmoids.slopes
        gradient: NDArray[np.float64] = self._carried @ by_vote.ravel()
        return float(value), gradient.reshape(self._shape)


def neighbour_weights(
    variant: str, parameters: NDArray[np.float64], distances: NDArray[np.float32]
) -> NDArray[np.float64]:
    """pi, (m, k).

    rank: pi_ij = theta_r for the r-th nearest, theta = softmax(parameters): on the simplex, and
    the same for all images. distance: pi_ij = exp(-v d_ij) / sum_j' exp(-v d_ij').

    Args:
        variant: one of VARIANTS.
        parameters: (k,), or (1,) with v >= 0.
        distances: (m, k) d.
    """
    if variant == "rank":
        theta: NDArray[np.float64] = softmax(parameters)
        return np.broadcast_to(theta, distances.shape)
    weights: NDArray[np.float64] = softmax(-parameters[0] * distances, axis=1)
    return weights


def parameter_gradient(
    weights: NDArray[np.float64],
    by_weight: NDArray[np.float64],
    variant: str,
    distances: NDArray[np.float32],
) -> NDArray[np.float64]:
    """dL/dparameters of `neighbour_weights`, their shape.

    Args:
        weights: (n, k) pi.
        by_weight: (n, k) dL/dpi.
        variant: one of VARIANTS.
        distances: (n, k).
    """
    if variant == "rank":
        theta, by_rank = weights[0], by_weight.sum(axis=0)
        gradient: NDArray[np.float64] = theta * (by_rank - theta @ by_rank)
        return gradient
    mean = np.sum(weights * distances, axis=1, keepdims=True)
    return np.array([np.sum(by_weight * weights * (mean - distances))])


def maximise(
    likelihood: Likelihood,
    distances: NDArray[np.float32],
    variant: str,
    parameters: NDArray[np.float64],
    sigmoids: Sigmoids | None,
) -> tuple[NDArray[np.float64], list[float]]:
    """The parameters that maximise L with the sigmoids held, and L after each step to them.

    Args:
        likelihood: of the training images.
        distances: (n, k) of their neighbours.
        variant: one of VARIANTS.
        parameters: where to start.
        sigmoids: None for the mixture itself.
    """

    def negative(here: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = neighbour_weights(variant, here, distances)
        value, by_weight = likelihood.value_and_gradient(weights, sigmoids)
        gradient = parameter_gradient(weights, by_weight, variant, distances)
        return -LOUDNESS * value, -LOUDNESS * gradient

    steps: list[float] = []
    found = minimize(
        negative,
        parameters,
        jac=True,
        method="L-BFGS-B",
        bounds=None if variant == "rank" else [(0.0, None)],
        callback=lambda intermediate_result: steps.append(-intermediate_result.fun / LOUDNESS),
        options={"ftol": STEP_GAIN, "gtol": 1e-9, "maxiter": STEPS},
    )
    return found.x, steps


def _carried(rows: NDArray[np.int64], tags: NDArray[np.bool_]) -> csr_array:
    """(n k, n K): in the row of neighbour r of image i, ones at (i, w) for each tag w it has."""
    images, neighbours = rows.shape
    of_neighbour = csr_array(tags.astype(np.float64))[rows.ravel()]
    starts = of_neighbour.indptr
    tags_around = np.diff(starts[::neighbours])
    own = np.repeat(np.arange(images, dtype=np.int64) * tags.shape[1], tags_around)
    return csr_array(
        (of_neighbour.data, of_neighbour.indices + own, starts),
        shape=(images * neighbours, tags.size),
    )
