from __future__ import annotations

import pytest
from handmade import Trial, make_runs, seeds, sensitivity

from analysis.agreement import agreement_text, agreements_of, is_agreement
from analysis.ranks import ranks_of
from analysis.sensitivity import sensitivity_info


def compared(factor: str, scores: dict[float, float]):  # type: ignore[no-untyped-def]
    """Return the agreement of a curve with the published one at n = 100."""
    cells = [
        Trial(seeds(score, score + 0.001), (sensitivity(factor, level),), **{factor: level})
        for level, score in scores.items()
    ]
    runs = make_runs([Trial(seeds(0.9, 0.901)), *cells])
    info = sensitivity_info(runs)
    (one,) = agreements_of(info, ranks_of(runs, info))
    return one


def test_a_fall_at_the_same_place_is_agreement() -> None:
    one = compared("gamma", {0.001: 0.9, 0.1: 0.89, 1.0: 0.80})
    assert is_agreement(one) and one.ours.drop == pytest.approx(0.09)
    text = agreement_text(one)
    assert "from γ = 0.1 to 1, the published curve by 13.9 points from γ = 0.1 to 1." in text
    assert "Rank correlation +0.95 at 4 common levels" in text


def test_a_fall_of_ours_alone_is_disagreement() -> None:
    text = agreement_text(compared("alpha", {0.0: 0.9, 0.9: 0.9, 1.0: 0.8}))
    assert text.startswith("α, n = 100: disagreement: ours falls by 10.0 points from α = 0.9 to 1")
    assert "the published curve nowhere by 3 points" in text


def test_a_fall_of_theirs_alone_is_disagreement() -> None:
    text = agreement_text(compared("gamma", {0.1: 0.9, 1.0: 0.9}))
    assert "disagreement: the published curve falls by 13.9" in text and "ours nowhere" in text


def test_two_flat_curves_agree() -> None:
    assert is_agreement(compared("beta", {0.25: 0.9, 4.0: 0.895}))


def test_a_fall_beyond_the_published_axis_says_so() -> None:
    text = agreement_text(compared("beta", {10.0: 0.9, 100.0: 0.7}))
    assert "disagreement: ours falls" in text and "axis does not reach there." in text


def test_heights_are_compared_where_both_are_highest() -> None:
    """A level at which training breaks does not make a curve a low one."""
    highest = compared("gamma", {0.001: 0.9, 0.1: 0.5, 1.0: 0.1}).above
    assert highest == pytest.approx(0.14, abs=0.01)
