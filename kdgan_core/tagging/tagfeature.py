"""TagFeature: the tags that an image looks like, as features beside the visual ones.

Chen, Xu, Tsang and Luo, Tag-based image retrieval improved by augmented features and group-based
refinement, IEEE Transactions on Multimedia 2012; as in the survey of Li et al., ACM Computing
Surveys 2016, whose toolkit KDGAN's authors ran (their script leaves the tag feature out:
`feature_tags=0`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdgan_core.tagging.linear_svm import (
    TagLines,
    cross_fitted,
    fit_line,
    unit_rows,
)
from kdgan_core.tagging.svm_recommender import SvmRecommender


class _Layers(NamedTuple):
    """The two layers: lines of the tag feature, None without, and lines of the tags."""

    feature_lines: TagLines | None
    lines: TagLines

    def probabilities(self, visual: NDArray[np.float32]) -> NDArray[np.float64]:
        """(m, K) of (m, F) visual rows of unit length."""
        if self.feature_lines is None:
            return self.lines.probabilities(visual)
        tag_feature = self.feature_lines.probabilities(visual)
        return self.lines.probabilities(augmented(visual, tag_feature))


class TagFeature(SvmRecommender[_Layers]):
    """Ranks an image's tags by p(tag | image), linear SVMs on visual features and tag feature.

    1. For each of the most frequent tags linear SVMs, images with the tag against random images
       without it, a bag each; their mean decision through Platt's sigmoid is a number of the
       image's tag feature.
    2. Both features, each of unit length, are put side by side.
    3. For each tag linear SVMs on this, averaged over bags, and Platt's sigmoid: the score.

    Both layers are cross-fitted: the tag feature of a training image comes from SVMs that did not
    see it, or else the second layer would trust the first too much. Each of the `bags` is drawn
    anew in each fold, so a new image is judged by bags x folds SVMs. The sigmoids are fitted on
    all held-out training images, so that the scores of different tags can be compared.

    A tag that fewer than `folds` training images have, or lack, gets (n_w + 1) / (n + 2) on every
    image.

    Args:
        cost: C; 0 tries COSTS of `linear_svm` and keeps the one with the best MAP on the
            validation images, which takes four times as long.
        feature_tags: how many tags the tag feature has at most; 0 leaves it out.
        positives: most images with the tag in a bag.
        negatives: most images without it in a bag.
        bags: of a fold.
        folds: 2 or more.

    Raises:
        ValueError: a number is outside its range.
    """

    def __init__(
        self,
        cost: float = 1.0,
        *,
        feature_tags: int = 400,
        positives: int = 500,
        negatives: int = 500,
        bags: int = 2,
        folds: int = 3,
    ) -> None:
        super().__init__(
            cost,
            feature_tags=(feature_tags, 0),
            positives=(positives, 1),
            negatives=(negatives, 1),
            bags=(bags, 1),
            folds=(folds, 2),
        )
        self.feature_tags = feature_tags
        self.positives, self.negatives = positives, negatives
        self.bags, self.folds = bags, folds

    def _fitter(
        self, rows: NDArray[np.float32], tags: NDArray[np.bool_]
    ) -> Callable[[float, np.random.Generator], _Layers]:
        return lambda cost, generator: self._layers(rows, tags, cost, generator)

    def _layers(
        self,
        visual: NDArray[np.float32],
        tags: NDArray[np.bool_],
        cost: float,
        generator: np.random.Generator,
    ) -> _Layers:
        if not self.feature_tags:
            return _Layers(None, self._layer(visual, tags, cost, generator)[0])
        frequent = np.argsort(-tags.sum(axis=0), kind="stable")[: self.feature_tags]
        feature_lines, tag_feature = self._layer(visual, tags[:, frequent], cost, generator)
        both = augmented(visual, tag_feature)
        return _Layers(feature_lines, self._layer(both, tags, cost, generator)[0])

    def _layer(
        self,
        rows: NDArray[np.float32],
        tags: NDArray[np.bool_],
        cost: float,
        generator: np.random.Generator,
    ) -> tuple[TagLines, NDArray[np.float64]]:
        def fit(
            positives: NDArray[np.int64],
            negatives: NDArray[np.int64],
            tag: int,
            numbers: np.random.Generator,
        ) -> NDArray[np.float64]:
            line = np.zeros(rows.shape[1] + 1)
            for _ in range(self.bags):
                some = _some(positives, self.positives, numbers)
                others = _some(negatives, self.negatives, numbers)
                line += fit_line(rows, some, others, cost) / self.bags
            return line

        return cross_fitted(rows, tags, self.folds, fit, generator)


def augmented(
    visual: NDArray[np.float32], tag_feature: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(m, F + T) visual rows of unit length, (m, F), beside the tag feature, (m, T), made so."""
    return np.concatenate([visual, unit_rows(tag_feature)], axis=1)


def _some(
    numbers: NDArray[np.int64], most: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """At most so many of the row numbers, at random."""
    return generator.choice(numbers, min(most, len(numbers)), replace=False)
