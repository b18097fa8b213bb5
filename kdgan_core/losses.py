"""One pure function per loss term of KDGAN; each reduces to a mean over the batch.

Shapes: B images, K labels, k sampled labels an image. Targets and rewards are constants: pass them
detached. Equation numbers are those of the paper (NeurIPS 2018).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def log_rejection(scores: Tensor) -> Tensor:
    """log(1 - p_d(x, y)) for D's scores g(x, y), p_d = sigmoid(g) (Eq. 2), computed stably.

    Args:
        scores: any shape.
    """
    return F.logsigmoid(-scores)


def discriminator_loss(
    scores: Tensor,
    labels: Tensor,
    classifier_labels: Tensor,
    teacher_labels: Tensor,
    alpha: float,
) -> Tensor:
    """What D descends: minus the objective of Algorithm 1, line 5.

    -mean[ log p_d(x, y) + alpha log(1 - p_d(x, z^c)) + (1 - alpha) log(1 - p_d(x, z^t)) ]

    Args:
        scores: (B, K) D's scores of every label.
        labels: (k, B) drawn from p_u.
        classifier_labels: (k, B) z^c, drawn from p_c.
        teacher_labels: (k, B) z^t, drawn from p_t.
        alpha: weight of the classifier's pseudo labels, in [0, 1].
    """
    by_label = scores.T
    positive = -F.logsigmoid(by_label.gather(0, labels)).mean()
    rejection = log_rejection(by_label)
    classifier = -rejection.gather(0, classifier_labels).mean()
    teacher = -rejection.gather(0, teacher_labels).mean()
    return positive + alpha * classifier + (1.0 - alpha) * teacher


def naive_discriminator_loss(scores: Tensor, labels: Tensor, classifier_labels: Tensor) -> Tensor:
    """What D descends in NaGAN: minus Eq. 1. Shapes as in `discriminator_loss`."""
    by_label = scores.T
    positive = -F.logsigmoid(by_label.gather(0, labels)).mean()
    return positive - log_rejection(by_label).gather(0, classifier_labels).mean()


def expected_discriminator_loss(
    scores: Tensor,
    label_probs: Tensor,
    classifier_probs: Tensor,
    teacher_probs: Tensor,
    alpha: float,
) -> Tensor:
    """`discriminator_loss` with its expectations over labels taken exactly.

    Args:
        scores: (B, K).
        label_probs: (B, K) p_u(y|x).
        classifier_probs: (B, K) p_c(y|x).
        teacher_probs: (B, K) p_t(y|x).
        alpha: weight of the classifier's pseudo labels, in [0, 1].
    """
    pseudo = alpha * classifier_probs + (1.0 - alpha) * teacher_probs
    value = label_probs * F.logsigmoid(scores) + pseudo * log_rejection(scores)
    return -value.sum(dim=1).mean()


def l2_distillation(logits: Tensor, target_logits: Tensor) -> Tensor:
    """L_DS on logits: (1/2B) sum_i ||f(x_i) - h(x_i)||^2, the authors' choice.

    Args:
        logits: (B, K) of the player that learns.
        target_logits: (B, K) of the other one, a constant.
    """
    return 0.5 * (logits - target_logits).square().sum(dim=1).mean()


def kl_distillation(logits: Tensor, target_logits: Tensor, temperature: float) -> Tensor:
    """L_DS by softened labels: T^2 KL(softmax(f/T) || softmax(h/T)), mean over B (Hinton 2015).

    Args:
        logits: (B, K) of the player that learns.
        target_logits: (B, K) of the other one, a constant.
        temperature: T, the distillation temperature (not tau).
    """
    log_q = F.log_softmax(logits / temperature, dim=1)
    log_p = F.log_softmax(target_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def supervised_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy against the true labels, mean over the batch.

    Args:
        logits: (B, K).
        labels: (B,) whole numbers in [0, K).
    """
    return F.cross_entropy(logits, labels)


def optimal_discriminator(label_probs: Tensor, pseudo_probs: Tensor) -> Tensor:
    """D* = p_u / (p_u + p_a), the inner maximum of the value function (section 3.3).

    Args:
        label_probs: (..., K) p_u.
        pseudo_probs: (..., K) p_a = alpha p_c + (1 - alpha) p_t.
    """
    return label_probs / (label_probs + pseudo_probs)


def adversarial_value(label_probs: Tensor, pseudo_probs: Tensor, acceptance: Tensor) -> Tensor:
    """E_{p_u}[log D] + E_{p_a}[log(1 - D)], the adversarial part of U (Eq. 4).

    Equal to -log 4 + 2 JSD(p_u || p_a) at D*, so -log 4 at the equilibrium p_c = p_t = p_u.

    Args:
        label_probs: (..., K) p_u.
        pseudo_probs: (..., K) p_a.
        acceptance: (..., K) D in (0, 1).
    """
    value = torch.xlogy(label_probs, acceptance) + torch.xlogy(pseudo_probs, 1.0 - acceptance)
    return value.sum(dim=-1)
