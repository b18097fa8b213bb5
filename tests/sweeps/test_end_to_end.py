"""The road from the command line to MLflow and the figure, with real processes and servers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweeps.plan import Plan
from sweeps.spool import read_spool, spool_path

ROOT = Path(__file__).parents[2]
# Which search trials would be ended early depends on which of them is ahead.
SMALL = ["--quick", "--train-size", "50", "--trials", "3", "--early-stopping", "off"]
SHORT = ["--set", "steps=20", "--set", "pretrain_steps=20", "--set", "evaluations=2"]


def command(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "sweeps" / "run.py"), "digits", *SMALL, *words]


def environment() -> dict[str, str]:
    """Without what would make these sweeps join a cluster or write to a user's own store."""
    ours = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
    return {name: value for name, value in os.environ.items() if name not in ours}


def run(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240
    )


class Swept(NamedTuple):
    """A finished sweep in a working folder of its own."""

    folder: Path
    output: str

    @property
    def sweep(self) -> Path:
        return next(self.folder.glob("sweep_runs/digits-*"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A small study of digits, run through the command line."""
    folder = tmp_path_factory.mktemp("swept")
    done = run(folder, command(*SHORT))
    assert done.returncode == 0, done.stdout + done.stderr
    return Swept(folder, done.stdout)


def spools(sweep: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((sweep / "spool").iterdir())}


def test_every_planned_trial_has_one_outcome(swept: Swept) -> None:
    plan = Plan(swept.sweep / "plan.parquet")
    roles = [row.role for row in plan]
    assert roles.count("search") == 3
    assert roles.count("baseline") == 1
    assert roles.count("sensitivity") == 3 + 3 + 3 + 2  # the levels of the quick space
    for trial_id in plan.trials():
        path = spool_path(swept.sweep / "spool", trial_id)
        assert read_spool(path).outcome in ("finished", "collapsed")
        assert path.read_text().count('"event": "start"') == 1


def test_the_words_at_the_end_say_what_comes_next(swept: Swept) -> None:
    assert "mlflow ui" in swept.output
    assert "python analysis/plot.py digits" in swept.output
    assert "baseline" in swept.output
    assert "95 % t interval" in swept.output


def test_the_optuna_study_is_complete(swept: Swept) -> None:
    storage = JournalStorage(JournalFileBackend(str(swept.sweep / "optuna.journal")))
    [name] = optuna.get_all_study_names(storage)
    assert name.startswith(f"{swept.sweep.name}-n50-")
    study = optuna.load_study(study_name=name, storage=storage)
    assert [trial.state for trial in study.trials] == 3 * [TrialState.COMPLETE]
    planned = {row.trial_id for row in Plan(swept.sweep / "plan.parquet") if row.role == "search"}
    assert {trial.user_attrs["trial_id"] for trial in study.trials} == planned


def test_the_same_command_again_trains_nothing(swept: Swept) -> None:
    before = spools(swept.sweep)
    again = run(swept.folder, command(*SHORT))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing to train" in again.stdout
    assert spools(swept.sweep) == before


def test_the_figure_is_drawn(swept: Swept) -> None:
    done = run(swept.folder, [sys.executable, str(ROOT / "analysis" / "plot.py"), "digits"])
    assert done.returncode == 0, done.stdout + done.stderr
    figures = swept.folder / "figures" / "digits"
    for name in ("figure4.pdf", "figure4.png", "figure4.csv", "best.md"):
        assert (figures / name).stat().st_size > 0
    assert (swept.folder / "runs.parquet").stat().st_size > 0


@pytest.fixture
def server(swept: Swept) -> Iterator[str]:
    """The address of a real `mlflow server` on loopback over the sweep's store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", "sqlite:///mlflow.db", "--workers", "1",
    ]  # fmt: skip
    log = (swept.folder / "server.log").open("wb")
    process = subprocess.Popen(
        words, cwd=swept.folder, env=environment(), stdout=log, stderr=log, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while not _answers(f"{address}/health"):
            assert process.poll() is None, (swept.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server did not come up in 90 s"
            time.sleep(0.3)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
        log.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def rest(address: str, path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
    """The answer of a call of MLflow's REST API; GET without a body, POST with one."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/api/2.0/mlflow/{path}", data, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: dict[str, Any] = json.loads(answer.read())
    return content


def test_rest_shows_one_parent_and_every_trial_nested(swept: Swept, server: str) -> None:
    found = rest(server, "experiments/get-by-name?experiment_name=digits")
    body: dict[str, object] = {
        "experiment_ids": [found["experiment"]["experiment_id"]], "max_results": 1000,
    }  # fmt: skip
    runs = rest(server, "runs/search", body)["runs"]
    tags = {run["info"]["run_id"]: {t["key"]: t["value"] for t in run["data"]["tags"]}
            for run in runs}  # fmt: skip
    parents = [run_id for run_id, tag in tags.items() if tag["kdgan.kind"] == "sweep"]
    assert len(parents) == 1
    assert tags[parents[0]]["sweep_id"] == swept.sweep.name
    nested = [run for run in runs if run["info"]["run_id"] != parents[0]]
    planned = Plan(swept.sweep / "plan.parquet").trials()
    assert sorted(tags[run["info"]["run_id"]]["trial_id"] for run in nested) == sorted(planned)
    assert {run["info"]["status"] for run in runs} == {"FINISHED"}
    for run in nested:
        tag = tags[run["info"]["run_id"]]
        assert tag["mlflow.parentRunId"] == parents[0]
        params = {p["key"]: p["value"] for p in run["data"]["params"]}
        config = planned[tag["trial_id"]][0].config
        assert params["alpha"] == str(config.alpha)
        assert params["tau_kind"] == config.tau_kind
        metrics = {m["key"]: m["value"] for m in run["data"]["metrics"]}
        assert 0.0 <= metrics["test_accuracy"] <= 1.0
        history = rest(
            server, f"metrics/get-history?run_id={run['info']['run_id']}&metric_key=valid_accuracy"
        )
        assert [point["step"] for point in history["metrics"]] == [0, 10, 20]


@pytest.mark.parametrize(
    "signum", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path: Path, signum: int) -> None:
    words = command("--set", "steps=240", "--set", "pretrain_steps=20", "--set", "evaluations=4")
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(finished := _finished(tmp_path)) < 4:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline, "four trials did not finish in two minutes"
        time.sleep(0.2)
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)  # what Ctrl-C in a terminal does
    else:
        process.send_signal(signum)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "go on" in output
    finished = _finished(tmp_path)

    resumed = run(tmp_path, words)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    sweep = next(tmp_path.glob("sweep_runs/digits-*"))
    after = spools(sweep)
    assert finished.items() <= after.items(), "a finished trial was trained again"
    trials = Plan(sweep / "plan.parquet").trials()
    assert {f"{trial_id}.jsonl" for trial_id in trials} == after.keys()
    assert all(b'"event": "result"' in content for content in after.values())
    assert f"{len(finished)} of them done before" in resumed.stdout


def _finished(folder: Path) -> dict[str, bytes]:
    """The spools that end in a result."""
    paths = folder.glob("sweep_runs/digits-*/spool/*.jsonl")
    contents = {path.name: path.read_bytes() for path in paths}
    return {name: text for name, text in contents.items() if b'"event": "result"' in text}
