"""Recording again: after a crash, a retry, a change of plan, a request that came late."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kdgan_core import Evaluation
from sweeps.plan import Row
from sweeps.spool import SpoolWriter, read_spool, spool_path

if TYPE_CHECKING:
    from conftest import Sweep

Trials = tuple[list[Row], list[Row], list[Row]]

# A driver that dies after a certain call for a trial, or before the last one: argv is the tracking
# URI, the experiment, the sweep, the spool, the trial's config and the call.
DYING_DRIVER = """
import json, os, signal, sys
from pathlib import Path
from kdgan_core import TrialConfig
from sweeps.plan import Row
from sweeps.record import Recorder
from sweeps.store import quiet_mlflow

uri, name, sweep_id, spool, config, call = sys.argv[1:]
row = Row(TrialConfig.from_dict(json.loads(config)), "baseline")
quiet_mlflow()
from mlflow import MlflowClient
original = getattr(MlflowClient, call)

def die(self, *args, **words):
    if call == "set_terminated":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(self, *args, **words)
    if words.get("run_name") != sweep_id:  # not the parent's
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(MlflowClient, call, die)
recorder = Recorder(uri, name, sweep_id, Path(spool))
recorder.start({})
recorder.trial_ended(row.trial_id, [row])
recorder.close("FINISHED", 1)
"""


def test_recording_twice_changes_nothing(sweep: Sweep, trials: Trials) -> None:
    first = sweep.record(*trials, *trials)
    before = sweep.dump(ids=True)
    assert len(before) == 1 + 3
    assert first.written == 3
    assert sweep.record(*trials).written == 0
    assert sweep.dump(ids=True) == before


@pytest.mark.parametrize("call", ["create_run", "log_batch", "set_terminated"])
def test_a_driver_killed_while_it_records_leaves_nothing_double(
    sweep: Sweep, trials: Trials, call: str
) -> None:
    (row, *_), others = trials[0], trials[1:]
    config = json.dumps(row.config.as_dict())
    arguments = [sweep.uri, sweep.name, sweep.sweep_id, str(sweep.spool), config, call]
    dying = subprocess.run(
        [sys.executable, "-c", DYING_DRIVER, *arguments], capture_output=True, text=True,
        timeout=120, env={k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"},
    )  # fmt: skip
    assert dying.returncode == -signal.SIGKILL, dying.stderr
    left = sweep.run([row])
    assert left.info.status == "RUNNING"
    assert bool(left.data.metrics) == (call != "create_run")
    sweep.record([row], *others)
    after = sweep.dump(ids=True)
    assert sweep.run([row]).info.run_id == left.info.run_id
    _params, _tags, histories, status, *_ = after[row.trial_id]
    assert status == "FINISHED"
    assert [step for step, _, _ in histories["tau"]] == [0, 10, 20]
    assert all(len({step for step, *_ in h}) == len(h) for h in histories.values())
    undisturbed = type(sweep)(sweep.uri, f"{sweep.name}-undisturbed", Path())
    undisturbed.spool, undisturbed.sweep_id = sweep.spool, sweep.sweep_id
    undisturbed.record([row], *others)
    assert sweep.dump() == undisturbed.dump()


def test_a_run_of_a_request_that_came_late_is_removed(sweep: Sweep, trials: Trials) -> None:
    sweep.record(*trials)
    before = sweep.dump(ids=True)
    for kind in ("sweep", "trial"):
        twin = sweep.runs(kind)[0]
        tags = {k: v for k, v in twin.data.tags.items() if k != "mlflow.runName"}
        sweep.client.create_run(twin.info.experiment_id, tags=tags, start_time=1)
    sweep.record(*trials)
    assert sweep.dump(ids=True) == before


def test_rows_that_come_later_update_the_tags(sweep: Sweep, trials: Trials) -> None:
    good = trials[0]
    search = Row(good[0].config, "search")
    sweep.record([search])
    assert sweep.run(good).data.tags["role"] == "search"
    sweep.record([search], [search, *good])
    run = sweep.run(good)
    assert run.data.tags["role"] == "baseline"
    assert [row["role"] for row in json.loads(run.data.tags["rows"])] == [
        "search", "baseline", "sensitivity",
    ]  # fmt: skip
    assert len(sweep.history(run, "test_accuracy")) == 1


def test_a_superseded_trial_keeps_its_run_and_gets_no_new_one(
    sweep: Sweep, trials: Trials
) -> None:
    good, diverged, _ = trials
    sweep.record(good)
    before = sweep.run(good)
    gone = [[Row(rows[0].config, "superseded")] for rows in (good, diverged)]
    recorder = sweep.record(*gone)
    assert (recorder.left, recorder.written) == (0, 0)
    (run,) = sweep.runs("trial")
    assert (run.info.run_id, run.info.status) == (before.info.run_id, "FINISHED")
    assert (run.data.tags["role"], run.data.metrics) == ("superseded", before.data.metrics)


def test_a_failed_trial_that_later_succeeds_is_a_finished_one(
    sweep: Sweep, trials: Trials, end_trial: Callable[..., object]
) -> None:
    failed = trials[2]
    sweep.record(failed, status="FAILED")
    before = sweep.run(failed)
    end_trial(sweep.spool, failed[0].config, 0.85)
    sweep.record(failed)
    run = sweep.run(failed)
    assert (run.info.run_id, run.info.status) == (before.info.run_id, "FINISHED")
    tags = run.data.tags
    assert (tags["outcome"], tags.get("error")) == ("finished", None)
    assert tags["seed_outcomes"] == '{"0": "finished", "1": "finished"}'
    assert tags["attempt"] > before.data.tags["attempt"]
    assert run.data.metrics["test_accuracy"] == pytest.approx(0.84)
    assert [step for step, _ in sweep.history(run, "tau")] == [0, 10, 20]


def test_a_trial_that_is_tried_again_after_a_result_gets_a_new_run(
    sweep: Sweep, trials: Trials, end_trial: Callable[..., object]
) -> None:
    good = trials[0]
    sweep.record(good)
    before = sweep.run(good)
    end_trial(sweep.spool, good[0].config, 0.7)
    assert sweep.record(good).written == 1
    run = sweep.run(good)
    assert run.info.run_id != before.info.run_id
    assert sweep.client.get_run(before.info.run_id).info.lifecycle_stage == "deleted"
    assert run.data.metrics["test_accuracy"] == pytest.approx(0.69)
    assert [step for step, _ in sweep.history(run, "tau")] == [0, 10, 20]
    assert len(sweep.history(run, "test_accuracy")) == 1


def test_a_result_that_a_later_one_of_the_same_attempt_replaces_leaves_no_points(
    sweep: Sweep, trials: Trials
) -> None:
    good = trials[0]
    path = spool_path(sweep.spool, good[0].trial_id)
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:3]))  # up to the second check
    writer = SpoolWriter(sweep.spool, good[0].trial_id)
    writer.stopped(read_spool(path))
    writer.close()
    sweep.record(good)
    assert sweep.run(good).data.tags["outcome"] == "stopped"
    writer = SpoolWriter(sweep.spool, good[0].trial_id)
    writer.resume(10)
    metrics = {seed: {"valid_accuracy": 0.8, "loss_discriminator": 0.5} for seed in (0, 1)}
    writer.evaluation(Evaluation(20, 20, 0.1, 2.0, metrics))
    with path.open("a") as spool:
        spool.write(whole.splitlines()[-1] + "\n")
    sweep.record(good)
    run = sweep.run(good)
    assert run.data.tags["outcome"] == "finished"
    assert len(sweep.history(run, "best_valid_accuracy")) == 1
    assert [step for step, _ in sweep.history(run, "tau")] == [0, 10, 20]
