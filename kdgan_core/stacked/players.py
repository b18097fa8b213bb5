"""The players of R replicas as one network each.

Shapes: R replicas, B images of each. A stacked player maps images (R, B, C, S, S) to scores
(R, B, K) and is called as a player is, with R generators or none. The players it was made from
become views of it: what is done to either is done to both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgan_core.draws import Generators
from kdgan_core.layers import drop, max_pool
from kdgan_core.players import MLP, LeNet

CONVOLUTIONS = ("grouped", "im2col")


def join(tensors: Sequence[Tensor]) -> Tensor:
    """(R, ...) of R tensors, which become views of it."""
    joined = torch.stack([tensor.detach().contiguous() for tensor in tensors])
    for own, part in zip(tensors, joined.unbind(0), strict=True):
        own.data = part
    return joined


class StackedLinear(nn.Module):
    """R dense layers as one batched product."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(join([layer.weight for layer in layers]))
        self.bias = nn.Parameter(join([layer.bias for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """(R, B, outputs) of x (R, B, inputs)."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


class StackedConvolution(nn.Module):
    """R convolutions with 2x2 max pooling: one grouped convolution, or products of patches."""

    def __init__(self, layers: Sequence[nn.Conv2d], kind: str) -> None:
        """kind: one of CONVOLUTIONS."""
        super().__init__()
        biases = [layer.bias for layer in layers]
        self.weight = nn.Parameter(join([layer.weight for layer in layers]))
        self.bias = nn.Parameter(join([bias for bias in biases if bias is not None]))
        self.padding = int(layers[0].padding[0])
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """(R, B, O, h, w) of x (R, B, C, H, W), whose strides may be any."""
        return self._grouped(x) if self.kind == "grouped" else self._im2col(x)

    def _grouped(self, x: Tensor) -> Tensor:
        replicas = x.shape[0]
        side_by_side = x.transpose(0, 1).flatten(1, 2)
        weight, bias = self.weight.flatten(0, 1), self.bias.view(-1, 1, 1)
        y = F.conv2d(side_by_side, weight, padding=self.padding, groups=replicas)
        y = max_pool(y).add_(bias)
        return y.view(y.shape[0], replicas, -1, *y.shape[2:]).transpose(0, 1)

    def _im2col(self, x: Tensor) -> Tensor:
        replicas, batch = x.shape[:2]
        kernel, pad = self.weight.shape[-1], self.padding
        if pad:
            x = F.pad(x, (pad, pad, pad, pad))
        patches = x.unfold(3, kernel, 1).unfold(4, kernel, 1)  # (R, B, C, h, w, k, k)
        height, width = patches.shape[3:5]
        columns = patches.permute(0, 1, 3, 4, 5, 6, 2).reshape(
            replicas, batch * height * width, -1
        )
        weight = self.weight.permute(0, 3, 4, 2, 1).flatten(1, 3)  # (R, k k C, O)
        y = torch.bmm(columns, weight)
        images = y.view(replicas * batch, height, width, -1).permute(0, 3, 1, 2)
        y = max_pool(images)
        y = y.view(replicas, batch, *y.shape[1:])
        return y.add_(self.bias.view(replicas, 1, -1, 1, 1))


class StackedMLP(nn.Module):
    """R of `players.MLP`."""

    def __init__(self, players: Sequence[MLP]) -> None:
        super().__init__()
        self.first = StackedLinear([player.first for player in players])
        self.second = StackedLinear([player.second for player in players])
        self.out = StackedLinear([player.out for player in players])
        self.dropout = players[0].dropout

    def forward(self, images: Tensor, generator: Generators | None = None) -> Tensor:
        x = drop(F.relu(self.first(images.flatten(2))), self.dropout, generator)
        x = drop(F.relu(self.second(x)), self.dropout, generator)
        return self.out(x).float()  # type: ignore[no-any-return]


class StackedLeNet(nn.Module):
    """R of `players.LeNet`."""

    def __init__(self, players: Sequence[LeNet], kind: str) -> None:
        super().__init__()
        self.first = StackedConvolution([player.first for player in players], kind)
        self.second = StackedConvolution([player.second for player in players], kind)
        self.dense = StackedLinear([player.dense for player in players])
        self.out = StackedLinear([player.out for player in players])
        self.dropout = players[0].dropout

    def forward(self, images: Tensor, generator: Generators | None = None) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(images))))
        x = drop(F.relu(self.dense(x.flatten(2))), self.dropout, generator)
        return self.out(x).float()  # type: ignore[no-any-return]


def stack_players(players: Sequence[nn.Module], convolution: str) -> nn.Module:
    """One player of R, whose weights become views of its own.

    Args:
        players: of R replicas, alike.
        convolution: one of CONVOLUTIONS.

    Raises:
        ValueError: players of a kind that cannot be stacked.
    """
    mlps = [player for player in players if isinstance(player, MLP)]
    if len(mlps) == len(players):
        return StackedMLP(mlps)
    lenets = [player for player in players if isinstance(player, LeNet)]
    if len(lenets) == len(players):
        return StackedLeNet(lenets, convolution)
    raise ValueError(f"players of the kind {type(players[0]).__name__} cannot be stacked")
