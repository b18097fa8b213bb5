"""MIMIC: C regresses the logits of a fixed teacher, without labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

MakeScene = Callable[..., Any]
AssertLosses = Callable[[str, dict[str, float], dict[str, float]], None]


def test_the_classifier_descends_half_the_squared_distance(
    make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    scene = make_scene(method="mimic")
    expected = scene.half_squared_distance(scene.f, scene.h)
    assert_losses("mimic", scene.losses(), {"classifier": expected})


def test_labels_and_the_configured_distillation_have_no_part(make_scene: MakeScene) -> None:
    scene = make_scene(method="mimic")
    expected = scene.losses()
    scene.labels = torch.zeros_like(scene.labels)
    assert scene.losses() == expected
    other = make_scene(method="mimic", distillation="kl", soft_weight=0.1, noise_ratio=0.9)
    assert other.losses() == expected


@pytest.mark.parametrize("method", ["distn", "mimic", "noisy"])
def test_the_teacher_is_the_pretrained_one_in_eval_mode(
    method: str, make_scene: MakeScene
) -> None:
    """It is that of KDGAN, with as much pretraining; only C is in training mode."""
    scene = make_scene(method=method, teacher_pretrain_steps=35, teacher_dropout=0.5)
    replica = scene.replica
    teacher = replica.frozen["teacher"]
    theirs = make_scene(teacher_pretrain_steps=35, teacher_dropout=0.5).replica.players["teacher"]
    for mine, other in zip(teacher.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
    modes: dict[str, object] = {}
    players = {"teacher": teacher, "classifier": replica.players["classifier"]}
    for name, player in players.items():

        def recorded(
            images: torch.Tensor, generator: torch.Generator | None = None, *, name: str = name,
            forward: Callable[..., torch.Tensor] = player.forward,
        ) -> torch.Tensor:  # fmt: skip
            modes[name] = generator
            return forward(images, generator)

        player.forward = recorded
    replica.method.play_round(replica, 0.5)
    assert modes == {"teacher": None, "classifier": replica.dropout["classifier"]}


@pytest.mark.parametrize("method", ["distn", "mimic", "noisy"])
def test_a_round_has_the_configured_steps(method: str, make_scene: MakeScene) -> None:
    replica = make_scene(
        method=method, classifier_steps=3, teacher_steps=2, discriminator_steps=2
    ).replica
    order: list[str] = []
    replica.descend = lambda role, loss: order.append(role)
    replica.method.play_round(replica, 0.5)
    assert order == ["classifier"] * 3
