from __future__ import annotations

import pytest
from drawn import overlapping
from handmade import Trial, make_runs, seeds, sensitivity
from handmade_methods import arm_trial

from analysis.frames import RunsError
from analysis.seconds import draw_seconds, has_seconds, seconds_frame, seconds_info


def cell(level: float, score: float, seconds: float, outcome: str = "finished") -> Trial:
    times = {
        "train_seconds": {0: seconds, 1: seconds + 2},
        "pretrain_seconds": {0: 1.0, 1: 1.0},
    }
    found = seeds(score, score + 0.02, outcome=outcome)
    return Trial(found, (sensitivity("alpha", level),), alpha=level, extra=times, outcome=outcome)


CELLS = [cell(0.0, 0.80, 10), cell(0.1, 0.90, 20), cell(0.2, 0.85, 30), cell(0.3, 0.91, 90)]


def test_a_point_is_mean_score_and_mean_seconds_with_pretraining() -> None:
    (part,) = seconds_info(make_runs(CELLS)).parts
    first = part.points[0]
    assert (first.seconds, first.mean, first.n) == (12.0, pytest.approx(0.81), 2)
    assert first.low < first.mean < first.high


def test_the_front_is_what_nothing_as_fast_equals() -> None:
    (part,) = seconds_info(make_runs(CELLS)).parts
    assert [point.is_front for point in part.points] == [True, True, False, True]
    tied = [cell(0.0, 0.80, 10), cell(0.1, 0.80, 10), cell(0.2, 0.80, 20)]
    (part,) = seconds_info(make_runs(tied)).parts
    assert [point.is_front for point in part.points] == [True, False, False]


def test_a_configuration_without_seconds_is_left_out_and_said() -> None:
    info = seconds_info(make_runs([*CELLS, Trial(seeds(0.9, 0.9))]))
    assert len(info.parts[0].points) == 4
    assert info.notes == ("1 configurations without a test score or seconds are not drawn.",)
    with pytest.raises(RunsError, match="no trial with a test score and training seconds"):
        seconds_info(make_runs([Trial(seeds(0.9))]))
    assert not has_seconds(make_runs([Trial(seeds(0.9))]))


def test_arms_have_their_names_and_the_teacher_is_no_student() -> None:
    times = {"train_seconds": {0: 5.0, 1: 5.0}}
    arms = [
        arm_trial(name, {0: 0.9, 1: 0.91})._replace(extra=times)
        for name in ("kdgan", "mimic", "teacher", "kdgan+ema")
    ]
    (part,) = seconds_info(make_runs(arms, mode="methods")).parts
    assert {point.arm for point in part.points} == {"kdgan", "mimic", "kdgan+ema"}
    frame = seconds_frame(seconds_info(make_runs(arms, mode="methods")))
    assert "KDGAN + ema" in set(frame["configuration"])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_texts_do_not_overlap(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = cell(0.9, 0.3, 50, "collapsed")
    trials = [
        one._replace(train_size=size)
        for size in (100, 1000, 10000)[:number]
        for one in [*CELLS, broken]
    ]
    info = seconds_info(make_runs(trials))
    assert info.parts[0].points[3].collapsed == 2
    assert overlapping(draw_seconds(info), monkeypatch) == []
