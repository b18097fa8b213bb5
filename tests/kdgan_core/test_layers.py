"""What the players of both tasks have in common."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kdgan_core.layers import drop, max_pool

FORMATS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("layout", FORMATS, ids=str)
@pytest.mark.parametrize("sides", [(8, 8), (7, 5), (2, 9)])
def test_pooling_without_gradients_is_torchs(
    sides: tuple[int, int], layout: torch.memory_format
) -> None:
    x = torch.randn(3, 4, *sides, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=layout)
    with torch.no_grad():
        assert torch.equal(max_pool(x), F.max_pool2d(x, 2))


def test_pooling_passes_gradients_and_lets_nan_through() -> None:
    x = torch.tensor([[[[1.0, 3.0], [3.0, 2.0]]]], requires_grad=True)
    max_pool(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [[[[0.0, 1.0], [0.0, 0.0]]]]  # the first of equals
    with torch.no_grad():
        assert max_pool(torch.tensor([[[[1.0, float("nan")], [0.0, 2.0]]]])).isnan().all()


def test_dropout_keeps_its_share_scaled_up() -> None:
    x = torch.full((400, 500), 2.0)
    dropped = drop(x, 0.2, torch.Generator().manual_seed(0))
    assert set(dropped.unique().tolist()) == {0.0, 2.5}
    assert float((dropped > 0).double().mean()) == pytest.approx(0.8, abs=0.004)  # 4.5 sigma
    assert drop(x, 0.2, None) is x
