"""What the players of both tasks have in common."""

from __future__ import annotations

import torch
from torch import Tensor


def drop(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """x with a fraction `rate` of its entries zeroed and the rest scaled up; x in eval mode."""
    if generator is None or rate == 0.0:
        return x
    keep = torch.empty_like(x).bernoulli_(1.0 - rate, generator=generator)
    return x * keep.div_(1.0 - rate)
