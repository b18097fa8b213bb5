"""Optuna's part: what is asked, what the journal says, and what a crash leaves behind."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from searching import (
    COMPLETE,
    FAIL,
    FAILED,
    NAME,
    RUNNING,
    WAITING,
    ask,
    ended,
    load,
    states,
)

from sweeps.arms import Branch
from sweeps.loading import load_space
from sweeps.plan import PlanError, Row
from sweeps.search import Search, close_studies
from sweeps.space import Space


def test_the_baseline_is_asked_first(space: Space, open_search: Callable[..., Search]) -> None:
    first = ask(open_search())
    assert first == Row(space.base_config(50).replace(seeds=(0,)), "search")


def test_the_shipped_baseline_survives_its_logarithms(tmp_path: Path) -> None:
    space = load_space("mnist")
    search = Search(space, Branch(100), "mnist-n100", tmp_path / "journal", "tpe", 0, [])
    assert ask(search).config == space.base_config(100).replace(seeds=space.search_seeds)


def test_values_lie_in_their_ranges_and_are_rounded(tmp_path: Path) -> None:
    space = load_space("mnist", trials=25)
    search = Search(space, Branch(100), "mnist-n100", tmp_path / "journal", "tpe", 0, [])
    while not search.complete:
        row = ask(search)
        search.tell(row.trial_id, ended(row.config.alpha))
    configs = [row.config for row in search.rows.values()]
    assert len(configs) == len(set(configs)) == 25
    for config in configs:
        assert 0.0 <= config.alpha <= 1.0 and config.alpha == round(config.alpha, 4)
        for name in ("beta", "gamma", "tau_start", "tau_end"):
            value = getattr(config, name)
            assert value == float(f"{value:.4g}")
            if name != "tau_end" or config.tau_kind != "constant":
                low, high = (float(str(end)) for end in space.search[f"log10_{name}"])
                assert low - 1e-4 <= math.log10(value) <= high + 1e-4
        assert config.seeds == space.search_seeds
        assert config.train_size == 100
    assert {config.tau_kind for config in configs} == set(space.search["tau_kind"])


def test_logarithms_are_linear_dimensions(
    open_search: Callable[..., Search], journal: Path
) -> None:
    search = open_search()
    rows = [ask(search) for _ in range(3)]
    for row, trial in zip(rows, load(journal).trials, strict=True):
        assert set(trial.params) == {"alpha", "log10_beta"}
        distribution = trial.distributions["log10_beta"]
        assert isinstance(distribution, optuna.distributions.FloatDistribution)
        assert (distribution.low, distribution.high, distribution.log) == (-3.0, 3.0, False)
        assert row.config.beta == pytest.approx(10 ** trial.params["log10_beta"], rel=1e-3)
        assert trial.user_attrs["trial_id"] == row.trial_id


def test_the_journal_says_how_trials_did(
    open_search: Callable[..., Search], journal: Path
) -> None:
    search = open_search()
    good, bad, diverged = (ask(search) for _ in range(3))
    assert search.complete
    search.tell(good.trial_id, ended(0.8))
    search.tell(bad.trial_id, FAILED)
    search.tell(diverged.trial_id, {"outcome": "diverged", "seeds": [
        {"outcome": "diverged", "best_valid_accuracy": None}]})  # fmt: skip
    assert states(journal) == [COMPLETE, FAIL, COMPLETE]
    assert [trial.value for trial in load(journal).trials] == [0.8, None, 0.0]
    assert load(journal).best_value == 0.8
    assert load(journal).direction == optuna.study.StudyDirection.MAXIMIZE


def test_telling_twice_changes_nothing(open_search: Callable[..., Search], journal: Path) -> None:
    search = open_search()
    row = ask(search)
    search.tell(row.trial_id, ended(0.8))
    search.tell(row.trial_id, ended(0.1))
    again = open_search([row])
    again.tell(row.trial_id, ended(0.2))
    again.tell("not a trial", ended(0.3))
    again.tell("not a trial", FAILED)
    assert [trial.value for trial in load(journal).trials] == [0.8]


def test_reopening_does_not_ask_for_the_baseline_again(
    open_search: Callable[..., Search], journal: Path
) -> None:
    open_search()  # a driver that died before it asked
    first = ask(open_search())
    second = ask(open_search([first]))
    assert second.trial_id != first.trial_id
    enqueued = [trial.params for trial in load(journal).trials]
    assert enqueued.count({"alpha": 0.5, "log10_beta": 0.0}) == 1


def test_a_trial_without_a_row_is_reaped_and_one_with_a_row_stays_open(
    open_search: Callable[..., Search], journal: Path
) -> None:
    search = open_search()
    planned, lost = ask(search), ask(search)
    assert states(journal) == [RUNNING, RUNNING]
    again = open_search([planned])
    assert states(journal) == [RUNNING, FAIL, WAITING]
    again.tell(lost.trial_id, ended(0.1))
    again.tell(planned.trial_id, ended(0.6))
    assert states(journal) == [COMPLETE, FAIL, WAITING]
    assert load(journal).trials[0].value == 0.6
    rows = [ask(again), ask(again)]
    assert again.complete
    assert rows[0] == lost
    assert planned.trial_id not in {row.trial_id for row in rows}
    assert states(journal) == [COMPLETE, FAIL, RUNNING, RUNNING]


def test_a_baseline_that_a_killed_driver_was_asking_for_is_not_lost(
    space: Space, open_search: Callable[..., Search], journal: Path
) -> None:
    search = open_search()
    search.study.ask()  # taken from the queue, but no parameter is set yet
    search = open_search()
    assert states(journal) == [FAIL, WAITING]
    search.study.ask({"alpha": search.distributions["alpha"]})  # one of two is set
    search = open_search()
    first = ask(search)
    assert first.config == space.base_config(50).replace(seeds=(0,))
    search.tell(first.trial_id, ended(0.5))
    assert states(journal) == [FAIL, FAIL, COMPLETE]


def test_a_point_that_a_killed_driver_had_asked_for_is_asked_for_again(
    open_search: Callable[..., Search], journal: Path
) -> None:
    search = open_search()
    first, lost = ask(search), ask(search)
    again = open_search([first])
    assert ask(again) == lost
    assert states(journal) == [RUNNING, FAIL, RUNNING]
    again = open_search([first, lost])
    again.tell(lost.trial_id, ended(0.5))
    again.tell(lost.trial_id, ended(0.5))  # one that failed once, and was not told so
    assert states(journal) == [RUNNING, FAIL, COMPLETE]


def test_a_failed_trial_that_is_tried_again_with_success_is_one_more_trial(
    open_search: Callable[..., Search], journal: Path
) -> None:
    search = open_search()
    row = ask(search)
    search.tell(row.trial_id, FAILED)
    for _ in range(2):
        again = open_search([row])
        again.tell(row.trial_id, FAILED)
        assert states(journal) == [FAIL]
    for _ in range(2):
        again.tell(row.trial_id, ended(0.7))
        assert states(journal) == [FAIL, COMPLETE]
        again = open_search([row])
    one, other = load(journal).trials
    assert (other.params, other.value) == (one.params, 0.7)
    assert other.user_attrs == one.user_attrs == {"trial_id": row.trial_id}


def test_a_lost_journal_is_made_again_from_the_plan(
    space: Space, open_search: Callable[..., Search], journal: Path
) -> None:
    more = replace(space, trials=5)
    search = open_search(other=more)
    rows = [ask(search) for _ in range(4)]
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([lines[0], "what is this\n", *lines[1:]]))
    with pytest.raises(PlanError, match=f"{journal} cannot be read at line 2: move the file"):
        open_search(rows, more)
    journal.unlink()
    again = open_search(rows, more)
    again.tell(rows[1].trial_id, ended(0.7))
    again.tell(rows[2].trial_id, FAILED)
    assert states(journal) == [RUNNING, COMPLETE, FAIL, RUNNING]
    for row, trial in zip(rows, load(journal).trials, strict=True):
        assert trial.user_attrs == {"trial_id": row.trial_id}
        assert trial.params["alpha"] == row.config.alpha
        assert 10 ** trial.params["log10_beta"] == pytest.approx(row.config.beta)
    assert states(journal) == [trial.state for trial in open_search(rows, more).study.trials]
    assert ask(again).trial_id not in {row.trial_id for row in rows}


def test_superseded_rows_that_the_study_has_asked_for_are_its_rows_again(
    space: Space, open_search: Callable[..., Search], journal: Path
) -> None:
    search = open_search()
    rows = [ask(search), ask(search)]
    search.tell(rows[0].trial_id, ended(0.7))
    other = space.base_config(50).replace(gamma=7.0)  # of another study
    superseded = [Row(config, "superseded") for config in (other, *(row.config for row in rows))]
    again = open_search([], superseded=superseded)
    assert list(again.rows.values()) == rows
    assert states(journal) == [COMPLETE, RUNNING]
    ask(again)
    assert again.complete


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_what_a_killed_driver_leaves_of_the_journal_is_cleaned(
    open_search: Callable[..., Search], journal: Path, cut: int
) -> None:
    search = open_search()
    row = ask(search)
    search.tell(row.trial_id, ended(0.5))
    journal.write_bytes(journal.read_bytes()[:-cut])  # in the middle of the result
    journal.with_name(journal.name + ".lock").symlink_to(journal)
    again = open_search([row])
    assert states(journal) == [RUNNING]
    again.tell(row.trial_id, ended(0.5))
    assert states(journal) == [COMPLETE]


def test_a_full_disk_leaves_no_half_line_in_the_journal(
    open_search: Callable[..., Search], journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = open_search()
    row = ask(search)
    before = journal.read_bytes()

    def refuse(file: int) -> None:
        os.ftruncate(file, len(before) + 7)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("optuna.storages.journal._file.os.fsync", refuse)
        with pytest.raises(OSError, match="No space left"):
            search.tell(row.trial_id, ended(0.5))
    assert journal.read_bytes() == before
    open_search([row]).tell(row.trial_id, ended(0.5))
    assert states(journal) == [COMPLETE]


def test_other_studies_are_closed_but_for_what_is_planned(
    open_search: Callable[..., Search], journal: Path
) -> None:
    search = open_search()
    rows = [ask(search) for _ in range(3)]
    search.tell(rows[0].trial_id, ended(0.5))
    close_studies(journal, but={NAME}, planned=set())
    assert states(journal) == [COMPLETE, RUNNING, RUNNING]
    close_studies(journal, but={"another"}, planned={rows[2].trial_id})
    assert states(journal) == [COMPLETE, FAIL, RUNNING]


def test_a_baseline_of_which_there_is_no_logarithm_is_not_tried(
    space: Space, journal: Path
) -> None:
    zero = replace(
        space, search={"log10_codistillation_weight": (-1.0, 1.0)},
        fixed={**space.fixed, "codistillation_weight": 0.0},
    )  # fmt: skip
    search = Search(zero, Branch(50), "toy", journal, "random", 0, [])
    assert 0.1 <= ask(search).config.codistillation_weight <= 10.0
