"""MIMIC: C regresses the logits of a fixed teacher (Ba and Caruana 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from kdgan_core.losses import l2_distillation
from kdgan_core.methods.pupil import pupil_round

if TYPE_CHECKING:
    from kdgan_core.draws import Scalar
    from kdgan_core.methods.method import Training


def play_round(replica: Training, tau: Scalar) -> None:
    """C's updates by half the squared distance of logits, without labels; tau has no part."""
    del tau
    pupil_round(replica, mimic_loss)


def mimic_loss(replica: Training, logits: Tensor, targets: Tensor, truth: Tensor) -> Tensor:
    """(1/2B) sum ||f - h||^2. logits, targets: (B, K)."""
    del replica, truth
    return l2_distillation(logits, targets)
