"""RelExample: SVMs per tag on its most relevant examples, with and without the tag.

Li and Snoek, Classifying tag relevance with relevant positive and negative examples, ACM
Multimedia 2013; sizes as in the survey of Li et al., ACM Computing Surveys 2016, whose toolkit
KDGAN's authors ran.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from kdgan_core.tagging.linear_svm import (
    TagLines,
    cross_fitted,
    decisions,
    fit_line,
)
from kdgan_core.tagging.neighbours import nearest, weighted_votes
from kdgan_core.tagging.svm_recommender import SvmRecommender

FIRST_NEGATIVES: Final = 500
POOL: Final = (5_000, 10_000)  # least and most images; less where there are fewer
POOL_PER_POSITIVE: Final = 10
SKIPPED: Final = 0.01  # of the pool, taken for images with the tag that do not say so
SMALL_ERROR: Final = 1e-4


class RelExample(SvmRecommender[TagLines]):
    """Ranks an image's tags by p(tag | image) of SVMs on relevant examples.

    Relevant positives: the images with the tag at the top of a fused ranking (`relevance`).
    Relevant negatives: those that earlier SVMs mistake for positives (`negative_bootstrap`).
    Platt's sigmoid is fitted on images that were held out, fold by fold; a new image's decision is
    the mean over the folds.

    The toolkit fits the sigmoid on a bag of five negatives to a positive. That suits ranking the
    images of a tag; ranking the tags of an image needs to know that some are rare. So by default
    the bag has all images.

    A tag that fewer than `folds` training images have, or lack, gets (n_w + 1) / (n + 2) on every
    image.

    Args:
        cost: C; 0 tries COSTS of `linear_svm` and keeps the one with the best MAP on the
            validation images, which takes four times as long.
        positives: most relevant positives.
        negatives: relevant negatives of a round, or as many as there are positives if more.
        rounds: T of Negative Bootstrap, 10 in the toolkit. More than 5 took time and gained
            nothing on Flickr8k.
        neighbours: that vote on the relevance of a positive, n - 1 at most.
        folds: 2 or more.
        sigmoid_negatives: for each positive in the bag of the sigmoid; 0 takes all, the toolkit 5.

    Raises:
        ValueError: a number is outside its range.
    """

    def __init__(
        self,
        cost: float = 1.0,
        *,
        positives: int = 500,
        negatives: int = 1000,
        rounds: int = 5,
        neighbours: int = 100,
        folds: int = 3,
        sigmoid_negatives: int = 0,
    ) -> None:
        super().__init__(
            cost,
            positives=(positives, 1),
            negatives=(negatives, 1),
            rounds=(rounds, 1),
            neighbours=(neighbours, 1),
            folds=(folds, 2),
            sigmoid_negatives=(sigmoid_negatives, 0),
        )
        self.positives, self.negatives = positives, negatives
        self.rounds, self.neighbours = rounds, neighbours
        self.folds, self.sigmoid_negatives = folds, sigmoid_negatives

    def _fitter(
        self, rows: NDArray[np.float32], tags: NDArray[np.bool_]
    ) -> Callable[[float, np.random.Generator], TagLines]:
        relevant = relevance(rows, tags, self.neighbours)
        return lambda cost, generator: self._lines(rows, tags, relevant, cost, generator)

    def _lines(
        self,
        rows: NDArray[np.float32],
        tags: NDArray[np.bool_],
        relevant: NDArray[np.float64],
        cost: float,
        generator: np.random.Generator,
    ) -> TagLines:
        def fit(
            positives: NDArray[np.int64],
            negatives: NDArray[np.int64],
            tag: int,
            numbers: np.random.Generator,
        ) -> NDArray[np.float64]:
            order = np.argsort(-relevant[positives, tag], kind="stable")
            kept = positives[order[: self.positives]]
            return negative_bootstrap(
                rows, kept, negatives, cost, self.rounds, self.negatives, numbers
            )

        return cross_fitted(rows, tags, self.folds, fit, generator, self.sigmoid_negatives)[0]


def relevance(
    features: NDArray[np.float32], tags: NDArray[np.bool_], neighbours: int
) -> NDArray[np.float64]:
    """How relevant each tag is to each image that has it: (n, K), 0 where the image lacks it.

    Borda count of two rankings of the images with the tag: by how many of the image's nearest
    others have the tag, and by the tag's mean similarity to the image's tags (semantic field).

    Args:
        features: (n, F), n of 2 or more.
        tags: (n, K).
        neighbours: that vote, n - 1 at most.

    Raises:
        ValueError: there are fewer than two images, or a feature is not finite.
    """
    near = nearest(features, features, min(neighbours, len(features) - 1), exclude_self=True)
    votes = weighted_votes(near.rows, np.ones(near.rows.shape[1]), tags)
    sizes = np.maximum(tags.sum(axis=1, keepdims=True), 1)
    fields = tags @ tag_similarity(tags) / sizes
    fused = np.zeros(tags.shape)
    for tag in range(tags.shape[1]):
        images = np.flatnonzero(tags[:, tag])
        fused[images, tag] = borda(votes[images, tag], fields[images, tag])
    return fused


def tag_similarity(tags: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(K, K) exp(-d) of the normalised Google distance d of tags; 0 if they share no image.

    d(x, y) = (max(log n_x, log n_y) - log n_xy) / (log n - min(log n_x, log n_y)), where n_x of n
    images have x and n_xy have both. (The toolkit can combine it with a similarity in WordNet,
    where tags need not be.)

    Args:
        tags: (n, K).
    """
    present = tags.astype(np.float64)
    together = present.T @ present
    own = np.diag(together)
    larger, smaller = np.maximum.outer(own, own), np.minimum.outer(own, own)
    shared = together > 0.0
    apart = np.log(np.divide(larger, together, out=np.ones_like(together), where=shared))
    span = np.log(np.divide(len(tags), smaller, out=np.ones_like(together), where=shared))
    # Without a span both tags are on every image, and not apart either.
    distance = np.divide(apart, span, out=np.zeros_like(together), where=span > 0.0)
    return np.where(shared, np.exp(-distance), 0.0)


def borda(*scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) sum of each item's ranks, 1 for the least; equal scores share their mean rank.

    Args:
        scores: (n,) each, larger is better.
    """
    found: NDArray[np.float64] = sum(rankdata(one) for one in scores)
    return found


def negative_bootstrap(
    rows: NDArray[np.float32],
    positives: NDArray[np.int64],
    negatives: NDArray[np.int64],
    cost: float,
    rounds: int,
    per_round: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """(F + 1,) the mean of the SVMs of all rounds.

    The first round's negatives are random. A later one's are the hardest of a random pool for the
    mean so far, G_t = ((t - 1) G_(t-1) + g_t) / t. It ends early once the mean of the two error
    rates, on the positives and on the pool, is below SMALL_ERROR.

    Args:
        rows: (n, F).
        positives: row numbers, used in every round.
        negatives: row numbers to choose from.
        cost: C.
        rounds: T.
        per_round: relevant negatives of a round, or as many as there are positives if more.
        generator: draws the first negatives and the pools.
    """
    least, most = POOL
    size = min(most, max(least, POOL_PER_POSITIVE * len(positives)), len(negatives))
    chosen = generator.choice(negatives, min(FIRST_NEGATIVES, len(negatives)), replace=False)
    mean = fit_line(rows, positives, chosen, cost)
    for number in range(2, rounds + 1):
        pool = generator.choice(negatives, size, replace=False)
        found = decisions(rows, mean)
        missed, false = np.mean(found[positives] < 0.0), np.mean(found[pool] > 0.0)
        if (missed + false) / 2.0 < SMALL_ERROR:
            break
        chosen = pool[hardest(found[pool], max(per_round, len(positives)))]
        mean += (fit_line(rows, positives, chosen, cost) - mean) / number
    return mean


def hardest(found: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Places of the `count` largest decisions after the largest SKIPPED of them, falling.

    Args:
        found: (n,) decisions on images without the tag.
        count: fewer come back if there are not so many.
    """
    skipped = int(SKIPPED * len(found))
    return np.argsort(-found, kind="stable")[skipped : skipped + count]
