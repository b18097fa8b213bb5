"""Spool files: what is written is read back, whatever a crash or a full disk left of it."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import full_disk

from kdgan_core import Evaluation, TrialConfig, TrialResult
from kdgan_core.trial import SeedResult
from sweeps.spool import SpoolState, SpoolWriter, read_spool, score, spool_path


def check(step: int, seconds: float = 1.5) -> Evaluation:
    metrics = {0: {"valid_accuracy": 0.75, "loss": 0.1}}
    return Evaluation(step, 20, 0.5, seconds, metrics, {0: 0.25, 1: 0.125})


FINISHED = TrialResult(
    "abc", "finished", (SeedResult(0, "finished", 10, 0.8, 0.7, 0.5, 0.78),), 3.0, 20
)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[SpoolWriter]:
    """A writer that has begun an attempt."""
    writer = SpoolWriter(tmp_path, "abc")
    writer.start()
    yield writer
    writer.close()


def steps(state: SpoolState) -> list[int]:
    return [one["step"] for one in state.evaluations]


def test_a_trial_is_read_back(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "new" / "spool", "abc", {"device": "cpu", "threads": 2})
    path = spool_path(tmp_path / "new" / "spool", "abc")
    assert read_spool(path) == SpoolState()
    writer.start()
    begun = read_spool(path)
    assert (begun.evaluations, begun.result, begun.outcome) == ([], None, None)
    assert (begun.host["device"], begun.host["threads"]) == ("cpu", 2)
    assert begun.host["host"] and begun.host["pid"] > 0
    writer.evaluation(check(10))
    writer.result(FINISHED)
    writer.close()
    writer.close()
    state = read_spool(path)
    (one,) = state.evaluations
    assert (one["step"], one["steps"], one["tau"], one["seconds"]) == (10, 20, 0.5, 1.5)
    assert one["metrics"] == {"0": {"valid_accuracy": 0.75, "loss": 0.1}}
    assert one["seed_seconds"] == {"0": 0.25, "1": 0.125}
    assert state.result is not None
    assert (state.outcome, state.result["seconds"], state.result["step"]) == ("finished", 3.0, 20)
    assert state.result["seeds"] == [FINISHED.seeds[0].as_record()]
    assert state.started == begun.started
    assert state.started <= one["time"] <= state.result["time"]
    assert (state.progress, state.seconds, state.resumed, state.ended) == (0.5, 3.0, 0, 1)
    assert state.corrupt == []


def test_a_failure_keeps_its_traceback(started: SpoolWriter) -> None:
    started.failed('Traceback ...\n  File "a.py"\nKeyError: "β"\n')
    state = read_spool(started.path)
    assert (state.outcome, state.seconds) == ("failed", 0.0)
    assert state.result is not None
    assert state.result["traceback"].splitlines()[-1] == 'KeyError: "β"'


def test_an_absent_file_is_a_trial_that_has_not_begun(tmp_path: Path) -> None:
    assert read_spool(tmp_path / "no.jsonl") == SpoolState()
    assert SpoolState().progress == 0.0


def test_a_new_attempt_replaces_the_former(started: SpoolWriter) -> None:
    started.evaluation(check(10))
    started.failed("OSError: gone")
    before = read_spool(started.path)
    started.start()
    started.evaluation(check(5))
    state = read_spool(started.path)
    assert (steps(state), state.result, state.ended) == ([5], None, 1)
    assert state.started is not None and before.started is not None
    assert state.started > before.started


def test_a_resume_drops_what_lies_beyond_its_checkpoint(started: SpoolWriter) -> None:
    for step in (0, 5, 10):
        started.evaluation(check(step, float(step)))
    before = read_spool(started.path)
    started.resume(5)
    state = read_spool(started.path)
    assert (steps(state), state.resumed, state.started) == ([0, 5], 1, before.started)
    assert state.host["time"] > before.host["time"]
    started.evaluation(check(10, 11.0))
    state = read_spool(started.path)
    assert (steps(state), state.seconds) == ([0, 5, 10], 5.0 + 5.0 + 6.0)


# What happens to a trial: it begins anew, goes on from one of its checks, reaches its next check,
# ends well or fails; with the seconds of training that a check or an end took.
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["start", "resume", "check", "check", "check", "result", "failed"]),
        st.integers(0, 9),
    ),
    max_size=8,
)


class Model:
    """A trial's spool by the book; `apply` also writes the event."""

    def __init__(self) -> None:
        self.checks: list[tuple[int, float]] = []
        self.outcome: str | None = None
        self.spent = self.clock = 0.0
        self.resumed = self.ended = 0

    def apply(self, event: str, number: int, writer: SpoolWriter | None) -> None:
        if event == "start":
            self.checks, self.outcome, self.clock, self.resumed = [], None, 0.0, 0
            if writer:
                writer.start()
        elif event == "resume":
            self.checks = self.checks[: number + 1]
            step, self.clock = self.checks[-1] if self.checks else (0, 0.0)
            self.outcome, self.resumed = None, self.resumed + 1
            if writer:
                writer.resume(step)
        elif event == "failed":
            self.outcome, self.ended = "failed", self.ended + 1
            if writer:
                writer.failed("Traceback ...\nKeyError\n")
        else:
            self.clock, self.spent = self.clock + number, self.spent + number
            if event == "check":
                self.checks.append((len(self.checks), self.clock))
                if writer:
                    writer.evaluation(check(*self.checks[-1]))
            else:
                self.outcome, self.ended = "finished", self.ended + 1
                if writer:
                    writer.result(TrialResult("abc", "finished", (), self.clock, 20))

    def says(self) -> tuple[object, ...]:
        return self.checks, self.outcome, self.spent, self.resumed, self.ended, []


def reads(path: Path) -> tuple[object, ...]:
    state = read_spool(path)
    checks = [(one["step"], one["seconds"]) for one in state.evaluations]
    return checks, state.outcome, state.seconds, state.resumed, state.ended, state.corrupt


@settings(max_examples=80, deadline=None)
@given(events=EVENTS, kept=st.floats(0.0, 1.0), then=EVENTS)
def test_a_file_cut_anywhere_reads_as_its_whole_events(
    events: list[tuple[str, int]], kept: float, then: list[tuple[str, int]]
) -> None:
    """Also after the trial has begun again, or has gone on, behind the cut."""
    events, then = [("start", 0), *events], [then[0] if then else ("start", 0), *then]
    with tempfile.TemporaryDirectory() as folder:
        writer, ends, whole = SpoolWriter(Path(folder), "abc"), [], Model()
        for event in events:
            whole.apply(*event, writer)
            ends.append(writer.path.stat().st_size - 1)  # without the line's end
        writer.close()
        assert reads(writer.path) == whole.says()
        content = writer.path.read_bytes()
        content = content[: round(kept * len(content))]
        writer.path.write_bytes(content)
        model = Model()
        for event, end in zip(events, ends, strict=True):
            if end <= len(content):
                model.apply(*event, None)
        assert reads(writer.path) == model.says()
        writer = SpoolWriter(Path(folder), "abc")
        for event in then:
            model.apply(*event, writer)
            assert reads(writer.path) == model.says()
        writer.close()


@pytest.mark.parametrize(
    "line",
    [
        b"[1, 2]", b"12", b"\xff\xfe", b"{}", b"\0\0", b"[" * 50, b'{"time": 1}',
        b'{"event": "other", "time": 1}', b'{"event": ["start"], "time": 1}',
        b'{"event": "start"}', b'{"event": "resume", "time": 1}',
        b'{"event": "evaluation", "time": 1, "step": 10}',
        b'{"event": "result", "time": 1, "outcome": "finished"}',
    ],
)  # fmt: skip
def test_a_foreign_line_is_passed_over_and_its_number_kept(
    line: bytes, started: SpoolWriter
) -> None:
    for _ in range(2):
        with started.path.open("ab") as file:
            file.write(line + b"\n")
        started.evaluation(check(10))
    started.result(FINISHED)
    state = read_spool(started.path)
    assert (steps(state), state.outcome, state.corrupt) == ([10, 10], "finished", [2, 4])


def damage(path: Path, number: int) -> None:
    """A changed byte in a line, numbered from 1, as a bad disk leaves it."""
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = b"x" + lines[number - 1][1:]
    path.write_bytes(b"\n".join(lines))


def test_a_damaged_line_is_named_unless_it_is_before_a_new_attempt(started: SpoolWriter) -> None:
    started.evaluation(check(0))
    started.evaluation(check(10))
    damage(started.path, 3)
    assert read_spool(started.path).corrupt == [3]  # a crash would have left no line end
    started.evaluation(check(20))
    assert read_spool(started.path).corrupt == [3]
    damage(started.path, 2)
    with started.path.open("ab") as file:
        file.write(b"\n  \n\n")  # is no line
    state = read_spool(started.path)
    assert (steps(state), state.corrupt) == ([20], [2, 3])
    started.start()
    assert read_spool(started.path).corrupt == [2, 3]


def test_the_driver_can_end_a_trial_whose_last_line_was_cut(started: SpoolWriter) -> None:
    started.evaluation(check(10))
    started.evaluation(check(20))
    content = started.path.read_bytes()
    started.path.write_bytes(content[:-30])
    driver = SpoolWriter(started.path.parent, "abc", exclusive=False)
    driver.failed("WorkerDied: gone")
    driver.close()
    state = read_spool(started.path)
    assert (steps(state), state.outcome, state.corrupt) == ([10], "failed", [])


def test_numbers_that_json_cannot_carry_become_none(started: SpoolWriter) -> None:
    metrics = {0: {"valid_accuracy": 0.5, "loss": math.nan}, 1: {"loss": -math.inf}}
    started.evaluation(Evaluation(10, 20, math.inf, 1.0, metrics))
    for line in started.path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (one,) = read_spool(started.path).evaluations
    assert one["tau"] is None
    assert one["metrics"] == {"0": {"valid_accuracy": 0.5, "loss": None}, "1": {"loss": None}}


@pytest.mark.parametrize("left", [0, 1, 40])
def test_a_full_disk_leaves_no_half_line_then_or_later(left: int, started: SpoolWriter) -> None:
    started.evaluation(check(5))
    before = started.path.read_bytes()
    with full_disk(len(before) + left), pytest.raises(OSError, match="File too large"):
        started.evaluation(check(10))
    assert started.path.read_bytes() == before
    started.evaluation(check(20))
    started.close()
    assert steps(read_spool(started.path)) == [5, 20]
    assert started.path.read_bytes().count(b"\n") == 3


def test_the_reason_is_kept_where_the_half_line_cannot_be_removed(tmp_path: Path) -> None:
    spool_path(tmp_path, "abc").symlink_to("/dev/full")
    writer = SpoolWriter(tmp_path, "abc")
    with pytest.raises(OSError, match="No space left on device"):
        writer.start()
    writer.close()


def test_a_stopped_trial_has_the_validation_scores_of_its_checks(started: SpoolWriter) -> None:
    """Seed 2 diverged after its first check, seed 3 in pretraining."""
    for step, accuracies in enumerate([(0.9, 0.5, 0.6), (0.7, 0.6), (0.8, 0.4), (0.8, 0.5)]):
        metrics = {seed: {"valid_accuracy": one} for seed, one in enumerate(accuracies)}
        started.evaluation(Evaluation(5 * step, 40, 0.5, 1.0 + step, metrics))
    started.stopped(read_spool(started.path), seeds=(0, 1, 2, 3))
    state = read_spool(started.path)
    assert state.result is not None
    assert state.outcome == "stopped"
    expected = [
        SeedResult(0, "stopped", 10, 0.8, 0.8, 0.9, None),
        SeedResult(1, "stopped", 5, 0.6, 0.5, 0.5, None),
        SeedResult(2, "diverged", None, None, None, 0.6, None),
        SeedResult(3, "diverged", None, None, None, None, None),  # type: ignore[arg-type]
    ]
    # What only the training itself knows is absent: costs, and the authors' statistic.
    scores = [
        {k: v for k, v in seed.as_record().items() if k in state.result["seeds"][0]}
        for seed in expected
    ]
    assert state.result["seeds"] == scores
    numbers = [state.result[name] for name in ("step", "seconds", "prepare_seconds")]
    assert numbers == [15, 4.0, 1.0]
    assert score(state.result) == pytest.approx((0.8 + 0.6) / 4)


def test_a_stopped_trial_of_tags_has_their_score(started: SpoolWriter) -> None:
    """Also a seed that was in no check."""
    for step, value in enumerate((0.3, 0.5, 0.4)):
        metrics = {0: {"valid_map": value, "valid_mrr": 0.9}}
        started.evaluation(Evaluation(5 * step, 40, 0.5, 1.0 + step, metrics))
    started.stopped(read_spool(started.path), seeds=(0, 1))
    state = read_spool(started.path)
    assert state.result is not None
    first, second = state.result["seeds"]
    assert (first["best_valid_map"], first["last_valid_map"], first["best_step"]) == (0.5, 0.4, 5)
    assert first["pretrained_valid_map"] == 0.3
    assert second["outcome"] == "diverged"
    assert first.keys() == second.keys()
    assert not any("accuracy" in name for name in first)
    assert score(state.result) == pytest.approx(0.25)


def test_a_stop_needs_a_check(started: SpoolWriter) -> None:
    started.evaluation(check(0))
    before = started.path.read_bytes()
    with pytest.raises(ValueError, match=r"abc\.jsonl has no check to stop at"):
        started.stopped(read_spool(started.path))
    assert started.path.read_bytes() == before


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
    end_trial: Callable[..., object],
    tmp_path: Path,
    outcomes: tuple[str, ...],
    expected: float | None,
) -> None:
    config = TrialConfig(dataset="digits", valid_size=200, seeds=(0, 1), architecture="small")
    end_trial(tmp_path, config, 0.8, outcomes, spread=0.1)
    result = read_spool(spool_path(tmp_path, config.trial_id)).result
    assert score(result) == (None if expected is None else pytest.approx(expected))


def test_a_trial_without_a_result_has_no_score() -> None:
    assert score(None) is None
