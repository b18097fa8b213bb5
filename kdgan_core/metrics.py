"""Ranking metrics of tag recommendation, one value an image: P@N, F@N twice, MAP, MRR.

Shapes: N images, K tags. rel_i is 1 if the tag at rank i is one of the image's R tags, else 0.
An image's tags are ranked by falling score, equal scores by the lower tag number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

METRICS: Final[tuple[str, ...]] = (
    "p_at_3",
    "p_at_5",
    "f_at_3",
    "f_at_5",
    "authors_f_at_3",
    "authors_f_at_5",
    "map",
    "mrr",
)
CUTOFFS: Final = (3, 5)


def per_image(scores: Tensor, tags: Tensor) -> dict[str, Tensor]:
    """Every metric of METRICS, (N,) float64 on the scores' device; NaN for images without a tag.

    - p_at_N: hits among the first N over N, N at most K.
    - f_at_N: harmonic mean of P@N and recall, hits among the first N over R; 0 without a hit.
    - authors_f_at_N: harmonic mean of P@N and R-precision, hits among the first R over R, which
      the authors' code takes for recall at every N (`metric.py`).
    - map: average precision over the whole ranking, 1/R sum_i rel_i (hits up to i) / i.
    - mrr: 1 over the rank of the first hit.

    A tag whose score is NaN ranks last and is never a hit, though it counts in R: a player that
    has diverged scores 0, not what the order of the tags happens to be worth.

    Args:
        scores: (N, K) real, larger is better.
        tags: (N, K) bool.

    Raises:
        ValueError: the shapes differ or are not (N, K) with K > 0.
    """
    if scores.shape != tags.shape or scores.ndim != 2 or not scores.shape[1]:
        raise ValueError(
            f"scores {tuple(scores.shape)} and tags {tuple(tags.shape)} are not both (N, K), K > 0"
        )
    lost = scores.isnan()
    order = scores.masked_fill(lost, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    # -inf ties with NaN. What is lost must not take the place of a tag with a score.
    order = order.gather(1, lost.gather(1, order).int().sort(dim=1, stable=True).indices)
    is_hit = (tags & ~lost).gather(1, order).double()
    hits = is_hit.cumsum(1)
    ranks = torch.arange(1, scores.shape[1] + 1, dtype=torch.float64, device=scores.device)
    relevant = tags.sum(1)
    has_tag = relevant > 0
    r_precision = hits.gather(1, (relevant - 1).clamp_min(0)[:, None])[:, 0] / relevant
    found: dict[str, Tensor] = {}
    for cutoff in CUTOFFS:
        length = min(cutoff, scores.shape[1])
        precision = hits[:, length - 1] / length
        found[f"p_at_{cutoff}"] = precision
        found[f"f_at_{cutoff}"] = _harmonic_mean(precision, hits[:, length - 1] / relevant)
        found[f"authors_f_at_{cutoff}"] = _harmonic_mean(precision, r_precision)
    found["map"] = (is_hit * hits / ranks).sum(1) / relevant
    found["mrr"] = (is_hit / ranks).amax(1)
    return {name: found[name].masked_fill(~has_tag, torch.nan) for name in METRICS}


def means(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Each metric's mean over the images that have a tag; NaN if none has.

    Args:
        metrics: what `per_image` returns.
    """
    return {name: float(values.nanmean()) for name, values in metrics.items()}


def untagged(tags: Tensor) -> int:
    """How many images have no tag, and so are left out of the means.

    Args:
        tags: (N, K) bool.
    """
    return int((~tags.any(dim=1)).sum())


def _harmonic_mean(one: Tensor, two: Tensor) -> Tensor:
    """2 / (1 / one + 1 / two) of values in [0, 1]; 0 where both are 0."""
    return torch.where(one + two > 0.0, 2.0 * one * two / (one + two), 0.0)
