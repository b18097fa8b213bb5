"""The networks of C, T and D (paper, Appendix; SPEC of the authors' code for `authors`).

Every player maps images (B, 1, S, S) to scores (B, K). Called with a generator it is in training
mode, dropout drawn from that generator; called without one it is in eval mode. There is no hidden
mode flag and no global random state.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgan_core.config import DATASET_SIDE, DATASET_SIZES, TrialConfig

PLAYERS = ("classifier", "teacher", "discriminator")


def drop(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """x with a fraction `rate` of its entries zeroed and the rest scaled up; x in eval mode."""
    if generator is None or rate == 0.0:
        return x
    keep = torch.empty_like(x).bernoulli_(1.0 - rate, generator=generator)
    return x * keep.div_(1.0 - rate)


class MLP(nn.Module):
    """C: fully connected, ReLU, dropout after each hidden layer (paper: 784-800-800-10)."""

    def __init__(self, inputs: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, classes)
        self.dropout = dropout

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        x = drop(F.relu(self.first(images.flatten(1))), self.dropout, generator)
        x = drop(F.relu(self.second(x)), self.dropout, generator)
        return self.out(x)  # type: ignore[no-any-return]


class ConvSizes(NamedTuple):
    """Channels of the two convolutions, their kernel and padding, width of the dense layer."""

    first: int
    second: int
    kernel: int
    padding: int
    dense: int


CONV_SIZES = {
    "paper": ConvSizes(20, 20, kernel=5, padding=0, dense=500),
    "authors": ConvSizes(32, 64, kernel=5, padding=2, dense=1024),
    "small": ConvSizes(16, 32, kernel=3, padding=1, dense=256),
}
HIDDEN = {"paper": 800, "authors": 800, "small": 64}


class LeNet(nn.Module):
    """T and D: two convolutions with 2x2 max pooling, a dense layer with dropout, K scores.

    Pooling comes before the ReLU: the same function, on a quarter of the entries.
    """

    def __init__(self, side: int, sizes: ConvSizes, classes: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, sizes.first, sizes.kernel, padding=sizes.padding)
        self.second = nn.Conv2d(sizes.first, sizes.second, sizes.kernel, padding=sizes.padding)
        lost = sizes.kernel - 1 - 2 * sizes.padding
        left = ((side - lost) // 2 - lost) // 2
        self.dense = nn.Linear(sizes.second * left * left, sizes.dense)
        self.out = nn.Linear(sizes.dense, classes)
        self.dropout = dropout

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        x = F.relu(F.max_pool2d(self.first(images), 2))
        x = F.relu(F.max_pool2d(self.second(x), 2))
        x = drop(F.relu(self.dense(x.flatten(1))), self.dropout, generator)
        return self.out(x)  # type: ignore[no-any-return]


def build_player(role: str, config: TrialConfig, generator: torch.Generator) -> nn.Module:
    """A freshly initialised player on the CPU; weights are drawn from `generator`.

    Args:
        role: one of `PLAYERS`. T and D share their architecture, not their weights.
        config: dataset, architecture and dropout are read.
        generator: on the CPU, so that a seed gives the same weights on every device.

    Raises:
        ValueError: an unknown role.
    """
    if role not in PLAYERS:
        raise ValueError(f"role={role!r} is not one of {', '.join(PLAYERS)}")
    side, classes = DATASET_SIDE[config.dataset], DATASET_SIZES[config.dataset][2]
    with torch.device("meta"):
        player: nn.Module
        if role == "classifier":
            hidden = HIDDEN[config.architecture]
            player = MLP(side * side, hidden, classes, config.classifier_dropout)
        else:
            sizes = CONV_SIZES[config.architecture]
            player = LeNet(side, sizes, classes, config.teacher_dropout)
    player = player.to_empty(device="cpu")
    truncated = config.architecture == "authors" and role != "classifier"
    for parameter in player.parameters():
        if parameter.dim() == 1:
            nn.init.zeros_(parameter)
        elif truncated:  # TF-slim's LeNet
            nn.init.trunc_normal_(parameter, std=0.1, a=-0.2, b=0.2, generator=generator)
        else:
            nn.init.xavier_uniform_(parameter, generator=generator)
    if role != "classifier":
        # Twice as fast convolutions on a CPU. (torch's type stub lacks this form of `to`.)
        player = player.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return player


def parameter_groups(role: str, player: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Adam's parameter groups: C decays weights and biases, T and D weights only (authors' code).

    Coupled L2: Adam's `weight_decay` adds weight_decay * w to the gradient, which is the gradient
    of 0.5 * weight_decay * ||w||^2.
    """
    if role == "classifier":
        return [{"params": list(player.parameters()), "weight_decay": weight_decay}]
    weights = [p for p in player.parameters() if p.dim() > 1]
    biases = [p for p in player.parameters() if p.dim() == 1]
    return [
        {"params": weights, "weight_decay": weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
