"""Whom a round moves: gradients reach the learner of each step alone, and so do statistics.

On CIFAR-10's players, whose teacher and discriminator keep running statistics, and random images.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.data import Dataset
from kdgan_core.gradients import gradient_variance
from kdgan_core.names import METHODS
from kdgan_core.replica import Replica

CPU = torch.device("cpu")
ADVERSARIAL = ("discriminator", "teacher", "classifier")
ROUNDS: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"method": "kdgan"}, ADVERSARIAL),
    ({"method": "kdgan", "estimator": "authors"}, ADVERSARIAL),
    ({"method": "kdgan", "teacher_average": 0.9, "distillation": "kl"}, ADVERSARIAL),
    ({"method": "kdgan", "teacher_label_weight": 1, "classifier_label_weight": 1}, ADVERSARIAL),
    ({"method": "nagan"}, ("discriminator", "classifier")),
    ({"method": "nagan", "estimator": "authors"}, ("discriminator", "classifier")),
    ({"method": "distn"}, ("classifier",)),
    ({"method": "mimic"}, ("classifier",)),
    ({"method": "noisy"}, ("classifier",)),
    ({"method": "codis", "burn_in": 0}, ("teacher", "classifier")),
    ({"method": "supervised"}, ("classifier",)),
    ({"method": "supervised", "player": "teacher"}, ("teacher",)),
]


def test_no_method_is_left_out() -> None:
    assert {changes["method"] for changes, _ in ROUNDS} == set(METHODS)


@pytest.fixture(scope="module")
def noise() -> Dataset:
    """Sixty random images of CIFAR-10's size."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(60) % 10
    return Dataset("cifar10", images, labels, images[:10], labels[:10], 255.0, 10, "noise")


@pytest.fixture(scope="module")
def make_noisy(noise: Dataset, cache_dir: Path) -> Callable[..., Replica]:
    """A function that returns a replica of the small CIFAR-10 players on `noise`."""

    def make(**changes: object) -> Replica:
        small: dict[str, object] = {
            "dataset": "cifar10", "architecture": "small", "train_size": 20, "valid_size": 20,
            "batch_size": 10, "pretrain_steps": 0, "steps": 2, "evaluations": 1,
        }  # fmt: skip
        return Replica(TrialConfig.from_dict({**small, **changes}), 0, noise, cache_dir, CPU)

    return make


def everybody(replica: Replica) -> dict[str, nn.Module]:
    return {
        **replica.players,
        **{f"frozen {role}": player for role, player in replica.frozen.items()},
        **{f"mean {role}": player for role, player in replica.averages.items()},
    }


def states(replica: Replica) -> dict[str, dict[str, Tensor]]:
    """Weights and running statistics of everybody."""
    return {
        name: {key: value.clone() for key, value in player.state_dict().items()}
        for name, player in everybody(replica).items()
    }


def differing(one: dict[str, dict[str, Tensor]], two: dict[str, dict[str, Tensor]]) -> set[str]:
    return {
        name for name in one if any(not torch.equal(one[name][k], two[name][k]) for k in one[name])
    }


@pytest.mark.parametrize(
    "changes, learners", ROUNDS, ids=["-".join(map(str, c.values())) for c, _ in ROUNDS]
)
def test_each_step_reaches_its_learner_and_no_other(
    changes: dict[str, object], learners: tuple[str, ...], make_noisy: Callable[..., Replica]
) -> None:
    replica = make_noisy(**changes)
    steps: list[tuple[str, set[str], set[str]]] = []
    descend, before = replica.descend, states(replica)

    def watched(role: str, loss: Tensor) -> None:
        nonlocal before
        for player in everybody(replica).values():
            player.zero_grad()
        descend(role, loss)
        reached = {
            name
            for name, player in everybody(replica).items()
            if any(p.grad is not None for p in player.parameters())
        }
        own = [p.grad for p in replica.players[role].parameters()]
        assert all(gradient is not None and bool(gradient.any()) for gradient in own)
        after = states(replica)
        # The mean of T is moved after T's step, without a gradient.
        steps.append((role, reached, differing(before, after) - {"mean teacher"}))
        before = after

    replica.descend = watched  # type: ignore[method-assign]
    first = states(replica)
    replica.method.play_round(replica, 0.5)
    assert steps == [(role, {role}, {role}) for role in learners]
    assert differing(before, states(replica)) <= {"mean teacher"}
    means = {name for name in first if name.startswith("mean")}
    assert differing(first, states(replica)) == set(learners) | means


@pytest.mark.parametrize("estimator", ["straight_through", "authors"])
def test_a_learners_running_statistics_move_in_its_own_step_alone(
    estimator: str, make_noisy: Callable[..., Replica]
) -> None:
    """In the authors' mode D and T are in training mode in the others' steps too."""
    replica = make_noisy(estimator=estimator)

    def statistics() -> dict[str, Tensor]:
        return {role: replica.players[role].norm.mean.clone() for role in ADVERSARIAL[:2]}  # type: ignore[union-attr,operator]

    first, seen = statistics(), []
    descend = replica.descend

    def watched(role: str, loss: Tensor) -> None:
        seen.append((role, statistics()))
        descend(role, loss)

    replica.descend = watched  # type: ignore[method-assign]
    replica.method.play_round(replica, 0.5)
    for role, now in seen:
        for name in now:
            moved = not torch.equal(now[name], first[name])
            assert moved == (ADVERSARIAL.index(name) <= ADVERSARIAL.index(role)), (role, name)
    last = statistics()
    assert all(torch.equal(last[name], seen[-1][1][name]) for name in last)


@pytest.mark.parametrize("estimator", ["straight_through", "authors"])
def test_logging_the_variance_and_checking_move_nobody(
    estimator: str, make_noisy: Callable[..., Replica]
) -> None:
    replica = make_noisy(estimator=estimator, teacher_average=0.9, gradient_batches=2)
    before = states(replica)
    assert len(gradient_variance(replica, 0.5)) == 6
    replica.validate()
    replica.keep_if_best(0.5)
    replica.test_best()
    assert differing(before, states(replica)) == set()


@pytest.mark.parametrize("method", ["kdgan", "nagan"])
def test_a_head_start_moves_the_discriminator_alone_and_comes_once(
    method: str, make_replica: Callable[..., Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    descend = Replica.descend

    def spy(self: Replica, role: str, loss: torch.Tensor) -> None:
        order.append(role)
        descend(self, role, loss)

    replica = make_replica(method=method, discriminator_warmup=3)
    monkeypatch.setattr(Replica, "descend", spy)
    replica.train_to(1)
    first, order[:] = list(order), []
    replica.train_to(2)
    assert order[0] == "discriminator" and order.count("discriminator") == 1
    assert first == ["discriminator"] * 3 + order
