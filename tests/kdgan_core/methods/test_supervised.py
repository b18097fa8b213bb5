"""One player alone on the true labels: the classifier, or the teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from kdgan_core.methods import supervised
from kdgan_core.replica import Replica

MakeReplica = Callable[..., Replica]
MakeScene = Callable[..., Any]
AssertLosses = Callable[[str, dict[str, float], dict[str, float]], None]


@pytest.mark.parametrize("player", ["classifier", "teacher"])
def test_it_has_only_its_player_and_scores_it(player: str, make_replica: MakeReplica) -> None:
    replica = make_replica(method="supervised", player=player)
    assert set(replica.players) == {player}
    assert replica.frozen == {}
    assert replica.scored == player


@pytest.mark.parametrize("player", ["classifier", "teacher"])
def test_it_descends_the_cross_entropy(
    player: str, make_scene: MakeScene, assert_losses: AssertLosses
) -> None:
    scene = make_scene(method="supervised", player=player)
    expected = scene.cross_entropy(scene.h if player == "classifier" else scene.f)
    assert_losses(f"supervised {player}", scene.losses(), {player: expected})
    assert scene.replica.read_notes() == {f"loss_{player}": pytest.approx(expected, rel=1e-4)}


def test_a_round_descends_the_cross_entropy(
    make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = make_replica(method="supervised", classifier_steps=3, classifier_dropout=0)
    images, labels = replica.streams["classifier"].next()
    monkeypatch.setattr(replica.streams["classifier"], "next", lambda: (images, labels))
    with torch.no_grad():
        log_p = replica.players["classifier"](images).log_softmax(1)
    seen: list[tuple[str, float]] = []
    monkeypatch.setattr(replica, "descend", lambda role, loss: seen.append((role, loss.item())))
    supervised.play_round(replica, 1.0)
    expected = -float(log_p[range(len(labels)), labels].mean())
    assert seen == [("classifier", pytest.approx(expected, rel=1e-5))] * 3
    assert replica.read_notes() == {"loss_classifier": pytest.approx(expected, rel=1e-5)}


def test_the_temperature_has_no_part_in_it(make_replica: MakeReplica) -> None:
    found: list[nn.Module] = []
    for tau in (1.0, 0.1):
        replica = make_replica(method="supervised")
        supervised.play_round(replica, tau)
        found.append(replica.players["classifier"])
    for p, q in zip(found[0].parameters(), found[1].parameters(), strict=True):
        assert torch.equal(p, q)
