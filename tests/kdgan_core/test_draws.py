"""Random tensors of one generator, and of a stack's."""

from __future__ import annotations

import pytest
import torch

from kdgan_core.draws import exponential, kept

LIKE = torch.empty(0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_exponential_draws_have_their_mean_variance_and_tail() -> None:
    drawn = exponential((400_000,), seeded(0), LIKE)
    assert float(drawn.min()) >= 0.0 and bool(torch.isfinite(drawn).all())
    assert float(drawn.mean()) == pytest.approx(1.0, abs=0.008)
    assert float(drawn.var()) == pytest.approx(1.0, abs=0.025)
    assert float((drawn > 5.0).double().mean()) == pytest.approx(0.006738, abs=0.0006)


def test_a_stack_draws_what_its_replicas_would_by_themselves() -> None:
    for draw in (
        lambda g: exponential((3, 4), g, LIKE),
        lambda g: kept(torch.empty(3, 4) if isinstance(g, torch.Generator)
                       else torch.empty(2, 3, 4), 0.3, g),
    ):  # fmt: skip
        together = draw((seeded(1), seeded(2)))
        assert torch.equal(together, torch.stack([draw(seeded(1)), draw(seeded(2))]))
