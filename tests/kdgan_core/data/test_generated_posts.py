"""The generated posts: they follow the distribution they claim, and its best score is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multinomial, multivariate_normal
from sklearn.metrics import label_ranking_average_precision_score

from kdgan_core.data.generated_posts import generated_posts, true_probabilities, world
from kdgan_core.data.posts import Posts, draw_posts, load_posts, tag_matrix, training_tags
from kdgan_core.data.words import tokenise

COUNT = 20_000
CASES = pytest.mark.parametrize("with_text", [False, True])


@pytest.fixture(scope="module")
def many() -> Posts:
    return generated_posts(COUNT, seed=3)


@pytest.fixture(scope="module")
def tags(many: Posts) -> NDArray[np.bool_]:
    return tag_matrix(many, np.arange(COUNT), many.tag_names)


def precision(scores: NDArray[np.float64], tags: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """(N,) P@k."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(tags, best, axis=1).mean(axis=1)


def average_precision(scores: NDArray[np.float64], tags: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) over the whole ranking."""
    ranked = np.take_along_axis(tags, np.argsort(-scores, axis=1, kind="stable"), axis=1)
    at = np.cumsum(ranked, axis=1) / np.arange(1, tags.shape[1] + 1)
    return (at * ranked).sum(axis=1) / ranked.sum(axis=1)


def test_average_precision_is_scikit_learns(many: Posts, tags: NDArray[np.bool_]) -> None:
    scores = np.random.default_rng(0).random((50, 24))
    expected = label_ranking_average_precision_score(tags[:50], scores)
    assert average_precision(scores, tags[:50]).mean() == pytest.approx(expected)


def test_the_set_is_small_whole_and_the_same_every_time() -> None:
    posts = generated_posts()
    assert (posts.name, len(posts)) == ("tags", 1500)
    split = draw_posts(posts, 0, 0)
    assert [len(split.train), len(split.valid), len(split.test), split.untagged] == [
        900,
        300,
        300,
        0,
    ]
    assert posts.features.shape == (1500, 32)
    assert posts.features.dtype == np.float32
    assert len(training_tags(posts)) == len(posts.tag_names) == 24
    assert len(set(posts.ids)) == 1500
    assert posts.checksum == generated_posts().checksum == load_posts("tags", "", None).checksum
    assert posts.checksum != generated_posts(seed=1).checksum
    assert all(tokenise(text) == text.split() for text in posts.texts)


def test_what_was_generated_when_results_were_recorded() -> None:
    """Any change of the constants makes scores before and after it incomparable."""
    posts = generated_posts(200)
    assert training_tags(posts)[:4] == ("sky", "garden", "city", "flower")
    assert posts.tag_counts(np.ones(200, np.bool_)).tolist() == [
        29, 8, 16, 21, 14, 12, 10, 34, 16, 26, 11, 16, 31, 7, 16, 23, 17, 38, 6, 28, 36, 18, 23, 16
    ]  # fmt: skip
    assert posts.texts[:2].tolist() == ["trip cold view time", "skyline camera neon"]
    assert posts.features[:2, 0].tolist() == pytest.approx([0.3215589, 1.1085519])


def test_posts_have_a_few_tags_and_words_and_some_no_text(
    many: Posts, tags: NDArray[np.bool_]
) -> None:
    numbers = tags.sum(axis=1)
    assert numbers.min() == 1
    assert 1 < numbers.mean() < 4
    lengths = np.array([len(text.split()) for text in many.texts])
    assert 0.003 < (lengths == 0).mean() < 0.02
    assert lengths.mean() == pytest.approx(5.0, abs=0.1)
    assert np.unique(lengths).size > 8
    assert 2 < tags.sum(axis=0).max() / tags.sum(axis=0).min()  # some tags are popular


@CASES
def test_probabilities_are_those_of_bayes_rule(with_text: bool) -> None:
    """Against scipy's densities, scene by scene and tag by tag."""
    posts, true = generated_posts(40, seed=9), world()
    texts = [text.split() for text in posts.texts]
    found = true_probabilities(posts, with_text)
    for row in range(40):
        weights = []
        for share, mean, words in zip(true.scenes, true.means, true.word_shares, strict=True):
            log = np.log(share) + multivariate_normal.logpdf(posts.features[row], mean)
            if with_text and texts[row]:
                counts = [texts[row].count(word) for word in true.words]
                log += multinomial.logpmf(counts, len(texts[row]), words / words.sum())
            weights.append(np.exp(log))
        for place, name in enumerate(posts.tag_names):
            share = true.tag_shares[:, true.tags.index(name)]
            has_some = 1.0 - np.prod(1.0 - true.tag_shares, axis=1)
            expected = np.average(share / has_some, weights=weights)
            assert found[row, place] == pytest.approx(expected, rel=1e-6)


def excess(
    tags: NDArray[np.bool_], expected: NDArray[np.float64], mask: NDArray[np.bool_]
) -> float:
    """How many more tags there are where `mask` is than expected, in standard errors."""
    # Tags of one image are not independent: they are added up image by image.
    wrong = np.where(mask, tags - expected, 0.0).sum(axis=1)
    return float(wrong.sum() / np.sqrt(max(1.0, (wrong**2).sum())))


def has_word(posts: Posts, word: str) -> NDArray[np.bool_]:
    return np.array([[word in text.split()] for text in posts.texts])


@CASES
def test_probabilities_are_calibrated(
    many: Posts, tags: NDArray[np.bool_], with_text: bool
) -> None:
    """Tags are there as often as they should be: whatever the probability, tag, feature or word.

    That is what a posterior under the very distribution of the posts does, and no other.
    """
    expected = true_probabilities(many, with_text)
    masks = [(expected >= low) & (expected < low + 0.1) for low in np.arange(0.0, 1.0, 0.1)]
    masks += [np.broadcast_to(np.arange(24) == tag, tags.shape) for tag in range(24)]
    masks += [many.features[:, [column]] > 0.5 for column in range(0, 32, 4)]
    if with_text:
        words = [has_word(many, word) for word in ("puppy", "run", "walk", "photo")]
        masks += [*words, *(word & (expected > 0.3) for word in words)]
        masks += [np.array([[not text] for text in many.texts])]
    assert all(abs(excess(tags, expected, mask)) < 4.0 for mask in masks)


def test_other_probabilities_are_not_calibrated(many: Posts, tags: NDArray[np.bool_]) -> None:
    """The check above can fail."""
    fainter = dataclasses.replace(many, features=0.5 * many.features)
    expected = true_probabilities(fainter, with_text=False)
    assert abs(excess(tags, expected, expected > 0.6)) > 6.0
    without_text = true_probabilities(many, with_text=False)
    is_dog = np.array(many.tag_names) == "dog"
    assert excess(tags, without_text, has_word(many, "puppy") & is_dog) > 6.0


@CASES
@pytest.mark.parametrize("change", ["noise", "fainter", "louder", "popularity", "other posts"])
def test_no_other_ranking_is_better(
    many: Posts, tags: NDArray[np.bool_], with_text: bool, change: str
) -> None:
    """In P@k the ranking by probability is best; in MAP another is better by very little."""
    best = true_probabilities(many, with_text)
    rng = np.random.default_rng(0)
    match change:
        case "noise":
            other = best * np.exp(2.0 * rng.standard_normal(best.shape))
        case "fainter" | "louder":
            factor = 0.5 if change == "fainter" else 1.5
            scaled = dataclasses.replace(many, features=np.float32(factor) * many.features)
            other = true_probabilities(scaled, with_text)
        case "popularity":
            other = best + tags.mean(axis=0)
        case _:
            other = best[rng.permutation(COUNT)]
    for k in (1, 3, 5):
        gain = precision(best, tags, k) - precision(other, tags, k)
        error = gain.std() / np.sqrt(COUNT)
        assert gain.mean() > (5.0 * error if change in ("noise", "other posts") else -3.0 * error)
    assert average_precision(other, tags).mean() < average_precision(best, tags).mean() + 1e-3


def test_text_is_worth_distilling(many: Posts, tags: NDArray[np.bool_]) -> None:
    """MAP of the best ranking by popularity, from features, from features and text."""
    popularity = np.broadcast_to(tags.mean(axis=0), tags.shape)
    scores = [popularity, *(true_probabilities(many, with_text) for with_text in (False, True))]
    popular, features, both = (average_precision(s, tags).mean() for s in scores)
    assert popular < 0.35
    assert 0.6 < features < 0.7
    assert 0.8 < both < 0.9


def test_columns_can_be_asked_for(many: Posts) -> None:
    posts = generated_posts(50)
    names = training_tags(posts)
    found = true_probabilities(posts, True, names)
    whole = true_probabilities(posts, True)
    assert found.shape == (50, len(names))
    for place, name in enumerate(names):
        assert np.array_equal(found[:, place], whole[:, posts.tag_names.index(name)])


def test_the_world_is_a_distribution() -> None:
    true = world()
    assert true.scenes.sum() == pytest.approx(1.0)
    assert true.word_shares.sum(axis=1) == pytest.approx(np.ones(len(true.scenes)))
    assert ((true.tag_shares > 0) & (true.tag_shares < 1)).all()
    assert len(set(true.words)) == len(true.words) >= 60
    assert true.scenes.max() > 2 * true.scenes.min()  # uneven
