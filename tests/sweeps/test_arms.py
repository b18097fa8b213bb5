"""Tables of methods: the shipped ones are valid, options lie over them, errors name the value."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from kdgan_core import TrialConfig
from sweeps.arms import TUNING_SEEDS_FROM, Arm, Branch, choose_arms, read_methods
from sweeps.factors import SpaceError
from sweeps.loading import load_space
from sweeps.space import Space, branches, dimension_field

TABLE_1 = ("kdgan", "nagan", "distn", "mimic", "noisy", "codis", "supervised", "teacher")
SHIPPED = list(itertools.product(("cifar10", "digits", "mnist"), (False, True)))


def arms_of(space: Space, n: int) -> dict[str, Space]:
    found = branches(space, "methods").items()
    return {branch.arm: own for branch, own in found if branch.train_size == n}


def configs(name: str = "mnist", n: int = 100, **options: object) -> dict[str, TrialConfig]:
    """The recipes of a shipped table's arms at one size."""
    space = load_space(name, "methods", **options)  # type: ignore[arg-type]
    return {arm: own.base_config(n) for arm, own in arms_of(space, n).items()}


@pytest.mark.parametrize(("name", "quick"), SHIPPED)
def test_a_shipped_table_has_the_papers_lines_and_two_more(name: str, quick: bool) -> None:
    space = load_space(name, "methods", quick=quick)
    assert space.chosen == TABLE_1
    for n in space.train_sizes:
        for arm, own in arms_of(space, n).items():
            config = own.base_config(n)
            wanted = "supervised" if arm == "teacher" else arm
            assert (config.method, config.train_size) == (wanted, n)
            assert (config.player == "teacher") == (arm == "teacher")
            assert config.seeds == tuple(range(2 if quick else 10))
            assert config.authors_statistic
            assert own.trials == (2 if quick else 6)


@pytest.mark.parametrize(("name", "quick"), SHIPPED)
def test_every_corner_of_a_shipped_arms_search_is_a_trial_and_its_recipe_is_inside(
    name: str, quick: bool
) -> None:
    everything = load_space(name, "methods").arms
    space = load_space(name, "methods", quick=quick, arms=tuple(everything))
    for branch, own in branches(space, "methods").items():
        base = own.base_config(branch.train_size)
        assert 2 <= len(own.search) <= 4
        for corner in itertools.product(*own.search.values()):
            values = {
                dimension_field(k): 10.0 ** float(str(v)) if k.startswith("log10_") else v
                for k, v in zip(own.search, corner, strict=True)
            }
            assert base.replace(**values).method == base.method
        for dimension, ends in own.search.items():
            low, high = (float(str(end)) for end in ends)
            value = getattr(base, dimension_field(dimension))
            if dimension.startswith("log10_"):
                low, high = 10.0**low, 10.0**high
            assert low <= value <= high, (branch, dimension)


def test_tuning_draws_other_seeds_than_the_table() -> None:
    space = load_space("mnist", "methods", seeds=100)
    assert space.search_seeds == (TUNING_SEEDS_FROM, TUNING_SEEDS_FROM + 1)
    assert not set(space.search_seeds) & set(space.seeds)
    listed = load_space("mnist", "methods", changes={"seeds": (7, 3)})
    assert (listed.seeds, listed.search_seeds) == ((7, 3), space.search_seeds)


def test_what_lies_over_what() -> None:
    """A size's recipe over all sizes', an arm over both, its size over that; --set over all."""
    arm = Arm(
        {"method": "kdgan", "samples": 1, "positives": 1, "negatives": 1, "beta": 1.0},
        {50: {"positives": 2, "negatives": 2, "beta": 2.0}}, {"beta": (1.0, 2.0)},
    )  # fmt: skip
    space = replace(
        load_space("digits", "methods"), arms={"a": arm}, chosen=("a",), changes={"beta": 5.0},
        sizes={50: {"samples": 3, "teacher_steps": 3}, 200: {"beta": 4.0}},
    )  # fmt: skip
    space = replace(space, fixed={**space.fixed, "teacher_steps": 4, "beta": 5.0})
    small, large = (own.base_config(b.train_size) for b, own in branches(space, "methods").items())
    assert (small.samples, small.positives, small.negatives, small.beta) == (1, 2, 2, 5.0)
    assert (large.samples, large.positives, large.negatives, large.beta) == (1, 1, 1, 5.0)
    assert (small.teacher_steps, large.teacher_steps) == (3, 4)
    assert [own.search for own in branches(space, "methods").values()] == [{}, {}]


def test_a_rehearsal_shortens_recipes_but_does_not_change_what_an_arm_is() -> None:
    table = {
        "methods": {
            "seeds": 9, "search_seeds": 2, "trials": 6, "fixed": {"steps": 9, "samples": 9},
            "sizes": {"50": {"steps": 8, "evaluations": 8, "samples": 8}},
        },
        "arms": {"a": {"fixed": {"steps": 7}, "sizes": {"50": {"steps": 6, "samples": 6}}}},
        "quick": {"fixed": {"steps": 5}, "methods": {"seeds": 2, "fixed": {"evaluations": 1}}},
    }  # fmt: skip
    whole, quick = read_methods(table, False), read_methods(table, True)
    assert (whole.seeds, whole.search_seeds, whole.trials) == (9, 2, 6)
    assert (quick.seeds, quick.search_seeds, quick.trials) == (2, 2, 6)
    assert whole.fixed == {"steps": 9, "samples": 9}
    assert quick.fixed == {"samples": 9, "evaluations": 1}
    assert quick.sizes == {50: {"samples": 8}}
    assert whole.arms["a"].sizes == {50: {"steps": 6, "samples": 6}}
    assert quick.arms["a"] == Arm({"steps": 7}, {50: {"samples": 6}}, {})


def test_a_set_field_is_that_of_every_arm_and_tuned_in_none() -> None:
    free = load_space("mnist", "methods")
    space = load_space("mnist", "methods", changes={"classifier_dropout": 0.3, "steps": 77})
    for n in space.train_sizes:
        for arm, own in arms_of(space, n).items():
            config = own.base_config(n)
            assert (config.classifier_dropout, config.steps) == (0.3, 77)
            before = arms_of(free, n)[arm].search
            assert before.keys() - own.search.keys() <= {"classifier_dropout"}
            assert "classifier_dropout" not in own.search
            assert "log10_learning_rate" in own.search


def test_what_makes_an_arm_is_not_tuned() -> None:
    """A variant has the search of what it is a variant of, but for what it fixes."""
    space = load_space("mnist", "methods")
    gentle = replace(space.arms["kdgan+ema"], fixed={"method": "kdgan", "alpha": 0.2, "beta": 3.0})
    space = replace(space, arms={**space.arms, "kdgan+gentle": gentle}, chosen=("kdgan+gentle",))
    for own in branches(space, "methods").values():
        assert set(gentle.search) - set(own.search) == {"alpha", "log10_beta"}


def test_without_trials_nothing_is_searched() -> None:
    space = load_space("mnist", "methods", trials=0)
    assert (space.trials, space.baseline_from) == (0, "paper")
    for own in branches(space, "methods").values():
        assert (own.search, own.baseline_from) == ({}, "paper")


def test_arms_are_chosen_and_keep_the_files_order() -> None:
    arms = load_space("mnist", "methods").arms
    assert choose_arms(arms, ()) == TABLE_1
    assert choose_arms(arms, ("mimic", "kdgan", "mimic")) == ("kdgan", "mimic")
    assert choose_arms(arms, ("kdgan+ema",)) == ("kdgan+ema",)
    assert configs(arms=("mimic", "codis")).keys() == {"mimic", "codis"}


@pytest.mark.parametrize("name", ["cifar10", "digits", "mnist"])
def test_an_optional_arm_is_kdgan_but_for_what_it_is_named_after(name: str) -> None:
    arms = load_space(name, "methods").arms
    optional = tuple(arm for arm in arms if arms[arm].optional)
    assert "kdgan+ema" in optional
    for n in load_space(name).train_sizes:
        found = configs(name, n, arms=("kdgan", *optional))
        kdgan = found.pop("kdgan")
        for arm, config in found.items():
            own = arms[arm].fixed.items() - arms["kdgan"].fixed.items()
            assert own and config == kdgan.replace(**dict(own))
            assert arms[arm].search == arms["kdgan"].search
        assert len(set(found.values())) == len(found)


def test_a_variant_has_all_of_its_arms_but_what_it_changes() -> None:
    table: dict[str, Any] = {
        "methods": {"seeds": 2, "search_seeds": 1, "trials": 1},
        "arms": {
            "kdgan": {
                "fixed": {"method": "kdgan", "beta": 2.0},
                "sizes": {"100": {"alpha": 0.1, "gamma": 0.2}, "500": {"alpha": 0.3}},
                "search": {"alpha": [0.0, 1.0]},
            },
            "kdgan+slow": {
                "optional": True,
                "fixed": {"gamma": 0.9},
                "sizes": {"500": {"alpha": 0.4}, "900": {"alpha": 0.5}},
            },
        },
    }
    arms = read_methods(table, quick=False).arms
    assert arms["kdgan+slow"] == Arm(
        {"method": "kdgan", "beta": 2.0, "gamma": 0.9},
        {100: {"alpha": 0.1}, 500: {"alpha": 0.4}, 900: {"alpha": 0.5}},
        {"alpha": (0.0, 1.0)},
        optional=True,
    )
    assert arms["kdgan"].sizes[100] == {"alpha": 0.1, "gamma": 0.2} and not arms["kdgan"].optional
    table["arms"]["mimic+slow"] = table["arms"]["kdgan+slow"]
    with pytest.raises(
        SpaceError, match=r"mimic\+slow is a variant of mimic, which the file does"
    ):
        read_methods(table, quick=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arms": ("kdgna",)}, "--arms 'kdgna' is not one of kdgan, nagan, .*kdgan.ema"),
        ({"arms": ("",)}, "--arms '' is not one of"),
        ({"trials": -1}, "trials=-1 .* at least 0"),
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": 101}, "seeds from 100 on are those of the tuning"),
        ({"changes": {"seeds": (1, 100)}}, "seeds from 100 on"),
        ({"changes": {"seeds": ()}}, r"seeds=\(\)"),
        ({"changes": {"method": "mimic"}}, "--set method .* use --arms"),
        ({"changes": {"player": "teacher"}}, "--set player .* use --arms"),
        ({"changes": {"matched": "updates"}}, "matched='updates' is not one of none, steps, sec"),
        ({"changes": {"dataset": "mnist"}}, "dataset='mnist' is another experiment"),
        ({"changes": {"steps": 5}}, "evaluations=6 is more than the 5 rounds"),
        ({"train_sizes": (5000,)}, "train_size=5000"),
        ({"baseline": "best"}, "--baseline, --factors and --levels do not go with"),
        ({"baseline": {"beta": 2.0}}, "do not go with --mode methods"),
        ({"factors": ("beta",)}, "do not go with --mode methods"),
        ({"levels": ("printed",)}, "do not go with --mode methods"),
        ({"mode": "study", "arms": ("kdgan",)}, "--arms goes with --mode methods"),
        ({"mode": "sensitivity", "changes": {"matched": "steps"}}, "--set matched=steps goes"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        load_space("digits", **{"mode": "methods", **options})  # type: ignore[arg-type]


def test_matched_none_may_be_said_anywhere() -> None:
    assert load_space("digits", "baseline", changes={"matched": "none"}).fixed["matched"] == "none"


def test_a_file_without_arms_has_no_table() -> None:
    with pytest.raises(SpaceError, match="no table of methods"):
        read_methods({"arms": {}, "methods": {}}, False)


def test_a_branch_is_found_again_by_its_name() -> None:
    for branch in (Branch(50), Branch(50, "kdgan"), Branch(1000, "kdgan+ema"), Branch(9, "a b")):
        assert Branch.named(branch.name) == branch
    assert [str(Branch(1000)), str(Branch(1000, "mimic"))] == ["n=1,000", "n=1,000 mimic"]
    assert Branch(50).labels == ("", "") and Branch(50, "a").labels == ("method", "a")


def test_elsewhere_a_branch_is_a_size_with_the_whole_space(space: Space) -> None:
    for mode in ("study", "search", "sensitivity", "grid", "sobol", "baseline"):
        assert branches(space, mode) == {Branch(50): space, Branch(200): space}
