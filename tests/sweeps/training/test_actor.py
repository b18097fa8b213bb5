"""A worker as Ray Tune drives it: what it reports, and that it lets go of what it held."""

from __future__ import annotations

import dataclasses
import fcntl
import os
from pathlib import Path

import pytest
import torch
from limits import full_disk
from working import CONFIG, Whole, begun, checkpoint, ends_as, state, steps

from kdgan_core import TrialConfig
from sweeps import spool as spool_module
from sweeps.spool import spool_path
from sweeps.worker import TrialActor, Workers, checkpoint_path


def actor(
    workers: Workers, config: TrialConfig = CONFIG, ended: int = 0, checks: int = 0
) -> TrialActor:
    """A worker as Tune makes it, in this process; `checks` were passed, the pretrained aside."""
    described = {"trial": config.as_dict(), "workers": vars(workers), "ended": ended}
    made = TrialActor({**described, "trial_id": config.trial_id, "compare": None})
    for _ in range(checks):
        made.step()
    return made


def test_an_actor_reports_what_it_trained(workers: Workers, undisturbed: Whole) -> None:
    one = actor(workers)
    reports, training = [one.step()], one.training
    while not reports[-1]["done"]:
        reports.append(one.step())
    assert one.training is None
    assert [report["check"] for report in reports] == [1, 2, 3, 4, 5]
    assert [report["progress"] for report in reports] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert {report["storage_error"] for report in reports} == {""}
    mean = undisturbed.trial.evaluation.mean_valid_score()
    assert reports[-1]["score"] == pytest.approx(mean)
    assert is_free(workers)
    assert ends_as(undisturbed, training, workers)


def is_free(workers: Workers, config: TrialConfig = CONFIG) -> bool:
    """Whether no process, this one included, holds the trial."""
    with spool_path(Path(workers.spool), config.trial_id).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_diverged_seed_counts_as_zero(workers: Workers) -> None:
    one = actor(workers, checks=1)
    with torch.no_grad():
        one.training.trial.replicas[0].players["classifier"].out.bias.fill_(torch.nan)
    report = one.step()
    other = state(workers).evaluations[-1]["metrics"]["1"]["valid_accuracy"]
    assert report["score"] == pytest.approx(other / 2)
    one.stop()


@pytest.mark.parametrize("how", ["reset", "stop"])
def test_an_actor_lets_go_of_an_unfinished_trial(
    how: str, workers: Workers, undisturbed: Whole
) -> None:
    one = actor(workers, checks=2)
    assert not is_free(workers) and checkpoint(workers).exists()
    assert one.reset_config({}) if how == "reset" else one.stop() is None
    assert is_free(workers) and state(workers).outcome is None
    training = begun(workers)
    assert state(workers).resumed == 1
    assert ends_as(undisturbed, training, workers)


def test_a_trials_own_error_is_its_result(workers: Workers, tmp_path: Path) -> None:
    (tmp_path / "mnist").touch()
    broken = dataclasses.replace(workers, data_dir=str(tmp_path))
    config = CONFIG.replace(dataset="mnist")
    path = checkpoint_path(Path(workers.checkpoints), config.trial_id)
    path.parent.mkdir()
    path.write_bytes(b"of another day")
    report = actor(broken, config).step()
    assert (report["done"], report["storage_error"], report["score"]) == (True, "", 0.0)
    spool = state(workers, config)
    assert spool.outcome == "failed"
    assert spool.result is not None
    first, *_, last = spool.result["traceback"].splitlines()
    assert first == "Traceback (most recent call last):"
    assert "DataError" in last and "mnist" in last
    assert is_free(workers, config) and not path.exists()


def test_a_trial_that_failed_in_mid_training_starts_again(
    workers: Workers, undisturbed: Whole
) -> None:
    one = actor(workers, checks=2)
    assert checkpoint(workers).exists()
    del one.training.trial.replicas[0].players["teacher"]
    assert one.step()["done"]
    result = state(workers).result
    assert result is not None
    assert result["traceback"].endswith("KeyError: 'teacher'\n")
    assert is_free(workers) and not checkpoint(workers).exists()
    training = begun(workers)
    assert (state(workers).outcome, steps(state(workers))) == (None, [])
    assert ends_as(undisturbed, training, workers)


@pytest.mark.parametrize("full", ["disk", "spool", "checkpoint"])
def test_a_full_disk_is_not_the_trials_fault(
    full: str, workers: Workers, undisturbed: Whole
) -> None:
    """Without room for a line, for a part of it, or for a checkpoint; it goes on when there is."""
    one = actor(workers, checks=2)
    path = one.training.spool.path
    if full == "disk":
        with Path("/dev/full").open("ab") as device:
            os.dup2(device.fileno(), one.training.spool._file.fileno())
        report = one.step()
    else:
        with full_disk(path.stat().st_size + (20 if full == "spool" else 2000)):
            report = one.step()
    assert report["done"]
    reason = "No space left on device" if full == "disk" else "File too large"
    assert reason in report["storage_error"]
    spool = state(workers)
    assert (spool.result, spool.corrupt) == (None, [])
    assert steps(spool) == [0, 4, 8] + [12] * (full == "checkpoint")
    assert is_free(workers)
    assert list(checkpoint(workers).parent.iterdir()) == [checkpoint(workers)]
    training = begun(workers)
    assert (steps(state(workers)), state(workers).resumed) == ([0, 4, 8], 1)
    assert ends_as(undisturbed, training, workers)


def test_a_trial_that_another_process_trains_is_left_to_it(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "LOCK_SECONDS", 0.1)
    training = begun(workers, 2)
    before = training.spool.path.read_bytes()
    report = actor(workers).step()
    assert report["done"]
    assert f"trial {CONFIG.trial_id} is being trained by process" in report["storage_error"]
    assert training.spool.path.read_bytes() == before
    training.close()


def test_a_trial_that_a_lost_worker_had_ended_is_not_trained_again(
    workers: Workers, undisturbed: Whole
) -> None:
    """Tune hands it out once more, since it has not heard of the result."""
    training = begun(workers, advances=6)
    training.close()
    before = training.spool.path.read_bytes()
    report = actor(workers, ended=0).step()
    assert (report["done"], report["storage_error"]) == (True, "")
    assert training.spool.path.read_bytes() == before
    assert is_free(workers)
    one = actor(workers, ended=1)  # wanted again with its result in sight
    assert not one.step()["done"]
    assert (state(workers).result, steps(state(workers))) == (None, [0, 4])
    one.stop()
