"""What the screen shows, computed from fabricated results, and how it is drawn."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from sweeps import progress
from sweeps.arms import Branch
from sweeps.cost import CostModel, Probe
from sweeps.design import Size
from sweeps.plan import Row
from sweeps.progress import (
    PLAIN_SECONDS,
    Screen,
    Snapshot,
    ToCome,
    describe,
    expected_trials,
    line,
    of_stages,
    show_once,
    take_snapshot,
    trials_to_come,
)
from sweeps.space import Space
from sweeps.stages import Stages, Task

EACH = 10.0  # seconds of training a seed


@pytest.fixture
def cost(space: Space) -> CostModel:
    """Ten seconds a seed; the players are pretrained."""
    model = CostModel()
    model.expect(space.base_config(50), Probe(EACH, 0.0))
    return model


def snap(
    stages: Stages, cost: CostModel, parallel: int = 1, running: dict[str, float] | None = None
) -> Snapshot:
    trials, to_come = of_stages(stages)
    return take_snapshot(trials, stages.results, to_come, cost, parallel, running or {})


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


def test_a_sensitivity_sweep_before_its_first_trial(
    space: Space, tmp_path: Path, cost: CostModel
) -> None:
    stages = Stages(Task(space, "sensitivity"), tmp_path)
    trials, seeds = 2 * 4, 2
    snapshot = snap(stages, cost, 2)
    assert snapshot == Snapshot(total=trials, seconds_left=trials * seeds * EACH / 2)


def test_pretraining_of_each_seed_counts_until_a_trial_has_ended(
    space: Space, tmp_path: Path, finish: Callable[..., Row]
) -> None:
    one = replace(space, train_sizes=(50,))
    stages = Stages(Task(one, "sensitivity"), tmp_path)
    cost = CostModel()
    cost.expect(space.base_config(50), Probe(EACH, 3.0))
    assert snap(stages, cost, 2).seconds_left == pytest.approx((80.0 + 6.0) / 2)
    row = finish(stages, seconds=8.0)
    cost.learn(row.config, stages.results[row.trial_id])
    assert snap(stages, cost, 2).seconds_left == pytest.approx(3 * 8.0 / 2)


def test_seeds_of_a_study_that_its_search_has_not_had_are_pretrained_yet(
    space: Space, tmp_path: Path, finish: Callable[..., Row]
) -> None:
    one = replace(space, train_sizes=(50,))
    stages = Stages(Task(one, "study"), tmp_path)
    cost = CostModel()
    cost.expect(space.base_config(50), Probe(EACH, 3.0))
    assert snap(stages, cost).seconds_left == pytest.approx(EACH * (3 + 12) + 2 * 3.0)
    row = finish(stages, seconds=EACH)  # of seed 0
    cost.learn(row.config, stages.results[row.trial_id])
    assert snap(stages, cost).seconds_left == pytest.approx(EACH * (2 + 12) + 1 * 3.0)


def test_a_study_is_counted_before_and_after_its_cuts_are_known(
    space: Space, tmp_path: Path, finish: Callable[..., Row], cost: CostModel
) -> None:
    one = replace(space, train_sizes=(50,))
    stages = Stages(Task(one, "study"), tmp_path)
    snapshot = snap(stages, cost)
    assert (snapshot.total, expected_trials(stages)) == (3 + 6, 9)
    assert snapshot.seconds_left == pytest.approx(EACH * (3 * 1 + 6 * 2))
    finish(stages, 0.9)
    (group,) = of_stages(stages)[1]
    assert (group.search, group.search_seeds, group.around) == (2, (0,), 6)
    assert snap(stages, cost).total == 9
    finish(stages, 0.5)
    finish(stages, 0.5)
    (group,) = of_stages(stages)[1]
    assert (group.search, group.around) == (0, 0)
    snapshot = snap(stages, cost)
    shared = 2  # levels at which the best, the space's baseline, stands itself
    assert (snapshot.done, snapshot.total) == (3, 3 + 6 - shared)
    assert snapshot.total == len(stages.plan.trials()) == expected_trials(stages)
    assert snapshot.seconds_left == pytest.approx(EACH * 4 * 2)


def test_what_other_commands_asked_for_is_planned_but_not_shown(
    space: Space, tmp_path: Path, cost: CostModel
) -> None:
    Stages(Task(space, "sensitivity"), tmp_path)
    one = replace(space, train_sizes=(50,))
    stages = Stages(Task(one, "sensitivity"), tmp_path)
    assert (snap(stages, cost).total, expected_trials(stages)) == (4, 8)


def test_superseded_trials_are_not_expected(space: Space, tmp_path: Path) -> None:
    stages = Stages(Task(space, "baseline"), tmp_path)
    stages.plan.supersede()
    again = Stages(Task(replace(space, baseline={"alpha": 0.3}), "baseline"), tmp_path)
    assert len(again.plan.trials()) == 4
    assert expected_trials(again) == 2


def test_a_running_trial_counts_with_what_is_left_of_it(
    space: Space, tmp_path: Path, cost: CostModel
) -> None:
    stages = Stages(Task(space, "baseline"), tmp_path)
    small, large = stages.next_row(), stages.next_row()
    assert small is not None and large is not None
    snapshot = snap(stages, cost, 1, {small.trial_id: 0.25, large.trial_id: 0.5})
    assert (snapshot.done, snapshot.running, snapshot.total) == (0, 2, 2)
    assert snapshot.seconds_left == pytest.approx(0.75 * 20.0 + 0.5 * 20.0)


def test_the_time_left_is_not_less_than_that_of_the_longest_trial(
    space: Space, tmp_path: Path, cost: CostModel
) -> None:
    stages = Stages(Task(space, "baseline"), tmp_path)
    small, large = stages.next_row(), stages.next_row()
    assert small is not None and large is not None
    running = {small.trial_id: 0.9, large.trial_id: 0.25}
    assert snap(stages, cost, 8, running).seconds_left == pytest.approx(0.75 * 20.0)


def test_before_anything_is_measured_the_time_left_is_unknown(
    space: Space, tmp_path: Path
) -> None:
    for mode in ("baseline", "search"):
        (tmp_path / mode).mkdir()
        stages = Stages(Task(space, mode), tmp_path / mode)
        assert math.isnan(snap(stages, CostModel(), 2).seconds_left)
    assert "time left unknown" in line(Snapshot(total=8, seconds_left=math.nan))


def test_what_is_to_come_is_less_what_is_planned(space: Space) -> None:
    config = space.base_config(50)
    rows = [Row(config, "search"), Row(config.replace(alpha=0.1), "search")]
    small, large = Branch(50), Branch(200)
    sizes = {small: (config, Size(3, 6, 2)), large: (space.base_config(200), Size(3, 6, 2))}
    assert [group[1:] for group in trials_to_come(sizes, (0,), rows)] == [
        (1, (0,), 6), (3, (0,), 6),
    ]  # fmt: skip
    cells = [*rows, Row(config, "baseline"), Row(space.base_config(200), "superseded")]
    assert [group[1:] for group in trials_to_come(sizes, (0,), cells)] == [
        (1, (0,), 0), (3, (0,), 6),
    ]  # fmt: skip
    ended_early = trials_to_come(sizes, (0,), rows, searched={small})
    assert [group[1:] for group in ended_early] == [(0, (0,), 6), (3, (0,), 6)]


def test_what_is_to_come_costs_its_trainings(space: Space, cost: CostModel) -> None:
    group = ToCome(space.base_config(50), search=3, search_seeds=(0,), around=6)
    assert group.costs(cost).mid == pytest.approx(EACH * (3 * 1 + 6 * 2))


def test_outcomes_best_and_failure(
    space: Space, tmp_path: Path, finish: Callable[..., Row], cost: CostModel
) -> None:
    stages = Stages(Task(space, "sensitivity"), tmp_path)
    finish(stages, 0.8)
    best = finish(stages, 0.9)
    finish(stages, 0.7, "diverged")
    finish(stages, 0.7, "failed", reason="OSError: [Errno 28] No space left")
    large = finish(stages, 0.6, "collapsed")
    snapshot = snap(stages, cost)
    assert snapshot.outcomes == Counter(finished=2, diverged=1, failed=1, collapsed=1)
    assert snapshot.best.keys() == {50, 200}
    for n, score, row in ((50, 0.9, best), (200, (0.2 + 0.6) / 2, large)):
        assert snapshot.best[n][0] == pytest.approx(score)
        assert snapshot.best[n][1] == describe(row)
    assert snapshot.last_failure == "OSError: [Errno 28] No space left"
    assert (snapshot.done, snapshot.total) == (5, 8)


def test_the_last_failure_is_the_last_in_time(
    space: Space, tmp_path: Path, end_trial: Callable[..., object], cost: CostModel
) -> None:
    stages = Stages(Task(space, "sensitivity"), tmp_path)
    first, second = stages.next_row(), stages.next_row()
    for row, reason in ((second, "KeyError: 'earlier'"), (first, "KeyError: 'later'")):
        assert row is not None
        end_trial(stages.spool, row.config, 0.5, ["failed"], reason=reason)
        stages.complete(row.trial_id)
    snapshot = snap(stages, cost)
    assert snapshot.last_failure == "KeyError: 'later'"


def test_a_search_that_named_all_its_points_expects_no_more(
    space: Space, tmp_path: Path, finish: Callable[..., Row]
) -> None:
    small = replace(
        space, train_sizes=(50,), trials=30, search={"tau_kind": ("exponential", "linear")}
    )
    stages = Stages(Task(small, "search"), tmp_path)
    assert expected_trials(stages) == 30
    finish(stages)
    finish(stages)
    assert stages.next_row() is None
    assert expected_trials(stages) == 2


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
    shown: list[float] = []
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


@pytest.mark.parametrize("terminal", [False, True])
def test_the_screen_of_a_moment(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
    show_once(Snapshot(done=4, running=2, total=8, seconds_left=30.0), console)
    shown = text(console)
    assert ("4/8 done, 2 running" in shown) == terminal
    assert ("4/8 trials done, 2 running; about 30 s left\n" == shown) == (not terminal)


def test_a_method_other_than_kdgan_is_called_by_its_name(space: Space) -> None:
    config = space.base_config(50)
    assert describe(Row(config, "baseline")).startswith("α=0.5 β=1")
    assert describe(Row(config.replace(method="supervised"), "baseline")) == "supervised"


def test_a_table_is_counted_by_its_arms(
    table: Space, tmp_path: Path, finish: Callable[..., Row]
) -> None:
    one = replace(table, train_sizes=(50,), chosen=("kdgan", "mimic"))
    stages = Stages(Task(one, "methods"), tmp_path)
    cost = CostModel()
    for own in stages.branches.values():
        cost.expect(own.base_config(50), Probe(EACH, 0.0))
    snapshot = snap(stages, cost)
    assert (snapshot.total, expected_trials(stages)) == (6, 6)
    assert snapshot.seconds_left == pytest.approx(EACH * 2 * (2 * 1 + 1 * 2))
    finish(stages, 0.6)
    finish(stages, 0.8)
    assert [group[1:] for group in of_stages(stages)[1]] == [(0, (100,), 0), (2, (100,), 1)]
    finish(stages, 0.7)
    snapshot = snap(stages, cost)
    assert (snapshot.done, snapshot.total) == (3, 6)
    assert snapshot.best == {50: (0.8, "kdgan")}


def test_an_arm_is_called_by_its_name(space: Space) -> None:
    config = space.base_config(50)
    assert describe(Row(config, "methods", "method", "kdgan+ema")) == "kdgan+ema"
    assert describe(Row(config, "search", "method", "kdgan")) == "kdgan"
