"""The columns of a Parquet file of posts, read in batches, each value checked.

Only a batch of rows is held twice, so 100,000 posts with 512 features each need little more than
their own 200 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kdgan_core.data.dataset import DataError
from kdgan_core.data.tag_rows import TagRows, tag_rows
from kdgan_core.data.thumbnails import Thumbnails

SPLITS = {"train": 0, "validation": 1, "test": 2}
SCHEMA = (
    "image_id (string), split (train, validation or test; the column may be absent),"
    " image_feature (list of floats), text (string), tags (list of strings) and, where there are"
    " pictures to show, thumbnail (binary: JPEG or PNG)"
)
TEXT, FLOATS, TEXTS, BYTES = "a string", "a list of floats", "a list of strings", "binary"
COLUMNS = {
    "image_id": TEXT, "split": TEXT, "image_feature": FLOATS, "text": TEXT, "tags": TEXTS,
    "thumbnail": BYTES,
}  # fmt: skip
OPTIONAL = ("split", "thumbnail")
STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
ROWS_AT_ONCE = 4096


class PostColumns(NamedTuple):
    """What a file holds, row by row; see `kdgan_core.data.posts.Posts`."""

    ids: NDArray[Any]
    features: NDArray[np.float32]
    texts: NDArray[Any]
    tag_rows: TagRows
    tag_names: tuple[str, ...]
    splits: NDArray[np.int8] | None
    thumbnails: Thumbnails | None


@dataclass(frozen=True)
class _Batch:
    """Some rows of a file, to name one of them."""

    path: Path
    start: int
    total: int
    columns: pa.RecordBatch

    def error(self, row: int, column: str, problem: str) -> DataError:
        """An error about a row of the batch: `problem` says what is wrong and what to do."""
        place = f"row {self.start + row + 1:,} of {self.total:,}"
        if column != "image_id":  # the column that is checked first
            place += f" (image_id {self.columns['image_id'][row].as_py()!r})"
        return DataError(f"{self.path}, {place}, column {column}: {problem}")

    def without_nulls(self, column: str) -> pa.Array:
        """A column.

        Raises:
            DataError: a row has no value in it.
        """
        values = self.columns[column]
        if values.null_count:
            row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            raise self.error(row, column, "it is null; give it a value or leave out the row")
        return values


def read_columns(path: Path) -> PostColumns:
    """All columns of a file of posts.

    Raises:
        DataError: it is absent, no Parquet file or damaged, or a column or value is not what it
            should be; the message names the row, counted from 1, and the column.
    """
    try:
        with pq.ParquetFile(path) as file:
            _check_schema(path, file.schema_arrow)
            return _read(path, file)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is not there: put a Parquet file there with the columns {SCHEMA};"
            " `python kdgan_core/data/prepare_tags.py` makes one"
        ) from error
    except (OSError, pa.ArrowException) as error:
        _name_short_row(path, error)
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} cannot be read as a Parquet file ({first}): replace it by one that is"
            " complete"
        ) from error


def _name_short_row(path: Path, error: Exception) -> None:
    """Raises a DataError where Arrow stumbled over a null in a column of lists of fixed size.

    It reads such a null as a list of another length, fails, and does not say in which row: the
    rows are read one by one up to it.
    """
    if not str(error).startswith("Expected all lists to be of size"):
        return
    row = 0
    with pq.ParquetFile(path) as file:
        try:
            for _ in _batches(file, 1, ["image_feature"]):
                row += 1
        except pa.ArrowInvalid:
            raise DataError(
                f"{path}, row {row + 1:,} of {file.metadata.num_rows:,}, column image_feature: it"
                " is null or has another length; give it the image's features"
            ) from error


def _check_schema(path: Path, schema: pa.Schema) -> None:
    """Raises a DataError where a column is absent, is there twice, or has another type."""
    for name, wanted in COLUMNS.items():
        count = schema.names.count(name)
        if count == 0 and name not in OPTIONAL:
            raise DataError(f"{path} has no column {name}: its columns have to be {SCHEMA}")
        if count > 1:
            raise DataError(f"{path} has {count} columns {name}: leave one")
        if count and not _is(wanted, schema.field(name).type):
            found = schema.field(name).type
            raise DataError(f"{path}, column {name}: its type is {found}, make it {wanted}")


def _is(wanted: str, found: pa.DataType) -> bool:
    """Whether a column's type is one of those read as TEXT, FLOATS, TEXTS or BYTES."""
    types = pa.types
    if wanted == TEXT:
        plain = found.value_type if types.is_dictionary(found) else found
        return any(is_one(plain) for is_one in STRINGS)
    if wanted == BYTES:
        return bool(types.is_binary(found) or types.is_large_binary(found))
    if not any(is_one(found) for is_one in LISTS):
        return False
    if wanted == TEXTS:
        return _is(TEXT, found.value_type)
    return bool(types.is_floating(found.value_type))


def _read(path: Path, file: pq.ParquetFile) -> PostColumns:
    """The columns of an open file whose schema was checked."""
    total = file.metadata.num_rows
    if not total:
        raise DataError(f"{path} has no row: put posts into it")
    names = [name for name in COLUMNS if name in file.schema_arrow.names]
    ids, texts = (np.empty(total, dtype=object) for _ in range(2))
    features = np.empty((total, 0), np.float32)
    splits = np.empty(total, np.int8) if "split" in names else None
    numbers: dict[str, int] = {}  # of the tags, in the order they are met
    tags: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    start = 0
    wanted = [name for name in names if name != "thumbnail"]
    for columns in _batches(file, ROWS_AT_ONCE, wanted):
        batch = _Batch(path, start, total, columns)
        rows = slice(start, start + len(columns))
        ids[rows], texts[rows] = _texts(batch, "image_id"), _texts(batch, "text")
        if splits is not None:
            splits[rows] = _splits(batch)
        if not start:
            features = np.empty((total, _width(batch)), np.float32)
        features[rows] = _features(batch, features.shape[1])
        tags.append(_tags(batch, numbers))
        start = rows.stop
    lengths, codes = (np.concatenate(parts) for parts in zip(*tags, strict=True))
    return PostColumns(
        ids, features, texts, *tag_rows(lengths, codes, list(numbers)), splits,
        Thumbnails(path, total) if "thumbnail" in names else None,
    )  # fmt: skip


def _batches(file: pq.ParquetFile, rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """At most `rows` rows each, at least one. A batch is of one row group: Arrow cannot put lists
    of dictionary-encoded strings of several together."""
    for group in range(file.num_row_groups):
        for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
            if len(batch):
                yield batch


def _texts(batch: _Batch, column: str) -> NDArray[Any]:
    """(B,) str."""
    values = batch.without_nulls(column).cast(pa.large_string(), safe=False)
    strange = _not_utf8(values)
    if strange is not None:
        raise batch.error(strange, column, "it is not UTF-8; write it as that")
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _not_utf8(values: pa.Array) -> int | None:
    """The first place of a text that is not UTF-8, None where all are."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        for place, value in enumerate(values.cast(pa.large_binary()).to_pylist()):
            try:
                value.decode()
            except UnicodeDecodeError:
                return place
    return None


def _splits(batch: _Batch) -> NDArray[np.int8]:
    """(B,) 0 train, 1 validation, 2 test."""
    names = _texts(batch, "split")
    splits = np.array([SPLITS.get(name, -1) for name in names], np.int8)
    strange = np.flatnonzero(splits < 0)
    if len(strange):
        row = int(strange[0])
        raise batch.error(row, "split", f"it is {names[row]!r}, make it train, validation or test")
    return splits


def _width(batch: _Batch) -> int:
    """F, that of the first row."""
    lengths = _lengths(batch.without_nulls("image_feature"))
    if lengths[0] == 0:
        raise batch.error(0, "image_feature", "it is empty; give it the image's features")
    return int(lengths[0])


def _features(batch: _Batch, width: int) -> NDArray[np.float32]:
    """(B, width): a view of the file's values where it has them as they are used."""
    column = batch.without_nulls("image_feature")
    lengths = _lengths(column)
    ragged = np.flatnonzero(lengths != width)
    if len(ragged):
        row = int(ragged[0])
        problem = f"it has {lengths[row]:,} values, row 1 has {width:,}; give every row as many"
        raise batch.error(row, "image_feature", problem)
    flat = column.flatten()
    if flat.null_count:
        empty = int(np.argmax(flat.is_null().to_numpy(zero_copy_only=False)))
        problem = f"value {empty % width + 1:,} of {width:,} is null; give it a number"
        raise batch.error(empty // width, "image_feature", problem)
    stored = flat.to_numpy()
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is refused below
        values = stored.astype(np.float32, copy=False)
    strange = np.flatnonzero(~np.isfinite(values))
    if len(strange):
        place = int(strange[0])
        problem = f"value {place % width + 1:,} of {width:,} is {stored[place]};"
        problem += " make it a finite number of 32 bits"
        raise batch.error(place // width, "image_feature", problem)
    matrix: NDArray[np.float32] = values.reshape(-1, width)
    return matrix


def _tags(batch: _Batch, numbers: dict[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many tags each row has, and their numbers in `numbers`, to which new ones are added."""
    column = batch.without_nulls("tags")
    lengths, flat = _lengths(column), column.flatten().cast(pa.large_string(), safe=False)

    def error(place: int, problem: str) -> DataError:
        row = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
        return batch.error(row, "tags", problem)

    if flat.null_count:
        place = int(np.argmax(flat.is_null().to_numpy(zero_copy_only=False)))
        raise error(place, "a tag is null; leave it out")
    strange = _not_utf8(flat)
    if strange is not None:
        raise error(strange, "a tag is not UTF-8; write it as that")
    encoded = flat.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    found = encoded.dictionary.to_pylist()
    for code, name in enumerate(found):
        if not name.strip():
            raise error(int(np.argmax(codes == code)), "a tag is empty; leave it out")
    number = np.array([numbers.setdefault(name, len(numbers)) for name in found], np.int64)
    return lengths, number[codes]


def _lengths(column: pa.Array) -> NDArray[np.int64]:
    """(B,) how many values each row's list has."""
    lengths: NDArray[np.int64] = pc.list_value_length(column).to_numpy().astype(np.int64)
    return lengths
