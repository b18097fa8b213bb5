"""What the players of both tasks have in common."""

from __future__ import annotations

from torch import Tensor

from kdgan_core.draws import Generators, kept


def drop(x: Tensor, rate: float, generator: Generators | None) -> Tensor:
    """x with a fraction `rate` of its entries zeroed and the rest scaled up; x in eval mode.

    x: any shape, (R, ...) with the generators of R replicas.
    """
    if generator is None or rate == 0.0:
        return x
    return x * kept(x, rate, generator).div_(1.0 - rate)
