"""Checkpoint files: whole or absent, and anything but this trial's own is refused unharmed."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdgan_core import trial as trial_module
from kdgan_core.config import TrialConfig
from kdgan_core.data import DataError
from kdgan_core.trial import Evaluation, Trial

MakeTrial = Callable[..., Trial]


def report(evaluation: Evaluation) -> Evaluation:
    """The check without its times."""
    return dataclasses.replace(evaluation, seconds=0.0, seed_seconds={})


@pytest.fixture(scope="module")
def saved(
    make_config: Callable[..., TrialConfig], cache_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., tuple[Path, bytes]]:  # fmt: skip
    """A path, and the checkpoint of `make_config()` at its second check."""
    path = tmp_path_factory.mktemp("saved") / "trial.pt"
    trial = Trial(make_config(), data_dir=None, cache_dir=cache_dir, device="cpu")
    trial.advance()
    trial.advance()
    trial.save(path)
    return path, path.read_bytes()


def refused(trial: Trial, path: Path) -> bool:
    """Whether the file is not taken up, and the trial is as it was."""
    before = dict(vars(trial))
    return not trial.resume(path) and vars(trial) == before and trial.replicas == []


def torch_file(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\0" * 999, b"PK\3\4", b"no\ncheckpoint\n", b"\x80\x04N.", torch_file([1, 2]),
     torch_file({"format": 1}), torch_file(torch.ones(2)), torch_file(None)],
    ids=range(10),
)  # fmt: skip
def test_a_foreign_file_is_not_taken_up(
    content: bytes, make_trial: MakeTrial, tmp_path: Path
) -> None:
    path = tmp_path / "trial.pt"
    path.write_bytes(content)
    trial = make_trial()
    assert refused(trial, path)
    assert path.read_bytes() == content
    assert trial.advance().step == 0


def test_neither_is_an_absent_one_a_folder_or_a_pretrained_player(
    make_trial: MakeTrial, cache_dir: Path, tmp_path: Path
) -> None:
    trial = make_trial()
    assert refused(trial, tmp_path / "absent" / "trial.pt")
    assert refused(trial, tmp_path)
    make_trial().advance()
    assert all(refused(trial, path) for path in cache_dir.rglob("*.pt"))


@settings(max_examples=60, deadline=None)
@given(kept=st.floats(0.0, 1.0, exclude_max=True))
def test_a_cut_checkpoint_is_not_taken_up(
    kept: float, saved: tuple[Path, bytes], make_config: Callable[..., TrialConfig]
) -> None:
    path, whole = saved
    path.write_bytes(whole[: int(kept * len(whole))])
    config = make_config()
    assert refused(Trial(config, data_dir=None, cache_dir=Path("none"), device="cpu"), path)


@settings(max_examples=60, deadline=None)
@given(where=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
def test_one_changed_bit_is_noticed(
    where: float, bit: int, saved: tuple[Path, bytes], make_config: Callable[..., TrialConfig]
) -> None:
    path, whole = saved
    at = int(where * len(whole))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
    config = make_config()
    assert refused(Trial(config, data_dir=None, cache_dir=Path("none"), device="cpu"), path)


def test_a_trial_that_refused_a_damaged_checkpoint_trains_from_its_beginning(
    make_trial: MakeTrial, saved: tuple[Path, bytes], tmp_path: Path
) -> None:
    path, whole = tmp_path / "trial.pt", saved[1]
    path.write_bytes(whole)
    assert make_trial().resume(path)
    path.write_bytes(whole[: len(whole) // 2])
    undisturbed, trial = make_trial(), make_trial()
    assert refused(trial, path)
    while not undisturbed.done:
        assert report(trial.advance()) == report(undisturbed.advance())
    assert trial.result().seeds == undisturbed.result().seeds


@pytest.mark.parametrize(
    "changes", [{"seeds": (1,)}, {"seeds": (0, 1)}, {"beta": 1.5}, {"steps": 25}]
)
def test_another_trials_checkpoint_is_not_taken_up(
    changes: dict[str, object], make_trial: MakeTrial, tmp_path: Path
) -> None:
    other = make_trial(**changes)
    other.advance()
    other.advance()
    other.save(tmp_path / "trial.pt")
    assert refused(make_trial(), tmp_path / "trial.pt")


@pytest.mark.parametrize("other", ["torch", "device", "format"])
def test_neither_is_one_of_another_torch_device_or_format(
    other: str, make_trial: MakeTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, trial = tmp_path / "trial.pt", make_trial()
    trial.advance()
    trial.save(path)
    assert make_trial().resume(path)
    with monkeypatch.context() as patch:
        if other == "torch":
            patch.setattr(torch, "__version__", "1.13.1")
        elif other == "format":
            patch.setattr(trial_module, "CHECKPOINT_FORMAT", 0)
        else:
            trial.device = torch.device("cuda")
        trial.save(path)
    assert refused(make_trial(), path)


def test_a_checkpoint_without_its_data_is_an_error_that_changes_nothing(
    make_trial: MakeTrial, saved: tuple[Path, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def absent(config: TrialConfig, folder: Path | None) -> None:
        raise DataError("absent")

    (tmp_path / "trial.pt").write_bytes(saved[1])
    trial = make_trial()
    before = dict(vars(trial))
    with monkeypatch.context() as patch:
        patch.setattr(trial_module, "load", absent)
        with pytest.raises(DataError):
            trial.resume(tmp_path / "trial.pt")
    assert vars(trial) == before
    assert trial.resume(tmp_path / "trial.pt")


@pytest.mark.parametrize("left", [0, 10, 1000, 100_000])
def test_a_full_disk_leaves_the_earlier_checkpoint(
    left: int, make_trial: MakeTrial, tmp_path: Path,
    full_disk: Callable[[int], AbstractContextManager[None]],
) -> None:  # fmt: skip
    path = tmp_path / "trial.pt"
    trial = make_trial()
    trial.advance()
    trial.save(path)
    earlier = path.read_bytes()
    assert len(earlier) > 100_000
    trial.advance()
    with full_disk(left), pytest.raises(OSError, match="File too large"):
        trial.save(path)
    assert path.read_bytes() == earlier
    assert list(tmp_path.iterdir()) == [path]
    fresh = make_trial()
    assert fresh.resume(path)
    assert fresh.evaluation.step == 0
    assert report(fresh.advance()) == report(trial.evaluation)
