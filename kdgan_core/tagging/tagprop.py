"""TagProp: tag propagation with learned weights of the neighbours.

Guillaumin, Mensink, Verbeek and Schmid, TagProp: discriminative metric learning in nearest
neighbor models for image auto-annotation, ICCV 2009.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdgan_core.tagging.neighbours import Neighbours, best, nearest, sizes, weighted_votes
from kdgan_core.tagging.recommender import Recommender, TaggedImages
from kdgan_core.tagging.sigmoids import Sigmoids, fit_sigmoids
from kdgan_core.tagging.tagprop_likelihood import (
    VARIANTS,
    Likelihood,
    maximise,
    neighbour_weights,
)

# The authors' four and 200.
CANDIDATES: Final = (10, 50, 100, 200, 500)
ROUNDS: Final = 10
ROUND_GAIN: Final = 1e-3  # about 1/1000 of L


class Propagation(NamedTuple):
    """A fitted TagProp.

    Attributes:
        variant: rank or distance.
        neighbours: k.
        parameters: (k,) log theta up to a constant, or (1,) v.
        sigmoids: None without.
        history: what was maximised, after each step.
    """

    variant: str
    neighbours: int
    parameters: NDArray[np.float64]
    sigmoids: Sigmoids | None
    history: tuple[float, ...]

    def scores(self, found: Neighbours, tags: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(m, K): x_iw, or with sigmoids the logit of p(y_iw = 1).

        Args:
            found: k or more neighbours of m images.
            tags: (n, K) of the training images.
        """
        rows, distances = found.first(self.neighbours)
        weights = neighbour_weights(self.variant, self.parameters, distances)
        votes = weighted_votes(rows, weights, tags)
        return votes if self.sigmoids is None else self.sigmoids.logits(votes)


class _Propagated(NamedTuple):
    features: NDArray[np.float32]
    tags: NDArray[np.bool_]
    propagation: Propagation


class TagProp(Recommender[_Propagated]):
    """Ranks an image's tags by p(y_iw = 1), the tags of its neighbours weighted.

    p(y_iw = 1) = sum_j pi_ij p(y_iw = 1 | j) over the k nearest training images, by cosine
    distance; `Likelihood` says what is maximised and `neighbour_weights` what pi is. With
    `sigmoid` p(y_iw = 1) = sigmoid(slope_w x_iw + offset_w), x_iw = sum_j pi_ij y_jw: the
    sigmoids and the weights are fitted in turn, which raises the recall of rare tags.

    Args:
        variant: rank, distance, or best, chosen with k.
        neighbours: k; 0 chooses among CANDIDATES, as far as there are training images, by MAP on
            the validation images.
        sigmoid: with a sigmoid per tag.

    Raises:
        ValueError: an unknown variant or a negative k.
    """

    def __init__(self, variant: str = "best", neighbours: int = 0, sigmoid: bool = True) -> None:
        if variant not in (*VARIANTS, "best"):
            raise ValueError(f"variant={variant!r} is not one of {', '.join(VARIANTS)}, best")
        if neighbours < 0:
            raise ValueError(f"neighbours={neighbours!r} is negative; 0 chooses")
        self.variant = variant
        self.neighbours = neighbours
        self.sigmoid = sigmoid

    @property
    def propagation(self) -> Propagation:
        """What `fit` found."""
        return self.model.propagation

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        training, tags, propagation = self.model
        return propagation.scores(nearest(features, training, propagation.neighbours), tags)

    def _fitted(
        self, images: TaggedImages, valid: TaggedImages, generator: np.random.Generator
    ) -> _Propagated:
        """Fit every candidate and keep the best; nothing is drawn."""
        features, tags = images
        choices = sizes(self.neighbours, CANDIDATES, len(features) - 1)
        variants = VARIANTS if self.variant == "best" else (self.variant,)
        around = nearest(features, features, choices[-1], exclude_self=True)
        fitted = [
            propagation
            for k in choices
            for propagation in self._propagations(around.first(k), tags, variants)
        ]
        chosen = fitted[0]
        if len(fitted) > 1:
            found = nearest(valid.features, features, choices[-1])
            chosen = best(fitted, lambda one: one.scores(found, tags), valid.tags)
        return _Propagated(features, tags, chosen)

    def _propagations(
        self, around: Neighbours, tags: NDArray[np.bool_], variants: tuple[str, ...]
    ) -> list[Propagation]:
        likelihood = Likelihood(around.rows, tags)
        return [propagate(likelihood, around.distances, one, self.sigmoid) for one in variants]


def propagate(
    likelihood: Likelihood, distances: NDArray[np.float32], variant: str, sigmoid: bool
) -> Propagation:
    """The weights, and the sigmoids if wanted, that maximise the likelihood.

    The weights start equal. Sigmoids and weights are fitted in turn until a round gains less than
    ROUND_GAIN; the sigmoids come last.

    Args:
        likelihood: of the training images.
        distances: (n, k) of their neighbours.
        variant: rank or distance.
        sigmoid: with a sigmoid per tag.
    """
    neighbours, width = distances.shape[1], likelihood.tags.shape[1]
    parameters = np.zeros(neighbours if variant == "rank" else 1)
    if not sigmoid:
        parameters, steps = maximise(likelihood, distances, variant, parameters, None)
        return Propagation(variant, neighbours, parameters, None, tuple(steps))
    sigmoids = Sigmoids(np.zeros(width), np.zeros(width))
    history: list[float] = []
    reached = -np.inf
    for _ in range(ROUNDS):
        weights = neighbour_weights(variant, parameters, distances)
        votes = likelihood.votes(weights)
        sigmoids = fit_sigmoids(votes, likelihood.tags, likelihood.costs, sigmoids)
        before, reached = reached, likelihood.value_and_gradient(weights, sigmoids)[0]
        history.append(reached)
        if reached - before < ROUND_GAIN:
            break
        parameters, steps = maximise(likelihood, distances, variant, parameters, sigmoids)
        history += steps
    return Propagation(variant, neighbours, parameters, sigmoids, tuple(history))
