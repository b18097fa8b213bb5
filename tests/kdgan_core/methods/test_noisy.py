"""NOISY: C regresses the logits of a fixed teacher under multiplicative noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

MakeScene = Callable[..., Any]
AssertLosses = Callable[[str, dict[str, float], dict[str, float]], None]


def test_a_share_of_the_images_has_its_logits_perturbed(
    make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    """f' = (1 + xi) f for a random share of the images (Sau and Balasubramanian 2016)."""
    scene = make_scene(method="noisy", noise_ratio=0.5, noise_sigma=0.3)
    h, f = scene.h, scene.f
    xi = 0.3 * scene.normal(20, 10)
    chosen = (scene.uniform(20) < 0.5).tolist()
    assert 0 < sum(chosen) < 20
    rows = [f[i] * (1 + xi[i]) if chosen[i] else f[i] for i in range(20)]
    expected = scene.half_squared_distance(torch.stack(rows), h)
    assert_losses("noisy original", scene.losses(), {"classifier": expected})


def test_the_authors_form_drops_and_shakes_every_logit(
    make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    """f' = f (mask / keep + xi)."""
    scene = make_scene(method="noisy", noise_form="authors", noise_ratio=0.2, noise_sigma=0.3)
    h, f = scene.h, scene.f
    xi = 0.3 * scene.normal(20, 10)
    mask = (scene.uniform(200) >= 0.2).double().view(20, 10)
    expected = scene.half_squared_distance(f * (mask / 0.8 + xi), h)
    assert_losses("noisy authors", scene.losses(), {"classifier": expected})


@pytest.mark.parametrize("form", ["original", "authors"])
def test_without_noise_it_is_mimic(form: str, make_scene: MakeScene) -> None:
    still = make_scene(method="noisy", noise_form=form, noise_ratio=0, noise_sigma=0)
    assert still.losses() == make_scene(method="mimic").losses()


def test_every_step_has_its_own_noise(make_scene: MakeScene) -> None:
    scene = make_scene(method="noisy")
    assert scene.losses() != scene.losses()
