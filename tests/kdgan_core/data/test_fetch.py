"""Files of any data set: folders that are files, and packed files that are damaged."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from kdgan_core.data import DataError
from kdgan_core.data.fetch import data_folder, find_file, read_content

CONTENT = bytes(range(256)) * 40
GZ, XZ = gzip.compress(CONTENT), lzma.compress(CONTENT)
PACKED = {"file": CONTENT, "file.bin": CONTENT, "file.gz": GZ, "file.bin.xz": XZ}
DAMAGED = {
    "truncated": ("file.gz", GZ[:-9]),
    "cut in its head": ("file.gz", GZ[:7]),
    "overwritten": ("file.gz", GZ[:20] + b"?" * 20 + GZ[40:]),
    "no deflate": ("file.gz", GZ[:10] + b"\xff" * 100),
    "another checksum": ("file.gz", GZ[:-8] + bytes(4) + GZ[-4:]),
    "not packed": ("file.gz", CONTENT),
    "truncated, xz": ("file.xz", XZ[:-9]),
    "cut in its head, xz": ("file.xz", XZ[:7]),
    "overwritten, xz": ("file.xz", XZ[:40] + b"?" * 20 + XZ[60:]),
    "not packed, xz": ("file.xz", CONTENT),
    "empty, xz": ("file.xz", b""),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_files_are_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PACKED[name])
    assert read_content(tmp_path / name) == CONTENT


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    name, content = DAMAGED[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        read_content(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name} cannot be read (")
    assert str(error.value).endswith("or replace it")


def test_a_file_that_is_absent_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="cannot be read"):
            read_content(path)


def test_the_first_ending_is_found(tmp_path: Path) -> None:
    for name in ("a.gz", "a.xz", "b.xz", "c"):
        (tmp_path / name).touch()
    endings = ("", ".gz", ".xz")
    assert find_file(tmp_path, "a", endings) == tmp_path / "a.gz"
    assert find_file(tmp_path, "b", endings) == tmp_path / "b.xz"
    assert find_file(tmp_path, "c", endings) == tmp_path / "c"
    assert find_file(tmp_path, "c", endings[1:]) is None
    assert find_file(tmp_path / "absent", "a", endings) is None


@pytest.mark.parametrize("inside", ["", "cifar10"])
def test_a_data_folder_that_is_a_file(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "data"
    if inside:
        path.mkdir()
    (path / inside).write_text("not a folder")
    with pytest.raises(DataError, match="is a file: give a folder with --data-dir") as error:
        data_folder(path, "cifar10")
    assert str(path / inside) in str(error.value)


def test_a_data_folder_need_not_exist(tmp_path: Path) -> None:
    assert data_folder(tmp_path / "absent", "cifar10") == tmp_path / "absent" / "cifar10"
