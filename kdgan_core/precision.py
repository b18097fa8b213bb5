"""How precisely matrix products and convolutions are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Matrix products and convolutions at this precision for the length of a block.

    Args:
        precision: "highest", "high" or "medium" as torch's float32 matmul precision, a setting of
            the process; "bfloat16" has inputs rounded to it (autocast), while weights, losses and
            optimizers stay float32.
        device: where the block computes.
    """
    is_half = precision == "bfloat16"
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if is_half else precision)
    # Rounded weights may not be kept: the block updates them.
    half = torch.autocast(device.type, torch.bfloat16, enabled=is_half, cache_enabled=False)
    try:
        with half:
            yield
    finally:
        torch.set_float32_matmul_precision(before)
