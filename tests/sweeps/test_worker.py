"""A worker: a trial that was killed, paused or refused by the storage goes on as if it had not."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from limits import full_disk

from kdgan_core import Trial, TrialConfig
from sweeps import spool as spool_module
from sweeps import worker
from sweeps.spool import SpoolState, SpoolWriter, read_spool, spool_path
from sweeps.worker import Training, TrialActor, Workers, checkpoint_path

SHARE = worker.CHECKPOINT_SHARE
CONFIG = TrialConfig.from_dict(
    {
        "dataset": "digits", "architecture": "small", "train_size": 100, "valid_size": 200,
        "batch_size": 20, "pretrain_steps": 60, "steps": 20, "evaluations": 5, "seeds": (0, 1),
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pretrained players, shared by the tests."""
    torch.set_num_threads(1)
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def a_checkpoint_at_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """These trials are too short to be worth one otherwise."""
    monkeypatch.setattr(worker, "CHECKPOINT_SHARE", 1e9)


@pytest.fixture
def workers(cache_dir: str, tmp_path: Path) -> Workers:
    return Workers(1, 0, None, cache_dir, str(tmp_path / "spool"), str(tmp_path / "checkpoints"))


@pytest.mark.parametrize("pack, size", [("auto", 1), ("none", 1), ("2", 2)])
def test_a_worker_packs_seeds_as_it_is_told(pack: str, size: int, workers: Workers) -> None:
    config = TrialConfig(
        dataset="digits", architecture="small", train_size=50, valid_size=50, seeds=(0, 1),
        pretrain_steps=2, steps=2, evaluations=1,
    )  # fmt: skip
    training = worker.Training(config, dataclasses.replace(workers, pack=pack))
    training.begin()
    training.advance()
    training.advance()
    groups = training.trial.packs.of(training.trial.replicas)
    training.close()
    assert [len(group.replicas) for group in groups] == [size] * (2 // size)


class Whole(NamedTuple):
    """A trained trial and the metrics of its checks, as JSON has them."""

    trial: Trial
    checks: list[dict[str, dict[str, float]]]


@pytest.fixture(scope="module")
def undisturbed(cache_dir: str) -> Whole:
    """The trial of `CONFIG`, trained without spool or checkpoint."""
    trial, checks = Trial(CONFIG, data_dir=None, cache_dir=Path(cache_dir), device="cpu"), []
    while not trial.done:
        checks.append({str(seed): dict(m) for seed, m in trial.advance().metrics.items()})
    return Whole(trial, checks)


def state(workers: Workers, config: TrialConfig = CONFIG) -> SpoolState:
    return read_spool(spool_path(Path(workers.spool), config.trial_id))


def checkpoint(workers: Workers) -> Path:
    return checkpoint_path(Path(workers.checkpoints), CONFIG.trial_id)


def begun(workers: Workers, advances: int = 0) -> Training:
    training = Training(CONFIG, workers)
    training.begin()
    for _ in range(advances):
        training.advance()
    return training


def actor(
    workers: Workers, config: TrialConfig = CONFIG, ended: int = 0, checks: int = 0
) -> TrialActor:
    """A worker as Tune makes it, in this process; `checks` were passed, the pretrained aside."""
    described = {"trial": config.as_dict(), "workers": vars(workers), "ended": ended}
    made = TrialActor({**described, "trial_id": config.trial_id, "compare": None})
    for _ in range(checks):
        made.step()
    return made


def steps(spool: SpoolState) -> list[int]:
    return [check["step"] for check in spool.evaluations]


def weights(trial: Trial) -> list[torch.Tensor]:
    players = [player for replica in trial.replicas for player in replica.players.values()]
    return [parameter for player in players for parameter in player.parameters()]


def untimed(seed: Mapping[str, object]) -> dict[str, object]:
    """A seed's result but for what it took."""
    return {name: value for name, value in seed.items() if not name.endswith("_seconds")}


def ends_as(whole: Whole, training: Training, workers: Workers) -> bool:
    """Trains to the end: equal weights, checks and scores, and no checkpoint left."""
    while not training.trial.done:
        training.advance()
    training.close()
    spool, result = state(workers), whole.trial.result()
    assert steps(spool) == [0, 4, 8, 12, 16, 20]
    assert [check["metrics"] for check in spool.evaluations] == whole.checks
    assert spool.result is not None
    assert list(map(untimed, spool.result["seeds"])) == [
        untimed(s.as_record()) for s in result.seeds
    ]
    assert (spool.outcome, spool.corrupt) == (result.outcome, [])
    assert not checkpoint(workers).exists()
    mine, expected = weights(training.trial), weights(whole.trial)
    return len(mine) == len(expected) and all(map(torch.equal, mine, expected))


def test_a_trial_is_trained_and_spooled(workers: Workers, undisturbed: Whole) -> None:
    training = begun(workers)
    assert not checkpoint(workers).exists()
    training.advance()
    assert not checkpoint(workers).exists()  # the pretrained players are in the cache
    training.advance()
    assert checkpoint(workers).exists()
    assert ends_as(undisturbed, training, workers)
    spool = state(workers)
    assert (spool.resumed, spool.ended) == (0, 1)
    assert spool.host.items() >= {"device": "cpu", "threads": 1}.items()
    assert spool.host["processor"]


KILLED = """
import json, os, signal, sys
import torch
from kdgan_core import TrialConfig
from sweeps import worker
torch.set_num_threads(1)
worker.CHECKPOINT_SHARE = 1e9
config, workers, advances = map(json.loads, sys.argv[1:])
training = worker.Training(TrialConfig.from_dict(config), worker.Workers(**workers))
training.begin()
for _ in range(advances):
    training.advance()
for replica in training.trial.replicas:
    replica.train_to(replica.round + 2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_trial_goes_on_in_another_process(workers: Workers, undisturbed: Whole) -> None:
    """kill -9 between its third and fourth check, and after one more in a second process."""
    for advances in (3, 1):
        described = [json.dumps(one) for one in (CONFIG.as_dict(), vars(workers), advances)]
        done = subprocess.run([sys.executable, "-c", KILLED, *described], check=False)
        assert done.returncode == -signal.SIGKILL
    killed = state(workers)
    assert (killed.result, steps(killed), killed.resumed) == (None, [0, 4, 8, 12], 1)
    training = begun(workers)
    assert training.trial.evaluation is not None
    assert training.trial.evaluation.step == 12
    assert ends_as(undisturbed, training, workers)
    assert (state(workers).resumed, state(workers).started) == (2, killed.started)


def test_what_came_after_the_checkpoint_is_done_again(
    workers: Workers, undisturbed: Whole
) -> None:
    """The worker dies between a check and its checkpoint."""
    training = begun(workers, 2)
    training.spool.evaluation(training.trial.advance())
    training.close()
    assert steps(state(workers)) == [0, 4, 8]
    lost = state(workers).evaluations[2]["seconds"] - state(workers).evaluations[1]["seconds"]
    training = begun(workers)
    assert steps(state(workers)) == [0, 4]
    assert ends_as(undisturbed, training, workers)
    spool = state(workers)
    assert spool.result is not None
    assert spool.seconds == pytest.approx(spool.result["seconds"] + lost)


def test_a_damaged_checkpoint_starts_the_trial_again(workers: Workers, undisturbed: Whole) -> None:
    begun(workers, 3).close()
    content = checkpoint(workers).read_bytes()
    checkpoint(workers).write_bytes(content[:-1])
    training = begun(workers)
    assert (steps(state(workers)), state(workers).resumed) == ([], 0)
    assert not checkpoint(workers).exists()  # a later worker must not take it for this attempt's
    assert ends_as(undisturbed, training, workers)


@pytest.mark.parametrize("lost", ["all", "attempt"])
def test_a_checkpoint_that_the_spool_does_not_know_starts_the_trial_again(
    lost: str, workers: Workers, undisturbed: Whole
) -> None:
    """Its checks before would be missing from the curves, or be those of another attempt."""
    training = begun(workers, 2)
    if lost == "all":
        training.spool.path.unlink()
    else:
        training.spool.start()
        training.spool.evaluation(dataclasses.replace(training.trial.evaluation, seconds=99.0))
    training.close()
    training = begun(workers)
    assert training.trial.evaluation is None
    assert (steps(state(workers)), state(workers).resumed) == ([], 0)
    assert ends_as(undisturbed, training, workers)


def test_a_stopped_trial_has_the_scores_that_it_would_have_given_itself(workers: Workers) -> None:
    training = begun(workers, 3)
    training.close()
    driver = SpoolWriter(Path(workers.spool), CONFIG.trial_id, exclusive=False)
    driver.stopped(state(workers), CONFIG.seeds)
    driver.close()
    training.trial.stop()
    own = training.trial.result()
    result = state(workers).result
    assert result is not None
    assert result["step"] == own.step == 8
    for mine, seed in zip(result["seeds"], own.seeds, strict=True):
        expected = {**seed.as_record(), "outcome": "stopped", "test_accuracy": None}
        assert mine == {name: expected[name] for name in mine}


def test_checkpoints_take_a_twentieth_of_the_time(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training to a check takes 5 seconds here, and a checkpoint one."""
    now, saved = [0.0], []
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(worker, "CHECKPOINT_SHARE", SHARE)
    training = Training(CONFIG.replace(evaluations=20), workers)
    training.begin()
    save = training.trial.save

    def slow(path: Path) -> None:
        save(path)
        now[0] += 1.0
        saved.append(training.trial.evaluation.step)

    monkeypatch.setattr(training.trial, "save", slow)
    while not training.trial.done:
        now[0] += 5.0
        training.advance()
    training.close()
    assert saved == [1, 5, 9, 13, 17]


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
