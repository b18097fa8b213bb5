"""CIFAR-10's python version: pickles are read without running or importing what they name."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from kdgan_core.data import DataError
from kdgan_core.data.cifar10 import RECORD, binary_version

IMAGES = 20
PIXELS = np.random.default_rng(0).integers(0, 256, (IMAGES, RECORD - 1), np.uint8)
LABELS = [number * 7 % 10 for number in range(IMAGES)]
CONTENT = b"".join(
    bytes([label]) + row.tobytes() for label, row in zip(LABELS, PIXELS, strict=True)
)

# In these places: shape, dtype, order, and the bytes of the array.
ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01%s"
    b"cnumpy\ndtype\nU\x02%sK\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    b"K\x00tb%s%stb"
)
SHAPE = b"K%cM\x00\x0c\x86" % IMAGES


def string(text: bytes) -> bytes:
    return b"T%s%s" % (struct.pack("<I", len(text)), text)


def published(
    *, name: bytes = b"labels", labels: bytes | None = None, shape: bytes = SHAPE,
    kind: bytes = b"u1", fortran: bytes = b"\x89", pixels: bytes = PIXELS.tobytes(),
) -> bytes:  # fmt: skip
    """A batch in the opcodes in which Python 2 wrote the published ones, with changes."""
    if labels is None:
        labels = b"](%se" % b"".join(b"K%c" % label for label in LABELS)
    return b"".join(
        (
            b"\x80\x02}(", string(b"batch_label"), string(b"training batch 1 of 5"),
            string(name), labels,
            string(b"data"), ARRAY % (shape, kind, fortran, string(pixels)),
            string(b"filenames"), b"](", string(b"a.png") * IMAGES, b"eu.",
        )
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
def test_numpy_reads_what_these_tests_make() -> None:
    batch = pickle.loads(published(), encoding="bytes")
    assert np.array_equal(batch[b"data"], PIXELS)
    assert batch[b"data"].dtype == np.uint8
    assert batch[b"labels"] == LABELS


def test_the_binary_version_is_put_together() -> None:
    assert binary_version(published(), "x") == CONTENT


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("names", [("data", "labels"), (b"data", b"labels")])
def test_batches_pickled_again_are_accepted(names: tuple[str | bytes, ...], protocol: int) -> None:
    """As Python 3 and today's numpy write them."""
    batch = dict(zip(names, (PIXELS, LABELS), strict=True))
    assert binary_version(pickle.dumps(batch, protocol), "x") == CONTENT


def test_another_number_of_images_and_strange_labels_are_left_to_the_caller() -> None:
    labels = b"](%se" % (b"K\xff" * (IMAGES + 1))
    more = published(
        labels=labels, shape=b"K%cM\x00\x0c\x86" % (IMAGES + 1), pixels=bytes(21 * (RECORD - 1))
    )
    assert binary_version(more, "x") == (b"\xff" + bytes(RECORD - 1)) * 21


ROWS = "its 'data' are not 20 rows of 3,072 bytes"
NO_BATCH: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "(Ran out of input)"),
    "a page": (b"<html>404</html>", "version ("),
    "truncated": (published()[:-1000], "version ("),
    "the binary version": (CONTENT, "version ("),
    "a list": (b"\x80\x02].", "version ("),
    "an empty dictionary": (b"\x80\x02}.", "it has no array 'data' and list 'labels'"),
    "a number of labels": (published(labels=b"K\x05"), "it has no array 'data' and list 'labels'"),
    "other names": (published(name=b"fine_label"), "it has no array 'data' and list 'labels'"),
    "CIFAR-100": (published(name=b"fine_labels"), "it is of CIFAR-100"),
    "data that are bytes": (
        pickle.dumps({"labels": LABELS, "data": PIXELS.tobytes()}, 3), "no array 'data'",
    ),
    "an array without content": (
        b"\x80\x02}(U\x06labels]U\x04datacnumpy\nndarray\n)Ru.", "version (",
    ),
    "fewer labels": (published(labels=b"](K\x01e"), "its 'data' are not 1 rows"),
    "columns": (published(shape=b"K\x14M\xff\x0b\x86"), ROWS),
    "other numbers": (published(kind=b"i1"), ROWS),
    "columns together": (published(fortran=b"\x88"), ROWS),
    "fewer pixels": (published(pixels=PIXELS.tobytes()[:-1]), "version ("),
    "a label of 256": (published(labels=b"](%se" % (b"M\x00\x01" * IMAGES)), "range(0, 256)"),
    "a label that is text": (published(labels=b"](%se" % (b"U\x011" * IMAGES)), "version ("),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_BATCH)
def test_what_is_no_batch_is_refused(kind: str) -> None:
    content, words = NO_BATCH[kind]
    with pytest.raises(DataError) as error:
        binary_version(content, "some/file")
    message = str(error.value)
    assert message.startswith("some/file is not a batch of CIFAR-10's python version (")
    assert message.endswith("): replace it")
    assert words in message
    assert "\n" not in message


SHELL, PYTHON = b"echo>ran", b"open('ran','w').close()"
DANGEROUS = {
    "posix.system": b"cposix\nsystem\n(U%c%stR." % (len(SHELL), SHELL),
    "os.system": b"\x80\x04\x8c\x02os\x8c\x06system\x93(U%c%stR." % (len(SHELL), SHELL),
    "builtins.exec": b"cbuiltins\nexec\n(U%c%stR." % (len(PYTHON), PYTHON),
    "__builtin__.eval": b"c__builtin__\neval\n(U%c%stR." % (len(PYTHON), PYTHON),
    "subprocess.getoutput": (
        b"\x80\x02}(U\x06labels]U\x04data(U%c%sisubprocess\ngetoutput\nu." % (len(SHELL), SHELL)
    ),
}  # fmt: skip
NOT_ADMITTED = {
    **DANGEROUS,
    "numpy.memmap": b"cnumpy\nmemmap\n(U\x03rantR.",
    "numpy.ndarray.tofile": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    "builtins.bytearray": b"\x80\x02cbuiltins\nbytearray\n(tR.",
}


@pytest.mark.parametrize("name", NOT_ADMITTED)
def test_a_forged_pickle_runs_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        binary_version(NOT_ADMITTED[name], "some/file")
    assert f"it asks for {name!r}, which no batch needs" in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", DANGEROUS)
def test_the_forged_pickles_run_where_they_are_read_without_care(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test before this one can fail."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(DANGEROUS[name])
    assert (tmp_path / "ran").exists()


def test_a_forged_pickle_changes_no_later_one() -> None:
    """It tries to give what stands for numpy's array another attribute."""
    forged = b"\x80\x02cnumpy\nndarray\nN}U\x0b__setstate__K\x07s\x86b."
    with pytest.raises(DataError):
        binary_version(forged, "x")
    assert binary_version(published(), "x") == CONTENT
