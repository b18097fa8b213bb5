"""KDGAN as the authors' code has it: cross-entropies over lists of labels, dropout everywhere.

Written with the code's own weights, w = 1 - alpha of the equation (its alpha is reversed).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from kdgan_core.methods import kdgan
from kdgan_core.players import PLAYERS

MakeScene = Callable[..., Any]
AssertLosses = Callable[[str, dict[str, float], dict[str, float]], None]
ALPHA, BETA, GAMMA, P, N = 0.3, 0.7, 0.2, 3, 4
W = 1.0 - ALPHA
AUTHORS = {
    "estimator": "authors", "alpha": ALPHA, "beta": BETA, "gamma": GAMMA,
    "positives": P, "negatives": N,
}  # fmt: skip


def mean_bce(logits: list[Tensor], targets: list[float] | list[Tensor]) -> float:
    """Mean over all pairs of a list."""
    wanted = torch.tensor([float(target) for target in targets], dtype=torch.float64)
    return float(binary_cross_entropy_with_logits(torch.stack(logits), wanted))


def set_of(scores: Tensor, truth: Tensor, drawn: Tensor) -> float:
    """D's loss on a set: P times the true label (1), N drawn ones (0), of every image."""
    logits, targets = [], []
    for i, label in enumerate(truth.tolist()):
        logits += [scores[i, label]] * P + [scores[i, y] for y in drawn[:, i].tolist()]
        targets += [1.0] * P + [0.0] * N
    return mean_bce(logits, targets)


def learner(own: Tensor, scores: Tensor, drawn: Tensor) -> float:
    """Logits of the drawn labels against D's sigmoid of them; P + N of each image."""
    assert len(drawn) == P + N
    pairs = [(i, y) for row in drawn.tolist() for i, y in enumerate(row)]
    rewards = [scores[i, y].sigmoid() for i, y in pairs]
    return mean_bce([own[i, y] for i, y in pairs], rewards)


def test_a_round_is_the_authors(make_scene: MakeScene, assert_losses: AssertLosses) -> None:
    scene = make_scene(**AUTHORS)
    h, f, g = scene.h, scene.f, scene.g
    of_c, of_t = scene.draw(h, N), scene.draw(f, N)
    own_t, own_c = scene.draw(f, P + N), scene.draw(h, P + N)
    distance = scene.half_squared_distance(h, f)
    expected = {
        "discriminator": (1 - W) * set_of(g, scene.labels, of_c)
        + W * set_of(g, scene.labels, of_t),
        "teacher": W * learner(f, g, own_t) + GAMMA * distance,
        "classifier": (1 - W) * learner(h, g, own_c) + BETA * distance,
    }
    assert_losses("kdgan authors", scene.losses(), expected)


def test_the_players_beside_the_learner_have_dropout_and_the_targets_have_none(
    make_scene: MakeScene,
) -> None:
    """By value: pseudo labels and rewards of players in training mode, targets in eval mode."""
    dropout = {"classifier_dropout": 0.3, "teacher_dropout": 0.5}

    def scene_and_modes() -> tuple[Any, dict[str, Tensor]]:
        scene = make_scene(**AUTHORS, **dropout)
        replica = scene.replica
        return scene, {
            role: scene.logits(replica.players[role], replica.dropout[role]) for role in PLAYERS
        }

    found = {}
    for role, step in (
        ("discriminator", kdgan.discriminator_step),
        ("teacher", lambda replica: kdgan.teacher_step(replica, 0.5)),
        ("classifier", lambda replica: kdgan.classifier_step(replica, 0.5)),
    ):
        scene, x = scene_and_modes()
        own = x[role]
        if role == "discriminator":
            of_c, of_t = scene.draw(x["classifier"], N), scene.draw(x["teacher"], N)
            expected = (1 - W) * set_of(own, scene.labels, of_c) + W * set_of(
                own, scene.labels, of_t
            )
        else:
            target, weights = (
                (scene.h, (W, GAMMA)) if role == "teacher" else (scene.f, (1 - W, BETA))
            )
            drawn = scene.draw(own, P + N)
            expected = weights[0] * learner(own, x["discriminator"], drawn)
            expected += weights[1] * scene.half_squared_distance(own, target)
        scene.replica.descend = lambda role, loss: found.update({role: loss.item()})
        step(scene.replica)
        assert found.pop(role) == pytest.approx(expected, rel=1e-4)
        assert found == {}


@pytest.mark.parametrize("method, roles", [("kdgan", PLAYERS), ("nagan", PLAYERS[::2])])
def test_modes_of_every_call(method: str, roles: tuple[str, ...], make_scene: MakeScene) -> None:
    replica = make_scene(**AUTHORS, method=method).replica
    calls: list[tuple[str, bool]] = []
    for name, player in replica.players.items():

        def recorded(
            images: Tensor, generator: torch.Generator | None = None, *, name: str = name,
            forward: Callable[..., Tensor] = player.forward,
        ) -> Tensor:  # fmt: skip
            assert generator in (None, replica.dropout[name])
            calls.append((name, generator is not None))
            return forward(images, generator)

        player.forward = recorded
    replica.method.play_round(replica, 0.5)
    for_d = [(name, True) for name in roles]  # D's pseudo labels, then D
    if method == "nagan":
        assert calls == [*for_d, ("classifier", True), ("discriminator", True)]
        return
    for_t = [("teacher", True), ("discriminator", True), ("classifier", False)]
    for_c = [("classifier", True), ("discriminator", True), ("teacher", False)]
    assert calls == for_d + for_t + for_c


def test_the_code_has_no_temperature_no_k_and_no_control_variate(make_scene: MakeScene) -> None:
    expected = make_scene(**AUTHORS).losses()
    assert make_scene(**AUTHORS).losses(tau=0.1) == expected
    changed: list[dict[str, object]] = [{"samples": 9}, {"control_variate": "none"}]
    for changes in changed:
        assert make_scene(**{**AUTHORS, **changes}).losses() == expected
