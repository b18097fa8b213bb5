"""What each mode plans: one factor at a time, two at once, a Sobol design, seeds added later."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdgan_core.config import TrialConfig
from kdgan_core.names import TAU_KINDS
from sweeps.arms import Branch
from sweeps.design import (
    Size,
    around_rows,
    grid_rows,
    level_label,
    planned_sizes,
    point_config,
    seed_rows,
    sensitivity_rows,
    sobol_rows,
    value_at,
)
from sweeps.factors import SpaceError
from sweeps.loading import load_space
from sweeps.plan import Row
from sweeps.space import Space

WEIGHTS = st.floats(1e-6, 1e6)


@st.composite
def temperatures(draw: st.DrawFn) -> dict[str, object]:
    kind, start = draw(st.sampled_from(TAU_KINDS)), draw(WEIGHTS)
    end = start if kind == "constant" else draw(WEIGHTS)
    return {"tau_kind": kind, "tau_start": start, "tau_end": end}


def levels(field: str, values: st.SearchStrategy[float], least: int = 0) -> Any:
    singles = st.lists(values, min_size=least, max_size=5, unique=True)
    return singles.map(lambda drawn: tuple({field: value} for value in drawn))


def cuts(least: int = 0) -> dict[str, Any]:
    taus = st.lists(
        temperatures(), min_size=least, max_size=4, unique_by=lambda v: tuple(v.values())
    )
    return {
        "alpha": levels("alpha", st.floats(0.0, 1.0), least),
        "beta": levels("beta", WEIGHTS, least),
        "gamma": levels("gamma", WEIGHTS, least),
        "tau": taus.map(tuple),
    }


@settings(deadline=None, max_examples=60)
@given(
    cuts=st.fixed_dictionaries(cuts()), alpha=st.floats(0.0, 1.0), beta=WEIGHTS, tau=temperatures()
)
def test_a_row_per_level_and_one_baseline(
    space: Space,
    cuts: dict[str, tuple[dict[str, object], ...]],
    alpha: float,
    beta: float,
    tau: dict[str, object],
) -> None:
    cut = replace(space, cuts=cuts)
    baseline = cut.base_config(50).replace(alpha=alpha, beta=beta, **tau)
    rows = sensitivity_rows(cut, baseline)
    assert len({row.key for row in rows}) == len(rows)
    assert [row for row in rows if row.role == "baseline"] == [Row(baseline, "baseline")]
    counts = Counter(row.factor for row in rows if row.role == "sensitivity")
    assert counts == Counter({factor: len(values) for factor, values in cuts.items() if values})
    for row in rows:
        assert (row.trial_id == baseline.trial_id) == (row.config == baseline)
    assert sensitivity_rows(cut, baseline) == rows


def test_a_row_varies_its_factor_alone(space: Space) -> None:
    baseline = space.base_config(50)
    for row in sensitivity_rows(space, baseline)[1:]:
        varied = {k for k, v in row.config.as_dict().items() if v != baseline.as_dict()[k]}
        assert varied <= {"alpha": {"alpha"}, "tau": {"tau_kind", "tau_end"}}[row.factor]


def test_a_level_at_the_baseline_shares_its_trial(space: Space) -> None:
    baseline = space.base_config(50)
    rows = sensitivity_rows(space, baseline)
    shared = [(row.factor, row.level) for row in rows if row.trial_id == baseline.trial_id]
    assert shared == [("", ""), ("alpha", "0.5"), ("tau", "exponential 1→0.1")]
    assert [row.level for row in rows] == [
        "", "0", "0.5", "1", "constant 1", "exponential 1→0.1",
    ]  # fmt: skip


def test_a_level_named_twice_is_one_row(space: Space) -> None:
    levels = ({"alpha": 0.3}, {"alpha": 0.30}, {"alpha": 0.5})
    twice = replace(space, cuts={"alpha": levels, "beta": ({"beta": 1}, {"beta": 1.0})})
    base = space.base_config(50)
    assert [row.level for row in sensitivity_rows(twice, base)] == ["", "0.3", "0.5", "1"]
    assert [row.level for row in grid_rows(twice, base)] == ["", "0.3×1", "0.5×1"]
    assert planned_sizes(twice, "study")[Branch(50)] == Size(3, 4, 2)


def test_a_level_out_of_range_is_named(space: Space) -> None:
    wrong = replace(space, cuts={"alpha": ({"alpha": 2.0},), "tau": ({"tau_start": 1.0},)})
    for rows in (sensitivity_rows, grid_rows):
        with pytest.raises(SpaceError, match=r"alpha=2\.0"):
            rows(wrong, wrong.base_config(50))


@settings(deadline=None, max_examples=40)
@given(
    data=st.data(),
    names=st.lists(st.sampled_from(tuple(cuts())), min_size=2, max_size=2, unique=True),
)
def test_a_grid_is_a_product_around_one_baseline(
    space: Space, data: st.DataObject, names: list[str]
) -> None:
    chosen = {name: data.draw(cuts(least=1)[name]) for name in names}
    crossed = replace(space, cuts=chosen)
    baseline = space.base_config(50)
    rows = grid_rows(crossed, baseline)
    assert rows[0] == Row(baseline, "baseline")
    grid = rows[1:]
    factor = "×".join(sorted(names, key=("alpha", "beta", "gamma", "tau").index))
    assert {(row.role, row.factor) for row in grid} == {("grid", factor)}
    first, second = chosen.values()
    wanted = {baseline.replace(**one, **other) for one in first for other in second}
    assert {row.config for row in grid} == wanted
    assert len(grid) == len(wanted) == len(first) * len(second)
    swapped = replace(space, cuts=dict(reversed(chosen.items())))
    assert grid_rows(swapped, baseline) == rows


def test_a_grid_with_tau_names_both_levels() -> None:
    space = load_space("digits", "grid", factors=("tau", "beta"), levels=(
        "tau=constant:2,linear:1:0.1", "beta=0.5,1e3"))  # fmt: skip
    rows = grid_rows(space, space.base_config(50))[1:]
    assert {row.factor for row in rows} == {"beta×tau"}
    assert [row.level for row in rows] == [
        "0.5×constant 2", "0.5×linear 1→0.1", "1000×constant 2", "1000×linear 1→0.1",
    ]  # fmt: skip
    assert {level_label("tau", row.config) for row in rows} == {"constant 2", "linear 1→0.1"}


def test_what_the_modes_plan_around_a_baseline(space: Space) -> None:
    baseline = space.base_config(200)
    assert around_rows(space, "study", baseline) == sensitivity_rows(space, baseline)
    assert around_rows(space, "sensitivity", baseline) == sensitivity_rows(space, baseline)
    assert around_rows(space, "grid", baseline) == grid_rows(space, baseline)
    assert around_rows(space, "baseline", baseline) == [Row(baseline, "baseline")]
    assert around_rows(space, "search", baseline) == around_rows(space, "sobol", baseline) == []


@settings(deadline=None, max_examples=25)
@given(shorter=st.integers(1, 40), longer=st.integers(1, 40), seed=st.integers(0, 5))
def test_a_longer_sobol_design_begins_with_the_shorter(
    shorter: int, longer: int, seed: int
) -> None:
    shorter, longer = sorted((shorter, longer))
    space = load_space("mnist", "sobol")
    short, long = (
        sobol_rows(replace(space, trials=number), 100, seed) for number in (shorter, longer)
    )
    assert long[:shorter] == short
    assert (len(short), len(long)) == (shorter, longer)
    assert {row.role for row in long} == {"sobol"}
    assert {row.config.seeds for row in long} == {space.search_seeds}


def test_a_sobol_design_is_scrambled_by_its_seed_and_size() -> None:
    space = load_space("mnist", "sobol", trials=8)
    one = sobol_rows(space, 100, 0)
    for n, seed in ((100, 1), (1000, 0)):
        other = sobol_rows(space, n, seed)
        assert not {row.config.alpha for row in one} & {row.config.alpha for row in other}


def test_a_sobol_design_fills_the_space_evenly() -> None:
    space = load_space("mnist", "sobol", trials=64)
    configs = [row.config for row in sobol_rows(space, 100, 3)]
    kinds = Counter(config.tau_kind for config in configs)
    assert kinds == dict.fromkeys(space.search["tau_kind"], 16)
    eighths = Counter(int(config.alpha * 8) for config in configs)
    assert eighths == dict.fromkeys(range(8), 8)
    assert {config.beta < 1.0 for config in configs[:2]} == {False, True}


def test_a_sobol_design_of_a_small_space_names_each_point_once(space: Space) -> None:
    small = replace(space, trials=30, search={"tau_kind": ("exponential", "linear")})
    kinds = [row.config.tau_kind for row in sobol_rows(small, 50, 0)]
    assert sorted(kinds) == ["exponential", "linear"]
    with pytest.raises(SpaceError, match="needs a dimension"):
        sobol_rows(replace(space, search={}), 50, 0)


def test_a_point_sets_fields_to_four_digits(space: Space) -> None:
    base = space.base_config(50)
    moved = point_config(base, {"alpha": 0.123456, "log10_beta": 2.0, "tau_kind": "linear"})
    assert (moved.alpha, moved.beta, moved.tau_kind) == (0.1235, 100.0, "linear")
    assert point_config(base, {"log10_gamma": -1.23456}).gamma == 0.05827
    assert value_at(("a", "b", "c"), 0.34) == "b"
    assert value_at((-3.0, 3.0), 0.25) == -1.5


def pairs(rows: list[Row]) -> Counter[tuple[str, int]]:
    """(cell, seed) -> trials that have it."""
    configs = {row.trial_id: row.config for row in rows}.values()
    return Counter((config.cell_id, seed) for config in configs for seed in config.seeds)


def seeds_of(rows: list[Row]) -> list[tuple[int, ...]]:
    return [row.config.seeds for row in rows]


def test_more_seeds_are_a_second_trial_of_the_cell(space: Space) -> None:
    cell = space.base_config(50).replace(seeds=(0, 1, 2))
    plan = list(seed_rows([], [Row(cell, "baseline")]))
    assert plan == [Row(cell, "baseline")]
    more = list(seed_rows(plan, [Row(cell.replace(seeds=(0, 1, 2, 3, 4)), "baseline")]))
    assert seeds_of(more) == [(0, 1, 2), (3, 4)]
    assert {row.config.cell_id for row in more} == {cell.cell_id}
    assert seeds_of(list(seed_rows(more, [Row(cell.replace(seeds=(4,)), "baseline")]))) == [(3, 4)]
    other = list(seed_rows(more, [Row(cell.replace(seeds=(9, 4, 1)), "baseline")]))
    assert seeds_of(other) == [(0, 1, 2), (3, 4), (9,)]
    wanted = [Row(cell.replace(seeds=seeds), "baseline") for seeds in ((0, 1), (1, 2))]
    assert seeds_of(list(seed_rows([], wanted))) == [(0, 1), (0, 1), (2,)]


def test_a_level_at_the_baseline_takes_the_baselines_trials(space: Space) -> None:
    cell = space.base_config(50)
    plan = [Row(cell.replace(seeds=(0,)), "baseline")]
    wanted = sensitivity_rows(space, cell.replace(seeds=(0, 1, 2)))
    rows = [row for row in seed_rows(plan, wanted) if row.config.cell_id == cell.cell_id]
    assert [(row.role, row.level, row.config.seeds) for row in rows] == [
        ("baseline", "", (0,)), ("baseline", "", (1, 2)),
        ("sensitivity", "0.5", (0,)), ("sensitivity", "0.5", (1, 2)),
        ("sensitivity", "exponential 1→0.1", (0,)),
        ("sensitivity", "exponential 1→0.1", (1, 2)),
    ]  # fmt: skip


@pytest.mark.parametrize("role", ["search", "sobol", "superseded"])
def test_a_trial_that_is_in_no_cell_gives_a_cell_no_seeds(space: Space, role: str) -> None:
    cell = space.base_config(50)
    rows = list(seed_rows([Row(cell.replace(seeds=(0,)), role)], [Row(cell, "baseline")]))
    assert rows == [Row(cell, "baseline")]


@settings(deadline=None, max_examples=60)
@given(
    commands=st.lists(
        st.tuples(
            st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True).map(tuple),
            st.sets(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1),
        ),
        min_size=1,
        max_size=5,
    ),
    shuffled=st.randoms(use_true_random=False),
)
def test_seeds_and_levels_added_in_any_order_are_trained_once(
    space: Space,
    commands: list[tuple[tuple[int, ...], set[float]]],
    shuffled: random.Random,
) -> None:
    def plan(ordered: list[tuple[tuple[int, ...], set[float]]]) -> list[Row]:
        rows: dict[tuple[str, str, str, str], Row] = {}
        for seeds, alphas in ordered:
            asked = replace(
                space, seeds=seeds, cuts={"alpha": tuple({"alpha": a} for a in sorted(alphas))}
            )
            wanted = sensitivity_rows(asked, asked.base_config(50))
            got = list(seed_rows(rows.values(), wanted))
            for row in wanted:
                mine = [g.config for g in got if (g.role, g.level) == (row.role, row.level)]
                assert {s for c in mine for s in c.seeds} >= set(seeds)
                assert {c.cell_id for c in mine} == {row.config.cell_id}
            rows |= {row.key: row for row in got}
        return list(rows.values())

    wanted = {
        (row.config.cell_id, seed)
        for seeds, alphas in commands
        for row in sensitivity_rows(
            replace(space, cuts={"alpha": tuple({"alpha": a} for a in alphas)}),
            space.base_config(50),
        )
        for seed in seeds
    }
    assert plan(commands) == plan(commands)
    assert pairs(plan(commands)) == dict.fromkeys(wanted, 1)
    shuffled.shuffle(commands)
    assert pairs(plan(commands)) == dict.fromkeys(wanted, 1)


def test_planned_sizes(space: Space) -> None:
    def sizes(mode: str, **changes: object) -> Mapping[int, Size]:
        found = planned_sizes(replace(space, **changes), mode)  # type: ignore[arg-type]
        assert not any(branch.arm for branch in found)
        return {branch.train_size: size for branch, size in found.items()}

    assert sizes("baseline") == {50: Size(0, 1, 2), 200: Size(0, 1, 2)}
    assert sizes("search") == {50: Size(3, 0, 2), 200: Size(3, 0, 2)}
    paper = {"baseline_from": "paper"}
    assert sizes("sensitivity", **paper) == {50: Size(0, 4, 2), 200: Size(0, 4, 2)}
    assert sizes("grid", train_sizes=(50,), **paper) == {50: Size(0, 6, 2)}
    assert sizes("sobol", trials=5) == {50: Size(0, 5, 1), 200: Size(0, 5, 1)}
    # A level may or may not be where the best will be found.
    assert sizes("study") == {50: Size(3, 6, 2), 200: Size(3, 6, 2)}
    assert sizes("sensitivity")[50] == Size(0, 6, 2)
    assert sizes("study", baseline_from="paper", trials=7)[50] == Size(7, 4, 2)
    assert sizes("study", search={}, seeds=(4,))[50] == Size(0, 4, 1)


def test_a_config_is_a_cell_whatever_its_seeds() -> None:
    config = TrialConfig()
    assert config.cell_id == config.replace(seeds=(7,)).cell_id
    assert config.cell_id != config.replace(alpha=0.1).cell_id
