"""The true labels of a minibatch: one an image, (B,), or a distribution p_u(y|x), (B, K).

Tags are the second kind: p_u is uniform over an image's tags (paper, section 4.2). Labels are
whole numbers and probabilities are not, by which the two are told apart; those of R stacked
replicas have R in front.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdgan_core.draws import Generators


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(..., K) whole numbers, 1 at the label and else 0; unlike torch's asks nothing of the host.

    Args:
        labels: (...) in [0, K).
        classes: K.
    """
    return (labels.unsqueeze(-1) == torch.arange(classes, device=labels.device)).long()


def label_probs(truth: Tensor, classes: int) -> Tensor:
    """(B, K) p_u(y|x), one-hot where an image has one label. classes: K."""
    return truth if truth.is_floating_point() else one_hot(truth, classes)


def true_labels(truth: Tensor, samples: int, generator: Generators) -> Tensor:
    """(k, B) labels drawn from p_u(y|x), line 4 of Algorithm 1.

    One label an image needs no draw: it is every draw, so k is 1.

    Args:
        truth: (B,) labels, or (B, K) p_u.
        samples: k.
        generator: on the device of the truth; not used for one label an image.
    """
    if not truth.is_floating_point():
        return truth.unsqueeze(-2)
    if not isinstance(generator, torch.Generator):
        each = zip(truth, generator, strict=True)
        return torch.stack([true_labels(one, samples, own) for one, own in each])
    return torch.multinomial(truth, samples, replacement=True, generator=generator).T


def label_pairs(truth: Tensor) -> tuple[Tensor | slice, Tensor]:
    """Every pair of an image and one of its true labels: rows of the batch, and (B',) labels.

    The authors' code gives an image with m labels m times as many positives and draws (SPEC of
    their tag task): its losses run over these pairs as they do over images with one label.
    """
    if not truth.is_floating_point():
        return slice(None), truth
    rows, labels = truth.nonzero(as_tuple=True)
    return rows, labels
