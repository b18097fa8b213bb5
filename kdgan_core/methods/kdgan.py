"""KDGAN, Algorithm 1 of the paper: C and T against D, and each learning from the other.

The value function is Eq. 4; alpha weights the classifier's adversarial term and 1 - alpha the
teacher's, as in the equation (the authors' code has them the other way round).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgan_core.estimators import ESTIMATORS, sample_labels
from kdgan_core.losses import (
    discriminator_loss,
    expected_discriminator_loss,
    kl_distillation,
    l2_distillation,
    log_rejection,
)

if TYPE_CHECKING:
    from kdgan_core.config import TrialConfig
    from kdgan_core.replica import Replica


def play_round(replica: Replica, tau: float) -> None:
    """The round's updates of D, then of T, then of C, each on its own minibatches."""
    for _ in range(replica.config.discriminator_steps):
        discriminator_step(replica)
    for _ in range(replica.config.teacher_steps):
        teacher_step(replica, tau)
    for _ in range(replica.config.classifier_steps):
        classifier_step(replica, tau)


def distillation(config: TrialConfig, logits: Tensor, target_logits: Tensor) -> Tensor:
    """L_DS as configured. logits: (B, K) of the learner; target_logits: (B, K), a constant."""
    if config.distillation == "l2":
        return l2_distillation(logits, target_logits)
    return kl_distillation(logits, target_logits, config.distillation_temperature)


def discriminator_step(replica: Replica) -> None:
    """D ascends line 5 of Algorithm 1 with pseudo labels drawn from p_c and p_t."""
    config = replica.config
    images, labels = replica.streams["discriminator"].next()
    with torch.no_grad():
        classifier_logits = replica.players["classifier"](images)
        teacher_logits = replica.players["teacher"](images)
    scores = replica.players["discriminator"](images, replica.dropout["discriminator"])
    if config.estimator == "expectation":
        loss = expected_discriminator_loss(
            scores, F.one_hot(labels, scores.shape[1]), classifier_logits.softmax(dim=1),
            teacher_logits.softmax(dim=1), config.alpha,
        )  # fmt: skip
    else:
        loss = discriminator_loss(
            scores,
            labels.unsqueeze(0),
            sample_labels(classifier_logits, config.samples, replica.noise),
            sample_labels(teacher_logits, config.samples, replica.noise),
            config.alpha,
        )
    replica.note("loss_discriminator", loss)
    replica.descend("discriminator", loss)


def teacher_step(replica: Replica, tau: float) -> None:
    """T descends (1 - alpha) E_{q_t}[log(1 - p_d)] + gamma L_DS^t (line 8)."""
    _learner_step(
        replica, tau, "teacher", "classifier", 1.0 - replica.config.alpha, replica.config.gamma
    )


def classifier_step(replica: Replica, tau: float) -> None:
    """C descends alpha E_{q_c}[log(1 - p_d)] + beta L_DS^c (line 11)."""
    _learner_step(replica, tau, "classifier", "teacher", replica.config.alpha, replica.config.beta)


def _learner_step(
    replica: Replica, tau: float, role: str, other: str,
    adversarial_weight: float, distillation_weight: float,
) -> None:  # fmt: skip
    config = replica.config
    images, _ = replica.streams[role].next()
    logits = replica.players[role](images, replica.dropout[role])
    with torch.no_grad():
        rewards = log_rejection(replica.players["discriminator"](images))
        targets = replica.players[other](images)
        replica.note(f"rejection_{role}", (logits.softmax(dim=1) * rewards).sum(dim=1).mean())
    adversarial = ESTIMATORS[config.estimator](
        logits, rewards, tau, config.samples, config.control_variate != "none", replica.noise
    )
    distilled = distillation(config, logits, targets)
    replica.note(f"distillation_{role}", distilled)
    replica.descend(role, adversarial_weight * adversarial + distillation_weight * distilled)
