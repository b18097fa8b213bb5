"""The networks of C, T and D (paper, Appendix; SPEC of the authors' code for `authors`).

Every player maps images (B, C, S, S) to scores (B, K). Called with a generator it is in training
mode, dropout drawn from that generator; called without one it is in eval mode. There is no hidden
mode flag and no global random state. Scores are float32 at any precision.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.data.task import PlayerShape
from kdgan_core.layers import drop, max_pool
from kdgan_core.names import DATASET_CHANNELS, DATASET_SIDE, DATASET_SIZES
from kdgan_core.tag_players import build_tag_player

PLAYERS = ("classifier", "teacher", "discriminator")


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
        return self.out(x).float()  # type: ignore[no-any-return]


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
# C of CIFAR-10: a LeNet (paper: 64@5x5, 128@5x5, 1024).
CIFAR_CLASSIFIER = {
    "paper": ConvSizes(64, 128, kernel=5, padding=2, dense=1024),
    "small": ConvSizes(8, 16, kernel=3, padding=1, dense=64),
}


class ResNetSizes(NamedTuple):
    """Channels of the first of three stages, each twice as wide as the last; blocks a stage."""

    channels: int
    blocks: int


# T and D of CIFAR-10: 6 * blocks + 2 layers.
RESNET_SIZES = {"paper": ResNetSizes(16, 5), "small": ResNetSizes(8, 1)}
HIDDEN = {"paper": 800, "authors": 800, "small": 64}


class LeNet(nn.Module):
    """Two convolutions with 2x2 max pooling, a dense layer with dropout, K scores: T and D of
    MNIST, C of CIFAR-10.

    Pooling comes before the bias and the ReLU: the same function, on a quarter of the entries.
    """

    def __init__(
        self, side: int, channels: int, sizes: ConvSizes, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, sizes.first, sizes.kernel, padding=sizes.padding)
        self.second = nn.Conv2d(sizes.first, sizes.second, sizes.kernel, padding=sizes.padding)
        lost = sizes.kernel - 1 - 2 * sizes.padding
        left = ((side - lost) // 2 - lost) // 2
        self.dense = nn.Linear(sizes.second * left * left, sizes.dense)
        self.out = nn.Linear(sizes.dense, classes)
        self.dropout = dropout

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        x = _pooled(self.second, _pooled(self.first, images))
        x = drop(F.relu(self.dense(x.flatten(1))), self.dropout, generator)
        return self.out(x).float()  # type: ignore[no-any-return]


def _pooled(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The ReLU of the layer's convolution under 2x2 max pooling; its bias is added in between."""
    assert layer.bias is not None
    y = max_pool(F.conv2d(x, layer.weight, padding=layer.padding))
    return F.relu(y.add_(layer.bias.view(-1, 1, 1)), inplace=True)


class BatchNorm(nn.Module):
    """Batch normalisation whose mode is an argument, as the players' is.

    The running statistics are those of the player's own updates: without gradients, where it is in
    training mode only to give labels or rewards, the batch's are used and not kept.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.empty(channels)) for _ in range(2))
        self.register_buffer("mean", torch.empty(channels))
        self.register_buffer("variance", torch.empty(channels))

    def reset(self) -> None:
        """The identity, whose running statistics are those of a standard normal input."""
        for tensor in (self.weight, self.variance):
            nn.init.ones_(tensor)
        for tensor in (self.bias, self.mean):
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor, is_training: bool) -> Tensor:
        is_read = is_training and not torch.is_grad_enabled()
        mean, variance = (None, None) if is_read else (self.mean, self.variance)
        return F.batch_norm(x, mean, variance, self.weight, self.bias, is_training, momentum=0.1)


class Block(nn.Module):
    """Two 3x3 convolutions and the identity, which is strided and padded with zero channels where
    the size changes (He et al. 2016, option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([BatchNorm(outputs), BatchNorm(outputs)])
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor, is_training: bool) -> Tensor:
        y = F.relu(self.norms[0](self.first(x), is_training))
        y = self.norms[1](self.second(y), is_training)
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(x + y)


class ResNet(nn.Module):
    """T and D of CIFAR-10: three stages of two-layer blocks, global pooling, dropout, K scores.

    Called with a generator it normalises by the batch and updates its running statistics.
    """

    def __init__(self, channels: int, sizes: ResNetSizes, classes: int, dropout: float) -> None:
        super().__init__()
        width = sizes.channels
        self.first = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = BatchNorm(width)
        widths = [width * 2**stage for stage in range(3) for _ in range(sizes.blocks)]
        inputs = [width, *widths[:-1]]
        self.blocks = nn.ModuleList(
            Block(before, after, stride=1 if before == after else 2)
            for before, after in zip(inputs, widths, strict=True)
        )
        self.out = nn.Linear(widths[-1], classes)
        self.dropout = dropout

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        is_training = generator is not None
        x = F.relu(self.norm(self.first(images), is_training))
        for block in self.blocks:
            x = block(x, is_training)
        return self.out(drop(x.mean(dim=(2, 3)), self.dropout, generator)).float()  # type: ignore[no-any-return]


def build_player(
    role: str, config: TrialConfig, generator: torch.Generator, shape: PlayerShape | None = None
) -> nn.Module:
    """A freshly initialised player on the CPU; weights are drawn from `generator`.

    Args:
        role: one of `PLAYERS`. T and D share their architecture, not their weights.
        config: dataset, architecture and dropout are read.
        generator: on the CPU, so that a seed gives the same weights on every device.
        shape: what the data say of the sizes, where they do.

    Raises:
        ValueError: an unknown role.
    """
    if role not in PLAYERS:
        raise ValueError(f"role={role!r} is not one of {', '.join(PLAYERS)}")
    if shape is not None:
        return build_tag_player(role, config, generator, shape)
    with torch.device("meta"):
        player = _network(role, config)
    player = player.to_empty(device="cpu")
    truncated = config.architecture == "authors" and role != "classifier"
    for parameter in player.parameters():
        if parameter.dim() == 1:
            nn.init.zeros_(parameter)
        elif truncated:  # TF-slim's LeNet
            nn.init.trunc_normal_(parameter, std=0.1, a=-0.2, b=0.2, generator=generator)
        else:
            nn.init.xavier_uniform_(parameter, generator=generator)
    for module in player.modules():
        if isinstance(module, BatchNorm):
            module.reset()
    if any(parameter.dim() == 4 for parameter in player.parameters()):
        # Twice as fast convolutions on a CPU. (torch's type stub lacks this form of `to`.)
        player = player.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return player


def _network(role: str, config: TrialConfig) -> nn.Module:
    side, classes = DATASET_SIDE[config.dataset], DATASET_SIZES[config.dataset][2]
    channels, architecture = DATASET_CHANNELS[config.dataset], config.architecture
    if config.dataset == "cifar10":
        if role == "classifier":
            sizes = CIFAR_CLASSIFIER[architecture]
            return LeNet(side, channels, sizes, classes, config.classifier_dropout)
        return ResNet(channels, RESNET_SIZES[architecture], classes, config.teacher_dropout)
    if role == "classifier":
        return MLP(side * side, HIDDEN[architecture], classes, config.classifier_dropout)
    return LeNet(side, channels, CONV_SIZES[architecture], classes, config.teacher_dropout)


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
