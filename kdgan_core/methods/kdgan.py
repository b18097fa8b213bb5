"""KDGAN, Algorithm 1 of the paper: C and T against D, and each learning from the other.

The value function is Eq. 4; alpha weights the classifier's adversarial term and 1 - alpha the
teacher's, as in the equation (the authors' code has them the other way round).

Options that are not in Algorithm 1, all off by default: labels in T's or C's loss, a running mean
of T as C's target, a gamma that falls, smoothed labels for D, a head start for D, and one
minibatch and one forward of each player for a round's three updates (`schedule=fused`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

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
    fused_updates,
    note_rejection,
    pseudo_logits,
    rejection,
    shared_forward,
)
from kdgan_core.methods.pupil import distillation
from kdgan_core.truth import label_pairs, label_probs, true_labels

if TYPE_CHECKING:
    from kdgan_core.draws import Scalar
    from kdgan_core.methods.method import Training


def play_round(replica: Training, tau: Scalar) -> None:
    """The round's updates of D, then of T, then of C, each on its own minibatches; with
    schedule=fused the last of D and the first of T and C are one."""
    shared = fused_updates(replica.config)
    for _ in range(discriminator_updates(replica) - shared):
        discriminator_step(replica)
    for _ in range(shared):
        fused_step(replica, tau)
    for _ in range(replica.config.teacher_steps - shared):
        teacher_step(replica, tau)
    for _ in range(replica.config.classifier_steps - shared):
        classifier_step(replica, tau)


def fused_step(replica: Training, tau: Scalar) -> None:
    """One update of D, T and C from one forward each on one minibatch, in training mode.

    All three losses are those of the players before the update. The targets of T and C are each
    other's scores of that forward, dropout on; a running mean of T gives C's as ever.
    """
    forward = shared_forward(replica)
    constants, truth, rewards = forward.constants, forward.truth, forward.rewards
    targets = {"teacher": constants["classifier"], "classifier": constants["teacher"]}
    if "teacher" in replica.averages:
        with torch.no_grad():
            targets["classifier"] = target_player(replica, "classifier")(forward.inputs)
    pseudo = [constants["classifier"], constants["teacher"]]
    losses = {
        "discriminator": discriminator_objective(
            replica, forward.scores["discriminator"], pseudo, truth
        )
    }
    for role, target in targets.items():
        losses[role] = learner_objective(
            replica, role, forward.scores[role], rewards, target, truth, tau
        )
    replica.descend_together(losses)
    _follow_teacher(replica)


def discriminator_step(replica: Training) -> None:
    """One update of D on a minibatch of its own."""
    inputs, truth = replica.streams["discriminator"].next()
    logits = [pseudo_logits(replica, role, inputs) for role in ("classifier", "teacher")]
    scores = replica.players["discriminator"](inputs, replica.dropout["discriminator"])
    replica.descend("discriminator", discriminator_objective(replica, scores, logits, truth))


def discriminator_objective(
    replica: Training, scores: Tensor, logits: list[Tensor], truth: Tensor
) -> Tensor:
    """What D descends, minus line 5 of Algorithm 1 with pseudo labels drawn from p_c and p_t.

    Args:
        replica: gives the estimator, alpha and the draws.
        scores: (B, K) of D.
        logits: (B, K) of C and of T, constants.
        truth: (B,) labels, or (B, K) p_u.
    """
    config, smoothing = replica.config, replica.config.label_smoothing
    if config.estimator == "expectation":
        loss = expected_discriminator_loss(
            scores, label_probs(truth, scores.shape[-1]), logits[0].softmax(dim=-1),
            logits[1].softmax(dim=-1), replica.alpha, smoothing,
        )  # fmt: skip
    elif config.estimator == "authors":
        rows, labels = label_pairs(truth)
        drawn = [sample_labels(one[rows], config.negatives, replica.noise) for one in logits]
        loss = authors_discriminator_loss(
            scores[rows], labels, drawn[0], drawn[1], replica.alpha, config.positives
        )
    else:
        drawn = [sample_labels(one, config.samples, replica.noise) for one in logits]
        true = true_labels(truth, config.samples, replica.noise)
        loss = discriminator_loss(scores, true, drawn[0], drawn[1], replica.alpha, smoothing)
    replica.note("loss_discriminator", loss)
    return loss


def teacher_step(replica: Training, tau: Scalar) -> None:
    """One update of T on a minibatch of its own, and of its running mean."""
    _learner_step(replica, tau, "teacher")
    _follow_teacher(replica)


def classifier_step(replica: Training, tau: Scalar) -> None:
    """One update of C on a minibatch of its own."""
    _learner_step(replica, tau, "classifier")


def _learner_step(replica: Training, tau: Scalar, role: str) -> None:
    inputs, truth = replica.streams[role].next()
    logits = replica.players[role](inputs, replica.dropout[role])
    with torch.no_grad():
        rewards = rejection(replica, inputs)
        targets = target_player(replica, role)(inputs)
    replica.descend(role, learner_objective(replica, role, logits, rewards, targets, truth, tau))


def learner_objective(
    replica: Training, role: str, logits: Tensor, rewards: Tensor, targets: Tensor, truth: Tensor,
    tau: Scalar,
) -> Tensor:  # fmt: skip
    """What T or C descends: T (1 - alpha) E_{q_t}[log(1 - p_d)] + gamma L_DS^t (line 8), C
    alpha E_{q_c}[log(1 - p_d)] + beta L_DS^c (line 11).

    Args:
        replica: gives the weights, the estimator and the draws.
        role: teacher or classifier.
        logits: (B, K) of the learner.
        rewards: (B, K) as of `adversarial.rejection`.
        targets: (B, K) logits that are distilled from, constants.
        truth: (B,) labels, or (B, K) p_u.
        tau: temperature.
    """
    config = replica.config
    note_rejection(replica, role, logits, rewards)
    adversarial = adversarial_loss(replica, logits, rewards, truth, tau)
    distilled = distillation(config, logits, targets)
    replica.note(f"distillation_{role}", distilled)
    weights = _learner_weights(replica, role)
    loss = weights.adversarial * adversarial + weights.distillation * distilled
    if weights.label > 0.0:
        loss = loss + weights.label * label_loss(config.label_loss, logits, truth)
    return loss


class _Weights(NamedTuple):
    """Of a learner's terms."""

    adversarial: Scalar
    distillation: Scalar
    label: float


def _learner_weights(replica: Training, role: str) -> _Weights:
    config = replica.config
    if role == "classifier":
        return _Weights(replica.alpha, replica.beta, config.classifier_label_weight)
    return _Weights(1.0 - replica.alpha, replica.gamma, config.teacher_label_weight)


def _follow_teacher(replica: Training) -> None:
    if replica.config.teacher_average > 0.0:
        replica.follow("teacher", replica.config.teacher_average)


def target_player(replica: Training, role: str) -> torch.nn.Module:
    """Who gives the distillation targets of a learner, in eval mode: the other one, or T's
    running mean."""
    if role == "teacher":
        return replica.players["classifier"]
    return replica.averages.get("teacher", replica.players["teacher"])
