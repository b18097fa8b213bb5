"""Spaces: the shipped files are valid, options lie over them, errors name the value."""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import replace

import pytest

from kdgan_core.config import FIELDS
from kdgan_core.names import RECOMMENDERS, TAG_DATASETS
from sweeps.design import sensitivity_rows
from sweeps.factors import FACTORS, SpaceError
from sweeps.loading import SPACES, experiments, load_space
from sweeps.space import Space, branches, dimension_field

EVERYTHING = {
    "alpha": 0.5, "beta": 1.0, "gamma": 1.0, "tau_kind": "constant", "tau_start": 1.0,
}  # fmt: skip
SHIPPED = list(itertools.product(experiments(), (False, True)))


def test_the_shipped_experiments() -> None:
    images, posts = ("cifar10", "digits", "mnist"), set(TAG_DATASETS)
    assert set(experiments()) == {*images, *posts}
    assert list(experiments()) == sorted(experiments())


def test_a_space_lays_its_own_over_what_it_extends() -> None:
    """A table is laid over a table, a list replaces a list, and only the file's own are there."""
    base = tomllib.loads((SPACES / "common" / "posts.toml").read_text())
    own = tomllib.loads((SPACES / "tags.toml").read_text())
    assert own["extends"] == "common/posts"
    for name in TAG_DATASETS:
        space = load_space(name)
        assert space.dataset == space.fixed["dataset"] == name
        assert space.has_tags
    tags, plain = load_space("tags"), load_space("flickr8k")
    assert tags.fixed["steps"] == own["fixed"]["steps"] != base["fixed"]["steps"]
    assert tags.fixed["batch_size"] == base["fixed"]["batch_size"]
    assert [level["alpha"] for level in tags.cuts["alpha"]] == own["cuts"]["alpha"]
    assert tags.cuts["beta"] == plain.cuts["beta"]
    assert not load_space("mnist").has_tags


def test_the_recommenders_are_lines_of_the_table_without_a_search() -> None:
    for name in TAG_DATASETS:
        space = load_space(name, "methods")
        assert set(RECOMMENDERS) <= set(space.chosen)
        for branch, own in branches(space, "methods").items():
            config = own.base_config(branch.train_size)
            assert config.train_size == 0
            if branch.arm in RECOMMENDERS:
                assert (own.search, own.baseline_from, config.rounds) == ({}, "paper", 1)
            else:
                assert own.search


def test_a_file_of_tags_goes_with_the_experiment_tags() -> None:
    assert load_space("tags", changes={"tags_file": "/a/b.parquet"}).tags_file == "/a/b.parquet"
    assert load_space("tags").tags_file == ""
    with pytest.raises(SpaceError, match="goes with dataset='tags' alone"):
        load_space("flickr8k", changes={"tags_file": "/a/b.parquet"})


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


@pytest.mark.parametrize("seeds", [1, 2, 9])
def test_the_search_stays_as_it_is_when_seeds_are_added(seeds: int) -> None:
    assert load_space("mnist", seeds=seeds).search_seeds == (0, 1)


def test_set_may_name_size_and_seeds() -> None:
    space = load_space("mnist", changes={"train_size": 300, "seeds": (4, 9, 7)})
    assert space.train_sizes == (300,)
    assert space.seeds == (4, 9, 7)
    assert space.search_seeds == (4, 9)
    assert space.changes["seeds"] == (4, 9)  # another one makes another search
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
    ("field", "value", "dimensions"),
    [
        ("tau_start", 2.0, {"log10_tau_start"}),
        ("tau_kind", "linear", {"tau_kind"}),
        ("tau_kind", "constant", {"tau_kind", "log10_tau_end"}),
    ],
)
def test_a_set_part_of_tau_removes_its_dimension_and_the_whole_cut(
    field: str, value: object, dimensions: set[str]
) -> None:
    free, space = load_space("mnist"), load_space("mnist", changes={field: value})
    assert free.search.keys() - space.search.keys() == dimensions
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
        ({"baseline": "worst"}, "'worst' is not one of best, paper"),
        ({"baseline": {"steps": 9}}, "--baseline steps: only factors.*--set steps"),
        ({"baseline": {"beta": -1.0}}, r"beta=-1\.0"),
        ({"baseline": {"beta": 2.0}, "changes": {"beta": 1.0}}, "beta is given twice"),
        ({"factors": ("delta",)}, "'delta' is not one of alpha, beta, gamma, tau"),
        ({"factors": ("tau",), "changes": {"tau_end": 0.5}}, "tau cannot be varied: --set fixes"),
        ({"mode": "grid", "factors": ("beta",)}, "a grid has two factors"),
        ({"mode": "grid", "factors": ("beta", "beta")}, "a grid has two factors"),
        ({"mode": "grid", "factors": ("alpha", "beta", "tau")}, "a grid has two factors"),
        ({"mode": "grid", "changes": {"beta": 1.0}}, r"two factors.*free: alpha, gamma, tau\)"),
        ({"mode": "search", "changes": EVERYTHING}, "--mode search has nothing to vary"),
        ({"mode": "sobol", "changes": EVERYTHING}, "--mode sobol has nothing to vary"),
    ],
)
def test_a_value_no_trial_can_have_is_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        load_space("digits", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cifar", "", "../spaces/mnist", "mnist.toml"])
def test_an_unknown_experiment_lists_the_known_ones(name: str) -> None:
    with pytest.raises(SpaceError, match=f"{name!r} is not.*cifar10, digits, flickr8k, mnist"):
        load_space(name)


def test_a_level_out_of_range_is_named(space: Space) -> None:
    wrong = replace(space, cuts={"alpha": ({"alpha": 2.0},)})
    with pytest.raises(SpaceError, match=r"alpha=2\.0"):
        sensitivity_rows(wrong, wrong.base_config(50))


def test_factors_are_chosen_and_ordered() -> None:
    assert list(load_space("mnist", factors=("tau", "alpha", "tau")).cuts) == ["tau", "alpha"]
    assert list(load_space("mnist", "grid").cuts) == ["beta", "gamma"]
    assert list(load_space("mnist", "grid", factors=("tau", "alpha")).cuts) == ["tau", "alpha"]
    assert list(load_space("mnist", "sensitivity").cuts) == ["alpha", "beta", "gamma", "tau"]


def levels_of(space: Space, factor: str) -> list[object]:
    """Values of a factor's levels, tuples for tau."""
    found = [tuple(level.values()) for level in space.cuts[factor]]
    assert {tuple(level) for level in space.cuts[factor]} == {FACTORS[factor]}
    return list(found) if factor == "tau" else [value for (value,) in found]


def test_levels_of_the_authors() -> None:
    space, printed = load_space("mnist", levels=("authors",)), load_space("mnist")
    assert levels_of(space, "beta") == [0.125, 0.25, 0.5, 1, 2, 4, 8]
    assert levels_of(space, "gamma") == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
    assert [space.cuts[f] for f in ("alpha", "tau")] == [printed.cuts[f] for f in ("alpha", "tau")]


def test_a_later_word_for_levels_has_its_way() -> None:
    def beta(*levels: str) -> list[object]:
        return levels_of(load_space("mnist", levels=levels), "beta")

    printed = levels_of(load_space("mnist"), "beta")
    assert beta("printed") == beta("authors", "printed") == beta("beta=3", "printed") == printed
    assert beta("printed", "authors") == beta("authors")
    assert beta("authors", "beta = 3, 1e2") == [3.0, 100.0]
    assert beta("beta=3", "beta=4") == [4.0]
    assert beta("gamma=3") == printed


def test_levels_of_a_quick_space_are_its_own() -> None:
    quick = load_space("mnist", quick=True)
    words = ("authors", "printed")
    assert load_space("mnist", quick=True, levels=words).cuts == quick.cuts


@pytest.mark.parametrize(
    ("word", "level"),
    [
        ("tau=linear:2:0.5", ("linear", 2.0, 0.5)),
        ("tau= constant:3 ", ("constant", 3.0, 3.0)),
        ("tau=constant:3:3", ("constant", 3.0, 3.0)),
        ("tau=cosine:1e1:1e-1,", ("cosine", 10.0, 0.1)),
    ],
)
def test_levels_of_tau(word: str, level: tuple[object, ...]) -> None:
    assert levels_of(load_space("digits", levels=(word,)), "tau") == [level]


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("", "--levels : write printed, or factor=level,level"),
        ("beta", "--levels beta: write printed, or"),
        ("authors", "--levels authors: write printed, or"),  # the digits have none
        ("delta=1", "--levels delta=1: .*alpha, beta, gamma, tau"),
        ("tau_end=1", "--levels tau_end=1: write"),
        ("beta=", "--levels beta= names no level"),
        ("beta= , ", "names no level"),
        ("beta=1,two", "--levels beta: 'two' is not a number"),
        ("beta=1;2", "'1;2' is not a number"),
        ("beta=1,0", r"beta=0\.0 is out of range"),
        ("beta=nan", "beta=nan is not a finite number"),
        ("alpha=0.5,1.5", r"alpha=1\.5 is out of range"),
        ("tau=linear", "'linear' is not kind:start:end"),
        ("tau=linear:1", "'linear:1' is not kind:start:end"),
        ("tau=linear:1:2:3", "'linear:1:2:3' is not kind"),
        ("tau=linear:1:x", "'linear:1:x' is not kind"),
        ("tau=constant", "'constant' is not kind:start:end.* or constant:1"),
        ("tau=constant:", "'constant:' is not kind"),
        ("tau=square:1:2", "tau_kind='square' is not one of exponential"),
        ("tau=linear:1:-2", r"tau_end=-2\.0 is out of range"),
    ],
)
def test_a_word_for_levels_that_means_nothing_is_named(word: str, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        load_space("digits", "sensitivity", levels=(word,))


def test_levels_without_effect_are_named() -> None:
    word = ("gamma=1,2",)
    with pytest.raises(SpaceError, match=r"--levels gamma=.* has no effect: --set fixes it"):
        load_space("digits", levels=word, changes={"gamma": 0.5})
    with pytest.raises(SpaceError, match=r"--levels gamma=.* not among the factors varied"):
        load_space("digits", levels=word, factors=("alpha",))
    with pytest.raises(SpaceError, match="not among the factors varied"):
        load_space("digits", "grid", levels=("tau=constant:1",))


@pytest.mark.parametrize(
    ("mode", "option", "kind"),
    [
        ("study", None, "best"), ("study", "paper", "paper"), ("sensitivity", None, "paper"),
        ("sensitivity", "best", "best"), ("grid", None, "paper"), ("baseline", None, "paper"),
        ("study", {"beta": 3.0}, "named"), ("baseline", {"beta": 3.0}, "named"),
    ],
)  # fmt: skip
def test_where_the_cells_stand(mode: str, option: str | dict[str, object], kind: str) -> None:
    space = load_space("mnist", mode, baseline=option)
    assert space.baseline_from == kind
    assert space.base_config(100).beta == (3.0 if kind == "named" else 1.0)
    assert space.base_config(100).gamma == 0.01


def test_a_study_with_nothing_to_search_stands_on_the_papers_baseline() -> None:
    space = load_space("mnist", changes=EVERYTHING)
    assert (space.search, space.cuts, space.baseline_from) == ({}, {}, "paper")


def test_a_sobol_design_has_more_trials_than_a_search_and_few_in_a_rehearsal() -> None:
    assert load_space("mnist", "sobol").trials == 64
    assert load_space("mnist", "sobol", quick=True).trials == 8
    assert load_space("mnist", "sobol", trials=5).trials == 5
    assert load_space("mnist", "search").trials == 30


def test_a_dimension_sets_a_field() -> None:
    names = {field.name for field in FIELDS}
    assert dimension_field("log10_beta") == "beta"
    for dimension in load_space("mnist").search:
        assert dimension_field(dimension) in names
