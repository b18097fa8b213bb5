"""A round costs as many operator calls and forwards as recorded: `benchmarks/counts.py --write`
records them anew."""

from __future__ import annotations

import pytest

from benchmarks import counts
from kdgan_core.names import METHODS
from kdgan_core.replica import Replica

RECORDED = counts.recorded()
FOUND: dict[str, tuple[int, dict[str, int]]] = {}


def found(name: str) -> tuple[int, dict[str, int]]:
    """Kernels and forwards of a case, counted once."""
    if name not in FOUND:
        FOUND[name] = counts.of_round(counts.cases()[name])
    return FOUND[name]


def test_every_method_is_counted() -> None:
    assert set(counts.cases()) >= set(METHODS)


@pytest.mark.parametrize("name", counts.cases())
def test_a_round_launches_no_more_kernels(name: str) -> None:
    kernels, _ = found(name)
    assert not counts.risen({name: kernels}, RECORDED["kernels"])


@pytest.mark.parametrize("name", counts.cases())
def test_a_round_asks_no_player_more_often(name: str) -> None:
    _, forwards = found(name)
    named = {f"{name} {role}": count for role, count in forwards.items()}
    assert named
    assert not counts.risen(named, RECORDED["forwards"])


@pytest.mark.parametrize("role", ["classifier", "teacher", "discriminator"])
def test_an_update_of_pretraining_launches_no_more_kernels(role: str) -> None:
    now = {f"pretraining {role}": counts.of_pretraining(role)}
    assert not counts.risen(now, RECORDED["kernels"])


def test_algorithm_1_asks_every_player_once_in_every_update() -> None:
    _, forwards = found("kdgan")
    assert forwards == {"classifier": 3, "discriminator": 3, "teacher": 3}


def test_one_more_call_of_an_operator_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, _ = found("mimic")
    descend = Replica.descend
    monkeypatch.setattr(
        Replica, "descend", lambda self, role, loss: descend(self, role, loss + 1.0)
    )
    now, _ = counts.of_round(counts.cases()["mimic"])
    assert now == kernels + 1
    assert counts.risen({"mimic": now}, {"mimic": kernels}) == {"mimic": (kernels, now)}


def test_a_count_that_is_not_recorded_has_risen() -> None:
    assert counts.risen({"new": 1, "less": 1, "same": 2}, {"less": 2, "same": 2}) == {
        "new": (None, 1)
    }
