"""Writing a file so that no reader ever sees half of it."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends without an error.

    After an error `path` is as it was and nothing else is left behind.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        temporary = Path(part.name)
        try:
            yield part
            part.flush()
            os.fsync(part.fileno())
        except BaseException:
            temporary.unlink()
            raise
    temporary.chmod(0o644)
    temporary.replace(path)


def save_labelled(path: Path, label: str, state: object) -> None:
    """Writes `state` in torch's format behind a line with `label` and a checksum.

    Raises:
        OSError: the folder cannot be written, or the disk is full (torch, writing to a file
            itself, would raise a RuntimeError that does not say so).
    """
    packed = _packed(state)
    with atomic_write(path) as file:
        file.write(_first_line(label, packed))
        file.write(packed)


def load_labelled(path: Path, label: str, device: torch.device) -> Any:
    """What `save_labelled` wrote with this very label; None for any other or a damaged file.

    The checksum is needed: torch does not notice a changed bit in a tensor, and raises half a
    dozen kinds of errors where a file is cut or foreign.
    """
    import torch

    try:
        with path.open("rb") as file:
            first, packed = file.readline(), file.read()
    except OSError:
        return None
    if first != _first_line(label, packed):
        return None
    return torch.load(io.BytesIO(packed), map_location=device, weights_only=True)


def _first_line(label: str, packed: bytes | memoryview) -> bytes:
    return f"{label} {hashlib.sha256(packed).hexdigest()}\n".encode()


def _packed(state: object) -> memoryview:
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()
