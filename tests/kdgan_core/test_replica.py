"""A seed in training: its schedules, its running means, and the classifier that it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from kdgan_core.config import TemperatureSchedule
from kdgan_core.data import draw_split, load_dataset
from kdgan_core.methods import METHODS, Method
from kdgan_core.replica import Replica
from kdgan_core.temperature import temperature

MakeReplica = Callable[..., Replica]


def recording(rounds: list[tuple[float, float]]) -> Method:
    """A method that only notes the temperature and C's learning rate of every round."""

    def play_round(replica: Replica, tau: float) -> None:
        (group,) = replica.optimizers["classifier"].param_groups
        rounds.append((tau, group["lr"]))

    return Method(("classifier",), play_round)


def test_it_trains_on_its_own_draw(make_replica: MakeReplica) -> None:
    replica = make_replica()
    dataset = load_dataset("digits", None)
    split = draw_split(dataset, replica.config, 0)
    assert replica.data.train_images.numpy().tolist() == dataset.images[split.train].tolist()
    assert replica.data.train_labels.tolist() == dataset.labels[split.train].tolist()
    assert replica.data.valid_images.numpy().tolist() == dataset.images[split.valid].tolist()
    assert replica.data.valid_labels.tolist() == dataset.labels[split.valid].tolist()


@pytest.mark.parametrize("method", METHODS)
def test_every_player_has_its_own_optimizer_and_streams(
    method: str, make_replica: MakeReplica
) -> None:
    replica = make_replica(method=method)
    for role, player in replica.players.items():
        held = [p for g in replica.optimizers[role].param_groups for p in g["params"]]
        assert {id(p) for p in held} == {id(p) for p in player.parameters()}
        assert type(replica.optimizers[role]) is torch.optim.Adam  # not AdamW: coupled L2
    generators = [stream.generator for stream in replica.streams.values()]
    generators += [*replica.dropout.values(), replica.noise]
    assert len({generator.initial_seed() for generator in generators}) == len(generators)


@pytest.mark.parametrize("kind", ["exponential", "linear", "cosine"])
def test_the_temperature_runs_from_its_start_to_its_end(
    kind: str, make_replica: MakeReplica
) -> None:
    replica = make_replica(tau_kind=kind, tau_start=2.0, tau_end=0.5, steps=5, evaluations=1)
    rounds: list[tuple[float, float]] = []
    replica.method = recording(rounds)
    replica.train_to(5)
    schedule = TemperatureSchedule(kind, 2.0, 0.5)
    assert [tau for tau, _ in rounds] == [temperature(schedule, i / 4) for i in range(5)]
    assert rounds[0][0] == 2.0
    assert rounds[-1][0] == 0.5


def test_a_single_round_has_the_first_temperature(make_replica: MakeReplica) -> None:
    replica = make_replica(steps=3, classifier_steps=3, evaluations=1)
    rounds: list[tuple[float, float]] = []
    replica.method = recording(rounds)
    replica.train_to(1)
    assert [tau for tau, _ in rounds] == [1.0]
    assert replica.step == 3


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_follows_its_schedule(schedule: str, make_replica: MakeReplica) -> None:
    replica = make_replica(
        learning_rate=0.01, learning_rate_schedule=schedule, steps=4, evaluations=1
    )
    rounds: list[tuple[float, float]] = []
    replica.method = recording(rounds)
    replica.train_to(4)
    cosine = [0.005 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    expected = [0.01] * 4 if schedule == "constant" else cosine
    assert [rate for _, rate in rounds] == pytest.approx(expected)


def test_a_step_has_the_gradient_of_its_own_loss_alone(make_replica: MakeReplica) -> None:
    replica = make_replica()
    bias = replica.players["classifier"].out.bias
    for factor in (1.0, 3.0):  # the second would be 4 if gradients were added up
        replica.descend("classifier", factor * bias.sum())
        assert bias.grad.tolist() == [factor] * 10


def test_training_in_parts_is_training_at_once(make_replica: MakeReplica) -> None:
    parts, once = make_replica(), make_replica()
    for done in (1, 4, 4, 7):
        parts.train_to(done)
    once.train_to(7)
    assert parts.round == once.round == 7
    for role in parts.players:
        for p, q in zip(
            parts.players[role].parameters(), once.players[role].parameters(), strict=True
        ):
            assert torch.equal(p, q)


def test_notes_are_means_since_the_last_reading(make_replica: MakeReplica) -> None:
    replica = make_replica()
    for value in (1.0, 2.0, 6.0):
        replica.note("loss", torch.tensor(value, requires_grad=True))
    replica.note("other", torch.tensor(5.0))
    assert replica.read_notes() == {"loss": 3.0, "other": 5.0}
    replica.note("loss", torch.tensor(7.0))
    assert replica.read_notes() == {"loss": 7.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("role", ["classifier", "teacher", "discriminator"])
def test_one_bad_weight_of_any_player_is_seen(
    role: str, value: float, make_replica: MakeReplica
) -> None:
    replica = make_replica()
    assert replica.is_finite()
    with torch.no_grad():
        replica.players[role].out.bias[3] = value
    assert not replica.is_finite()


def test_the_first_of_equal_checks_is_kept(make_replica: MakeReplica) -> None:
    replica = make_replica()
    kept = {}
    for step, score in enumerate([0.3, 0.5, 0.5, 0.4], start=1):
        replica.train_to(step)
        replica.keep_if_best(score)
        kept[step] = replica.test_best()[0].metrics["accuracy"]
    assert (replica.best_step, replica.best_valid_score) == (2, 0.5)
    with torch.no_grad():
        replica.players["classifier"].out.bias.fill_(math.nan)  # later harm does not reach it
    best = replica.test_best()[0].metrics["accuracy"]
    assert best == kept[2] > 0.2


@pytest.mark.parametrize("own, of_teacher", [(0.0, 1e-3), (1e-5, 1e-5)])
def test_the_teacher_may_have_a_learning_rate_of_its_own(
    own: float, of_teacher: float, make_replica: MakeReplica
) -> None:
    replica = make_replica(learning_rate=1e-3, teacher_learning_rate=own, steps=4)
    seen = {role: [] for role in replica.players}
    for step in range(1, 5):
        replica.train_to(step)
        for role, optimizer in replica.optimizers.items():
            seen[role] += [group["lr"] for group in optimizer.param_groups][:1]
    assert seen["classifier"] == seen["discriminator"]
    assert seen["classifier"][0] == 1e-3
    share = of_teacher / 1e-3
    assert seen["teacher"] == pytest.approx([share * rate for rate in seen["classifier"]])
