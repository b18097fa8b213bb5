"""Precision of matrix products: what bfloat16 rounds and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kdgan_core.precision import matmul_precision
from kdgan_core.replica import Replica
from kdgan_core.trial import Trial

CPU = torch.device("cpu")
MakeReplica = Callable[..., Replica]


def test_bfloat16_rounds_the_inputs_of_a_product_and_ends_with_the_block() -> None:
    a, b = torch.full((1, 1), 1.0 + 2.0**-10), torch.ones(1, 1)  # bfloat16 has 8 bits
    with matmul_precision("bfloat16", CPU):
        rounded = a @ b
    assert (rounded.dtype, float(rounded)) == (torch.bfloat16, 1.0)
    assert float(a @ b) == 1.0 + 2.0**-10
    with matmul_precision("highest", CPU):
        assert float(a @ b) == 1.0 + 2.0**-10


@pytest.mark.parametrize("precision", ["highest", "bfloat16"])
def test_an_error_in_the_block_leaves_no_precision_behind(precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError, match="gone"), matmul_precision(precision, CPU):
        raise RuntimeError("gone")
    assert torch.get_float32_matmul_precision() == before
    assert not torch.is_autocast_enabled("cpu")


def test_scores_weights_and_moments_stay_float32(make_replica: MakeReplica) -> None:
    replica = make_replica()
    images, _ = replica.streams["classifier"].next()
    with matmul_precision("bfloat16", CPU):
        replica.train_to(2)
        for player in replica.players.values():
            assert player(images).dtype == torch.float32
    for player, adam in zip(replica.players.values(), replica.optimizers.values(), strict=True):
        assert all(p.dtype == torch.float32 for p in player.parameters())
        for state in adam.state_dict()["state"].values():
            assert state["exp_avg"].dtype == torch.float32


def test_updated_weights_are_seen_within_the_block(make_replica: MakeReplica) -> None:
    """Autocast would keep the rounded weights of the block's first call."""
    replica = make_replica()
    images, _ = replica.streams["classifier"].next()
    classifier = replica.players["classifier"]
    with matmul_precision("bfloat16", CPU), torch.no_grad():
        before = classifier(images)
        for parameter in classifier.parameters():
            parameter.zero_()
        assert float(before.abs().max()) > 0.0 and float(classifier(images).abs().max()) == 0.0


def test_a_trial_in_bfloat16_learns_nearly_the_same(make_trial: Callable[..., Trial]) -> None:
    scores = []
    for precision in ("highest", "bfloat16"):
        trial = make_trial(method="mimic", matmul_precision=precision)
        while not trial.done:
            trial.advance()
        scores.append(trial.result().seeds[0].test_score or 0.0)
    assert scores[0] != 0.0 and abs(scores[0] - scores[1]) < 0.05
