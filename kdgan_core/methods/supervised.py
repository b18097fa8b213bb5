"""C alone, on the true labels: the classifier without a teacher or a game."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdgan_core.losses import supervised_loss

if TYPE_CHECKING:
    from kdgan_core.replica import Replica


def play_round(replica: Replica, tau: float) -> None:
    """`classifier_steps` updates of C by cross-entropy; tau has no part in it."""
    del tau
    for _ in range(replica.config.classifier_steps):
        images, labels = replica.streams["classifier"].next()
        logits = replica.players["classifier"](images, replica.dropout["classifier"])
        loss = supervised_loss(logits, labels)
        replica.note("loss_classifier", loss)
        replica.descend("classifier", loss)
