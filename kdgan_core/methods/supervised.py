"""One player alone, on the true labels: no teacher and no game."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdgan_core.losses import label_loss

if TYPE_CHECKING:
    from kdgan_core.draws import Scalar
    from kdgan_core.methods.method import Training


def play_round(replica: Training, tau: Scalar) -> None:
    """`classifier_steps` updates by cross-entropy of C, or of T (config.player); tau has no part
    in it."""
    del tau
    role = replica.config.player
    for _ in range(replica.config.classifier_steps):
        inputs, truth = replica.streams[role].next()
        logits = replica.players[role](inputs, replica.dropout[role])
        loss = label_loss(replica.config.label_loss, logits, truth)
        replica.note(f"loss_{role}", loss)
        replica.descend(role, loss)
