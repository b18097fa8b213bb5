"""A trial takes as many requests to MLflow, and a study as many pretrainings, as recorded:
`benchmarks/counts.py --write` records them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import counts
from kdgan_core import pretrain
from sweeps.store import SETTINGS, Store

RECORDED = counts.recorded()


@pytest.fixture(autouse=True)
def settings_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder of the test's own, and MLflow's settings taken back afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)


def test_a_trial_takes_no_more_requests(tmp_path: Path) -> None:
    found = counts.request_counts()["requests"]
    assert not counts.risen(found, RECORDED["requests"])


def test_one_more_request_a_trial_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts.requests_of(tmp_path, 0)
    before = counts.requests_of(tmp_path, 1)
    write = Store._write

    def asking(self: Store, run: object, *rest: object) -> object:
        self._client.search_experiments(max_results=1)
        return write(self, run, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "_write", asking)
    assert counts.requests_of(tmp_path, 2) == before + RECORDED["requests"]["a trial"] + 2


def test_a_study_pretrains_every_player_once() -> None:
    now = counts.pretrainings(counts.study())
    recorded = RECORDED["pretrainings"]
    assert now == recorded["players of two seeds"]
    assert not counts.risen({"study": now}, recorded)


def test_a_table_pretrains_every_player_once() -> None:
    now = counts.pretraining_counts()["pretrainings"]
    assert not counts.risen(now, RECORDED["pretrainings"])
    assert now["table"] == now["players of two seeds"]


def test_a_player_that_depends_on_a_swept_field_is_pretrained_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pretrain, "DEPENDS_ON", (*pretrain.DEPENDS_ON, "gamma"))
    now = counts.pretrainings(counts.study())
    assert counts.risen({"study": now}, RECORDED["pretrainings"])
