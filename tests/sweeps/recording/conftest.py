"""Sweeps of fabricated trials, real stores to record them in, and a server to kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from kdgan_core import TrialConfig, TrialResult
from sweeps.plan import Row
from sweeps.record import Recorder
from sweeps.spool import spool_path
from sweeps.store import SETTINGS

FACTS = {"commit": "8f1367d", "mode": "sensitivity", "quick": "false", "planned_trials": "3"}
SECONDS = 60.0  # to wait for a store that works


class Sweep:
    """A sweep of fabricated trials in an experiment of its own."""

    def __init__(self, uri: str, name: str, folder: Path) -> None:
        self.uri, self.name, self.spool = uri, name, folder / "spool"
        self.sweep_id = f"{name}-1a2b3c4d"
        self.facts = dict(FACTS)

    def recorder(self, uri: str = "") -> Recorder:
        return Recorder(uri or self.uri, self.name, self.sweep_id, self.spool)

    def record(
        self, *trials: Sequence[Row], status: str = "FINISHED", planned: int = 3
    ) -> Recorder:
        """One driver's life: start, the trials that ended, close."""
        recorder = self.recorder()
        recorder.start(self.facts)
        for rows in trials:
            recorder.trial_ended(rows[0].trial_id, rows)
        assert recorder.close(status, planned, SECONDS), recorder.error
        assert recorder.error is None
        return recorder

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def runs(self, kind: str) -> list[Run]:
        found = self.client.get_experiment_by_name(self.name)
        assert found is not None
        query = f"tags.`kdgan.kind` = '{kind}'"
        return list(self.client.search_runs([found.experiment_id], query))

    def run(self, rows: Sequence[Row]) -> Run:
        """The one run of a trial."""
        wanted = rows[0].trial_id
        (run,) = (run for run in self.runs("trial") if run.data.tags["trial_id"] == wanted)
        return run

    def history(self, run: Run, name: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(run.info.run_id, name)
        return sorted((point.step, point.value) for point in points)

    def dump(self, ids: bool = False) -> dict[str, tuple[Any, ...]]:
        """trial_id, or "parent" -> all that its run holds; two runs of a trial are an error.

        Args:
            ids: with the ids of the runs, which another store cannot share.
        """
        return dump(self.uri, self.name, ids)


def dump(uri: str, experiment: str, ids: bool = False) -> dict[str, tuple[Any, ...]]:
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    stored: dict[str, tuple[Any, ...]] = {}
    for run in client.search_runs([found.experiment_id]):
        key = run.data.tags.get("trial_id", "parent")
        assert key not in stored, f"two runs of {key}"
        histories = {
            name: sorted(
                (point.step, point.value, point.timestamp)
                for point in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
        }
        tags = {k: v for k, v in run.data.tags.items() if k != "mlflow.parentRunId"}
        files = [(f.path, f.file_size) for f in client.list_artifacts(run.info.run_id)]
        times = (run.info.start_time, run.info.end_time) if key != "parent" else ()
        own = (run.info.run_id, run.data.tags.get("mlflow.parentRunId")) if ids else ()
        stored[key] = (run.data.params, tags, histories, run.info.status, times, files, own)
    return stored


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own, and MLflow's settings as in a fresh process."""
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.setenv(name, "1")  # so that what the recorder sets is taken back
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def sweep(store: str, folder: Path, request: pytest.FixtureRequest) -> Sweep:
    return Sweep(store, request.node.name, folder)


@pytest.fixture
def baseline() -> TrialConfig:
    """A cell of two seeds; nothing here trains it."""
    return TrialConfig(
        dataset="digits", architecture="small", train_size=50, valid_size=200, seeds=(0, 1),
        steps=20, pretrain_steps=20, evaluations=2, alpha=0.5, beta=1.0, gamma=0.01,
    )  # fmt: skip


@pytest.fixture
def cells(baseline: TrialConfig) -> list[Row]:
    """A baseline, alpha's two other levels, and a level that the baseline stands at."""
    levels = [(alpha, baseline.replace(alpha=alpha)) for alpha in (0.0, 1.0, 0.5)]
    return [
        Row(baseline, "baseline"),
        *(Row(config, "sensitivity", "alpha", f"{alpha:g}") for alpha, config in levels),
    ]


@pytest.fixture
def trials(
    cells: list[Row], sweep: Sweep, end_trial: Callable[..., TrialResult | None]
) -> tuple[list[Row], list[Row], list[Row]]:
    """A finished trial with two reasons, one with a diverged seed, and one that failed."""
    good, diverged, failed = [cells[0], cells[3]], [cells[1]], [cells[2]]
    end_trial(sweep.spool, good[0].config, 0.9, spread=0.02)
    spool = spool_path(sweep.spool, good[0].trial_id)
    host = '"event": "start", "device": "cpu", "threads": 2, "processor": "EPYC"'
    spool.write_text(spool.read_text().replace('"event": "start"', host))
    end_trial(sweep.spool, diverged[0].config, 0.8, ["finished", "diverged"])
    end_trial(sweep.spool, failed[0].config, 0.8, ["failed"])
    return good, diverged, failed


@pytest.fixture
def many(
    baseline: TrialConfig, sweep: Sweep, end_trial: Callable[..., TrialResult | None]
) -> list[list[Row]]:
    """Twelve finished trials."""
    rows = [Row(baseline.replace(alpha=i / 12), "search") for i in range(12)]
    for row in rows:
        end_trial(sweep.spool, row.config, 0.9)
    return [[row] for row in rows]


class Server:
    """A real `mlflow server` on loopback over a store of its own, in a session of its own."""

    def __init__(self, folder: Path, migrated: Path) -> None:
        """Takes a copy of a migrated database, since making one takes seconds."""
        folder.mkdir()
        shutil.copy(migrated, folder / "mlflow.db")
        self.folder, self.store = folder, f"sqlite:///{folder / 'mlflow.db'}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it on its old store and port, and waits until it answers."""
        words = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(self.port), "--backend-store-uri", self.store, "--workers", "1",
        ]  # fmt: skip
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                words, cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the server did not come up in 90 s"
            time.sleep(0.1)

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None

    def signal(self, signum: int) -> None:
        """Sends its session a signal: SIGSTOP hangs it, SIGCONT lets it go on."""
        assert self._process is not None
        os.killpg(self._process.pid, signum)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def server(folder: Path, store: str) -> Iterator[Server]:
    """A server that runs."""
    server = Server(folder / "server", Path(store.removeprefix("sqlite:///")))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
