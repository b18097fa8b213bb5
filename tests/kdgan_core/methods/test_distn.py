"""DISTN: (1-s) CE + s T^2 KL against a fixed teacher, or the authors' form with logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

MakeScene = Callable[..., Any]
AssertLosses = Callable[[str, dict[str, float], dict[str, float]], None]


@pytest.mark.parametrize("soft", [0.0, 0.7, 1.0])
def test_the_classifier_descends_labels_and_softened_ones(
    soft: float, make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    scene = make_scene(method="distn", soft_weight=soft, distillation_temperature=2.0)
    hard = scene.cross_entropy(scene.h)
    expected = (1 - soft) * hard + soft * scene.softened_divergence(scene.f, scene.h, 2.0)
    assert_losses(f"distn {soft}", scene.losses(), {"classifier": expected})
    assert set(scene.replica.read_notes()) == {"loss_classifier"}


def test_the_authors_form_has_no_temperature(
    make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    """T^2 times the squared distance of logits over T: T cancels (SPEC of the code)."""
    for temperature in (1.0, 3.0):
        scene = make_scene(method="distn", distillation="l2", distillation_temperature=temperature)
        h, f = scene.h / temperature, scene.f / temperature
        soft = temperature**2 * scene.half_squared_distance(h, f)
        expected = 0.3 * scene.cross_entropy(scene.h) + 0.7 * soft
        assert_losses("distn l2", scene.losses(), {"classifier": expected})


def test_the_default_is_the_divergence_at_temperature_3(make_scene: MakeScene) -> None:
    """s = .7 and T = 3 are the authors'."""
    scene = make_scene(method="distn")
    soft = scene.softened_divergence(scene.f, scene.h, 3.0)
    expected = 0.3 * scene.cross_entropy(scene.h) + 0.7 * soft
    assert scene.losses() == {"classifier": pytest.approx(expected, rel=1e-4)}
