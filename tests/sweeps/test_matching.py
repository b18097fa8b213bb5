"""Matched compute: what is counted, and that no arm gets more than KDGAN, nor a round less."""

from __future__ import annotations

import math
import runpy
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kdgan_core import TrialConfig
from kdgan_core.methods import METHODS, method_of
from kdgan_core.names import RECOMMENDERS
from sweeps.arms import Branch
from sweeps.factors import SpaceError
from sweeps.loading import load_space
from sweeps.matching import (
    CLASSIFIER,
    DISCRIMINATOR,
    FIXED_TEACHER,
    PRETRAINED,
    TEACHER,
    Price,
    compute,
    match,
    pretrained,
    round_updates,
    seconds_price,
    updates_price,
)
from sweeps.space import Space, branches

ROLES = (CLASSIFIER, TEACHER, DISCRIMINATOR)
KDGAN = TrialConfig(
    dataset="digits", architecture="small", valid_size=400, train_size=50, steps=100,
    pretrain_steps=30, evaluations=2,
)  # fmt: skip
SOLO = KDGAN.replace(method="supervised")
EVERY = [KDGAN.replace(method=method) for method in METHODS] + [SOLO.replace(player="teacher")]


def test_the_table_of_players_is_the_cores() -> None:
    assert set(PRETRAINED) | {"supervised"} == {*METHODS, *RECOMMENDERS}
    assert not any(PRETRAINED[name] for name in RECOMMENDERS)
    for config in EVERY:
        method = method_of(config)
        roles = {*method.players, *method.frozen} if method.is_pretrained else set()
        assert set(pretrained(config)) == roles
        assert (config.method in FIXED_TEACHER) == bool(method.frozen)


@pytest.mark.parametrize("config", EVERY, ids=lambda config: f"{config.method} {config.player}")
def test_updates_are_those_that_a_trial_makes(config: TrialConfig) -> None:
    from kdgan_core.data import load_dataset
    from sweeps.cost import untrained_replica

    odd = config.replace(discriminator_steps=3, teacher_steps=2, classifier_steps=4, samples=2)
    replica = untrained_replica(odd, load_dataset("digits", None), "cpu")
    replica.train_to(1)
    assert sum(replica.updates.values()) == round_updates(odd)


def test_updates_of_all_players_are_counted() -> None:
    config = KDGAN.replace(
        discriminator_steps=3, teacher_steps=2, classifier_steps=4, teacher_pretrain_steps=7
    )
    assert compute(config, updates_price(config)) == (30 + 7 + 30) + 25 * (3 + 2 + 4)
    codis = config.replace(method="codis")
    assert compute(codis, updates_price(codis)) == 25 * (2 + 4)
    teacher = config.replace(method="supervised", player="teacher")
    assert compute(teacher, updates_price(teacher)) == 7 + 25 * 4


def test_seconds_are_those_of_each_players_pretraining_and_of_the_rounds() -> None:
    price = Price({CLASSIFIER: 0.1, TEACHER: 0.2, DISCRIMINATOR: 0.5}, 2.0)
    assert compute(KDGAN, price) == pytest.approx(30 * 0.8 + 100 * 2.0)
    assert compute(KDGAN.replace(method="nagan"), price) == pytest.approx(30 * 0.6 + 100 * 2.0)


def test_a_head_start_of_the_discriminator_counts() -> None:
    price = Price({CLASSIFIER: 1.0, TEACHER: 2.0, DISCRIMINATOR: 3.0}, round=5.0)
    warm = KDGAN.replace(discriminator_warmup=7)
    assert compute(warm, price) == compute(KDGAN, price) + 7 * 3.0
    assert compute(SOLO.replace(discriminator_warmup=7), price) == compute(SOLO, price)


def test_a_fixed_teacher_has_all_updates_of_kdgans_and_c_the_rest() -> None:
    budget = compute(KDGAN, updates_price(KDGAN))
    for method in FIXED_TEACHER:
        arm = KDGAN.replace(method=method)
        found = match(arm, updates_price(arm), KDGAN, budget)
        assert found.teacher_pretrain_steps == 30 + 100
        assert found.steps == 3 * 30 + 3 * 100 - (30 + 100) - 30
        assert found == arm.replace(steps=found.steps, teacher_pretrain_steps=130)


def test_the_others_have_it_all_as_rounds_of_their_own() -> None:
    budget = compute(KDGAN, updates_price(KDGAN))
    wanted = {"nagan": (390 - 60) // 2, "codis": 390 // 2, "supervised": 390 - 30}
    for method, steps in wanted.items():
        arm = KDGAN.replace(method=method)
        assert match(arm, updates_price(arm), KDGAN, budget) == arm.replace(steps=steps)


STEPS = st.integers(1, 4)
SECONDS = st.floats(1e-4, 1.0)
RECIPES = st.builds(
    lambda d, t, c, rounds, pretrain, teacher: KDGAN.replace(
        discriminator_steps=d, teacher_steps=t, classifier_steps=c, steps=c * rounds,
        pretrain_steps=pretrain, teacher_pretrain_steps=teacher, evaluations=1,
    ),
    STEPS, STEPS, STEPS, st.integers(1, 500), st.integers(0, 300), st.integers(0, 300),
)  # fmt: skip


@given(
    reference=RECIPES, recipe=RECIPES, which=st.integers(0, len(EVERY) - 1),
    seconds=st.none() | st.tuples(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS),
)  # fmt: skip
def test_no_arm_has_more_than_kdgan_nor_a_round_less(
    reference: TrialConfig, recipe: TrialConfig, which: int, seconds: tuple[float, ...] | None
) -> None:
    arm = recipe.replace(method=EVERY[which].method, player=EVERY[which].player)
    price, whole = updates_price(arm), updates_price(reference)
    if seconds:
        players = dict(zip(ROLES, seconds, strict=False))
        price, whole = Price(players, seconds[3]), Price(players, seconds[4])
    budget = compute(reference, whole)
    try:
        found = match(arm, price, reference, budget)
    except SpaceError:
        assume(False)
    total = compute(found, price)
    assert total <= budget
    assert total + price.round > budget or math.isclose(total + price.round, budget)
    assert found == match(arm, price, reference, budget)
    if arm.method in FIXED_TEACHER:
        updates = reference.pretraining("teacher") + reference.rounds * reference.teacher_steps
        assert found.teacher_pretrain_steps == updates
    assert found.replace(
        steps=arm.steps, teacher_pretrain_steps=arm.teacher_pretrain_steps
    ) == arm  # fmt: skip


def test_no_compute_left_for_a_round_is_said() -> None:
    arm = KDGAN.replace(method="nagan", pretrain_steps=195, matched="steps")
    with pytest.raises(SpaceError, match=r"matched=steps: nagan at n=50 .* lower its pretrain_st"):
        match(arm, updates_price(arm), KDGAN, 390)
    assert match(arm, updates_price(arm), KDGAN, 394).steps == 2


TABLE = {
    "pretrain_classifier": 0.001, "pretrain_teacher": 0.004, "pretrain_discriminator": 0.004,
    "round": {"kdgan": 0.02, "mimic": 0.004},
}  # fmt: skip


def test_a_space_file_says_the_seconds() -> None:
    price = seconds_price(TABLE, "mimic", "there")
    assert price == Price({CLASSIFIER: 0.001, TEACHER: 0.004, DISCRIMINATOR: 0.004}, 0.004)


@pytest.mark.parametrize(
    ("table", "arm", "what"),
    [
        (None, "mimic", "mimic"), (TABLE, "codis", "codis"), ({**TABLE, "round": {}}, "a", "a"),
        ({k: v for k, v in TABLE.items() if k != "round"}, "mimic", "round"),
        ({k: v for k, v in TABLE.items() if k != "pretrain_teacher"}, "mimic", "pretrain_teacher"),
    ],
)  # fmt: skip
def test_a_missing_line_is_named(table: dict[str, object] | None, arm: str, what: str) -> None:
    with pytest.raises(SpaceError, match=f"matched=seconds: no {what} there"):
        seconds_price(table, arm, "there")


def matched(kind: str, **options: object) -> dict[str, TrialConfig]:
    space = load_space("mnist", "methods", changes={"matched": kind}, **options)  # type: ignore
    found = branches(space, "methods").items()
    return {branch.name: own.base_config(branch.train_size) for branch, own in found}


@pytest.mark.parametrize("quick", [False, True])
def test_the_shipped_tables_matched_in_steps(quick: bool) -> None:
    space = load_space("mnist", "methods", quick=quick)
    free = {b.name: own.base_config(b.train_size) for b, own in branches(space, "methods").items()}
    found = matched("steps", quick=quick)
    for name, config in found.items():
        reference = found[f"{config.train_size} kdgan"]
        assert config.matched == "steps"
        if name.endswith("kdgan"):
            assert config == free[name].replace(matched="steps")
        budget = compute(reference, updates_price(reference))
        assert 0 <= budget - compute(config, updates_price(config)) < round_updates(config)


def test_the_reference_need_not_be_among_the_chosen_arms() -> None:
    alone, among = matched("steps", arms=("mimic",)), matched("steps")
    assert alone == {name: config for name, config in among.items() if name.endswith("mimic")}


def test_a_set_number_of_steps_is_kdgans() -> None:
    space = load_space("mnist", "methods", changes={"matched": "steps", "steps": 100})
    for branch, own in branches(space, "methods").items():
        config = own.base_config(branch.train_size)
        assert (config.steps == 100) == (branch.arm == "kdgan"), branch


def test_a_table_matched_in_seconds(table: Space) -> None:
    """KDGAN: 20 * (1 + 4 + 4) + 20 * 20 ms = 580 ms; mimic's T takes (20 + 20) * 4 of them, its C
    20 in pretraining, and the rest are 400 / 3 rounds; the teacher's are 500 / 5."""
    milliseconds = {
        50: {
            "pretrain_classifier": 1, "pretrain_teacher": 4, "pretrain_discriminator": 4,
            "round": {"kdgan": 20, "mimic": 3, "teacher": 5},
        }
    }  # fmt: skip
    space = replace(
        table, train_sizes=(50,), fixed={**table.fixed, "matched": "seconds"},
        update_seconds=milliseconds,
    )  # fmt: skip
    found = {b.arm: own.base_config(50) for b, own in branches(space, "methods").items()}
    assert {arm: config.steps for arm, config in found.items()} == {
        "kdgan": 20, "mimic": 400 // 3, "teacher": 500 // 5,
    }  # fmt: skip
    assert found["mimic"].teacher_pretrain_steps == 40
    searched = branches(space, "methods")[Branch(50, "mimic")].search
    assert searched == table.arms["mimic"].search  # at as many rounds
    unmeasured = replace(space, chosen=("kdgan+ema",))
    with pytest.raises(SpaceError, match=r"no kdgan\+ema in \[update_seconds.50\] of toy.toml"):
        branches(unmeasured, "methods")


def test_seconds_that_nobody_measured() -> None:
    words = r"no \w+ in \[update_seconds.77\] of mnist.toml: .* benchmarks/updates.py mnist --tra"
    with pytest.raises(SpaceError, match=words):
        matched("seconds", train_sizes=(77,))


def test_seconds_are_not_those_of_another_schedule() -> None:
    changes = {"matched": "seconds", "schedule": "fused"}
    with pytest.raises(SpaceError, match="schedule='alternating', not 'fused': use matched=steps"):
        branches(load_space("mnist", "methods", changes=changes), "methods")


def test_what_the_benchmark_prints_is_what_a_space_reads(table: Space) -> None:
    from kdgan_core.data import load_dataset

    benchmark = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "updates.py"))
    recipes = benchmark["recipes"](replace(table, chosen=tuple(table.arms)), 50)
    assert list(recipes) == list(table.arms)
    dataset = load_dataset("digits", None)
    players, rounds = benchmark["measure"](recipes, dataset, "cpu", 0.001, 1)
    read = tomllib.loads(benchmark["toml"](50, players, rounds))["update_seconds"]["50"]
    for arm in recipes:
        price = seconds_price(read, arm, "there")
        assert 0.0 < price.round < 10.0
        assert all(0.0 < seconds < 10.0 for seconds in price.pretraining.values())
