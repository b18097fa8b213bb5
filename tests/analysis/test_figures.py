from __future__ import annotations

import itertools
import math
from pathlib import Path

import pandas as pd
import pytest
from drawn import overlapping
from handmade import Trial, make_runs, realistic_trials, seeds, sensitivity
from matplotlib.figure import Figure

from analysis.figures import draw_sensitivity, sensitivity_info, write_figure
from analysis.sensitivity import SensitivityInfo
from analysis.strips import LABEL_STEP, _apart, clipped, make_strips

LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def steady(train_size: int = 500) -> list[Trial]:
    """Return a baseline and an alpha curve with nothing unusual."""
    cells = [
        Trial(seeds(0.90, 0.91), (sensitivity("alpha", level),), train_size, alpha=level)
        for level in LEVELS
    ]
    return [Trial(seeds(0.90, 0.92), train_size=train_size), *cells]


@pytest.mark.parametrize(
    ("sizes", "taus", "published"),
    [
        ([50, 100, 200, 500, 1000, 10_000], 8, "corrected"),
        ([100, 1000, 10_000], 8, "printed"),
        ([100], 2, "corrected"),
    ],
)
def test_no_text_overlaps_another(
    sizes: list[int], taus: int, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_runs(realistic_trials(sizes, taus=taus), dirty=True, planned_trials=900)
    info = sensitivity_info(runs, published)  # type: ignore[arg-type]
    assert len(info.panels[3].labels) == taus
    assert overlapping(draw_sensitivity(info), monkeypatch) == []


@pytest.mark.parametrize("factors", [{"tau"}, {"alpha", "tau"}, {"beta", "gamma", "tau"}])
def test_no_text_overlaps_with_fewer_panels(
    factors: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [
        trial._replace(rows=tuple(r for r in trial.rows if r["factor"] in {"", *factors}))
        for trial in realistic_trials([100, 1000], taus=8)
    ]
    info = sensitivity_info(make_runs(trials))
    assert {panel.factor for panel in info.panels} == factors
    assert overlapping(draw_sensitivity(info), monkeypatch) == []


def test_the_overlap_check_sees_an_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Figure()
    figure.text(0.5, 0.5, "one")
    figure.text(0.5, 0.5, "two")
    assert overlapping(figure, monkeypatch) == [("one", "two")]


def test_files_are_written_and_text_stays_text(tmp_path: Path) -> None:
    info = sensitivity_info(make_runs(realistic_trials([100])))
    pdf, png, csv = write_figure(info, tmp_path / "figures" / "mnist")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"/FontType 3" not in pdf.read_bytes() and b"/Type3" not in pdf.read_bytes()
    assert b"/CIDFontType2" in pdf.read_bytes() or b"/TrueType" in pdf.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert set(pd.read_csv(csv)["mark"]) == {"mean", "seed", "published"}


def test_an_empty_info_is_refused() -> None:
    with pytest.raises(ValueError, match="no panel"):
        draw_sensitivity(SensitivityInfo("mnist", (), (), "", ()))


def test_nothing_is_clipped_where_nothing_is_far_off() -> None:
    (strip,) = make_strips(sensitivity_info(make_runs(steady())), 500)
    assert clipped(strip) == []
    assert strip.low < 0.90 and strip.high > 0.92


def test_a_collapsed_cell_does_not_flatten_the_strip_and_is_not_hidden() -> None:
    cells = steady()
    cells[-1] = cells[-1]._replace(
        seeds={0: ("collapsed", 0.30), 1: ("finished", 0.40)}, outcome="collapsed"
    )
    (strip,) = make_strips(sensitivity_info(make_runs(cells)), 500)
    assert strip.low > 0.85
    (mark,) = clipped(strip)
    assert (mark.level, mark.text) == (1.0, "35.0 (30.0, 40.0)")
    assert mark.is_mean and mark.is_collapsed and not mark.is_published


def test_an_axis_shows_no_accuracy_that_cannot_be() -> None:
    """Means of 0.1 and 0.9 seeds have t intervals that reach below 0 and above 1."""
    cells = [trial._replace(seeds=seeds(0.1, 0.5, 0.95)) for trial in steady()]
    (strip,) = make_strips(sensitivity_info(make_runs(cells)), 500)
    assert any(point.low < 0.0 and point.high > 1.0 for point in strip.points)
    assert -0.05 < strip.low <= 0.1
    assert 0.95 <= strip.high < 1.05


def test_a_single_seed_below_the_axis_is_written_without_the_mean() -> None:
    cells = steady()
    good = dict.fromkeys(range(1, 20), ("finished", 0.91))
    cells[-1] = cells[-1]._replace(seeds={0: ("finished", 0.70), **good})
    (strip,) = make_strips(sensitivity_info(make_runs(cells)), 500)
    (mark,) = clipped(strip)
    assert mark.text == "(70.0)" and not mark.is_mean


def test_a_published_curve_is_in_view_but_for_its_own_outliers() -> None:
    """At n=100 the published curve lies 15 points below these cells, one point far more."""
    cells = [
        Trial(seeds(0.910, 0.914), (sensitivity("gamma", 10.0**p),), 100, gamma=10.0**p)
        for p in range(-4, 1)
    ]
    info = sensitivity_info(make_runs([Trial(seeds(0.910, 0.914)), *cells]))
    (strip,) = make_strips(info, 100)
    assert 0.60 < strip.low < 0.725
    marks = {mark.level: mark.text for mark in clipped(strip) if mark.is_published}
    assert marks == {1.0: "58.7"}


def test_every_mark_is_inside_its_strip_or_written_at_its_edge() -> None:
    info = sensitivity_info(make_runs(realistic_trials([100, 1000, 10_000])))
    for size in info.train_sizes:
        for strip in make_strips(info, size):
            written = {mark.level for mark in clipped(strip)}
            for point in strip.points:
                values = [seed.value for seed in point.seeds if not math.isnan(seed.value)]
                assert all(value <= strip.high for value in values)
                if any(value < strip.low for value in values):
                    assert point.level in written


def test_a_diverged_seed_is_drawn_at_the_bottom_edge() -> None:
    cells = steady()
    cells[2] = cells[2]._replace(
        seeds={0: ("finished", 0.9), 1: ("diverged", math.nan)}, outcome="diverged"
    )
    figure = draw_sensitivity(sensitivity_info(make_runs(cells)))
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [list(line.get_xydata()[0]) for line in crosses] == [[0.2, 0.0]]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "diverged seed, no score" in labels and "collapsed seed" not in labels


def test_a_gap_breaks_the_line_and_the_band() -> None:
    cells = steady()
    cells[3] = cells[3]._replace(
        seeds={0: ("failed", math.nan)}, outcome="failed", error="ValueError"
    )
    axes = draw_sensitivity(sensitivity_info(make_runs(cells))).axes[0]
    mean = next(line for line in axes.lines if len(line.get_xdata()) == 7)
    assert math.isnan(mean.get_ydata()[2])
    assert len(axes.collections) == 2


@pytest.mark.parametrize("outcome", ["stopped", "collapsed"])
def test_seeds_without_a_test_score_are_no_marks(outcome: str, tmp_path: Path) -> None:
    cells = steady()
    cells[1] = cells[1]._replace(seeds=seeds(math.nan, math.nan, outcome=outcome), outcome=outcome)
    cells[2] = cells[2]._replace(
        seeds={0: ("finished", 0.9), 1: (outcome, math.nan)}, outcome=outcome
    )
    info = sensitivity_info(make_runs(cells))
    (strip,) = make_strips(info, 500)
    assert clipped(strip) == []
    _, _, csv = write_figure(info, tmp_path)
    assert pd.read_csv(csv)["accuracy"].isna().sum() == 4


def test_one_seed_draws_no_band() -> None:
    cells = [trial._replace(seeds=seeds(0.9)) for trial in steady()]
    figure = draw_sensitivity(sensitivity_info(make_runs(cells)))
    assert len(figure.axes[0].collections) == 0
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert not any("interval" in label for label in labels)


def test_labels_at_the_edge_are_moved_apart_and_stay_left_of_the_end() -> None:
    moved = _apart([10.0, 12.0, 99.0, 100.0], right=100.0)
    gaps = [after - before for before, after in itertools.pairwise(moved)]
    assert min(gaps) >= LABEL_STEP
    assert moved[-1] == 100.0
