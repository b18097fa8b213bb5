"""The pictures of a Parquet file of posts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import pyarrow as pa
import pyarrow.parquet as pq

from kdgan_core.data.dataset import DataError


class Thumbnails(Sequence[bytes | None]):
    """The pictures of a file, row by row; read when the first one is asked for.

    Training shows none, and they may be larger than all else together.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, row: int) -> bytes | None: ...
    @overload
    def __getitem__(self, row: slice) -> list[bytes | None]: ...
    def __getitem__(self, row: int | slice) -> bytes | list[bytes | None] | None:
        """The bytes of a row, None where it has no picture.

        Raises:
            DataError: the file has gone, or was changed since it was read.
        """
        if isinstance(row, slice):
            return [self[place] for place in range(self._count)[row]]
        found: bytes | None = self._pictures[range(self._count)[row]].as_py()
        return found

    @functools.cached_property
    def _pictures(self) -> pa.ChunkedArray:
        try:
            pictures = pq.read_table(self._path, columns=["thumbnail"])["thumbnail"]
        except (OSError, KeyError, pa.ArrowException) as error:
            raise DataError(f"{self._path} cannot be read ({error}): put it back") from error
        if len(pictures) != self._count:
            raise DataError(f"{self._path} has changed since it was read: start again")
        return pictures
