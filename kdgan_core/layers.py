"""What the players of both tasks have in common."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgan_core.draws import Generators, kept


def drop(x: Tensor, rate: float, generator: Generators | None) -> Tensor:
    """x with a fraction `rate` of its entries zeroed and the rest scaled up; x in eval mode.

    x: any shape, (R, ...) with the generators of R replicas.
    """
    if generator is None or rate == 0.0:
        return x
    return x * kept(x, rate, generator).div_(1.0 - rate)


def max_pool(x: Tensor) -> Tensor:
    """2x2 max pooling of x (..., H, W); a last odd row or column is left out.

    Where no gradient is wanted a CPU has it from three maxima in a quarter of the time, since
    torch's pooling looks for the places of the maxima all the same.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return F.max_pool2d(x, 2)
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    upper, lower = x[..., 0:height:2, :width], x[..., 1:height:2, :width]
    rows = torch.maximum(upper, lower)
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])
