"""CIFAR-10 from whichever published form the data folder has, or downloaded from its site.

Files: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images". A batch of the binary
version is records of one label byte and 3,072 pixel bytes: red, green, blue, each 32 rows. All
forms are brought to that one, whose md5 sums are checked: so all forms give the same arrays.
"""

from __future__ import annotations

import io
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

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

MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
ARCHIVE = PublishedFile("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")
PIXELS = 3 * 32 * 32
RECORD = 1 + PIXELS
RECORD_100 = 2 + PIXELS  # CIFAR-100 has a coarse and a fine label
HIGHEST_LABEL = 9


class Batch(NamedTuple):
    """One of the six batches: its name, the md5 of its binary version, and how many images."""

    name: str
    md5: str
    images: int = 10_000


BATCHES = (
    Batch("data_batch_1", "5dd7e06a14cb22eb9f671a540d1b7c25"),
    Batch("data_batch_2", "5ea93a67294ea407fff1d09f752e9692"),
    Batch("data_batch_3", "942cd6a4bcdd0dd3c604fbe906cb4421"),
    Batch("data_batch_4", "ae636b3ba5c66a11e91e8cb52e771fcb"),
    Batch("data_batch_5", "53f37980c15c3d472c316c40844f3f0d"),
    Batch("test_batch", "803d5f7f4d78ea53de84dbe85f74fb6d"),
)

# Folders below the data set's, and how names end there: .bin is the binary version, "" the python
# version. The first complete one is read; an archive only where none is.
LOOSE = (
    (".", ".bin"), ("cifar-10-batches-bin", ".bin"), ("cifar-10-batches-py", ""), (".", ""),
)  # fmt: skip
ARCHIVES = ("cifar-10-binary", "cifar-10-python")

# Globals that the python version's files ask for; numpy 2 has moved the first.
ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class Content(NamedTuple):
    """A batch as it was found: where, and its bytes there, unpacked; python: it is a pickle."""

    source: str
    python: bool
    content: bytes


def load(data_dir: Path | None, mirrors: Sequence[str] = MIRRORS) -> Arrays:
    """Pool and test arrays: images (N, 3, 32, 32) uint8, labels (N,) int64, in file order.

    Args:
        data_dir: holds `cifar10/` with the batches of the binary or the python version, loose
            (plain, .gz or .xz) or in their archive; None is the default.
        mirrors: base addresses tried in turn for the binary archive, where there is nothing.

    Raises:
        DataError: the folder is not one, a file is damaged or is something else, or the data are
            absent and not to be had.
    """
    folder = data_folder(data_dir, "cifar10")
    records = []
    for batch, (source, python, content) in zip(BATCHES, _contents(folder, mirrors), strict=True):
        if python:
            content = binary_version(content, source)
        records.append(parse_records(content, batch, source))
    return *_arrays(records[:-1]), *_arrays(records[-1:])


def parse_records(content: bytes, batch: Batch, source: str) -> NDArray[np.uint8]:
    """The records of a batch of the binary version, (N, 3073): a label, then the pixels.

    Raises:
        DataError: truncated or padded, a label that CIFAR-10 has not, or another content.
    """
    wanted = batch.images * RECORD
    if len(content) != wanted:
        if content and len(content) % (batch.images * RECORD_100) == 0:
            raise DataError(f"{source} has CIFAR-100's records: put CIFAR-10's in its place")
        raise DataError(
            f"{source} is {'truncated' if len(content) < wanted else 'padded'}:"
            f" {len(content):,} bytes of records instead of {wanted:,}; replace it"
        )
    records = np.frombuffer(content, np.uint8).reshape(batch.images, RECORD)
    strange = np.flatnonzero(records[:, 0] > HIGHEST_LABEL)
    if len(strange):
        raise DataError(
            f"{source} has the label {records[strange[0], 0]} in record {strange[0] + 1:,} of"
            f" {batch.images:,}, CIFAR-10's are 0 to {HIGHEST_LABEL}: replace it"
        )
    if md5_of(content) != batch.md5:
        raise DataError(
            f"{source} has the shape of CIFAR-10's {batch.name} but not its content (md5):"
            " replace it"
        )
    return records


def binary_version(content: bytes, source: str) -> bytes:
    """The records of a batch of the python version, a pickle; its labels are not checked.

    Nothing that the pickle names is run or imported.

    Raises:
        DataError: it is damaged, or holds anything but bytes, numbers and one array.
    """
    try:
        return _records_of(_Unpickler(io.BytesIO(content), encoding="bytes").load())
    except Exception as error:  # a pickle that was damaged or forged raises nearly anything
        raise DataError(
            f"{source} is not a batch of CIFAR-10's python version ({error}): replace it"
        ) from error


class _Kept:
    """Stands for numpy's array and dtype: keeps what the pickle gives them, and does no more."""

    state: Any = None

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Makes bytes, numbers, lists, dictionaries and `_Kept`."""

    def find_class(self, module: str, name: str) -> type[_Kept]:
        if (module, name) not in ADMITTED:
            asked = f"{module}.{name}"
            raise pickle.UnpicklingError(f"it asks for {asked!r}, which no batch needs")
        return _Kept


def _records_of(batch: dict[bytes | str, object]) -> bytes:
    """Labels and pixels of an unpickled batch, as the binary version has them.

    Raises:
        Exception: of nearly any type, where the batch is not what it should be.
    """
    named = {k.decode() if isinstance(k, bytes) else k: value for k, value in batch.items()}
    if "fine_labels" in named:
        raise ValueError("it is of CIFAR-100")
    array, labels = named.get("data"), named.get("labels")
    if not isinstance(array, _Kept) or not isinstance(labels, list):
        raise ValueError("it has no array 'data' and list 'labels'")
    # numpy's __setstate__: version, shape, dtype, whether columns are together, the bytes.
    _, shape, dtype, fortran, pixels = array.state
    if shape != (len(labels), PIXELS) or fortran or dtype.arguments[0] not in (b"u1", "u1"):
        raise ValueError(f"its 'data' are not {len(labels):,} rows of {PIXELS:,} bytes")
    records = np.empty((len(labels), RECORD), np.uint8)
    records[:, 0] = np.frombuffer(bytes(labels), np.uint8)
    records[:, 1:] = np.frombuffer(pixels, np.uint8).reshape(shape)
    return records.tobytes()


def _arrays(records: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 3, 32, 32) and labels (N,) of some batches' records."""
    images = np.concatenate([part[:, 1:] for part in records]).reshape(-1, 3, 32, 32)
    return images, np.concatenate([part[:, 0] for part in records]).astype(np.int64)


def find_form(folder: Path) -> list[Path]:
    """The files of the first form that is complete: six loose batches or an archive, or none."""
    for inside, ending in LOOSE:
        found = list(_loose(folder / inside, ending).values())
        if None not in found:
            return [path for path in found if path is not None]
    archives = (find_file(folder, name, (".tar.gz", ".tar", ".tar.xz")) for name in ARCHIVES)
    return [path for path in archives if path is not None][:1]


def _loose(folder: Path, ending: str) -> dict[str, Path | None]:
    """The file of each batch of one version, by its name unpacked."""
    names = [f"{batch.name}{ending}" for batch in BATCHES]
    return {name: find_file(folder, name, ("", ".gz", ".xz")) for name in names}


def _contents(folder: Path, mirrors: Sequence[str]) -> Iterable[Content]:
    """The six batches, from the first form that is there, else downloaded; see `load`."""
    paths = find_form(folder)
    if not paths:
        _download(folder, mirrors)
        paths = [folder / ARCHIVE.name]
    if len(paths) == 1:
        return _unpacked(paths[0])
    return (Content(str(path), ".bin" not in path.suffixes, read_content(path)) for path in paths)


def _download(folder: Path, mirrors: Sequence[str]) -> None:
    """Fetches the binary archive.

    Raises:
        DataError: it cannot be had, or CIFAR-100 is there in its place.
    """
    forms = [_loose(folder / inside, ending) for inside, ending in LOOSE]
    absent = min(([n for n, path in form.items() if path is None] for form in forms), key=len)
    title = "CIFAR-10"
    if len(absent) < len(BATCHES):
        title = f"All of CIFAR-10 (missing: {', '.join(absent)})"
    elif folder.is_dir() and _is_cifar_100(path.name for path in folder.iterdir()):
        raise DataError(f"{folder} holds CIFAR-100: put {ARCHIVE.name} there in its place")
    download(title, folder, [ARCHIVE], mirrors)


def _unpacked(path: Path) -> list[Content]:
    """The six batches of an archive of either version.

    Raises:
        DataError: it cannot be read, is not a tar, or has not all six batches.
    """
    wanted = {f"{batch.name}{ending}" for batch in BATCHES for ending in (".bin", "")}
    contents: dict[str, bytes] = {}
    members = []
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                members.append(member.name)
                name = PurePosixPath(member.name).name
                if member.isreg() and name in wanted:
                    file = archive.extractfile(member)
                    contents[name] = file.read() if file else b""
    except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise DataError(
            f"{path} is no tar archive that can be read ({error}): delete it and let it be"
            " downloaded again, or replace it"
        ) from error
    for ending in (".bin", ""):
        names = [f"{batch.name}{ending}" for batch in BATCHES]
        if contents.keys() >= set(names):
            return [Content(f"{n} in {path}", not ending, contents[n]) for n in names]
    if _is_cifar_100(members):
        raise DataError(f"{path} is CIFAR-100: put {ARCHIVE.name} in its place")
    some = f"only {', '.join(sorted(contents))}" if contents else "none"
    raise DataError(f"{path} has {some} of CIFAR-10's batches: replace it by {ARCHIVE.name}")


def _is_cifar_100(names: Iterable[str]) -> bool:
    """Whether one of the names is CIFAR-100's own."""
    return any(
        "cifar-100" in name or PurePosixPath(name).name.startswith("train.bin") for name in names
    )
