from __future__ import annotations

import math

import pytest
from handmade import make_runs
from handmade_methods import METHODS, arm_trial, costs, realistic_arms
from scipy import stats

from analysis.stats import holm, t_interval
from analysis.table1 import TableInfo, table_info

GOOD = {0: 0.90, 1: 0.92, 2: 0.91}


def best(info: TableInfo, size: int = 100) -> set[str]:
    return {name for (name, n), cell in info.cells.items() if cell.is_best and n == size}


def test_a_cell_holds_ours_the_authors_statistic_the_published_value_and_the_cost() -> None:
    extra = {**costs(GOOD, 40.0, updates=500), "best_test_evaluation": {0: 0.93, 1: 0.95}}
    info = table_info(make_runs([arm_trial("kdgan", GOOD, extra=extra)]))
    cell = info.cells["kdgan", 100]
    assert cell.test == t_interval([0.90, 0.92, 0.91])
    assert (cell.authors.mean, cell.authors.n) == (pytest.approx(0.94), 2)
    assert cell.published == pytest.approx((0.7795, 0.0005))
    assert cell.compute == {
        "train_seconds": 40.0, "pretrain_seconds": 10.0, "updates_classifier": 500.0,
        "updates_teacher": 500.0, "updates_discriminator": 500.0,
    }  # fmt: skip
    assert info.has_authors and info.has_published


def test_the_published_value_is_the_data_sets_own() -> None:
    def published(dataset: str, size: int, asked: bool = True) -> float | None:
        runs = make_runs([arm_trial("nagan", GOOD, size, dataset=dataset)])
        cell = table_info(runs, asked).cells["nagan", size].published
        return None if cell is None else cell.mean

    assert published("mnist", 1000) == pytest.approx(0.9360)
    assert published("cifar10", 5000) == pytest.approx(0.7611)
    assert published("cifar10", 45_000) == published("cifar10", 50_000) == pytest.approx(0.8534)
    assert published("cifar10", 1000) is None and published("digits", 1000) is None
    assert published("mnist", 1000, asked=False) is None


def test_a_training_set_less_its_validation_images_stands_beside_the_whole() -> None:
    def captions(dataset: str, size: int, asked: bool = True) -> str:
        trial = arm_trial("nagan", GOOD, size, dataset=dataset)
        return " ".join(table_info(make_runs([trial]), asked).caption)

    words = "n = 45,000: the published value is that of n = 50,000"
    assert words in captions("cifar10", 45_000)
    for dataset, size, asked in (
        ("cifar10", 50_000, True), ("cifar10", 45_000, False), ("mnist", 45_000, True),
    ):  # fmt: skip
        assert "45,000" not in captions(dataset, size, asked)


def test_the_best_student_is_best_whichever_it_is() -> None:
    trials = [
        arm_trial("kdgan", GOOD),
        arm_trial("mimic", {seed: score + 0.01 for seed, score in GOOD.items()}),
        arm_trial("teacher", dict.fromkeys(GOOD, 0.99)),
        arm_trial("kdgan", GOOD, 1000),
        arm_trial("mimic", dict.fromkeys(GOOD, 0.5), 1000),
    ]
    info = table_info(make_runs(trials))
    assert (best(info), best(info, 1000)) == ({"mimic"}, {"kdgan"})


def test_an_arm_that_lacks_a_seeds_score_is_not_best() -> None:
    lucky = arm_trial("nagan", {0: 0.99, 1: 0.99}, outcome="diverged")
    lucky = lucky._replace(seeds={**lucky.seeds, 2: ("diverged", math.nan)})
    info = table_info(make_runs([lucky, arm_trial("kdgan", GOOD), arm_trial("distn", GOOD)]))
    assert best(info) == {"kdgan", "distn"}  # equal means
    assert best(table_info(make_runs([lucky, arm_trial("kdgan", GOOD)]))) == set()  # no rival
    few = arm_trial("nagan", {0: 0.99, 1: 0.99})
    info = table_info(make_runs([few, arm_trial("kdgan", GOOD), arm_trial("distn", GOOD)]))
    assert best(info) == {"kdgan", "distn"}


def test_differences_are_paired_by_seed_and_corrected_together() -> None:
    theirs = {
        "mimic": {0: 0.89, 1: 0.915, 2: 0.90, 9: 0.1},
        "nagan": {0: 0.85, 1: 0.88, 2: 0.86},
        "teacher": {0: 0.99, 1: 0.99, 2: 0.99},
    }
    trials = [arm_trial(name, scores) for name, scores in theirs.items()]
    info = table_info(make_runs([*trials, arm_trial("kdgan", GOOD)]))
    found = {d.other: d for d in info.differences}
    assert found.keys() == {"mimic", "nagan"} and {d.arm for d in info.differences} == {"kdgan"}
    plain = []
    for name in ("mimic", "nagan"):
        shared = [theirs[name][seed] for seed in GOOD]
        test = found[name].test
        assert test.p == pytest.approx(stats.ttest_rel(list(GOOD.values()), shared).pvalue)
        assert test.difference.mean == pytest.approx(
            sum(GOOD[s] - theirs[name][s] for s in GOOD) / 3
        )
        plain.append(test.p)
    assert [found["mimic"].p_holm, found["nagan"].p_holm] == pytest.approx(holm(plain))
    assert (found["mimic"].unpaired, found["nagan"].unpaired) == ((9,), ())


def test_a_variant_is_set_against_kdgan_and_the_baselines_in_a_family_of_its_own() -> None:
    mimic = {0: 0.89, 1: 0.915, 2: 0.90}
    better = {0: 0.92, 1: 0.925, 2: 0.94}
    trials = [
        arm_trial("kdgan", GOOD), arm_trial("kdgan+ema", better), arm_trial("mimic", mimic),
    ]  # fmt: skip
    info = table_info(make_runs(trials))
    assert [(d.arm, d.other) for d in info.differences] == [
        ("kdgan", "mimic"), ("kdgan+ema", "kdgan"), ("kdgan+ema", "mimic"),
    ]  # fmt: skip
    assert info.differences[0].p_holm == info.differences[0].test.p
    assert info.differences[1].p_holm > info.differences[1].test.p
    assert best(info) == {"kdgan+ema"}


def test_every_seed_that_went_wrong_is_said() -> None:
    trial = arm_trial("kdgan", GOOD, outcome="failed", error="ValueError: no such file")
    wrong = {
        3: ("diverged", math.nan), 4: ("collapsed", 0.4), 5: ("failed", math.nan),
        6: ("finished", math.nan),
    }  # fmt: skip
    trial = trial._replace(seeds={**trial.seeds, **wrong}, valid={})
    info = table_info(make_runs([trial, arm_trial("mimic", {0: 0.9, 1: 0.9})]))
    assert set(info.notes) == {
        "n = 100, KDGAN: seed 3 diverged (no score, not in the mean).",
        "n = 100, KDGAN: seed 4 collapsed (in the mean).",
        "n = 100, KDGAN: seed 5 failed (no score, not in the mean): ValueError: no such file.",
        "n = 100, KDGAN: seed 6 finished without a test score.",
        "n = 100, MIMIC: seeds 2-6 not run, which other arms have.",
    }
    assert info.cells["kdgan", 100].test.n == 4


def caption(*matched: tuple[str, int, str]) -> str:
    trials = []
    for name, size, value in matched:
        trial = arm_trial(name, GOOD, size)
        trials.append(trial._replace(params={**trial.params, "matched": value}))
    return " ".join(table_info(make_runs(trials, planned_trials=9)).caption)


def test_the_caption_says_seeds_matching_estimator_and_origin() -> None:
    text = caption(("kdgan", 100, "seconds"), ("mimic", 100, "seconds"))
    assert "Seeds: 0-2." in text
    assert "Given KDGAN's seconds (matched=seconds)." in text
    assert "Estimator of the adversarial gradient: concrete (KDGAN)." in text
    assert "T alone is no student" in text and "95 % Student-t interval" in text
    assert "Sweep mnist-1a2b3c4d, commit 8f1367d0a1b2, partial: 2 of 9 planned trials." in text


def test_the_caption_says_which_arms_were_matched_how() -> None:
    by_arm = caption(("kdgan", 100, "none"), ("mimic", 100, "steps"), ("mimic", 1000, "steps"))
    assert "Compute differs between arms." in by_arm and "MIMIC: given KDGAN's number" in by_arm
    by_size = caption(("kdgan", 100, "none"), ("mimic", 100, "steps"), ("mimic", 1000, "none"))
    assert "MIMIC at n = 100: given KDGAN's number of updates (matched=steps)" in by_size


def test_seeds_that_differ_by_size_are_said_by_size() -> None:
    trials = [arm_trial("kdgan", GOOD), arm_trial("kdgan", {0: 0.9}, 10_000)]
    info = table_info(make_runs(trials))
    assert "Seeds: 0-2 at n = 100; 0 at n = 10,000." in info.caption
    assert not info.notes


def test_a_whole_sweep() -> None:
    info = table_info(make_runs(realistic_arms([100, 1000], n_seeds=4)))
    assert info.train_sizes == (100, 1000) and len(info.arms) == len(METHODS)
    assert len(info.cells) == 2 * len(METHODS)
    assert len(info.differences) == 2 * 6
