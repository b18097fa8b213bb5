"""CODIS: C and T from scratch, towards the labels and, after the burn-in, each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kdgan_core.pretrain import fresh_player
from kdgan_core.replica import Replica

MakeScene = Callable[..., Any]
AssertLosses = Callable[[str, dict[str, float], dict[str, float]], None]
LAMBDA = 0.6


@pytest.mark.parametrize("kind", ["kl", "l2"])
@pytest.mark.parametrize("phase, done", [("before", 5), ("after", 6)])
def test_each_descends_labels_and_then_the_other_too(
    phase: str, done: int, kind: str, make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    """The burn-in of a quarter ends with the sixth of 24 rounds."""
    scene = make_scene(
        method="codis", burn_in=0.25, codistillation_weight=LAMBDA, distillation=kind,
        distillation_temperature=2.0,
    )  # fmt: skip
    scene.replica.round = done
    h, f = scene.h, scene.f
    expected = {"teacher": scene.cross_entropy(f), "classifier": scene.cross_entropy(h)}
    if phase == "after" and kind == "kl":
        expected["teacher"] += LAMBDA * scene.softened_divergence(h, f, 2.0)
        expected["classifier"] += LAMBDA * scene.softened_divergence(f, h, 2.0)
    elif phase == "after":
        for role in expected:
            expected[role] += LAMBDA * scene.half_squared_distance(h, f)
    found = scene.losses()
    assert_losses(f"codis {phase}" + f" {kind}" * (phase == "after"), found, expected)
    assert list(found) == ["teacher", "classifier"]
    notes = set(scene.replica.read_notes())
    assert ("distillation_classifier" in notes) == (phase == "after")
    assert {"loss_teacher", "loss_classifier"} <= notes


def test_codistillation_is_by_divergence_unless_asked_for(make_scene: MakeScene) -> None:
    assert make_scene(method="codis").replica.config.distillation == "kl"


@pytest.mark.parametrize("changes", [{"codistillation_weight": 0.0}, {"burn_in": 1.0}])
def test_without_its_weight_or_its_time_there_are_labels_alone(
    changes: dict[str, object], make_scene: MakeScene
) -> None:
    scene = make_scene(method="codis", **changes)
    scene.replica.round = 23
    expected = {
        role: scene.cross_entropy(x) for role, x in (("teacher", scene.f), ("classifier", scene.h))
    }
    assert scene.losses() == pytest.approx(expected, rel=1e-4)


def test_both_start_from_the_seeds_first_weights(make_scene: MakeScene) -> None:
    replica = make_scene(method="codis").replica
    assert set(replica.players) == {"classifier", "teacher"}
    for role, player in replica.players.items():
        fresh = fresh_player(role, replica.config, 0, torch.device("cpu"))
        for mine, first in zip(player.parameters(), fresh.parameters(), strict=True):
            assert torch.equal(mine, first)


def test_the_targets_are_the_others_as_it_is_now_in_eval_mode(
    make_replica: Callable[..., Replica],
) -> None:
    """T moves first in a round: C's targets are those of the moved T."""
    replica = make_replica(method="codis", burn_in=0, teacher_steps=2, classifier_steps=2)
    calls: list[tuple[str, bool, float]] = []

    def weight(player: torch.nn.Module) -> float:
        return float(player.state_dict()["out.weight"].sum())

    for name, player in replica.players.items():

        def recorded(
            images: torch.Tensor, generator: torch.Generator | None = None, *, name: str = name,
            player: torch.nn.Module = player,
            forward: Callable[..., torch.Tensor] = player.forward,
        ) -> torch.Tensor:  # fmt: skip
            assert generator in (None, replica.dropout[name])
            calls.append((name, generator is not None, weight(player)))
            return forward(images, generator)

        player.forward = recorded
    replica.method.play_round(replica, 0.5)
    assert [call[:2] for call in calls] == [
        ("teacher", True), ("classifier", False), ("teacher", True), ("classifier", False),
        ("classifier", True), ("teacher", False), ("classifier", True), ("teacher", False),
    ]  # fmt: skip
    of_teacher = [found for name, _, found in calls if name == "teacher"]
    moved = weight(replica.players["teacher"])
    assert of_teacher[0] != of_teacher[1] != moved
    assert of_teacher[2:] == [moved, moved]
