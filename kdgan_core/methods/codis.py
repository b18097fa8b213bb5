"""CODIS: C and T trained together from scratch, each also towards the other's prediction
(codistillation, Anil et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdgan_core.losses import label_loss
from kdgan_core.methods.pupil import distillation

if TYPE_CHECKING:
    from kdgan_core.draws import Scalar
    from kdgan_core.methods.method import Training


def play_round(replica: Training, tau: Scalar) -> None:
    """The round's updates of T, then of C, each on its own minibatches; tau has no part."""
    del tau
    for _ in range(replica.config.teacher_steps):
        learner_step(replica, "teacher", "classifier")
    for _ in range(replica.config.classifier_steps):
        learner_step(replica, "classifier", "teacher")


def learner_step(replica: Training, role: str, other: str) -> None:
    """One update by CE(y, p) + lambda L_DS(p_other, p), the second term after the burn-in only.

    The other's prediction is the current one, in eval mode.
    """
    config = replica.config
    inputs, truth = replica.streams[role].next()
    logits = replica.players[role](inputs, replica.dropout[role])
    loss = label_loss(config.label_loss, logits, truth)
    replica.note(f"loss_{role}", loss)
    if config.codistillation_weight > 0.0 and replica.progress >= config.burn_in:
        with torch.no_grad():
            targets = replica.players[other](inputs)
        distilled = distillation(config, logits, targets)
        replica.note(f"distillation_{role}", distilled)
        loss = loss + config.codistillation_weight * distilled
    replica.descend(role, loss)
