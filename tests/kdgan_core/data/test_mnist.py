"""MNIST: damaged and absent files are explained, downloads are checked and atomic.

Files are read in the order of `FILES`, so a damaged first one is met before the contents of the
others, which are empty stand-ins here. Tests that need the real files take `mnist_folder`.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kdgan_core.data import DataError, Dataset, load_dataset, mnist
from kdgan_core.data.fetch import default_data_dir
from kdgan_core.data.mnist import FILES, MIRRORS, load, parse_idx

IMAGES = FILES[0]
HEADER = bytes([0, 0, 8, 3]) + struct.pack(">3I", 60_000, 28, 28)
PIXELS = 60_000 * 28 * 28
Serve = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder in which all files but the training images are there, and empty."""
    (tmp_path / "mnist").mkdir()
    for file in FILES[1:]:
        (tmp_path / "mnist" / file.name).touch()
    return tmp_path


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


COMPRESSED = gzip.compress(HEADER + bytes(PIXELS), compresslevel=1)
DAMAGE = {
    "truncated gz": (".gz", COMPRESSED[: len(COMPRESSED) // 2], "cannot be read"),
    "damaged gz": (".gz", COMPRESSED[:5000] + b"?" * 5000 + COMPRESSED[10_000:], "cannot be read"),
    "no deflate": (".gz", COMPRESSED[:10] + b"\xff" * 100, "cannot be read"),
    "not a gz": (".gz", HEADER + bytes(PIXELS), "cannot be read"),
    "empty gz": (".gz", b"", "is not an IDX file"),
    "empty": ("", b"", "is not an IDX file"),
    "a page": ("", b"<html>404</html>", "is not an IDX file"),
    "truncated": ("", (HEADER + bytes(PIXELS))[:-1], "truncated or padded: 47,040,015 bytes"),
    "padded": ("", HEADER + bytes(PIXELS + 1), "instead of 47,040,016"),
    "wrong magic": ("", b"\x00\x00\x0d\x03" + HEADER[4:] + bytes(PIXELS), "is not an IDX file"),
    "labels": ("", bytes([0, 0, 8, 1]) + struct.pack(">I", 60_000), "of 3-d unsigned bytes"),
    "wrong shape": (
        "", HEADER[:4] + struct.pack(">3I", 60_000, 32, 32) + bytes(60_000 * 32 * 32),
        "the shape (60000, 32, 32), MNIST's is (60000, 28, 28)",
    ),
    "other content": ("", HEADER + bytes(PIXELS), "not its content (md5)"),
    "other content, gz": (".gz", COMPRESSED, "not its content (md5)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named(data_dir: Path, kind: str) -> None:
    suffix, content, words = DAMAGE[kind]
    path = data_dir / "mnist" / f"{IMAGES.name}{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        load(data_dir, mirrors=())
    assert str(path) in str(error.value)
    assert words in str(error.value)
    assert "replace it" in str(error.value)


def test_a_folder_in_place_of_a_file_is_named(data_dir: Path) -> None:
    (data_dir / "mnist" / IMAGES.name).mkdir()
    with pytest.raises(DataError, match=f"{IMAGES.name} cannot be read"):
        load(data_dir, mirrors=())


def test_parse_idx_reads_rows_in_order() -> None:
    content = bytes([0, 0, 8, 2]) + struct.pack(">2I", 2, 3) + bytes([1, 2, 3, 4, 5, 6])
    array = parse_idx(content, (2, 3), "x")
    assert array.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert array.dtype == np.uint8
    assert array.flags.writeable  # torch warns about arrays that are not


@pytest.mark.parametrize("inside", ["", "mnist"])
def test_a_data_folder_that_is_a_file(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "data"
    if inside:
        path.mkdir()
    (path / inside).write_text("not a folder")
    with pytest.raises(DataError, match="is a file: give a folder with --data-dir") as error:
        load(path, mirrors=())
    assert str(path / inside) in str(error.value)


def test_a_data_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="could not be downloaded"):
        load(tmp_path / "file" / "data", mirrors=())


def test_absent_files_and_no_mirror(tmp_path: Path, closed_port: str) -> None:
    with pytest.raises(DataError) as error:
        load(tmp_path / "data", mirrors=(closed_port,))
    message = str(error.value)
    assert str(tmp_path / "data" / "mnist") in message
    for file in FILES:
        assert f"{file.name}.gz (md5 {file.gz_md5})" in message
    assert closed_port in message
    assert "--data-dir or KDGAN_DATA" in message
    assert "'digits' needs no download" in message


def test_only_what_is_absent_is_asked_for(data_dir: Path, closed_port: str) -> None:
    with pytest.raises(DataError) as error:
        load(data_dir, mirrors=(closed_port,))
    assert IMAGES.gz_md5 in str(error.value)
    assert FILES[1].gz_md5 not in str(error.value)


@pytest.mark.parametrize("kind", ["wrong checksum", "not found", "cut off"])
def test_a_bad_mirror_leaves_nothing_behind(tmp_path: Path, serve: Serve, kind: str) -> None:
    served = tmp_path / "served"
    served.mkdir()
    if kind != "not found":
        (served / f"{IMAGES.name}.gz").write_bytes(b"something else")
    address, asked = serve(served, cut=kind == "cut off")
    reason = {"wrong checksum": "wrong checksum", "not found": "404", "cut off": "IncompleteRead"}
    with pytest.raises(DataError, match=reason[kind]):
        load(tmp_path / "data", mirrors=(address,))
    assert asked == [f"/{IMAGES.name}.gz"]
    assert contents(tmp_path / "data" / "mnist") == []


def test_an_interrupted_download_leaves_nothing_under_the_final_name(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    content = b"the file"
    (served / f"{IMAGES.name}.gz").write_bytes(content)
    file = IMAGES._replace(gz_md5=hashlib.md5(content, usedforsecurity=False).hexdigest())
    monkeypatch.setattr(mnist, "FILES", (file,))

    def interrupted(self: Path, target: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(DataError, match="no space left"):
        load(tmp_path / "data", mirrors=(serve(served)[0],))
    assert IMAGES.name not in "".join(contents(tmp_path / "data" / "mnist"))


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDGAN_DATA", "some/folder")
    assert default_data_dir() == Path("some/folder")
    monkeypatch.setenv("KDGAN_DATA", "")
    assert default_data_dir().name == "kdgan"
    monkeypatch.delenv("KDGAN_DATA")
    assert default_data_dir().name == "kdgan"


def test_the_mirrors_are_https_folders() -> None:
    assert len(MIRRORS) >= 2
    assert all(m.startswith("https://") and m.endswith("/") for m in MIRRORS)


def check(arrays: mnist.Arrays) -> None:
    """Shapes and the published first labels of the two halves."""
    images, labels, test_images, test_labels = arrays
    assert images.shape == (60_000, 1, 28, 28)
    assert test_images.shape == (10_000, 1, 28, 28)
    assert images.dtype == test_images.dtype == np.uint8
    assert labels.dtype == test_labels.dtype == np.int64
    assert labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert test_labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert images.max() == 255
    assert float(images.mean()) == pytest.approx(0.1307 * 255, abs=0.02)


def test_real_files_are_read(mnist_folder: Path) -> None:
    dataset: Dataset = load_dataset("mnist", mnist_folder.parent)
    check((dataset.images, dataset.labels, dataset.test_images, dataset.test_labels))
    assert (dataset.white, dataset.classes) == (255.0, 10)


def test_the_environment_names_the_folder(
    mnist_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_port: str
) -> None:
    monkeypatch.setenv("KDGAN_DATA", str(mnist_folder.parent))
    assert load(None, mirrors=(closed_port,))[1][:3].tolist() == [5, 0, 4]
    monkeypatch.setenv("KDGAN_DATA", str(tmp_path / "empty"))
    with pytest.raises(DataError, match="empty"):
        load(None, mirrors=(closed_port,))


def test_unpacked_files_are_accepted(mnist_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    for file in FILES:
        unpacked = gzip.decompress((mnist_folder / f"{file.name}.gz").read_bytes())
        assert hashlib.md5(unpacked, usedforsecurity=False).hexdigest() == file.md5
        (folder / file.name).write_bytes(unpacked)
    check(load(tmp_path, mirrors=()))


def test_files_compressed_again_are_accepted(mnist_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    for file in FILES:
        unpacked = gzip.decompress((mnist_folder / f"{file.name}.gz").read_bytes())
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(unpacked, compresslevel=1))
    check(load(tmp_path, mirrors=()))


def test_a_download_is_complete_and_leaves_no_part(
    mnist_folder: Path, tmp_path: Path, serve: Serve
) -> None:
    address, asked = serve(mnist_folder)
    data_dir = tmp_path / "made" / "on the way"
    check(load(data_dir, mirrors=(address,)))
    names = [f"{file.name}.gz" for file in FILES]
    assert asked == [f"/{name}" for name in names]
    assert contents(data_dir / "mnist") == sorted(names)
    for name in names:
        assert (data_dir / "mnist" / name).read_bytes() == (mnist_folder / name).read_bytes()
        assert (data_dir / "mnist" / name).stat().st_mode & 0o777 == 0o644
    load(data_dir, mirrors=(address,))
    assert len(asked) == 4  # the second time asks for nothing


@pytest.mark.parametrize("kind", ["wrong checksum", "refused"])
def test_the_second_mirror_is_asked_when_the_first_is_bad(
    mnist_folder: Path, tmp_path: Path, serve: Serve, closed_port: str, kind: str
) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for file in FILES:
        (wrong / f"{file.name}.gz").write_bytes(b"something else")
    first = serve(wrong)[0] if kind == "wrong checksum" else closed_port
    second, asked = serve(mnist_folder)
    check(load(tmp_path / "data", mirrors=(first, second)))
    assert len(asked) == 4
    assert len(contents(tmp_path / "data" / "mnist")) == 4


def test_only_absent_files_are_downloaded(
    mnist_folder: Path, tmp_path: Path, serve: Serve
) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    for file in FILES[:3]:
        (folder / f"{file.name}.gz").symlink_to((mnist_folder / f"{file.name}.gz").resolve())
    address, asked = serve(mnist_folder)
    check(load(tmp_path, mirrors=(address,)))
    assert asked == [f"/{FILES[3].name}.gz"]
