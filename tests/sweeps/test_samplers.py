"""What the samplers name, and what happens when they have nothing new to name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from searching import COMPLETE, NAME, OPEN, RUNNING, WAITING, ask, ended, states

from sweeps.arms import Branch
from sweeps.loading import load_space
from sweeps.plan import Row
from sweeps.search import Search, make_sampler
from sweeps.space import Space
from sweeps.words import SAMPLERS


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


def test_a_sampler_that_repeats_itself_is_helped_out(
    space: Space, open_search: Callable[..., Search], journal: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As one does that has converged to the last digit."""

    class Converged(optuna.samplers.RandomSampler):
        def sample_independent(self, *args: Any) -> Any:
            return 0.25

    monkeypatch.setattr("sweeps.search.make_sampler", lambda name, seed: Converged(seed))
    more = replace(space, trials=6)
    search = open_search(other=more)
    rows = [ask(search) for _ in range(6)]
    assert search.complete
    assert len({row.trial_id for row in rows}) == 6
    assert rows[0].config.alpha == 0.5 and rows[1].config.alpha == 0.25
    assert not open_search(rows, replace(space, trials=7)).complete
    assert states(journal).count(RUNNING) == 6 and WAITING not in states(journal)


def test_a_range_without_width_is_exhausted(
    space: Space, open_search: Callable[..., Search], journal: Path
) -> None:
    search = open_search(other=replace(space, trials=9, search={"alpha": (0.5, 0.5)}))
    row = ask(search)
    assert search.ask() is None and search.complete
    search.tell(row.trial_id, ended(0.5))
    assert not set(OPEN) & set(states(journal))


@pytest.mark.parametrize("baseline", [{"beta": 5e3}, {"alpha": 0.5, "beta": 1e-4}])
def test_a_baseline_outside_the_ranges_is_not_tried(
    space: Space, open_search: Callable[..., Search], baseline: dict[str, object]
) -> None:
    search = open_search(other=replace(space, baseline={**space.baseline, **baseline}))
    config = ask(search).config
    assert 1e-3 < config.beta < 1e3 and config.alpha != 0.5


def test_a_baseline_that_is_no_choice_is_not_tried(
    space: Space, open_search: Callable[..., Search]
) -> None:
    kinds = ("linear", "cosine")
    search = open_search(other=replace(space, search={"alpha": (0.0, 1.0), "tau_kind": kinds}))
    config = ask(search).config
    assert config.tau_kind in kinds and config.alpha != 0.5


def test_a_baseline_of_many_digits_or_of_a_constant_temperature_is_tried(
    space: Space, tmp_path: Path
) -> None:
    many = replace(space, baseline={"alpha": 1 / 3, "beta": 0.123456})
    first = ask(Search(many, Branch(50), "many", tmp_path / "journal", "tpe", 0, []))
    assert (first.config.alpha, first.config.beta) == (0.3333, 0.1235)
    constant = {"tau_kind": "constant", "tau_start": 5.0}
    shipped = load_space("mnist", baseline=constant)  # whose end, 5 as well, is out of range
    first = ask(Search(shipped, Branch(100), "constant", tmp_path / "journal", "tpe", 0, []))
    assert first.config == shipped.base_config(100).replace(seeds=shipped.search_seeds)


def run_search(
    journal: Path, sampler: str, seed: int = 0, trials: int = 12, commands: int = 1
) -> list[Row]:
    """A search whose best is at alpha = 0.3, two trials at a time, asked by several commands."""
    space = load_space("digits", trials=trials)
    rows: list[Row] = []
    for command in range(commands):
        search = Search(space, Branch(50), NAME, journal, sampler, seed, rows)
        while len(search.rows) < trials * (command + 1) // commands:
            pair = [ask(search) for _ in range(2)]
            for row in pair:
                search.tell(row.trial_id, ended(0.9 - (row.config.alpha - 0.3) ** 2))
            rows += pair
    return rows


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_searches_and_is_seeded(
    tmp_path: Path, sampler: str, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = run_search(tmp_path / "a", sampler)
    assert len({row.trial_id for row in rows}) == 12
    assert states(tmp_path / "a") == [COMPLETE] * 12
    assert run_search(tmp_path / "b", sampler) == rows
    other = run_search(tmp_path / "c", sampler, seed=1, trials=4)
    assert other[0] == rows[0]  # the baseline
    assert not {row.config.alpha for row in other[1:]} & {row.config.alpha for row in rows}
    assert capfd.readouterr() == ("", "")


def test_the_samplers_are_the_ones_they_are_called() -> None:
    names = {name: type(make_sampler(name, 0)).__name__ for name in SAMPLERS}
    assert names == {
        "tpe": "TPESampler", "gp": "GPSampler", "cmaes": "CmaEsSampler", "qmc": "QMCSampler",
        "random": "RandomSampler",
    }  # fmt: skip


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_sampler_that_learns_comes_nearer_to_the_best(tmp_path: Path, sampler: str) -> None:
    rows = run_search(tmp_path / "a", sampler, trials=40)
    away = [abs(row.config.alpha - 0.3) for row in rows]
    early, late = away[1:9], away[-8:]
    assert sum(late) < 0.75 * sum(early)


def test_a_sobol_sequence_goes_on_in_the_next_command(tmp_path: Path) -> None:
    whole = run_search(tmp_path / "a", "qmc")
    halves = run_search(tmp_path / "b", "qmc", commands=2)
    assert halves == whole


def test_random_points_are_others_in_the_next_command(tmp_path: Path) -> None:
    rows = run_search(tmp_path / "a", "random", commands=2)
    assert len({row.config.alpha for row in rows}) == 12
    assert states(tmp_path / "a") == [COMPLETE] * 12  # none had to be named twice


def test_the_seed_decides_what_is_asked(space: Space, tmp_path: Path) -> None:
    def second(name: str, seed: int, size: int = 50) -> tuple[float, float]:
        search = Search(space, Branch(size), "toy", tmp_path / name, "tpe", seed, [])
        ask(search)
        config = ask(search).config
        return config.alpha, config.beta

    assert second("a", 0) == second("b", 0)
    assert second("a", 0) != second("c", 1)
    assert second("a", 0) != second("d", 0, size=200)
