"""CIFAR-10 where it is absent: the archive is downloaded, or what to do is said."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kdgan_core.data import DataError, cifar10
from kdgan_core.data.cifar10 import ARCHIVE, BATCHES, MIRRORS, load
from kdgan_core.data.fetch import md5_of

Serve = Callable[..., tuple[str, list[str]]]
LABELS = range(3, 3 + len(BATCHES))  # the one image of each batch


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to serve: an archive of small batches, which is the published one for this test."""
    table, buffer = [], io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for batch, label in zip(BATCHES, LABELS, strict=True):
            content = bytes([label]) + bytes(3072)
            table.append(batch._replace(md5=md5_of(content), images=1))
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{batch.name}.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    published = ARCHIVE._replace(md5=md5_of(buffer.getvalue()))
    monkeypatch.setattr(cifar10, "BATCHES", tuple(table))
    monkeypatch.setattr(cifar10, "ARCHIVE", published)
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / ARCHIVE.name).write_bytes(buffer.getvalue())
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "cifar10"


def labels(folder: Path, *mirrors: str) -> list[int]:
    """The labels of pool and test."""
    _, pool, _, test = load(folder.parent, mirrors)
    return [*pool.tolist(), *test.tolist()]


def test_a_download_is_kept_as_the_archive(folder: Path, served: Path, serve: Serve) -> None:
    address, asked = serve(served)
    assert labels(folder, address) == [*LABELS]
    assert asked == [f"/{ARCHIVE.name}"]
    assert [path.name for path in folder.iterdir()] == [ARCHIVE.name]
    assert (folder / ARCHIVE.name).read_bytes() == (served / ARCHIVE.name).read_bytes()
    assert labels(folder, address) == [*LABELS]
    assert len(asked) == 1  # the second time asks for nothing


def test_what_is_incomplete_is_downloaded(folder: Path, served: Path, serve: Serve) -> None:
    folder.mkdir(parents=True)
    for batch in BATCHES[:5]:
        (folder / f"{batch.name}.bin").write_bytes(b"not looked at")
    address, asked = serve(served)
    assert labels(folder, address) == [*LABELS]
    assert len(asked) == 1


def test_the_second_mirror_is_asked_when_the_first_refuses(
    folder: Path, served: Path, serve: Serve, closed_port: str
) -> None:
    assert labels(folder, closed_port, serve(served)[0]) == [*LABELS]


def test_a_wrong_download_leaves_nothing_behind(folder: Path, served: Path, serve: Serve) -> None:
    (served / ARCHIVE.name).write_bytes(b"something else")
    with pytest.raises(DataError, match=f"/{ARCHIVE.name} has a wrong checksum"):
        labels(folder, serve(served)[0])
    assert list(folder.iterdir()) == []


def test_absent_and_no_mirror(folder: Path, closed_port: str) -> None:
    with pytest.raises(DataError) as error:
        load(folder.parent, mirrors=(closed_port,))
    message = str(error.value)
    assert message.startswith(f"CIFAR-10 is not in {folder} and could not be downloaded")
    assert closed_port in message
    assert "cifar-10-binary.tar.gz (md5 c32a1d4ab5d03f1284b67883e8d87530)" in message
    assert "--data-dir or KDGAN_DATA" in message


def test_the_official_address() -> None:
    assert f"{MIRRORS[0]}{ARCHIVE.name}" == (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    )
