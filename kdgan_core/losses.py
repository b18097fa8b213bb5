"""One pure function per loss term of KDGAN; each reduces to a mean over the batch.

Shapes: B images, K labels, k sampled labels an image. Targets and rewards are constants: pass them
detached. Tensors of R stacked replicas have R in front: their loss is (R,), and a weight may be
(R,) too. Equation numbers are those of the paper (NeurIPS 2018).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgan_core.draws import Generators, Scalar, normal, per_replica, uniform
from kdgan_core.truth import label_probs

DRAWS = (-2, -1)  # the dimensions of sampled labels (k, B)


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
    alpha: Scalar,
    label_smoothing: float = 0.0,
) -> Tensor:
    """What D descends: minus the objective of Algorithm 1, line 5.

    -mean[ log p_d(x, y) + alpha log(1 - p_d(x, z^c)) + (1 - alpha) log(1 - p_d(x, z^t)) ]

    Args:
        scores: (B, K) D's scores of every label.
        labels: (k, B) drawn from p_u.
        classifier_labels: (k, B) z^c, drawn from p_c.
        teacher_labels: (k, B) z^t, drawn from p_t.
        alpha: weight of the classifier's pseudo labels, in [0, 1].
        label_smoothing: s; log p_d(x, y) becomes (1-s) log p_d + s log(1 - p_d). Not in the paper.
    """
    by_label = scores.mT
    rejection = log_rejection(by_label)
    accepted = F.logsigmoid(by_label.gather(-2, labels))
    if label_smoothing > 0.0:
        accepted = torch.lerp(accepted, rejection.gather(-2, labels), label_smoothing)
    positive = -accepted.mean(DRAWS)
    classifier = -rejection.gather(-2, classifier_labels).mean(DRAWS)
    teacher = -rejection.gather(-2, teacher_labels).mean(DRAWS)
    return positive + alpha * classifier + (1.0 - alpha) * teacher


def naive_discriminator_loss(scores: Tensor, labels: Tensor, classifier_labels: Tensor) -> Tensor:
    """What D descends in NaGAN: minus Eq. 1. Shapes as in `discriminator_loss`."""
    by_label = scores.mT
    positive = -F.logsigmoid(by_label.gather(-2, labels)).mean(DRAWS)
    return positive - log_rejection(by_label).gather(-2, classifier_labels).mean(DRAWS)


def expected_discriminator_loss(
    scores: Tensor,
    label_probs: Tensor,
    classifier_probs: Tensor,
    teacher_probs: Tensor,
    alpha: Scalar,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`discriminator_loss` with its expectations over labels taken exactly.

    Args:
        scores: (B, K).
        label_probs: (B, K) p_u(y|x).
        classifier_probs: (B, K) p_c(y|x).
        teacher_probs: (B, K) p_t(y|x).
        alpha: weight of the classifier's pseudo labels, in [0, 1].
        label_smoothing: as in `discriminator_loss`.
    """
    share = per_replica(alpha, classifier_probs)
    pseudo = share * classifier_probs + (1.0 - share) * teacher_probs
    rejection = log_rejection(scores)
    accepted = torch.lerp(F.logsigmoid(scores), rejection, label_smoothing)
    value = label_probs * accepted + pseudo * rejection
    return -value.sum(dim=-1).mean(-1)


def authors_discriminator_loss(
    scores: Tensor,
    labels: Tensor,
    classifier_labels: Tensor,
    teacher_labels: Tensor,
    alpha: Scalar,
    positives: int,
) -> Tensor:
    """What D descends in the authors' code: cross-entropy over two sets of labels an image.

    A set is the true label `positives` times (target 1) and N drawn labels (target 0), which may
    hit the true one; the classifier's set weighs alpha and the teacher's 1 - alpha (w and 1 - w
    the other way round in the code). D* is P p_u / (P p_u + N p_a), not the paper's.

    Args:
        scores: (B, K).
        labels: (B,) the true ones.
        classifier_labels: (N, B) drawn from p_c.
        teacher_labels: (N, B) drawn from p_t.
        alpha: as in Eq. 4.
        positives: P.
    """
    by_label = scores.mT
    count = positives + classifier_labels.shape[-2]
    true = (positives * F.softplus(-by_label.gather(-2, labels.unsqueeze(-2)))).sum(-2)
    false = F.softplus(by_label)
    classifier = (true + false.gather(-2, classifier_labels).sum(-2)).mean(-1) / count
    teacher = (true + false.gather(-2, teacher_labels).sum(-2)).mean(-1) / count
    return alpha * classifier + (1.0 - alpha) * teacher


def authors_naive_discriminator_loss(
    scores: Tensor,
    labels: Tensor,
    classifier_labels: Tensor,
    positives: int,
    generator: Generators,
) -> Tensor:
    """What D descends in the authors' code of NaGAN: cross-entropy against smoothed targets.

    Every image gives its true label `positives` times with targets from U(.7, 1). Labels drawn
    from p_c have targets from U(0, .3), but the code's sampler counts them over the whole batch:
    only the first image's are used, of twice as many as wanted the first N that miss its true
    label.

    Args:
        scores: (B, K).
        labels: (B,) the true ones.
        classifier_labels: (2N, B) drawn from p_c.
        positives: P.
        generator: of the targets, on the device of the scores.
    """
    true = scores.gather(-1, labels.unsqueeze(-1)).repeat_interleave(positives, -1).flatten(-2)
    drawn = classifier_labels[..., 0]
    false = scores[..., 0, :].gather(-1, drawn)
    missed = drawn != labels[..., :1]
    count = true.shape[-1]
    kept = (missed & (missed.cumsum(-1) <= drawn.shape[-1] // 2)).to(scores.dtype)
    noise = uniform((count + drawn.shape[-1],), generator, scores.device)
    accepted, rejected = 0.7 + 0.3 * noise[..., :count], 0.3 * noise[..., count:]
    positive = F.binary_cross_entropy_with_logits(true, accepted, reduction="none")
    negative = F.binary_cross_entropy_with_logits(false, rejected, weight=kept, reduction="none")
    return (positive.sum(-1) + negative.sum(-1)) / (count + kept.sum(-1))


def noisy_logits(
    logits: Tensor, form: str, ratio: float, sigma: float, generator: Generators
) -> Tensor:
    """The teacher's logits under multiplicative noise (Sau and Balasubramanian 2016).

    Args:
        logits: (B, K).
        form: "original": a random share `ratio` of the images has every logit times 1 + xi;
            "authors": every logit is kept with probability 1 - ratio (and scaled up) or zeroed,
            plus xi, as one factor.
        ratio: in [0, 1).
        sigma: spread of xi ~ N(0, sigma^2).
        generator: on the device of the logits.
    """
    batch, classes = logits.shape[-2:]
    xi = sigma * normal((batch, classes), generator, logits)
    if form == "authors":
        kept = uniform((batch, classes), generator, logits.device) >= ratio
        return logits * (kept / (1.0 - ratio) + xi)
    perturbed = uniform((batch, 1), generator, logits.device) < ratio
    return torch.where(perturbed, logits * (1.0 + xi), logits)


def l2_distillation(logits: Tensor, target_logits: Tensor) -> Tensor:
    """L_DS on logits: (1/2B) sum_i ||f(x_i) - h(x_i)||^2, the authors' choice.

    Args:
        logits: (B, K) of the player that learns.
        target_logits: (B, K) of the other one, a constant.
    """
    return 0.5 * (logits - target_logits).square().sum(dim=-1).mean(-1)


def kl_distillation(logits: Tensor, target_logits: Tensor, temperature: float) -> Tensor:
    """L_DS by softened labels: T^2 KL(softmax(f/T) || softmax(h/T)), mean over B (Hinton 2015).

    Args:
        logits: (B, K) of the player that learns.
        target_logits: (B, K) of the other one, a constant.
        temperature: T, the distillation temperature (not tau).
    """
    log_q = F.log_softmax(logits / temperature, dim=-1)
    log_p = F.log_softmax(target_logits / temperature, dim=-1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True)
    return temperature**2 * (divergence.sum(DRAWS) / logits.shape[-2])


def sigmoid_distillation(logits: Tensor, target_logits: Tensor, temperature: float) -> Tensor:
    """L_DS where an image has several labels: the divergence of each label's softened presence.

    T^2 sum_y KL(sigmoid(f_y/T) || sigmoid(h_y/T)), mean over B. With a softmax the labels of an
    image compete, and T's certainty of one hides what it knows of the others.

    Args:
        logits: (B, K) of the player that learns.
        target_logits: (B, K) of the other one, a constant.
        temperature: T, the distillation temperature (not tau).
    """
    target = target_logits / temperature
    presence = target.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits / temperature, presence, reduction="none")
    own = F.binary_cross_entropy_with_logits(target, presence, reduction="none")
    return temperature**2 * (cross - own).sum(dim=-1).mean(-1)


def supervised_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy against the true labels, mean over the batch.

    Args:
        logits: (B, K).
        truth: (B,) whole numbers in [0, K), or (B, K) p_u where an image has several labels.
    """
    if logits.dim() == 2:
        return F.cross_entropy(logits, truth)
    apart = F.cross_entropy(logits.flatten(0, 1), truth.flatten(0, 1), reduction="none")
    return apart.view(logits.shape[:2]).mean(-1)


def sigmoid_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of every label by itself, present or absent: summed over labels, mean over B.

    Args:
        logits: (B, K).
        truth: (B,) labels, or (B, K) p_u, whose labels are those above 0.
    """
    present = (label_probs(truth, logits.shape[-1]) > 0).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, present, reduction="none").sum(-1).mean(-1)


def label_loss(kind: str, logits: Tensor, truth: Tensor) -> Tensor:
    """`supervised_loss` for kind softmax, `sigmoid_loss` for sigmoid."""
    return sigmoid_loss(logits, truth) if kind == "sigmoid" else supervised_loss(logits, truth)


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
