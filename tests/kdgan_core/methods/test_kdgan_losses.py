"""KDGAN's three losses by hand and golden, and each option that is not in Algorithm 1."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdgan_core.methods import kdgan

MakeScene = Callable[..., Any]
AssertLosses = Callable[[str, dict[str, float], dict[str, float]], None]
ALPHA, BETA, GAMMA = 0.3, 0.7, 0.2
WEIGHTS = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA}


def picked(table: Tensor, labels: Tensor) -> float:
    """Mean of table[i, labels[j, i]]. table: (B, K); labels: (k, B)."""
    return float(torch.stack([table[range(len(table)), row] for row in labels]).mean())


def by_hand(scene: Any, smoothing: float = 0.0, targets: Tensor | None = None) -> dict[str, float]:
    """Eq. 4 with drawn labels, as Algorithm 1 has it; `targets` of C are T's unless given."""
    h, f, g = scene.h, scene.f, scene.g
    accept, reject = g.sigmoid().log(), (1.0 - g.sigmoid()).log()
    of_c, of_t = scene.draw(h, 4), scene.draw(f, 4)
    own_t, own_c = scene.draw(f, 4), scene.draw(h, 4)
    truth = scene.labels.unsqueeze(0)
    real = (1 - smoothing) * picked(accept, truth) + smoothing * picked(reject, truth)
    fooled = ALPHA * picked(reject, of_c) + (1 - ALPHA) * picked(reject, of_t)
    to_c = scene.half_squared_distance(f if targets is None else targets, h)
    return {
        "discriminator": -(real + fooled),
        "teacher": (1 - ALPHA) * picked(reject, own_t) + GAMMA * scene.half_squared_distance(h, f),
        "classifier": ALPHA * picked(reject, own_c) + BETA * to_c,
    }


def expected_by_hand(scene: Any, smoothing: float = 0.0) -> dict[str, float]:
    """Eq. 4 with its expectations over labels taken exactly."""
    h, f, g = scene.h, scene.f, scene.g
    accept, reject = g.sigmoid().log(), (1.0 - g.sigmoid()).log()
    rows = range(len(h))
    real = (1 - smoothing) * accept[rows, scene.labels] + smoothing * reject[rows, scene.labels]
    of_c, of_t = ((x.softmax(1) * reject).sum(1) for x in (h, f))
    distance = scene.half_squared_distance(h, f)
    return {
        "discriminator": -float((real + ALPHA * of_c + (1 - ALPHA) * of_t).mean()),
        "teacher": (1 - ALPHA) * float(of_t.mean()) + GAMMA * distance,
        "classifier": ALPHA * float(of_c.mean()) + BETA * distance,
    }


def test_a_round_with_drawn_labels(make_scene: MakeScene, assert_losses: AssertLosses) -> None:
    scene = make_scene(**WEIGHTS)
    expected = by_hand(scene)
    found = scene.losses()
    assert_losses("kdgan", found, expected)
    assert list(found) == ["discriminator", "teacher", "classifier"]


def test_a_round_with_exact_expectations(
    make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    scene = make_scene(**WEIGHTS, estimator="expectation")
    assert_losses("kdgan expectation", scene.losses(), expected_by_hand(scene))


@pytest.mark.parametrize("role", ["teacher", "classifier"])
def test_a_label_term_is_added_to_its_player_alone(
    role: str, make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    scene = make_scene(**WEIGHTS, **{f"{role}_label_weight": 0.9})
    expected = by_hand(scene)
    own = scene.f if role == "teacher" else scene.h
    expected[role] += 0.9 * scene.cross_entropy(own)
    assert_losses(f"kdgan {role} labels", scene.losses(), expected)


@pytest.mark.parametrize("done, factor", [(0, 1.0), (6, 0.5 + 0.25 * 2**0.5), (12, 0.5)])
def test_a_cosine_takes_gamma_to_zero(
    done: int, factor: float, make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    """Over 24 rounds; it is the teacher's distillation alone."""
    scene = make_scene(**WEIGHTS, gamma_schedule="cosine")
    scene.replica.round = done
    expected = by_hand(scene)
    expected["teacher"] -= (1 - factor) * GAMMA * scene.half_squared_distance(scene.h, scene.f)
    assert_losses(f"kdgan gamma after {done}", scene.losses(), expected)


def test_gamma_is_almost_nothing_in_the_last_round(make_scene: MakeScene) -> None:
    scene = make_scene(**WEIGHTS, gamma_schedule="cosine", estimator="expectation")
    scene.replica.round = 23
    factor = 0.5 * (1 + math.cos(math.pi * 23 / 24))
    assert factor < 0.005
    expected = expected_by_hand(scene)
    expected["teacher"] -= (1 - factor) * GAMMA * scene.half_squared_distance(scene.h, scene.f)
    assert scene.losses() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("estimator", ["straight_through", "expectation"])
def test_smoothed_labels_are_the_discriminators(
    estimator: str, make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    scene = make_scene(**WEIGHTS, label_smoothing=0.2, estimator=estimator)
    formula = expected_by_hand if estimator == "expectation" else by_hand
    expected = formula(scene, 0.2)
    assert_losses(f"kdgan smoothed {estimator}", scene.losses(), expected)


def test_the_mean_of_the_teacher_gives_the_classifiers_targets(
    make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    """As it is after T's step of the round; pseudo labels and rewards are T's as ever."""
    scene = make_scene(**WEIGHTS, teacher_average=0.9)
    replica = scene.replica
    for _ in range(3):
        kdgan.teacher_step(replica, 0.5)
    mean = copy.deepcopy(replica.averages["teacher"])
    with torch.no_grad():  # T stays, the mean goes on towards it
        for p, now in zip(mean.parameters(), replica.players["teacher"].parameters(), strict=True):
            p.copy_(4 / 13 * p + 9 / 13 * now)
    scene = type(scene)(replica)  # its draws are those from here on
    targets = scene.logits(mean)
    assert float((targets - scene.f).abs().max()) > 0.01
    assert_losses("kdgan mean", scene.losses(), by_hand(scene, targets=targets))


def test_the_mean_follows_the_teacher_and_forgets_its_start(make_scene: MakeScene) -> None:
    """decay = min(0.6, (1 + t) / (10 + t)) after t updates of T; it starts as T does."""
    replica = make_scene(teacher_average=0.6).replica
    assert set(replica.averages) == {"teacher"}
    mean, teacher = replica.averages["teacher"], replica.players["teacher"]
    assert mean is not teacher

    def weights(player: nn.Module) -> dict[str, Tensor]:
        return {name: value.double() for name, value in player.state_dict().items()}

    expected = copy.deepcopy(weights(teacher))
    assert all(torch.equal(expected[name], value) for name, value in weights(mean).items())
    decays = []
    for t in range(1, 25):
        kdgan.teacher_step(replica, 0.5)
        decay = min(0.6, (1 + t) / (10 + t))
        decays.append(decay)
        for name, now in weights(teacher).items():
            expected[name] = decay * expected[name] + (1 - decay) * now
    assert decays[0] == pytest.approx(2 / 11)
    assert decays[-1] == 0.6
    for name, value in weights(mean).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


def test_there_is_no_mean_unless_asked_for(make_scene: MakeScene) -> None:
    assert make_scene().replica.averages == {}
    assert make_scene(method="mimic", teacher_average=0.9).replica.averages == {}
