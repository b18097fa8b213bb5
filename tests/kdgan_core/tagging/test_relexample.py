"""RelExample: relevance by hand, Negative Bootstrap by construction, real Flickr photos."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recommending import (
    TAGS,
    Call,
    Table,
    fitted,
    mean_precision,
    small_posts,
    watch_lines,
)
from scipy.special import expit

from kdgan_core.tagging import relexample
from kdgan_core.tagging.linear_svm import decisions, fit_platt, unit_rows
from kdgan_core.tagging.relexample import (
    RelExample,
    borda,
    hardest,
    negative_bootstrap,
    relevance,
    tag_similarity,
)


@pytest.fixture(scope="module")
def posts() -> dict[str, Table]:
    return small_posts()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    return watch_lines(relexample, monkeypatch)


def test_similarity_by_hand() -> None:
    """Eight images; n_0 = 4, n_1 = 2, n_2 = 1, and tags 0 and 1 are together on two."""
    tags = np.zeros((8, 4), dtype=bool)
    tags[:4, 0] = tags[:2, 1] = tags[7, 2] = True
    found = tag_similarity(tags)
    # d(0, 1) = (log 4 - log 2) / (log 8 - log 2) = 1/2.
    expected = np.diag([1.0, 1.0, 1.0, 0.0])  # tag 3 is on no image
    expected[0, 1] = expected[1, 0] = np.exp(-0.5)
    np.testing.assert_allclose(found, expected)


def test_tags_on_every_image_are_the_same_tag() -> None:
    np.testing.assert_array_equal(tag_similarity(np.ones((5, 2), dtype=bool)), np.ones((2, 2)))


def test_ranks_are_added_and_equal_scores_share_theirs() -> None:
    votes, fields = np.array([3.0, 5.0, 3.0, 0.0]), np.array([0.1, 0.9, 0.2, 0.3])
    np.testing.assert_array_equal(borda(votes, fields), [1 + 2.5, 4 + 4, 2 + 2.5, 3 + 1])


def test_relevance_by_hand() -> None:
    """Tag 0: on images 0-3. Two directions: images 0-2 and 5 in one, 3, 4 and 6 in the other."""
    directions = np.array([[1, 0.0], [1, 0.1], [1, 0.2], [0.1, 1], [0, 1], [1, 0.3], [0.2, 1]])
    tags = np.zeros((7, 3), dtype=bool)
    tags[:4, 0] = True
    tags[2, 1] = True  # beside tag 0, and on image 4
    tags[[3, 4], [2, 1]] = True
    found = relevance(directions.astype(np.float32), tags, 2)
    # Of the two nearest have tag 0: two of image 0's and of 1's, one of 2's (the other is 5's),
    # none of 3's: ranks 3.5, 3.5, 2, 1.
    # d(0, 1) = log 4 / log 3.5, d(0, 2) = log 4 / log 7. Mean similarity: 1 of images 0 and 1,
    # (1 + exp(-d(0, 1))) / 2 of image 2, less than (1 + exp(-d(0, 2))) / 2 of 3: ranks the same,
    # 3.5, 3.5, 1, 2.
    np.testing.assert_array_equal(found[:, 0], [7.0, 7.0, 3.0, 3.0, 0.0, 0.0, 0.0])
    assert found[2, 1] > 0.0 and found[4, 1] > 0.0 and found[3, 2] > 0.0
    assert np.count_nonzero(found) == tags.sum()


def test_more_neighbours_than_images_are_all_the_others() -> None:
    rng = np.random.default_rng(0)
    features, tags = rng.normal(size=(9, 3)).astype(np.float32), rng.random((9, 4)) < 0.5
    np.testing.assert_array_equal(relevance(features, tags, 8), relevance(features, tags, 99))


@given(
    found=st.lists(st.floats(-5, 5), min_size=1, max_size=400, unique=True),
    count=st.integers(1, 500),
)
def test_the_hardest_are_the_largest_after_one_in_a_hundred(
    found: list[float], count: int
) -> None:
    places = hardest(np.array(found), count)
    falling = sorted(found, reverse=True)
    skipped = len(found) // 100
    assert [found[place] for place in places] == falling[skipped : skipped + count]


def test_hidden_positives_are_skipped_and_the_hardest_negatives_found(calls: list[Call]) -> None:
    """On a line: 20 positives at 3, 4 of their like without the tag, 40 near, 356 far away."""
    rng = np.random.default_rng(0)
    places = np.concatenate([np.full(24, 3.0), rng.uniform(1.5, 2.0, 40), rng.uniform(-3, 0, 356)])
    rows = np.stack([places, np.zeros(420)], axis=1).astype(np.float32)
    line = negative_bootstrap(rows, np.arange(20), np.arange(20, 420), 1.0, 4, 40, rng)
    assert len(calls) == 4
    hidden, near = set(range(20, 24)), set(range(24, 64))
    assert len(calls[0].negatives) == 400  # at random: all, as there are no 500
    for call in calls[1:]:
        np.testing.assert_array_equal(call.positives, np.arange(20))
        assert set(call.negatives) == near
        assert not set(call.negatives) & hidden
    np.testing.assert_allclose(line, np.mean([call.line for call in calls], axis=0), atol=1e-9)


def test_the_pool_is_random_and_the_mean_so_far_judges_it(
    calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relexample, "POOL", (100, 150))
    rng = np.random.default_rng(0)
    rows = unit_rows(rng.normal(size=(600, 6)))
    negative_bootstrap(rows, np.arange(12), np.arange(12, 600), 1.0, 5, 20, rng)
    assert len(calls) == 5 and len(calls[0].negatives) == 500
    for number, call in enumerate(calls[1:], 1):
        assert len(set(call.negatives)) == 20
        mean = np.mean([before.line for before in calls[:number]], axis=0)
        found = decisions(rows, mean)
        # 20 of the hardest of a fifth of all: harder than most, though not the very hardest.
        assert (found[call.negatives] > np.quantile(found[12:], 0.6)).all()
        assert set(call.negatives) != set(12 + hardest(found[12:], 20))


def test_a_round_has_as_many_negatives_as_positives(calls: list[Call]) -> None:
    rng = np.random.default_rng(0)
    rows = unit_rows(rng.normal(size=(300, 6)))
    negative_bootstrap(rows, np.arange(50), np.arange(50, 300), 1.0, 2, 20, rng)
    assert [len(call.negatives) for call in calls] == [250, 50]


def test_it_ends_when_hardly_an_error_is_left(calls: list[Call]) -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([np.where(np.arange(80) < 9, 2.0, -2.0), rng.random(80)], axis=1)
    line = negative_bootstrap(
        rows.astype(np.float32), np.arange(9), np.arange(9, 80), 1.0, 10, 20, rng
    )
    assert len(calls) == 1
    np.testing.assert_array_equal(line, calls[0].line)


def test_the_most_relevant_positives_outside_of_the_fold_are_learned_from(
    posts: dict[str, Table], calls: list[Call]
) -> None:
    features, tags = posts["train"]
    fitted(RelExample(3.0, positives=15, rounds=1, neighbours=10, folds=2), posts)
    fused = relevance(unit_rows(features), tags, 10)
    assert len(calls) == 2 * TAGS
    for number, call in enumerate(calls):
        tag = number // 2
        assert call.cost == 3.0
        assert tags[call.positives, tag].all() and not tags[call.negatives, tag].any()
        assert len(set(call.positives)) == len(call.positives) <= 15
    # Of the 15 best of a tag with 32 or more, each is left out of one of two folds.
    for tag in np.flatnonzero(tags.sum(axis=0) >= 32):
        best = set(np.flatnonzero(fused[:, tag] > np.sort(fused[:, tag])[-16]))
        learned = [set(call.positives) for call in calls[2 * tag : 2 * tag + 2]]
        assert len(learned[0]) == len(learned[1]) == 15
        assert best <= learned[0] | learned[1]
        assert not best & learned[0] & learned[1]


def test_the_score_is_the_sigmoid_of_the_mean_decision(
    posts: dict[str, Table], calls: list[Call]
) -> None:
    (features, tags), images = posts["train"], posts["test"][0]
    scores = fitted(RelExample(rounds=1, folds=2), posts).scores(images)
    rows = unit_rows(features)
    for tag in range(TAGS):
        pair = calls[2 * tag : 2 * tag + 2]
        held_out = np.empty(200)
        for call in pair:
            seen = np.concatenate([call.positives, call.negatives])
            unseen = np.setdiff1d(np.arange(200), seen)
            held_out[unseen] = decisions(rows[unseen], call.line)
        slope, offset = fit_platt(held_out, tags[:, tag])
        mean = decisions(unit_rows(images), np.mean([call.line for call in pair], axis=0))
        np.testing.assert_allclose(scores[:, tag], expit(slope * mean + offset), atol=1e-5)


def test_the_sigmoids_bag_raises_rare_tags(posts: dict[str, Table]) -> None:
    """One negative to a positive: as if every tag were on half of the images."""
    images = posts["test"][0]
    rarest = posts["train"][1].mean(axis=0).argmin()
    true = fitted(RelExample(rounds=2), posts).scores(images)[:, rarest]
    raised = fitted(RelExample(rounds=2, sigmoid_negatives=1), posts).scores(images)[:, rarest]
    assert raised.mean() > true.mean() + 0.1


def test_a_rare_or_absent_tag_is_low_on_every_image(posts: dict[str, Table]) -> None:
    features, tags = posts["train"]
    rare = tags.copy()
    rare[:, 1] = False
    rare[:, 4] = np.arange(200) < 2
    model = RelExample(rounds=2)
    model.fit(features, rare, *posts["validation"], np.random.default_rng(0))
    scores = model.scores(posts["test"][0])
    assert scores.shape == (60, TAGS) and np.isfinite(scores).all()
    np.testing.assert_allclose(scores[:, 1], 1 / 202)
    np.testing.assert_allclose(scores[:, 4], 3 / 202)
    assert (np.ptp(np.delete(scores, [1, 4], axis=1), axis=0) > 0.1).all()


@pytest.mark.filterwarnings("error")
def test_it_beats_popularity_on_flickr_photos(flickr8k: dict[str, Table]) -> None:
    """Half of the images, the 20 most frequent tags and two rounds, to be quick."""
    order = np.argsort(-flickr8k["train"][1].sum(axis=0), kind="stable")[:20]
    frequent = {split: (images, tags[:, order]) for split, (images, tags) in flickr8k.items()}
    features, tags = frequent["test"]
    frequent["train"] = frequent["train"][0][:3000], frequent["train"][1][:3000]
    model = RelExample(rounds=2, folds=2, negatives=500)
    reached = mean_precision(fitted(model, frequent).scores(features), tags)
    counts = frequent["train"][1].sum(axis=0).astype(np.float64)
    popular = mean_precision(np.tile(counts, (len(tags), 1)), tags)
    assert reached > popular + 0.2  # measured: 0.25
