"""TagFeature: its layers against scikit-learn's SVMs, what it may look at, real Flickr photos."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from recommending import TAGS, WIDTH, Call, Table, fitted, mean_precision, small_posts, watch_lines
from scipy.special import expit
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from kdgan_core.tagging import tagfeature
from kdgan_core.tagging.linear_svm import TOLERANCE, fit_platt
from kdgan_core.tagging.tagfeature import TagFeature, augmented


@pytest.fixture(scope="module")
def posts() -> dict[str, Table]:
    return small_posts()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    return watch_lines(tagfeature, monkeypatch)


def by_scikit_learn(
    rows: NDArray[np.float32],
    images: NDArray[np.float32],
    tags: NDArray[np.bool_],
    calls: list[Call],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities of tags on the images that a fold left out, and on others; two folds, C = 2.

    Args:
        rows: (n, F).
        images: (m, F).
        tags: (n, T).
        calls: 2 T, to know the folds.
    """
    held_out, found = np.empty(tags.shape), np.zeros((len(images), tags.shape[1]))
    for number, call in enumerate(calls):
        seen = np.sort(np.concatenate([call.positives, call.negatives]))
        unseen = np.setdiff1d(np.arange(len(rows)), seen)
        assert abs(len(seen) - len(unseen)) <= 2
        svm = LinearSVC(dual=False, C=2.0, class_weight="balanced", tol=TOLERANCE)
        svm.fit(rows[seen], tags[seen, number // 2])
        held_out[unseen, number // 2] = svm.decision_function(rows[unseen])
        found[:, number // 2] += svm.decision_function(images) / 2
    for tag in range(tags.shape[1]):
        slope, offset = fit_platt(held_out[:, tag], tags[:, tag])
        for decisions in (held_out, found):
            decisions[:, tag] = expit(slope * decisions[:, tag] + offset)
    return held_out, found


@pytest.mark.parametrize("width", [0, 3])
def test_with_a_bag_of_all_the_layers_are_scikit_learns_svms(
    posts: dict[str, Table], calls: list[Call], width: int
) -> None:
    (features, tags), images = posts["train"], posts["test"][0]
    most = 10**9
    model = TagFeature(2.0, feature_tags=width, bags=1, folds=2, positives=most, negatives=most)
    scores = fitted(model, posts).scores(images)
    assert len(calls) == 2 * (width + TAGS)
    rows, units = normalize(features), normalize(images)
    if width:
        frequent = np.argsort(-tags.sum(axis=0), kind="stable")[:width]
        layer = by_scikit_learn(rows, units, tags[:, frequent], calls[: 2 * width])
        rows, units = (
            np.concatenate([visual, normalize(tag_feature)], axis=1)
            for visual, tag_feature in zip((rows, units), layer, strict=True)
        )
    _, expected = by_scikit_learn(rows, units, tags, calls[2 * width :])
    np.testing.assert_allclose(scores, expected, atol=1e-3)


def test_bags_are_small_and_random_and_the_second_layer_sees_both_features(
    posts: dict[str, Table], calls: list[Call]
) -> None:
    tags = posts["train"][1]
    model = TagFeature(2.0, feature_tags=4, positives=20, negatives=30, bags=3, folds=2)
    fitted(model, posts)
    frequent = np.argsort(-tags.sum(axis=0), kind="stable")[:4]
    order = [*np.repeat(frequent, 6), *np.repeat(np.arange(TAGS), 6)]
    assert len(calls) == len(order)
    for number, (call, tag) in enumerate(zip(calls, order, strict=True)):
        assert tags[call.positives, tag].all() and not tags[call.negatives, tag].any()
        assert len(set(call.positives)) == min(20, len(call.positives)) == len(call.positives)
        assert len(set(call.negatives)) == 30 == len(call.negatives)
        assert call.cost == 2.0
        assert call.rows.shape == (200, WIDTH if number < 24 else WIDTH + 4)
    assert {frozenset(call.negatives) for call in calls[:3]} > {frozenset(calls[0].negatives)}
    np.testing.assert_array_equal(calls[-1].rows[:, :WIDTH], calls[0].rows)


def test_features_side_by_side_have_length_one_each() -> None:
    visual = np.array([[0.6, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(
        augmented(visual, np.array([[0.03, 0.0, 0.04]])), [[0.6, 0.8, 0.6, 0.0, 0.8]], rtol=1e-6
    )


def test_the_tag_feature_of_training_images_knows_no_noise(calls: list[Call]) -> None:
    """Tags by lot: SVMs that had seen the images would tell them apart without an error."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(100, 150)).astype(np.float32)
    tags = rng.random((100, 8)) < np.linspace(0.5, 0.4, 8)
    TagFeature(bags=1).fit(features, tags, features, tags, rng)
    order = np.argsort(-tags.sum(axis=0), kind="stable")
    tag_feature = calls[-1].rows[:, 150:]
    apart = [
        column[has_tag].mean() - column[~has_tag].mean()
        for column, has_tag in zip(tag_feature.T, tags.T[order], strict=True)
    ]
    assert abs(np.mean(apart)) < 0.05


def test_a_rare_or_absent_tag_is_low_on_every_image(posts: dict[str, Table]) -> None:
    features, tags = posts["train"]
    rare = tags.copy()
    rare[:, 1] = False
    rare[:, 4] = np.arange(200) < 2
    model = TagFeature(bags=1)
    model.fit(features, rare, *posts["validation"], np.random.default_rng(0))
    scores = model.scores(posts["test"][0])
    assert scores.shape == (60, TAGS) and np.isfinite(scores).all()
    np.testing.assert_allclose(scores[:, 1], 1 / 202)
    np.testing.assert_allclose(scores[:, 4], 3 / 202)
    assert (np.ptp(np.delete(scores, [1, 4], axis=1), axis=0) > 0.1).all()


def test_the_generator_alone_decides(posts: dict[str, Table]) -> None:
    images = posts["test"][0]
    first, again, other = (
        fitted(TagFeature(negatives=40), posts, seed).scores(images) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_the_unit_of_the_features_does_not_matter(posts: dict[str, Table]) -> None:
    (features, tags), images = posts["train"], posts["test"][0]
    model = TagFeature(bags=1)
    model.fit(1000 * features, tags, features[:0], tags[:0], np.random.default_rng(0))
    expected = fitted(TagFeature(bags=1), posts).scores(images)
    np.testing.assert_allclose(model.scores(images), expected, atol=1e-4)


@pytest.fixture(scope="module")
def frequent(flickr8k: dict[str, Table]) -> dict[str, Table]:
    """Flickr photos and the 20 most frequent tags, a tenth of the work of all 200."""
    order = np.argsort(-flickr8k["train"][1].sum(axis=0), kind="stable")[:20]
    return {split: (features, tags[:, order]) for split, (features, tags) in flickr8k.items()}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("feature_tags", [0, 400])
def test_it_beats_popularity_on_flickr_photos(
    frequent: dict[str, Table], feature_tags: int
) -> None:
    features, tags = frequent["test"]
    model = TagFeature(feature_tags=feature_tags, bags=1, folds=2, negatives=300, positives=300)
    reached = mean_precision(fitted(model, frequent).scores(features), tags)
    counts = frequent["train"][1].sum(axis=0).astype(np.float64)
    assert reached > mean_precision(np.tile(counts, (len(tags), 1)), tags) + 0.2
