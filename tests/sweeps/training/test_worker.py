"""A worker: a trial that was killed, paused or refused by the storage goes on as if it had not."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from working import CONFIG, SHARE, Whole, begun, checkpoint, ends_as, state, steps

from kdgan_core import TrialConfig
from sweeps import worker
from sweeps.spool import SpoolWriter
from sweeps.worker import Training, Workers


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
