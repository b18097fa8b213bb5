"""schedule=fused: one minibatch and one forward of each player for a round's updates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdgan_core.methods import METHODS
from kdgan_core.names import ESTIMATORS
from kdgan_core.players import PLAYERS
from kdgan_core.replica import Replica

MakeReplica = Callable[..., Replica]
MakeScene = Callable[..., Any]
AssertLosses = Callable[[str, dict[str, float], dict[str, float]], None]
FUSED: dict[str, object] = {"schedule": "fused", "pretrain_steps": 20}
ADVERSARIAL = ("kdgan", "nagan")
ALPHA, BETA, GAMMA = 0.3, 0.7, 0.2
WEIGHTS = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA}
TAU = 0.5


def weights(player: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in player.parameters()])


def watch_forwards(replica: Replica) -> list[tuple[str, object, Tensor]]:
    """Role, generator and inputs of every forward from now on."""
    seen: list[tuple[str, object, Tensor]] = []
    means = {f"mean {role}": player for role, player in replica.averages.items()}
    for name, player in {**replica.players, **means}.items():

        def recorded(
            images: Tensor, generator: torch.Generator | None = None, *, name: str = name,
            forward: Callable[..., Tensor] = player.forward,
        ) -> Tensor:  # fmt: skip
            seen.append((name, generator, images))
            return forward(images, generator)

        player.forward = recorded  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("method", ADVERSARIAL)
def test_each_player_has_one_forward_on_the_same_minibatch(
    method: str, estimator: str, make_replica: MakeReplica
) -> None:
    replica = make_replica(**FUSED, method=method, estimator=estimator)
    seen = watch_forwards(replica)
    METHODS[method].play_round(replica, TAU)
    assert {(name, generator) for name, generator, _ in seen} == {
        (role, replica.dropout[role]) for role in replica.players
    }
    assert len(seen) == len(replica.players)
    assert all(images is seen[0][2] for _, _, images in seen)


def test_a_running_mean_of_the_teacher_has_one_more_in_eval_mode(
    make_replica: MakeReplica,
) -> None:
    replica = make_replica(**FUSED, teacher_average=0.9)
    before = weights(replica.averages["teacher"])
    seen = watch_forwards(replica)
    METHODS["kdgan"].play_round(replica, TAU)
    assert [(name, generator) for name, generator, _ in seen[3:]] == [("mean teacher", None)]
    assert not torch.equal(before, weights(replica.averages["teacher"]))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("method", ADVERSARIAL)
def test_every_player_gets_the_gradient_of_its_own_loss_alone(
    method: str, estimator: str, make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One backward of all losses leaves what a backward of each by itself would."""
    replica = make_replica(
        **FUSED, method=method, estimator=estimator, alpha=0.5, teacher_label_weight=0.5
    )
    alone: dict[str, list[Tensor | None]] = {}
    together = replica.descend_together

    def watched(losses: dict[str, Tensor]) -> None:
        everyone = [p for player in replica.players.values() for p in player.parameters()]
        for role, loss in losses.items():
            found = torch.autograd.grad(loss, everyone, retain_graph=True, allow_unused=True)
            own = {id(p) for p in replica.players[role].parameters()}
            for p, gradient in zip(everyone, found, strict=True):
                assert (gradient is not None) == (id(p) in own)
            alone[role] = [g for g in found if g is not None]
        together(losses)

    monkeypatch.setattr(replica, "descend_together", watched)
    before = {role: weights(player) for role, player in replica.players.items()}
    METHODS[method].play_round(replica, TAU)
    assert alone.keys() == replica.players.keys()
    for role, player in replica.players.items():
        for p, expected in zip(player.parameters(), alone[role], strict=True):
            torch.testing.assert_close(p.grad, expected)
            assert bool(p.grad.any())  # type: ignore[union-attr]
        assert not torch.equal(weights(player), before[role])


@pytest.mark.parametrize("method", ADVERSARIAL)
def test_it_draws_from_the_classifiers_minibatches(method: str, make_replica: MakeReplica) -> None:
    replica = make_replica(**FUSED, method=method)
    names = {f"batches {role}": s.generator for role, s in replica.streams.items()}
    before = {name: g.get_state() for name, g in names.items()}
    METHODS[method].play_round(replica, TAU)
    moved = {name for name, g in names.items() if not torch.equal(g.get_state(), before[name])}
    assert moved == {"batches classifier"}


def order_of(replica: Replica) -> list[tuple[str, ...]]:
    """The roles of every descent of one round; nothing is updated."""
    order: list[tuple[str, ...]] = []
    replica.descend_together = lambda losses: order.append(tuple(losses))  # type: ignore[method-assign]
    replica.method.play_round(replica, TAU)
    return order


def test_further_updates_are_alternating(make_replica: MakeReplica) -> None:
    steps = {"discriminator_steps": 2, "teacher_steps": 2, "classifier_steps": 3}
    both = ("discriminator", "classifier")
    assert order_of(make_replica(**FUSED, **steps)) == [
        ("discriminator",), ("discriminator", "teacher", "classifier"), ("teacher",),
        ("classifier",), ("classifier",),
    ]  # fmt: skip
    assert order_of(make_replica(**FUSED, **steps, method="nagan")) == [
        ("discriminator",), both, ("classifier",), ("classifier",)
    ]  # fmt: skip


@pytest.mark.parametrize("method", ADVERSARIAL)
def test_a_head_start_of_the_discriminator_comes_before_it(
    method: str, make_replica: MakeReplica
) -> None:
    replica = make_replica(**FUSED, method=method, discriminator_warmup=3)
    first = order_of(replica)
    replica.round = 1
    assert first == [("discriminator",)] * 3 + order_of(replica)
    assert len(order_of(replica)) == 1


def by_hand(scene: Any, targets: Tensor | None = None) -> dict[str, float]:
    """Eq. 4 with drawn labels, all of the players before the update."""
    h, f, g = scene.h, scene.f, scene.g
    accept, reject = g.sigmoid().log(), (1.0 - g.sigmoid()).log()

    def drawn(logits: Tensor) -> float:
        rows = range(len(logits))
        return float(torch.stack([reject[rows, row] for row in scene.draw(logits, 4)]).mean())

    of_c, of_t, own_t, own_c = drawn(h), drawn(f), drawn(f), drawn(h)
    real = float(accept[range(len(h)), scene.labels].mean())
    to_c = scene.half_squared_distance(f if targets is None else targets, h)
    return {
        "discriminator": -(real + ALPHA * of_c + (1 - ALPHA) * of_t),
        "teacher": (1 - ALPHA) * own_t + GAMMA * scene.half_squared_distance(h, f),
        "classifier": ALPHA * own_c + BETA * to_c,
    }


def test_the_losses_of_a_round(make_scene: MakeScene, assert_losses: AssertLosses) -> None:
    scene = make_scene(**WEIGHTS, schedule="fused")
    expected = by_hand(scene)
    assert_losses("kdgan fused", scene.losses(), expected)


def test_the_losses_of_a_round_with_a_running_mean(
    make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    """As it is before the round's update of T."""
    replica = make_scene(**WEIGHTS, schedule="fused", teacher_average=0.9).replica
    with torch.no_grad():
        for p in replica.averages["teacher"].parameters():
            p.mul_(0.9)
    scene = type(make_scene())(replica)
    targets = scene.logits(copy.deepcopy(replica.averages["teacher"]))
    assert_losses("kdgan fused mean", scene.losses(), by_hand(scene, targets))


def test_the_losses_of_a_round_without_a_teacher(
    make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    scene = make_scene(method="nagan", estimator="expectation", schedule="fused")
    h, g = scene.h, scene.g
    of_c = (h.softmax(1) * (1.0 - g.sigmoid()).log()).sum(1).mean()
    real = g.sigmoid().log()[range(len(h)), scene.labels].mean()
    expected = {"discriminator": -float(real + of_c), "classifier": float(of_c)}
    assert_losses("nagan fused expectation", scene.losses(), expected)


def test_without_dropout_its_losses_are_those_of_algorithm_1_before_any_update(
    make_scene: MakeScene,
) -> None:
    """The scene's alternating round updates nobody either."""
    for estimator in ESTIMATORS:
        found = [
            make_scene(**WEIGHTS, estimator=estimator, schedule=one).losses()
            for one in ("alternating", "fused")
        ]
        assert found[0] == pytest.approx(found[1], rel=1e-5), estimator


def test_it_notes_what_an_alternating_round_does(make_replica: MakeReplica) -> None:
    for method in ADVERSARIAL:
        notes = []
        for schedule in ("alternating", "fused"):
            replica = make_replica(method=method, schedule=schedule)
            replica.train_to(1)
            notes.append(set(replica.read_notes()))
        assert notes[0] == notes[1] != set()


def test_methods_without_a_game_are_the_same_under_it(make_replica: MakeReplica) -> None:
    for method in ("mimic", "supervised", "codis"):
        found = []
        for schedule in ("alternating", "fused"):
            replica = make_replica(method=method, schedule=schedule, pretrain_steps=20)
            replica.train_to(2)
            found.append({role: weights(player) for role, player in replica.players.items()})
        assert found[0].keys() <= set(PLAYERS)
        assert all(torch.equal(found[0][role], found[1][role]) for role in found[0])
