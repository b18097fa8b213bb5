from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.stats import (
    EXACT_PAIRS,
    bootstrap_interval,
    friedman,
    half_width_at,
    holm,
    paired_test,
    seeds_needed,
    spearman,
    t_interval,
)

scores = st.lists(st.floats(0.0, 1.0).map(lambda x: round(x, 6)), min_size=2, max_size=12)


@given(scores, st.floats(0.5, 0.999))
def test_t_interval_agrees_with_scipy(values: list[float], level: float) -> None:
    found = t_interval(values, level)
    mean, error = np.mean(values), stats.sem(values)
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(np.std(values, ddof=1))
    if error > 1e-9:
        low, high = stats.t.interval(level, len(values) - 1, loc=mean, scale=error)
        assert (found.low, found.high) == pytest.approx((low, high))
    assert found.n == len(values)


def test_t_interval_of_a_textbook_sample() -> None:
    # t(0.975, 3) = 3.18245; std of 1..4 = 1.290994.
    found = t_interval([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert found.high == pytest.approx(2.5 + 3.18245 * 1.290994 / 2, abs=1e-5)


def test_one_value_has_a_mean_and_no_interval() -> None:
    found = t_interval([0.9])
    assert (found.mean, found.n) == (0.9, 1)
    assert math.isnan(found.low) and math.isnan(found.high) and math.isnan(found.std)


def test_no_value_has_no_mean() -> None:
    found = t_interval([])
    assert found.n == 0 and math.isnan(found.mean)


def test_a_non_finite_score_is_refused() -> None:
    with pytest.raises(ValueError, match="1 non-finite"):
        t_interval([0.9, math.nan])


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_outside_zero_and_one_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=f"level is {level}"):
        t_interval([0.1, 0.2], level)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_paired_test_agrees_with_scipy(pairs: list[tuple[float, float]]) -> None:
    first, second = ([round(pair[i], 6) for pair in pairs] for i in (0, 1))
    found = paired_test(first, second)
    assert found.difference.n == len(pairs)
    assert found.difference.mean == pytest.approx(np.mean(first) - np.mean(second), abs=1e-12)
    if found.difference.std > 1e-9:
        assert found.p == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=1e-9)


def test_paired_test_of_a_textbook_sample() -> None:
    # Differences 1, 0.5, 1.5: t = 1 / (0.5 / sqrt(3)) = 3.4641, 2 degrees of freedom.
    found = paired_test([1.0, 2.0, 3.5], [0.0, 1.5, 2.0])
    assert found.difference.mean == 1.0
    assert found.p == pytest.approx(0.0741799, abs=1e-6)
    assert paired_test([0.0, 1.5, 2.0], [1.0, 2.0, 3.5]).p == found.p


def test_paired_test_without_a_spread_or_a_pair() -> None:
    assert paired_test([0.5, 0.5], [0.5, 0.5]).p == 1.0
    assert paired_test([0.75, 0.75], [0.5, 0.5]).p == 0.0
    assert math.isnan(paired_test([0.5], [0.25]).p)
    assert math.isnan(paired_test([], []).difference.mean)
    with pytest.raises(ValueError, match="2 scores cannot be paired with 1"):
        paired_test([0.5, 0.5], [0.5])


def test_holm_of_known_values() -> None:
    # Smallest first: 4 * .005, 3 * .01, 2 * .03, and .04 raised to the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_leaves_out_what_is_no_test() -> None:
    found = holm([0.5, math.nan, 0.01])
    assert found[::2] == pytest.approx([0.5, 0.02]) and math.isnan(found[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p_values: list[float]) -> None:
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= min(1.0, len(p_values) * p)


def test_spearman_of_known_values() -> None:
    assert spearman([1, 2, 3, 4], [1, 2, 4, 3])[:3] == (pytest.approx(0.8), 8 / 24, 4)
    # Of 3! orders two have |rho| = 1.
    assert spearman([1, 2, 3], [10, 5, 1])[:2] == (-1.0, pytest.approx(2 / 6))
    tied = spearman([1, 1, 2, 3], [1, 2, 2, 4])
    assert tied.rho == pytest.approx(stats.spearmanr([1, 1, 2, 3], [1, 2, 2, 4]).statistic)


def test_spearman_of_many_pairs_is_scipys() -> None:
    x = np.random.default_rng(0).normal(size=(2, EXACT_PAIRS + 1))
    found, wanted = spearman(*x), stats.spearmanr(*x)
    assert found.rho == pytest.approx(wanted.statistic)
    assert (found.p, found.is_exact) == (pytest.approx(wanted.pvalue), False)
    assert spearman(*x[:, 1:]).is_exact


@pytest.mark.parametrize("second", [[1.0, 2.0], [1.0, 1.0, 1.0]])
def test_spearman_of_too_few_or_flat_values_is_none(second: list[float]) -> None:
    found = spearman([1.0, 2.0, 3.0][: len(second)], second)
    assert math.isnan(found.rho) and math.isnan(found.p) and found.n == len(second)


def test_a_bootstrap_is_near_the_normal_interval_and_repeatable() -> None:
    values = np.random.default_rng(0).normal(0.1, 1.0, 2000)
    first, again, other = (bootstrap_interval(values, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again and first != other
    half = 1.95996 * np.std(values, ddof=1) / math.sqrt(2000)
    assert (first.low, first.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.1 * half
    )
    assert (first.mean, first.n) == (pytest.approx(values.mean()), 2000)


def test_a_bootstrap_of_equal_values_of_one_and_of_none() -> None:
    generator = np.random.default_rng(0)
    assert bootstrap_interval([0.25] * 9, generator)[3:] == (0.25, 0.25)
    assert math.isnan(bootstrap_interval([0.5], generator).low)
    assert bootstrap_interval([], generator).n == 0


def test_the_bootstrap_covers_the_true_difference_about_as_often_as_it_says() -> None:
    """Two models 0.02 apart, paired on 200 images at a time; skewed, as precisions are."""
    generator = np.random.default_rng(7)
    trials, covered = 300, 0
    for _ in range(trials):
        differences = 0.02 + 0.05 * (generator.exponential(1.0, 200) - 1.0)
        found = bootstrap_interval(differences, generator, resamples=500)
        covered += found.low <= 0.02 <= found.high
    # Three standard errors of 300 draws at .95 are .038; the percentile interval is a bit narrow.
    assert 0.90 <= covered / trials <= 0.985


@given(
    std=st.floats(1e-4, 0.2),
    half_width=st.floats(1e-3, 0.1),
)
def test_seeds_needed_is_the_smallest_number_that_is_enough(std: float, half_width: float) -> None:
    n = seeds_needed(std, half_width)
    assert half_width_at(n, std) <= half_width
    assert n == 2 or half_width_at(n - 1, std) > half_width


def test_seeds_needed_of_a_textbook_case() -> None:
    # t(.975, 17) * 10 / sqrt(18) = 4.97, with 17 seeds 5.14
    assert seeds_needed(10, 5) == 18
    assert seeds_needed(0.0, 0.01) == 2


@pytest.mark.parametrize(("std", "half_width"), [(0.1, 0.0), (-1.0, 0.1), (math.nan, 0.1)])
def test_seeds_needed_refuses_what_has_no_answer(std: float, half_width: float) -> None:
    with pytest.raises(ValueError):
        seeds_needed(std, half_width)


def test_friedman_ranks_within_a_seed() -> None:
    generator = np.random.default_rng(0)
    seed = generator.normal(0, 1, 6)  # far larger than the levels' differences
    levels = np.array([0.0, 0.01, 0.02, 0.03])
    assert friedman(levels[:, None] + seed) == pytest.approx(1 / 24**5)  # every seed agrees
    none = generator.normal(0, 1, (4, 6))
    assert friedman(none) > 0.05


def test_friedman_of_chance_is_uniform_enough() -> None:
    generator = np.random.default_rng(1)
    found = [friedman(generator.normal(0, 1, (5, 5))) for _ in range(400)]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09


def test_friedman_needs_three_levels_and_two_seeds() -> None:
    assert math.isnan(friedman(np.array([[1.0, 2.0], [2.0, 3.0]])))
    assert math.isnan(friedman(np.array([[1.0], [2.0], [3.0]])))
    assert math.isnan(friedman(np.ones((3, 4))))
