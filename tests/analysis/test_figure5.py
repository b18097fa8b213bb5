from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from drawn import overlapping
from handmade import Trial, make_runs, seeds, sensitivity
from handmade_tags import metrics_of, realistic_tag_trials, with_metrics

from analysis.drawing import PUBLISHED_DASHES
from analysis.figure5 import (
    METRICS,
    Figure5Info,
    draw_figure5,
    figure5_frame,
    figure5_info,
    write_figure5,
)
from analysis.paper import PublishedMode
from analysis.strip_figure import APART_TITLE
from analysis.tasks import data_note


@cache
def info_of(
    dataset: str = "flickr8k", published: PublishedMode = "corrected", taus: int = 4,
    sizes: tuple[int, ...] = (0,),
) -> Figure5Info:  # fmt: skip
    trials = realistic_tag_trials(dataset=dataset, taus=taus, sizes=sizes)
    return figure5_info(make_runs(trials, planned_trials=90), published)


def only(*factors: str) -> Figure5Info:
    """Return the figure of some factors alone."""
    trials = [
        trial._replace(rows=tuple(r for r in trial.rows if r["factor"] in {"", *factors}))
        for trial in realistic_tag_trials(taus=8)
    ]
    return figure5_info(make_runs(trials))


def test_every_metric_has_its_own_means_over_the_same_cells() -> None:
    cells = [
        Trial(seeds(0.4, 0.5), (sensitivity("alpha", level),), 0, alpha=level, dataset="flickr8k")
        for level in (0.0, 1.0)
    ]
    info = figure5_info(make_runs([with_metrics(trial) for trial in cells]))
    assert [one.metric.name for one in info.metrics] == list(METRICS)
    for one in info.metrics:
        (panel,) = one.panels
        assert one.train_sizes == (0,)
        wanted = sum(metrics_of(score)[one.metric.name] for score in (0.4, 0.5)) / 2
        assert [point.mean for point in panel.curves[0].points] == pytest.approx([wanted] * 2)
        assert [seed.outcome for seed in panel.curves[0].points[0].seeds] == ["finished"] * 2
    labels = [one.metric.label for one in info.metrics]
    assert labels == ["P@3", "F@3", "F@3 (authors)", "MAP", "MRR"]


def test_published_curves_of_other_data_are_in_no_strip_of_ours() -> None:
    info = info_of("flickr8k")
    assert not any(panel.published for one in info.metrics for panel in one.panels)
    assert {(line.factor, line.metric) for line in info.apart} == {
        (factor, metric)
        for factor in ("alpha", "beta", "gamma")
        for metric in ("p_at_3", "authors_f_at_3", "map", "mrr")
    }
    assert info.notes[0].startswith("Grey row, other data: YFCC100M's most popular tags")
    assert "shapes and not levels" in info.notes[0] and "constants added" in info.notes[0]
    same = info_of("yfcc-popular")
    assert same.apart == () and same.notes[0].startswith("Dashed: published (best over test")
    assert "maximum of its metric by itself" in same.notes[1]
    drawn = {
        one.metric.name: sum(len(panel.published) for panel in one.panels) for one in same.metrics
    }
    assert drawn == {"p_at_3": 3, "f_at_3": 0, "authors_f_at_3": 3, "map": 3, "mrr": 3}
    assert info_of("flickr8k", "none").apart == () == info_of("yfcc-popular", "none").apart


def test_the_grey_row_has_changes_on_an_axis_of_its_own() -> None:
    figure = draw_figure5(info_of("flickr8k"))
    assert len(figure.axes) == 5 * 4 + 3
    assert APART_TITLE in [text.get_text() for text in figure.texts]
    highest = 0.0
    for number, axes in enumerate(figure.axes[20:]):
        ours = figure.axes[number]
        assert axes.get_xlim() == ours.get_xlim()
        lines = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
        assert len(lines) == 4
        dashes = [line._unscaled_dash_pattern for line in lines]  # type: ignore[attr-defined]
        assert dashes == [PUBLISHED_DASHES] * 4
        low, high = axes.get_ylim()
        values = [float(y) for line in lines for y in line.get_ydata()]
        assert low < min(values) and max(values) < high
        assert max(values) <= 0
        highest = max(highest, *[1 + value for value in values])
    assert highest == 1  # the highest value of each curve over the panels is the zero


def test_all_rows_of_a_column_have_one_axis() -> None:
    figure = draw_figure5(info_of("yfcc-popular"))
    for column in range(4):
        assert len({axes.get_xlim() for axes in figure.axes[column::4]}) == 1


@pytest.mark.parametrize(
    ("dataset", "taus", "sizes", "published"),
    [
        ("flickr8k", 8, (0,), "corrected"),
        ("flickr8k", 4, (500, 0), "printed"),
        ("yfcc-popular", 2, (0,), "corrected"),
    ],
)
def test_no_text_overlaps_another(
    dataset: str, taus: int, sizes: tuple[int, ...], published: PublishedMode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    info = info_of(dataset, published, taus=taus, sizes=sizes)
    assert len(info.metrics[0].panels[3].labels) == taus
    assert overlapping(draw_figure5(info), monkeypatch) == []


@pytest.mark.parametrize("factors", [{"tau"}, {"gamma"}, {"alpha", "tau"}])
def test_no_text_overlaps_with_fewer_panels(
    factors: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = only(*factors)
    assert {line.factor for line in info.apart} == factors - {"tau"}
    assert overlapping(draw_figure5(info), monkeypatch) == []


def test_the_caption_says_statistic_form_of_f_and_data() -> None:
    footer = info_of("flickr8k").footer
    assert "Scores: test metrics at each seed's best validation checkpoint, by MAP." in footer
    assert "F@N (authors) takes R-precision" in footer
    assert data_note("flickr8k") in footer and "partial: 26 of 90 planned trials" in footer
    assert "Hodosh" not in info_of("yfcc-popular").footer


def test_collapsed_and_diverged_seeds_are_marked_in_every_row() -> None:
    figure = draw_figure5(info_of("flickr8k"))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"collapsed seed", "diverged seed, no score", "baseline cell"} <= set(labels)
    for row in range(5):
        beta = figure.axes[4 * row + 1]
        crosses = [line for line in beta.lines if line.get_marker() == "x"]
        assert [float(line.get_xdata()[0]) for line in crosses] == [1000.0]  # type: ignore[arg-type]


def test_the_frame_names_the_metric_and_the_row_of_other_data(tmp_path: Path) -> None:
    info = info_of("flickr8k")
    frame = figure5_frame(info)
    assert list(frame.columns[:5]) == ["metric", "panel", "train_size", "level", "mark"]
    ours = frame[frame["mark"] != "published"]
    assert ours.groupby("metric").size().nunique() == 1 and set(ours["metric"]) == set(METRICS)
    assert set(ours["train_size"]) == {0}
    apart = frame[frame["mark"] == "published"]
    assert len(apart) == 4 * (11 + 7 + 7) and apart["train_size"].isna().all()
    assert apart["value"].max() == 0.870740  # as published, not the change
    small = only("gamma")
    pdf, png, csv = write_figure5(small, tmp_path / "figures")
    assert [path.name for path in (pdf, png, csv)] == ["figure5.pdf", "figure5.png", "figure5.csv"]
    assert pdf.read_bytes().startswith(b"%PDF") and png.read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(csv)) == len(figure5_frame(small))
    same = figure5_frame(info_of("yfcc-popular"))
    assert set(same[same["mark"] == "published"]["train_size"]) == {0}


def test_an_empty_info_is_refused() -> None:
    info = figure5_info(make_runs([with_metrics(Trial(seeds(0.5), dataset="flickr8k"))]))
    with pytest.raises(ValueError, match="no panel"):
        draw_figure5(info)
