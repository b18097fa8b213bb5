"""Sending what a dead store missed: the command line, real folders and stores."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from sweeps.backfill import main
from sweeps.manifest import FORMAT, KEYS
from sweeps.plan import Plan, Row

if TYPE_CHECKING:
    from conftest import Sweep

Trials = tuple[list[Row], list[Row], list[Row]]
ROOT = Path(__file__).parents[3]
ENDED = {"status": "FAILED", "planned_trials": 3}


class Folder:
    """A sweep's folder in a storage, as a driver leaves it."""

    def __init__(self, sweep: Sweep, storage: Path, working_directory: Path) -> None:
        self.sweep, self.path = sweep, storage / sweep.sweep_id
        self.path.mkdir(parents=True)
        sweep.spool = self.path / "spool"
        self.manifest: dict[str, Any] = {
            **dict.fromkeys(KEYS), "format": FORMAT,
            "experiment": sweep.name, "sweep_id": sweep.sweep_id,
            "tracking_uri": sweep.uri, "working_directory": str(working_directory),
            "facts": sweep.facts, "ended": ENDED,
        }  # fmt: skip
        self.write()

    def write(self, **changes: object) -> None:
        self.manifest |= changes
        (self.path / "sweep.json").write_text(json.dumps(self.manifest))

    def plan(self, *trials: Sequence[Row]) -> None:
        Plan(self.path / "plan.parquet").append([row for rows in trials for row in rows])


@pytest.fixture
def swept(sweep: Sweep, folder: Path) -> Folder:
    """A sweep whose store was away all the time; made before the trials, which go to its spool."""
    return Folder(sweep, folder / "sweep_runs", folder)


@pytest.fixture
def planned(swept: Folder, trials: Trials) -> Trials:
    swept.plan(*trials)
    return trials


def backfill(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def undisturbed(sweep: Sweep, trials: Sequence[Sequence[Row]]) -> Mapping[str, object]:
    """What the store would hold if it had been there all the time."""
    other = type(sweep)(sweep.uri, f"{sweep.name}-undisturbed", Path())
    other.spool, other.sweep_id = sweep.spool, sweep.sweep_id
    other.record(*trials, status="FAILED", planned=3)
    return other.dump()


def test_the_store_holds_what_it_would_have(swept: Folder, planned: Trials) -> None:
    done = backfill()
    assert done.exit_code == 0, done.output
    assert done.output == f"{swept.path.name}: 3 of 3 trials recorded, 3 of them new\n"
    assert swept.sweep.dump() == undisturbed(swept.sweep, planned)


def test_the_second_time_changes_nothing(swept: Folder, planned: Trials) -> None:
    assert backfill().exit_code == 0
    before = swept.sweep.dump(ids=True)
    (parent,) = swept.sweep.runs("sweep")
    done = backfill()
    assert done.exit_code == 0, done.output
    assert "3 of 3 trials recorded, 0 of them new" in done.output
    assert swept.sweep.dump(ids=True) == before
    (again,) = swept.sweep.runs("sweep")
    assert again.info.end_time == parent.info.end_time


def test_the_parent_has_the_times_of_its_trials(swept: Folder, planned: Trials) -> None:
    time.sleep(0.1)
    before = 1000 * time.time()
    backfill()
    (parent,) = swept.sweep.runs("sweep")
    times = [(run.info.start_time, run.info.end_time) for run in swept.sweep.runs("trial")]
    assert parent.info.start_time == min(start for start, _ in times)
    assert parent.info.end_time == max(end for _, end in times) < before


def test_only_what_is_missing_is_sent(swept: Folder, planned: Trials) -> None:
    swept.sweep.record(planned[0])
    done = backfill(swept.path.name)
    assert "3 of 3 trials recorded, 2 of them new" in done.output
    assert swept.sweep.dump() == undisturbed(swept.sweep, planned)


def test_a_sweep_whose_driver_was_killed(swept: Folder, planned: Trials, cells: list[Row]) -> None:
    swept.write(ended=None, expected_trials=17)
    swept.plan([Row(cells[0].config.replace(alpha=0.9), "search")])
    done = backfill(str(swept.path))
    assert done.exit_code == 0
    assert "3 of 3 trials recorded, 3 of them new; 1 planned trials have no result" in done.output
    (parent,) = swept.sweep.runs("sweep")
    assert (parent.info.status, parent.data.tags["planned_trials"]) == ("KILLED", "17")


def test_superseded_trials_are_not_sent(swept: Folder, planned: Trials) -> None:
    swept.sweep.record(planned[0])
    (swept.path / "plan.parquet").unlink()
    gone = [Row(planned[i][0].config, "superseded") for i in (0, 2)]
    swept.plan(gone, planned[1])
    done = backfill()
    assert "1 of 1 trials recorded, 1 of them new" in done.output
    roles = {run.data.tags["trial_id"]: run.data.tags["role"] for run in swept.sweep.runs("trial")}
    assert roles == {planned[0][0].trial_id: "superseded", planned[1][0].trial_id: "sensitivity"}


def test_a_relative_store_lies_where_the_sweep_was_started(
    swept: Folder, planned: Trials, store: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, started_in = folder / "elsewhere", folder / "started"
    elsewhere.mkdir()
    started_in.mkdir()
    shutil.copy(store.removeprefix("sqlite:///"), started_in / "mlflow.db")
    swept.write(tracking_uri="sqlite:///mlflow.db", working_directory=str(started_in))
    monkeypatch.chdir(elsewhere)
    done = backfill("--storage", str(swept.path.parent))
    assert done.exit_code == 0, done.output
    swept.sweep.uri = f"sqlite:///{started_in / 'mlflow.db'}"
    assert len(swept.sweep.dump()) == 1 + 3
    assert len(list(started_in.glob("mlruns/**/curves.parquet"))) == 3
    assert list(elsewhere.iterdir()) == []


def test_another_store_may_be_named_and_counts_from_here(
    swept: Folder, planned: Trials, store: str, folder: Path
) -> None:
    shutil.copy(store.removeprefix("sqlite:///"), folder / "other.db")
    swept.write(tracking_uri="http://127.0.0.1:9", working_directory=str(folder / "gone"))
    done = backfill("--tracking-uri", "sqlite:///other.db")
    assert done.exit_code == 0, done.output
    swept.sweep.uri = f"sqlite:///{folder / 'other.db'}"
    assert len(swept.sweep.dump()) == 1 + 3


def test_a_store_that_is_away_is_tried_once_and_named(
    swept: Folder, planned: Trials, folder: Path, closed_port: int
) -> None:
    uri = f"http://127.0.0.1:{closed_port}"
    swept.write(tracking_uri=uri)
    shutil.copytree(swept.path, swept.path.parent / "twin")
    started = time.monotonic()
    done = backfill()
    assert time.monotonic() - started < 8.0
    assert done.exit_code == 1
    assert f"0 of 3 trials recorded, 0 of them new: {uri} does not take more" in done.output
    assert f"connection refused by {uri}" in done.output
    assert f"twin: not tried, since {uri} did not work just before" in done.output


def test_a_sweep_that_is_being_run_is_left_alone(swept: Folder, planned: Trials) -> None:
    with filelock.FileLock(swept.path / "lock"):
        done = backfill()
    assert done.exit_code == 0
    assert f"{swept.path.name}: skipped, a process is running it" in done.output
    assert swept.sweep.client.get_experiment_by_name(swept.sweep.name) is None


def _no_manifest(folder: Folder) -> None:
    (folder.path / "sweep.json").unlink()


def _damaged_plan(folder: Folder) -> None:
    (folder.path / "plan.parquet").write_bytes(b"PAR1 no")


def _damaged_manifest(folder: Folder) -> None:
    (folder.path / "sweep.json").write_text("{")


def _poor_manifest(folder: Folder) -> None:
    (folder.path / "sweep.json").write_text(json.dumps({**dict.fromkeys(KEYS), "format": FORMAT}))


def _moved(folder: Folder) -> None:
    folder.write(tracking_uri="sqlite:///mlflow.db", working_directory="/no/such/folder")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_manifest, "has no sweep.json"),
        (_damaged_plan, "plan.parquet is not a plan"),
        (_damaged_manifest, "sweep.json is not a manifest"),
        (_poor_manifest, "sweep.json does not say experiment"),
        (_moved, "/no/such/folder, where the sweep was started"),
    ],
    ids=["no manifest", "damaged plan", "damaged manifest", "poor manifest", "moved"],
)
def test_a_sweep_that_cannot_be_read_is_told_and_the_others_are_sent(
    swept: Folder, planned: Trials, damage: Callable[[Folder], None], said: str
) -> None:
    shutil.copytree(swept.path, swept.path.parent / "twin")
    damage(swept)
    done = backfill()
    assert done.exit_code == 2
    assert f"{swept.path.name}: " in done.output and said in done.output
    assert "twin: 3 of 3 trials recorded" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-sweep"], "there is no sweep 'no-such-sweep' in sweep_runs: it has "),
        (["--storage", "nowhere"], "there is no sweep in nowhere: name its folder with --storage"),
    ],
)
def test_a_sweep_that_is_not_there(swept: Folder, words: list[str], said: str) -> None:
    done = backfill(*words)
    assert done.exit_code == 2
    assert said in done.output


def test_a_sweep_without_results_makes_no_run(swept: Folder) -> None:
    done = backfill()
    assert done.exit_code == 0
    assert f"{swept.path.name}: nothing to record" in done.output
    assert swept.sweep.client.get_experiment_by_name(swept.sweep.name) is None


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The command line from another folder."""
    return subprocess.Popen(
        [sys.executable, *words], cwd=folder, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")},
    )  # fmt: skip


def test_the_command_line_needs_no_torch_and_no_ray(
    swept: Folder, planned: Trials, tmp_path: Path
) -> None:
    script = str(ROOT / "sweeps" / "backfill.py")
    program = (
        "import runpy, sys\nsys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n    print('heavy:', sorted({'torch', 'ray', 'optuna'} & set(sys.modules)))\n"
    )
    process = command(tmp_path, "-c", program, script, str(swept.path))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert output.splitlines() == [
        f"{swept.path.name}: 3 of 3 trials recorded, 3 of them new",
        "heavy: []",
    ]
    client = MlflowClient(tracking_uri=swept.sweep.uri)
    assert client.get_experiment_by_name(swept.sweep.name) is not None


def test_ctrl_c_ends_it_with_a_sentence(swept: Folder, planned: Trials, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        script = str(ROOT / "sweeps" / "backfill.py")
        process = command(tmp_path, script, str(swept.path), "--tracking-uri", uri)
        silent.settimeout(60)
        silent.accept()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert output == "interrupted: what has been recorded stays, the same command goes on\n"
