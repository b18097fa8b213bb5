"""One pass over a table of posts, to see which of them can be kept and what tags they have."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kdgan_core.data.dataset import DataError
from kdgan_core.data.post_table import Post

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
SPLIT_NAMES = {
    "train": TRAIN, "training": TRAIN, "validation": VALIDATION, "valid": VALIDATION,
    "val": VALIDATION, "dev": VALIDATION, "test": TEST, "testing": TEST,
}  # fmt: skip


@dataclass
class Scan:
    """What the choice needs of a table: some 60 bytes a post.

    Attributes:
        rows: in the table, of the posts that may be kept.
        splits: of each, where the table says it; else empty.
        users: number of each one's user, where that counts; else empty.
        tags: numbers of all posts' tags, one post after the other.
        lengths: how many each post has.
        names: of the tags, by number.
        left_out: why -> posts.
        total: rows of the table.
    """

    rows: array[int] = field(default_factory=lambda: array("q"))
    splits: array[int] = field(default_factory=lambda: array("b"))
    users: array[int] = field(default_factory=lambda: array("q"))
    tags: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("i"))
    names: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    total: int = 0


def scan(
    posts: Iterable[Post],
    why_not: Callable[[Post], str],
    by_split: bool,
    by_user: bool,
    on_row: Callable[[int], None] = lambda row: None,
) -> Scan:
    """The posts that may be kept.

    Args:
        posts: all rows of the table.
        why_not: a reason to leave a post out, or "".
        by_split: whether the table has a column of splits.
        by_user: whether users count.
        on_row: called with how many rows have been read.

    Raises:
        DataError: a split of an unknown name.
    """
    found = Scan()
    tag_numbers: dict[str, int] = {}
    users: dict[str, int] = {}
    identities = array("Q")
    for post in posts:
        found.total += 1
        on_row(found.total)
        if reason := _unusable(post) or why_not(post):
            found.left_out[reason] += 1
            continue
        found.rows.append(post.row)
        found.tags.extend(tag_numbers.setdefault(tag, len(tag_numbers)) for tag in post.tags)
        found.lengths.append(len(post.tags))
        identities.append(_identity(post.image_id))
        if by_split:
            found.splits.append(_split_number(post))
        if by_user:
            found.users.append(users.setdefault(post.user, len(users)))
    found.names = list(tag_numbers)
    return _without_repeated(found, np.frombuffer(identities, dtype=np.uint64))


def _unusable(post: Post) -> str:
    if post.video:
        return "videos"
    return "" if post.image_id else "without an image_id"


def _split_number(post: Post) -> int:
    name = post.split.lower()
    if name not in SPLIT_NAMES:
        raise DataError(
            f"row {post.row + 1} has the split {post.split!r}: it must be {', '.join(SPLITS)}"
        )
    return SPLIT_NAMES[name]


def _identity(image_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest(), "little")


def _without_repeated(found: Scan, identities: NDArray[np.uint64]) -> Scan:
    """Without all but the first post of an image."""
    _, first = np.unique(identities, return_index=True)
    repeated = len(identities) - len(first)
    if not repeated:
        return found
    kept = np.zeros(len(identities), dtype=bool)
    kept[first] = True
    tags = np.asarray(found.tags, dtype=np.int64)
    found.tags = array("q", tags[np.repeat(kept, found.lengths)].tolist())
    for name in ("rows", "splits", "users", "lengths"):
        column: array[int] = getattr(found, name)
        if len(column):
            values = np.asarray(column)[kept].tolist()
            setattr(found, name, array(column.typecode, values))
    found.left_out["with the image_id of an earlier row"] += repeated
    return found
