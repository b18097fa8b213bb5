"""Adam of one player of R replicas: torch's fused one, on stacked tensors."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from kdgan_core.draws import Scalar
from kdgan_core.stacked.players import join


class _Slice(NamedTuple):
    """Weights of some replicas that take the same step, with what Adam keeps of them."""

    parameters: list[nn.Parameter]  # (R, ...), for their gradients
    first: int
    last: int
    values: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]
    weight_decay: float


class StackedAdam:
    """The optimizers of one player in R replicas as one.

    Their moments become views of the stacked ones, so that each optimizer's state is that of its
    replica after `settle`.
    """

    def __init__(
        self, player: nn.Module, players: Sequence[nn.Module],
        optimizers: Sequence[torch.optim.Adam], rates: Sequence[float],
    ) -> None:  # fmt: skip
        """Takes over the optimizers as they are.

        Args:
            player: the stacked one.
            players: of the replicas, views of it.
            optimizers: theirs.
            rates: first learning rate of each replica; neighbours with the same one, and as many
                updates so far, are updated together.
        """
        self.parameters = list(player.parameters())
        owns = [dict(one.named_parameters()) for one in players]
        names = [name for name, _ in player.named_parameters()]
        decays = _decays(optimizers[0])
        kept: list[tuple[Tensor, Tensor, Tensor]] = []
        for name in names:
            states = [_state(adam, own[name]) for adam, own in zip(optimizers, owns, strict=True)]
            kept.append(tuple(join([s[k] for s in states]) for k in _KEPT))  # type: ignore[arg-type]
        self._steps = [steps for steps, _, _ in kept]
        counts = self._steps[0].tolist()
        keys = list(zip(rates, counts, strict=True))
        self.runs = [
            (run[0], run[-1] + 1)
            for _, group in itertools.groupby(range(len(keys)), key=lambda i: keys[i])
            for run in [list(group)]
        ]
        self._slices: list[list[_Slice]] = []
        by_decay: dict[float, list[int]] = {}
        for index, name in enumerate(names):
            by_decay.setdefault(decays[id(owns[0][name])], []).append(index)
        for first, last in self.runs:
            part = slice(first, last)
            self._slices.append([
                _Slice(
                    [self.parameters[i] for i in chosen], first, last,
                    [self.parameters[i].detach()[part] for i in chosen],
                    [kept[i][1][part] for i in chosen], [kept[i][2][part] for i in chosen],
                    [kept[i][0][first] for i in chosen], decay,
                )
                for decay, chosen in by_decay.items()
            ])  # fmt: skip

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, rates: Sequence[Scalar]) -> None:
        """One update. rates: learning rate of each of `runs`, a number or 0-dimensional."""
        for rate, slices in zip(rates, self._slices, strict=True):
            for one in slices:
                _update(one, rate)

    def settle(self) -> None:
        """Gives every replica's optimizer its count of updates."""
        for steps in self._steps:
            for first, last in self.runs:
                steps[first:last] = steps[first].clone()


@torch.no_grad()
def _update(one: _Slice, rate: Scalar) -> None:
    gradients = []
    for parameter in one.parameters:
        assert parameter.grad is not None
        gradients.append(parameter.grad[one.first : one.last])
    adam(
        one.values, gradients, one.means, one.squares, [], one.steps, fused=True,
        capturable=one.values[0].is_cuda, amsgrad=False, beta1=0.9, beta2=0.999,
        lr=rate, weight_decay=one.weight_decay, eps=1e-8, maximize=False,
    )  # fmt: skip


_KEPT = ("step", "exp_avg", "exp_avg_sq")


def _state(optimizer: torch.optim.Adam, parameter: nn.Parameter) -> Mapping[str, Any]:
    """What the optimizer keeps of a weight; made as torch does before the first update."""
    state: dict[str, Any] = optimizer.state[parameter]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
    return state


def _decays(optimizer: torch.optim.Adam) -> dict[int, float]:
    """id of a weight -> its weight decay."""
    return {
        id(parameter): float(group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
