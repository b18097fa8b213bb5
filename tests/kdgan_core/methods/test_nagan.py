"""NaGAN's two steps: C against D by Eq. 1, without a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdgan_core.methods import METHODS, nagan
from kdgan_core.names import ESTIMATORS
from kdgan_core.replica import Replica

MakeReplica = Callable[..., Replica]
MakeScene = Callable[..., Any]
AssertLosses = Callable[[str, dict[str, float], dict[str, float]], None]
TAU = 0.5
STEPS: dict[str, Callable[[Replica], None]] = {
    "discriminator": nagan.discriminator_step,
    "classifier": lambda replica: nagan.classifier_step(replica, TAU),
}
PLAIN: dict[str, object] = {
    "classifier_dropout": 0, "teacher_dropout": 0, "rotation_degrees": 0, "shift": 0, "zoom": 0,
}  # fmt: skip


def weights(player: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in player.parameters()])


def test_it_has_no_teacher(make_replica: MakeReplica) -> None:
    assert set(make_replica(method="nagan").players) == {"classifier", "discriminator"}
    assert METHODS["nagan"].players == ("classifier", "discriminator")


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("role", STEPS)
def test_a_step_moves_its_player_and_no_other(
    role: str, estimator: str, make_replica: MakeReplica
) -> None:
    replica = make_replica(method="nagan", estimator=estimator)
    before = {name: weights(player) for name, player in replica.players.items()}
    for player in replica.players.values():
        player.zero_grad()  # what pretraining may have left
    STEPS[role](replica)
    for name, player in replica.players.items():
        assert torch.equal(weights(player), before[name]) == (name != role)
        assert all((p.grad is None) == (name != role) for p in player.parameters())


@pytest.mark.parametrize("estimator, within", [("expectation", 1e-5), ("score", 0.01)])
def test_the_discriminator_ascends_equation_1(
    estimator: str, within: float, make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = make_replica(method="nagan", estimator=estimator, samples=20_000, **PLAIN)
    images, labels = replica.streams["discriminator"].next()
    monkeypatch.setattr(replica.streams["discriminator"], "next", lambda: (images, labels))
    with torch.no_grad():
        accept = replica.players["discriminator"](images).sigmoid()
        p = replica.players["classifier"](images).softmax(1)
    positive = accept.log()[range(len(labels)), labels].mean()
    expected = -positive - (p * (1 - accept).log()).sum(1).mean()
    seen: list[tuple[str, float]] = []
    monkeypatch.setattr(replica, "descend", lambda role, loss: seen.append((role, loss.item())))
    nagan.discriminator_step(replica)
    assert seen == [("discriminator", pytest.approx(float(expected), rel=within))]


def test_the_classifier_descends_equation_1(
    make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = make_replica(method="nagan", estimator="expectation", alpha=0.1, **PLAIN)
    images, labels = replica.streams["classifier"].next()
    monkeypatch.setattr(replica.streams["classifier"], "next", lambda: (images, labels))
    with torch.no_grad():
        reject = 1 - replica.players["discriminator"](images).sigmoid()
        p = replica.players["classifier"](images).softmax(1)
    seen: list[tuple[str, float]] = []
    monkeypatch.setattr(replica, "descend", lambda role, loss: seen.append((role, loss.item())))
    nagan.classifier_step(replica, TAU)
    expected = float((p * reject.log()).sum(1).mean())  # alpha has no part in it
    assert seen == [("classifier", pytest.approx(expected, rel=1e-5))]


@pytest.mark.parametrize("role", STEPS)
def test_only_the_learner_is_in_training_mode(role: str, make_replica: MakeReplica) -> None:
    replica = make_replica(method="nagan")
    modes: dict[str, object] = {}
    for name, player in replica.players.items():

        def recorded(
            images: Tensor, generator: torch.Generator | None = None, *, name: str = name,
            forward: Callable[..., Tensor] = player.forward,
        ) -> Tensor:  # fmt: skip
            modes[name] = generator
            return forward(images, generator)

        player.forward = recorded  # type: ignore[method-assign]
    STEPS[role](replica)
    other = ({"classifier", "discriminator"} - {role}).pop()
    assert modes == {role: replica.dropout[role], other: None}


def test_a_round_has_the_configured_steps_in_order(
    make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = make_replica(
        method="nagan", discriminator_steps=2, teacher_steps=5, classifier_steps=3
    )
    order: list[str] = []
    monkeypatch.setattr(replica, "descend", lambda role, loss: order.append(role))
    nagan.play_round(replica, TAU)
    assert order == ["discriminator"] * 2 + ["classifier"] * 3


def test_a_round_with_drawn_labels(make_scene: MakeScene, assert_losses: AssertLosses) -> None:
    scene = make_scene(method="nagan")
    h, g = scene.h, scene.g
    accept, reject = g.sigmoid().log(), (1.0 - g.sigmoid()).log()
    rows = range(len(h))
    of_c, own_c = (
        torch.stack([reject[rows, row] for row in scene.draw(h, 4)]).mean() for _ in range(2)
    )
    real = accept[rows, scene.labels].mean()
    expected = {"discriminator": -float(real + of_c), "classifier": float(own_c)}
    assert_losses("nagan", scene.losses(), expected)


def test_a_round_with_exact_expectations(
    make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    scene = make_scene(method="nagan", estimator="expectation")
    h, g = scene.h, scene.g
    of_c = (h.softmax(1) * (1.0 - g.sigmoid()).log()).sum(1).mean()
    real = g.sigmoid().log()[range(len(h)), scene.labels].mean()
    expected = {"discriminator": -float(real + of_c), "classifier": float(of_c)}
    assert_losses("nagan expectation", scene.losses(), expected)


def test_a_round_is_the_authors(make_scene: MakeScene, assert_losses: AssertLosses) -> None:
    """D: smoothed targets, and of the negatives those of the first image alone, without its
    true label, the first N of 2N. C: its logits of drawn labels against D's sigmoid of them."""
    positives, negatives = 3, 4
    scene = make_scene(
        method="nagan", estimator="authors", positives=positives, negatives=negatives
    )
    h, g = scene.h, scene.g
    drawn = scene.draw(h, 2 * negatives)
    noise = scene.uniform(positives * len(h) + 2 * negatives).tolist()
    logits, targets = [], []
    for i, label in enumerate(scene.labels.tolist()):
        for _ in range(positives):
            logits.append(g[i, label])
            targets.append(0.7 + 0.3 * noise.pop(0))
    found = 0
    for y in drawn[:, 0].tolist():
        target = 0.3 * noise.pop(0)
        if y != int(scene.labels[0]) and found < negatives:
            logits.append(g[0, y])
            targets.append(target)
            found += 1
    assert 0 < found
    expected = {"discriminator": mean_bce(logits, targets)}
    pairs = [(i, y) for row in scene.draw(h, 7).tolist() for i, y in enumerate(row)]
    rewards = [float(g[i, y].sigmoid()) for i, y in pairs]
    expected["classifier"] = mean_bce([h[i, y] for i, y in pairs], rewards)
    assert_losses("nagan authors", scene.losses(), expected)


def mean_bce(logits: list[Tensor], targets: list[float]) -> float:
    wanted = torch.tensor(targets, dtype=torch.float64)
    return float(torch.nn.functional.binary_cross_entropy_with_logits(torch.stack(logits), wanted))
