"""Files of posts: what is read of them, and the rows a seed draws."""

from __future__ import annotations

import dataclasses
import os
import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posting import CODED, Columns, Write, columns, refused, writer

from kdgan_core.data import DataError
from kdgan_core.data.posts import (
    Posts,
    checksum_of,
    draw_posts,
    load_posts,
    read_posts,
    tag_matrix,
    training_tags,
    unseen_tags,
)
from kdgan_core.data.posts_file import ROWS_AT_ONCE
from kdgan_core.data.tag_rows import tag_rows
from kdgan_core.data.words import Vocabulary


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


@pytest.fixture(scope="module")
def flickr() -> Posts:
    """The real posts."""
    folder = os.environ.get("KDGAN_DATA")
    if not folder or not (Path(folder) / "flickr8k" / "flickr8k_tags.parquet").is_file():
        pytest.skip("KDGAN_DATA names no folder with flickr8k/flickr8k_tags.parquet")
    return load_posts("flickr8k", "", Path(folder))


def test_what_a_file_says(write: Write) -> None:
    posts = read_posts(write(columns()), "mine")
    assert (posts.name, len(posts)) == ("mine", 4)
    assert posts.ids.tolist() == ["a", "b", "c", "d"]
    assert posts.features.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert posts.features.dtype == np.float32
    assert list(posts.texts) == ["two dogs", "", "a dog", "sky"]
    assert posts.tag_names == ("cat", "dog", "sky")
    assert posts.tag_rows.offsets.tolist() == [0, 2, 2, 3, 5]
    assert posts.tag_rows.values.tolist() == [1, 2, 1, 0, 1]  # a tag given twice is there once
    assert (posts.tag_rows.offsets.dtype, posts.tag_rows.values.dtype) == (np.int64, np.int32)
    assert [posts.tags_of(row) for row in range(4)] == [
        ["dog", "sky"],
        [],
        ["dog"],
        ["cat", "dog"],
    ]
    assert posts.splits is not None
    assert posts.splits.tolist() == [0, 1, 0, 2]
    assert posts.splits.dtype == np.int8
    assert posts.thumbnails is None


@pytest.mark.parametrize(
    "types",
    [
        {"image_feature": pa.list_(pa.float32(), 2)},
        {"image_feature": pa.list_(pa.float64())},
        {"image_feature": pa.large_list(pa.float64())},
        {name: pa.large_string() for name in ("image_id", "split", "text")},
        {name: pa.string_view() for name in ("image_id", "split", "text")},
        {name: CODED for name in ("image_id", "split", "text")},
        {"tags": pa.large_list(pa.large_string())},
        {"tags": pa.list_(CODED)},
    ],
    ids=str,
)
def test_other_types_of_the_same_content_read_the_same(
    write: Write, types: dict[str, pa.DataType]
) -> None:
    expected = read_posts(write(columns()), "tags")
    posts = read_posts(write(columns(), types), "tags")
    assert posts.checksum == expected.checksum
    assert all(type(text) is str for text in (*posts.ids, *posts.texts, *posts.tag_names))


def test_batches_and_row_groups_do_not_show(write: Write, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = 2 * ROWS_AT_ONCE + 100
    data: Columns = {
        "image_id": [f"{row}" for row in range(count)],
        "split": list(rng.choice(["train", "validation", "test"], count)),
        "image_feature": list(rng.standard_normal((count, 3)).astype(np.float32)),
        "text": [f"text {row}" for row in range(count)],
        "tags": [list(rng.choice(list("zyxwv"), row % 4)) for row in range(count)],
    }
    one = read_posts(write(data, rows=count), "tags")
    path = write(data, {"image_feature": pa.list_(pa.float32(), 3)}, rows=999)
    assert read_posts(path, "tags").checksum == one.checksum
    assert np.array_equal(one.features, np.array(data["image_feature"]))
    assert list(one.texts) == data["text"]
    tags = data["tags"]
    assert all(set(one.tags_of(row)) == set(tags[row]) for row in range(count))  # type: ignore[call-overload]
    with pq.ParquetWriter(tmp_path / "gaps.parquet", (table := pq.read_table(path)).schema) as to:
        for part in (table.slice(0, 0), table.slice(0, 10), table.slice(0, 0), table.slice(10)):
            to.write_table(part)
    assert read_posts(tmp_path / "gaps.parquet", "tags").checksum == one.checksum


def test_thumbnails_are_read_when_they_are_asked_for(write: Write) -> None:
    path = write(columns(thumbnail=[b"one", None, b"three", b"four"]))
    posts = read_posts(path, "tags")
    other = read_posts(path, "tags").thumbnails
    assert posts.thumbnails is not None and other is not None
    assert len(posts.thumbnails) == 4
    assert list(posts.thumbnails) == [b"one", None, b"three", b"four"]
    assert posts.thumbnails[-1] == b"four"
    assert posts.thumbnails[1:3] == [None, b"three"]
    with pytest.raises(IndexError):
        posts.thumbnails[4]
    assert posts.checksum == read_posts(write(columns()), "tags").checksum
    with pytest.raises(DataError, match="cannot be read"):  # the file has no pictures any more
        other[0]


def test_a_table_that_has_changed_its_length_shows_no_thumbnail(write: Write) -> None:
    pictures = [b"one", None, b"three", b"four"]
    thumbnails = read_posts(write(columns(thumbnail=pictures)), "tags").thumbnails
    assert thumbnails is not None
    write({name: values[:3] for name, values in columns(thumbnail=pictures).items()})
    with pytest.raises(DataError, match="has changed since it was read"):
        thumbnails[0]


@pytest.mark.parametrize("name", ["flickr8k", "yfcc-popular", "yfcc-random"])
def test_an_absent_data_set_says_how_to_make_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as error:
        load_posts(name, "", tmp_path)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / name / f'{name}_tags.parquet'} is not there")
    assert "`python kdgan_core/data/prepare_tags.py`" in message
    assert "tags (list of strings)" in message
    assert "--data-dir or KDGAN_DATA" in message


def test_loading_by_name(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(columns())
    assert load_posts("tags", str(path), None).ids[0] == "a"
    assert load_posts("tags", str(path), None) is load_posts("tags", str(path), None)
    assert load_posts("tags", "", None).ids[0].startswith("generated")
    place = tmp_path / "yfcc-random" / "yfcc-random_tags.parquet"
    place.parent.mkdir()
    path.rename(place)
    posts = load_posts("yfcc-random", "", tmp_path)
    assert (posts.name, len(posts)) == ("yfcc-random", 4)
    monkeypatch.setenv("KDGAN_DATA", str(tmp_path))
    assert load_posts("yfcc-random", "", None).checksum == posts.checksum
    with pytest.raises(ValueError, match="dataset='yfcc' is not one of flickr8k, yfcc-popular"):
        load_posts("yfcc", "", tmp_path)
    with pytest.raises(ValueError, match=r"tags_file='a.parquet' is for dataset='tags'"):
        load_posts("flickr8k", "a.parquet", tmp_path)


CHANGES: dict[str, Columns] = {
    "id": {"image_id": ["a", "b", "c", "e"]},
    "split": {"split": ["train", "validation", "test", "test"]},
    "feature": {"image_feature": [[1, 2], [3, 4], [5, 6], [7, 8.5]]},
    "shape": {"image_feature": [[1.0], [3.0], [5.0], [7.0]]},
    "text": {"text": ["two dogs", "", "a dog", "skies"]},
    "where a text ends": {"text": ["two dogsa ", "", "dog", "sky"]},
    "tag": {"tags": [["sky", "dog"], [], ["dog"], ["cow", "dog"]]},
    "row of a tag": {"tags": [["sky", "dog"], ["dog"], [], ["cat", "dog"]]},
}


@pytest.mark.parametrize("kind", CHANGES)
def test_the_checksum_covers_what_training_depends_on(write: Write, kind: str) -> None:
    posts = read_posts(write(columns()), "tags")
    assert read_posts(write(columns(**CHANGES[kind])), "tags").checksum != posts.checksum


def test_the_checksum_tells_a_split_column_from_none(write: Write) -> None:
    data = columns()
    posts = read_posts(write(data), "tags")
    del data["split"]
    assert read_posts(write(data), "tags").checksum != posts.checksum
    parts = (posts.ids, posts.features, posts.texts, posts.tag_rows, posts.tag_names)
    assert checksum_of(*parts, posts.splits) == posts.checksum


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("edcba"), max_size=6), max_size=20))
def test_tag_rows_are_the_sets_of_tags(rows: list[list[str]]) -> None:
    names = ["c", "a", "e", "b", "d"]
    codes = np.array([names.index(tag) for row in rows for tag in row], np.int64)
    ragged, found = tag_rows(np.array([len(row) for row in rows], np.int64), codes, names)
    assert found == ("a", "b", "c", "d", "e")
    parts = np.split(ragged.values, ragged.offsets[1:-1]) if rows else []
    assert [[found[code] for code in part] for part in parts] == [sorted(set(r)) for r in rows]


def test_tags_are_ranked_by_how_many_training_rows_have_them(write: Write) -> None:
    posts = read_posts(
        write(
            columns(
                split=["train", "train", "validation", "test"],
                tags=[["b", "a"], ["c", "b", "a", "d"], ["z", "d"], ["y", "d", "d"]],
            )
        ),
        "tags",
    )
    assert training_tags(posts) == ("a", "b", "c", "d")
    assert unseen_tags(posts) == 2
    matrix = tag_matrix(posts, np.array([2, 1, 3]), ("d", "b", "none", "a"))
    assert matrix.tolist() == [
        [True, False, False, False], [True, True, False, True], [True, False, False, False]
    ]  # fmt: skip
    assert matrix.dtype == np.bool_
    assert tag_matrix(posts, np.array([], np.int64), ("a",)).shape == (0, 1)


def without_splits(count: int, order: np.ndarray | None = None) -> Posts:
    """Posts whose file does not say which are test posts; each has one of three tags."""
    rows = np.arange(count) if order is None else order
    ids = np.array([f"image {row}" for row in rows], dtype=object)
    lengths = np.ones(count, np.int64)
    lengths[rows % 10 == 0] = 0
    codes = (rows % 3)[rows % 10 > 0]
    ragged, names = tag_rows(lengths, codes, ["x", "y", "z"])
    texts = np.full(count, "", dtype=object)
    return Posts(
        "tags", ids, np.ones((count, 1), np.float32), texts, ragged, names, None, None, ""
    )


def test_without_splits_the_test_rows_are_the_same_for_every_seed_and_order() -> None:
    posts = without_splits(800)
    splits = [draw_posts(posts, 0, seed) for seed in range(3)]
    test = set(posts.ids[splits[0].test])
    assert len(test) == 160
    assert all(set(posts.ids[split.test]) == test for split in splits)
    mixed = without_splits(800, np.random.default_rng(0).permutation(800))
    assert set(mixed.ids[draw_posts(mixed, 0, 0).test]) == test
    more = without_splits(900)
    assert len(set(more.ids[draw_posts(more, 0, 0).test]) & test) > 140
    for split in splits:
        rows = np.concatenate([split.train, split.valid, split.test])
        assert len(np.unique(rows)) == len(rows) == 800 - split.untagged
        assert len(split.valid) == 640 // 8
    assert not np.array_equal(splits[0].valid, splits[1].valid)


def test_without_splits_every_row_but_the_test_rows_gives_tags() -> None:
    posts = without_splits(30)
    held = set(draw_posts(posts, 0, 0).test)
    counts = {
        name: sum(name in posts.tags_of(row) for row in range(30) if row not in held)
        for name in "xyz"
    }
    assert training_tags(posts) == tuple(sorted("xyz", key=lambda name: (-counts[name], name)))


def test_the_test_rows_are_spread_over_the_file() -> None:
    rows = draw_posts(without_splits(5000), 0, 0).test
    assert len(rows) == 1000
    assert np.histogram(rows, bins=10, range=(0, 5000))[0].min() > 60


@pytest.mark.parametrize("count", [3, 4, 5, 7, 8])
def test_few_rows_without_splits(write: Write, count: int) -> None:
    data: Columns = {
        "image_id": [f"{row}" for row in range(count)],
        "image_feature": [[1.0]] * count,
        "text": [""] * count,
        "tags": [["x", "y"]] * count,
    }
    split = draw_posts(read_posts(write(data), "tags"), 0, 0)
    assert min(len(split.train), len(split.valid), len(split.test)) >= 1
    two = {name: values[:2] for name, values in data.items()}
    assert refused(write(two)).startswith("has 2 rows: put in at least 3")


def test_untagged_training_rows_are_left_out_and_counted(write: Write) -> None:
    data = columns(split=["train", "train", "validation", "test"], tags=[["x", "y"], [], [], []])
    split = draw_posts(read_posts(write(data), "tags"), 0, 0)
    assert split.train.tolist() == [0]
    assert (split.valid.tolist(), split.test.tolist()) == ([2], [3])  # these stay
    assert split.untagged == 1


@pytest.mark.parametrize("with_column", [True, False])
@pytest.mark.parametrize("seed", [0, 5])
def test_sizes_are_nested_and_share_the_other_rows(with_column: bool, seed: int) -> None:
    posts = without_splits(1000)
    if with_column:
        posts = dataclasses.replace(posts, splits=(np.arange(1000) % 4 % 3).astype(np.int8))
    splits = [draw_posts(posts, n, seed) for n in (1, 10, 100, 300, 0)]
    assert [len(split.train) for split in splits[:-1]] == [1, 10, 100, 300]
    for small, large in pairwise(splits):
        assert np.array_equal(small.train, large.train[: len(small.train)])
        assert np.array_equal(small.valid, large.valid)
        assert np.array_equal(small.test, large.test)
    other = draw_posts(posts, 100, seed + 1)
    assert not np.array_equal(other.train, splits[2].train)
    assert np.array_equal(other.valid, splits[2].valid) == with_column
    again = draw_posts(posts, 100, seed)
    assert all(np.array_equal(a, b) for a, b in zip(again, splits[2], strict=True))


def test_more_than_there_is_is_refused() -> None:
    posts = without_splits(100)
    most = len(draw_posts(posts, 0, 0).train)
    assert len(draw_posts(posts, most, 0).train) == most
    with pytest.raises(ValueError, match=f"train_size={most + 1}, and tags has {most} training"):
        draw_posts(posts, most + 1, 0)


def test_nothing_of_other_rows_reaches_words_and_tags(write: Write) -> None:
    """Other text, tags and features of validation and test rows: the same words and tags."""
    data = columns(tags=[["sky", "dog"], ["cow"], ["dog"], ["cow", "dog"]])
    other = columns(
        text=["two dogs", "cow cow cow", "a dog", "two cows cow dog dog"],
        tags=[["sky", "dog"], ["sky", "owl"], ["dog"], []],
        image_feature=[[1.0, 2.0], [9.0, 9.0], [5.0, 6.0], [0.0, 0.0]],
    )
    seen = []
    for one in (data, other):
        posts = read_posts(write(one), "tags")
        train = draw_posts(posts, 0, 0).train
        words = Vocabulary.of((posts.texts[row] for row in train), at_least=1).words
        seen.append((words, training_tags(posts), train.tolist(), posts.features[train].tolist()))
    assert seen[0] == seen[1]
    assert set(seen[0][0]) == {"two", "dogs", "a", "dog"}
    assert seen[0][1] == ("dog", "sky")


def test_what_the_benchmark_writes_is_read(tmp_path: Path) -> None:
    benchmark = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "posts.py"))
    path = tmp_path / "posts.parquet"
    benchmark["write_file"](path, 30, features=5, tags=9)
    posts = read_posts(path, "tags")
    assert posts.features.shape == (30, 5)
    assert set(posts.tag_names) <= {f"tag{number}" for number in range(9)}
    split = draw_posts(posts, 0, 0)
    assert [len(split.train), len(split.valid), len(split.test), split.untagged] == [24, 3, 3, 0]
    assert benchmark["ours"](path) == benchmark["with_pandas"](path) == 30
    facts = benchmark["measured"](benchmark["ours"], path, path)
    assert facts["rows"] == 30
    assert facts["peak_bytes"] > facts["grown_bytes"] >= 0


def test_flickr8k(flickr: Posts) -> None:
    """The facts of the real file."""
    split = draw_posts(flickr, 0, 0)
    assert (len(split.train), split.untagged) == (5997, 3)
    assert (len(split.valid), len(split.test)) == (1000, 1000)
    assert flickr.features.shape == (8000, 512)
    assert flickr.name == "flickr8k"
    names = training_tags(flickr)
    assert len(names) == len(set(names)) == len(flickr.tag_names) == 200
    assert unseen_tags(flickr) == 0
    rows = np.concatenate([split.train, split.valid, split.test])
    assert len(np.unique(rows)) == 7997
    matrix = tag_matrix(flickr, np.arange(8000), names)
    assert int((~matrix.any(axis=1)).sum()) == 4
    assert int((~matrix[split.test].any(axis=1)).sum()) == 1
    assert matrix.sum(axis=1).max() == 12
    assert matrix.sum() == 35_655
    counts = matrix[split.train].sum(axis=0)
    assert counts.tolist() == sorted(counts, reverse=True)
    assert flickr.ids[0] == "1000268201_693b08cb0e.jpg"
    assert flickr.tags_of(0) == ["building", "child", "dress", "girl", "stairs"]
    assert flickr.texts[0].startswith("A little girl climbing the stairs")
    assert flickr.thumbnails is None
