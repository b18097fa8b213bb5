"""tau over training: exact ends, one direction, within its ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdgan_core.config import TemperatureSchedule
from kdgan_core.names import TAU_KINDS
from kdgan_core.temperature import temperature

taus = st.floats(1e-3, 1e3)
moving = st.builds(
    TemperatureSchedule, st.sampled_from(["exponential", "linear", "cosine"]), taus, taus
)
progress = st.floats(0.0, 1.0)
ROUNDING = 1e-12


@settings(deadline=None)
@given(moving)
def test_the_ends_are_exact(schedule: TemperatureSchedule) -> None:
    assert temperature(schedule, 0.0) == schedule.start
    assert temperature(schedule, 1.0) == schedule.end


@settings(deadline=None)
@given(moving, progress, progress)
def test_it_moves_one_way_and_stays_within_its_ends(
    schedule: TemperatureSchedule, one: float, two: float
) -> None:
    earlier, later = (temperature(schedule, p) for p in sorted((one, two)))
    low, high = sorted((schedule.start, schedule.end))
    assert low * (1 - ROUNDING) <= min(earlier, later)
    assert max(earlier, later) <= high * (1 + ROUNDING)
    if schedule.start >= schedule.end:
        assert later <= earlier * (1 + ROUNDING)
    else:
        assert later >= earlier * (1 - ROUNDING)


@settings(deadline=None)
@given(taus, taus, progress)
def test_constant_stays_at_its_start(start: float, end: float, p: float) -> None:
    assert temperature(TemperatureSchedule("constant", start, end), p) == start


@pytest.mark.parametrize(
    "kind, half, quarter",
    [
        ("exponential", math.sqrt(0.1), 0.1**0.25),
        ("linear", 0.55, 0.775),
        ("cosine", 0.55, 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2),
    ],
)
def test_the_papers_range_by_every_kind(kind: str, half: float, quarter: float) -> None:
    schedule = TemperatureSchedule(kind, 1.0, 0.1)
    assert temperature(schedule, 0.5) == pytest.approx(half, rel=1e-12)
    assert temperature(schedule, 0.25) == pytest.approx(quarter, rel=1e-12)


def test_the_default_is_the_papers() -> None:
    assert TemperatureSchedule() == TemperatureSchedule("exponential", 1.0, 0.1)


@pytest.mark.parametrize("kind", TAU_KINDS)
@pytest.mark.parametrize("p", [-1e-9, 1.0 + 1e-9, math.nan])
def test_progress_outside_is_refused(kind: str, p: float) -> None:
    with pytest.raises(ValueError, match=r"progress=.* is outside \[0, 1\]"):
        temperature(TemperatureSchedule(kind, 1.0, 0.1), p)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="tau_kind='step'"):
        temperature(TemperatureSchedule("step", 1.0, 0.1), 0.5)
