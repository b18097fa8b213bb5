"""What a sweep runs next, driven by fabricated results: searches, baselines, cuts and resume."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweeps.plan import Row, sweep_id
from sweeps.progress import expected_trials
from sweeps.space import Space
from sweeps.spool import SpoolWriter
from sweeps.stages import Stages

MANY = 10_000


def known_score(row: Row) -> float:
    """Validation accuracy that every fabricated trial ends with: best at alpha = 0.3."""
    return 0.9 - 0.5 * (row.config.alpha - 0.3) ** 2


@pytest.fixture(scope="session")
def drive(end_trial: Callable[..., object]) -> Callable[..., list[Row]]:
    """A function that plays Ray: keeps workers busy, ends the oldest trial, over and over."""

    def play(
        stages: Stages,
        *,
        workers: int = 2,
        ends: int = MANY,
        outcome: Callable[[Row], str] = lambda row: "finished",
    ) -> list[Row]:
        """The rows handed out until nothing runs, or until `ends` trials have ended."""
        handed: list[Row] = []
        running: list[Row] = []
        while True:
            while len(running) < workers and (row := stages.next_row()) is not None:
                SpoolWriter(stages.spool, row.trial_id)  # begun
                handed.append(row)
                running.append(row)
            if not running or ends == 0:
                return handed
            row = running.pop(0)
            end_trial(stages.spool, row.config, known_score(row), [outcome(row)])
            stages.complete(row.trial_id)
            ends -= 1

    return play


def roles(stages: Stages) -> Counter[tuple[int, str]]:
    return Counter((row.config.train_size, row.role) for row in stages.plan)


def baseline(stages: Stages, n: int) -> Row:
    (row,) = (r for r in stages.plan if r.role == "baseline" and r.config.train_size == n)
    return row


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_a_study_searches_then_cuts_around_the_best(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]], workers: int
) -> None:
    stages = Stages(space, "study", 0, tmp_path)
    handed = drive(stages, workers=workers)
    assert stages.exhausted
    planned = stages.plan.trials()
    assert Counter(row.trial_id for row in handed) == Counter(dict.fromkeys(planned, 1))
    assert stages.results.keys() == planned.keys()
    for n in space.train_sizes:
        rows = [row for row in stages.plan if row.config.train_size == n]
        assert [row.role for row in rows] == 3 * ["search"] + ["baseline"] + 5 * ["sensitivity"]
        assert {row.config.seeds for row in rows[:3]} == {space.search_seeds}
        best = max(rows[:3], key=known_score)
        assert rows[3].config == best.config.replace(seeds=space.seeds)
        assert [row.config.alpha for row in rows[4:7]] == [0.0, 0.5, 1.0]
        assert {row.config.beta for row in rows[4:]} == {best.config.beta}
        found = stages.best(n)
        assert found is not None
        assert found[0] == best and found[1] == pytest.approx(known_score(best))


@pytest.mark.parametrize(
    ("mode", "planned"),
    [("baseline", {"baseline": 1}), ("search", {"search": 3}),
     ("sensitivity", {"baseline": 1, "sensitivity": 5})],
)  # fmt: skip
def test_the_other_modes(
    space: Space,
    tmp_path: Path,
    drive: Callable[..., list[Row]],
    mode: str,
    planned: dict[str, int],
) -> None:
    stages = Stages(space, mode, 0, tmp_path)
    drive(stages)
    assert stages.exhausted
    wanted = {(n, role): count for n in space.train_sizes for role, count in planned.items()}
    assert roles(stages) == wanted
    if mode != "search":
        assert [baseline(stages, n).config for n in (50, 200)] == [
            space.base_config(50), space.base_config(200),
        ]  # fmt: skip
        assert not (tmp_path / "optuna.journal").exists()


def test_a_study_with_nothing_to_search_stands_on_the_spaces_baseline(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    stages = Stages(replace(space, search={}), "study", 0, tmp_path)
    drive(stages)
    assert stages.exhausted
    assert baseline(stages, 50).config == space.base_config(50)


def test_nothing_can_be_named_while_the_searches_last_trials_run(
    space: Space, tmp_path: Path, end_trial: Callable[..., object]
) -> None:
    stages = Stages(replace(space, train_sizes=(50,)), "study", 0, tmp_path)
    rows = [stages.next_row() for _ in range(3)]
    assert [row.role for row in rows if row] == 3 * ["search"]
    for row in rows:
        assert row is not None
        assert stages.next_row() is None
        assert not stages.exhausted
        end_trial(stages.spool, row.config)
        stages.complete(row.trial_id)
    following = stages.next_row()
    assert following is not None and following.role == "baseline"
    assert not stages.exhausted
    while stages.next_row() is not None:
        pass
    assert stages.exhausted


def test_sizes_interleave(space: Space, tmp_path: Path, end_trial: Callable[..., object]) -> None:
    stages = Stages(space, "study", 0, tmp_path)
    small = [stages.next_row() for _ in range(3)]
    large = [stages.next_row() for _ in range(3)]
    assert [row.config.train_size for row in small + large if row] == [50, 50, 50, 200, 200, 200]
    assert stages.next_row() is None
    for row in large:
        assert row is not None
        end_trial(stages.spool, row.config)
        stages.complete(row.trial_id)
    cut = stages.next_row()
    assert cut is not None
    assert (cut.config.train_size, cut.role) == (200, "baseline")


def test_the_study_is_found_by_its_name_and_nothing_stays_open(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    stages = Stages(space, "study", 0, tmp_path)
    drive(stages, outcome=lambda row: "failed" if row.config.alpha == 0.5 else "finished")
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.journal")))
    names = {f"{sweep_id(space, 'study', 0)}-n{n}" for n in space.train_sizes}
    assert set(optuna.get_all_study_names(storage)) == names
    for name in names:
        trials = optuna.load_study(study_name=name, storage=storage).trials
        assert [trial.state for trial in trials] == [
            TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE,
        ]  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(crashes=st.lists(st.integers(0, 16), min_size=1, max_size=3), workers=st.integers(1, 5))
def test_a_sweep_goes_on_wherever_it_was_killed(
    space: Space, drive: Callable[..., list[Row]], crashes: list[int], workers: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done: set[str] = set()
        for ends in [*crashes, MANY]:
            stages = Stages(space, "study", 0, folder)
            assert stages.results.keys() == done
            unfinished = stages.plan.trials().keys() - done
            handed = [row.trial_id for row in drive(stages, workers=workers, ends=ends)]
            assert len(handed) == len(set(handed))
            assert not done & set(handed)
            done = set(stages.results)
        assert unfinished <= set(handed)
        assert stages.exhausted
        assert done == stages.plan.trials().keys()
        assert roles(stages) == {
            (n, role): count
            for n in space.train_sizes
            for role, count in (("search", 3), ("baseline", 1), ("sensitivity", 5))
        }
        for n in space.train_sizes:
            best = stages.best(n)
            assert best is not None
            assert baseline(stages, n).config == best[0].config.replace(seeds=space.seeds)


def test_a_finished_sweep_is_exhausted_when_it_is_opened_again(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    drive(Stages(space, "study", 0, tmp_path))
    again = Stages(space, "study", 0, tmp_path)
    assert again.exhausted
    assert again.next_row() is None
    assert len(again.results) == len(again.plan.trials())


@pytest.fixture
def small(space: Space) -> Space:
    """A search of two points, though 30 trials are allowed."""
    kinds = ("exponential", "linear")
    return replace(space, train_sizes=(50,), trials=30, search={"tau_kind": kinds})


@pytest.mark.parametrize("workers", [1, 4])
def test_a_study_of_a_small_space_goes_on_to_its_cuts(
    small: Space, tmp_path: Path, drive: Callable[..., list[Row]], workers: int
) -> None:
    stages = Stages(small, "study", 0, tmp_path)
    drive(stages, workers=workers)
    assert stages.exhausted
    assert roles(stages) == {(50, "search"): 2, (50, "baseline"): 1, (50, "sensitivity"): 5}


def test_a_finished_sweep_of_a_small_space_is_exhausted_when_it_is_opened_again(
    small: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    drive(Stages(small, "study", 0, tmp_path))
    again = Stages(small, "study", 0, tmp_path)
    assert again.exhausted
    assert expected_trials(again, "study") == len(again.plan.trials())


def test_a_result_that_the_search_was_not_told_is_told_on_opening(
    space: Space, tmp_path: Path, end_trial: Callable[..., object]
) -> None:
    stages = Stages(space, "study", 0, tmp_path)
    row, running = stages.next_row(), stages.next_row()
    assert row is not None and running is not None
    end_trial(stages.spool, row.config, 0.75)
    study = Stages(space, "study", 0, tmp_path).searches[50].study
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert study.best_value == pytest.approx(0.75)


def test_failed_trials_alone_run_again(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    bad = {0.0: "failed", 0.5: "collapsed", 1.0: "diverged"}

    def outcome(row: Row) -> str:
        return bad[row.config.alpha]

    first = Stages(space, "sensitivity", 0, tmp_path)
    drive(first, outcome=outcome)
    assert first.exhausted
    assert Counter(result["outcome"] for result in first.results.values()) == {
        "failed": 2, "collapsed": 4, "diverged": 2,
    }  # fmt: skip
    again = Stages(space, "sensitivity", 0, tmp_path)
    assert not again.exhausted
    handed = drive(again)
    assert [(row.config.train_size, row.config.alpha) for row in handed] == [(50, 0), (200, 0)]
    assert again.exhausted


def test_a_baseline_once_planned_stays(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    one = replace(space, train_sizes=(50,))
    first = Stages(one, "study", 0, tmp_path)
    drive(first, outcome=lambda row: "failed" if row.config == first_asked(one) else "finished")
    planned = baseline(first, 50)
    assert planned.config.alpha != 0.5
    again = Stages(one, "study", 0, tmp_path)
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
    first = Stages(one, "study", 0, tmp_path)
    rows = [first.next_row(), first.next_row()]
    for row, outcome in zip(rows, ("failed", "finished"), strict=True):
        assert row is not None
        end_trial(first.spool, row.config, 0.6, [outcome])
        first.complete(row.trial_id)
    planned = baseline(first, 50)
    again = Stages(one, "study", 0, tmp_path)
    retried = again.next_row()
    assert retried == rows[0] and retried is not None
    end_trial(again.spool, retried.config, 0.99)
    again.complete(retried.trial_id)
    best = again.best(50)
    assert best is not None and best[0] == retried
    assert baseline(again, 50) == planned


def test_the_spaces_baseline_is_used_when_every_search_trial_failed(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    stages = Stages(space, "study", 0, tmp_path)
    drive(stages, outcome=lambda row: "failed" if row.role == "search" else "finished")
    assert stages.exhausted
    assert stages.best(50) is None
    assert [baseline(stages, n).config for n in space.train_sizes] == [
        space.base_config(n) for n in space.train_sizes
    ]


@pytest.mark.parametrize("outcome", ["collapsed", "diverged"])
def test_a_trial_that_went_wrong_is_best_only_if_all_did(
    space: Space, tmp_path: Path, end_trial: Callable[..., object], outcome: str
) -> None:
    two_seeds = replace(space, train_sizes=(50,), search_seeds=(0, 1), trials=2)
    stages = Stages(two_seeds, "search", 0, tmp_path)
    wrong, right = stages.next_row(), stages.next_row()
    assert wrong is not None and right is not None
    end_trial(stages.spool, wrong.config, 0.9, [outcome, "finished"])
    stages.complete(wrong.trial_id)
    best = stages.best(50)
    assert best is not None and best[0] == wrong
    end_trial(stages.spool, right.config, 0.3)
    stages.complete(right.trial_id)
    value = best[1]
    best = stages.best(50)
    assert best is not None and best[0] == right
    assert best[1] < value


def test_a_search_trial_that_becomes_the_baseline_is_announced_with_both_rows(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    same_seeds = replace(space, train_sizes=(50,), search_seeds=space.seeds)
    heard: dict[str, list[Row]] = {}
    stages = Stages(same_seeds, "study", 0, tmp_path, heard.__setitem__)
    handed = drive(stages)
    best = stages.best(50)
    assert best is not None
    assert [row.role for row in heard[best[0].trial_id]][:2] == ["search", "baseline"]
    assert [row.trial_id for row in handed].count(best[0].trial_id) == 1
