"""One calibrated linear SVM a tag, cross-fitted: what TagFeature and RelExample share.

A line is (F + 1,): the weights of a linear SVM, then its intercept. The rows that it is fitted on
are images' features of unit length, as in the toolkit of Li et al., ACM Computing Surveys 2016,
where a cost of 1 has its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from kdgan_core.tagging.neighbours import best

Model = TypeVar("Model")

COSTS: Final = (0.01, 0.1, 1.0, 10.0)
# Decisions are within 0.01 of those at 1e-6, in two thirds of the time at scikit-learn's 1e-4.
TOLERANCE: Final = 1e-2

# (positives, negatives, tag, generator) -> line: row numbers to choose examples from, and a line
# that is fitted on those examples.
FitLine = Callable[
    [NDArray[np.int64], NDArray[np.int64], int, np.random.Generator], NDArray[np.float64]
]


class TagLines(NamedTuple):
    """p(tag | row) = sigmoid(slope x decision + offset), a line and a sigmoid for every tag.

    Attributes:
        lines: (K, F + 1).
        slopes: (K,).
        offsets: (K,).
    """

    lines: NDArray[np.float64]
    slopes: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """(m, K).

        Args:
            rows: (m, F).

        Raises:
            ValueError: F is not that of the training images.
        """
        return self.calibrated(decisions(rows, self.lines))

    def calibrated(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m, K) probabilities of (m, K) decisions."""
        probability: NDArray[np.float64] = expit(found * self.slopes + self.offsets)
        return probability


def unit_rows(features: NDArray[Any]) -> NDArray[np.float32]:
    """(n, F) features, each row over its Euclidean length; rows of zeros stay.

    Raises:
        ValueError: a feature is not finite, or there is no row.
    """
    return np.asarray(normalize(features), dtype=np.float32)


def decisions(rows: NDArray[np.float32], lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """w . x + b: (m, K) of K lines, or (m,) of a single one.

    Args:
        rows: (m, F).
        lines: (K, F + 1) or (F + 1,).

    Raises:
        ValueError: the widths differ.
    """
    if rows.shape[1] != lines.shape[-1] - 1:
        raise ValueError(
            f"images have {rows.shape[1]} features, training images {lines.shape[-1] - 1}"
        )
    weights = lines[..., :-1].astype(np.float32)
    found: NDArray[np.float64] = (rows @ weights.T).astype(np.float64) + lines[..., -1]
    return found


def fit_line(
    rows: NDArray[np.float32],
    positives: NDArray[np.int64],
    negatives: NDArray[np.int64],
    cost: float,
) -> NDArray[np.float64]:
    """The line of an L2-regularised squared-hinge SVM.

    Either class weighs as much as the other: w+ = 0.5 N / N+, w- = 0.5 N / N-.

    Args:
        rows: (n, F).
        positives: (N+,) row numbers, one or more.
        negatives: (N-,) row numbers, one or more.
        cost: C.
    """
    model = LinearSVC(dual=False, C=cost, class_weight="balanced", tol=TOLERANCE)
    is_positive = np.repeat([True, False], [len(positives), len(negatives)])
    model.fit(rows[np.concatenate([positives, negatives])], is_positive)
    return np.append(model.coef_[0], model.intercept_)


def fit_platt(found: NDArray[np.float64], is_positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of the sigmoid that turns decisions into probabilities.

    Platt, Probabilistic outputs for support vector machines, 1999: least cross-entropy against
    (N+ + 1) / (N+ + 2) for positives and 1 / (N- + 2) for negatives. The slope is 0 if all
    decisions are the same.

    Args:
        found: (n,) decisions on images that the line was not fitted on.
        is_positive: (n,), both kinds present.
    """
    count = int(is_positive.sum())
    targets = np.where(is_positive, (count + 1) / (count + 2), 1 / (len(found) - count + 2))
    # A small cost makes small decisions, whose gradient the solver would take for none.
    centre, spread = found.mean(), found.std()
    if spread <= np.finfo(np.float32).eps * np.abs(found).max():  # nothing but rounding
        return 0.0, float(logit(targets.mean()))
    scaled = (found - centre) / spread
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8)
    model.fit(
        np.concatenate([scaled, scaled])[:, None],
        np.repeat([True, False], len(found)),
        sample_weight=np.concatenate([targets, 1.0 - targets]),
    )
    slope = float(model.coef_[0, 0] / spread)
    return slope, float(model.intercept_[0] - slope * centre)


def cross_fitted(
    rows: NDArray[np.float32],
    tags: NDArray[np.bool_],
    folds: int,
    fit: FitLine,
    generator: np.random.Generator,
    negatives_each: int = 0,
) -> tuple[TagLines, NDArray[np.float64]]:
    """Lines and sigmoids of all tags, and (n, K) probabilities of images the lines did not see.

    Each tag's images, and those without it, are dealt to the folds at random; a line is fitted on
    what is outside of a fold and decides on the fold. Platt's sigmoid is fitted on these
    decisions. For a new image the lines of the folds are averaged.

    A tag that fewer than `folds` images have, or lack, has the same probability on every image,
    (n_w + 1) / (n + 2).

    Args:
        rows: (n, F).
        tags: (n, K).
        folds: 2 or more.
        fit: chooses examples and returns a line.
        generator: deals the folds and is handed to `fit`.
        negatives_each: random negatives for each positive in what Platt's sigmoid is fitted on.
            With 0 all images are in it, so that the probability follows the tag's frequency.
    """
    count, width = tags.shape
    present = tags.sum(axis=0)
    lines = np.zeros((width, rows.shape[1] + 1))
    slopes, offsets = np.zeros(width), logit((present + 1) / (count + 2))
    found = np.zeros((count, width))
    for tag in np.flatnonzero(np.minimum(present, count - present) >= folds):
        has_tag = tags[:, tag]
        positives, negatives = (
            generator.permutation(np.flatnonzero(kind)) for kind in (has_tag, ~has_tag)
        )
        for fold in range(folds):
            line = fit(_without(positives, fold, folds), _without(negatives, fold, folds),
                       int(tag), generator)  # fmt: skip
            lines[tag] += line / folds
            held_out = np.concatenate([positives[fold::folds], negatives[fold::folds]])
            found[held_out, tag] = decisions(rows[held_out], line)
        bag = negatives[: negatives_each * len(positives)] if negatives_each else negatives
        known = np.concatenate([positives, bag])
        slopes[tag], offsets[tag] = fit_platt(found[known, tag], has_tag[known])
    fitted = TagLines(lines, slopes, offsets)
    return fitted, fitted.calibrated(found)


def fit_with_cost(
    cost: float,
    fit: Callable[[float, np.random.Generator], Model],
    valid_scores: Callable[[Model], NDArray[np.float64]],
    valid_tags: NDArray[np.bool_],
    generator: np.random.Generator,
) -> tuple[float, Model]:
    """The cost and the model fitted with it; every cost gets the same random numbers.

    Args:
        cost: C; 0 tries COSTS and keeps the one with the best MAP on the validation images.
        fit: fits a model.
        valid_scores: (m, K) of the validation images; not called if `cost` is given.
        valid_tags: (m, K).
        generator: one number is drawn from it.

    Raises:
        ValueError: the cost is to be chosen without a validation image with a tag.
    """
    seed = int(generator.integers(2**63))
    if cost:
        return cost, fit(cost, np.random.default_rng(seed))
    if not valid_tags.any():
        raise ValueError("no validation image has a tag: give a cost, there is no choosing")
    fitted = [(one, fit(one, np.random.default_rng(seed))) for one in COSTS]
    return best(fitted, lambda pair: valid_scores(pair[1]), valid_tags)


def _without(numbers: NDArray[np.int64], fold: int, folds: int) -> NDArray[np.int64]:
    return np.delete(numbers, np.s_[fold::folds])
