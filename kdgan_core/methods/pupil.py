"""What the methods with a fixed teacher have in common: C's step against T's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdgan_core.losses import kl_distillation, l2_distillation, sigmoid_distillation

if TYPE_CHECKING:
    from kdgan_core.config import TrialConfig
    from kdgan_core.methods.method import Training

# Loss of C from its logits (B, K), T's logits (B, K) in eval mode, and the true labels.
PupilLoss = Callable[["Training", Tensor, Tensor, Tensor], Tensor]


def distillation(config: TrialConfig, logits: Tensor, target_logits: Tensor) -> Tensor:
    """L_DS as configured. logits: (B, K) of the learner; target_logits: (B, K), a constant."""
    if config.distillation == "l2":
        return l2_distillation(logits, target_logits)
    if config.distillation == "sigmoid":
        return sigmoid_distillation(logits, target_logits, config.distillation_temperature)
    return kl_distillation(logits, target_logits, config.distillation_temperature)


def pupil_round(replica: Training, loss_of: PupilLoss) -> None:
    """`classifier_steps` updates of C; T, pretrained, stays as it is."""
    for _ in range(replica.config.classifier_steps):
        inputs, truth = replica.streams["classifier"].next()
        with torch.no_grad():
            targets = replica.frozen["teacher"](inputs)
        logits = replica.players["classifier"](inputs, replica.dropout["classifier"])
        loss = loss_of(replica, logits, targets, truth)
        replica.note("loss_classifier", loss)
        replica.descend("classifier", loss)
