"""How many kernels a round launches: counted, and hardly more for a stack than for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.kernels import count_kernels
from kdgan_core.config import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.replica import Replica
from kdgan_core.stacked.stack import Stack

CPU = torch.device("cpu")


def test_views_and_allocations_are_not_counted() -> None:
    x, w, b = torch.ones(4, 3), torch.ones(2, 3), torch.ones(2)

    def look() -> None:
        torch.empty_like(x).view(-1).unsqueeze(0)
        x.T.detach()

    def play() -> None:
        y = torch.nn.functional.linear(x.view(4, 3).t().t(), w, b)
        y[:, :1].relu().sum()

    assert not count_kernels(look)
    found = count_kernels(play)
    assert found.total() == 3  # the product with its bias, the ReLU, the sum
    assert found["aten.sum.default"] == 1


def test_a_backward_counts_too() -> None:
    x = torch.ones(3, requires_grad=True)
    forward = count_kernels(lambda: x.exp().sum())
    both = count_kernels(lambda: x.exp().sum().backward())  # type: ignore[no-untyped-call]
    assert both.total() > forward.total() == 2


@pytest.mark.parametrize("schedule", ["alternating", "fused"])
def test_a_stack_launches_little_more_than_one_replica(
    schedule: str, make_config: Callable[..., TrialConfig], cache_dir: Path
) -> None:
    """What grows with R are the draws, from a generator each, and nothing else."""
    dataset, config = load_dataset("digits", None), make_config(schedule=schedule)

    def stack(count: int) -> int:
        replicas = [Replica(config, seed, dataset, cache_dir, CPU) for seed in range(count)]
        made = Stack(replicas)
        made.train_to(1)
        made.fill()
        return count_kernels(made.play_round).total()

    single = Replica(config, 0, dataset, cache_dir, CPU)
    single.train_to(1)
    alone = count_kernels(lambda: single.method.play_round(single, 0.5)).total()
    few, many = stack(2), stack(8)
    draws = 4 + 4 + (3 if schedule == "alternating" else 1)  # labels, dropout, augmentation
    assert (many - few) / 6 <= draws
    assert many < 2 * alone
