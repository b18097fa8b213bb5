"""Which posts of a table are kept, under which tags, in which split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdgan_core.data.dataset import DataError
from kdgan_core.data.post_scan import SPLITS, TEST, TRAIN, VALIDATION, Scan
from kdgan_core.data.posts import LEAST_TAGS

TAG_DRAW, POST_DRAW, SPLIT_DRAW = range(3)  # streams of randomness; one does not move another


class Wish(NamedTuple):
    """What the user wants of the choice.

    Attributes:
        vocabulary: "popular", "random", or the tags themselves.
        tags: how many, unless they are given.
        at_least: training posts that a tag is on to be one of them, unless they are given.
        posts: to keep; None is all.
        valid_share, test_share: of the posts if below 1, else how many. Drawn from the training
            posts where the table names no post of that split. Both 0: every seed of a sweep draws
            its own, unless the table names them.
        seed: of all draws.
    """

    vocabulary: str | tuple[str, ...] = "popular"
    tags: int = 200
    at_least: int = 10
    posts: int | None = None
    valid_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0


class Choice(NamedTuple):
    """What is kept.

    Attributes:
        rows: (N,) int64 in the table, rising.
        splits: (N,) int8, places in SPLITS; None where every seed is to draw its own.
        vocabulary: the tags, popular ones first.
        left_out: why -> posts.
        total: rows of the table.
    """

    rows: NDArray[np.int64]
    splits: NDArray[np.int8] | None
    vocabulary: tuple[str, ...]
    left_out: Mapping[str, int]
    total: int


def choose(found: Scan, wish: Wish) -> Choice:
    """The posts to keep, each with its split.

    Raises:
        DataError: there are no two tags, or no post, or a split without posts.
    """
    if not len(found.rows):
        raise DataError(f"no post can be kept: {describe(found.left_out) or 'there is none'}")
    rows = np.asarray(found.rows, dtype=np.int64)
    splits = np.asarray(found.splits, dtype=np.int8)
    if not len(found.splits):
        splits = np.full(len(rows), TRAIN, dtype=np.int8)
    lengths = np.asarray(found.lengths, dtype=np.int64)
    tags = np.asarray(found.tags, dtype=np.int64)
    owner = np.repeat(np.arange(len(rows)), lengths)  # of each tag: the post
    counts = np.bincount(tags[splits[owner] == TRAIN], minlength=len(found.names))
    chosen = _choose_tags(found.names, counts, wish)
    if len(chosen) < LEAST_TAGS:
        raise DataError(
            f"only the tag {found.names[chosen[0]]!r} is left, which leaves nothing to rank: lower"
            " --at-least, or see whether --tags and --tag-separator fit the table"
        )

    is_chosen = np.zeros(len(found.names), dtype=bool)
    is_chosen[chosen] = True
    kept = np.unique(owner[is_chosen[tags]])
    left_out = Counter(found.left_out)
    left_out["without a tag of the vocabulary"] += len(rows) - len(kept)
    if wish.posts is not None and wish.posts < len(kept):
        left_out["beyond --posts"] += len(kept) - wish.posts
        kept = np.sort(_random(wish, POST_DRAW).permutation(kept)[: wish.posts])
    users = np.asarray(found.users, dtype=np.int64)[kept] if len(found.users) else None
    drawn_by_seeds = not len(found.splits) and wish.valid_share == wish.test_share == 0
    return Choice(
        rows[kept],
        None if drawn_by_seeds else _draw_splits(splits[kept], users, wish),
        tuple(found.names[tag] for tag in chosen),
        +left_out,
        found.total,
    )


def _choose_tags(names: Sequence[str], counts: NDArray[np.int64], wish: Wish) -> NDArray[np.int64]:
    """Numbers of the tags, popular ones first and by name among equals.

    Raises:
        DataError: there is none.
    """
    order = np.asarray(
        sorted(range(len(names)), key=lambda tag: (-int(counts[tag]), names[tag])), dtype=np.int64
    )
    if not isinstance(wish.vocabulary, str):
        wanted = set(wish.vocabulary)
        chosen = order[[names[tag] in wanted and counts[tag] > 0 for tag in order]]
        if not len(chosen):
            raise DataError("no training post has a tag of the --vocabulary file")
        return chosen
    order = order[counts[order] >= wish.at_least]
    if not len(order):
        raise DataError(
            f"no tag is on {wish.at_least} training posts or more: lower --at-least, or see"
            " whether --tags and --tag-separator fit the table"
        )
    if wish.vocabulary == "random" and wish.tags < len(order):
        drawn = _random(wish, TAG_DRAW).choice(len(order), wish.tags, replace=False)
        return order[np.sort(drawn)]
    return order[: wish.tags]


def _draw_splits(
    splits: NDArray[np.int8], users: NDArray[np.int64] | None, wish: Wish
) -> NDArray[np.int8]:
    """The splits, those that no post is of drawn from the training posts.

    Every user gives the same share of posts, give or take one (authors).

    Raises:
        DataError: a split is left without posts.
    """
    splits = splits.copy()
    rng = _random(wish, SPLIT_DRAW)
    for split, share in ((TEST, wish.test_share), (VALIDATION, wish.valid_share)):
        if share == 0 or (splits == split).any():
            continue
        pool = rng.permutation(np.flatnonzero(splits == TRAIN))
        if users is not None:
            pool = pool[np.argsort(rng.permutation(users.max() + 1)[users[pool]], kind="stable")]
        count = round(share * len(splits)) if share < 1 else int(share)
        if count >= len(pool):
            raise DataError(
                f"{count:,} {SPLITS[split]} posts are asked for, of {len(pool):,} posts that"
                f" could be: lower --{'test' if split == TEST else 'valid'}-share"
            )
        # Evenly spaced places: of the posts of a user, which lie together, the same share.
        splits[pool[np.arange(count) * len(pool) // max(1, count)]] = split
    counts = np.bincount(splits, minlength=len(SPLITS))
    check_splits(dict(zip(SPLITS, counts.tolist(), strict=True)))
    return splits


def check_splits(counts: Mapping[str, int]) -> None:
    """Whether every split has posts, as a sweep needs them.

    Raises:
        DataError: one has none.
    """
    for name in SPLITS:
        if not counts.get(name):
            raise DataError(
                f"no {name} post is left: keep more posts, or divide them otherwise (--valid-share"
                " and --test-share; with both 0 every seed of a sweep divides them anew)"
            )


def describe(left_out: Mapping[str, int]) -> str:
    """'1,200 videos, 3 without an image_id'."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))


def _random(wish: Wish, stream: int) -> np.random.Generator:
    return np.random.default_rng([wish.seed, stream, 20180501])


def check_share(name: str, share: float) -> None:
    """Whether it is a share below 1, or a whole number of posts.

    Raises:
        DataError: it is neither.
    """
    if share < 0 or not math.isfinite(share) or (share >= 1 and share != int(share)):
        raise DataError(f"{name} {share} is neither a share below 1 nor a number of posts")
