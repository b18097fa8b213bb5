from __future__ import annotations

import math

import pytest
from handmade import BASELINE, Trial, make_runs, realistic_trials, seeds, sensitivity

from analysis.marks import points_frame
from analysis.sensitivity import Curve, Panel, SensitivityInfo, sensitivity_info

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
BASE = Trial(seeds(0.88, 0.90))
LOW = Trial(seeds(0.80, 0.84), (sensitivity("alpha", 0.0),), alpha=0.0)
HIGH = Trial(seeds(0.70, 0.74), (sensitivity("alpha", 1.0),), alpha=1.0)


def only_panel(info: SensitivityInfo) -> Panel:
    (panel,) = info.panels
    return panel


def only_curve(info: SensitivityInfo) -> Curve:
    (curve,) = only_panel(info).curves
    return curve


def test_a_curve_is_its_levels_and_the_shared_baseline_in_order() -> None:
    curve = only_curve(sensitivity_info(make_runs([HIGH, BASE, LOW])))
    assert [point.level for point in curve.points] == [0.0, 0.5, 1.0]
    assert [point.is_baseline for point in curve.points] == [False, True, False]
    assert [point.mean for point in curve.points] == pytest.approx([0.82, 0.89, 0.72])
    # t(0.975, 1) = 12.7062; the standard error of 0.88 and 0.90 is 0.01.
    assert curve.points[1].high == pytest.approx(0.89 + 12.7062 * 0.01, abs=1e-5)


def test_the_baseline_serves_every_factor() -> None:
    beta = Trial(seeds(0.7, 0.7), (sensitivity("beta", 10.0),), beta=10.0)
    info = sensitivity_info(make_runs([BASE, LOW, beta]))
    assert [panel.factor for panel in info.panels] == ["alpha", "beta"]
    for panel, level in zip(info.panels, (0.5, 1.0), strict=True):
        (baseline,) = (point for point in panel.curves[0].points if point.is_baseline)
        assert baseline.level == level


def test_a_baseline_that_is_also_a_level_is_drawn_once() -> None:
    both = BASE._replace(rows=(BASELINE, sensitivity("alpha", 0.5)))
    curve = only_curve(sensitivity_info(make_runs([both, LOW])))
    assert [point.level for point in curve.points] == [0.0, 0.5]
    assert curve.points[1].is_baseline


def test_a_level_that_went_through_its_logarithm_is_the_baselines() -> None:
    beta = Trial(seeds(0.7), (sensitivity("beta", 10.0),), beta=10.0, gamma=10**-2.0 * (1 + 1e-12))
    info = sensitivity_info(make_runs([BASE, beta]))
    assert len(only_curve(info).points) == 2


def test_cells_around_another_baseline_are_left_out_and_said() -> None:
    stray = Trial(seeds(0.1), (sensitivity("alpha", 0.2),), alpha=0.2, beta=7.0)
    info = sensitivity_info(make_runs([BASE, LOW, stray]))
    assert [point.level for point in only_curve(info).points] == [0.0, 0.5]
    assert any(f"1 {ALPHA} trial(s) around another baseline" in note for note in info.notes)


def test_a_diverged_seed_is_seen_and_not_in_the_mean() -> None:
    bad = HIGH._replace(
        seeds={0: ("finished", 0.7), 1: ("diverged", math.nan), 2: ("finished", 0.8)},
        outcome="diverged",
    )
    info = sensitivity_info(make_runs([BASE, bad]))
    point = only_curve(info).points[-1]
    assert point.mean == pytest.approx(0.75) and point.n == 2
    assert [seed.outcome for seed in point.seeds] == ["finished", "diverged", "finished"]
    assert "diverged: 1 (no score, not in the mean)" in info.footer


def test_a_score_recorded_for_a_diverged_seed_is_not_used() -> None:
    bad = HIGH._replace(seeds={0: ("finished", 0.7), 1: ("diverged", 0.1)})
    point = only_curve(sensitivity_info(make_runs([BASE, bad]))).points[-1]
    assert (point.mean, point.n) == (0.7, 1)


def test_a_collapsed_seed_is_marked_and_in_the_mean() -> None:
    bad = HIGH._replace(seeds={0: ("finished", 0.8), 1: ("collapsed", 0.4)}, outcome="collapsed")
    info = sensitivity_info(make_runs([BASE, bad]))
    point = only_curve(info).points[-1]
    assert point.mean == pytest.approx(0.6)
    assert point.seeds[1].outcome == "collapsed"
    assert "Seeds collapsed: 1 (in the mean)" in info.footer


def test_the_shared_baselines_accidents_are_counted_once() -> None:
    base = BASE._replace(seeds={0: ("finished", 0.8), 1: ("collapsed", 0.4)})
    beta = Trial(seeds(0.7, 0.7), (sensitivity("beta", 10.0),), beta=10.0)
    info = sensitivity_info(make_runs([base, LOW, beta]))
    assert "Seeds collapsed: 1 (in the mean)" in info.footer


def test_one_seed_has_no_band() -> None:
    alone = [trial._replace(seeds=seeds(0.8)) for trial in (BASE, LOW)]
    info = sensitivity_info(make_runs(alone))
    assert all(math.isnan(point.low) for point in only_curve(info).points)
    assert "One scored seed a cell, hence no interval." in info.footer


def test_the_footer_says_how_many_seeds_the_cells_have() -> None:
    three = LOW._replace(seeds=seeds(0.8, 0.8, 0.8))
    assert "over 2-3 scored seeds" in sensitivity_info(make_runs([BASE, three])).footer
    assert (
        "95 % Student-t interval over 2 scored" in sensitivity_info(make_runs([BASE, LOW])).footer
    )


def test_a_level_missing_at_one_size_leaves_a_gap_and_a_note() -> None:
    other = [trial._replace(train_size=1000) for trial in (BASE, LOW)]
    info = sensitivity_info(make_runs([BASE, LOW, HIGH, *other]))
    short = only_panel(info).curves[1]
    assert short.train_size == 1000
    gap = short.points[-1]
    assert (gap.level, gap.outcome, gap.n) == (1.0, "missing", 0) and math.isnan(gap.mean)
    assert f"n = 1,000: no trial yet at {ALPHA} = 1." in info.notes


def test_a_failed_cell_is_a_gap_with_its_error() -> None:
    failed = HIGH._replace(
        seeds={0: ("failed", math.nan)}, outcome="failed", error="ValueError: bad"
    )
    info = sensitivity_info(make_runs([BASE, LOW, failed]))
    point = only_curve(info).points[-1]
    assert math.isnan(point.mean) and point.outcome == "failed"
    assert f"n = 100, {ALPHA} = 1: failed (ValueError: bad)." in info.notes
    assert "failed trials: 1" in info.footer


def added(trial: Trial, seed: int, outcome: str, value: float = math.nan) -> Trial:
    """Return a trial of the same cell that holds one seed more."""
    return trial._replace(seeds={seed: (outcome, value)}, outcome=outcome)


def test_a_cell_with_a_failed_trial_keeps_its_scores_and_says_which_seeds_failed() -> None:
    failed = added(HIGH, 5, "failed")._replace(error="ValueError: bad")
    failed = failed._replace(seeds={**failed.seeds, 6: ("failed", math.nan)})
    info = sensitivity_info(make_runs([BASE, LOW, HIGH, failed], planned_trials=4))
    point = only_curve(info).points[-1]
    assert (point.mean, point.n) == (pytest.approx(0.72), 2)
    assert (point.outcome, len(point.seeds)) == ("failed", 4)
    assert f"n = 100, {ALPHA} = 1: seeds 5, 6 failed (ValueError: bad)." in info.notes
    assert "failed trials: 1" in info.footer and "partial" not in info.footer


def test_failed_trials_are_counted_as_trials_and_those_of_the_baseline_once() -> None:
    beta = Trial(seeds(0.7, 0.7), (sensitivity("beta", 10.0),), beta=10.0)
    failures = [added(BASE, 5, "failed"), added(BASE, 6, "failed"), added(LOW, 5, "failed")]
    info = sensitivity_info(make_runs([BASE, LOW, beta, *failures]))
    assert "failed trials: 3" in info.footer
    assert info.notes.count("n = 100, baseline: seeds 5, 6 failed.") == 1


def test_a_cell_whose_seeds_diverged_or_failed_says_both() -> None:
    bad = [added(HIGH, 0, "diverged"), added(HIGH, 5, "failed")]
    notes = sensitivity_info(make_runs([BASE, *bad])).notes
    assert f"n = 100, {ALPHA} = 1: no seed has a test score (diverged)." in notes
    assert f"n = 100, {ALPHA} = 1: seed 5 failed." in notes


def test_a_seed_that_was_stopped_early_is_said() -> None:
    stopped = [added(HIGH, 5, "stopped"), added(HIGH, 6, "collapsed")]
    info = sensitivity_info(make_runs([BASE, HIGH, *stopped]))
    assert only_curve(info).points[-1].n == 2
    note = f"n = 100, {ALPHA} = 1: seeds 5, 6 stopped early, without a test score."
    assert note in info.notes
    assert "Seeds collapsed: 0 (in the mean)" in info.footer
    alone = sensitivity_info(make_runs([BASE, stopped[0]]))
    assert f"n = 100, {ALPHA} = 1: no seed has a test score (stopped)." in alone.notes


def test_the_baseline_whose_last_trial_started_last_is_the_one() -> None:
    other = Trial(seeds(0.5, 0.5), gamma=0.1)
    for trials, mean in (
        ([BASE, other], 0.5),
        ([BASE, other, added(BASE, 5, "finished", 0.95)], 0.91),
    ):
        curve = only_curve(sensitivity_info(make_runs([HIGH, *trials])))
        assert [p.mean for p in curve.points if p.is_baseline] == [pytest.approx(mean)]


def test_trials_around_another_baseline_are_counted_as_trials() -> None:
    stray = Trial(seeds(0.1), (sensitivity("alpha", 0.2),), alpha=0.2, beta=7.0)
    info = sensitivity_info(make_runs([BASE, LOW, stray, added(stray, 5, "finished", 0.1)]))
    assert any(f"2 {ALPHA} trial(s) around another baseline" in note for note in info.notes)


def test_the_frame_names_each_seeds_trial_and_all_of_a_mean() -> None:
    more = added(HIGH, 5, "finished", 0.9)
    frame = points_frame(sensitivity_info(make_runs([BASE, more, HIGH]), "none"))
    frame = frame[frame["level"] == "1"]
    ids = dict(zip(frame["seed"].fillna(-1), frame["trial_id"], strict=True))
    assert ids == {
        -1: f"{more.trial_id},{HIGH.trial_id}",
        0: HIGH.trial_id,
        1: HIGH.trial_id,
        5: more.trial_id,
    }


def test_temperature_is_a_category_named_by_its_schedule() -> None:
    schedules = [("constant", 0.1, 0.1), ("linear", 1.0, 0.1)]
    cells = [Trial(seeds(0.8, 0.9), (sensitivity("tau", s),), tau=s) for s in schedules]
    panel = only_panel(sensitivity_info(make_runs([BASE, *cells])))
    assert panel.labels == ("exponential 1→0.1", "linear 1→0.1", "constant 0.1")
    assert [point.level for point in panel.curves[0].points] == [0.0, 1.0, 2.0]
    assert panel.curves[0].points[0].is_baseline


def test_searched_baselines_of_several_sizes_share_one_place_on_the_temperature_axis() -> None:
    cells = []
    for size, start in ((100, 2.3456), (1000, 4.0)):
        base = ("exponential", start, 0.05)
        cells.append(Trial(seeds(0.8, 0.9), train_size=size, tau=base))
        level = ("constant", 0.1, 0.1)
        cells.append(Trial(seeds(0.8, 0.9), (sensitivity("tau", level),), size, tau=level))
    info = sensitivity_info(make_runs(cells))
    panel = only_panel(info)
    assert panel.labels == ("baseline", "constant 0.1")
    for curve in panel.curves:
        assert [(p.level, p.is_baseline) for p in curve.points] == [(0.0, True), (1.0, False)]
    assert panel.curves[0].points[0].label == "exponential 2.35→0.05"
    assert (
        "n = 1,000: the baseline's \N{GREEK SMALL LETTER TAU} is exponential 4→0.05." in info.notes
    )


def test_the_footer_names_the_sweep_and_whether_it_is_partial() -> None:
    info = sensitivity_info(make_runs([BASE, LOW], planned_trials=7, dirty=True, quick=True))
    assert "Sweep mnist-1a2b3c4d, commit 8f1367d0a1b2 (dirty), quick" in info.footer
    assert "partial: 2 of 7 planned trials" in info.footer
    assert "best validation checkpoint" in info.footer
    running = sensitivity_info(make_runs([BASE, LOW], has_ended=False)).footer
    assert "partial: 2 trials so far, the sweep has not ended" in running
    whole = sensitivity_info(make_runs([BASE, LOW], planned_trials=2)).footer
    assert "partial" not in whole and "dirty" not in whole and "quick" not in whole


def test_published_curves_are_drawn_for_mnist_at_equal_sizes_only() -> None:
    other = [trial._replace(train_size=500) for trial in (BASE, LOW)]
    runs = make_runs([BASE, LOW, *other])
    (line,) = only_panel(sensitivity_info(runs)).published
    assert (line.train_size, line.levels[0], line.values[0]) == (100, 0.0, 0.7633)
    (line,) = only_panel(sensitivity_info(runs, "printed")).published
    assert (line.levels[0], line.values[0]) == (0.0, 0.7478)
    assert only_panel(sensitivity_info(runs, "none")).published == ()
    digits = make_runs([trial._replace(dataset="digits") for trial in (BASE, LOW)])
    info = sensitivity_info(digits)
    assert only_panel(info).published == ()
    assert not any("published" in note for note in info.notes)


def test_the_frame_holds_exactly_the_marks() -> None:
    info = sensitivity_info(make_runs(realistic_trials([100, 1000])))
    frame = points_frame(info)
    points = [p for panel in info.panels for curve in panel.curves for p in curve.points]
    marks = frame["mark"].value_counts()
    assert marks["mean"] == len(points)
    assert marks["seed"] == sum(len(point.seeds) for point in points)
    assert marks["published"] == 2 * (11 + 7 + 7)
    means = frame[frame["mark"] == "mean"]["accuracy"].dropna()
    assert means.tolist() == [point.mean for point in points if point.n]
    published = frame[frame["mark"] == "published"]
    assert published["low"].isna().all() and published["accuracy"].max() == 0.9644


def test_another_trial_at_the_baselines_place_does_not_replace_it() -> None:
    # A beta that differs in its last digits is another trial at the same point.
    twin = Trial(seeds(0.5, 0.5), (sensitivity("alpha", 0.5),), beta=1.0 + 1e-9)
    curve = only_curve(sensitivity_info(make_runs([twin, LOW, BASE])))
    assert [(point.mean, point.is_baseline) for point in curve.points] == [
        (pytest.approx(0.82), False),
        (pytest.approx(0.89), True),
    ]
