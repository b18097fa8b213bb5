"""KNN: tags carried over from the nearest training images.

Makadia, Pavlovic and Kumar, A new baseline for image annotation, ECCV 2008; the form by votes is
that of the survey of Li et al., ACM Computing Surveys 2016, whose toolkit KDGAN's authors ran.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdgan_core.tagging.neighbours import Neighbours, best, nearest, sizes, weighted_votes
from kdgan_core.tagging.recommender import Recommender, TaggedImages

FORMS: Final = ("votes", "transfer")
# The authors' six, and smaller ones for small training sets.
CANDIDATES: Final = (10, 25, 50, 100, 200, 400, 600, 800, 1000)


class _Neighbourhoods(NamedTuple):
    features: NDArray[np.float32]
    tags: NDArray[np.bool_]
    neighbours: int


class KNN(Recommender[_Neighbourhoods]):
    """Ranks an image's tags by those of its nearest training images, by cosine distance.

    votes: score(x, w) = the number of the k nearest that carry w, the whole part of the score.
    transfer: first the tags of the nearest image, by training frequency; then those of images 2
    to k, by co-occurrence in training with the tags of the nearest x frequency among images 2 to
    k; then the rest.
    Ties are broken by training frequency, then by the lower tag number.

    Args:
        neighbours: k; 0 chooses among CANDIDATES, as far as there are training images, by MAP on
            the validation images.
        form: one of FORMS.

    Raises:
        ValueError: an unknown form or a negative k.
    """

    def __init__(self, neighbours: int = 0, form: str = "votes") -> None:
        if form not in FORMS:
            raise ValueError(f"form={form!r} is not one of {', '.join(FORMS)}")
        if neighbours < 0:
            raise ValueError(f"neighbours={neighbours!r} is negative; 0 chooses")
        self.neighbours = neighbours
        self.form = form

    @property
    def chosen_neighbours(self) -> int:
        """The k in use after `fit`."""
        return self.model.neighbours

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        training, tags, neighbours = self.model
        return self._ranked(nearest(features, training, neighbours), tags)

    def _fitted(
        self, images: TaggedImages, valid: TaggedImages, generator: np.random.Generator
    ) -> _Neighbourhoods:
        """Keep the training images and choose k; nothing is drawn."""
        features, tags = images
        choices = sizes(self.neighbours, CANDIDATES, len(features))
        chosen = choices[0]
        if len(choices) > 1:
            found = nearest(valid.features, features, choices[-1])
            chosen = best(choices, lambda k: self._ranked(found.first(k), tags), valid.tags)
        return _Neighbourhoods(features, tags, chosen)

    def _ranked(self, found: Neighbours, tags: NDArray[np.bool_]) -> NDArray[np.float64]:
        if self.form == "transfer":
            return transfer(found.rows, tags)
        return votes(found.rows, tags)


def votes(rows: NDArray[np.int64], tags: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(m, K) counts among the neighbours, plus n_w / (n + 1) < 1 to break their ties.

    Args:
        rows: (m, k) of the neighbours.
        tags: (n, K) of the training images; n_w of them carry w.
    """
    frequency: NDArray[np.float64] = tags.sum(axis=0) / (len(tags) + 1.0)
    return weighted_votes(rows, np.ones(rows.shape[1]), tags) + frequency


def transfer(rows: NDArray[np.int64], tags: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(m, K) places in the ranking of label transfer, from 0 for the last to K - 1.

    A nearest image without tags has nothing to co-occur with: frequency among the others decides.

    Args:
        rows: (m, k) of the neighbours, nearest first.
        tags: (n, K) of the training images.
    """
    present = tags.astype(np.float64)
    frequency = np.broadcast_to(present.sum(0), (len(rows), tags.shape[1]))
    given = tags[rows[:, 0]]  # in a tier of their own: whether they count in `local` is all one
    local = weighted_votes(rows, np.ones(rows.shape[1]), tags)
    together = given @ (present.T @ present)
    together[~given.any(axis=1)] = 1.0
    tier = np.where(given, 2, local > 0.0)
    affinity = np.where(given, 0.0, together * local)
    number = np.broadcast_to(-np.arange(tags.shape[1]), tier.shape)
    order = np.lexsort((number, frequency, affinity, tier), axis=1)
    places = np.empty(tier.shape)
    np.put_along_axis(places, order, np.arange(tier.shape[1], dtype=np.float64)[None], axis=1)
    return places
