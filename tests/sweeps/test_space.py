"""Spaces: the shipped files are valid, options lie over them, errors name the value."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from kdgan_core.config import FIELDS
from sweeps.plan import sensitivity_rows
from sweeps.space import FACTORS, Space, SpaceError, dimension_field, experiments, load_space

SHIPPED = list(itertools.product(("digits", "mnist"), (False, True)))


def test_the_shipped_experiments() -> None:
    assert experiments() == ("digits", "mnist")


@pytest.mark.parametrize(("name", "quick"), SHIPPED)
def test_every_level_of_a_shipped_space_is_a_valid_trial(name: str, quick: bool) -> None:
    space = load_space(name, quick=quick)
    assert set(space.cuts) == set(FACTORS)
    for n in space.train_sizes:
        rows = sensitivity_rows(space, space.base_config(n))
        assert len(rows) == 1 + sum(map(len, space.cuts.values()))
        assert {row.config.dataset for row in rows} == {name}
        assert {row.config.train_size for row in rows} == {n}


@pytest.mark.parametrize(("name", "quick"), SHIPPED)
def test_every_corner_of_a_shipped_search_is_a_valid_trial(name: str, quick: bool) -> None:
    space = load_space(name, quick=quick)
    assert len(space.search) == 6
    for n in space.train_sizes:
        base = space.base_config(n).replace(seeds=space.search_seeds)
        for corner in itertools.product(*space.search.values()):
            values = dict(zip(space.search, corner, strict=True))
            changes = {
                dimension_field(k): 10.0 ** float(str(v)) if k.startswith("log10_") else v
                for k, v in values.items()
            }
            config = base.replace(**changes)
            assert config.alpha == values["alpha"]


def test_quick_is_smaller_and_wins_over_the_sizes() -> None:
    space, quick = load_space("mnist"), load_space("mnist", quick=True)
    assert set(quick.train_sizes) < set(space.train_sizes)
    assert len(quick.seeds) < len(space.seeds)
    assert len(quick.search_seeds) < len(space.search_seeds)
    assert quick.trials < space.trials
    assert quick.base_config(100).steps == quick.base_config(1000).steps
    assert quick.base_config(100).steps < space.base_config(100).steps
    for factor, levels in quick.cuts.items():
        assert 0 < len(levels) < len(space.cuts[factor])


def test_the_shipped_baseline_is_the_papers() -> None:
    config = load_space("mnist").base_config(1000)
    assert (config.alpha, config.beta, config.gamma) == (0.5, 1.0, 0.01)
    assert str(config.temperature) == "exponential 1→0.1"
    assert config.seeds == (0, 1, 2, 3, 4)


def test_options_override_the_file() -> None:
    space = load_space("mnist", train_sizes=(300, 100, 300), seeds=7, trials=2)
    assert space.train_sizes == (300, 100)
    assert space.seeds == tuple(range(7))
    assert space.search_seeds == (0, 1)
    assert space.trials == 2
    assert space.base_config(300).train_size == 300
    assert space.base_config(300).seeds == tuple(range(7))


def test_the_search_has_no_more_seeds_than_the_cells() -> None:
    assert load_space("mnist", seeds=1).search_seeds == (0,)


def test_set_may_name_size_and_seeds() -> None:
    space = load_space("mnist", changes={"train_size": 300, "seeds": (4, 9, 7)})
    assert space.train_sizes == (300,)
    assert space.seeds == (4, 9, 7)
    assert space.search_seeds == (4, 9)
    assert not {"train_size", "seeds"} & space.fixed.keys()


def test_set_wins_over_the_values_of_a_size_and_of_quick() -> None:
    space = load_space("mnist", changes={"steps": 700})
    assert [space.base_config(n).steps for n in space.train_sizes] == [700, 700, 700]
    assert [space.base_config(n).batch_size for n in space.train_sizes] == [50, 50, 100]
    quick = load_space("mnist", quick=True, changes={"steps": 700})
    assert quick.base_config(100).steps == 700


@pytest.mark.parametrize("factor", ["alpha", "beta", "gamma"])
def test_a_set_factor_is_neither_searched_nor_cut(factor: str) -> None:
    free, space = load_space("mnist"), load_space("mnist", changes={factor: 0.25})
    dimension = factor if factor == "alpha" else f"log10_{factor}"
    assert free.search.keys() - space.search.keys() == {dimension}
    assert free.cuts.keys() - space.cuts.keys() == {factor}
    assert getattr(space.base_config(100), factor) == 0.25


@pytest.mark.parametrize(
    ("field", "value", "dimension"),
    [("tau_start", 2.0, "log10_tau_start"), ("tau_kind", "linear", "tau_kind")],
)
def test_a_set_part_of_tau_removes_its_dimension_and_the_whole_cut(
    field: str, value: object, dimension: str
) -> None:
    free, space = load_space("mnist"), load_space("mnist", changes={field: value})
    assert free.search.keys() - space.search.keys() == {dimension}
    assert free.cuts.keys() - space.cuts.keys() == {"tau"}
    assert getattr(space.base_config(100), field) == value


def test_a_set_field_that_is_no_factor_leaves_search_and_cuts() -> None:
    free, space = load_space("mnist"), load_space("mnist", changes={"samples": 3})
    assert (free.search, free.cuts) == (space.search, space.cuts)
    assert space.base_config(100).samples == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": -1}, "seeds=-1"),
        ({"trials": 0}, "trials=0"),
        ({"train_sizes": (5,)}, "train_size=5 "),
        ({"train_sizes": (5000,)}, "train_size=5000 "),
        ({"train_sizes": (50,), "changes": {"train_size": 50}}, "train_size is given twice"),
        ({"seeds": 2, "changes": {"seeds": (0, 1)}}, "seeds are given twice"),
        ({"changes": {"seeds": (3, 3)}}, r"seeds=\(3, 3\)"),
        ({"changes": {"seeds": ()}}, r"seeds=\(\)"),
        ({"changes": {"dataset": "mnist"}}, "dataset='mnist'.*'digits'"),
        ({"changes": {"alpha": 1.5}}, r"alpha=1\.5.*\[0, 1\]"),
        ({"changes": {"beta": 0.0}}, r"beta=0\.0.*above 0"),
        ({"changes": {"tau_end": -1.0}}, r"tau_end=-1\.0.*above 0"),
        ({"changes": {"tau_kind": "square"}}, "tau_kind='square'.*exponential"),
        ({"changes": {"evaluations": 301}}, "evaluations=301"),
        ({"changes": {"alhpa": 0.5}}, "'alhpa'.*did you mean alpha"),
    ],
)
def test_a_value_no_trial_can_have_is_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        load_space("digits", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cifar", "", "../spaces/mnist", "mnist.toml"])
def test_an_unknown_experiment_lists_the_known_ones(name: str) -> None:
    with pytest.raises(SpaceError, match=f"{name!r} is not.*digits, mnist"):
        load_space(name)


def test_a_level_out_of_range_is_named(space: Space) -> None:
    wrong = replace(space, cuts={"alpha": ({"alpha": 2.0},)})
    with pytest.raises(SpaceError, match=r"alpha=2\.0"):
        sensitivity_rows(wrong, wrong.base_config(50))


def test_a_dimension_sets_a_field() -> None:
    names = {field.name for field in FIELDS}
    assert dimension_field("log10_beta") == "beta"
    for dimension in load_space("mnist").search:
        assert dimension_field(dimension) in names
