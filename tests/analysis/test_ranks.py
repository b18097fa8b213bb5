from __future__ import annotations

import pandas as pd
import pytest
from handmade import Trial, make_runs, realistic_trials, seeds, sensitivity

from analysis.paper import figure4_curve
from analysis.ranks import Rank, rank_text, ranks_of, write_ranks
from analysis.sensitivity import sensitivity_info

GAMMAS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def curve(
    factor: str, values: dict[float, float], estimator: str = "concrete", dataset: str = "mnist"
) -> list[Rank]:
    """Return the ranks of one curve at n = 100 with these accuracies."""
    plain = Trial({}, dataset=dataset, params={"estimator": estimator})
    trials = [
        plain._replace(seeds=seeds(value), rows=(sensitivity(factor, level),), **{factor: level})  # type: ignore[arg-type]
        for level, value in values.items()
    ]
    runs = make_runs(trials)
    return ranks_of(runs, sensitivity_info(runs))


def test_a_curve_like_the_published_one_has_rank_correlation_one() -> None:
    levels, values = figure4_curve("gamma", 100, "corrected")
    (rank,) = curve("gamma", dict(zip(levels, values, strict=True)))
    assert rank.levels == pytest.approx(GAMMAS)
    rho, p, n, is_exact = rank.correlation
    assert (rho, n, is_exact) == (pytest.approx(1.0), 7, True)
    assert p < 0.01


def test_the_opposite_curve_has_minus_one() -> None:
    levels, values = figure4_curve("gamma", 100, "corrected")
    (rank,) = curve("gamma", {level: 1 - v for level, v in zip(levels, values, strict=True)})
    assert rank.correlation.rho == pytest.approx(-1.0)


def test_levels_are_compared_on_the_equations_axis_and_only_where_both_are() -> None:
    (alpha,) = curve("alpha", {level / 10: 0.8 + level / 100 for level in range(11)})
    assert len(alpha.levels) == 11 and not alpha.correlation.is_exact
    (gamma,) = curve("gamma", {1e-4: 0.9, 1e-2: 0.8, 1.0: 0.7, 100.0: 0.1})
    assert gamma.levels == pytest.approx((1e-4, 1e-2, 1.0))
    (beta,) = curve("beta", {1e-3: 0.9, 1.0: 0.8, 1e3: 0.7})
    assert beta.levels == (1.0,)


def test_a_cell_without_a_score_is_no_level() -> None:
    (rank,) = curve("gamma", {1e-4: 0.9, 1e-2: 0.8, 1.0: float("nan"), 1e-3: 0.85})
    assert rank.correlation.n == 3


def test_the_text_says_correlation_levels_and_the_authors_estimator() -> None:
    (rank,) = curve("gamma", dict(zip(GAMMAS, (7, 6, 5, 4, 3, 2, 1), strict=True)), "authors")
    start = "Rank correlation with the published curve, γ, n = 100, runs with estimator=authors:"
    text = rank_text(rank)
    assert text.startswith(start) and "at 7 common levels (p = " in text and "exact" in text
    (ours,) = curve("gamma", {1e-4: 0.9, 1e-2: 0.8, 1.0: 0.7})
    assert "estimator" not in rank_text(ours)
    (few,) = curve("beta", {1.0: 0.8, 2.0: 0.9})
    assert rank_text(few).endswith("n = 100: none at 2 common levels (it needs 3).")
    (flat,) = curve("gamma", {1e-4: 0.9, 1e-2: 0.9, 1.0: 0.9})
    assert "one of the two is flat" in rank_text(flat)


def test_other_data_sets_have_no_published_curve() -> None:
    assert curve("gamma", {1e-4: 0.9, 1e-2: 0.8, 1.0: 0.7}, dataset="digits") == []


def test_a_whole_sweep_has_a_rank_for_each_panel_and_size(
    tmp_path: pytest.TempPathFactory,
) -> None:
    runs = make_runs(realistic_trials([100, 500]))
    ranks = ranks_of(runs, sensitivity_info(runs))
    assert [(rank.factor, rank.train_size) for rank in ranks] == [
        ("alpha", 100), ("beta", 100), ("gamma", 100),
    ]  # fmt: skip
    frame = pd.read_csv(write_ranks(ranks, tmp_path))
    assert list(frame["n_levels"]) == [11, 1, 5]
    assert frame["levels"][2] == "0.0001 0.001 0.01 0.1 1"
