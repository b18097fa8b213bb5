"""Spool files: what is written is read back, whatever a crash left of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from kdgan_core import Evaluation, TrialResult
from kdgan_core.trial import SeedResult
from sweeps.space import Space
from sweeps.spool import SpoolState, SpoolWriter, read_spool, score, spool_path

CHECK = Evaluation(10, 20, 0.5, 1.5, {0: {"valid_accuracy": 0.75, "loss": 0.1}})
FINISHED = TrialResult(
    "abc", "finished", (SeedResult(0, "finished", 10, 0.8, 0.7, 0.5, 0.78),), 3.0, 20
)


def test_a_trial_is_read_back(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "new" / "spool", "abc")
    path = spool_path(tmp_path / "new" / "spool", "abc")
    begun = read_spool(path)
    assert (begun.evaluations, begun.result, begun.outcome) == ([], None, None)
    assert begun.started is not None
    writer.evaluation(CHECK)
    writer.result(FINISHED)
    state = read_spool(path)
    (check,) = state.evaluations
    assert (check["step"], check["steps"], check["tau"], check["seconds"]) == (10, 20, 0.5, 1.5)
    assert check["metrics"] == {"0": {"valid_accuracy": 0.75, "loss": 0.1}}
    assert state.result is not None
    assert (state.outcome, state.result["seconds"], state.result["step"]) == ("finished", 3.0, 20)
    assert state.result["seeds"] == [vars(FINISHED.seeds[0])]
    assert state.started == begun.started
    assert state.started <= check["time"] <= state.result["time"]


def test_a_failure_keeps_its_traceback(tmp_path: Path) -> None:
    SpoolWriter(tmp_path, "abc").failed('Traceback ...\n  File "a.py"\nKeyError: "β"\n')
    state = read_spool(spool_path(tmp_path, "abc"))
    assert state.outcome == "failed"
    assert state.result is not None
    assert state.result["traceback"].splitlines()[-1] == 'KeyError: "β"'


def test_an_absent_file_is_a_trial_that_has_not_begun(tmp_path: Path) -> None:
    assert read_spool(tmp_path / "no.jsonl") == SpoolState()


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_line_cut_short_is_passed_over(tmp_path: Path, kept: int) -> None:
    writer = SpoolWriter(tmp_path, "abc")
    writer.evaluation(CHECK)
    whole = writer.path.read_bytes()
    writer.result(FINISHED)
    last = writer.path.read_bytes()[len(whole) :].rstrip(b"\n")
    writer.path.write_bytes(whole + last[:kept])
    state = read_spool(writer.path)
    assert len(state.evaluations) == 1
    assert state.result is None


def test_a_line_cut_short_does_not_swallow_the_next_attempt(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "abc")
    writer.evaluation(CHECK)
    writer.evaluation(CHECK)
    writer.path.write_bytes(writer.path.read_bytes()[:-9])
    before = read_spool(writer.path)
    assert len(before.evaluations) == 1
    SpoolWriter(tmp_path, "abc").result(FINISHED)
    state = read_spool(writer.path)
    assert state.evaluations == []
    assert state.outcome == "finished"
    assert state.started != before.started
    assert writer.path.read_text().count('"event": "start"') == 2


def test_a_new_attempt_replaces_the_former(tmp_path: Path) -> None:
    first = SpoolWriter(tmp_path, "abc")
    first.evaluation(CHECK)
    first.failed("OSError: gone")
    before = read_spool(first.path)
    SpoolWriter(tmp_path, "abc").evaluation(CHECK)
    state = read_spool(first.path)
    assert len(state.evaluations) == 1
    assert state.result is None
    assert state.started is not None and before.started is not None
    assert state.started > before.started


@pytest.mark.parametrize("foreign", [b"[1, 2]", b"12", b"\xff\xfe", b"", b'{"event": "other"}'])
def test_a_foreign_line_is_passed_over(tmp_path: Path, foreign: bytes) -> None:
    writer = SpoolWriter(tmp_path, "abc")
    with writer.path.open("ab") as spool:
        spool.write(foreign + b"\n")
    writer.result(FINISHED)
    assert read_spool(writer.path).outcome == "finished"


def test_numbers_that_json_cannot_carry_become_none(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "abc")
    metrics = {0: {"valid_accuracy": 0.5, "loss": math.nan}, 1: {"loss": -math.inf}}
    writer.evaluation(Evaluation(10, 20, math.inf, 1.0, metrics))
    for line in writer.path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (check,) = read_spool(writer.path).evaluations
    assert check["tau"] is None
    assert check["metrics"] == {"0": {"valid_accuracy": 0.5, "loss": None}, "1": {"loss": None}}


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((), (0.8 + 0.9) / 2),
        (("finished", "collapsed"), (0.8 + 0.2) / 2),
        (("diverged", "finished"), (0.0 + 0.9) / 2),
        (("diverged", "diverged"), 0.0),
        (("failed",), None),
    ],
)
def test_the_score_of_a_trial(
    space: Space,
    end_trial: Callable[..., object],
    tmp_path: Path,
    outcomes: tuple[str, ...],
    expected: float | None,
) -> None:
    config = space.base_config(50)
    end_trial(tmp_path, config, 0.8, outcomes, spread=0.1)
    result = read_spool(spool_path(tmp_path, config.trial_id)).result
    assert score(result) == (None if expected is None else pytest.approx(expected))


def test_a_trial_without_a_result_has_no_score() -> None:
    assert score(None) is None
