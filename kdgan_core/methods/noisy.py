"""NOISY: MIMIC with noise on the teacher's logits (Sau and Balasubramanian 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from kdgan_core.losses import l2_distillation, noisy_logits
from kdgan_core.methods.pupil import pupil_round

if TYPE_CHECKING:
    from kdgan_core.draws import Scalar
    from kdgan_core.methods.method import Training


def play_round(replica: Training, tau: Scalar) -> None:
    """C's updates by half the squared distance to perturbed logits; tau has no part."""
    del tau
    pupil_round(replica, noisy_loss)


def noisy_loss(replica: Training, logits: Tensor, targets: Tensor, truth: Tensor) -> Tensor:
    """(1/2B) sum ||f' - h||^2 with f' the noisy logits. logits, targets: (B, K)."""
    del truth
    config = replica.config
    noisy = noisy_logits(
        targets, config.noise_form, config.noise_ratio, config.noise_sigma, replica.noise
    )
    return l2_distillation(logits, noisy)
