from __future__ import annotations

import math

import pytest
from handmade import Trial, make_runs, seeds, sensitivity

from analysis.effects import breaks_of, effects_of
from analysis.sensitivity import sensitivity_info


def around(baseline: Trial, **levels: list[tuple[float, dict[int, tuple[str, float]]]]):  # type: ignore[no-untyped-def]
    """Return the baseline and its cells: factor -> level and seeds."""
    cells = [
        Trial(found, (sensitivity(factor, level),), **{factor: level})
        for factor, several in levels.items()
        for level, found in several
    ]
    return make_runs([baseline, *cells])


def test_a_range_is_paired_by_seed_and_the_larger_comes_first() -> None:
    runs = around(
        Trial(seeds(0.90, 0.80, 0.85)),
        gamma=[(1.0, seeds(0.80, 0.70, 0.76)), (10.0, seeds(0.85, 0.75, 0.80))],
        beta=[(10.0, seeds(0.91, 0.80, 0.85)), (100.0, seeds(0.90, 0.81, 0.85))],
    )
    gamma, beta = effects_of(sensitivity_info(runs, "none"))
    assert (gamma.factor, gamma.best, gamma.worst, gamma.levels) == ("gamma", "0.01", "1", 3)
    assert gamma.range.difference.mean == pytest.approx((0.10 + 0.10 + 0.09) / 3)
    # Seeds lie 10 points apart, but their differences hardly do.
    assert gamma.range.difference.std == pytest.approx(0.005774, abs=1e-6)
    assert gamma.of_seed == pytest.approx({0: 0.10, 1: 0.10, 2: 0.09})
    assert beta.range.difference.mean < 0.01
    assert gamma.p_holm == pytest.approx(2 * gamma.p) and gamma.p < 0.05 < beta.p


def test_a_diverged_seed_is_in_no_range_and_counts_as_broken() -> None:
    broken = {0: ("finished", 0.5), 1: ("diverged", math.nan), 2: ("collapsed", 0.3)}
    info = sensitivity_info(around(Trial(seeds(0.9, 0.8, 0.85)), gamma=[(100.0, broken)]), "none")
    (effect,) = effects_of(info)
    assert effect.range.difference.n == 2 and sorted(effect.of_seed) == [0, 2]
    (found,) = breaks_of(info)
    assert (found.factor, found.label, found.collapsed, found.diverged, found.seeds) == (
        "gamma", "100", 1, 1, 3,
    )  # fmt: skip
    assert found.broken == 2 and found.mean == pytest.approx(0.4)


def test_one_level_has_no_effect_and_one_seed_no_interval() -> None:
    assert effects_of(sensitivity_info(make_runs([Trial(seeds(0.9))]), "none")) == []
    info = sensitivity_info(around(Trial(seeds(0.9)), gamma=[(1.0, seeds(0.8))]), "none")
    (effect,) = effects_of(info)
    assert effect.range.difference.mean == pytest.approx(0.1)
    assert math.isnan(effect.range.difference.low) and math.isnan(effect.p)
