"""Writing and reading back: the old file or the new one, never half of either."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from kdgan_core.files import atomic_write, load_labelled, save_labelled

FullDisk = Callable[[int], AbstractContextManager[None]]
STATE = {"weights": torch.arange(50_000.0), "round": 3}
CPU = torch.device("cpu")


def test_the_file_takes_its_place_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), atomic_write(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_labelled_file_is_read_with_its_label_only(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_labelled(path, "trial abc", STATE)
    state = load_labelled(path, "trial abc", CPU)
    assert torch.equal(state["weights"], STATE["weights"])
    assert state["round"] == 3
    for other in ("trial abd", "trial ab", "trial abc ", ""):
        assert load_labelled(path, other, CPU) is None
    assert load_labelled(tmp_path / "absent", "trial abc", CPU) is None


@pytest.mark.parametrize("left", [0, 1, 100, 100_000])
def test_a_full_disk_is_an_os_error_and_leaves_the_old_file(
    left: int, full_disk: FullDisk, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with full_disk(left), pytest.raises(OSError, match="File too large"):
        save_labelled(path, "label", STATE)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
