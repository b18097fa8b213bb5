"""Random tensors from one generator, or from a stack of them: one for each replica.

A replica of a stack draws from its own generator what it would draw by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# One replica's generator, or those of R stacked replicas, all on one device.
Generators = torch.Generator | tuple[torch.Generator, ...]
# One number, or (R,) of stacked replicas.
Scalar = float | Tensor


def per_replica(value: Scalar, like: Tensor) -> Scalar:
    """A number as it is; (R,) numbers with ones behind, to go with `like` (R, ...)."""
    if isinstance(value, float):
        return value
    return value.view(-1, *[1] * (like.dim() - 1))


def exponential(shape: tuple[int, ...], generator: Generators, like: Tensor) -> Tensor:
    """Exponential(1) draws of a shape, (R, *shape) of a stack; dtype and device as `like`.

    On a CPU -log(1 - u) of uniform draws u: `exponential_` takes four times as long there.
    """
    empty = _empty(shape, generator, like.device, like.dtype)
    if like.device.type != "cpu":
        return _filled(empty, generator, lambda part, own: part.exponential_(generator=own))
    drawn = _filled(empty, generator, lambda part, own: part.uniform_(generator=own))
    return drawn.neg_().log1p_().neg_()


def uniform(shape: tuple[int, ...], generator: Generators, device: torch.device) -> Tensor:
    """Float32 draws from U[0, 1) of a shape, (R, *shape) of a stack."""
    empty = _empty(shape, generator, device, torch.float32)
    return _filled(empty, generator, lambda part, own: part.uniform_(generator=own))


def normal(shape: tuple[int, ...], generator: Generators, like: Tensor) -> Tensor:
    """Draws from N(0, 1) of a shape, (R, *shape) of a stack; dtype and device as `like`."""
    empty = _empty(shape, generator, like.device, like.dtype)
    return _filled(empty, generator, lambda part, own: part.normal_(generator=own))


def kept(x: Tensor, rate: float, generator: Generators) -> Tensor:
    """Shaped as x, 1 with probability 1 - rate and else 0. x: any shape, (R, ...) of a stack.

    On a CPU by a comparison of uniform draws: `bernoulli_` takes four times as long there.
    """
    keep, empty = 1.0 - rate, torch.empty_like(x)
    if x.device.type != "cpu":
        return _filled(empty, generator, lambda part, own: part.bernoulli_(keep, generator=own))
    return _filled(empty, generator, lambda part, own: part.uniform_(generator=own)).lt_(keep)


def _empty(
    shape: tuple[int, ...], generator: Generators, device: torch.device, dtype: torch.dtype
) -> Tensor:
    stack = () if isinstance(generator, torch.Generator) else (len(generator),)
    return torch.empty((*stack, *shape), device=device, dtype=dtype)


def _filled(
    empty: Tensor, generator: Generators, fill: Callable[[Tensor, torch.Generator], Tensor]
) -> Tensor:
    if isinstance(generator, torch.Generator):
        return fill(empty, generator)
    for part, own in zip(empty.unbind(0), generator, strict=True):
        fill(part, own)
    return empty
