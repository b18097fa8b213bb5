from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.stats import t_interval

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
