"""NaGAN, the naive GAN of Eq. 1: C against D, no teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from kdgan_core.estimators import sample_labels
from kdgan_core.losses import (
    authors_naive_discriminator_loss,
    expected_discriminator_loss,
    naive_discriminator_loss,
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
from kdgan_core.truth import label_pairs, label_probs, true_labels

if TYPE_CHECKING:
    from kdgan_core.draws import Scalar
    from kdgan_core.methods.method import Training


def play_round(replica: Training, tau: Scalar) -> None:
    """The round's updates of D, then those of C, each on its own minibatches; with schedule=fused
    the last of D and the first of C are one."""
    shared = fused_updates(replica.config)
    for _ in range(discriminator_updates(replica) - shared):
        discriminator_step(replica)
    for _ in range(shared):
        fused_step(replica, tau)
    for _ in range(replica.config.classifier_steps - shared):
        classifier_step(replica, tau)


def fused_step(replica: Training, tau: Scalar) -> None:
    """One update of D and of C from one forward each on one minibatch, in training mode."""
    forward = shared_forward(replica)
    judged = discriminator_objective(
        replica, forward.scores["discriminator"], forward.constants["classifier"], forward.truth
    )
    learned = classifier_objective(
        replica, forward.scores["classifier"], forward.rewards, forward.truth, tau
    )
    replica.descend_together({"discriminator": judged, "classifier": learned})


def discriminator_step(replica: Training) -> None:
    """One update of D on a minibatch of its own."""
    inputs, truth = replica.streams["discriminator"].next()
    logits = pseudo_logits(replica, "classifier", inputs)
    scores = replica.players["discriminator"](inputs, replica.dropout["discriminator"])
    replica.descend("discriminator", discriminator_objective(replica, scores, logits, truth))


def discriminator_objective(
    replica: Training, scores: Tensor, logits: Tensor, truth: Tensor
) -> Tensor:
    """What D descends, minus Eq. 1 with pseudo labels drawn from p_c, or the authors' code's loss.

    Args:
        replica: gives the estimator and the draws.
        scores: (B, K) of D.
        logits: (B, K) of C, a constant.
        truth: (B,) labels, or (B, K) p_u.
    """
    config = replica.config
    if config.estimator == "expectation":
        probs, pseudo = label_probs(truth, logits.shape[-1]), logits.softmax(dim=-1)
        loss = expected_discriminator_loss(scores, probs, pseudo, pseudo, alpha=1.0)
    elif config.estimator == "authors":
        rows, labels = label_pairs(truth)
        drawn = sample_labels(logits[rows], 2 * config.negatives, replica.noise)
        loss = authors_naive_discriminator_loss(
            scores[rows], labels, drawn, config.positives, replica.noise
        )
    else:
        drawn = sample_labels(logits, config.samples, replica.noise)
        true = true_labels(truth, config.samples, replica.noise)
        loss = naive_discriminator_loss(scores, true, drawn)
    replica.note("loss_discriminator", loss)
    return loss


def classifier_step(replica: Training, tau: Scalar) -> None:
    """One update of C on a minibatch of its own."""
    inputs, truth = replica.streams["classifier"].next()
    logits = replica.players["classifier"](inputs, replica.dropout["classifier"])
    rewards = rejection(replica, inputs)
    loss = classifier_objective(replica, logits, rewards, truth, tau)
    replica.descend("classifier", loss)


def classifier_objective(
    replica: Training, logits: Tensor, rewards: Tensor, truth: Tensor, tau: Scalar
) -> Tensor:
    """What C descends: E_{p_c}[log(1 - p_d)] by the configured estimator of Eq. 8.

    Args: as of `adversarial.adversarial_loss`.
    """
    note_rejection(replica, "classifier", logits, rewards)
    return adversarial_loss(replica, logits, rewards, truth, tau)
