from __future__ import annotations

import numpy as np
import pytest

from analysis.paper import (
    TABLE1_DATASETS,
    TABLE1_METHODS,
    best_figure4_cell,
    figure3_curves,
    figure4_curve,
    load_figure4,
    table1_cell,
)

SHIFTED = {("alpha", 100), ("alpha", 10_000), ("beta", 10_000), ("gamma", 100)}


@pytest.mark.parametrize(("factor", "points"), [("alpha", 33), ("beta", 21), ("gamma", 21)])
def test_every_plotted_point_is_there(factor: str, points: int) -> None:
    frame = load_figure4(factor)
    assert len(frame) == points
    assert not frame.isna().any().any()
    assert frame.groupby("n").size().nunique() == 1


@pytest.mark.parametrize("factor", ["alpha", "beta", "gamma"])
def test_constant_is_removed_from_the_shifted_series_only(factor: str) -> None:
    for n, series in load_figure4(factor).groupby("n"):
        expected = 0.002 if (factor, n) in SHIFTED else 0.0
        assert np.allclose(series["printed_value"] - series["unshifted_value"], expected)


def test_axes_follow_the_equation() -> None:
    alpha, beta, gamma = (load_figure4(factor) for factor in ("alpha", "beta", "gamma"))
    assert np.allclose(alpha["equation_axis"], 1 - alpha["true_axis"])
    assert np.allclose(np.log10(beta["printed_axis"]), np.log2(beta["equation_axis"]))
    assert np.allclose(gamma["printed_axis"], 100 * gamma["equation_axis"])


def test_a_run_shared_by_two_panels_has_one_unshifted_value() -> None:
    alpha, beta = load_figure4("alpha"), load_figure4("beta")
    # The alpha panel was run at beta 2 for n = 100; the beta panel at teacher's weight 0.9.
    in_alpha = alpha[(alpha["n"] == 100) & (alpha["true_axis"] == 0.9)]["unshifted_value"]
    in_beta = beta[(beta["n"] == 100) & (beta["true_axis"] == 2)]["unshifted_value"]
    assert in_alpha.item() == in_beta.item() == 0.7783


def test_curves_by_mode() -> None:
    levels, values = figure4_curve("alpha", 100, "corrected")
    assert (levels[0], values[0]) == (0.0, 0.7633)
    levels, values = figure4_curve("alpha", 100, "printed")
    assert (levels[0], values[0]) == (0.0, 0.7478)
    assert figure4_curve("alpha", 100, "none") == ((), ())
    assert figure4_curve("tau", 100, "corrected") == ((), ())
    assert figure4_curve("beta", 500, "corrected") == ((), ())


def test_best_cell_is_the_highest_unshifted_one() -> None:
    cell = best_figure4_cell(100)
    assert cell is not None
    assert (cell.factor, cell.accuracy) == ("alpha", 0.7796)
    assert cell.level == pytest.approx(0.7)
    assert best_figure4_cell(50) is None


def test_table_1_is_complete_and_in_fractions() -> None:
    sizes = {"mnist": (100, 1000, 10_000), "cifar10": (500, 5000, 50_000)}
    assert sizes.keys() == TABLE1_DATASETS.keys()
    for dataset, own in sizes.items():
        for arm in TABLE1_METHODS:
            for size in own:
                cell = table1_cell(dataset, arm, size)
                assert cell is not None and 0.4 < cell.mean < 1 and 0 < cell.std < 0.01
    assert table1_cell("mnist", "kdgan", 100) == pytest.approx((0.7795, 0.0005))
    assert table1_cell("cifar10", "codis", 5000) == pytest.approx((0.7782, 0.0014))


@pytest.mark.parametrize(
    ("dataset", "arm", "size"),
    [("mnist", "supervised", 100), ("mnist", "kdgan+ema", 100), ("mnist", "kdgan", 500),
     ("digits", "kdgan", 100)],
)  # fmt: skip
def test_what_table_1_has_not(dataset: str, arm: str, size: int) -> None:
    assert table1_cell(dataset, arm, size) is None


def test_the_published_training_curves_end_at_table_1s_values() -> None:
    curves = figure3_curves()
    assert curves.keys() == {"distn", "noisy", "mimic", "nagan", "kdgan"}
    for arm in ("nagan", "kdgan"):
        epochs, values = curves[arm]
        cell = table1_cell("mnist", arm, 100)
        assert cell is not None and max(values) == pytest.approx(cell.mean)
        assert (epochs[0], epochs[-1], values[0]) == (0, 200, 0)
    assert set(curves["mimic"][1]) == {0.6735}
