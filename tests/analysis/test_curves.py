from __future__ import annotations

import math

import numpy as np
import pytest
from handmade import curve_frame, make_runs
from handmade_methods import arm_trial, learning_curves, realistic_arms
from handmade_tags import metrics_of, realistic_tag_arms

from analysis.curves import (
    PUBLISHED_NOTE,
    PUBLISHED_TAG_NOTE,
    Band,
    CurvesInfo,
    Line,
    band_at_points,
    band_on_grid,
    curve_trials,
    curves_info,
)
from analysis.frames import RunsError
from analysis.stats import t_interval

FINALS = {0: 0.90, 1: 0.94}


def line(x: list[float], y: list[float], seed: int = 0) -> Line:
    return Line(seed, "finished", np.array(x), np.array(y))


def made(*changes: dict[str, object], **facts: object) -> CurvesInfo:
    """Return the figure of arms with the given fields, two seeds each unless said otherwise."""
    trials = []
    for change in changes:
        curves = learning_curves(FINALS, 0.7, noise=0.0)
        trials.append(arm_trial(str(change.pop("name")), FINALS, curves=curves)._replace(**change))  # type: ignore[arg-type]
    return curves_info(make_runs(trials, **facts), curve_frame(*trials))


def test_a_band_is_the_mean_and_interval_at_shared_points() -> None:
    band = band_at_points([line([0, 1, 2], [0.1, 0.2, 0.3]), line([0, 2, 3], [0.3, 0.5, 0.9])])
    assert band is not None
    assert (band.x.tolist(), band.n) == ([0, 2], 2)
    wanted = t_interval([0.3, 0.5])
    assert (band.mean[1], band.low[1], band.high[1]) == pytest.approx(
        (wanted.mean, wanted.low, wanted.high)
    )
    assert band_at_points([]) is None
    assert band_at_points([line([0], [0.1]), line([1], [0.1])]) is None


def test_a_band_on_a_grid_interpolates_and_ends_with_the_fastest_seed() -> None:
    fast, slow = line([0, 10], [0.0, 1.0]), line([1, 20], [0.0, 1.9])
    band = band_on_grid([fast, slow], points=10)
    assert band is not None
    assert (band.x[0], band.x[-1], len(band.x)) == (1, 10, 10)
    assert band.mean[-1] == pytest.approx((1.0 + 0.9) / 2)
    assert band.mean[0] == pytest.approx((0.1 + 0.0) / 2)
    assert band_on_grid([line([0, 1], [0, 1]), line([2, 3], [0, 1])]) is None


def test_one_seed_has_a_mean_without_an_interval() -> None:
    band = band_on_grid([line([0, 1], [0.0, 1.0])])
    assert band is not None and band.n == 1
    assert band.mean[-1] == 1.0 and math.isnan(band.low[-1])


def test_curves_run_over_updates_and_over_seconds() -> None:
    (row,) = made({"name": "kdgan"}, {"name": "nagan"}).rows
    assert [one.arm.name for one in row.curves] == ["nagan", "kdgan"]
    kdgan = row.curves[1]
    assert isinstance(kdgan.updates, Band) and isinstance(kdgan.seconds, Band)
    assert (kdgan.updates.x[0], kdgan.updates.x[-1], kdgan.updates.n) == (0, 2000, 2)
    assert kdgan.updates.mean[0] == pytest.approx(0.7)
    assert kdgan.updates.mean[-1] == pytest.approx(0.92 - 0.22 * math.exp(-5))
    ends = [p[3] for p in learning_curves(FINALS, 0.7) if p[1] == 2000 and p[2] == "seconds"]
    assert kdgan.seconds.x[-1] == pytest.approx(min(ends))  # type: ignore[type-var]


def test_a_seed_that_diverged_is_in_no_mean_and_drawn_alone() -> None:
    curves = tuple(
        point for point in learning_curves(FINALS, 0.7) if point[0] == 0 or point[1] < 500
    )
    ended = {0: ("finished", 0.9), 1: ("diverged", math.nan)}
    info = made({"name": "nagan", "seeds": ended, "curves": curves, "outcome": "diverged"})
    (nagan,) = info.rows[0].curves
    assert nagan.updates is not None and nagan.updates.n == 1 and len(nagan.updates.x) == 21
    (broken,) = nagan.broken_updates
    assert (broken.seed, broken.x[-1]) == (1, 400)
    assert len(nagan.broken_seconds) == 1
    assert "n = 100, NaGAN: seed 1 diverged, drawn alone as far as it goes." in info.notes


def test_the_trial_that_counts_for_a_seed_gives_its_curve() -> None:
    early = arm_trial("kdgan", {0: 0.5}, curves=((0, 0, "valid_accuracy", 0.1),))
    late = arm_trial("kdgan", {0: 0.9, 1: 0.9}, curves=((0, 0, "valid_accuracy", 0.8),))
    runs = make_runs([early, late])
    info = curves_info(runs, curve_frame(early, late))
    (kdgan,) = info.rows[0].curves
    assert kdgan.updates is not None and kdgan.updates.mean.tolist() == [0.8]
    assert curve_trials(runs) == {late.trial_id}


def test_older_runs_have_no_seconds_and_that_is_said() -> None:
    curves = tuple(p for p in learning_curves(FINALS, 0.7) if p[2] != "seconds")
    info = made({"name": "kdgan", "curves": curves})
    assert info.rows[0].curves[0].seconds is None
    assert "n = 100, KDGAN: no seconds recorded." in info.notes


def test_baselines_are_levels_where_they_end() -> None:
    last = {"last_valid_accuracy": {0: 0.8, 1: 0.9}}
    info = made({"name": "kdgan"}, {"name": "mimic", "extra": last}, {"name": "teacher"})
    (level,) = info.rows[0].levels
    assert (level.arm.name, level.mean, level.n) == ("mimic", pytest.approx(0.85), 2)


def test_the_published_curve_stands_with_the_size_it_was_moved_to() -> None:
    info = made({"name": "kdgan"}, {"name": "kdgan", "train_size": 1000})
    assert [row.has_published for row in info.rows] == [True, False]
    assert info.published.keys() == {"nagan", "kdgan", "mimic", "distn", "noisy"}
    assert PUBLISHED_NOTE in info.notes
    other = made({"name": "kdgan", "train_size": 1000})
    assert not other.published and "not here" in " ".join(other.notes)
    digits = made({"name": "kdgan", "dataset": "digits"})
    assert not digits.published and not digits.notes


def test_the_footer_says_statistic_and_origin() -> None:
    footer = made({"name": "kdgan"}, planned_trials=3).footer
    assert "95 % Student-t interval over 2 seeds" in footer
    assert "partial: 1 of 3 planned trials" in footer


def test_without_nagan_and_kdgan_there_is_nothing_to_draw() -> None:
    for name, curves in (("mimic", learning_curves(FINALS, 0.7)), ("kdgan", ())):
        with pytest.raises(RunsError, match="has no curve of NaGAN or KDGAN"):
            made({"name": name, "curves": curves})


def test_a_whole_sweep() -> None:
    trials = realistic_arms([100, 1000], n_seeds=4)
    info = curves_info(make_runs(trials), curve_frame(*trials))
    assert [row.train_size for row in info.rows] == [100, 1000]
    assert [len(row.levels) for row in info.rows] == [5, 5]
    nagan = info.rows[0].curves[0]
    assert nagan.updates is not None and nagan.updates.n == 3


def test_tags_are_drawn_by_p_at_3_with_the_recommenders_where_they_end() -> None:
    trials = realistic_tag_arms(n_seeds=4, images=2)
    runs = make_runs(trials)
    wanted = {trial.trial_id for trial in trials if trial.rows[0]["level"] != "teacher"}
    assert curve_trials(runs) == wanted
    info = curves_info(runs, curve_frame(*trials))
    (row,) = info.rows
    assert (row.train_size, info.task.curve.label) == (0, "P@3")
    assert {level.arm.name for level in row.levels} == {
        "knn", "tagprop", "tagfeature", "relexample", "codis", "distn", "noisy", "mimic",
        "supervised",
    }  # fmt: skip
    knn = next(level for level in row.levels if level.arm.name == "knn")
    final = 0.431 - (0.431 - 0.25) * math.exp(-5)
    assert (knn.mean, knn.n) == (pytest.approx(metrics_of(final)["p_at_3"]), 4)
    nagan, kdgan = row.curves
    assert nagan.updates is not None and nagan.updates.n == 3 and len(nagan.broken_updates) == 1
    assert kdgan.updates is not None and kdgan.updates.mean[0] == pytest.approx(
        metrics_of(0.25)["p_at_3"]
    )


def test_the_published_curve_of_tags_is_said_to_be_of_other_data() -> None:
    trials = realistic_tag_arms(n_seeds=2, images=2)
    info = curves_info(make_runs(trials), curve_frame(*trials))
    assert info.rows[0].has_published and PUBLISHED_TAG_NOTE in info.notes
    assert info.published.keys() == {"tagprop", "tagfeature", "relexample", "nagan", "kdgan"}
    assert info.footer.startswith(
        "Validation P@3: mean and 95 % Student-t interval over 1-2 seeds"
    )
    assert "mean of the last validation P@3" in info.footer and "Hodosh" in info.footer
    without = curves_info(make_runs(trials), curve_frame(*trials), with_published=False)
    assert not without.published and PUBLISHED_TAG_NOTE not in without.notes
