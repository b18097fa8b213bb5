"""The folder of pretrained players: each trained once, whoever asks, within a bounded size.

An entry is a file; beside it lies a lock that whoever trains or reads it holds. The time of an
entry's last use is its file's, set anew at every reading.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import torch

from kdgan_core.files import load_labelled, save_labelled

LIMIT_VARIABLE = "KDGAN_CACHE_LIMIT"
DEFAULT_LIMIT = "20"  # GB: some 3,000 players of the paper's MNIST
LABEL = "kdgan player"
PLAIN = b"PK"  # how torch's own files begin: those of earlier versions have no checksum


def size_limit() -> float:
    """Bytes that the cache may take, from KDGAN_CACHE_LIMIT in GB (10^9 bytes).

    Raises:
        ValueError: the variable is no number, or below 0.
    """
    text = os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit >= 0.0:
        raise ValueError(f"{LIMIT_VARIABLE}={text!r} is not a number of GB, at least 0")
    return limit * 1e9


def make_unclaimed(path: Path, device: torch.device, make: Callable[[], dict[str, Any]]) -> None:
    """As `cached`, but leaves an entry to the process that is making it, and returns at once."""
    if path.exists():
        return
    with contextlib.suppress(filelock.Timeout):
        cached(path, device, make, patience_seconds=0.0)


def cached(
    path: Path, device: torch.device, make: Callable[[], dict[str, Any]],
    patience_seconds: float = -1.0,
) -> dict[str, Any]:  # fmt: skip
    """What `make` returned when the entry was made; made now if it is absent or damaged.

    Safe under many processes: the first one makes it, the others wait for it. After making one,
    the least recently used entries are dropped until the folder keeps to its limit, but never one
    that is in use, nor the new one.

    Args:
        path: of the entry, in an existing folder.
        device: to load tensors to.
        make: returns tensors and plain values.
        patience_seconds: how long to wait for others, -1 for ever.

    Raises:
        filelock.Timeout: another process has it still.
        OSError: the folder cannot be written.
        ValueError: as of `size_limit`.
    """
    limit = size_limit()
    with filelock.FileLock(path.with_suffix(".lock"), timeout=patience_seconds):
        kept = _read(path, device)
        if kept is not None:
            with contextlib.suppress(PermissionError):  # another user's
                os.utime(path)
            return kept
        made = make()
        save_labelled(path, LABEL, made)
    drop_least_recently_used(path.parent, limit, keep=path)
    return made


def _read(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The entry; None where there is none that is whole."""
    kept = load_labelled(path, LABEL, device)
    if kept is None and path.is_file() and path.read_bytes()[: len(PLAIN)] == PLAIN:
        try:
            kept = torch.load(path, map_location=device, weights_only=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
            return None
    return None if kept is None else dict(kept)


def drop_least_recently_used(folder: Path, limit: float, keep: Path) -> None:
    """Removes entries, the longest unused first, until those left take at most `limit` bytes.

    Entries whose lock is held stay, and so does `keep`; one that another process removes meanwhile
    is no error.
    """
    entries = []
    for path in folder.glob("*.pt"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        entries.append((stat.st_mtime_ns, stat.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit:
            return
        if path == keep:
            continue
        try:
            with filelock.FileLock(path.with_suffix(".lock"), timeout=0):
                path.unlink(missing_ok=True)
        except filelock.Timeout:
            continue
        total -= size
