"""MNIST from IDX files in the data folder, or downloaded from its public mirrors.

Files: LeCun, Cortes, Burges, "The MNIST database of handwritten digits". The md5 sums are the
published ones of the compressed files; contents are checked by their own sums, so that files
unpacked or compressed again are accepted.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import struct
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
from numpy.typing import NDArray

from kdgan_core.data.dataset import DataError
from kdgan_core.data.digits import Arrays
from kdgan_core.files import atomic_write

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


def default_data_dir() -> Path:
    """KDGAN_DATA if it is set, else the user's cache directory."""
    return Path(os.environ.get("KDGAN_DATA") or platformdirs.user_cache_path("kdgan"))


def load(data_dir: Path | None, mirrors: Sequence[str] = MIRRORS) -> Arrays:
    """Pool and test arrays: images (N, 1, 28, 28) uint8, labels (N,) int64.

    Args:
        data_dir: holds `mnist/` with the four files, with or without `.gz`; None is the default.
        mirrors: base addresses tried in turn for files that are absent.

    Raises:
        DataError: the folder is not one, a file is damaged, or absent and not to be had.
    """
    folder = (data_dir or default_data_dir()) / "mnist"
    for parent in (folder.parent, folder):
        if parent.exists() and not parent.is_dir():
            raise DataError(f"the data folder {parent} is a file: give a folder with --data-dir")
    missing = [file for file in FILES if _find(folder, file) is None]
    if missing:
        _download_all(folder, missing, mirrors)
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
    candidates = (folder / f"{file.name}.gz", folder / file.name)
    return next((path for path in candidates if path.exists()), None)


def _read(folder: Path, file: IdxFile) -> NDArray[np.uint8]:
    path = _find(folder, file)
    if path is None:
        raise DataError(f"{folder / file.name} has gone while MNIST was read: try again")
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}): delete it and let it be downloaded again,"
            " or replace it"
        ) from error
    array = parse_idx(content, file.shape, str(path))
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != file.md5:
        raise DataError(f"{path} has the shape of MNIST but not its content (md5): replace it")
    return array


def _download_all(folder: Path, files: Sequence[IdxFile], mirrors: Sequence[str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            _download(folder, file, mirrors)
    except OSError as error:
        wanted = "; ".join(f"{file.name}.gz (md5 {file.gz_md5})" for file in files)
        raise DataError(
            f"MNIST is not in {folder} and could not be downloaded ({error}). Put there: {wanted}."
            " Or name another folder with --data-dir or KDGAN_DATA. The experiment 'digits' needs"
            " no download."
        ) from error


def _download(folder: Path, file: IdxFile, mirrors: Sequence[str]) -> None:
    """Fetch one compressed file, check its md5, then move it into place in one step.

    Raises:
        OSError: no mirror gave a file with the right checksum; the last reason.
    """
    reason: OSError = OSError("no mirror is known")
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(f"{mirror}{file.name}.gz", timeout=30) as answer:
                content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            reason = OSError(f"{mirror}: {error}")
            continue
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != file.gz_md5:
            reason = OSError(f"{mirror}{file.name}.gz has a wrong checksum")
            continue
        with atomic_write(folder / f"{file.name}.gz") as part:
            part.write(content)
        return
    raise reason
