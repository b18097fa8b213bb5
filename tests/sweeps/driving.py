"""Real sweeps in processes of their own, and what is left of them on disk and in MLflow."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweeps.plan import Plan
from sweeps.spool import read_spool, spool_path

ROOT = Path(__file__).parents[2]
# Wall times: the metrics that differ between equal runs.
NOT_COMPARED = {"seconds", "train_seconds", "pretrain_seconds"}


def command(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "sweeps" / "run.py"), "digits", *words]


def environment(**more: str) -> dict[str, str]:
    """Without what would make these sweeps join a cluster or write to a user's own store."""
    ours = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
    return {**{k: v for k, v in os.environ.items() if k not in ours}, **more}


def run(
    folder: Path, words: list[str], timeout: float = 240, **more: str
) -> subprocess.CompletedProcess[str]:
    """A command to its end, in a working folder; its output is in stdout."""
    return subprocess.run(
        words, cwd=folder, env=environment(**more), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=timeout,
    )  # fmt: skip


class Driver:
    """A sweep's driver in the background, in a session of its own."""

    def __init__(self, folder: Path, words: list[str], **more: str) -> None:
        self.folder = folder
        self.log = folder / f"driver-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                words, cwd=folder, env=environment(**more), stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, condition: Callable[[], object], seconds: float = 150) -> None:
        """Returns when the condition holds; an error if the driver ends before."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"the driver has ended:\n{self.output}"
            assert time.monotonic() < deadline, f"not within {seconds} s:\n{self.output}"
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9 of the driver alone: nothing of it can say goodbye."""
        self.process.kill()
        self.process.wait(30)

    def end(self, seconds: float = 240) -> int:
        """Its exit code."""
        return self.process.wait(seconds)


def sweep_of(folder: Path) -> Path:
    """The one sweep in a working folder's storage."""
    [plan] = folder.glob("sweep_runs/*/plan.parquet")
    return plan.parent


def events(sweep: Path) -> dict[str, Counter[str]]:
    """trial_id -> how often each kind of line is in its spool."""
    counted = {}
    for path in sorted((sweep / "spool").glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        counted[path.stem] = Counter(line["event"] for line in lines)
    return counted


def count_events(folder: Path, event: str) -> int:
    """Lines of a kind in all spools of a working folder, complete or not."""
    paths = folder.glob("sweep_runs/*/spool/*.jsonl")
    return sum(path.read_bytes().count(f'"event": "{event}"'.encode()) for path in paths)


def finished(folder: Path) -> int:
    return count_events(folder, "result")


def check_plan_is_done(folder: Path) -> dict[str, Counter[str]]:
    """Every planned row has ended exactly once; gives `events`."""
    sweep = sweep_of(folder)
    counted = events(sweep)
    assert counted.keys() == Plan(sweep / "plan.parquet").trials().keys()
    assert {trial: lines["result"] for trial, lines in counted.items()} == dict.fromkeys(
        counted, 1
    )
    return counted


def results(sweep: Path) -> dict[str, Any]:
    """trial_id -> the seeds' results and the metrics of every check."""
    found = {}
    for trial_id in Plan(sweep / "plan.parquet").trials():
        state = read_spool(spool_path(sweep / "spool", trial_id))
        assert state.result is not None
        checks = [(e["step"], e["tau"], e["metrics"]) for e in state.evaluations]
        seeds = [
            {name: value for name, value in seed.items() if name not in NOT_COMPARED}
            for seed in state.result["seeds"]
        ]
        found[trial_id] = (state.result["outcome"], seeds, checks)
    return found


def optuna_states(sweep: Path) -> Counter[str]:
    """State -> trials, over all studies of a sweep."""
    storage = JournalStorage(JournalFileBackend(str(sweep / "optuna.journal")))
    counted: Counter[str] = Counter()
    for name in optuna.get_all_study_names(storage):
        trials = optuna.load_study(study_name=name, storage=storage).trials
        counted.update(TrialState(trial.state).name for trial in trials)
    return counted


def recorded(uri: str, sweep_id: str, experiment: str = "digits") -> dict[str, Any]:
    """trial_id -> (params, status, every metric's steps and values); each trial has one run."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    query = f"tags.sweep_id = '{sweep_id}' and tags.`kdgan.kind` = 'trial'"
    store: dict[str, Any] = {}
    for run_ in client.search_runs([found.experiment_id], query, max_results=5000):
        metrics = {
            name: [(p.step, p.value) for p in client.get_metric_history(run_.info.run_id, name)]
            for name in run_.data.metrics
            if name.partition("/")[0] not in NOT_COMPARED
        }
        trial_id = run_.data.tags["trial_id"]
        assert trial_id not in store, f"two runs of trial {trial_id}"
        store[trial_id] = (run_.data.params, run_.info.status, metrics)
    return store


def sqlite_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def check_all_recorded(folder: Path) -> None:
    """MLflow has one ended run for every trial of the plan."""
    sweep = sweep_of(folder)
    runs = recorded(sqlite_of(folder), sweep.name)
    assert runs.keys() == Plan(sweep / "plan.parquet").trials().keys()
    assert {status for _, status, _ in runs.values()} == {"FINISHED"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """A real `mlflow server` on loopback over mlflow.db in a folder."""

    def __init__(self, folder: Path, port: int) -> None:
        """Returns when it answers."""
        self.uri = f"http://127.0.0.1:{port}"
        words = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
            "--backend-store-uri", "sqlite:///mlflow.db", "--workers", "1",
        ]  # fmt: skip
        with (folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                words, cwd=folder, env=environment(), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 90
        while not self._answers():
            assert self.process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server did not come up in 90 s"
            time.sleep(0.3)

    def stop(self, signum: int = signal.SIGKILL) -> None:
        """Ends it and its workers, by their session's id."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signum)
            self.process.wait(30)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def cluster(*cpus: int) -> Iterator[Any]:
    """A Ray cluster on this machine: a raylet for every number of CPUs, the first the head."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0]})
    try:
        for number in cpus[1:]:
            made.add_node(num_cpus=number)
        yield made
    finally:
        made.shutdown()


def joined(made: Any) -> Mapping[str, str]:
    """The environment of a driver that joins the cluster."""
    return {"RAY_ADDRESS": str(made.address)}
