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

TAUS = (("constant", 1.0, 1.0), ("constant", 0.1, 0.1), ("exponential", 1.0, 0.1))
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


@pytest.mark.parametrize(("sizes", "taus"), [((100, 1000), 3), ((100,), 1)])
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


def test_each_column_says_how_the_lemma_fares() -> None:
    figure = draw_variance(made((100,)))
    texts = " ".join(text.get_text() for text in figure.texts)
    assert texts.count("Var(L_DS) ≤") == 3 and texts.count("n = 100, τ") == 3
