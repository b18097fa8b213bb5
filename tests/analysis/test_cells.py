from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from handmade import BASELINE, SEARCH, Trial, make_runs, seeds, sensitivity
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import cells
from analysis.cells import SeedPoint, cells_of
from analysis.columns import OUTCOMES
from analysis.runs import Runs
from analysis.sensitivity import Panel, sensitivity_info
from analysis.tables import best_rows

ENDS = ("finished", "collapsed", "diverged")
NUMBERS = st.integers(0, 2**32 - 1)


def worst(outcomes: list[str]) -> str:
    return max(outcomes, key=OUTCOMES.index)


def ended(found: dict[int, tuple[str, float]], like: Trial) -> Trial:
    """Return a trial of the same cell with these seeds, ended as they say."""
    return like._replace(seeds=found, outcome=worst([outcome for outcome, _ in found.values()]))


def scored(outcome: str, generator: np.random.Generator) -> tuple[str, float]:
    return outcome, math.nan if outcome == "diverged" else float(generator.uniform(0.5, 1.0))


class Split(NamedTuple):
    """The same cells twice: a trial each, and their seeds dealt to several trials."""

    whole: list[Trial]
    parts: list[Trial]


@st.composite
def splits(draw: st.DrawFn) -> Split:
    generator = np.random.default_rng(draw(NUMBERS))
    cells = [
        Trial({}),
        Trial({}, (sensitivity("alpha", 0.0),), alpha=0.0),
        Trial({}, (BASELINE, sensitivity("alpha", 0.5)), train_size=1000),
        Trial({}, (sensitivity("tau", "constant 1"),), tau=("constant", 1.0, 1.0)),
    ]
    whole: list[Trial] = []
    parts: list[Trial] = []
    for cell in cells:
        ends = draw(st.lists(st.sampled_from(ENDS), min_size=1, max_size=6))
        found = {seed: scored(outcome, generator) for seed, outcome in enumerate(ends)}
        whole.append(ended(found, cell))
        dealt = draw(st.lists(st.integers(0, 2), min_size=len(ends), max_size=len(ends)))
        for hand in set(dealt):
            parts.append(ended({s: found[s] for s, to in enumerate(dealt) if to == hand}, cell))
    return Split(whole, draw(st.permutations(parts)))


def without_trials(panels: tuple[Panel, ...]) -> str:
    """Return all that the panels show but which trial it is from; NaN equals NaN as text."""

    def bare(panel: Panel) -> Panel:
        curves = [
            curve._replace(
                points=tuple(
                    point._replace(
                        trial_id="", seeds=tuple(s._replace(trial_id="") for s in point.seeds)
                    )
                    for point in curve.points
                )
            )
            for curve in panel.curves
        ]
        return panel._replace(curves=tuple(curves))

    return repr([bare(panel) for panel in panels])


@settings(max_examples=40, deadline=None)
@given(splits())
def test_seeds_added_later_give_the_figure_and_table_of_one_sweep_with_all_seeds(
    split: Split,
) -> None:
    one, several = make_runs(split.whole), make_runs(split.parts)
    drawn, redrawn = sensitivity_info(one), sensitivity_info(several)
    assert without_trials(drawn.panels) == without_trials(redrawn.panels)
    assert (drawn.footer, drawn.notes) == (redrawn.footer, redrawn.notes)
    best, again = (
        [repr(row._replace(trial_id="", outcomes={})) for row in best_rows(runs)]
        for runs in (one, several)
    )
    assert best == again


@settings(max_examples=40, deadline=None)
@given(splits())
def test_every_trial_is_counted_once(split: Split) -> None:
    runs = make_runs(split.parts, planned_trials=len(split.parts) + 1)
    cells = cells_of(runs)
    members = [trial_id for cell in cells for trial_id in cell.trial_ids]
    assert sorted(members) == sorted(trial.trial_id for trial in split.parts)
    assert len(cells) == len(split.whole)
    partial = f"partial: {len(split.parts)} of {len(split.parts) + 1} planned trials"
    assert partial in sensitivity_info(runs).footer
    counted = sum(sum(row.outcomes.values()) for row in best_rows(runs))
    assert counted == len(split.parts)


@st.composite
def overlapping(draw: st.DrawFn) -> list[Trial]:
    """Trials of one cell in the order they started; a seed may occur in several."""
    generator = np.random.default_rng(draw(NUMBERS))
    chosen = st.frozensets(st.integers(0, 4), min_size=1)
    trials = []
    for members in draw(st.lists(chosen, min_size=1, max_size=4, unique=True)):
        if draw(st.booleans()):
            found = {seed: scored(draw(st.sampled_from(ENDS)), generator) for seed in members}
        else:
            found = dict.fromkeys(members, ("failed", math.nan))
        trials.append(ended(found, Trial({})))
    return trials


@settings(max_examples=100, deadline=None)
@given(overlapping(), NUMBERS)
def test_the_later_trial_of_a_seed_counts_unless_it_failed(
    trials: list[Trial], number: int
) -> None:
    expected: dict[int, tuple[str, float, str]] = {}
    for trial in trials:
        for seed, (outcome, value) in trial.seeds.items():
            if outcome != "failed" or expected.get(seed, ("failed",))[0] == "failed":
                expected[seed] = (outcome, value, trial.trial_id)
    runs = make_runs(trials)
    # When a trial started counts, not where the store names it.
    runs = runs._replace(trials=runs.trials.sample(frac=1, random_state=number))
    (cell,) = cells_of(runs)
    found = [(s.seed, s.outcome, s.value, s.trial_id) for s in cell.seeds]
    assert repr(found) == repr([(seed, *facts) for seed, facts in sorted(expected.items())])
    assert cell.trial_ids == tuple(trial.trial_id for trial in trials)
    assert cell.outcome == worst([trial.outcome for trial in trials])


def only_seeds(runs: Runs) -> list[tuple[SeedPoint, ...]]:
    return [cell.seeds for cell in cells_of(runs)]


@pytest.mark.parametrize("role", ["grid", "sobol", "sensitivity"])
def test_trials_of_any_measuring_role_are_one_cell(role: str) -> None:
    rows = ({"role": role, "factor": "beta×gamma", "level": "1×0.01"},)
    added = Trial({2: ("finished", 0.7)}, rows)
    (found,) = only_seeds(make_runs([Trial(seeds(0.8, 0.9)), added]))
    assert [seed.value for seed in found] == [0.8, 0.9, 0.7]


def test_search_trials_of_the_cell_stay_by_themselves() -> None:
    searched = Trial({7: ("finished", 0.1)}, (SEARCH,))
    other = Trial({8: ("finished", 0.2)}, (SEARCH,))
    runs = make_runs([searched, Trial(seeds(0.8, 0.9)), other])
    assert [len(found) for found in only_seeds(runs)] == [1, 2, 1]
    low = Trial(seeds(0.5), (sensitivity("alpha", 0.0),), alpha=0.0)
    without = sensitivity_info(make_runs([Trial(seeds(0.8, 0.9)), low]))
    info = sensitivity_info(make_runs([searched, Trial(seeds(0.8, 0.9)), low, other]))
    assert (info.panels, info.footer) == (without.panels, without.footer)


def test_a_search_trial_that_is_the_baseline_too_is_of_the_cell() -> None:
    both = Trial(seeds(0.8, 0.9), (SEARCH, BASELINE))
    (found,) = only_seeds(make_runs([both, Trial({5: ("finished", 0.7)})]))
    assert [seed.seed for seed in found] == [0, 1, 5]


def test_a_trial_of_an_older_version_is_a_cell_by_itself() -> None:
    old = Trial(seeds(0.8), is_old=True)
    assert len(cells_of(make_runs([old, Trial({5: ("finished", 0.7)})]))) == 2


def test_a_stopped_seed_has_a_validation_score_only() -> None:
    trial = Trial(seeds(math.nan, outcome="stopped"), valid={0: 0.8}, outcome="stopped")
    ((seed,),) = only_seeds(make_runs([trial]))
    assert seed.valid == 0.8 and math.isnan(seed.value)


def test_cells_of_the_same_runs_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    plain = cells._cell
    monkeypatch.setattr(cells, "_cell", lambda *words: made.append(words) or plain(*words))
    runs, other = (make_runs([Trial(seeds(score))]) for score in (0.9, 0.8))
    first = cells.cells_of(runs)
    first.clear()  # the caller's own list
    assert [cell.seeds[0].value for cell in cells.cells_of(runs)] == [0.9]
    assert len(made) == 1
    assert [cell.seeds[0].value for cell in cells.cells_of(other)] == [0.8]
    assert len(made) == 2
    grown = runs._replace(trials=runs.trials.assign(seed_test_accuracy=0.7))
    assert [cell.seeds[0].value for cell in cells.cells_of(grown)] == [0.7]
