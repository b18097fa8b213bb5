"""A stack of replicas trains each of them as it would be trained by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdgan_core.config import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.data.seed_data import load
from kdgan_core.names import ESTIMATORS
from kdgan_core.replica import Replica
from kdgan_core.stacked.players import CONVOLUTIONS
from kdgan_core.stacked.stack import Stack, why_not

CPU = torch.device("cpu")
ROUNDS = 4
# What a cell may differ in; seeds are those of the replicas.
CELLS: list[tuple[int, dict[str, object]]] = [
    (0, {}),
    (1, {}),
    (0, {"alpha": 0.8, "beta": 4.0, "gamma": 0.5, "tau_kind": "linear", "tau_start": 2.0}),
    (2, {"alpha": 0.1, "learning_rate": 3e-3, "teacher_learning_rate": 1e-4}),
]
METHODS: list[dict[str, object]] = [
    *({"method": m, "estimator": e} for m in ("kdgan", "nagan") for e in ESTIMATORS),
    *({"method": m, "schedule": "fused"} for m in ("kdgan", "nagan")),
    *({"schedule": "fused", "estimator": e} for e in ("expectation", "authors")),
    {"teacher_average": 0.9, "gamma_schedule": "cosine", "teacher_label_weight": 0.5},
    {"schedule": "fused", "teacher_average": 0.9, "distillation": "kl", "classifier_steps": 2},
    {"discriminator_steps": 2, "classifier_steps": 2, "discriminator_warmup": 2},
    {"control_variate": "none", "estimator": "score", "label_smoothing": 0.1},
    {"distillation": "sigmoid", "label_loss": "sigmoid", "classifier_label_weight": 0.5},
    {"mirroring": True, "color_jitter": 0.3, "cutout": 0.4},
    {"method": "distn"},
    {"method": "mimic"},
    {"method": "noisy"},
    {"method": "noisy", "noise_form": "authors"},
    {"method": "supervised"},
    {"method": "supervised", "player": "teacher"},
]
Make = Callable[..., list[Replica]]


@pytest.fixture
def make_replicas(make_config: Callable[..., TrialConfig], cache_dir: Any) -> Make:
    """A function that returns a replica of each of CELLS under some changes."""

    def make(
        cells: list[tuple[int, dict[str, object]]] = CELLS, **changes: object
    ) -> list[Replica]:
        dataset = load_dataset("digits", None)
        shared = {"pretrain_steps": 40, **changes}
        return [
            Replica(make_config(**{**shared, **own}), seed, dataset, cache_dir, CPU)
            for seed, own in cells
        ]

    return make


def weights(replica: Replica) -> dict[str, Tensor]:
    """Of all that the replica trains."""
    both = {**replica.players, **{f"mean {r}": p for r, p in replica.averages.items()}}
    return {
        f"{role} {name}": value.clone()
        for role, player in both.items()
        for name, value in player.state_dict().items()
    }


def assert_same(one: Replica, other: Replica, start: dict[str, Tensor]) -> None:
    """The way from `start` within a thousandth, random streams and counts exactly.

    Not weight by weight: where a gradient is as small as float error Adam's step may be any.
    """
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        way = (mine[name] - start[name]).norm()
        assert (mine[name] - theirs[name]).norm() <= 1e-3 * way, name
        assert way > 0.0, name
    for name, generator in one.generators().items():
        assert torch.equal(generator.get_state(), other.generators()[name].get_state()), name
    assert (one.updates, one.round) == (other.updates, other.round)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("changes", METHODS, ids=lambda c: "-".join(map(str, c.values())))
def test_each_replica_trains_as_by_itself(
    changes: dict[str, object], convolution: str, make_replicas: Make
) -> None:
    alone, together = make_replicas(**changes), make_replicas(**changes)
    starts = [weights(replica) for replica in alone]
    stack = Stack(together, convolution)
    for target in (1, ROUNDS):
        stack.train_to(target)
        for replica in alone:
            replica.train_to(target)
    for one, other, start in zip(alone, together, starts, strict=True):
        assert_same(one, other, start)
        notes, expected = other.read_notes(), one.read_notes()
        assert notes == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert expected


def test_the_paper_players_train_as_by_themselves(cache_dir: Any, mnist_folder: Any) -> None:
    """LeNet 20-20-500 and MLP 800-800, with a batch of 50."""
    config = TrialConfig(
        train_size=100, valid_size=100, batch_size=50, pretrain_steps=3, steps=3, evaluations=1,
        schedule="fused",
    )  # fmt: skip
    dataset = load(config, mnist_folder.parent)
    for convolution in CONVOLUTIONS:
        alone, together = (
            [Replica(config, seed, dataset, cache_dir, CPU) for seed in (2, 3)] for _ in range(2)
        )
        starts = [weights(replica) for replica in alone]
        Stack(together, convolution).train_to(2)
        for one, other, start in zip(alone, together, starts, strict=True):
            one.train_to(2)
            assert_same(one, other, start)


def test_a_replica_goes_on_by_itself_where_the_stack_left_it(make_replicas: Make) -> None:
    alone, together = make_replicas(), make_replicas()
    starts = [weights(replica) for replica in alone]
    Stack(together).train_to(2)
    fresh = make_replicas()
    for one, other, new, start in zip(alone, together, fresh, starts, strict=True):
        one.train_to(ROUNDS)
        new.load_state_dict(other.state_dict())
        new.train_to(ROUNDS)
        assert_same(one, new, start)


def test_a_stack_goes_on_where_replicas_have_left(make_replicas: Make) -> None:
    alone, together = make_replicas(), make_replicas()
    starts = [weights(replica) for replica in alone]
    for replica in together:
        replica.train_to(2)
    Stack(together).train_to(ROUNDS)
    for one, other, start in zip(alone, together, starts, strict=True):
        one.train_to(ROUNDS)
        assert_same(one, other, start)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("schedule", ["alternating", "fused"])
def test_a_replica_that_is_not_finite_leaves_the_others_alone(
    schedule: str, convolution: str, make_replicas: Make
) -> None:
    """To the bit, weights, moments and notes."""
    found = []
    for spoilt in (False, True):
        replicas = make_replicas(schedule=schedule, teacher_average=0.9)
        stack = Stack(replicas, convolution)
        stack.train_to(1)
        if spoilt:
            with torch.no_grad():
                for player in replicas[1].players.values():
                    for parameter in player.parameters():
                        parameter.fill_(math.nan)
        stack.train_to(ROUNDS)
        found.append(
            [(weights(r), r.read_notes(), r.state_dict()["optimizers"]) for r in replicas]
        )
        assert [replica.is_finite() for replica in replicas] == [True, not spoilt, True, True]
    for index in (0, 2, 3):
        (clean, notes, _), (beside, notes_beside, _) = found[0][index], found[1][index]
        assert all(torch.equal(clean[name], beside[name]) for name in clean)
        assert notes == notes_beside
        assert all(math.isfinite(value) for value in notes.values())


def test_validation_is_that_of_each_replica(make_replicas: Make) -> None:
    replicas = make_replicas()
    stack = Stack(replicas)
    stack.train_to(2)
    for role in ("classifier", "teacher"):
        expected = [replica.data.validate(replica.players[role]) for replica in replicas]
        assert stack.validate(role) == expected
        assert len({scores.metrics["accuracy"] for scores in expected}) > 1


class NoHost(TorchDispatchMode):
    """Refuses operations whose result the host waits for, or whose shape depends on numbers."""

    REFUSED = ("_local_scalar_dense", "item", "nonzero", "masked_select", "equal", "unique")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        assert name not in self.REFUSED, name
        if name == "index.Tensor":
            assert all(i is None or i.dtype != torch.bool for i in args[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("changes", METHODS, ids=lambda c: "-".join(map(str, c.values())))
def test_a_round_asks_nothing_of_the_host(changes: dict[str, object], make_replicas: Make) -> None:
    stack = Stack(make_replicas(**changes))
    stack.train_to(1)
    stack.fill()
    with NoHost():
        stack.play_round()
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoHost():
        _ = stack.alpha[0].item()


def test_what_cannot_be_stacked_says_why(make_replicas: Make, make_config: Any) -> None:
    with pytest.raises(ValueError, match="differ in samples, batch_size cannot be stacked"):
        Stack(make_replicas([(0, {}), (1, {"samples": 3, "batch_size": 10})]))
    one, two = make_replicas([(0, {}), (1, {})])
    two.train_to(1)
    with pytest.raises(ValueError, match="at the rounds 0 and 1"):
        Stack([one, two])
    assert why_not(make_config()) == ""
    assert "burn-in" in why_not(make_config(method="codis"))
    assert "players of cifar10" in why_not(TrialConfig(dataset="cifar10"))
    assert "players of tags" in why_not(TrialConfig(dataset="tags"))
