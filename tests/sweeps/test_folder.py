"""A sweep's folder: one driver at a time, named to the others; whoever asks changes nothing."""

from __future__ import annotations

import getpass
import json
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import filelock
import pytest
from commanding import COMMAND, driven, traces

from sweeps import folder as module
from sweeps.folder import StorageError, is_driven, locked, make_folder, read_owner


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "storage" / "toy-study-12345678")


def test_a_second_driver_is_refused_and_told_who_drives(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.2)
    with driven(folder) as driver:
        owner = read_owner(folder)
        with pytest.raises(StorageError) as refused, locked(folder, "another command"):
            pass
        assert read_owner(folder) == owner  # the one who was refused has left it
    sentence = str(refused.value)
    for part in (folder.name, f"process {driver.pid}", owner["host"], owner["since"], COMMAND):
        assert part in sentence
    assert "--status" in sentence


def test_the_owner_says_who_he_is(folder: Path) -> None:
    with driven(folder) as driver:
        owner = read_owner(folder)
    assert set(owner) == module.OWNER_KEYS
    assert (owner["pid"], owner["command"]) == (driver.pid, COMMAND)
    assert owner["host"] and owner["user"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", owner["since"])


def test_the_lock_goes_with_a_killed_driver_and_his_name_stays(folder: Path) -> None:
    with driven(folder) as driver:
        assert is_driven(folder)
        driver.kill()
    assert not is_driven(folder)
    assert read_owner(folder)["pid"] == driver.pid
    with locked(folder, "the next"):
        assert is_driven(folder)
        assert read_owner(folder)["pid"] == os.getpid()
    assert read_owner(folder) == {}


def test_the_end_of_a_driver_leaves_no_owner(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(folder, COMMAND):
        raise KeyboardInterrupt
    assert not (folder / module.OWNER).exists()
    assert not is_driven(folder)


@pytest.mark.parametrize("is_so", [False, True])
def test_asking_who_drives_writes_nothing(folder: Path, is_so: bool) -> None:
    with driven(folder) if is_so else nullcontext():
        before = traces(folder)
        assert is_driven(folder) == is_so
        assert bool(read_owner(folder)) == is_so
        assert traces(folder) == before


def test_asking_does_not_keep_a_driver_out(folder: Path) -> None:
    with locked(folder, COMMAND):
        pass
    for _ in range(3):
        assert not is_driven(folder)
        with locked(folder, COMMAND):
            pass


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"pid": 1}', json.dumps({"host": "a"}), "\x00"]
)
def test_a_damaged_owner_is_an_unknown_one(
    folder: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.1)
    (folder / module.OWNER).write_text(content)
    assert read_owner(folder) == {}
    with (
        filelock.FileLock(folder / "lock"),
        pytest.raises(StorageError, match="by another process"),
        locked(folder, COMMAND),
    ):
        pass


def test_what_a_killed_process_half_wrote_is_removed(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    parts = [folder / "tmp1.part", folder / "checkpoints" / "tmp2.part"]
    young = folder / "checkpoints" / "tmp3.part"  # maybe of a worker that outlives its driver
    kept = [folder / "plan.parquet", folder / "checkpoints" / "0123456789ab.pt", young]
    for path in (*parts, *kept):
        path.write_bytes(b"half")
    for path in parts:
        os.utime(path, (0, 0))
    with locked(folder, COMMAND):
        assert not any(path.exists() for path in parts)
        assert all(path.exists() for path in kept)


def test_a_folder_is_made_with_its_spool_and_left_empty(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["spool"]
    assert list((folder / "spool").iterdir()) == []
    assert make_folder(folder) == folder


def test_a_storage_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("")
    with pytest.raises(StorageError) as refused:
        make_folder(tmp_path / "storage" / "toy")
    assert str(tmp_path / "storage") in str(refused.value)
    assert "--storage" in str(refused.value)


@contextmanager
def full_disk() -> Iterator[None]:
    """Files can be made, but not a byte can be written to them."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_noticed_before_anything_starts(folder: Path) -> None:
    with pytest.raises(StorageError, match="File too large"), full_disk():
        make_folder(folder)
    with pytest.raises(StorageError, match="File too large"), full_disk(), locked(folder, COMMAND):
        pass
    assert not is_driven(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "spool"]


def test_a_lock_that_cannot_be_had(folder: Path) -> None:
    (folder / "lock").mkdir()
    with pytest.raises(StorageError, match="cannot be locked"), locked(folder, COMMAND):
        pass


def test_a_user_without_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", unknown)
    with locked(folder, COMMAND):
        assert read_owner(folder)["user"] == str(os.getuid())
