"""What a sweep runs next, driven by fabricated results: searches, baselines and cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from staging import baseline, known_score, roles

from kdgan_core import TrialConfig
from sweeps.arms import Branch
from sweeps.design import Size, grid_rows, sobol_rows
from sweeps.plan import Row
from sweeps.progress import expected_trials
from sweeps.space import Space
from sweeps.stages import Stages, Task


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_a_study_searches_then_cuts_around_the_best(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]], workers: int
) -> None:
    stages = Stages(Task(space, "study"), tmp_path)
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
        found = stages.best(Branch(n))
        assert found is not None
        assert found[0] == best and found[1] == pytest.approx(known_score(best))


@pytest.mark.parametrize(
    ("mode", "planned"),
    [("baseline", {"baseline": 1}), ("search", {"search": 3}),
     ("sensitivity", {"baseline": 1, "sensitivity": 5}), ("grid", {"baseline": 1, "grid": 6}),
     ("sobol", {"sobol": 3})],
)  # fmt: skip
def test_the_other_modes(
    space: Space,
    tmp_path: Path,
    drive: Callable[..., list[Row]],
    mode: str,
    planned: dict[str, int],
) -> None:
    stages = Stages(Task(space, mode), tmp_path)
    drive(stages)
    assert stages.exhausted
    wanted = {(n, role): count for n in space.train_sizes for role, count in planned.items()}
    assert roles(stages) == wanted
    assert (tmp_path / "optuna.journal").exists() == (mode == "search")
    if mode not in ("search", "sobol"):
        assert [baseline(stages, n).config for n in (50, 200)] == [
            space.base_config(50), space.base_config(200),
        ]  # fmt: skip


def test_a_study_with_nothing_to_search_stands_on_the_spaces_baseline(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    stages = Stages(Task(replace(space, search={}), "study"), tmp_path)
    drive(stages)
    assert stages.exhausted
    assert baseline(stages, 50).config == space.base_config(50)


def test_nothing_can_be_named_while_the_searches_last_trials_run(
    space: Space, tmp_path: Path, end_trial: Callable[..., object]
) -> None:
    stages = Stages(Task(replace(space, train_sizes=(50,)), "study"), tmp_path)
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
    stages = Stages(Task(space, "study"), tmp_path)
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
    stages = Stages(Task(space, "study"), tmp_path)
    drive(stages, outcome=lambda row: "failed" if row.config.alpha == 0.5 else "finished")
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.journal")))
    names = sorted(optuna.get_all_study_names(storage))
    assert [name.rpartition("-")[0] for name in names] == [
        f"{tmp_path.name}-n{n}" for n in (200, 50)
    ]
    for name in names:
        trials = optuna.load_study(study_name=name, storage=storage).trials
        assert [trial.state for trial in trials] == [
            TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE,
        ]  # fmt: skip


def test_a_study_goes_on_under_a_version_that_has_one_more_option(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TrialConfig.as_dict
    with monkeypatch.context() as earlier:
        earlier.setattr(
            TrialConfig, "as_dict",
            lambda self: {k: v for k, v in whole(self).items() if k != "color_jitter"},
        )  # fmt: skip
        before = Stages(Task(space, "study"), tmp_path)
        drive(before)
    after = Stages(Task(space, "study"), tmp_path)
    names = [
        [search.study.study_name for search in one.searches.values()] for one in (before, after)
    ]
    assert names[0] == names[1]
    assert drive(after) == [] and after.results.keys() == before.results.keys()


@pytest.fixture
def small(space: Space) -> Space:
    """A search of two points, though 30 trials are allowed."""
    kinds = ("exponential", "linear")
    return replace(space, train_sizes=(50,), trials=30, search={"tau_kind": kinds})


@pytest.mark.parametrize("workers", [1, 4])
def test_a_study_of_a_small_space_goes_on_to_its_cuts(
    small: Space, tmp_path: Path, drive: Callable[..., list[Row]], workers: int
) -> None:
    stages = Stages(Task(small, "study"), tmp_path)
    drive(stages, workers=workers)
    assert stages.exhausted
    assert roles(stages) == {(50, "search"): 2, (50, "baseline"): 1, (50, "sensitivity"): 5}


def test_a_finished_sweep_of_a_small_space_is_exhausted_when_it_is_opened_again(
    small: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    drive(Stages(Task(small, "study"), tmp_path))
    again = Stages(Task(small, "study"), tmp_path)
    assert again.exhausted
    assert expected_trials(again) == len(again.plan.trials())


def test_the_spaces_baseline_is_used_when_every_search_trial_failed(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    stages = Stages(Task(space, "study"), tmp_path)
    drive(stages, outcome=lambda row: "failed" if row.role == "search" else "finished")
    assert stages.exhausted
    assert stages.best(Branch(50)) is None
    assert [baseline(stages, n).config for n in space.train_sizes] == [
        space.base_config(n) for n in space.train_sizes
    ]


@pytest.mark.parametrize("outcome", ["collapsed", "diverged"])
def test_a_trial_that_went_wrong_is_best_only_if_all_did(
    space: Space, tmp_path: Path, end_trial: Callable[..., object], outcome: str
) -> None:
    two_seeds = replace(space, train_sizes=(50,), search_seeds=(0, 1), trials=2)
    stages = Stages(Task(two_seeds, "search"), tmp_path)
    wrong, right = stages.next_row(), stages.next_row()
    assert wrong is not None and right is not None
    end_trial(stages.spool, wrong.config, 0.9, [outcome, "finished"])
    stages.complete(wrong.trial_id)
    best = stages.best(Branch(50))
    assert best is not None and best[0] == wrong
    end_trial(stages.spool, right.config, 0.3)
    stages.complete(right.trial_id)
    value = best[1]
    best = stages.best(Branch(50))
    assert best is not None and best[0] == right
    assert best[1] < value


def test_a_search_trial_that_becomes_the_baseline_is_announced_with_both_rows(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    same_seeds = replace(space, train_sizes=(50,), search_seeds=space.seeds)
    heard: dict[str, list[Row]] = {}
    stages = Stages(Task(same_seeds, "study"), tmp_path, heard.__setitem__)
    handed = drive(stages)
    best = stages.best(Branch(50))
    assert best is not None
    assert [row.role for row in heard[best[0].trial_id]][:2] == ["search", "baseline"]
    assert [row.trial_id for row in handed].count(best[0].trial_id) == 1


def test_a_grid_runs_the_product_of_its_levels(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    one = replace(space, train_sizes=(50,))
    stages = Stages(Task(one, "grid"), tmp_path)
    handed = drive(stages)
    assert stages.plan.rows == grid_rows(one, one.base_config(50))
    levels = {(row.config.alpha, row.config.tau_kind) for row in handed}
    assert levels == {(a, kind) for a in (0.0, 0.5, 1.0) for kind in ("constant", "exponential")}
    assert len(handed) == 6  # the baseline is one of them


def test_a_sobol_sweep_runs_its_design(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    stages = Stages(Task(space, "sobol", seed=4), tmp_path)
    handed = drive(stages)
    assert handed == [*sobol_rows(space, 50, 4), *sobol_rows(space, 200, 4)]
    assert stages.sizes == {Branch(50): Size(0, 3, 1), Branch(200): Size(0, 3, 1)}


@pytest.mark.parametrize("kind", ["paper", "named"])
def test_a_baseline_that_is_known_does_not_wait_for_the_search(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]], kind: str
) -> None:
    stages = Stages(Task(replace(space, baseline_from=kind), "study"), tmp_path)
    handed = drive(stages, workers=3)
    assert [row.role for row in handed[:2]] == ["baseline", "sensitivity"]
    assert [baseline(stages, n).config for n in (50, 200)] == [
        space.base_config(50), space.base_config(200),
    ]  # fmt: skip
    assert roles(stages)[50, "search"] == roles(stages)[200, "search"] == 3


def test_the_best_of_other_sweeps_is_asked_for_where_this_one_does_not_search(
    space: Space, tmp_path: Path
) -> None:
    best = {n: space.base_config(n).replace(beta=7.0, seeds=(9,)) for n in space.train_sizes}
    for mode in ("sensitivity", "grid", "baseline"):
        folder = tmp_path / mode
        folder.mkdir()
        stages = Stages(Task(space, mode), folder, found=best.__getitem__)
        assert [baseline(stages, n).config for n in (50, 200)] == [
            best[50].replace(seeds=(0, 1)), best[200].replace(seeds=(0, 1)),
        ]  # fmt: skip
        again = Stages(Task(space, mode), folder, found=lambda n: space.base_config(n))
        assert again.plan.rows == stages.plan.rows
    (tmp_path / "study").mkdir()
    stages = Stages(Task(space, "study"), tmp_path / "study", found=best.__getitem__)
    assert not stages.plan.rows
    paper = replace(space, baseline_from="paper")
    stages = Stages(Task(paper, "baseline"), tmp_path, found=best.__getitem__)
    assert baseline(stages, 50).config == space.base_config(50)


def test_a_row_that_is_given_back_is_the_next(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    stages = Stages(Task(space, "sensitivity"), tmp_path)
    first, second = stages.next_row(), stages.next_row()
    assert first is not None and second is not None
    stages.give_back(first)
    stages.give_back(first)
    assert stages.running == {second.trial_id}
    assert not stages.exhausted
    assert stages.next_row() == first
    stages.give_back(second)
    stages.give_back(first)
    handed = drive(stages)
    assert handed[:2] == [first, second]
    assert len(handed) == len({row.trial_id for row in handed}) == 8
    assert stages.exhausted and not stages.missing
    stages.give_back(first)  # it has ended
    assert stages.next_row() is None


def test_a_trial_without_a_result_is_not_told_to_the_search(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    stages = Stages(Task(space, "search"), tmp_path)
    row = stages.next_row()
    assert row is not None
    assert stages.complete(row.trial_id) is None
    assert stages.searches[Branch(50)].study.trials[0].state == TrialState.RUNNING
    stages.give_back(row)
    drive(stages)
    assert stages.searches[Branch(50)].study.trials[0].state == TrialState.COMPLETE


def test_what_is_asked_for_and_missing(
    space: Space, tmp_path: Path, drive: Callable[..., list[Row]]
) -> None:
    stages = Stages(Task(space, "baseline"), tmp_path)
    assert stages.missing == list(stages.asked) == [
        space.base_config(50).trial_id, space.base_config(200).trial_id,
    ]  # fmt: skip
    drive(stages, workers=1, ends=1)
    assert stages.missing == [space.base_config(200).trial_id]
    again = Stages(Task(replace(space, train_sizes=(50,)), "baseline"), tmp_path)
    assert not again.missing and again.exhausted
    assert again.resumed == 1 and len(again.plan.trials()) == 2
