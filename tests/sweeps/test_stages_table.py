"""A table of methods, driven by fabricated results: each arm is tuned apart, then trained once."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from staging import MANY, known_score, optuna_trials, outcomes, trainings

from sweeps.arms import Branch
from sweeps.design import Size
from sweeps.plan import Plan, Row
from sweeps.progress import expected_trials
from sweeps.space import Space, branches
from sweeps.stages import Stages, Task

Drive = Callable[..., list[Row]]
MODE = "methods"


@pytest.fixture
def one(table: Space) -> Space:
    return replace(table, train_sizes=(50,))


def lines(stages: Stages) -> dict[Branch, list[Row]]:
    """The table's rows, by branch."""
    found: dict[Branch, list[Row]] = {}
    for row in stages.plan:
        if row.role == MODE:
            found.setdefault(row.branch, []).append(row)
    return found


def tuning(stages: Stages, branch: Branch) -> list[Row]:
    return [row for row in stages.plan if row.role == "search" and row.branch == branch]


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_every_arm_is_tuned_apart_then_trained_at_its_best(
    table: Space, tmp_path: Path, drive: Drive, workers: int
) -> None:
    stages = Stages(Task(table, MODE), tmp_path)
    handed = drive(stages, workers=workers)
    assert stages.exhausted and not stages.missing
    assert Counter(row.trial_id for row in handed) == dict.fromkeys(stages.plan.trials(), 1)
    arms = [Branch(n, arm) for n in (50, 200) for arm in ("kdgan", "mimic", "teacher")]
    assert list(stages.branches) == arms
    assert lines(stages).keys() == set(arms)
    for branch, (row,) in lines(stages).items():
        tried = tuning(stages, branch)
        recipe = branches(table, MODE)[branch].base_config(branch.train_size)
        assert tried[0].config == recipe.replace(seeds=(100,))
        assert len(tried) == 2
        assert {(r.factor, r.level, r.config.seeds) for r in tried} == {
            ("method", branch.arm, (100,))
        }
        assert (row.factor, row.level, row.config.seeds) == ("method", branch.arm, (0, 1))
        best = max(tried, key=known_score)
        assert row.config == best.config.replace(seeds=(0, 1))
        assert stages.best(branch) == (best, pytest.approx(known_score(best)))
        searched = {"kdgan": {"alpha", "beta"}, "mimic": {"classifier_dropout"},
                    "teacher": {"teacher_dropout"}}[branch.arm]  # fmt: skip
        moved = {
            k for r in tried for k, v in r.config.as_dict().items() if v != recipe.as_dict()[k]
        }
        assert moved == {*searched, "seeds"}


def test_tuning_never_looks_at_the_test_set(one: Space, tmp_path: Path, drive: Drive) -> None:
    logged = replace(one, fixed={**one.fixed, "authors_statistic": True})
    stages = Stages(Task(logged, MODE), tmp_path)
    drive(stages)
    assert {(row.role, row.config.authors_statistic) for row in stages.plan} == {
        ("search", False), (MODE, True),
    }  # fmt: skip
    for branch, (row,) in lines(stages).items():
        best = stages.best(branch)
        assert best is not None
        assert row.config == best[0].config.replace(seeds=(0, 1), authors_statistic=True)
    again = Stages(Task(logged, MODE), tmp_path)
    assert again.exhausted and drive(again) == []


def test_every_arm_has_a_study_that_says_what_it_is(
    one: Space, tmp_path: Path, drive: Drive
) -> None:
    stages = Stages(Task(one, MODE), tmp_path)
    drive(stages)
    names = [search.study.study_name for search in stages.searches.values()]
    wanted = [f"{tmp_path.name}-n50-{arm}" for arm in ("kdgan", "mimic", "teacher")]
    assert [name.rpartition("-")[0] for name in names] == wanted
    assert Counter(trial.state.name for trial in optuna_trials(tmp_path)) == {"COMPLETE": 6}


def test_with_no_trials_the_recipes_are_trained_as_they_stand(
    table: Space, tmp_path: Path, drive: Drive
) -> None:
    stages = Stages(Task(replace(table, trials=0), MODE), tmp_path)
    assert not (tmp_path / "optuna.journal").exists()
    handed = drive(stages)
    assert stages.exhausted
    found = branches(table, MODE).items()
    recipes = [own.base_config(branch.train_size) for branch, own in found]
    assert [row.config for row in handed] == recipes
    assert {row.role for row in handed} == {MODE}
    assert stages.sizes == dict.fromkeys(branches(table, MODE), Size(0, 1, 2))


def test_an_arm_without_dimensions_is_not_tuned_and_waits_for_no_other(
    one: Space, tmp_path: Path, drive: Drive
) -> None:
    arms = {**one.arms, "mimic": replace(one.arms["mimic"], search={})}
    stages = Stages(Task(replace(one, arms=arms), MODE), tmp_path)
    assert stages.sizes[Branch(50, "mimic")] == Size(0, 1, 2)
    first = stages.next_row()
    assert first is not None and (first.role, first.level) == (MODE, "mimic")
    stages.give_back(first)
    drive(stages)
    assert len(lines(stages)) == 3 and stages.exhausted


def test_an_arm_whose_tuning_all_failed_stands_at_its_recipe(
    one: Space, tmp_path: Path, drive: Drive
) -> None:
    stages = Stages(Task(one, MODE), tmp_path)
    drive(stages, outcome=lambda row: "failed" if row.role == "search" else "finished")
    for branch, (row,) in lines(stages).items():
        assert row.config == stages.branches[branch].base_config(50)
    assert stages.exhausted


def test_arms_sizes_and_seeds_that_are_added_run_alone(
    table: Space, tmp_path: Path, drive: Drive
) -> None:
    one = replace(table, train_sizes=(50,), chosen=("kdgan",))
    drive(Stages(Task(one, MODE), tmp_path))
    two = replace(one, chosen=("kdgan", "mimic"))
    handed = drive(Stages(Task(two, MODE), tmp_path))
    assert Counter((row.role, row.level) for row in handed) == {
        ("search", "mimic"): 2, (MODE, "mimic"): 1,
    }  # fmt: skip
    seeded = replace(two, seeds=(0, 1, 2))
    handed = drive(Stages(Task(seeded, MODE), tmp_path))
    assert [(row.role, row.level, row.config.seeds) for row in handed] == [
        (MODE, "kdgan", (2,)), (MODE, "mimic", (2,)),
    ]  # fmt: skip
    handed = drive(Stages(Task(replace(seeded, train_sizes=(50, 200)), MODE), tmp_path))
    assert {row.config.train_size for row in handed} == {200}
    for again in (one, two, seeded):
        stages = Stages(Task(again, MODE), tmp_path)
        assert stages.exhausted and not stages.missing
    assert set(trainings(tmp_path).values()) == {1}


def test_a_row_moves_to_what_more_tuning_finds(one: Space, tmp_path: Path, drive: Drive) -> None:
    """And the row that it leaves is no line of the table any longer, here and in MLflow."""
    kdgan = replace(one, chosen=("kdgan",))
    branch = Branch(50, "kdgan")
    first = Stages(Task(replace(kdgan, trials=1), MODE), tmp_path)
    drive(first)
    [(old,)] = lines(first).values()
    heard: dict[str, list[Row]] = {}
    more = Stages(Task(replace(kdgan, trials=9), MODE), tmp_path, heard.__setitem__)
    handed = drive(more)
    [(new,)] = lines(more).values()
    assert [row.role for row in handed] == ["search"] * 8 + [MODE]
    assert new.config == max(tuning(more, branch), key=known_score).config.replace(seeds=(0, 1))
    assert new.config != old.config
    assert [row.role for row in heard[old.trial_id]] == ["superseded"]
    assert Plan(more.plan.path).rows == more.plan.rows
    assert expected_trials(more) == 9 + 1
    again = Stages(Task(replace(kdgan, trials=9), MODE), tmp_path)
    assert again.exhausted and again.plan.rows == more.plan.rows
    assert drive(again) == []


def test_a_row_stays_where_more_tuning_finds_nothing_better(
    one: Space, tmp_path: Path, drive: Drive
) -> None:
    mimic = replace(one, chosen=("mimic",))  # all its trials score the same: the first is the best
    first = Stages(Task(mimic, MODE), tmp_path)
    drive(first)
    more = Stages(Task(replace(mimic, trials=4), MODE), tmp_path)
    assert [row.role for row in drive(more)] == ["search", "search"]
    assert lines(more) == lines(first)


def test_a_configuration_that_two_arms_share_is_trained_once_for_both(
    one: Space, tmp_path: Path, drive: Drive
) -> None:
    arms = {**one.arms, "twin": one.arms["mimic"]}
    space = replace(one, arms=arms, chosen=("mimic", "twin"), trials=1)
    stages = Stages(Task(space, MODE), tmp_path)
    handed = drive(stages, workers=4)
    assert stages.exhausted and not stages.missing
    assert Counter(row.role for row in handed) == {"search": 1, MODE: 1}
    for rows in stages.plan.trials().values():
        assert [row.level for row in rows] == ["mimic", "twin"]
    again = Stages(Task(replace(space, chosen=("twin",)), MODE), tmp_path)
    assert again.exhausted and drive(again) == []


def test_a_row_that_two_arms_share_stays_when_one_of_them_moves(
    one: Space, tmp_path: Path, drive: Drive
) -> None:
    arms = {**one.arms, "twin": one.arms["kdgan"]}
    space = replace(one, arms=arms, chosen=("kdgan", "twin"), trials=1)
    drive(Stages(Task(space, MODE), tmp_path))
    stages = Stages(Task(replace(space, chosen=("twin",), trials=9), MODE), tmp_path)
    drive(stages)
    (kept,), (moved,) = (lines(stages)[Branch(50, arm)] for arm in ("kdgan", "twin"))
    assert kept.config.alpha == 0.5 != moved.config.alpha
    assert "superseded" not in {row.role for row in stages.plan}


class Listener:
    """Stands in for EarlyStopping."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, str]] = []

    def replay(self, group: object, config: object, evaluations: object) -> None:
        self.heard.append((group, config.method))  # type: ignore[attr-defined]


def test_early_stopping_compares_within_an_arm(one: Space, tmp_path: Path, drive: Drive) -> None:
    drive(Stages(Task(one, MODE), tmp_path))
    listener = Listener()
    Stages(Task(one, MODE), tmp_path).replay_into(listener)  # type: ignore[arg-type]
    groups = [("50 kdgan", "kdgan"), ("50 mimic", "mimic"), ("50 teacher", "supervised")]
    assert Counter(listener.heard) == dict.fromkeys(groups, 2)


def test_a_stopped_tuning_trial_is_never_an_arms_row(
    one: Space, tmp_path: Path, drive: Drive
) -> None:
    stages = Stages(Task(one, MODE), tmp_path)
    drive(stages, outcome=lambda row: "stopped" if row.role == "search" else "finished")
    for rows in lines(stages).values():
        for row in rows:
            assert outcomes(tmp_path)[row.trial_id] == ["finished"]
    assert stages.exhausted


def test_a_failed_tuning_trial_is_tried_again_and_may_win(
    one: Space, tmp_path: Path, drive: Drive
) -> None:
    kdgan = replace(one, chosen=("kdgan",))
    recipe = branches(kdgan, MODE)[Branch(50, "kdgan")].base_config(50)
    best = {"alpha": 0.3, "beta": recipe.beta}
    kdgan = replace(kdgan, fixed={**kdgan.fixed, **best})
    first = Stages(Task(kdgan, MODE), tmp_path)
    drive(first, outcome=lambda row: "failed" if row.config.alpha == 0.3 else "finished")
    [(row,)] = lines(first).values()
    assert row.config.alpha != 0.3
    again = Stages(Task(kdgan, MODE), tmp_path)
    assert [(r.role, r.config.alpha) for r in drive(again)] == [("search", 0.3), (MODE, 0.3)]
    [(row,)] = lines(again).values()
    assert row.config.alpha == 0.3


class Command(NamedTuple):
    """What one command asks for, and after how many trials it is killed."""

    sizes: tuple[int, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    trials: int
    ends: int


def some(*of: object) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.sampled_from(of), min_size=1, unique=True).map(tuple)


COMMANDS = st.builds(
    Command, some(50, 200), some("kdgan", "mimic", "teacher", "kdgan+ema"), some(0, 1, 2),
    st.integers(1, 3), st.sampled_from([0, 1, 3, MANY]),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def no_fsync() -> Iterator[None]:
    """Nothing is killed here."""
    with patch("os.fsync"):
        yield


@settings(max_examples=6, deadline=None)
@given(
    commands=st.lists(COMMANDS, min_size=2, max_size=3),
    order=st.randoms(use_true_random=False),
)
def test_whatever_is_added_in_any_order_every_arm_has_its_trials_and_its_seeds_once(
    table: Space, drive: Drive, commands: list[Command], order: random.Random
) -> None:
    for ordered in (commands, order.sample(commands, len(commands))):
        with tempfile.TemporaryDirectory() as name:
            for command in [*ordered, *(c._replace(ends=MANY) for c in reversed(ordered))]:
                asked = replace(
                    table, train_sizes=command.sizes, chosen=command.arms, seeds=command.seeds,
                    trials=command.trials,
                )  # fmt: skip
                stages = Stages(Task(asked, MODE, sampler="random"), Path(name))
                handed = drive(stages, ends=command.ends)
                assert len({row.trial_id for row in handed}) == len(handed)
                if command.ends == MANY:
                    assert stages.exhausted and not stages.missing
            ended = outcomes(Path(name))
            assert {tuple(ends) for ends in ended.values() if ends} == {("finished",)}
            for n in (50, 200):
                for arm in table.arms:
                    mine = [c for c in ordered if n in c.sizes and arm in c.arms]
                    branch = Branch(n, arm)
                    most = max((c.trials for c in mine), default=0)
                    assert len(tuning(stages, branch)) == most
                    rows = lines(stages).get(branch, [])
                    assert len({row.config.cell_id for row in rows}) == bool(mine)
                    seeds = Counter(seed for row in rows for seed in row.config.seeds)
                    assert seeds.keys() >= {seed for c in mine[:1] for seed in c.seeds}
                    assert set(seeds.values()) <= {1}
