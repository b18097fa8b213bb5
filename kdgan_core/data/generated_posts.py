"""The embedded set of posts: generated, so that it needs no file and its best score is known.

A post is of one hidden scene. Given the scene, its features are normal about the scene's mean, the
words of its text are drawn from the scene's own, and its tags are independent of each other, and
all three are independent. So a text says more about the tags than the features do, and what the
tags of a post are, given either, follows by Bayes' rule.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdgan_core.data.posts import Posts, checksum_of
from kdgan_core.data.posts_file import SPLITS
from kdgan_core.data.tag_rows import tag_rows

# Scene: how frequent, its tags (the likeliest first), its words.
SCENES = {
    "beach": (9, "sea beach people sky", "sand waves swim summer towel"),
    "harbour": (5, "boat sea sky building", "port sail fishing waves"),
    "dusk": (7, "sunset sky sea", "evening horizon glow summer"),
    "summit": (6, "mountain sky snow", "hike climb trail view"),
    "slope": (4, "snow mountain people", "ski winter cold view"),
    "shore": (4, "lake forest boat", "water calm morning fishing"),
    "wood": (6, "forest river", "trees leaves walk trail"),
    "square": (9, "city building street people", "tower old walk square"),
    "lights": (6, "night city street", "neon late skyline tower"),
    "traffic": (5, "car street city", "road drive fast late"),
    "dinner": (7, "food people night", "table friends tasty cheers"),
    "walkies": (7, "dog beach", "puppy ball run fetch"),
    "sofa": (6, "cat", "kitten sleep purr home"),
    "nest": (4, "bird lake sky", "wings feather spring calm"),
    "meadow": (3, "horse mountain", "ride farm grass morning"),
    "bloom": (5, "flower garden", "rose spring petals grass"),
    "playground": (7, "child garden people", "swing laugh run home"),
}
COMMON = "photo day nice trip time camera new good little weekend my first".split()
LIKELY = (0.9, 0.75, 0.5, 0.3)  # a scene's first tag, its second, ...
RARE = 0.01  # any other tag
OWN_WORDS = 0.6  # of a text's words; the others are common ones
MEAN_WORDS = 5.0  # Poisson: 1 text in 150 is empty
FEATURES = 32
SPREAD = 0.38  # of the scenes' means along a feature; a post's is 1 about its scene's mean
SHARES = (0.6, 0.2)  # training, validation; the rest is test


class World(NamedTuple):
    """The true distribution: S scenes, F features, V words, K tags.

    Attributes:
        scenes: (S,) probability of each.
        means: (S, F) of the features; their covariance is the identity.
        words: V, sorted.
        word_shares: (S, V) probability of each word at any place of a text.
        tags: K, sorted.
        tag_shares: (S, K) probability of each tag; independent, but drawn again where none is.
    """

    scenes: NDArray[np.float64]
    means: NDArray[np.float64]
    words: tuple[str, ...]
    word_shares: NDArray[np.float64]
    tags: tuple[str, ...]
    tag_shares: NDArray[np.float64]


@functools.cache
def world() -> World:
    """The one world that all generated posts are from, whatever their seed."""
    weights = np.array([weight for weight, _, _ in SCENES.values()], np.float64)
    own_tags = [tags.split() for _, tags, _ in SCENES.values()]
    own_words = [words.split() for _, _, words in SCENES.values()]
    tags = sorted({tag for own in own_tags for tag in own})
    words = sorted({*COMMON, *(word for own in own_words for word in own)})
    tag_shares = np.full((len(SCENES), len(tags)), RARE)
    word_shares = np.zeros((len(SCENES), len(words)))
    word_shares[:, [words.index(word) for word in COMMON]] = (1.0 - OWN_WORDS) / len(COMMON)
    for scene, own in enumerate(own_tags):
        tag_shares[scene, [tags.index(tag) for tag in own]] = LIKELY[: len(own)]
    for scene, own in enumerate(own_words):
        word_shares[scene, [words.index(word) for word in own]] += OWN_WORDS / len(own)
    means = np.random.default_rng(20180503).normal(0.0, SPREAD, (len(SCENES), FEATURES))
    scenes = weights / weights.sum()
    return World(scenes, means, tuple(words), word_shares, tuple(tags), tag_shares)


def generated_posts(rows: int = 1500, seed: int = 0) -> Posts:
    """Posts drawn from `world()`, named "tags": three fifths train, a fifth each validates, tests.

    Every post has a tag. The same arguments give the same posts.
    """
    true = world()
    rng = np.random.default_rng([seed, 20180504])
    scene = rng.choice(len(true.scenes), rows, p=true.scenes)
    features = (true.means[scene] + rng.standard_normal((rows, FEATURES))).astype(np.float32)
    texts = _texts(scene, rng)
    has = np.zeros((rows, len(true.tags)), np.bool_)
    while len(bare := np.flatnonzero(~has.any(axis=1))):
        has[bare] = rng.random((len(bare), len(true.tags))) < true.tag_shares[scene[bare]]
    ragged, names = tag_rows(has.sum(axis=1), np.nonzero(has)[1], true.tags)
    ids = np.array([f"generated-{seed}-{row}" for row in range(rows)], dtype=object)
    splits = np.full(rows, SPLITS["test"], np.int8)
    train, valid = (round(share * rows) for share in SHARES)
    splits[: train + valid] = SPLITS["validation"]
    splits[:train] = SPLITS["train"]
    checksum = checksum_of(ids, features, texts, ragged, names, splits)
    return Posts("tags", ids, features, texts, ragged, names, splits, None, checksum)


def _texts(scene: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.object_]:
    """(N,) str: a text for each scene."""
    true = world()
    lengths = rng.poisson(MEAN_WORDS, len(scene))
    ends = np.cumsum(true.word_shares, axis=1)
    ends[:, -1] = 1.0
    drawn = rng.random(lengths.sum())
    # Sorted as one list, scene s in [s, s + 1): one search finds every word.
    steps = (ends + np.arange(len(ends))[:, None]).ravel()
    of = np.repeat(scene, lengths)
    places = np.searchsorted(steps, of + drawn, side="right") - of * len(true.words)
    words = iter([true.words[place] for place in places])
    texts = np.empty(len(scene), dtype=object)
    texts[:] = [" ".join(next(words) for _ in range(length)) for length in lengths]
    return texts


def scene_probabilities(posts: Posts, with_text: bool) -> NDArray[np.float64]:
    """(N, S): the probability of each scene given a post's features, and its text if asked for.

    The length of a text says nothing: it does not depend on the scene.
    """
    true = world()
    features = posts.features.astype(np.float64)
    # log N(x; mu, I), less what is the same for every scene
    score = np.log(true.scenes) + features @ true.means.T - 0.5 * (true.means**2).sum(axis=1)
    if with_text:
        number = {word: place for place, word in enumerate(true.words)}
        counts = np.zeros((len(posts), len(true.words)))
        for row, text in enumerate(posts.texts):
            for word in text.split():
                counts[row, number[word]] += 1
        # A word that a scene has not rules it out; one that is not there rules nothing out.
        score += counts @ np.log(np.maximum(true.word_shares, 1e-300)).T
    score -= score.max(axis=1, keepdims=True)
    likely: NDArray[np.float64] = np.exp(score)
    likely /= likely.sum(axis=1, keepdims=True)
    return likely


def true_probabilities(
    posts: Posts, with_text: bool, names: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """(N, K) exact probability of each tag given a post's features, and its text if asked for.

    Ranking by it is the best that anyone can do in P@k: the expected number of true tags among k
    recommended ones is the sum of their probabilities, so the k most probable ones have the most.
    Average precision depends on pairs of tags as well, so for MAP another ranking may be better,
    by little, as the tags of one scene are independent: of those tried on 100,000 posts the best
    trusts the likeliest scene somewhat more, and has .6711 from features where this one has .6704.

    Args:
        posts: that `generated_posts` made.
        with_text: whether the text is known, as to T, or not, as to C.
        names: K tags, the columns; None for `posts.tag_names`.
    """
    true = world()
    none = np.prod(1.0 - true.tag_shares, axis=1, keepdims=True)
    given_scene = true.tag_shares / (1.0 - none)  # at least one tag is there
    columns = [true.tags.index(name) for name in (posts.tag_names if names is None else names)]
    found: NDArray[np.float64] = scene_probabilities(posts, with_text) @ given_scene[:, columns]
    return found
