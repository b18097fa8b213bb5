"""What the tests of files of posts share: four posts, a writer of files, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdgan_core.data import DataError
from kdgan_core.data.posts import read_posts

Write = Callable[..., Path]
Columns = dict[str, list[object]]
TYPES = {
    "image_id": pa.string(),
    "split": pa.string(),
    "image_feature": pa.list_(pa.float32()),
    "text": pa.string(),
    "tags": pa.list_(pa.string()),
    "thumbnail": pa.binary(),
}
CODED = pa.dictionary(pa.int32(), pa.string())


def columns(**changes: list[object]) -> Columns:
    """Four posts: two to train on, one each to select by and to score on."""
    return {
        "image_id": ["a", "b", "c", "d"],
        "split": ["train", "validation", "train", "test"],
        "image_feature": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]],
        "text": ["two dogs", "", "a dog", "sky"],
        "tags": [["sky", "dog", "sky"], [], ["dog"], ["cat", "dog"]],
        **changes,
    }


def writer(folder: Path) -> Write:
    """A function that writes columns, with other types than usual where given, and their file."""

    def to_file(data: Columns, types: dict[str, pa.DataType] | None = None, rows: int = 2) -> Path:
        path = folder / "posts.parquet"
        wanted = {**TYPES, **(types or {})}
        table = pa.table({name: pa.array(v, wanted.get(name)) for name, v in data.items()})
        pq.write_table(table, path, row_group_size=rows)
        return path

    return to_file


def refused(path: Path) -> str:
    """The message about a bad file: one sentence that names it."""
    with pytest.raises(DataError) as error:
        read_posts(path, "tags")
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message.removeprefix(str(path)).lstrip(", ")
