"""What the screen shows, computed from fabricated results, and how it is drawn."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from sweeps import progress
from sweeps.cost import CostModel, Probe
from sweeps.plan import Row
from sweeps.progress import (
    PLAIN_SECONDS,
    Screen,
    Snapshot,
    describe,
    expected_trials,
    line,
    take_snapshot,
    unplanned_trials,
)
from sweeps.space import Space
from sweeps.stages import Stages

COST = CostModel({50: 10.0, 200: 20.0})


@pytest.fixture
def finish(end_trial: Callable[..., object]) -> Callable[..., Row]:
    """A function that hands out the next trial of a sweep and ends it."""

    def run(stages: Stages, accuracy: float = 0.9, *outcomes: str, **words: object) -> Row:
        row = stages.next_row()
        assert row is not None
        end_trial(stages.spool, row.config, accuracy, outcomes, **words)
        stages.complete(row.trial_id)
        return row

    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The screen's clock, soon after the machine was started."""
    hand = SimpleNamespace(now=3.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: hand.now))
    return hand


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_sensitivity_sweep_before_its_first_trial(space: Space, tmp_path: Path) -> None:
    stages = Stages(space, "sensitivity", 0, tmp_path)
    snapshot = take_snapshot(stages, "sensitivity", COST, 2, {})
    trials, seeds = 4, 2
    assert snapshot == Snapshot(total=2 * trials, seconds_left=trials * seeds * (10.0 + 20.0) / 2)


def test_pretraining_of_each_seed_counts_until_a_trial_has_ended(
    space: Space, tmp_path: Path, finish: Callable[..., Row]
) -> None:
    one = replace(space, train_sizes=(50,))
    stages = Stages(one, "sensitivity", 0, tmp_path)
    cost = CostModel({})
    cost.expect(50, Probe(10.0, 3.0))
    assert take_snapshot(stages, "sensitivity", cost, 2, {}).seconds_left == (80.0 + 6.0) / 2
    row = finish(stages, seconds=8.0)
    cost.learn(row.config, stages.results[row.trial_id])
    left = 3 * 2 * (8.0 / 2)
    assert take_snapshot(stages, "sensitivity", cost, 2, {}).seconds_left == left / 2


def test_a_study_is_counted_before_and_after_its_cuts_are_known(
    space: Space, tmp_path: Path, finish: Callable[..., Row]
) -> None:
    one = replace(space, train_sizes=(50,))
    stages = Stages(one, "study", 0, tmp_path)
    snapshot = take_snapshot(stages, "study", COST, 1, {})
    assert (snapshot.total, expected_trials(stages, "study")) == (3 + 6, 9)
    assert snapshot.seconds_left == 10.0 * (3 * 1 + 6 * 2)
    finish(stages, 0.9)
    assert unplanned_trials(stages, "study") == {50: (2, 6)}
    assert take_snapshot(stages, "study", COST, 1, {}).total == 9
    finish(stages, 0.5)
    finish(stages, 0.5)
    assert unplanned_trials(stages, "study") == {50: (0, 0)}
    snapshot = take_snapshot(stages, "study", COST, 1, {})
    shared = 2  # levels at which the best, the space's baseline, stands itself
    assert (snapshot.done, snapshot.total) == (3, 3 + 6 - shared)
    assert snapshot.total == len(stages.plan.trials()) == expected_trials(stages, "study")
    assert snapshot.seconds_left == 10.0 * 4 * 2


def test_a_running_trial_counts_with_what_is_left_of_it(space: Space, tmp_path: Path) -> None:
    stages = Stages(space, "baseline", 0, tmp_path)
    small, large = stages.next_row(), stages.next_row()
    assert small is not None and large is not None
    running = {small.trial_id: 0.25, large.trial_id: 0.5}
    snapshot = take_snapshot(stages, "baseline", COST, 1, running)
    assert (snapshot.done, snapshot.running, snapshot.total) == (0, 2, 2)
    assert snapshot.seconds_left == pytest.approx(0.75 * 20.0 + 0.5 * 40.0)


def test_outcomes_best_and_failure(
    space: Space, tmp_path: Path, finish: Callable[..., Row]
) -> None:
    stages = Stages(space, "sensitivity", 0, tmp_path)
    finish(stages, 0.8)
    best = finish(stages, 0.9)
    finish(stages, 0.7, "diverged")
    finish(stages, 0.7, "failed", reason="OSError: [Errno 28] No space left")
    large = finish(stages, 0.6, "collapsed")
    snapshot = take_snapshot(stages, "sensitivity", COST, 1, {})
    assert snapshot.outcomes == Counter(finished=2, diverged=1, failed=1, collapsed=1)
    assert snapshot.best.keys() == {50, 200}
    assert snapshot.best[50] == (pytest.approx(0.9), describe(best))
    assert snapshot.best[200] == (pytest.approx((0.2 + 0.6) / 2), describe(large))
    assert snapshot.last_failure == "OSError: [Errno 28] No space left"
    assert (snapshot.done, snapshot.total) == (5, 8)


def test_the_last_failure_is_the_last_in_time(
    space: Space, tmp_path: Path, end_trial: Callable[..., object]
) -> None:
    stages = Stages(space, "sensitivity", 0, tmp_path)
    first, second = stages.next_row(), stages.next_row()
    for row, reason in ((second, "KeyError: 'earlier'"), (first, "KeyError: 'later'")):
        assert row is not None
        end_trial(stages.spool, row.config, 0.5, ["failed"], reason=reason)
        stages.complete(row.trial_id)
    snapshot = take_snapshot(stages, "sensitivity", COST, 1, {})
    assert snapshot.last_failure == "KeyError: 'later'"


def test_a_search_that_named_all_its_points_expects_no_more(
    space: Space, tmp_path: Path, finish: Callable[..., Row]
) -> None:
    small = replace(
        space, train_sizes=(50,), trials=30, search={"tau_kind": ("exponential", "linear")}
    )
    stages = Stages(small, "search", 0, tmp_path)
    assert expected_trials(stages, "search") == 30
    finish(stages)
    finish(stages)
    assert stages.next_row() is None
    assert expected_trials(stages, "search") == 2


def test_a_configuration_in_one_line(space: Space) -> None:
    row = Row(space.base_config(50), "baseline")
    assert describe(row) == "α=0.5 β=1 γ=0.01 τ exponential 1→0.1"


def test_the_line_of_a_sweep_under_way() -> None:
    snapshot = Snapshot(
        done=3,
        running=2,
        total=8,
        seconds_left=720.0,
        outcomes=Counter(finished=1, failed=1, collapsed=1),
        best={1000: (0.97, "x"), 100: (0.8812, "y")},
    )
    assert line(snapshot) == (
        "3/8 trials done, 2 running; about 12 min left;"
        " best on validation 88.12 % (n=100), 97.00 % (n=1000); 1 collapsed; 1 failed"
    )


def test_the_line_of_a_sweep_that_is_done() -> None:
    assert line(Snapshot(done=8, total=8, outcomes=Counter(finished=8))) == "8/8 trials done"


def test_where_there_is_no_terminal_a_line_is_due_every_15_seconds(
    console: Console, clock: SimpleNamespace
) -> None:
    assert PLAIN_SECONDS == 15.0
    shown = []
    with Screen(console) as screen:
        for beat in range(400):
            clock.now = 3.0 + 0.1 * beat
            if screen.due:
                screen.show(Snapshot(done=len(shown), total=8, seconds_left=60.0))
                shown.append(clock.now)
    assert shown == pytest.approx([3.0, 18.0, 33.0], abs=0.15)
    assert text(console).splitlines() == [
        f"{done}/8 trials done, 0 running; about 60 s left" for done in range(3)
    ]


def test_a_failure_is_printed_once(console: Console, clock: SimpleNamespace) -> None:
    screen = Screen(console)
    for failure in ("", "KeyError: [1]", "KeyError: [1]", "OSError: two"):
        screen.show(Snapshot(done=1, total=8, last_failure=failure))
    failures = [row for row in text(console).splitlines() if "failed" in row]
    assert failures == ["a trial failed: KeyError: [1]", "a trial failed: OSError: two"]


def test_a_terminal_is_drawn_in_place(clock: SimpleNamespace) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    snapshot = Snapshot(
        done=4,
        running=2,
        total=8,
        seconds_left=30.0,
        outcomes=Counter(finished=3, failed=1),
        best={50: (0.9, "α=0.5")},
        last_failure="KeyError: [/red]",
    )
    with Screen(console) as screen:
        assert screen.due
        screen.show(snapshot)
        assert not screen.due
        clock.now += 0.6
        assert screen.due
    drawn = text(console)
    assert "4/8 done, 2 running, about 30 s left" in drawn
    assert "90.00 % on validation at α=0.5" in drawn
    assert "1 failed, 3 finished" in drawn
    assert drawn.count("a trial failed: KeyError: [/red]") == 1
    assert "last failure" in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")  # the cursor is given back


def test_a_method_other_than_kdgan_is_called_by_its_name(space: Space) -> None:
    config = space.base_config(50)
    assert describe(Row(config, "baseline")).startswith("α=0.5 β=1")
    assert describe(Row(config.replace(method="supervised"), "baseline")) == "supervised"
