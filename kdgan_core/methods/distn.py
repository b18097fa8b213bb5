"""DISTN: C learns from labels and from a fixed teacher's softened ones (Hinton et al. 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from kdgan_core.losses import label_loss
from kdgan_core.methods.pupil import distillation, pupil_round

if TYPE_CHECKING:
    from kdgan_core.draws import Scalar
    from kdgan_core.methods.method import Training


def play_round(replica: Training, tau: Scalar) -> None:
    """C's updates by (1-s) CE + s L_DS; tau has no part. With distillation=l2 it has the
    form of the authors' MNIST code, where the temperature cancels and the mean is also over K."""
    del tau
    pupil_round(replica, distn_loss)


def distn_loss(replica: Training, logits: Tensor, targets: Tensor, truth: Tensor) -> Tensor:
    """(1-s) CE(y, softmax h) + s T^2 KL(softmax(f/T) || softmax(h/T)). logits, targets: (B, K)."""
    soft = replica.config.soft_weight
    hard = label_loss(replica.config.label_loss, logits, truth)
    return (1.0 - soft) * hard + soft * distillation(replica.config, logits, targets)
