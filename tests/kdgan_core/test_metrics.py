"""The tag metrics against plain loops and scikit-learn, ties, NaN and images without a tag."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score
from torch import Tensor

from kdgan_core.metrics import METRICS, means, per_image, untagged

TIGHT = 1e-12


@st.composite
def judged(draw: st.DrawFn, ties: bool = True) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N, K) scores and tags; with ties the scores are few whole numbers."""
    images, width = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if ties:
        scores = rng.integers(-2, 2, (images, width)).astype(np.float64)
    else:
        scores = np.argsort(rng.random((images, width)), axis=1).astype(np.float64)
    return scores, rng.random((images, width)) < draw(st.sampled_from([0.1, 0.4, 0.9]))


def metrics_of(scores: NDArray[np.float64], tags: NDArray[np.bool_]) -> dict[str, Tensor]:
    return per_image(torch.tensor(scores), torch.tensor(tags))


def looped(scores: NDArray[np.float64], tags: NDArray[np.bool_]) -> dict[str, float]:
    """One image's metrics, (K,), as the definitions are read out."""
    width, relevant = len(scores), int(tags.sum())
    ranking = sorted(range(width), key=lambda tag: (-scores[tag], tag))

    def hits(length: int) -> int:
        return sum(bool(tags[tag]) for tag in ranking[:length])

    def harmonic(one: float, two: float) -> float:
        return (
            0.0 if one == two == 0.0 else 2.0 / (1.0 / max(one, 1e-300) + 1.0 / max(two, 1e-300))
        )

    found: dict[str, float] = {}
    for cutoff in (3, 5):
        length = min(cutoff, width)
        precision = hits(length) / length
        found[f"p_at_{cutoff}"] = precision
        found[f"f_at_{cutoff}"] = harmonic(precision, hits(length) / relevant)
        found[f"authors_f_at_{cutoff}"] = harmonic(precision, hits(relevant) / relevant)
    places = [place for place, tag in enumerate(ranking, 1) if tags[tag]]
    found["map"] = sum(hits(place) / place for place in places) / relevant
    found["mrr"] = 1.0 / places[0]
    return found


@settings(deadline=None)
@given(judged())
def test_every_metric_is_what_a_loop_finds_ties_included(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    scores, tags = case
    found = metrics_of(scores, tags)
    assert tuple(found) == METRICS
    for row in range(len(scores)):
        if tags[row].any():
            expected = looped(scores[row], tags[row])
            for name in METRICS:
                assert float(found[name][row]) == pytest.approx(expected[name], abs=TIGHT), name
        else:
            assert all(math.isnan(found[name][row]) for name in METRICS)


@settings(deadline=None)
@given(judged(ties=False))
def test_map_is_scikit_learns_average_precision(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    scores, tags = case
    kept = tags.any(axis=1)
    if not kept.any():
        return
    found = metrics_of(scores, tags)["map"].numpy()[kept]
    each = [average_precision_score(y, s) for y, s in zip(tags[kept], scores[kept], strict=True)]
    np.testing.assert_allclose(found, each, atol=TIGHT)
    whole = label_ranking_average_precision_score(tags[kept], scores[kept])
    assert found.mean() == pytest.approx(whole, abs=TIGHT)


@pytest.mark.parametrize(
    "place, expected",
    [
        (1, {"p_at_3": 1 / 3, "f_at_3": 0.5, "authors_f_at_3": 0.5, "map": 1.0, "mrr": 1.0}),
        (1, {"p_at_5": 0.2, "f_at_5": 1 / 3, "authors_f_at_5": 1 / 3}),
        (2, {"p_at_3": 1 / 3, "f_at_3": 0.5, "authors_f_at_3": 0.0, "map": 0.5, "mrr": 0.5}),
        (4, {"p_at_3": 0.0, "f_at_3": 0.0, "f_at_5": 1 / 3, "authors_f_at_5": 0.0, "mrr": 0.25}),
        (6, {"p_at_5": 0.0, "f_at_5": 0.0, "map": 1 / 6}),
    ],
)
def test_an_image_with_one_tag(place: int, expected: dict[str, float]) -> None:
    scores = torch.arange(8.0, 0.0, -1.0)[None]
    found = per_image(scores, torch.arange(1, 9)[None] == place)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=TIGHT), name


def test_two_tags_by_hand() -> None:
    """Tags at ranks 1 and 4 of 6: R-precision is 1/2 where recall at 5 is 1."""
    scores = torch.tensor([[0.9, 0.1, 0.8, 0.7, 0.6, 0.2]])
    tags = torch.tensor([[True, False, False, False, True, False]])
    found = {name: float(values) for name, values in per_image(scores, tags).items()}
    assert found == pytest.approx(
        {
            "p_at_3": 1 / 3,
            "p_at_5": 2 / 5,
            "f_at_3": 2 / 5,
            "f_at_5": 4 / 7,
            "authors_f_at_3": 2 / 5,
            "authors_f_at_5": 4 / 9,
            "map": 3 / 4,
            "mrr": 1.0,
        },
        abs=TIGHT,
    )


def test_fewer_tags_than_the_cutoff() -> None:
    found = per_image(torch.tensor([[0.1, 0.2]]), torch.tensor([[True, True]]))
    assert all(float(values) == pytest.approx(1.0) for values in found.values())


def test_of_equal_scores_the_lower_tag_comes_first() -> None:
    found = per_image(torch.zeros(3, 300), torch.eye(300, dtype=torch.bool)[[0, 1, 299]])
    np.testing.assert_allclose(found["mrr"], [1.0, 1 / 2, 1 / 300])


@settings(deadline=None)
@given(judged(), st.integers(0, 2**32 - 1))
def test_a_nan_score_is_no_hit_and_pushes_no_tag_down(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]], seed: int
) -> None:
    """-inf ties with nothing: the tags with a score rank as if the others were not there."""
    scores, tags = case
    scores[scores == -2.0] = -np.inf
    lost = np.random.default_rng(seed).random(scores.shape) < 0.5
    found = metrics_of(np.where(lost, np.nan, scores), tags)
    for row in range(len(scores)):
        relevant = int(tags[row].sum())
        if not relevant:
            continue
        kept = np.flatnonzero(~lost[row])
        ranking = kept[np.argsort(-scores[row, kept], kind="stable")]
        places = [place for place, tag in enumerate(ranking, 1) if tags[row, tag]]
        expected = sum(hits / place for hits, place in enumerate(places, 1)) / relevant
        assert float(found["map"][row]) == pytest.approx(expected, abs=TIGHT)
        assert float(found["mrr"][row]) == (1.0 / places[0] if places else 0.0)


def test_scores_all_nan_are_worth_nothing() -> None:
    found = means(per_image(torch.full((2, 6), math.nan), torch.ones(2, 6, dtype=torch.bool)))
    assert found == dict.fromkeys(METRICS, 0.0)


def test_means_are_over_the_images_with_a_tag() -> None:
    scores = torch.arange(6.0, 0.0, -1.0).expand(3, 6)
    tags = torch.zeros(3, 6, dtype=torch.bool)
    tags[0, 0] = tags[2, 1] = True
    assert untagged(tags) == 1
    assert means(per_image(scores, tags))["mrr"] == pytest.approx(0.75)
    assert untagged(tags[1:2]) == 1
    nothing = means(per_image(scores[1:2], tags[1:2]))
    assert tuple(nothing) == METRICS
    assert all(math.isnan(value) for value in nothing.values())
    assert all(math.isnan(value) for value in means(per_image(scores[:0], tags[:0])).values())


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((3,), (3,)), ((2, 0), (2, 0))])
def test_other_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"not both \(N, K\)"):
        per_image(torch.zeros(shapes[0]), torch.zeros(shapes[1], dtype=torch.bool))
