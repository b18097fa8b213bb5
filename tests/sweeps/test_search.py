"""Optuna's part: what is asked, what the journal says, and what a crash leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweeps.plan import Row
from sweeps.search import Search
from sweeps.space import Space, load_space

COMPLETE, FAIL, RUNNING = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING
OPEN = (RUNNING, TrialState.WAITING)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "optuna.journal"


@pytest.fixture
def open_search(space: Space, journal: Path) -> Callable[..., Search]:
    """A function that opens the search of size 50 of the small space, or of another one."""

    def make(planned: list[Row] | None = None, other: Space | None = None) -> Search:
        return Search(other or space, 50, "toy-n50", journal, 0, planned or [])

    return make


def ended(accuracy: float, outcome: str = "finished") -> Mapping[str, Any]:
    seed = {"outcome": outcome, "best_valid_accuracy": accuracy, "last_valid_accuracy": accuracy}
    return {"outcome": outcome, "seeds": [seed]}


def load(journal: Path) -> optuna.Study:
    """The study as any user of Optuna reads it."""
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name="toy-n50", storage=storage)


def states(journal: Path) -> list[TrialState]:
    return [trial.state for trial in load(journal).trials]


def ask(search: Search) -> Row:
    row = search.ask()
    assert row is not None
    return row


def test_the_baseline_is_asked_first(space: Space, open_search: Callable[..., Search]) -> None:
    first = ask(open_search())
    assert first == Row(space.base_config(50).replace(seeds=(0,)), "search")


def test_the_shipped_baseline_survives_its_logarithms(tmp_path: Path) -> None:
    space = load_space("mnist")
    search = Search(space, 100, "mnist-n100", tmp_path / "journal", 0, [])
    assert ask(search).config == space.base_config(100).replace(seeds=space.search_seeds)


def test_values_lie_in_their_ranges_and_are_rounded(tmp_path: Path) -> None:
    space = load_space("mnist", trials=25)
    search = Search(space, 100, "mnist-n100", tmp_path / "journal", 0, [])
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
    search.tell(bad.trial_id, {"outcome": "failed", "seeds": []})
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
    assert states(journal) == [RUNNING, FAIL]
    again.tell(lost.trial_id, ended(0.1))
    again.tell(planned.trial_id, ended(0.6))
    assert states(journal) == [COMPLETE, FAIL]
    assert load(journal).trials[0].value == 0.6
    rows = [ask(again), ask(again)]
    assert again.complete
    assert planned.trial_id not in {row.trial_id for row in rows}


def test_a_driver_that_dies_while_optuna_asks_leaves_nothing_open(
    open_search: Callable[..., Search], journal: Path
) -> None:
    search = open_search()
    search.study.ask(search.distributions)  # no row, no trial_id: as after a kill
    open_search()
    assert states(journal) == [FAIL]


def test_a_small_space_is_complete_after_its_last_point(
    space: Space, open_search: Callable[..., Search], journal: Path
) -> None:
    kinds = ("exponential", "linear", "cosine", "constant")
    small = replace(space, search={"tau_kind": kinds}, trials=30)
    search = open_search(other=small)
    asked = []
    while not search.complete:
        if (row := search.ask()) is not None:
            asked.append(row)
            search.tell(row.trial_id, ended(0.5))
    assert {row.config.tau_kind for row in asked} == set(kinds)
    assert len(asked) == 4
    found = states(journal)
    assert found.count(COMPLETE) == 4
    assert not set(OPEN) & set(found)


def test_the_seed_decides_what_is_asked(space: Space, tmp_path: Path) -> None:
    def second(name: str, seed: int, size: int = 50) -> tuple[float, float]:
        search = Search(space, size, "toy", tmp_path / name, seed, [])
        ask(search)
        config = ask(search).config
        return config.alpha, config.beta

    assert second("a", 0) == second("b", 0)
    assert second("a", 0) != second("c", 1)
    assert second("a", 0) != second("d", 0, size=200)
