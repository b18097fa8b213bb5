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

from kdgan_core.estimators import sample_labels
from kdgan_core.losses import (
    authors_discriminator_loss,
    discriminator_loss,
    expected_discriminator_loss,
    label_loss,
)
from kdgan_core.methods.adversarial import (
    adversarial_loss,
    discriminator_updates,
    pseudo_logits,
    rejection,
)
from kdgan_core.methods.pupil import distillation
from kdgan_core.truth import label_pairs, label_probs, true_labels

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
    inputs, truth = replica.streams["discriminator"].next()
    logits = [pseudo_logits(replica, role, inputs) for role in ("classifier", "teacher")]
    scores = replica.players["discriminator"](inputs, replica.dropout["discriminator"])
    if config.estimator == "expectation":
        loss = expected_discriminator_loss(
            scores, label_probs(truth, scores.shape[1]), logits[0].softmax(dim=1),
            logits[1].softmax(dim=1), config.alpha, smoothing,
        )  # fmt: skip
    elif config.estimator == "authors":
        rows, labels = label_pairs(truth)
        drawn = [sample_labels(one[rows], config.negatives, replica.noise) for one in logits]
        loss = authors_discriminator_loss(
            scores[rows], labels, drawn[0], drawn[1], config.alpha, config.positives
        )
    else:
        drawn = [sample_labels(one, config.samples, replica.noise) for one in logits]
        true = true_labels(truth, config.samples, replica.noise)
        loss = discriminator_loss(scores, true, drawn[0], drawn[1], config.alpha, smoothing)
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
    inputs, truth = replica.streams[role].next()
    logits = replica.players[role](inputs, replica.dropout[role])
    with torch.no_grad():
        rewards = rejection(replica, inputs)
        targets = target_player(replica, role)(inputs)
        replica.note(f"rejection_{role}", (logits.softmax(dim=1) * rewards).sum(dim=1).mean())
    adversarial = adversarial_loss(replica, logits, rewards, truth, tau)
    distilled = distillation(config, logits, targets)
    replica.note(f"distillation_{role}", distilled)
    loss = adversarial_weight * adversarial + distillation_weight * distilled
    if label_weight > 0.0:
        loss = loss + label_weight * label_loss(config.label_loss, logits, truth)
    replica.descend(role, loss)


def target_player(replica: Replica, role: str) -> torch.nn.Module:
    """Who gives the distillation targets of a learner, in eval mode: the other one, or T's
    running mean."""
    if role == "teacher":
        return replica.players["classifier"]
    return replica.averages.get("teacher", replica.players["teacher"])
