"""What TagFeature and RelExample have in common: the cost, the random numbers, the errors."""

from __future__ import annotations

import numpy as np
import pytest
from recommending import Table, fitted, mean_precision, small_posts

from kdgan_core.tagging.linear_svm import COSTS
from kdgan_core.tagging.relexample import RelExample
from kdgan_core.tagging.svm_recommender import SvmRecommender
from kdgan_core.tagging.tagfeature import TagFeature

Kind = type[TagFeature] | type[RelExample]
QUICK = {TagFeature: {"bags": 1}, RelExample: {"rounds": 2, "negatives": 30}}


@pytest.fixture(scope="module")
def posts() -> dict[str, Table]:
    return small_posts()


@pytest.fixture(params=[TagFeature, RelExample], ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


def quick(kind: Kind, cost: float = 1.0) -> SvmRecommender:
    return kind(cost, **QUICK[kind])


def test_the_generator_alone_decides(kind: Kind, posts: dict[str, Table]) -> None:
    images = posts["test"][0]
    first, again, other = (fitted(quick(kind), posts, seed).scores(images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_with_a_given_cost_validation_images_are_not_looked_at(
    kind: Kind, posts: dict[str, Table]
) -> None:
    images = posts["test"][0]
    features, tags = posts["validation"]
    other = dict(posts, validation=(np.full_like(features, np.nan), ~tags))
    model, same = fitted(quick(kind), posts), fitted(quick(kind), other)
    np.testing.assert_array_equal(model.scores(images), same.scores(images))


def test_a_cost_of_zero_takes_the_best_on_the_validation_images(
    kind: Kind, posts: dict[str, Table]
) -> None:
    features, tags = posts["validation"]
    reached = {
        cost: mean_precision(fitted(quick(kind, cost), posts).scores(features), tags)
        for cost in COSTS
    }
    assert len(set(reached.values())) > 1
    chosen = fitted(quick(kind, 0.0), posts)
    assert chosen.chosen_cost == max(COSTS, key=lambda cost: reached[cost])
    given = fitted(quick(kind, chosen.chosen_cost), posts)
    np.testing.assert_array_equal(chosen.scores(features), given.scores(features))


@pytest.mark.parametrize(
    "kind, least",
    [
        (TagFeature, {"feature_tags": 0, "positives": 1, "negatives": 1, "bags": 1, "folds": 2}),
        (RelExample, {"positives": 1, "negatives": 1, "rounds": 1, "neighbours": 1, "folds": 2,
                      "sigmoid_negatives": 0}),
    ],
)  # fmt: skip
def test_a_number_outside_its_range_is_named(kind: Kind, least: dict[str, int]) -> None:
    kind(**least)
    for name, value in least.items():
        with pytest.raises(ValueError, match=f"{name}={value - 1} is below {value}"):
            kind(**{name: value - 1})
    with pytest.raises(ValueError, match=r"cost=-1\.0 is negative; 0 chooses"):
        kind(-1.0)


def test_errors_of_use(kind: Kind, posts: dict[str, Table]) -> None:
    features, tags = posts["train"]
    with pytest.raises(RuntimeError, match=f"{kind.__name__} has no model yet: call fit first"):
        kind().scores(features)
    with pytest.raises(RuntimeError, match="call fit first"):
        kind().chosen_cost  # noqa: B018
    nothing = np.full_like(features, np.nan)
    with pytest.raises(ValueError, match="NaN"):
        kind().fit(nothing, tags, features, tags, np.random.default_rng(0))
    with pytest.raises(ValueError, match="5 features, training images 12"):
        fitted(quick(kind), posts).scores(features[:, :5])
