"""Tags of many rows, as many of each row as it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class TagRows(NamedTuple):
    """Ragged tags: those of row i are `values[offsets[i]:offsets[i + 1]]`, each once, ascending.

    offsets: (N + 1,) int64; values: int32 codes into the names of the tags.
    """

    offsets: NDArray[np.int64]
    values: NDArray[np.int32]


def tag_rows(
    lengths: NDArray[np.int64], codes: NDArray[np.int64], names: Sequence[str]
) -> tuple[TagRows, tuple[str, ...]]:
    """Each row's tags, one that is given twice once, and the tags' names, sorted.

    Args:
        lengths: (N,) how many of `codes` each row has.
        codes: numbers in `names`, row after row.
        names: of the tags, each once.
    """
    order = sorted(range(len(names)), key=names.__getitem__)
    number = np.empty(len(names), np.int64)  # of each tag once they are sorted
    number[order] = np.arange(len(names))
    count, most = len(lengths), max(1, len(names))
    keys = np.unique(np.repeat(np.arange(count), lengths) * most + number[codes])
    offsets = np.searchsorted(keys, np.arange(count + 1) * most)
    rows = TagRows(offsets.astype(np.int64), (keys % most).astype(np.int32))
    return rows, tuple(names[place] for place in order)
