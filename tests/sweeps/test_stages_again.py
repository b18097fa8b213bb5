"""The same sweep again: resumed, tried again, changed, and with more of everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState
from staging import baseline, known_score, optuna_trials, outcomes, roles, trainings

from sweeps.arms import Branch
from sweeps.plan import Plan, Row
from sweeps.space import Space
from sweeps.spool import read_spool, spool_path
from sweeps.stages import Stages, Task

COMPLETE, FAIL, RUNNING = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING
Drive = Callable[..., list[Row]]


def test_a_result_that_the_search_was_not_told_is_told_on_opening(
    space: Space, tmp_path: Path, end_trial: Callable[..., object]
) -> None:
    stages = Stages(Task(space, "study"), tmp_path)
    row, running = stages.next_row(), stages.next_row()
    assert row is not None and running is not None
    end_trial(stages.spool, row.config, 0.75)
    study = Stages(Task(space, "study"), tmp_path).searches[Branch(50)].study
    assert [trial.state for trial in study.trials] == [COMPLETE, RUNNING]
    assert study.best_value == pytest.approx(0.75)


def test_failed_trials_alone_run_again(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    bad = {0.0: "failed", 0.5: "collapsed", 1.0: "diverged"}

    def outcome(row: Row) -> str:
        return bad[row.config.alpha]

    first = Stages(Task(space, "sensitivity"), tmp_path)
    drive(first, outcome=outcome)
    assert first.exhausted
    assert Counter(result["outcome"] for result in first.results.values()) == {
        "failed": 2, "collapsed": 4, "diverged": 2,
    }  # fmt: skip
    again = Stages(Task(space, "sensitivity"), tmp_path)
    assert not again.exhausted
    handed = drive(again)
    assert [(row.config.train_size, row.config.alpha) for row in handed] == [(50, 0), (200, 0)]
    assert again.exhausted


def test_a_baseline_once_planned_stays(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    one = replace(space, train_sizes=(50,))
    first = Stages(Task(one, "study"), tmp_path)
    drive(first, outcome=lambda row: "failed" if row.config == first_asked(one) else "finished")
    planned = baseline(first, 50)
    assert planned.config.alpha != 0.5
    again = Stages(Task(one, "study"), tmp_path)
    (retried,) = drive(again, outcome=lambda row: "finished")
    assert retried.config == first_asked(one)
    assert baseline(again, 50) == planned
    assert again.plan.rows == first.plan.rows


def first_asked(space: Space) -> object:
    """The search trial at the space's baseline."""
    return space.base_config(50).replace(seeds=space.search_seeds)


def test_a_retried_trial_that_does_better_does_not_move_the_cuts(
    space: Space, tmp_path: Path, end_trial: Callable[..., object]
) -> None:
    one = replace(space, train_sizes=(50,), trials=2)
    first = Stages(Task(one, "study"), tmp_path)
    rows = [first.next_row(), first.next_row()]
    for row, outcome in zip(rows, ("failed", "finished"), strict=True):
        assert row is not None
        end_trial(first.spool, row.config, 0.6, [outcome])
        first.complete(row.trial_id)
    planned = baseline(first, 50)
    again = Stages(Task(one, "study"), tmp_path)
    retried = again.next_row()
    assert retried == rows[0] and retried is not None
    end_trial(again.spool, retried.config, 0.99)
    again.complete(retried.trial_id)
    best = again.best(Branch(50))
    assert best is not None and best[0] == retried
    assert baseline(again, 50) == planned


@pytest.mark.parametrize(
    ("retry", "again"),
    [("failed", [0.0]), ("collapsed", [0.0, 0.2, 0.4]), ("all", [0.0, 0.2, 0.4, 0.5])],
)
def test_what_is_tried_again(
    space: Space, tmp_path: Path, drive: Drive, retry: str, again: list[float]
) -> None:
    bad = {0.0: "failed", 0.2: "collapsed", 0.4: "diverged", 0.5: "finished"}
    alphas = tuple({"alpha": alpha} for alpha in bad)
    one = replace(space, train_sizes=(50,), cuts={"alpha": alphas})
    drive(Stages(Task(one, "sensitivity"), tmp_path), outcome=lambda row: bad[row.config.alpha])
    stages = Stages(Task(one, "sensitivity", retry=retry), tmp_path)
    assert not stages.exhausted
    handed = drive(stages, outcome=lambda row: bad[row.config.alpha])
    assert sorted(row.config.alpha for row in handed) == again
    assert stages.exhausted and not stages.missing
    assert (
        Counter(map(len, outcomes(tmp_path).values()))
        == Counter({1: 4 - len(again), 2: len(again)}) - Counter()
    )


def test_a_search_trial_that_is_tried_again_is_one_trial_of_the_plan(
    space: Space, tmp_path: Path, drive: Drive
) -> None:
    one = replace(space, train_sizes=(50,))
    drive(
        Stages(Task(one, "search"), tmp_path),
        outcome=lambda row: "failed" if row.config.alpha == 0.5 else "collapsed",
    )
    for _ in range(2):
        stages = Stages(Task(one, "search", retry="collapsed"), tmp_path)
        assert len(drive(stages)) in (3, 0)
        states = [trial.state.name for trial in optuna_trials(tmp_path)]
        assert states == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert roles(stages) == {(50, "search"): 3}
    first, *_, last = optuna_trials(tmp_path)
    assert first.params == last.params


def stops_search(row: Row) -> str:
    return "stopped" if row.role == "search" else "finished"


def test_a_stopped_trial_counts_for_the_search_and_is_not_run_again(
    space: Space, tmp_path: Path, drive: Drive
) -> None:
    stages = Stages(Task(space, "study"), tmp_path)
    drive(stages, outcome=stops_search)
    assert stages.exhausted
    stopped = [result for result in stages.results.values() if result["outcome"] == "stopped"]
    assert len(stopped) == 6
    best = stages.best(Branch(50))
    assert best is not None
    assert baseline(stages, 50).config == best[0].config.replace(seeds=space.seeds)
    trials = optuna_trials(tmp_path)
    assert [trial.state for trial in trials] == [COMPLETE] * 6
    assert {round(trial.value or 0.0, 9) for trial in trials} == {
        round(known_score(row), 9) for row in stages.plan if row.role == "search"
    }
    again = Stages(Task(space, "study"), tmp_path)
    assert again.exhausted and not again.missing


@pytest.mark.parametrize("workers", [1, 3])
def test_a_stopped_trial_that_is_a_cell_is_trained_in_full(
    space: Space, tmp_path: Path, drive: Drive, workers: int
) -> None:
    same = replace(space, train_sizes=(50,), search_seeds=space.seeds)
    stages = Stages(Task(same, "study"), tmp_path)
    handed = drive(stages, outcome=stops_search, workers=workers)
    best = baseline(stages, 50)
    assert [(row.role) for row in handed if row.trial_id == best.trial_id] == [
        "search", "baseline",
    ]  # fmt: skip
    assert outcomes(tmp_path)[best.trial_id] == ["stopped", "finished"]
    assert set(trainings(tmp_path).values()) == {1}
    assert stages.exhausted and not stages.missing
    trials = optuna_trials(tmp_path)
    assert [trial.state for trial in trials] == [COMPLETE] * 3  # and not told twice
    again = Stages(Task(same, "study"), tmp_path)
    assert again.exhausted and again.next_row() is None


def test_a_stopped_trial_that_is_a_cell_is_trained_as_one_after_a_crash(
    space: Space, tmp_path: Path, drive: Drive
) -> None:
    same = replace(space, train_sizes=(50,), search_seeds=space.seeds)
    first = Stages(Task(same, "study"), tmp_path)
    drive(first, outcome=stops_search, workers=1, ends=3)
    best = baseline(first, 50)
    again = Stages(Task(same, "study"), tmp_path)
    handed = drive(again, outcome=stops_search)
    assert [row.role for row in handed if row.trial_id == best.trial_id] == ["baseline"]
    assert outcomes(tmp_path)[best.trial_id] == ["stopped", "finished"]
    assert not again.missing


def test_a_cell_that_the_search_names_later_is_not_run_again(
    space: Space, tmp_path: Path, drive: Drive
) -> None:
    """Its first point is the paper's baseline, which was a cell before."""
    same = replace(
        space, train_sizes=(50,), search_seeds=space.seeds, baseline_from="paper", trials=2
    )
    heard: dict[str, list[Row]] = {}
    stages = Stages(Task(same, "study"), tmp_path, heard.__setitem__)
    handed = drive(stages, outcome=stops_search, workers=1)
    assert stages.exhausted
    cell = same.base_config(50).trial_id
    assert [row.role for row in heard[cell]] == [
        "baseline",
        "sensitivity",
        "sensitivity",
        "search",
    ]
    assert [row.role for row in handed].count("search") == 1
    assert [trial.state for trial in optuna_trials(tmp_path)] == [COMPLETE, COMPLETE]


def test_more_trials_seeds_levels_and_sizes_run_only_what_is_new(
    space: Space, tmp_path: Path, drive: Drive
) -> None:
    one = replace(space, train_sizes=(50,))
    first = Stages(Task(one, "study"), tmp_path)
    drive(first)
    planned = list(first.plan.rows)

    more = Stages(Task(replace(one, trials=5), "study"), tmp_path)
    assert Counter(row.role for row in drive(more)) == {"search": 2}
    assert baseline(more, 50) == baseline(first, 50)

    seeded = Stages(Task(replace(one, seeds=(0, 1, 2, 3)), "study"), tmp_path)
    handed = drive(seeded)
    assert {row.config.seeds for row in handed} == {(2, 3)}
    cells = {row.config.cell_id for row in planned if row.role != "search"}
    assert Counter(row.config.cell_id for row in handed) == dict.fromkeys(cells, 1)

    cuts = {**one.cuts, "beta": ({"beta": 3.0},)}
    levelled = Stages(Task(replace(one, cuts=cuts), "study"), tmp_path)
    assert [(row.level, row.config.seeds) for row in drive(levelled)] == [("3", (0, 1))]

    sized = Stages(Task(space, "study"), tmp_path)
    assert {row.config.train_size for row in drive(sized)} == {200}
    assert sized.plan.rows[: len(planned)] == planned
    assert set(trainings(tmp_path).values()) == {1}
    assert all(Stages(Task(s, "study"), tmp_path).exhausted for s in (space, one))


def test_a_longer_sobol_design_adds_its_last_points(
    space: Space, tmp_path: Path, drive: Drive
) -> None:
    one = replace(space, train_sizes=(50,))
    short = drive(Stages(Task(one, "sobol"), tmp_path))
    rest = drive(Stages(Task(replace(one, trials=9), "sobol"), tmp_path))
    assert (len(short), len(rest)) == (3, 6)
    assert not {row.trial_id for row in short} & {row.trial_id for row in rest}


def change(space: Space) -> Space:
    """As after an edit of the space's file: every trial is another, and so are the ranges."""
    return replace(space, fixed={**space.fixed, "steps": 30}, search={"alpha": (0.0, 0.9)})


@pytest.mark.parametrize("mode", ["study", "search", "sensitivity", "grid", "sobol"])
@pytest.mark.parametrize("outcome", ["finished", "stopped"])
def test_a_change_that_is_undone_brings_the_trials_back(
    space: Space, tmp_path: Path, drive: Drive, mode: str, outcome: str
) -> None:
    one = replace(space, train_sizes=(50,))  # qmc never names a point twice

    def ends(row: Row) -> str:
        return outcome if row.role == "search" else "finished"

    first = Stages(Task(one, mode, "qmc"), tmp_path)
    drive(first, outcome=ends)
    planned = {row.key for row in first.plan}
    first.plan.supersede()
    other = Stages(Task(change(one), mode, "qmc"), tmp_path)
    drive(other, outcome=ends)
    assert other.exhausted and not other.missing
    new = {row.trial_id for row in other.plan if row.role != "superseded"}
    assert {row.config.steps for row in other.plan if row.trial_id in new} == {30}
    other.plan.supersede()
    again = Stages(Task(one, mode, "qmc"), tmp_path)
    assert drive(again, outcome=ends) == []
    assert again.exhausted and not again.missing
    back = [row for row in Plan(tmp_path / "plan.parquet") if row.role != "superseded"]
    assert {row.key for row in back} == planned
    assert {row.trial_id for row in again.plan if row.role == "superseded"} == new
    if mode in ("study", "search"):
        assert len(again.searches[Branch(50)].rows) == 3
        assert {trial.state for trial in optuna_trials(tmp_path)} == {COMPLETE}


def test_a_change_while_trials_run_leaves_none_of_them_open(
    space: Space, tmp_path: Path, drive: Drive
) -> None:
    drive(Stages(Task(space, "search"), tmp_path), workers=5, ends=1)
    assert Counter(trial.state for trial in optuna_trials(tmp_path))[RUNNING] == 5
    one = replace(space, train_sizes=(50,))
    stages = Stages(Task(one, "search"), tmp_path)  # the others go on when they are asked for
    assert Counter(trial.state for trial in optuna_trials(tmp_path))[RUNNING] == 5
    stages.plan.supersede()
    drive(Stages(Task(change(one), "search"), tmp_path))
    assert Counter(trial.state for trial in optuna_trials(tmp_path)) == {FAIL: 5, COMPLETE: 1 + 3}
    Plan(tmp_path / "plan.parquet").supersede()
    drive(Stages(Task(space, "search"), tmp_path))
    states = Counter(trial.state for trial in optuna_trials(tmp_path))
    assert states == {FAIL: 5, COMPLETE: 1 + 3 + 5}
    assert Stages(Task(space, "search"), tmp_path).exhausted


def test_an_unreadable_line_of_a_spool_is_reported(
    space: Space, tmp_path: Path, drive: Drive
) -> None:
    drive(Stages(Task(space, "baseline"), tmp_path))
    path = spool_path(tmp_path / "spool", space.base_config(50).trial_id)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "what is this\n", *lines[2:]]))
    stages = Stages(Task(space, "baseline"), tmp_path)
    assert stages.corrupt == {path: [3]}
    assert read_spool(path).result is not None and not stages.missing


class Listener:
    """Stands in for EarlyStopping."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, str, int]] = []

    def replay(self, group: object, config: object, evaluations: list[object]) -> None:
        self.heard.append((group, config.trial_id, len(evaluations)))  # type: ignore[attr-defined]


def test_the_searchs_ended_trials_are_replayed(space: Space, tmp_path: Path, drive: Drive) -> None:
    drive(Stages(Task(space, "study"), tmp_path), workers=4, ends=4)
    again = Stages(Task(space, "study"), tmp_path)
    listener = Listener()
    again.replay_into(listener)  # type: ignore[arg-type]
    ended = [r for r in again.plan if r.role == "search" and r.trial_id in again.results]
    assert listener.heard == [(str(row.config.train_size), row.trial_id, 3) for row in ended]
    assert [row.config.train_size for row in ended] == [50, 50, 50, 200]
