"""Stores that are away, hang, come back, or are wanted by many at once: real ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sweeps.plan import Row
from sweeps.record import Recorder
from sweeps.spool import SpoolWriter, spool_path

if TYPE_CHECKING:
    from conftest import Server, Sweep

SECONDS = 60.0
QUICK = 4.0  # seconds that are few on a busy machine

# A whole driver: argv is the tracking URI, the experiment, the sweep, the spool, the configs.
DRIVER = """
import json, sys
from pathlib import Path
from kdgan_core import TrialConfig
from sweeps.plan import Row
from sweeps.record import Recorder

uri, name, sweep_id, spool, configs = sys.argv[1:]
rows = [Row(TrialConfig.from_dict(config), "search") for config in json.loads(configs)]
recorder = Recorder(uri, name, sweep_id, Path(spool))
recorder.start({"mode": "search"})
for row in rows:
    recorder.trial_ended(row.trial_id, [row])
sys.exit(0 if recorder.close("FINISHED", len(rows)) else f"{recorder.error}, {recorder.left} left")
"""


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def begin(sweep: Sweep, uri: str, trials: Sequence[list[Row]]) -> Recorder:
    """A driver that has these trials recorded there."""
    recorder = sweep.recorder(uri)
    recorder.start(sweep.facts)
    for rows in trials:
        recorder.trial_ended(rows[0].trial_id, rows)
    return recorder


def undisturbed(sweep: Sweep, uri: str, trials: Sequence[list[Row]]) -> dict[str, object]:
    """What the store would hold if nothing had happened to it."""
    other = type(sweep)(uri, f"{sweep.name}-undisturbed", Path())
    other.spool, other.sweep_id = sweep.spool, sweep.sweep_id
    other.record(*trials, planned=len(trials))
    return dict(other.dump())


def test_a_server_that_is_away_blocks_nothing(
    sweep: Sweep, many: list[list[Row]], closed_port: int
) -> None:
    recorder = sweep.recorder(f"http://127.0.0.1:{closed_port}")
    started = time.monotonic()
    recorder.start(sweep.facts)
    slowest = 0.0
    while recorder.error is None:
        assert time.monotonic() - started < QUICK
        before = time.monotonic()
        recorder.trial_ended(many[0][0].trial_id, many[0])
        slowest = max(slowest, time.monotonic() - before)
        time.sleep(0.05)
    assert slowest < 0.1
    assert recorder.error == f"connection refused by http://127.0.0.1:{closed_port}"
    assert not recorder.wait_until_open(SECONDS)
    started = time.monotonic()
    assert not recorder.close("FINISHED", 1)
    assert time.monotonic() - started < 2.0
    assert (recorder.left, recorder.parent_id) == (1, None)
    assert recorder.error == f"connection refused by http://127.0.0.1:{closed_port}"


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_has_everything_once(
    sweep: Sweep, many: list[list[Row]], server: Server
) -> None:
    recorder = begin(sweep, server.uri, many)
    wait_for(lambda: recorder.left < 9)
    server.kill()
    wait_for(lambda: recorder.error)
    assert 0 < recorder.left < 9
    server.start()
    wait_for(lambda: recorder.left == 0)
    assert recorder.error is None
    assert recorder.close("FINISHED", 12, SECONDS)
    sweep.uri = server.uri
    assert sweep.dump() == undisturbed(sweep, server.uri, many)


def test_a_server_that_is_gone_costs_the_end_a_second_or_two(
    sweep: Sweep, many: list[list[Row]], server: Server
) -> None:
    recorder = begin(sweep, server.uri, many)
    wait_for(lambda: recorder.left < 9)
    server.kill()
    wait_for(lambda: recorder.error)
    started = time.monotonic()
    assert not recorder.close("FINISHED", 12)
    assert time.monotonic() - started < 2.0
    assert recorder.error == f"connection refused by {server.uri}"


@pytest.mark.slow
def test_a_server_that_hangs_costs_the_end_its_patience_and_doubles_nothing(
    sweep: Sweep, many: list[list[Row]], server: Server
) -> None:
    recorder = begin(sweep, server.uri, many)
    wait_for(lambda: recorder.left < 9)
    server.signal(signal.SIGSTOP)
    started = time.monotonic()
    assert not recorder.close("FINISHED", 12, patience_seconds=2.0)
    assert time.monotonic() - started < 2.0 + QUICK
    assert recorder.error == "no answer within 2 s"
    server.signal(signal.SIGCONT)
    wait_for(lambda: not any(t.name == "recorder" for t in threading.enumerate()))
    sweep.uri = server.uri
    sweep.record(*many, planned=12)
    assert sweep.dump() == undisturbed(sweep, server.uri, many)


@pytest.mark.slow
def test_a_server_that_hangs_and_goes_on_has_everything_once(
    sweep: Sweep, many: list[list[Row]], server: Server
) -> None:
    recorder = begin(sweep, server.uri, many)
    wait_for(lambda: recorder.left < 9)
    server.signal(signal.SIGSTOP)
    wait_for(lambda: recorder.error)
    assert recorder.error == f"{server.uri} does not answer"
    server.signal(signal.SIGCONT)
    assert recorder.close("FINISHED", 12, SECONDS)
    sweep.uri = server.uri
    assert sweep.dump() == undisturbed(sweep, server.uri, many)


@pytest.mark.slow
def test_eight_processes_on_one_fresh_store(
    sweep: Sweep, many: list[list[Row]], folder: Path
) -> None:
    uri = "sqlite:///fresh/mlflow.db"
    configs = json.dumps([rows[0].config.as_dict() for rows in many])
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, uri, "shared", f"sweep-{i}", str(sweep.spool), configs],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(8)
    ]  # fmt: skip
    outputs = [driver.communicate(timeout=240)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == 8 * [0], outputs
    assert outputs == 8 * [""]
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("shared")
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    stored = Counter((run.data.tags["sweep_id"], run.data.tags.get("trial_id")) for run in runs)
    ids = [None, *(rows[0].trial_id for rows in many)]
    assert stored == {(f"sweep-{i}", trial_id): 1 for i in range(8) for trial_id in ids}
    assert all(run.data.metrics for run in runs if "trial_id" in run.data.tags)


def test_a_store_that_another_process_is_writing_is_tried_again(
    sweep: Sweep, many: list[list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = MlflowClient.create_run, 0

    def locked_at_first(self: MlflowClient, *args: object, **words: object) -> object:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise MlflowException("(sqlite3.OperationalError) database is locked")
        return original(self, *args, **words)

    monkeypatch.setattr(MlflowClient, "create_run", locked_at_first)
    recorder = begin(sweep, sweep.uri, many[:3])
    wait_for(lambda: recorder.error)
    assert recorder.close("FINISHED", 3)
    assert recorder.error is None
    assert len(sweep.dump()) == 1 + 3


def test_a_spool_that_cannot_be_recorded_is_not_passed_over(
    sweep: Sweep, cells: list[Row], many: list[list[Row]]
) -> None:
    writer = SpoolWriter(sweep.spool, cells[0].trial_id)
    writer.start()
    writer.close()
    line = {"event": "result", "outcome": "finished", "seconds": 1.0, "time": 1.0, "seeds": [{}]}
    with spool_path(sweep.spool, cells[0].trial_id).open("a") as spool:
        spool.write(json.dumps(line) + "\n")  # of another version
    recorder = begin(sweep, sweep.uri, [cells[:1], *many[:3]])
    wait_for(lambda: recorder.left == 1)
    assert not recorder.close("FINISHED", 4, patience_seconds=3.0)
    assert recorder.error == "KeyError: 'seed'"
    assert recorder.left == 1
    assert len(sweep.runs("trial")) == 3
