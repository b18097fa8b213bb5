"""A sweep's folder: its name, that it can be written, and that one process drives it."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from kdgan_core.files import atomic_write
from sweeps.manifest import sweep_id
from sweeps.options import Options
from sweeps.space import Space

OWNER = "owner.json"
OWNER_KEYS = {"host", "pid", "user", "since", "command"}
LEFTOVER_SECONDS = 600.0
LOCK_SECONDS = 2.0  # longer than a status command holds the lock


class StorageError(Exception):
    """The storage folder cannot carry the sweep; the message says why and what to do."""


def sweep_folder(space: Space, options: Options) -> Path:
    """Where the sweep lives: the same for commands that ask for the same sweep."""
    return options.storage / sweep_id(space, options)


def make_folder(folder: Path) -> Path:
    """The sweep's folder, made if need be and written to once as a trial.

    Raises:
        StorageError: it cannot be made or written.
    """
    try:
        (folder / "spool").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        raise StorageError(
            f"the storage folder {folder.parent} cannot be written ({error}): make space or"
            " access, or choose another with --storage"
        ) from error
    return folder


@contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """Holds the sweep's lock for the length of the block; the lock goes with the process.

    Raises:
        StorageError: another process holds it, and the message names the owner; or it cannot be
            had.
    """
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except filelock.Timeout:
        owner = read_owner(folder)
        who = (
            f"process {owner['pid']} of {owner['user']} on {owner['host']} since {owner['since']}"
            f" ({owner['command']})"
            if owner
            else "another process"
        )
        raise StorageError(
            f"sweep {folder.name} is being run by {who}: wait for it or end it; its state:"
            " the same command with --status"
        ) from None
    except OSError as error:
        raise StorageError(f"{folder / 'lock'} cannot be locked ({error})") from error
    try:
        _remove_leftovers(folder)
        _write_owner(folder, command)
        yield
    finally:
        with contextlib.suppress(OSError):  # of no use to anybody once the lock is gone
            (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _remove_leftovers(folder: Path) -> None:
    """Files that a killed process was writing; what is younger may be a worker's that lives on."""
    for part in folder.glob("**/*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > LEFTOVER_SECONDS:
                part.unlink()


def is_driven(folder: Path) -> bool:
    """Whether a process runs the sweep now. Writes nothing, so that anybody may ask."""
    try:
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_owner(folder: Path) -> dict[str, Any]:
    """host, pid, user, since and command of the process that runs the sweep; empty if unknown."""
    try:
        owner = dict(json.loads((folder / OWNER).read_text()))
    except (OSError, ValueError, TypeError):
        return {}
    return owner if owner.keys() >= OWNER_KEYS else {}


def _write_owner(folder: Path, command: str) -> None:
    owner = {
        "host": platform.node(),
        "pid": os.getpid(),
        "user": _user(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }
    try:
        with atomic_write(folder / OWNER) as file:
            file.write(json.dumps(owner).encode())
    except OSError as error:
        raise StorageError(
            f"the storage folder {folder} cannot be written ({error}): make space or access"
        ) from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
