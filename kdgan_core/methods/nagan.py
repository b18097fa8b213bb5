"""NaGAN, the naive GAN of Eq. 1: C against D, no teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdgan_core.estimators import sample_labels
from kdgan_core.losses import (
    authors_naive_discriminator_loss,
    expected_discriminator_loss,
    naive_discriminator_loss,
)
from kdgan_core.methods.adversarial import (
    adversarial_loss,
    discriminator_updates,
    pseudo_logits,
    rejection,
)
from kdgan_core.truth import label_pairs, label_probs, true_labels

if TYPE_CHECKING:
    from kdgan_core.replica import Replica


def play_round(replica: Replica, tau: float) -> None:
    """The round's updates of D, then those of C, each on its own minibatches."""
    for _ in range(discriminator_updates(replica)):
        discriminator_step(replica)
    for _ in range(replica.config.classifier_steps):
        classifier_step(replica, tau)


def discriminator_step(replica: Replica) -> None:
    """D ascends Eq. 1 with pseudo labels drawn from p_c, or the authors' code's objective."""
    config = replica.config
    inputs, truth = replica.streams["discriminator"].next()
    logits = pseudo_logits(replica, "classifier", inputs)
    scores = replica.players["discriminator"](inputs, replica.dropout["discriminator"])
    if config.estimator == "expectation":
        probs, pseudo = label_probs(truth, logits.shape[1]), logits.softmax(dim=1)
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
    replica.descend("discriminator", loss)


def classifier_step(replica: Replica, tau: float) -> None:
    """C descends E_{p_c}[log(1 - p_d)] by the configured estimator of Eq. 8."""
    inputs, truth = replica.streams["classifier"].next()
    logits = replica.players["classifier"](inputs, replica.dropout["classifier"])
    with torch.no_grad():
        rewards = rejection(replica, inputs)
        replica.note("rejection_classifier", (logits.softmax(dim=1) * rewards).sum(dim=1).mean())
    replica.descend("classifier", adversarial_loss(replica, logits, rewards, truth, tau))
