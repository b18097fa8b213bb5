"""Word embeddings from the training posts: words with the same tags start alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdgan_core.data.word_association import SPREAD, association_vectors

# Words 2 and 3 go with tag 0, 4 and 5 with tag 1, 6 with neither more than the other.
POSTS = [[2, 3, 6], [3, 6, 0], [2, 2, 6], [4, 5, 6], [5, 6, 0], [4, 6, 0]]
TAGS = [[True, False]] * 3 + [[False, True]] * 3


def vectors(width: int = 2, times: int = 20) -> NDArray[np.float32]:
    tokens = np.array(POSTS * times, np.int32)
    return association_vectors(tokens, np.array(TAGS * times), 8, width)


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def test_words_of_the_same_tag_point_the_same_way() -> None:
    found = vectors()
    assert found.shape == (8, 2)
    assert found.dtype == np.float32
    assert cosine(found[2], found[3]) > 0.99
    assert cosine(found[4], found[5]) > 0.99
    assert cosine(found[2], found[4]) < -0.9


def test_a_word_that_says_nothing_is_short() -> None:
    lengths = np.linalg.norm(vectors(), axis=1)
    assert lengths[6] < 0.01 * lengths[2]
    assert (lengths[[0, 1, 7]] == 0.0).all()  # padding, the unknown word, one that is in no post


def test_a_rare_word_is_believed_less() -> None:
    """A word of one post is drawn to what holds for all posts."""
    tokens = np.array([*POSTS * 20, [7, 0, 0]], np.int32)
    tags = np.array([*TAGS * 20, [True, False]])
    lengths = np.linalg.norm(association_vectors(tokens, tags, 8, 2), axis=1)
    assert 0.0 < lengths[7] < 0.5 * lengths[2]


def test_a_word_counts_once_a_post() -> None:
    often = np.array([[2, 2, 2], *POSTS[1:]] * 20, np.int32)
    once = np.array([[2, 0, 0], *POSTS[1:]] * 20, np.int32)
    tags = np.array(TAGS * 20)
    one, two = (association_vectors(tokens, tags, 8, 2) for tokens in (often, once))
    np.testing.assert_array_equal(one, two)


def test_the_spread_is_that_of_the_known_words() -> None:
    found = vectors()
    assert np.sqrt(np.square(found[2:]).mean()) == np.float32(SPREAD) or np.isclose(
        np.sqrt(np.square(found[2:]).mean()), SPREAD, rtol=1e-5
    )


def test_no_wider_than_there_are_tags() -> None:
    assert vectors(width=50).shape == (8, 2)
    assert vectors(width=1).shape == (8, 1)


def test_without_any_association_all_are_zero() -> None:
    tokens = np.array([[2, 3], [3, 2]], np.int32)
    assert (association_vectors(tokens, np.ones((2, 2), np.bool_), 4, 2) == 0.0).all()


def test_the_same_posts_give_the_same_vectors() -> None:
    np.testing.assert_array_equal(vectors(), vectors())
