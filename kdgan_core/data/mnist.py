"""MNIST from IDX files in the data folder, or downloaded from its public mirrors.

Files: LeCun, Cortes, Burges, "The MNIST database of handwritten digits". The md5 sums are the
published ones of the compressed files; contents are checked by their own sums, so that files
unpacked or compressed again are accepted.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdgan_core.data.dataset import DataError
from kdgan_core.data.digits import Arrays
from kdgan_core.data.fetch import (
    PublishedFile,
    data_folder,
    download,
    find_file,
    md5_of,
    read_content,
)

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


class IdxFile(NamedTuple):
    """One of the four files: its name unpacked, md5 compressed, md5 unpacked, and shape."""

    name: str
    gz_md5: str
    md5: str
    shape: tuple[int, ...]


FILES = (
    IdxFile(
        "train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "6bbc9ace898e44ae57da46a324031adb", (60_000, 28, 28),
    ),
    IdxFile(
        "train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432",
        "a25bea736e30d166cdddb491f175f624", (60_000,),
    ),
    IdxFile(
        "t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3",
        "2646ac647ad5339dbf082846283269ea", (10_000, 28, 28),
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c",
        "27ae3e4e09519cfbb04c329615203637", (10_000,),
    ),
)  # fmt: skip


def load(data_dir: Path | None, mirrors: Sequence[str] = MIRRORS) -> Arrays:
    """Pool and test arrays: images (N, 1, 28, 28) uint8, labels (N,) int64.

    Args:
        data_dir: holds `mnist/` with the four files, with or without `.gz`; None is the default.
        mirrors: base addresses tried in turn for files that are absent.

    Raises:
        DataError: the folder is not one, a file is damaged, or absent and not to be had.
    """
    folder = data_folder(data_dir, "mnist")
    missing = [file for file in FILES if _find(folder, file) is None]
    if missing:
        published = [PublishedFile(f"{file.name}.gz", file.gz_md5) for file in missing]
        download("MNIST", folder, published, mirrors)
    images, labels, test_images, test_labels = (_read(folder, file) for file in FILES)
    return (
        images[:, None],
        labels.astype(np.int64),
        test_images[:, None],
        test_labels.astype(np.int64),
    )


def parse_idx(content: bytes, shape: tuple[int, ...], source: str) -> NDArray[np.uint8]:
    """The array of an unpacked IDX file.

    Raises:
        DataError: not an IDX file of unsigned bytes, another shape, or truncated.
    """
    header = 4 + 4 * len(shape)
    if len(content) < header or content[:4] != bytes([0, 0, 8, len(shape)]):
        raise DataError(
            f"{source} is not an IDX file of {len(shape)}-d unsigned bytes: replace it"
        )
    found = struct.unpack(f">{len(shape)}I", content[4:header])
    if found != shape:
        raise DataError(f"{source} has the shape {found}, MNIST's is {shape}: replace it")
    wanted = header + int(np.prod(shape))
    if len(content) != wanted:
        raise DataError(
            f"{source} is truncated or padded: {len(content):,} bytes instead of {wanted:,};"
            " delete it and let it be downloaded again, or replace it"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def _find(folder: Path, file: IdxFile) -> Path | None:
    return find_file(folder, file.name, (".gz", ""))


def _read(folder: Path, file: IdxFile) -> NDArray[np.uint8]:
    path = _find(folder, file)
    if path is None:
        raise DataError(f"{folder / file.name} has gone while MNIST was read: try again")
    content = read_content(path)
    array = parse_idx(content, file.shape, str(path))
    if md5_of(content) != file.md5:
        raise DataError(f"{path} has the shape of MNIST but not its content (md5): replace it")
    return array
