from __future__ import annotations

import math

import pytest
from handmade import Trial, make_runs, seeds, sensitivity
from handmade_designs import grid_trials
from handmade_methods import arm_trial

from analysis import summary
from analysis.agreement import Agreement, Fall
from analysis.contours import contours_info
from analysis.effects import Break, breaks_of, effects_of, factors_cut
from analysis.sensitivity import sensitivity_info
from analysis.table1 import table_info
from analysis.tables import best_rows


def cut(factor: str, level: float, *values: float, **changes: object) -> Trial:
    trial = Trial(seeds(*values), (sensitivity(factor, level),), **{factor: level})
    return trial._replace(**changes)


BASE = Trial(seeds(0.90, 0.88, 0.89, 0.91, 0.90))


def said(*trials: Trial) -> list[str]:
    return list(summary.what_matters(effects_of(sensitivity_info(make_runs(trials), "none"))))


def test_a_clear_order_is_sure() -> None:
    text, others, chance = said(
        BASE,
        cut("gamma", 10.0, 0.80, 0.78, 0.79, 0.80, 0.80),
        cut("gamma", 1.0, 0.85, 0.83, 0.84, 0.85, 0.85),
        cut("beta", 10.0, 0.895, 0.885, 0.895, 0.905, 0.895),
        cut("beta", 100.0, 0.90, 0.88, 0.89, 0.91, 0.895),
    )
    assert text.startswith("n = 100: **γ matters most.** Over its 3 levels")
    assert "moves by 10.0 points; for 5 of 5 seeds no other factor moves it further" in text
    assert "Its mean lead over the next, β, is +9." in text
    assert others == "n = 100: the others move the median seed by β 0.5 points."
    assert "beyond chance for γ, not shown for β" in chance


def test_an_unclear_order_is_not_sure() -> None:
    text = said(
        BASE,
        cut("gamma", 10.0, 0.80, 0.88, 0.79, 0.91, 0.80),
        cut("beta", 10.0, 0.90, 0.78, 0.89, 0.81, 0.85),
    )[0]
    assert "**γ comes first, but not surely.**" in text and "for 3 of 5 seeds" in text


def test_one_wild_seed_does_not_decide_and_is_told() -> None:
    wild = {**seeds(0.89, 0.87, 0.88, 0.90), 4: ("collapsed", 0.10)}
    texts = said(
        BASE,
        cut("gamma", 10.0, 0.80, 0.78, 0.79, 0.80, 0.80),
        cut("beta", 10.0, seeds=wild, outcome="collapsed"),
    )
    assert texts[0].startswith("n = 100: **γ comes first, but not surely.**")
    assert any("β is a risk rather than a slope: seed 4 alone moved by 80.0" in t for t in texts)


def test_one_seed_claims_no_certainty() -> None:
    text = said(Trial(seeds(0.9)), cut("gamma", 10.0, 0.8), cut("beta", 10.0, 0.89))[0]
    assert (
        "γ comes first, by one seed, which is no certainty." in text and "for 1 of 1 seeds" in text
    )


def test_where_it_breaks_counts_seeds_and_names_what_did_not() -> None:
    broken = {0: ("diverged", math.nan), 1: ("collapsed", 0.3), 2: ("finished", 0.9)}
    info = sensitivity_info(
        make_runs([BASE, cut("gamma", 100.0, seeds=broken), cut("beta", 10.0, 0.9, 0.9)]), "none"
    )
    (text,) = summary.where_it_breaks(breaks_of(info), factors_cut(info))
    assert text == (
        "n = 100: half of the seeds or more broke at γ = 100 (2 of 3). None broke along β."
    )
    (none,) = summary.where_it_breaks([], {1000: ["beta", "gamma"]})
    assert none == "n = 1,000: no seed collapsed, diverged or failed at any level of β, γ."


def test_where_few_seeds_break_is_told_apart() -> None:
    def at(level: str, broken: int) -> Break:
        return Break("gamma", 100, float(level), level, broken, 0, 0, 5, 0.9)

    (text,) = summary.where_it_breaks([at("0.1", 1), at("1", 3)], {100: ["gamma"]})
    assert text == (
        "n = 100: half of the seeds or more broke at γ = 1 (3 of 5). Fewer broke at "
        "γ = 0.1 (1 of 5)."
    )
    (text,) = summary.where_it_breaks([at("0.1", 1)], {100: ["gamma"]})
    assert text == "n = 100: fewer than half of the seeds broke at γ = 0.1 (1 of 5)."


def test_a_factor_that_has_the_baseline_alone_is_not_said_to_be_sound() -> None:
    """Half a sweep: gamma's levels are yet to come."""
    info = sensitivity_info(make_runs([BASE, cut("beta", 10.0, 0.9, 0.9)]), "none")
    assert factors_cut(info) == {100: ["beta"]}


@pytest.mark.parametrize(
    "above, text",
    [
        ([0.142, 0.15], "14 to 15 points above the"),
        ([-0.032, -0.02], "2 to 3 points below the"),
        ([-0.002, 0.004], "within a point of the"),
        ([-0.012, 0.02], "between 1.2 points below and 2.0 above the"),
    ],
)
def test_how_far_our_curves_lie_from_the_published_ones(above: list[float], text: str) -> None:
    flat = Fall(1.0, 10.0, 0.01, True)
    found = [Agreement("beta", 100, flat, flat, one, (0.001, 1000.0), None) for one in above]
    said = next(iter(summary.beside_the_paper(found)))
    assert said.startswith(f"n = 100: at their highest our curves lie {text} published ones")


def test_a_grid_that_breaks_nowhere_says_so() -> None:
    (text,) = summary.where_grids_break(contours_info(make_runs(grid_trials(collapsing=False))))
    assert text == "n = 100, β × γ: no seed broke in any of 12 cells."


def test_the_best_configuration_has_its_interval_and_the_number_compared() -> None:
    runs = make_runs([BASE, cut("gamma", 10.0, 0.80, 0.78, 0.79, 0.80, 0.80)])
    (text,) = summary.best_found(best_rows(runs))
    assert "**α = 0.5, β = 1, γ = 0.01, τ exponential 1→0.1**, the best of 2" in text
    assert "reaches 89.60 % [88.18, 91.02] on the test set (5 seeds; 95 % t interval)." in text


def test_kdgan_stands_against_the_best_other_student_only() -> None:
    arms = [
        arm_trial("kdgan", {0: 0.90, 1: 0.91, 2: 0.92}),
        arm_trial("mimic", {0: 0.91, 1: 0.92, 2: 0.935}),
        arm_trial("distn", {0: 0.80, 1: 0.81, 2: 0.82}),
        arm_trial("teacher", {0: 0.99, 1: 0.99, 2: 0.99}),
    ]
    (text,) = summary.methods_compared(table_info(make_runs(arms, mode="methods")))
    assert "KDGAN reaches 91.00 %" in text and "MIMIC, the best other student, 92.17 %" in text
    assert "paired by seed: -1.17 points [" in text and "(3 seeds)" in text
