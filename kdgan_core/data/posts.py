"""Posts, images with text and tags: the data of tag recommendation, and what a seed draws."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdgan_core.data.dataset import DataError
from kdgan_core.data.fetch import data_folder
from kdgan_core.data.posts_file import SCHEMA, SPLITS, read_columns
from kdgan_core.data.tag_rows import TagRows

DATASETS = ("flickr8k", "yfcc-popular", "yfcc-random", "tags")
TEST_SHARE = 5  # one post in 5 is a test post where the file does not say
VALID_SHARE = 8  # one of 8 others a validation post
LEAST_TAGS = 2  # with one there is nothing to rank
LEAST_ROWS = 3  # one each to train on, to select by and to score on


@dataclass(frozen=True, eq=False)
class Posts:
    """Posts in memory. Tags are numbered in the order of `tag_names`.

    Attributes:
        name: of the data set.
        ids: (N,) str, each once.
        features: (N, F) float32, finite: what a network trained on other images sees in each.
        texts: (N,) str, perhaps empty: the privileged information.
        tag_rows: the tags of each row, perhaps none.
        tag_names: of all tags in the file, sorted.
        splits: (N,) int8: 0 train, 1 validation, 2 test; None where the file does not say.
        thumbnails: (N,) a picture of each row as JPEG or PNG bytes, None where it has none; None
            where the file has no such column.
        checksum: sha256 over all that training depends on: not the name, nor the thumbnails.
    """

    name: str
    ids: NDArray[Any]
    features: NDArray[np.float32]
    texts: NDArray[Any]
    tag_rows: TagRows
    tag_names: tuple[str, ...]
    splits: NDArray[np.int8] | None
    thumbnails: Sequence[bytes | None] | None
    checksum: str

    def __len__(self) -> int:
        return len(self.ids)

    def tags_of(self, row: int) -> list[str]:
        """The names of a row's tags, sorted."""
        offsets, values = self.tag_rows
        return [self.tag_names[code] for code in values[offsets[row] : offsets[row + 1]]]

    @functools.cached_property
    def is_test(self) -> NDArray[np.bool_]:
        """(N,): the file's test rows, or a fixed fifth of the rows.

        The fifth are those whose image_id has the lowest hashes: so they are the same for every
        seed and in whatever order the rows stand, and hardly change when some rows are added.
        """
        if self.splits is not None:
            return np.equal(self.splits, SPLITS["test"])
        hashes = [hashlib.sha256(name.encode()).digest() for name in self.ids]
        count = max(1, round(len(self) / TEST_SHARE))
        held = np.zeros(len(self), np.bool_)
        held[sorted(range(len(self)), key=hashes.__getitem__)[:count]] = True
        return held

    @functools.cached_property
    def is_training(self) -> NDArray[np.bool_]:
        """(N,): the file's training rows, or all that are no test rows."""
        if self.splits is None:
            return ~self.is_test
        return np.equal(self.splits, SPLITS["train"])

    def tag_counts(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of the rows in the mask (N,) have each tag of `tag_names`."""
        offsets, values = self.tag_rows
        kept = values[np.repeat(rows, np.diff(offsets))]
        return np.bincount(kept, minlength=len(self.tag_names))


class PostSplit(NamedTuple):
    """The rows of a seed: int64 row numbers in `Posts`.

    `untagged` training rows were left out: without a tag they have no p_u to learn (paper,
    section 4.2). Validation and test rows without tags stay, for the metrics to count.
    """

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]
    untagged: int


@functools.lru_cache(maxsize=2)
def load_posts(dataset: str, tags_file: str, data_dir: Path | None) -> Posts:
    """The posts of a data set, read once per process.

    Args:
        dataset: "flickr8k", "yfcc-popular", "yfcc-random", or "tags".
        tags_file: of "tags": a Parquet file, "" for the generated set, which needs none.
        data_dir: the data folder; None is `default_data_dir()`.

    Raises:
        DataError: the file is absent or not what it should be.
        ValueError: an unknown data set, or a file for one that has its own.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset={dataset!r} is not one of {', '.join(DATASETS)}")
    if dataset == "tags":
        if tags_file:
            return read_posts(Path(tags_file), dataset)
        from kdgan_core.data.generated_posts import generated_posts

        return generated_posts()
    if tags_file:
        raise ValueError(f"tags_file={tags_file!r} is for dataset='tags', not {dataset!r}")
    path = data_folder(data_dir, dataset) / f"{dataset}_tags.parquet"
    if not path.exists():
        raise DataError(
            f"{path} is not there, and {dataset} cannot be downloaded: make it from your copy of"
            " the posts with `python kdgan_core/data/prepare_tags.py` (a Parquet file with the"
            f" columns {SCHEMA}), or name another folder with --data-dir or KDGAN_DATA"
        )
    return read_posts(path, dataset)


def read_posts(path: Path, name: str) -> Posts:
    """The posts of a Parquet file, named `name`.

    Raises:
        DataError: it is absent, damaged, has a bad value (the message names row and column), or
            cannot be trained on and scored.
    """
    columns = read_columns(path)
    checksum = checksum_of(*columns[:-1])
    posts = Posts(name, *columns, checksum=checksum)
    _check(posts, path)
    return posts


def _check(posts: Posts, path: Path) -> None:
    """Raises a DataError where rows are there twice, or too few of a kind."""
    first: dict[str, int] = {}
    for row, image in enumerate(posts.ids):
        if first.setdefault(image, row) != row:
            raise DataError(
                f"{path}, row {row + 1:,} of {len(posts):,}, column image_id: {image!r} is also"
                f" row {first[image] + 1:,}'s; leave one of them"
            )
    if posts.splits is None and len(posts) < LEAST_ROWS:
        raise DataError(f"{path} has {len(posts)} rows: put in at least {LEAST_ROWS}")
    for split, number in SPLITS.items():
        if posts.splits is not None and not (posts.splits == number).any():
            raise DataError(
                f"{path}, column split: no row is {split!r}; mark some rows so, or leave out the"
                " column"
            )
    found = np.count_nonzero(posts.tag_counts(posts.is_training))
    if found < LEAST_TAGS:
        raise DataError(
            f"{path}, column tags: the training rows have {found or 'no'}"
            f" tag{'' if found == 1 else 's'}, which leaves nothing to rank; give them at least"
            f" {LEAST_TAGS} different ones"
        )


def checksum_of(
    ids: Iterable[str],
    features: NDArray[np.float32],
    texts: Iterable[str],
    tag_rows: TagRows,
    tag_names: Iterable[str],
    splits: NDArray[np.int8] | None,
) -> str:
    """sha256 in hexadecimal; see `Posts`."""
    digest = hashlib.sha256(repr(features.shape).encode())
    for strings in (ids, texts, tag_names):
        encoded = [text.encode() for text in strings]
        digest.update(np.array([len(encoded), *map(len, encoded)], np.int64).tobytes())
        digest.update(b"".join(encoded))
    arrays = (features, *tag_rows) if splits is None else (features, *tag_rows, splits)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def draw_posts(posts: Posts, train_size: int, seed: int) -> PostSplit:
    """The rows that `seed` trains, selects and is scored on.

    Where the file says which rows are which, all seeds have its validation and test rows. Where it
    does not, the test rows are fixed and an eighth of the others, drawn by seed, validates. The
    training rows are the first of the seed's own order: those of n=100 are among those of n=1,000.

    Args:
        posts: to draw from.
        train_size: n; 0 for all.
        seed: of the trial.

    Raises:
        ValueError: n is more than there are training posts with tags.
    """
    rng = np.random.default_rng([seed, 20180502])
    test = np.flatnonzero(posts.is_test)
    train = rng.permutation(np.flatnonzero(posts.is_training))
    if posts.splits is None:
        count = max(1, len(train) // VALID_SHARE)
        valid, train = np.sort(train[:count]), train[count:]
    else:
        valid = np.flatnonzero(posts.splits == SPLITS["validation"])
    tagged = train[np.diff(posts.tag_rows.offsets)[train] > 0]
    if not len(tagged) or train_size > len(tagged):
        raise ValueError(
            f"train_size={train_size}, and {posts.name} has {len(tagged)} training posts with tags"
            f" for seed {seed}: it can be at most that, and 0 takes all"
        )
    return PostSplit(tagged[: train_size or None], valid, test, len(train) - len(tagged))


def training_tags(posts: Posts) -> tuple[str, ...]:
    """The K tags that are recommended: those of training rows, the most frequent first, then by
    name. Without a split column every row but the test rows is one, whatever the seed."""
    counts = posts.tag_counts(posts.is_training)
    order = np.argsort(-counts, kind="stable")
    return tuple(posts.tag_names[code] for code in order if counts[code])


def unseen_tags(posts: Posts) -> int:
    """How many tags no training row has: they are on no list and no metric counts them."""
    return int(np.count_nonzero(posts.tag_counts(posts.is_training) == 0))


def tag_matrix(posts: Posts, rows: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.bool_]:
    """(len(rows), K): which of the tags `names` each row has; tags that are not there are left
    out."""
    column = np.full(len(posts.tag_names), -1, np.int64)
    known = {name: code for code, name in enumerate(posts.tag_names)}
    for place, name in enumerate(names):
        if name in known:
            column[known[name]] = place
    offsets, values = posts.tag_rows
    lengths = np.diff(offsets)[rows]
    first = np.cumsum(lengths) - lengths
    codes = values[np.repeat(offsets[rows] - first, lengths) + np.arange(lengths.sum())]
    at = np.repeat(np.arange(len(rows)), lengths)
    kept = column[codes] >= 0
    matrix = np.zeros((len(rows), len(names)), np.bool_)
    matrix[at[kept], column[codes][kept]] = True
    return matrix
