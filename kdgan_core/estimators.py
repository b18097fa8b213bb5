"""Readings of the adversarial gradient of Eq. 8, by name.

Eq. 8 asks for E_{y~q}[grad log q(y|x) * log(1 - p_d(x, z))] with q the concrete distribution of
Eq. 9 and z = onehot(argmax y), and leaves open what "grad log q" is. Each function below returns a
scalar whose *gradient* with respect to `logits` is the estimate, averaged over the batch and the
k samples; its value means nothing. `docs/estimators.md` has their measured variance, bias and
accuracy, and why one is the default.

Shapes: logits (B, K), rewards (B, K) = log(1 - p_d(x, y)) for every label, detached. Those of R
stacked replicas have R in front, with (R,) temperatures and R generators, and give (R,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgan_core.draws import Generators, Scalar, exponential, per_replica
from kdgan_core.losses import DRAWS


class ConcreteSample(NamedTuple):
    """k draws per image from the concrete distribution (Eq. 9)."""

    scaled: Tensor  # (k, B, K): (log p + g) / tau, whose softmax is the relaxed sample y
    labels: Tensor  # (k, B): argmax of y, an exact draw from p whatever tau is


def gumbel(shape: tuple[int, ...], generator: Generators, like: Tensor) -> Tensor:
    """Gumbel(0, 1) noise, g = -log(-log u), as minus the log of an exponential draw."""
    noise = exponential(shape, generator, like)
    tiny = torch.finfo(like.dtype).tiny  # a draw of exactly 0 would be an infinite g
    return -noise.clamp_min_(tiny).log_()


def concrete_sample(
    logits: Tensor, tau: Scalar, samples: int, generator: Generators
) -> ConcreteSample:
    """`samples` draws per image of y = softmax((log p + g) / tau), p = softmax(logits).

    Args:
        logits: (B, K).
        tau: temperature, above 0. It scales the relaxed sample, never the discrete label.
        samples: k.
        generator: on the device of the logits.
    """
    log_p = F.log_softmax(logits, dim=-1).unsqueeze(-3)
    perturbed = log_p + gumbel((samples, *logits.shape[-2:]), generator, logits)
    return ConcreteSample(perturbed / per_replica(tau, perturbed), perturbed.argmax(dim=-1))


def sample_labels(logits: Tensor, samples: int, generator: Generators) -> Tensor:
    """(k, B) labels drawn from softmax(logits) by the Gumbel-max trick. logits: (B, K)."""
    noise = gumbel((samples, *logits.shape[-2:]), generator, logits)
    return (logits.unsqueeze(-3) + noise).argmax(dim=-1)


def advantages(rewards: Tensor, labels: Tensor, control_variate: bool) -> Tensor:
    """(k, B) rewards of the drawn labels, less the mean reward of the image's other draws.

    The leave-one-out mean is independent of the draw it is subtracted from, so a constant reward
    gives no gradient on average, also where E[grad log q] is not zero (the relaxed reading).

    Args:
        rewards: (B, K).
        labels: (k, B).
        control_variate: subtract the baseline; with one sample there is none to subtract.
    """
    drawn = rewards.mT.gather(-2, labels)
    count = labels.shape[-2]
    if not control_variate or count == 1:
        return drawn
    return (drawn - drawn.mean(dim=-2, keepdim=True)) * (count / (count - 1))


def concrete(
    logits: Tensor,
    rewards: Tensor,
    tau: Scalar,
    samples: int,
    control_variate: bool,
    generator: Generators,
) -> Tensor:
    """Log of the relaxed sample's chosen component, log y[z], times the reward.

    d/dlogits = (1/tau) (onehot(z) - y) * reward. Biased; at low tau y is almost onehot(z) and the
    gradient lives on the rare near-ties.
    """
    draw = concrete_sample(logits, tau, samples, generator)
    log_y = F.log_softmax(draw.scaled, dim=-1)
    chosen = log_y.gather(-1, draw.labels.unsqueeze(-1)).squeeze(-1)
    return (chosen * advantages(rewards, draw.labels, control_variate)).mean(DRAWS)


def density(
    logits: Tensor,
    rewards: Tensor,
    tau: Scalar,
    samples: int,
    control_variate: bool,
    generator: Generators,
) -> Tensor:
    """Log density of the concrete distribution at the relaxed sample, times the reward.

    log q(y) = const + sum_k log p_k - K log sum_k p_k y_k^-tau with y held constant (Maddison et
    al. 2017, Eq. 10): the unbiased score function of the relaxed sample, written in log y. With
    y the softmax of (log p + g) / tau, p_k y_k^-tau is proportional to exp(-g_k): tau cancels, and
    the estimate does not depend on it.
    """
    draw = concrete_sample(logits.detach(), tau, samples, generator)
    log_y = F.log_softmax(draw.scaled, dim=-1)
    log_p = F.log_softmax(logits, dim=-1).unsqueeze(-3)
    classes = logits.shape[-1]
    spread = torch.logsumexp(log_p - per_replica(tau, log_y) * log_y, dim=-1)
    log_q = log_p.sum(dim=-1) - classes * spread
    return (log_q * advantages(rewards, draw.labels, control_variate)).mean(DRAWS)


def straight_through(
    logits: Tensor,
    rewards: Tensor,
    tau: Scalar,
    samples: int,
    control_variate: bool,
    generator: Generators,
) -> Tensor:
    """Discrete label forward, relaxed sample backward (Jang et al. 2017).

    The reward of the discrete label is sum_y onehot(z)_y log(1 - p_d(x, y)); its gradient flows
    through y, so d/dlogits = (1/tau) (diag(y) - y y^T) rewards. A constant reward gives exactly
    zero, so there is nothing for a control variate to remove and `control_variate` has no effect.
    """
    del control_variate
    draw = concrete_sample(logits, tau, samples, generator)
    relaxed = F.softmax(draw.scaled, dim=-1)
    discrete = torch.zeros_like(relaxed).scatter_(-1, draw.labels.unsqueeze(-1), 1.0)
    through = discrete + relaxed - relaxed.detach()
    return (through * rewards.unsqueeze(-3)).sum(dim=-1).mean(DRAWS)


def score(
    logits: Tensor,
    rewards: Tensor,
    tau: Scalar,
    samples: int,
    control_variate: bool,
    generator: Generators,
) -> Tensor:
    """log p[z] times the reward: REINFORCE, the reading without tau (which has no effect)."""
    del tau
    labels = sample_labels(logits.detach(), samples, generator)
    log_p = F.log_softmax(logits, dim=-1)
    chosen = log_p.mT.gather(-2, labels)
    return (chosen * advantages(rewards, labels, control_variate)).mean(DRAWS)


def expectation(
    logits: Tensor,
    rewards: Tensor,
    tau: Scalar,
    samples: int,
    control_variate: bool,
    generator: Generators,
) -> Tensor:
    """E_{y~p}[log(1 - p_d(x, y))] summed over the labels: exact, no sampling and no tau."""
    del tau, samples, control_variate, generator
    return (F.softmax(logits, dim=-1) * rewards).sum(dim=-1).mean(-1)


def authors(
    logits: Tensor,
    rewards: Tensor,
    tau: Scalar,
    samples: int,
    control_variate: bool,
    generator: Generators,
) -> Tensor:
    """The authors' code: cross-entropy of sampled logits against D's acceptance of their labels.

    Not a policy gradient: mean BCE(target sigmoid(g_y), logit h_y) over labels y drawn from
    softmax(h), whose fixed point is h_y = g_y. The gradient at h_y is (sigmoid(h_y) -
    sigmoid(g_y)) / (B k). There is no tau, no log(1 - p_d) and no control variate.
    """
    del tau, control_variate
    labels = sample_labels(logits.detach(), samples, generator)
    acceptance = -torch.expm1(rewards)
    drawn, wanted = logits.mT.gather(-2, labels), acceptance.mT.gather(-2, labels)
    if logits.dim() == 2:
        return F.binary_cross_entropy_with_logits(drawn, wanted)
    return F.binary_cross_entropy_with_logits(drawn, wanted, reduction="none").mean(DRAWS)


Estimator = Callable[[Tensor, Tensor, Scalar, int, bool, Generators], Tensor]

ESTIMATORS: dict[str, Estimator] = {
    "concrete": concrete,
    "density": density,
    "straight_through": straight_through,
    "score": score,
    "expectation": expectation,
    "authors": authors,
}
