"""Files of posts that are refused: one sentence each, with the row and the column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from posting import TYPES, Columns, Write, columns, refused, writer

from kdgan_core.data.posts_file import ROWS_AT_ONCE


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


BAD_ROWS: dict[str, tuple[Columns, str]] = {
    "null id": ({"image_id": ["a", "b", None, "d"]}, "row 3 of 4, column image_id: it is null"),
    "null split": (
        {"split": ["train", "validation", None, "test"]},
        "row 3 of 4 (image_id 'c'), column split: it is null",
    ),
    "null features": (
        {"image_feature": [[1, 2], [3, 4], None, [7, 8]]},
        "row 3 of 4 (image_id 'c'), column image_feature: it is null",
    ),
    "null text": (
        {"text": ["", "", None, ""]},
        "row 3 of 4 (image_id 'c'), column text: it is null; give it a value",
    ),
    "null tags": (
        {"tags": [["x"], ["y"], None, ["z"]]}, "row 3 of 4 (image_id 'c'), column tags: it is null"
    ),
    "null tag": (
        {"tags": [["x"], ["y"], [], ["z", None]]},
        "row 4 of 4 (image_id 'd'), column tags: a tag is null; leave it out",
    ),
    "empty tag": (
        {"tags": [["x"], ["y", " "], ["z"], ["y"]]},
        "row 2 of 4 (image_id 'b'), column tags: a tag is empty; leave it out",
    ),
    "null feature": (
        {"image_feature": [[1, 2], [3, 4], [5, None], [7, 8]]},
        "row 3 of 4 (image_id 'c'), column image_feature: value 2 of 2 is null",
    ),
    "no features": (
        {"image_feature": [[], [], [], []]},
        "row 1 of 4 (image_id 'a'), column image_feature: it is empty",
    ),
    "ragged": (
        {"image_feature": [[1, 2], [3, 4], [5, 6], [7]]},
        "row 4 of 4 (image_id 'd'), column image_feature: it has 1 values, row 1 has 2",
    ),
    "one empty": (
        {"image_feature": [[1, 2], [], [5, 6], [7, 8]]},
        "row 2 of 4 (image_id 'b'), column image_feature: it has 0 values, row 1 has 2",
    ),
    "nan": (
        {"image_feature": [[1, 2], [3, 4], [float("nan"), 6], [7, 8]]},
        "row 3 of 4 (image_id 'c'), column image_feature: value 1 of 2 is nan; make it a finite",
    ),
    "infinite": (
        {"image_feature": [[1, 2], [3, 4], [5, 6], [7, float("-inf")]]},
        "row 4 of 4 (image_id 'd'), column image_feature: value 2 of 2 is -inf",
    ),
    "split": (
        {"split": ["train", "validation", "val", "test"]},
        "row 3 of 4 (image_id 'c'), column split: it is 'val', make it train, validation or test",
    ),
    "twice": (
        {"image_id": ["a", "b", "c", "b"]},
        "row 4 of 4, column image_id: 'b' is also row 2's; leave one of them",
    ),
    "no training row": (
        {"split": ["validation", "validation", "test", "test"]}, "column split: no row is 'train'"
    ),
    "no validation row": (
        {"split": ["train", "train", "test", "test"]}, "column split: no row is 'validation'"
    ),
    "no test row": (
        {"split": ["train", "train", "validation", "validation"]},
        "column split: no row is 'test'; mark some rows so",
    ),
    "no tag": (
        {"tags": [[], ["x", "y"], [], ["x"]]},
        "column tags: the training rows have no tags, which leaves nothing to rank",
    ),
    "one tag": (
        {"tags": [["x"], ["y"], ["x"], ["z"]]},
        "column tags: the training rows have 1 tag, which leaves nothing to rank",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_value_is_named(write: Write, kind: str) -> None:
    changes, words = BAD_ROWS[kind]
    assert refused(write(columns(**changes))).startswith(words)


@pytest.mark.parametrize("kind", ["null feature", "nan", "infinite"])
@pytest.mark.parametrize("items", [pa.list_(pa.float32(), 2), pa.list_(pa.float64())], ids=str)
def test_a_bad_number_is_named_in_other_types(write: Write, kind: str, items: pa.DataType) -> None:
    changes, words = BAD_ROWS[kind]
    assert refused(write(columns(**changes), {"image_feature": items})).startswith(words)


def test_a_null_in_a_list_of_fixed_size_is_named(write: Write) -> None:
    """Arrow fails to read one at all."""
    data = columns(image_feature=[[1, 2], [3, 4], None, [7, 8]])
    message = refused(write(data, {"image_feature": pa.list_(pa.float32(), 2)}))
    assert message.startswith("row 3 of 4, column image_feature: it is null")


def test_a_number_too_large_for_training_is_named(write: Write) -> None:
    data = columns(image_feature=[[1, 2], [3, 1e39], [5, 6], [7, 8]])
    message = refused(write(data, {"image_feature": pa.list_(pa.float64())}))
    assert message.startswith(
        "row 2 of 4 (image_id 'b'), column image_feature: value 2 of 2 is 1e"
    )


def test_the_row_is_counted_over_batches(write: Write) -> None:
    count = ROWS_AT_ONCE + 10
    data: Columns = {
        "image_id": [f"i{row}" for row in range(count)],
        "image_feature": [[1.0]] * (count - 1) + [[float("nan")]],
        "text": [""] * count,
        "tags": [["x", "y"]] * count,
    }
    message = refused(write(data, rows=count))
    assert message.startswith(f"row {count:,} of {count:,} (image_id 'i{count - 1}'), column")


@pytest.mark.parametrize("column", ["image_id", "text", "tags"])
def test_text_that_is_not_utf_8_is_named(tmp_path: Path, column: str) -> None:
    table = pa.table({name: pa.array(v, TYPES[name]) for name, v in columns().items()})
    strange = pa.array([b"a", b"b", b"\xff\xfe", b"d"])
    strings = pa.Array.from_buffers(pa.string(), 4, strange.buffers())
    if column == "tags":
        strings = pa.ListArray.from_arrays(pa.array(range(5), pa.int32()), strings)
    path = tmp_path / "posts.parquet"
    place = table.schema.names.index(column)
    pq.write_table(table.set_column(place, column, strings), path)
    message = refused(path)
    assert message.startswith("row 3 of 4")
    assert f"column {column}: " in message
    assert "is not UTF-8" in message


@pytest.mark.parametrize("column", ["image_id", "image_feature", "text", "tags"])
def test_an_absent_column_is_named(write: Write, column: str) -> None:
    data = columns()
    del data[column]
    message = refused(write(data))
    assert message.startswith(f"has no column {column}: its columns have to be image_id (string)")


WRONG_TYPES: dict[str, tuple[pa.DataType, list[object]]] = {
    "image_id": (pa.int64(), [1, 2, 3, 4]),
    "split": (pa.int8(), [0, 1, 0, 2]),
    "image_feature": (pa.list_(pa.int64()), [[1, 2]] * 4),
    "text": (pa.list_(pa.string()), [["a"]] * 4),
    "tags": (pa.string(), ["a,b"] * 4),
    "thumbnail": (pa.string(), ["a"] * 4),
}


@pytest.mark.parametrize("column", WRONG_TYPES)
def test_a_wrong_type_is_named(write: Write, column: str) -> None:
    kind, values = WRONG_TYPES[column]
    message = refused(write(columns(**{column: values}), {column: kind}))
    assert message.startswith(f"column {column}: its type is ")
    assert "make it a list of " in message or "make it a string" in message or "bin" in message


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    table = pa.table({name: pa.array(v, TYPES[name]) for name, v in columns().items()})
    pq.write_table(table.append_column("text", table["text"]), tmp_path / "posts.parquet")
    assert refused(tmp_path / "posts.parquet").startswith("has 2 columns text: leave one")


def test_a_file_without_rows(write: Write) -> None:
    empty: Columns = {name: [] for name in columns()}
    assert refused(write(empty)).startswith("has no row")


@pytest.mark.parametrize("kind", ["empty", "a page", "truncated", "damaged", "a folder"])
def test_a_file_that_cannot_be_read(write: Write, tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    path = write(columns(image_feature=list(rng.standard_normal((4, 500)).astype(np.float32))))
    content = path.read_bytes()
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "a page":
            path.write_text("<html>404</html>")
        case "truncated":
            path.write_bytes(content[:-10])
        case "damaged":
            path.write_bytes(
                content[:4] + bytes(len(content) // 2) + content[len(content) // 2 + 4 :]
            )
        case _:
            path = tmp_path
    assert refused(path).startswith("cannot be read as a Parquet file (")


def test_an_absent_file(tmp_path: Path) -> None:
    message = refused(tmp_path / "posts.parquet")
    assert message.startswith("is not there: put a Parquet file there with the columns image_id")
    assert "`python kdgan_core/data/prepare_tags.py` makes one" in message
