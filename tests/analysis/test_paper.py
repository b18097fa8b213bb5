from __future__ import annotations

import numpy as np
import pytest

from analysis.paper import (
    TABLE1_DATASETS,
    TABLE1_METHODS,
    TABLE2_DATASETS,
    TABLE2_METHODS,
    TAG_METRICS,
    best_figure4_cell,
    figure3_curves,
    figure4_curve,
    figure5_curve,
    load_figure4,
    load_figure5,
    published_curve,
    table1_cell,
    table2_cell,
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


TAG_LABELS = {"P@3", "F@3", "MAP", "MRR"}
# Constants that the plotting script adds to Figure 5.
TAG_SHIFTS = {
    ("alpha", "MAP"): -0.005, ("alpha", "MRR"): 0.005, ("beta", "P@3"): 0.005,
    ("beta", "MRR"): 0.010, ("gamma", "MRR"): 0.004,
}  # fmt: skip


@pytest.mark.parametrize(("factor", "points"), [("alpha", 11), ("beta", 7), ("gamma", 7)])
def test_figure_5_has_every_point_of_four_metrics(factor: str, points: int) -> None:
    frame = load_figure5(factor)
    assert list(frame.columns) == ["metric", *load_figure4(factor).columns[1:]]
    assert not frame.isna().any().any()
    assert frame.groupby("metric").size().to_dict() == dict.fromkeys(TAG_LABELS, points)


@pytest.mark.parametrize("factor", ["alpha", "beta", "gamma"])
def test_figure_5_has_the_coded_constants_removed_and_no_others(factor: str) -> None:
    for metric, series in load_figure5(factor).groupby("metric"):
        shift = TAG_SHIFTS.get((factor, str(metric)), 0.0)
        assert np.allclose(series["printed_value"] - series["unshifted_value"], shift)


def test_figure_5_is_on_the_equations_axes() -> None:
    alpha, beta, gamma = (load_figure5(factor) for factor in ("alpha", "beta", "gamma"))
    assert np.allclose(alpha["equation_axis"], 1 - alpha["true_axis"])
    assert np.allclose(np.log10(beta["printed_axis"]), np.log2(beta["equation_axis"]))
    assert np.allclose(gamma["printed_axis"], 100 * gamma["equation_axis"])


def test_a_tag_run_shared_by_two_panels_has_one_unshifted_value() -> None:
    alpha, beta = load_figure5("alpha"), load_figure5("beta")
    for metric in TAG_LABELS:
        first = alpha[(alpha["metric"] == metric) & (alpha["true_axis"] == 0.3)]
        second = beta[(beta["metric"] == metric) & (beta["true_axis"] == 4)]
        assert first["unshifted_value"].item() == pytest.approx(second["unshifted_value"].item())


def test_p_at_3_is_a_count_of_hits_on_500_posts() -> None:
    """But for one point, which published/README.md names."""
    for factor, odd in (("alpha", []), ("beta", [453.5]), ("gamma", [])):
        frame = load_figure5(factor)
        hits = 1500 * frame[frame["metric"] == "P@3"]["unshifted_value"]
        assert [round(h, 1) for h in hits if abs(h - round(h)) > 0.01] == odd


def test_figure_5s_curves_by_metric_and_mode() -> None:
    levels, values = figure5_curve("alpha", "authors_f_at_3", "corrected")
    assert (levels[0], values[0], max(values)) == (0.0, 0.378683, 0.418041)
    assert figure5_curve("beta", "p_at_3", "printed")[1][0] == 0.307333
    assert figure5_curve("beta", "p_at_3", "corrected")[1][0] == 0.302333
    # The textbook's F was not published, nor was P@5 in this figure.
    for metric in ("f_at_3", "p_at_5", "authors_f_at_5"):
        assert figure5_curve("alpha", metric, "corrected") == ((), ())
    assert figure5_curve("tau", "map", "corrected") == figure5_curve("beta", "map", "none")
    with pytest.raises(ValueError, match="Figure 5 was published for alpha, beta, gamma"):
        load_figure5("tau")


def test_a_curve_is_published_of_the_same_data_only() -> None:
    def curve(dataset: str, metric: str, size: int) -> tuple[object, object]:
        return published_curve(dataset, metric, "gamma", size, "corrected")

    assert curve("mnist", "accuracy", 100) == figure4_curve("gamma", 100, "corrected")
    assert curve("yfcc-popular", "map", 0) == figure5_curve("gamma", "map", "corrected")
    nothing = ((), ())
    assert curve("yfcc-popular", "map", 100) == curve("yfcc-random", "map", 0) == nothing
    assert curve("flickr8k", "map", 0) == curve("digits", "accuracy", 100) == nothing


def test_table_2_is_complete_but_for_the_cell_that_is_blank_on_the_page() -> None:
    blank = [
        (dataset, arm, metric)
        for dataset in TABLE2_DATASETS
        for arm in TABLE2_METHODS
        for metric in TAG_METRICS
        if table2_cell(dataset, arm, 0, metric) is None
    ]
    assert blank == [("yfcc-popular", "nagan", "mrr")]
    assert table2_cell("yfcc-popular", "kdgan", 0, "authors_f_at_3") == 0.3678
    assert table2_cell("yfcc-random", "tagfeature", 20_000, "map") == 0.5149


@pytest.mark.parametrize(
    ("dataset", "arm", "size", "metric"),
    [("yfcc-popular", "kdgan", 0, "f_at_3"), ("yfcc-popular", "mimic", 0, "map"),
     ("yfcc-popular", "kdgan", 100, "map"), ("flickr8k", "kdgan", 0, "map"),
     ("tags", "knn", 0, "map")],
)  # fmt: skip
def test_what_table_2_has_not(dataset: str, arm: str, size: int, metric: str) -> None:
    assert table2_cell(dataset, arm, size, metric) is None


def test_the_published_curves_of_tags_are_rescaled_to_other_maxima_than_table_2s() -> None:
    curves = figure3_curves("b")
    assert curves.keys() == {"tagprop", "tagfeature", "relexample", "nagan", "kdgan"}
    assert (max(curves["nagan"][1]), max(curves["kdgan"][1])) == (0.290, 0.310)
    for arm in ("tagprop", "tagfeature", "relexample"):
        assert set(curves[arm][1]) == {table2_cell("yfcc-popular", arm, 0, "p_at_3")}
    assert (curves["kdgan"][0][0], curves["kdgan"][0][-1]) == (0, 400)
