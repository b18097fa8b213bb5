"""KDGAN, Algorithm 1 of the paper: C and T against D, and each learning from the other.

The value function is Eq. 4; alpha weights the classifier's adversarial term and 1 - alpha the
teacher's, as in the equation (the authors' code has them the other way round).

Options that are not in Algorithm 1, all off by default: labels in T's or C's loss, a running mean
of T as C's target, a gamma that falls, smoothed labels for D, a head start for D.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from kdgan_core.estimators import sample_labels
from kdgan_core.losses import (
    authors_discriminator_loss,
    discriminator_loss,
    expected_discriminator_loss,
    supervised_loss,
)
from kdgan_core.methods.adversarial import (
    adversarial_loss,
    discriminator_updates,
    pseudo_logits,
    rejection,
)
from kdgan_core.methods.pupil import distillation

if TYPE_CHECKING:
    from kdgan_core.replica import Replica


def play_round(replica: Replica, tau: float) -> None:
    """The round's updates of D, then of T, then of C, each on its own minibatches."""
    for _ in range(discriminator_updates(replica)):
        discriminator_step(replica)
    for _ in range(replica.config.teacher_steps):
        teacher_step(replica, tau)
    for _ in range(replica.config.classifier_steps):
        classifier_step(replica, tau)


def discriminator_step(replica: Replica) -> None:
    """D ascends line 5 of Algorithm 1 with pseudo labels drawn from p_c and p_t."""
    config, smoothing = replica.config, replica.config.label_smoothing
    images, labels = replica.streams["discriminator"].next()
    classifier_logits = pseudo_logits(replica, "classifier", images)
    teacher_logits = pseudo_logits(replica, "teacher", images)
    scores = replica.players["discriminator"](images, replica.dropout["discriminator"])
    if config.estimator == "expectation":
        loss = expected_discriminator_loss(
            scores, F.one_hot(labels, scores.shape[1]), classifier_logits.softmax(dim=1),
            teacher_logits.softmax(dim=1), config.alpha, smoothing,
        )  # fmt: skip
    else:
        is_authors = config.estimator == "authors"
        samples = config.negatives if is_authors else config.samples
        drawn = (
            sample_labels(classifier_logits, samples, replica.noise),
            sample_labels(teacher_logits, samples, replica.noise),
        )
        if is_authors:
            loss = authors_discriminator_loss(
                scores, labels, *drawn, config.alpha, config.positives
            )
        else:
            loss = discriminator_loss(scores, labels.unsqueeze(0), *drawn, config.alpha, smoothing)
    replica.note("loss_discriminator", loss)
    replica.descend("discriminator", loss)


def teacher_step(replica: Replica, tau: float) -> None:
    """T descends (1 - alpha) E_{q_t}[log(1 - p_d)] + gamma L_DS^t (line 8)."""
    config = replica.config
    gamma = config.gamma
    if config.gamma_schedule == "cosine":
        gamma *= 0.5 * (1.0 + math.cos(math.pi * replica.progress))
    _learner_step(replica, tau, "teacher", 1.0 - config.alpha, gamma, config.teacher_label_weight)
    if config.teacher_average > 0.0:
        replica.follow("teacher", config.teacher_average)


def classifier_step(replica: Replica, tau: float) -> None:
    """C descends alpha E_{q_c}[log(1 - p_d)] + beta L_DS^c (line 11)."""
    config = replica.config
    _learner_step(
        replica, tau, "classifier", config.alpha, config.beta, config.classifier_label_weight
    )


def _learner_step(
    replica: Replica, tau: float, role: str, adversarial_weight: float,
    distillation_weight: float, label_weight: float,
) -> None:  # fmt: skip
    config = replica.config
    images, labels = replica.streams[role].next()
    logits = replica.players[role](images, replica.dropout[role])
    with torch.no_grad():
        rewards = rejection(replica, images)
        targets = target_player(replica, role)(images)
        replica.note(f"rejection_{role}", (logits.softmax(dim=1) * rewards).sum(dim=1).mean())
    adversarial = adversarial_loss(replica, logits, rewards, tau)
    distilled = distillation(config, logits, targets)
    replica.note(f"distillation_{role}", distilled)
    loss = adversarial_weight * adversarial + distillation_weight * distilled
    if label_weight > 0.0:
        loss = loss + label_weight * supervised_loss(logits, labels)
    replica.descend(role, loss)


def target_player(replica: Replica, role: str) -> torch.nn.Module:
    """Who gives the distillation targets of a learner, in eval mode: the other one, or T's
    running mean."""
    if role == "teacher":
        return replica.players["classifier"]
    return replica.averages.get("teacher", replica.players["teacher"])
