"""Early stopping: who is compared with whom, from when on, and what it may never stop."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule

from kdgan_core import TrialConfig
from sweeps.stopping import EarlyStopping, make_rule
from sweeps.words import RULES

STOPPING = [rule for rule in RULES if rule != "off"]
CHECKS = 12


class TuneTrial:
    """What a rule reads of a trial of Tune's."""

    def __init__(self, trial_id: str, group: object, checks: int = CHECKS) -> None:
        self.trial_id = trial_id
        self.config = {"compare": group, "trial": {"evaluations": checks}}


def report(
    stopping: EarlyStopping, trial: TuneTrial, check: int, score: float, storage_error: str = ""
) -> bool:
    """Whether the trial is stopped at a check."""
    result = {"check": check, "score": score, "storage_error": storage_error}
    decision = stopping.on_trial_result(None, trial, result)
    assert decision in ("STOP", "CONTINUE")
    assert (trial.trial_id in stopping.stopped) == (decision == "STOP")
    return decision == "STOP"


def run(stopping: EarlyStopping, trial: TuneTrial, scores: Sequence[float]) -> int | None:
    """The check at which the trial is stopped, None if it is not before its last.

    The first score is that of check 0. Tune does not ask about the last check.
    """
    for check, score in enumerate(scores[:-1]):
        if report(stopping, trial, check, score):
            return check
    return None


def good_ones(stopping: EarlyStopping, group: object, number: int = 4) -> None:
    for i in range(number):
        trial = TuneTrial(f"good-{group}-{i}", group)
        assert run(stopping, trial, [0.8 + i / 100] * (CHECKS + 1)) is None


BAD = [0.1] * (CHECKS + 1)


@pytest.mark.parametrize("rule", STOPPING)
def test_a_trial_that_lags_is_stopped_at_a_third(rule: str) -> None:
    stopping = EarlyStopping(rule)
    good_ones(stopping, 50)
    assert run(stopping, TuneTrial("bad", 50), BAD) == CHECKS // 3
    assert run(stopping, TuneTrial("better", 50), [0.9] * (CHECKS + 1)) is None
    assert stopping.stopped == {"bad"}


@pytest.mark.parametrize("rule", STOPPING)
@given(checks=st.integers(1, 100), data=st.data())
def test_nothing_is_stopped_before_a_third(rule: str, checks: int, data: st.DataObject) -> None:
    stopping = EarlyStopping(rule)
    scores = data.draw(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8))
    for i, score in enumerate(scores):
        trial = TuneTrial(str(i), 50, checks)
        stopped = run(stopping, trial, [score] * (checks + 1))
        assert stopped is None or Fraction(stopped, checks) >= Fraction(1, 3)


@given(checks=st.integers(1, 10_000))
def test_the_first_rung_is_the_first_check_from_a_third_on(checks: int) -> None:
    first = -(-checks // 3)
    asha, median = make_rule("asha", checks), make_rule("median", checks)
    assert isinstance(asha, ASHAScheduler) and isinstance(median, MedianStoppingRule)
    rungs = sorted(milestone for bracket in asha._brackets for milestone, _ in bracket._rungs)
    assert rungs[0] == median._grace_period == first
    assert all(rung <= checks for rung in rungs)


@pytest.mark.parametrize("rule", STOPPING)
def test_training_sizes_are_compared_apart(rule: str) -> None:
    stopping = EarlyStopping(rule)
    good_ones(stopping, 50)
    assert run(stopping, TuneTrial("bad-200", 200), BAD) is None
    assert run(stopping, TuneTrial("bad-50", 50), BAD) == CHECKS // 3


@pytest.mark.parametrize("rule", STOPPING)
def test_a_cell_of_a_curve_is_neither_stopped_nor_compared_with(rule: str) -> None:
    stopping = EarlyStopping(rule)
    for i in range(5):
        assert run(stopping, TuneTrial(f"cell-{i}", None), [0.99] * (CHECKS + 1)) is None
    assert run(stopping, TuneTrial("search", 50), BAD) is None
    good_ones(stopping, 50)
    assert run(stopping, TuneTrial("cell", None), BAD) is None


def test_off_is_off() -> None:
    stopping = EarlyStopping("off")
    good_ones(stopping, 50)
    assert run(stopping, TuneTrial("bad", 50), BAD) is None
    stopping.replay(50, config(0), checks_of(0.9))
    assert not stopping.stopped


@pytest.mark.parametrize("rule", STOPPING)
def test_a_storage_that_is_away_stops_nothing(rule: str) -> None:
    stopping = EarlyStopping(rule)
    good_ones(stopping, 50)
    trial = TuneTrial("bad", 50)
    assert not report(stopping, trial, CHECKS // 3, 0.0, "No space left on device")
    assert report(stopping, trial, CHECKS // 3, 0.1)


@pytest.mark.parametrize("rule", STOPPING)
def test_the_pretrained_check_saves_no_trial(rule: str) -> None:
    """One that pretraining left at 95 % and the game has ruined lags like any other."""
    stopping = EarlyStopping(rule)
    good_ones(stopping, 50)
    assert run(stopping, TuneTrial("ruined", 50), [0.95, *BAD[1:]]) == CHECKS // 3


@pytest.mark.parametrize("rule", STOPPING)
def test_a_trial_that_starts_again_is_compared_again(rule: str) -> None:
    """Its worker died: Tune sends the same checks a second time."""
    stopping = EarlyStopping(rule)
    good_ones(stopping, 50)
    trial = TuneTrial("again", 50)
    for score in (0.9, 0.9):
        assert not any(report(stopping, trial, check, score) for check in range(7))
    assert run(stopping, TuneTrial("bad", 50), BAD) == CHECKS // 3


def config(number: int, seeds: tuple[int, ...] = (0,)) -> TrialConfig:
    return TrialConfig(
        dataset="digits", architecture="small", train_size=50, valid_size=200, steps=120,
        evaluations=CHECKS, seeds=seeds, alpha=number / 10,
    )  # fmt: skip


def checks_of(*scores: float | None, upto: int = CHECKS) -> list[dict[str, Any]]:
    """A spool's evaluations: every check has the same score for each seed; None diverged."""
    metrics = {str(seed): {"valid_accuracy": score} for seed, score in enumerate(scores)}
    return [{"step": 10 * check, "steps": 120, "metrics": metrics} for check in range(upto + 1)]


@pytest.mark.parametrize("rule", STOPPING)
def test_trials_of_earlier_commands_are_compared_with(rule: str) -> None:
    stopping = EarlyStopping(rule)
    for i in range(4):
        stopping.replay(50, config(i), checks_of(0.8))
    assert not stopping.stopped
    assert run(stopping, TuneTrial("other size", 200), BAD) is None
    assert run(stopping, TuneTrial("bad", 50), BAD) == CHECKS // 3


@pytest.mark.parametrize("rule", STOPPING)
def test_a_replayed_trial_counts_as_it_did_when_it_ran(rule: str) -> None:
    live, replayed = EarlyStopping(rule), EarlyStopping(rule)
    for i, score in enumerate((0.3, 0.5, 0.7, 0.6)):
        scores = [score + check / 100 for check in range(CHECKS + 1)]
        end = run(live, TuneTrial(config(i).trial_id, 50), scores)
        checks = [
            {**one, "metrics": {"0": {"valid_accuracy": scores[check]}}}
            for check, one in enumerate(checks_of(0.0, upto=CHECKS if end is None else end))
        ]
        replayed.replay(50, config(i), checks)
    for score in (0.2, 0.4, 0.55, 0.65, 0.8):
        scores = [score + check / 100 for check in range(CHECKS + 1)]
        ends = [run(one, TuneTrial(f"new {score}", 50), scores) for one in (live, replayed)]
        assert ends[0] == ends[1]


@pytest.mark.parametrize("rule", STOPPING)
def test_a_diverged_seed_counts_as_nothing_in_a_replay(rule: str) -> None:
    """Two seeds, 0.9 and diverged, are 0.45: less than a trial at 0.5."""
    for gone in (checks_of(0.9, None), checks_of(0.9)):  # not finite, or no longer there
        stopping = EarlyStopping(rule)
        for i in range(4):
            stopping.replay(50, config(i, seeds=(0, 1)), gone)
        assert run(stopping, TuneTrial("half", 50), [0.5] * (CHECKS + 1)) is None
        assert run(stopping, TuneTrial("bad", 50), [0.4] * (CHECKS + 1)) == CHECKS // 3


def test_a_trial_of_few_checks_can_be_stopped_too() -> None:
    stopping = EarlyStopping("asha")
    for i in range(3):
        run(stopping, TuneTrial(str(i), 50, 3), [0.8] * 4)
    assert run(stopping, TuneTrial("bad", 50, 3), [0.1] * 4) == 1
    assert run(stopping, TuneTrial("one check", 200, 1), [0.1, 0.1]) is None
