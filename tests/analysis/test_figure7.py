from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from drawn import overlapping
from handmade import curve_frame, make_runs
from handmade_methods import arm_trial, variance_curves

from analysis.figure7 import draw_variance, variance_frame, write_figure7
from analysis.variance import VarianceInfo, variance_info

TAUS = (
    ("constant", 1.0, 1.0), ("constant", 0.1, 0.1), ("exponential", 1.0, 0.1),
    ("constant", 5.0, 5.0), ("linear", 1.0, 0.1), ("cosine", 1.0, 0.1),
)  # fmt: skip
LEVELS = {"adversarial": 1e-4, "distillation": 9e-5, "mixture": 5e-5}


@cache
def made(sizes: tuple[int, ...], taus: int = 3) -> VarianceInfo:
    trials = []
    for size in sizes:
        for tau in TAUS[:taus]:
            for name in ("kdgan", "nagan"):
                levels = LEVELS if name == "kdgan" else {"adversarial": 3e-4}
                curves = variance_curves(range(3), levels, noise=0.5)
                trial = arm_trial(name, {0: 0.9, 1: 0.9, 2: 0.9}, size, tau=tau, curves=curves)
                params = {**trial.params, "log_gradient_variance": "True"}
                trials.append(trial._replace(params=params))
    return variance_info(make_runs(trials), curve_frame(*trials))


@pytest.mark.parametrize(("sizes", "taus"), [((100, 1000), 3), ((100,), 1), ((100,), 6)])
def test_no_text_overlaps_another(
    sizes: tuple[int, ...], taus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = draw_variance(made(sizes, taus))
    assert len(figure.axes) == 2 * len(sizes) * taus
    assert overlapping(figure, monkeypatch) == []


def test_strips_of_a_row_share_an_axis_that_holds_all_marks(tmp_path: Path) -> None:
    info = made((100,))
    figure = draw_variance(info)
    frame = variance_frame(info)
    for strip, quantity in ((0, "variance"), (3, "relative_variance")):
        row = figure.axes[strip : strip + 3]
        assert len({axes.get_ylim() for axes in row}) == 1
        assert {axes.get_yscale() for axes in row} == {"log"}
        low, high = row[0].get_ylim()
        values = frame[frame["quantity"] == quantity][["mean", "low", "high"]]
        assert low < values.min().min() and values.max().max() < high
    assert set(frame["gradient"]) == {"adversarial", "distillation", "mixture", "naive"}
    assert len(frame) == 3 * 4 * 2 * 11
    pdf, png, csv = write_figure7(info, tmp_path / "figures")
    assert pdf.read_bytes().startswith(b"%PDF") and png.read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(csv)) == len(frame)


def test_one_wild_interval_does_not_hide_the_others() -> None:
    """The axis holds every mean, and an interval only so far beyond them."""
    info = made((100,), 1)
    (panel,) = info.panels
    line = panel.lines[0]
    wild = line.variance._replace(low=line.variance.low * 1e-12, high=line.variance.high * 1e12)
    lines = (line._replace(variance=wild), *panel.lines[1:])
    figure = draw_variance(info._replace(panels=(panel._replace(lines=lines),)))
    low, high = figure.axes[0].get_ylim()
    means = [value for one in lines for value in one.variance.mean]
    assert low < min(means) and max(means) < high
    assert high / low < 1e4 * (max(means) / min(means)) * 10


def test_each_column_says_how_the_lemma_fares() -> None:
    figure = draw_variance(made((100,)))
    texts = " ".join(text.get_text() for text in figure.texts)
    assert texts.count("Var(L_DS) ≤") == 3 and texts.count("n = 100, τ") == 3
