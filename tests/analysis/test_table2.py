from __future__ import annotations

import math

import pytest
from handmade import Trial, image_frame, make_runs
from handmade_tags import TAG_ARMS, metrics_of, realistic_tag_arms, tag_arm, tag_images
from scipy import stats

from analysis.stats import holm, t_interval
from analysis.table2 import NOT_PUBLISHED, PUBLISHED_NOTE, Table2Info, table2_info
from analysis.tasks import F_NOTE, data_note

GOOD = {0: 0.51, 1: 0.53, 2: 0.52}


def made(*trials: Trial, with_published: bool = True, **facts: object) -> Table2Info:
    return table2_info(make_runs(trials, **facts), image_frame(*trials), with_published)


def best(info: Table2Info, metric: str = "map") -> set[str]:
    return {name for (name, _), cell in info.cells.items() if cell.scores[metric].is_best}


def test_a_cell_holds_every_metric_ours_and_the_authors() -> None:
    info = made(tag_arm("kdgan", GOOD, gain=0.01))
    scores = info.cells["kdgan", 0].scores
    assert list(scores) == [
        "p_at_3", "p_at_5", "f_at_3", "f_at_5", "map", "mrr", "authors_f_at_3", "authors_f_at_5",
    ]  # fmt: skip
    for name, score in scores.items():
        ours = t_interval([metrics_of(value)[name] for value in GOOD.values()])
        assert score.test == pytest.approx(ours)
        assert score.authors.mean == pytest.approx(ours.mean + 0.01)
        assert score.published is None


def test_published_values_stand_in_the_authors_form_of_f_only() -> None:
    def published(dataset: str, **more: object) -> dict[str, float | None]:
        info = made(tag_arm("kdgan", GOOD, dataset=dataset), **more)  # type: ignore[arg-type]
        return {name: s.published for name, s in info.cells["kdgan", 0].scores.items()}

    popular = published("yfcc-popular")
    assert (popular["map"], popular["authors_f_at_3"], popular["f_at_3"]) == (
        0.7787, 0.3678, None,
    )  # fmt: skip
    assert published("yfcc-random")["map"] == 0.6302
    for nothing in (published("flickr8k"), published("yfcc-popular", with_published=False)):
        assert set(nothing.values()) == {None}


def test_the_caption_says_what_is_published_and_what_the_data_are() -> None:
    ours, paper = (made(tag_arm("kdgan", GOOD, dataset=d)) for d in ("flickr8k", "yfcc-popular"))
    assert NOT_PUBLISHED in ours.caption and PUBLISHED_NOTE in paper.caption
    assert NOT_PUBLISHED not in paper.caption and PUBLISHED_NOTE not in ours.caption
    assert F_NOTE in ours.caption
    assert data_note("flickr8k") in ours.caption[-1] and data_note("flickr8k") in ours.data_note
    assert "Data:" not in " ".join(paper.caption) and paper.data_note == ""
    without = made(tag_arm("kdgan", GOOD), with_published=False)
    assert NOT_PUBLISHED not in without.caption


def test_the_best_student_is_best_in_each_metric_and_the_teacher_does_not_compete() -> None:
    mimic = tag_arm("mimic", {s: v - 0.01 for s, v in GOOD.items()})
    mimic = mimic._replace(extra={**mimic.extra, "test_mrr": dict.fromkeys(GOOD, 0.99)})
    info = made(tag_arm("kdgan", GOOD), mimic, tag_arm("teacher", dict.fromkeys(GOOD, 0.9)))
    assert (best(info), best(info, "mrr")) == ({"kdgan"}, {"mimic"})


def test_a_recommender_competes_and_has_no_spread() -> None:
    info = made(tag_arm("knn", dict.fromkeys(GOOD, 0.6)), tag_arm("kdgan", GOOD))
    assert best(info) == {"knn"}
    score = info.cells["knn", 0].scores["map"].test
    assert (score.n, score.low, score.high) == (3, pytest.approx(0.6), pytest.approx(0.6))
    (difference,) = info.differences
    assert difference.by_seed.test.difference.mean == pytest.approx(-0.08)
    assert difference.by_seed.test.p < 0.05


def test_a_recommender_that_ties_is_no_difference() -> None:
    same = dict.fromkeys(GOOD, 0.5)
    trials = [tag_arm(name, same, images=tag_images(same, 20, 1)) for name in ("kdgan", "knn")]
    (difference,) = made(*trials).differences
    assert difference.by_seed.test.p == 1.0
    over = difference.by_image.difference
    assert (over.mean, over.low, over.high) == pytest.approx((0, 0, 0))


def test_differences_are_by_seed_corrected_and_by_image() -> None:
    theirs = {
        "mimic": {0: 0.50, 1: 0.525, 2: 0.51}, "knn": dict.fromkeys(GOOD, 0.45),
        "teacher": dict.fromkeys(GOOD, 0.66),
    }  # fmt: skip
    trials = [
        tag_arm(name, scores, images=tag_images(scores, 50, number))
        for number, (name, scores) in enumerate({"kdgan": GOOD, **theirs}.items())
    ]
    info = made(*trials)
    assert [(d.by_seed.arm, d.by_seed.other) for d in info.differences] == [
        ("kdgan", "knn"), ("kdgan", "mimic"),
    ]  # fmt: skip
    plain = [
        stats.ttest_rel(list(GOOD.values()), list(theirs[name].values())).pvalue
        for name in ("knn", "mimic")
    ]
    assert [d.by_seed.p_holm for d in info.differences] == pytest.approx(holm(plain))
    for d in info.differences:
        assert d.by_image.difference.mean == pytest.approx(d.by_seed.test.difference.mean)
        assert d.by_image.seeds == (0, 1, 2) and d.by_image.difference.n == 50


def test_images_that_are_not_recorded_are_said() -> None:
    some = {0: 0.51, 1: 0.53}
    ours = tag_arm("kdgan", GOOD, images=tag_images(some, 10, 1))
    info = made(ours, tag_arm("mimic", GOOD, images=tag_images(GOOD, 10, 2)), tag_arm("knn", GOOD))
    assert "n = all, KDGAN − MIMIC: scores image by image are recorded of seeds 0, 1 only." in (
        info.notes
    )
    assert "n = all, KDGAN − KNN: scores image by image are recorded of no seed." in info.notes


def test_all_training_posts_come_after_some() -> None:
    info = made(
        tag_arm("kdgan", GOOD), tag_arm("kdgan", GOOD, 500), tag_arm("kdgan", {0: 0.4}, 90)
    )
    assert info.train_sizes == (90, 500, 0)
    assert "Seeds: 0 at n = 90; 0-2 at n = 500; 0-2 at n = all." in info.caption


def test_a_whole_sweep() -> None:
    info = made(*realistic_tag_arms(n_seeds=4, images=30), planned_trials=20)
    assert set(info.arms) == set(TAG_ARMS) and len(info.differences) == 10
    assert best(info) == {"kdgan"}
    assert "n = all, NaGAN: seed 1 diverged (no score, not in the mean)." in info.notes
    nagan = info.cells["nagan", 0].scores["p_at_5"].test
    assert nagan.n == 3 and not math.isnan(nagan.high)
    assert "partial: 12 of 20 planned trials" in info.caption[-1]
