from __future__ import annotations

import math

import pandas as pd
import pytest
from handmade import Trial, make_runs, seeds, sensitivity
from handmade_methods import METHODS, arm_trial, costs, realistic_arms
from handmade_tags import TAG_ARMS, realistic_tag_arms, tag_arm

from analysis.frames import RunsError, merge
from analysis.methods import arm_label, arms_of, has_methods, named_seeds, seed_ranges

SEARCHED = {"role": "search", "factor": "method", "level": "kdgan"}


def test_arms_stand_in_the_tables_order() -> None:
    runs = make_runs(realistic_arms([1000, 100], n_seeds=2, names=(*METHODS, "kdgan+ema")))
    found = [(arm.train_size, arm.name) for arm in arms_of(runs)]
    names = ["codis", "distn", "noisy", "mimic", "nagan", "kdgan", "kdgan+ema", "supervised"]
    assert found[:9] == [(100, name) for name in [*names, "teacher"]]
    assert {size for size, _ in found[9:]} == {1000}


def test_arms_of_tags_stand_in_the_papers_order_and_have_every_metric() -> None:
    found = arms_of(make_runs(realistic_tag_arms(n_seeds=2, names=TAG_ARMS[::-1], images=2)))
    assert [arm.name for arm in found] == [
        "knn", "tagprop", "tagfeature", "relexample", "codis", "distn", "noisy", "mimic", "nagan",
        "kdgan", "supervised", "teacher",
    ]  # fmt: skip
    assert [arm_label(arm.name) for arm in found[:4]] == ["KNN", "TPROP", "TFEAT", "REXMP"]
    knn = found[0]
    assert knn.train_size == 0 and all(seed.is_scored for seed in knn.seeds)
    assert knn.scores("test_map") == {0: 0.431, 1: 0.431} and not knn.scores()
    assert knn.scores("best_test_evaluation_map") == pytest.approx({0: 0.435, 1: 0.435})


def test_a_diverged_seed_of_tags_has_no_score_in_any_metric() -> None:
    trial = tag_arm("kdgan", {0: 0.5})
    trial = trial._replace(
        seeds={**trial.seeds, 1: ("diverged", 0.1)},
        extra={**trial.extra, "test_p_at_3": {0: 0.4, 1: 0.1}},
    )
    (arm,) = arms_of(make_runs([trial]))
    assert (arm.scores("test_map"), arm.scores("test_p_at_3")) == ({0: 0.5}, {0: 0.4})
    assert [seed.is_scored for seed in arm.seeds] == [True, False]


def test_an_arm_has_its_numbers_and_what_it_was_given() -> None:
    extra = {**costs([3, 7], 40.0, updates=500), "best_test_evaluation": {3: 0.95}}
    trial = arm_trial("nagan", {3: 0.9, 7: 0.8}, extra=extra)
    (arm,) = arms_of(make_runs([trial]))
    assert arm.scores() == {3: 0.9, 7: 0.8}
    assert arm.scores("best_test_evaluation") == {3: 0.95}
    assert arm.scores("train_seconds") == {3: 40.0, 7: 40.0}
    assert arm.scores("updates_teacher") == {3: 500.0, 7: 500.0}
    assert (arm.matched, arm.estimator, arm.trial_ids) == ("none", "concrete", (trial.trial_id,))


def test_search_trials_are_in_no_arm() -> None:
    tuned = arm_trial("kdgan", {100: 0.99}, rows=(SEARCHED,))
    (arm,) = arms_of(make_runs([tuned, arm_trial("kdgan", {0: 0.9})]))
    assert arm.scores() == {0: 0.9}
    assert not has_methods(make_runs([tuned]))


def test_seeds_of_two_sweeps_join_and_the_later_one_counts() -> None:
    one = make_runs([arm_trial("kdgan", {0: 0.9, 1: 0.8})], sweep_id="a")
    two = make_runs([arm_trial("kdgan", {1: 0.7, 2: 0.6})], sweep_id="b")
    two.trials["started"] += pd.Timedelta(days=1)
    for both in ([one, two], [two, one]):
        (arm,) = arms_of(merge(both))
        assert arm.scores() == {0: 0.9, 1: 0.7, 2: 0.6}
        assert len(arm.trial_ids) == 2


def test_two_configurations_of_an_arm_are_an_error() -> None:
    one = make_runs([arm_trial("kdgan", {0: 0.9})], sweep_id="a")
    two = make_runs([arm_trial("kdgan", {1: 0.9}, alpha=0.1)], sweep_id="b")
    with pytest.raises(
        RunsError, match=r"KDGAN at n = 100 has two configurations, .*sweep [ab] and.*sweep [ab]:"
    ):
        arms_of(merge([one, two]))
    other_size = make_runs([arm_trial("kdgan", {1: 0.9}, 1000, alpha=0.1)], sweep_id="b")
    assert len(arms_of(merge([one, other_size]))) == 2


def test_a_sweep_without_an_arm_says_what_to_run() -> None:
    runs = make_runs([Trial(seeds(0.9), (sensitivity("alpha", 0.5),))])
    with pytest.raises(RunsError, match=r"run\.py mnist --mode methods$"):
        arms_of(runs)


def test_seeds_that_went_wrong_have_no_score_but_are_there() -> None:
    trial = arm_trial("kdgan", {0: 0.9}, outcome="diverged", extra=costs(range(3), 10.0))
    wrong = {1: ("diverged", 0.3), 2: ("collapsed", 0.5)}
    (arm,) = arms_of(make_runs([trial._replace(seeds={**trial.seeds, **wrong})]))
    assert arm.scores() == {0: 0.9, 2: 0.5}
    assert (arm.ended("diverged"), arm.ended("collapsed")) == ((1,), (2,))
    assert [seed.is_scored for seed in arm.seeds] == [True, False, True]
    assert arm.scores("train_seconds").keys() == {0, 1, 2}


def test_an_older_run_does_not_say_what_it_was_given() -> None:
    (arm,) = arms_of(make_runs([arm_trial("kdgan", {0: 0.9}, params={})]))
    assert (arm.matched, arm.estimator) == ("", "")
    assert math.isnan(arm.seeds[0].numbers["train_seconds"])


def test_names() -> None:
    assert arm_label("kdgan+ema+eval") == "KDGAN + ema + eval"
    assert arm_label("teacher") == "T alone (no student)"
    assert arm_label("new") == "new"
    assert seed_ranges([0, 1, 2, 3, 7, 9, 10]) == "0-3, 7, 9, 10"
    assert named_seeds([4]) == "seed 4" and named_seeds([4, 5, 6]) == "seeds 4-6"
