from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from drawn import overlapping
from handmade import curve_frame, make_runs
from handmade_methods import METHODS, arm_trial, learning_curves, realistic_arms
from handmade_tags import realistic_tag_arms

from analysis.curves import CurvesInfo, curves_info
from analysis.drawing import PUBLISHED_DASHES
from analysis.figure3 import ARM_COLOURS, curves_frame, draw_curves, write_figure3
from analysis.methods import BASELINES


@cache
def made(sizes: tuple[int, ...], names: tuple[str, ...] = METHODS) -> CurvesInfo:
    trials = realistic_arms(sizes, n_seeds=6, names=names)
    return curves_info(make_runs(trials, planned_trials=99, dirty=True), curve_frame(*trials))


@pytest.mark.parametrize(
    ("sizes", "names"),
    [
        ((100, 1000, 10_000), METHODS),
        ((100,), METHODS),
        ((100,), ("kdgan", "nagan")),
        ((1000,), ("kdgan", "nagan")),
    ],
)
def test_no_text_overlaps_another(
    sizes: tuple[int, ...], names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = made(sizes, names)
    assert overlapping(draw_curves(info), monkeypatch) == []


def test_the_published_curve_has_axes_of_its_own_and_is_dashed() -> None:
    figure = draw_curves(made((100, 1000), ("kdgan", "nagan", "mimic")))
    assert len(figure.axes) == 5
    updates, _, published = figure.axes[:3]
    assert published.get_title(loc="left") == "(c) as published: test accuracy (%)"
    assert published.get_xlabel() == "epochs, as printed"
    assert published.get_ylim() != updates.get_ylim()
    lines = published.get_lines()
    assert len(lines) == 5
    dashes = [line._unscaled_dash_pattern for line in lines]  # type: ignore[attr-defined]
    assert dashes == [PUBLISHED_DASHES] * 5
    (kdgan,) = (line for line in lines if line.get_color() == ARM_COLOURS["kdgan"])
    assert max(kdgan.get_ydata()) == pytest.approx(77.95)  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [("kdgan",), ("kdgan", "nagan", "mimic"), METHODS])
def test_every_colour_is_in_the_legend(names: tuple[str, ...]) -> None:
    """Those of published curves too whose methods were not run."""
    info = made((100,), names)
    figure = draw_curves(info)
    (legend,) = figure.legends
    shown = {line.get_color() for line in legend.get_lines()}
    drawn = {line.get_color() for axes in figure.axes for line in axes.get_lines()}
    assert drawn & set(ARM_COLOURS.values()) <= shown
    said = [text.get_text() for text in legend.get_texts()]
    assert ("DISTN, published" in said) == ("distn" not in names)
    assert len(said) == len(set(said))
    others = set(names) - {"kdgan", "nagan"}
    assert ("Thin lines" in info.footer) == bool(others)


def test_all_marks_are_in_view_and_in_the_table(tmp_path: Path) -> None:
    info = made((100,))
    frame = curves_frame(info)
    ours = frame[frame["mark"] != "published"]
    low, high = draw_curves(info).axes[0].get_ylim()
    values = 100 * pd.concat([ours["accuracy"], ours["low"], ours["high"]]).dropna()
    assert low <= values.min() and values.max() <= max(high, 100)
    assert set(frame["mark"]) == {"mean", "seed", "level", "published"}
    means = frame[(frame["mark"] == "mean") & (frame["arm"] == "nagan")]
    assert set(means["axis"]) == {"updates", "seconds"} and set(means["n"]) == {5}
    assert set(frame[frame["mark"] == "seed"]["seed"]) == {3}
    pdf, png, csv = write_figure3(info, tmp_path / "figures")
    assert pdf.read_bytes().startswith(b"%PDF") and png.read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(csv)) == len(frame)


def test_wide_intervals_are_in_view_as_far_as_accuracy_goes() -> None:
    def limits(low: float, high: float) -> tuple[float, float]:
        finals = {0: low, 1: high}
        trial = arm_trial("kdgan", finals, 1000, curves=learning_curves(finals, 0.6, noise=0.0))
        info = curves_info(make_runs([trial]), curve_frame(trial))
        return draw_curves(info).axes[0].get_ylim()

    # Two seeds .01 apart: the half-width is 12.706 * .005.
    low, high = limits(0.70, 0.71)
    assert low < 60 and high > 100 * (0.705 + 12.7 * 0.005 * 0.98)
    assert limits(0.2, 0.9) == (-2, 102)


def test_a_sweep_without_a_published_curve_has_two_panels() -> None:
    figure = draw_curves(made((1000,), ("kdgan",)))
    assert len(figure.axes) == 2
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "updates of C after pretraining", "seconds of a seed's training",
    ]  # fmt: skip


def test_tags_are_drawn_as_fractions_with_a_published_panel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trials = realistic_tag_arms(n_seeds=4, images=2)
    info = curves_info(make_runs(trials), curve_frame(*trials))
    figure = draw_curves(info)
    updates, _, published = figure.axes
    assert published.get_title(loc="left") == "(c) as published: P@3, YFCC100M"
    assert updates.get_title(loc="left") == "(a) over updates, n = all"
    assert "Validation P@3" in [text.get_text() for text in figure.texts]
    assert updates.get_ylim()[1] < 1 and published.get_ylim()[1] < 1
    (kdgan,) = (line for line in published.lines if line.get_color() == ARM_COLOURS["kdgan"])
    assert max(kdgan.get_ydata()) == pytest.approx(0.310)  # type: ignore[arg-type]
    assert overlapping(figure, monkeypatch) == []
    frame = curves_frame(info)
    assert "p_at_3" in frame and "accuracy" not in frame
    assert set(frame[frame["mark"] == "level"]["arm"]) >= {"knn", "tagfeature", "mimic"}


def test_every_arm_has_a_look_of_its_own() -> None:
    assert {"kdgan", "nagan", *BASELINES} == set(ARM_COLOURS)
    assert len(set(ARM_COLOURS.values())) == len(ARM_COLOURS)
