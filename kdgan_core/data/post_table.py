"""A user's table of posts: CSV, TSV, Parquet, or YFCC100M's own file, read in a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kdgan_core.data.cleaning import clean_tags
from kdgan_core.data.dataset import DataError

# What a column is for -> its name where the user gives none.
DEFAULT_COLUMNS = {
    "id": "image_id", "image": "image", "title": "title", "description": "description",
    "text": "text", "tags": "tags", "split": "split", "user": "",
}  # fmt: skip
TEXTS = ("title", "description", "text")
SEPARATORS = {"comma": ",", "semicolon": ";", "space": None}  # None: any blanks
PACKED = (".gz", ".bz2", ".zst")  # endings that pyarrow unpacks on reading
BLOCK_BYTES = 1 << 24  # of a CSV file at a time; a longer cell cannot be read
ROWS_AT_ONCE = 4096  # of a Parquet file

# The columns of yfcc100m_dataset. Its first version has these 23; the later one has a line number
# in front and a hash behind the identifier (multimediacommons.wordpress.com, "Core Dataset").
YFCC100M = (
    "identifier", "user", "nickname", "taken", "uploaded", "device", "title", "description",
    "tags", "machine_tags", "longitude", "latitude", "accuracy", "page", "download", "license",
    "license_address", "server", "farm", "secret", "original_secret", "extension", "marker",
)  # fmt: skip
YFCC100M_LATER = ("line", "identifier", "hash", *YFCC100M[1:])
YFCC100M_COLUMNS = {
    "id": "identifier", "title": "title", "description": "description", "tags": "tags",
    "user": "user", "marker": "marker",
}  # fmt: skip


class Post(NamedTuple):
    """A row of the table.

    Attributes:
        row: its number, from 0.
        image_id: "" if it has none.
        image: path of its image, as far as the table says it.
        texts: title, description and text as they are; empty where they were not asked for.
        tags: cleaned.
        split: as the table has it, "" without such a column.
        user: "" without such a column.
        video: whether it is a video, which YFCC100M has too.
    """

    row: int
    image_id: str
    image: str
    texts: tuple[str, ...]
    tags: tuple[str, ...]
    split: str
    user: str
    video: bool


@dataclass(frozen=True)
class PostTable:
    """A table whose columns are known to be there.

    Attributes:
        path: of the file.
        columns: what a column is for -> its name, of those there are.
        names: of all columns.
        yfcc100m: whether it is YFCC100M's own file: TSV without header line or quotes.
        url_encoded: whether the tags are.
        separator: between two tags of a cell; None is any blanks.
    """

    path: Path
    columns: Mapping[str, str]
    names: tuple[str, ...]
    yfcc100m: bool = False
    url_encoded: bool = False
    separator: str | None = ","

    def posts(self, rows: NDArray[np.int64] | None = None, texts: bool = True) -> Iterator[Post]:
        """The posts of these rows, numbered from 0 in rising order; None is all.

        Raises:
            DataError: the file is damaged.
        """
        columns = {what: name for what, name in self.columns.items() if texts or what not in TEXTS}
        first = taken = 0
        for batch in _batches(self.path, self.names, sorted(columns.values()), self.yfcc100m):
            numbers: NDArray[np.int64] = np.arange(first, first + batch.num_rows)
            first += batch.num_rows
            if rows is not None:
                numbers = rows[taken : np.searchsorted(rows, first)]
                batch = batch.take(pa.array(numbers - (first - batch.num_rows)))
                taken += len(numbers)
            yield from self._posts(numbers, {w: batch[n].to_pylist() for w, n in columns.items()})
            if rows is not None and taken == len(rows):
                return

    def _posts(self, numbers: NDArray[np.int64], cells: Mapping[str, list[Any]]) -> Iterator[Post]:
        texts = [cells[what] for what in TEXTS if what in cells]

        def text(what: str, place: int) -> str:
            return _as_text(cells[what][place]) if what in cells else ""

        for place, row in enumerate(numbers.tolist()):
            image, image_id = text("image", place), text("id", place)
            yield Post(
                row=row,
                image_id=image_id if "id" in cells else image,
                image=image if "image" in cells else _image_name(image_id),
                texts=tuple(_as_text(column[place]) for column in texts),
                tags=self._tags(cells["tags"][place]),
                split=text("split", place),
                user=text("user", place),
                video=text("marker", place) == "1",
            )

    def _tags(self, cell: object) -> tuple[str, ...]:
        if isinstance(cell, list):
            return clean_tags([_as_text(tag) for tag in cell], self.url_encoded)
        return clean_tags(_as_text(cell).split(self.separator), self.url_encoded)


def open_table(
    path: Path,
    asked: Mapping[str, str],
    yfcc100m: bool = False,
    url_encoded: bool = False,
    separator: str | None = ",",
) -> PostTable:
    """The table, its columns found.

    Args:
        path: .csv, .tsv or .parquet, the former also .gz, .bz2 or .zst.
        asked: what a column is for -> its name, of those the user named.
        yfcc100m: it is YFCC100M's own file, whatever its name.
        url_encoded: whether the tags are.
        separator: between two tags of a cell; None is any blanks.

    Raises:
        DataError: it is absent or cannot be read, or a column is.
    """
    if not path.is_file():
        raise DataError(f"there is no table {path}: give a .csv, .tsv or .parquet file")
    names = _column_names(path, yfcc100m)
    if yfcc100m:
        return PostTable(path, _found(YFCC100M_COLUMNS, asked), names, True, True)
    for what, name in asked.items():
        if name not in names:
            raise DataError(f"{path} has no column {name!r} (--{what}): it has {', '.join(names)}")
    columns = {w: n for w, n in {**DEFAULT_COLUMNS, **asked}.items() if n and n in names}
    wanted = {
        "--id or --image": columns.keys() & {"id", "image"},
        "--tags": columns.keys() & {"tags"},
        "--title, --description or --text": columns.keys() & set(TEXTS),
    }
    for options, found in wanted.items():
        if not found:
            raise DataError(
                f"{path} needs a column for {options}: it has {', '.join(names)}; say which it is"
            )
    return PostTable(path, columns, names, False, url_encoded, separator)


def _found(columns: Mapping[str, str], asked: Mapping[str, str]) -> Mapping[str, str]:
    """YFCC100M's columns; the user's posts are shared out by user only where that is asked for."""
    if unknown := asked.keys() - {"user"}:
        raise DataError(
            f"--yfcc100m knows its columns: leave out --{', --'.join(sorted(unknown))}"
        )
    return {what: name for what, name in columns.items() if what != "user" or "user" in asked}


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _column_names(path: Path, yfcc100m: bool) -> tuple[str, ...]:
    try:
        if _is_parquet(path) and not yfcc100m:
            return tuple(pq.read_schema(path).names)
        read = pacsv.ReadOptions(block_size=BLOCK_BYTES, autogenerate_column_names=yfcc100m)
        with pacsv.open_csv(path, read, _dialect(path, yfcc100m)) as reader:
            names = tuple(reader.schema.names)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, error) from error
    if not yfcc100m:
        return names
    for known in (YFCC100M, YFCC100M_LATER):
        if len(names) == len(known):
            return known
    raise DataError(
        f"{path} has {len(names)} columns, not the {len(YFCC100M)} or {len(YFCC100M_LATER)} of"
        " YFCC100M's own file: leave --yfcc100m out and name its columns"
    )


def _dialect(path: Path, yfcc100m: bool) -> Any:
    endings = [ending.lower() for ending in path.suffixes if ending.lower() not in PACKED]
    ending = endings[-1] if endings else ""
    if yfcc100m:
        return pacsv.ParseOptions(delimiter="\t", quote_char=False)
    if ending not in (".csv", ".tsv"):
        raise DataError(
            f"{path} does not say by its name what it is: it must end in .csv, .tsv or .parquet"
            " (.csv.gz, .tsv.bz2, ...), or be YFCC100M's own file (--yfcc100m)"
        )
    delimiter = "," if ending == ".csv" else "\t"
    return pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)


def _batches(
    path: Path, names: tuple[str, ...], columns: list[str], yfcc100m: bool
) -> Iterator[Any]:
    """Record batches of these columns."""
    try:
        if _is_parquet(path) and not yfcc100m:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(ROWS_AT_ONCE, columns=columns)
            return
        convert = pacsv.ConvertOptions(
            include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
        )
        read = pacsv.ReadOptions(block_size=BLOCK_BYTES, column_names=names if yfcc100m else None)
        with pacsv.open_csv(path, read, _dialect(path, yfcc100m), convert) as reader:
            yield from reader
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DataError(f"{path} cannot be read ({reason}): mend it")


def _as_text(cell: object) -> str:
    return "" if cell is None else str(cell).strip()


def _image_name(image_id: str) -> str:
    return image_id if Path(image_id).suffix or not image_id else f"{image_id}.jpg"
