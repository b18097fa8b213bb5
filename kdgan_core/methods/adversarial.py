"""What NaGAN and KDGAN have in common: pseudo labels for D, D's verdict for the learners, and the
forwards of a fused update.

In the authors' code every player of these steps is in training mode, dropout on; in ours those
that only give labels or rewards are in eval mode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from kdgan_core.estimators import ESTIMATORS
from kdgan_core.losses import log_rejection
from kdgan_core.truth import label_pairs

if TYPE_CHECKING:
    from kdgan_core.config import TrialConfig
    from kdgan_core.draws import Generators, Scalar
    from kdgan_core.methods.method import Training


class Shared(NamedTuple):
    """One minibatch with every player's scores of it in training mode, for a fused update.

    Attributes:
        inputs: B of them, as the players take them.
        truth: (B,) labels, or (B, K) p_u.
        scores: role -> (B, K), through which the player's gradient flows.
        constants: role -> the same as constants, for the others.
    """

    inputs: Any
    truth: Tensor
    scores: dict[str, Tensor]
    constants: dict[str, Tensor]

    @property
    def rewards(self) -> Tensor:
        """(B, K) log(1 - p_d(x, y)) of every label."""
        return log_rejection(self.constants["discriminator"])


def fused_updates(config: TrialConfig) -> int:
    """Updates of each player in a round that share their minibatch and their forwards: 1 or 0."""
    return 1 if config.schedule == "fused" else 0


def shared_forward(replica: Training) -> Shared:
    """The next minibatch of C's stream and one forward of every player on it."""
    inputs, truth = replica.streams["classifier"].next()
    scores = {
        role: player(inputs, replica.dropout[role]) for role, player in replica.players.items()
    }
    return Shared(inputs, truth, scores, {role: one.detach() for role, one in scores.items()})


def discriminator_updates(replica: Training) -> int:
    """Updates of D in this round; the first has its head start in front.

    Pretraining leaves D a classifier, whose scores say which label is likelier and not whether a
    label is true: C and T are better judged once it has learned to.
    """
    config = replica.config
    return config.discriminator_steps + (config.discriminator_warmup if replica.round == 0 else 0)


@torch.no_grad()
def pseudo_logits(replica: Training, role: str, inputs: Any) -> Tensor:
    """(B, K) logits of the player whose pseudo labels D is to tell from the true ones."""
    is_authors = replica.config.estimator == "authors"
    return replica.players[role](inputs, replica.dropout[role] if is_authors else None)  # type: ignore[no-any-return]


@torch.no_grad()
def rejection(replica: Training, inputs: Any) -> Tensor:
    """(B, K) log(1 - p_d(x, y)) of every label."""
    return log_rejection(pseudo_logits(replica, "discriminator", inputs))


@torch.no_grad()
def note_rejection(replica: Training, role: str, logits: Tensor, rewards: Tensor) -> None:
    """Notes E_p[log(1 - p_d)] of a learner. logits, rewards: (B, K)."""
    replica.note(f"rejection_{role}", (logits.softmax(dim=-1) * rewards).sum(dim=-1).mean(-1))


def adversarial_loss(
    replica: Training, logits: Tensor, rewards: Tensor, truth: Tensor, tau: Scalar,
    noise: Generators | None = None,
) -> Tensor:  # fmt: skip
    """The configured estimator of Eq. 8 for one batch.

    Args:
        replica: gives the estimator and its samples.
        logits: (B, K) of the learner.
        rewards: (B, K) as of `rejection`.
        truth: (B,) labels, or (B, K) p_u; the authors' code draws as often as an image has labels.
        tau: temperature.
        noise: of the sampled labels, None for the replica's.
    """
    config = replica.config
    is_authors = config.estimator == "authors"
    samples = config.positives + config.negatives if is_authors else config.samples
    if is_authors:
        rows, _ = label_pairs(truth)
        logits, rewards = logits[rows], rewards[rows]
    return ESTIMATORS[config.estimator](
        logits, rewards, tau, samples, config.control_variate != "none", noise or replica.noise
    )
