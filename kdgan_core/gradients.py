"""Variance of C's gradients, L_AD against L_DS (Lemma 4.3, Figure 7 of the paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdgan_core.data.batches import make_generator
from kdgan_core.losses import log_rejection
from kdgan_core.methods.adversarial import adversarial_loss
from kdgan_core.methods.kdgan import target_player
from kdgan_core.methods.pupil import distillation

if TYPE_CHECKING:
    from kdgan_core.replica import Replica


class Moments:
    """Running sums of a gradient and of its squares, over minibatches."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, gradient: Tensor) -> None:
        """gradient: (P,) flat."""
        wide = gradient.double()
        self.count += 1
        self.sum, self.squares = self.sum + wide, self.squares + wide.square()

    def variance(self) -> float:
        """Mean over the coordinates of the sample variance (ddof=1)."""
        mean = torch.as_tensor(self.sum) / self.count
        centred = torch.as_tensor(self.squares) - self.count * mean.square()
        return float(centred.clamp_min(0.0).mean()) / (self.count - 1)

    def mean_square(self) -> float:
        """Mean over the coordinates of the squared mean."""
        return float((torch.as_tensor(self.sum) / self.count).square().mean())


def gradient_variance(replica: Replica, tau: float) -> dict[str, float]:
    """Variance and squared mean of C's gradients as they are now, over `gradient_batches`.

    Per coordinate over freshly drawn minibatches, labels and dropout, then the mean over the
    coordinates; of the unweighted grad L_AD, of the unweighted grad L_DS and of their mixture
    lambda grad L_AD + (1 - lambda) grad L_DS with lambda = alpha / (alpha + beta). Without a
    teacher of L_AD alone. T and D are in eval mode, with any estimator. Draws from streams of its
    own, so that training is what it would be without it.
    """
    config, device = replica.config, replica.device
    purpose = f"gradient variance {replica.round}"
    batches, dropout, noise = (
        make_generator(replica.seed, f"{purpose} {what}", device)
        for what in ("batches", "dropout", "labels")
    )
    stream = replica.data.stream(config, batches)
    classifier = replica.players["classifier"]
    weights = list(classifier.parameters())
    has_teacher = "teacher" in replica.players
    share = config.alpha / (config.alpha + config.beta)
    moments = {"adversarial": Moments()}
    if has_teacher:
        moments |= {"distillation": Moments(), "mixture": Moments()}
    for _ in range(config.gradient_batches):
        inputs, truth = stream.next()
        logits = classifier(inputs, dropout)
        with torch.no_grad():
            rewards = log_rejection(replica.players["discriminator"](inputs))
        loss = adversarial_loss(replica, logits, rewards, truth, tau, noise)
        adversarial = _flat(torch.autograd.grad(loss, weights, retain_graph=has_teacher))
        moments["adversarial"].add(adversarial)
        if has_teacher:
            with torch.no_grad():
                targets = target_player(replica, "classifier")(inputs)
            loss = distillation(config, logits, targets)
            distilled = _flat(torch.autograd.grad(loss, weights))
            moments["distillation"].add(distilled)
            moments["mixture"].add(share * adversarial + (1.0 - share) * distilled)
    found: dict[str, float] = {}
    for what, one in moments.items():
        found[f"gradient_variance_{what}"] = one.variance()
        found[f"gradient_mean_square_{what}"] = one.mean_square()
    return found


def _flat(gradients: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])
