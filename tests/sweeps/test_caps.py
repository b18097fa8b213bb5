"""Caps: each one trips, none is crossed by a start, one that could never act is refused."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps import caps
from sweeps.caps import Budget, CapError, Caps

HOUR, MINUTE = 3600.0, 60.0


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1e6

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    hand = Clock()
    monkeypatch.setattr(caps, "time", hand)
    return hand


def start(budget: Budget, key: str, seconds: float) -> None:
    assert budget.allows(seconds)
    budget.trial_started(key, seconds)


def test_no_trial_starts_that_would_end_after_max_hours(clock: Clock) -> None:
    budget = Budget(Caps(max_hours=2.0), 0.0)
    start(budget, "a", 2 * HOUR)
    clock.now += 1.5 * HOUR
    start(budget, "b", 0.5 * HOUR)
    assert budget.reached == ""
    assert not budget.allows(0.5 * HOUR + 1)
    assert budget.reached == "--max-hours 2"
    assert budget.hours == 1.5


def test_a_running_trial_counts_with_what_is_left_of_it(clock: Clock) -> None:
    budget = Budget(Caps(max_usd=4.0, usd_per_hour=2.0), 1.0)
    budget.trial_started("over the cap all by itself", 3 * HOUR)
    assert not budget.allows(1.0)
    assert budget.reached == "--max-usd 4"


def test_max_usd_is_the_price_of_the_wall_time(clock: Clock) -> None:
    budget = Budget(Caps(max_usd=3.0, usd_per_hour=2.0), 1.0)
    start(budget, "a", HOUR)
    start(budget, "b", HOUR)  # beside the first: no dollar more
    clock.now += HOUR
    budget.trial_ended("a", failed=False)
    budget.trial_ended("b", failed=False)
    assert budget.usd == 2.0
    assert not budget.allows(0.5 * HOUR + 1)
    assert budget.reached == "--max-usd 3"


def test_max_gpu_hours_adds_up_the_trials(clock: Clock) -> None:
    budget = Budget(Caps(max_gpu_hours=1.0), 0.25)
    start(budget, "a", HOUR)
    start(budget, "b", 2 * HOUR)
    clock.now += HOUR
    budget.trial_ended("a", failed=False)
    assert budget.gpu_hours == 0.5
    start(budget, "c", HOUR)
    assert not budget.allows(1.0)
    assert budget.reached == "--max-gpu-hours 1"


def test_max_trials_counts_starts(clock: Clock) -> None:
    budget = Budget(Caps(max_trials=2), 0.0)
    start(budget, "a", 1.0)
    budget.trial_ended("a", failed=False)
    start(budget, "b", 1.0)
    assert not budget.allows(1.0)
    assert budget.reached == "--max-trials 2"


def test_max_failures_counts_failures_only(clock: Clock) -> None:
    budget = Budget(Caps(max_failures=2), 0.0)
    for key, failed in (("a", True), ("b", False), ("c", True)):
        start(budget, key, 1.0)
        budget.trial_ended(key, failed)
    assert not budget.allows(1.0)
    assert budget.reached == "--max-failures 2"
    assert budget.spent()["failures"] == 2.0


def test_without_a_cap_everything_starts(clock: Clock) -> None:
    budget = Budget(Caps(usd_per_hour=1e6), 8.0)
    for i in range(50):
        start(budget, str(i), 1e9)
        budget.trial_ended(str(i), failed=True)
    clock.now += 1e9
    assert not budget.overrun()


def test_once_a_cap_is_reached_nothing_starts_any_more(clock: Clock) -> None:
    budget = Budget(Caps(max_hours=1.0), 0.0)
    assert not budget.allows(2 * HOUR)
    assert not budget.allows(1.0)
    assert budget.reached == "--max-hours 1"


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        (Caps(max_hours=1.0), "--max-hours 1"),
        (Caps(max_usd=0.5, usd_per_hour=0.5), "--max-usd 0.5"),
        (Caps(max_gpu_hours=0.25), "--max-gpu-hours 0.25"),
    ],
)
def test_a_trial_that_takes_longer_than_expected_is_stopped_at_the_cap(
    clock: Clock, limits: Caps, reached: str
) -> None:
    budget = Budget(limits, 0.25)
    start(budget, "a", MINUTE)
    clock.now += HOUR
    assert not budget.overrun()
    clock.now += 1.0
    assert budget.overrun()
    assert budget.reached == reached


def test_what_was_spent(clock: Clock) -> None:
    budget = Budget(Caps(usd_per_hour=4.0), 0.5)
    start(budget, "a", HOUR)
    clock.now += HOUR
    budget.trial_ended("a", failed=True)
    start(budget, "b", HOUR)
    clock.now += HOUR
    assert budget.spent() == {
        "hours": 2.0, "gpu_hours": 1.0, "usd": 8.0, "trials": 2.0, "failures": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "gpus", "parts"),
    [
        (Caps(max_usd=5.0), None, ["--max-usd", "--usd-per-hour"]),
        (Caps(max_gpu_hours=5.0), 0.0, ["--max-gpu-hours", "--max-hours", "--gpus-per-trial"]),
        (Caps(max_hours=math.nan), None, ["--max-hours nan"]),
        (Caps(max_gpu_hours=math.inf), 1.0, ["--max-gpu-hours inf"]),
        (Caps(max_usd=math.inf, usd_per_hour=1.0), None, ["--max-usd inf"]),
        (Caps(max_usd=1.0, usd_per_hour=math.nan), None, ["--usd-per-hour nan"]),
    ],
)
def test_a_cap_that_could_never_act_is_refused(
    limits: Caps, gpus: float | None, parts: list[str]
) -> None:
    with pytest.raises(CapError) as refused:
        limits.check(gpus)
    assert all(part in str(refused.value) for part in parts)
    with pytest.raises(CapError):
        Budget(limits, 0.0 if gpus is None else gpus)


def test_a_price_alone_is_no_cap() -> None:
    assert not Caps(usd_per_hour=2.0).any
    assert Caps(max_failures=1).any and Caps(max_usd=1.0, usd_per_hour=2.0).any


def test_gpu_hours_are_not_refused_while_the_gpus_are_unknown() -> None:
    Caps(max_gpu_hours=5.0).check(None)
    Caps(max_gpu_hours=5.0).check(0.25)


def test_a_cap_is_written_as_on_the_command_line() -> None:
    assert Caps(max_gpu_hours=1.5).option("max_gpu_hours") == "--max-gpu-hours 1.5"
    assert Caps(max_trials=12_345_678).option("max_trials") == "--max-trials 12345678"


# A simulation of Ray Tune with trials that take exactly as long as expected. Times are whole
# minutes and prices powers of two, so that sums are exact.


def simulate(
    budget: Budget, clock: Clock, lengths: Sequence[float], fails: Sequence[bool], parallel: int
) -> list[float]:
    """Hands a trial out whenever a worker is free.

    Returns:
        When each of the started trials ended.
    """
    running: list[tuple[float, int]] = []
    ends: list[float] = []
    while True:
        assert not budget.overrun()
        asked = len(ends)
        if asked < len(lengths) and len(running) < parallel and budget.allows(lengths[asked]):
            budget.trial_started(str(asked), lengths[asked])
            ends.append(clock.now + lengths[asked])
            heapq.heappush(running, (ends[-1], asked))
        elif running:
            clock.now, ended = heapq.heappop(running)
            budget.trial_ended(str(ended), fails[ended])
        else:
            return ends


def begin(ends: Sequence[float], parallel: int) -> float:
    """When a worker is free for one more trial after these."""
    return sorted([0.0] * parallel + list(ends))[-parallel]


LIMITS = st.integers(1, 12).map(float)


@settings(deadline=None, max_examples=300)
@given(
    minutes=st.lists(st.integers(1, 240), min_size=1, max_size=12),
    fails=st.lists(st.booleans(), min_size=12, max_size=12),
    parallel=st.integers(1, 4),
    gpus=st.sampled_from((0.25, 0.5, 1.0, 2.0)),
    limits=st.builds(
        Caps,
        max_hours=st.none() | LIMITS,
        max_gpu_hours=st.none() | LIMITS,
        max_usd=st.none() | LIMITS,
        max_trials=st.none() | st.integers(1, 12),
        max_failures=st.none() | st.integers(1, 12),
        usd_per_hour=st.sampled_from((0.5, 1.0, 2.0)),
    ),
)
def test_no_start_crosses_a_cap_and_none_that_fits_is_refused(
    minutes: list[int], fails: list[bool], parallel: int, gpus: float, limits: Caps
) -> None:
    clock = Clock()
    clock.now = 0.0
    lengths = [MINUTE * one for one in minutes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caps, "time", clock)
        budget = Budget(limits, gpus)
        ends = simulate(budget, clock, lengths, fails, parallel)
        spent = budget.spent()
    started = len(ends)
    names = ("hours", "gpu_hours", "usd", "trials")
    given_caps = {name: getattr(limits, f"max_{name}") for name in names}
    for name, cap in given_caps.items():
        assert cap is None or spent[name] <= cap * (1 + 1e-12)
    assert spent["trials"] == started
    assert (budget.reached == "") == (started == len(lengths))
    if budget.reached:
        last = max([begin(ends, parallel) + lengths[started], *ends]) / HOUR
        with_it = {
            "hours": last, "usd": last * (limits.usd_per_hour or 0.0),
            "gpu_hours": gpus * sum(lengths[: started + 1]) / HOUR, "trials": started + 1,
        }  # fmt: skip
        crossed = [name for name, cap in given_caps.items() if cap and with_it[name] > cap]
        failed = limits.max_failures and spent["failures"] >= limits.max_failures
        assert crossed or failed
