"""The command line, up to the point where Ray would start: help, refusals, and nothing to do."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from analysis import columns as c
from kdgan_core.config import FIELDS, describe_range
from kdgan_core.data.mnist import FILES
from sweeps.plan import MODES, planned_trials, sweep_id
from sweeps.run import main, parse_changes
from sweeps.space import SpaceError, experiments, load_space
from sweeps.stages import Stages

SCRIPT = Path(__file__).parents[2] / "sweeps" / "run.py"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no settings of the user's own."""
    for name in ("KDGAN_DATA", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    return working


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def refusal(result: Result) -> str:
    """The one sentence with which a command was refused."""
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["cifar"], ["'cifar'", "digits, mnist"]),
        (["digits", "--set", "alpha=1.5"], ["alpha=1.5", "[0, 1]"]),
        (["digits", "--set", "beta=0"], ["beta=0", "above 0"]),
        (["digits", "--set", "tau_end=0"], ["tau_end=0", "above 0"]),
        (["digits", "--set", "tau_kind=square"], ["tau_kind='square'", "exponential"]),
        (["digits", "--set", "nosuch=1"], ["nosuch", "--help"]),
        (["digits", "--set", "stepz=1"], ["stepz", "did you mean steps"]),
        (["digits", "--set", "alpha"], ["--set alpha", "name=value"]),
        (["digits", "--set", "alpha="], ["--set alpha=", "number"]),
        (["digits", "--set", "steps=many"], ["steps='many'", "whole number"]),
        (["digits", "--set", "dataset=mnist"], ["dataset='mnist'"]),
        (["digits", "--seeds", "0"], ["seeds=0"]),
        (["digits", "--trials", "0"], ["trials=0"]),
        (["digits", "--train-size", "5"], ["train_size=5"]),
        (["digits", "--train-size", "1200"], ["train_size=1200", "1,297"]),
        (["digits", "--train-size", "50", "--set", "train_size=60"], ["train_size", "twice"]),
        (["digits", "--seeds", "2", "--set", "seeds=0,1"], ["seeds", "twice"]),
        (["digits", "--set", "seeds="], ["seeds=()"]),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry"])
def test_a_bad_option_is_refused_in_one_sentence(
    folder: Path, words: list[str], parts: list[str], dry: list[str]
) -> None:
    sentence = refusal(run(*words, *dry))
    assert all(part in sentence for part in parts), sentence
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["digits", "--mode", "random"],
        ["digits", "--cpus-per-trial", "0"],
        ["digits", "--gpus-per-trial", "-1"],
        ["digits", "--seed", "-1"],
        ["digits", "--trials", "x"],
        ["digits", "mnist"],
        [],
    ],
)
def test_what_click_refuses_has_the_same_exit_code(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry"])
def test_a_data_folder_that_is_a_file(tmp_path: Path, dry: list[str]) -> None:
    file = tmp_path / "data"
    file.write_text("not a folder")
    sentence = refusal(run("mnist", "--data-dir", str(file), *dry))
    assert str(file) in sentence and "--data-dir" in sentence


def test_the_data_folder_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "data"
    file.write_text("not a folder")
    monkeypatch.setenv("KDGAN_DATA", str(file))
    assert str(file) in refusal(run("mnist"))


def cut_content(content: bytes) -> bytes:
    return gzip.compress(content[:-100])


def cut_archive(content: bytes) -> bytes:
    return gzip.compress(content)[:-20]


@pytest.mark.parametrize("cut", [cut_content, cut_archive])
def test_a_truncated_data_file_is_named(
    tmp_path: Path, folder: Path, cut: Callable[[bytes], bytes]
) -> None:
    data = tmp_path / "data"
    (data / "mnist").mkdir(parents=True)
    for file in FILES:
        header = bytes([0, 0, 8, len(file.shape)]) + struct.pack(
            f">{len(file.shape)}I", *file.shape
        )
        size = 1
        for side in file.shape:
            size *= side
        (data / "mnist" / f"{file.name}.gz").write_bytes(cut(header + bytes(size)))
    sentence = refusal(run("mnist", "--data-dir", str(data)))
    assert f"{FILES[0].name}.gz" in sentence
    assert "truncated" in sentence or "cannot be read" in sentence
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_storage_that_cannot_be_written(tmp_path: Path, below: str) -> None:
    file = tmp_path / "storage"
    file.write_text("not a folder")
    sentence = refusal(run("digits", "--storage", str(file / below)))
    assert str(file) in sentence and "--storage" in sentence


@pytest.fixture
def lock() -> Iterator[Callable[[Path], None]]:
    """A function that has another process hold the lock of a sweep's folder."""
    held: list[subprocess.Popen[str]] = []

    def hold(sweep: Path) -> None:
        sweep.mkdir(parents=True)
        code = (
            "import filelock, sys\n"
            "with filelock.FileLock(sys.argv[1]):\n"
            "    print('held', flush=True)\n"
            "    sys.stdin.read()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(sweep / "lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        held.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"

    yield hold
    for process in held:
        process.communicate(timeout=10)


def test_a_sweep_that_another_process_runs(tmp_path: Path, lock: Callable[[Path], None]) -> None:
    space = load_space("digits", quick=True)
    lock(tmp_path / "storage" / sweep_id(space, "study", 0))
    sentence = refusal(run("digits", "--quick", "--storage", str(tmp_path / "storage")))
    assert "another process" in sentence


def test_a_damaged_plan(tmp_path: Path, store: str) -> None:
    sweep = tmp_path / "storage" / sweep_id(load_space("digits", quick=True), "study", 0)
    sweep.mkdir(parents=True)
    (sweep / "plan.parquet").write_bytes(b"PAR1")
    sentence = refusal(
        run("digits", "--quick", "--storage", str(sweep.parent), "--tracking-uri", store)
    )
    assert f"move the folder {sweep} away" in sentence


def test_a_sweep_that_is_done_trains_nothing_and_records_what_is_missing(
    tmp_path: Path, store: str, end_trial: Callable[..., object]
) -> None:
    storage = tmp_path / "storage"
    space = load_space("digits", quick=True, train_sizes=(50,))
    name = sweep_id(space, "sensitivity", 0)
    (storage / name).mkdir(parents=True)
    stages = Stages(space, "sensitivity", 0, storage / name)
    while (row := stages.next_row()) is not None:
        end_trial(stages.spool, row.config, 0.9)
        stages.complete(row.trial_id)
    words = ["digits", "--quick", "--mode", "sensitivity", "--train-size", "50"]
    where = ["--storage", str(storage), "--tracking-uri", store]
    for _ in range(2):
        result = run(*words, *where)
        assert result.exit_code == 0, result.output
        assert f"sweep {name}: all trials have finished, nothing to train" in result.output
        assert "n=50 baseline α=0.5" in result.output
        assert "warning" not in result.output
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.sweep_id = '{name}'")
    (parent,) = (run for run in runs if run.data.tags["kdgan.kind"] == "sweep")
    trials = len(stages.plan.trials())
    assert len(runs) == 1 + trials
    assert {run.info.status for run in runs} == {"FINISHED"}
    tags = {k: v for k, v in parent.data.tags.items() if not k.startswith("mlflow.")}
    assert set(tags) == set(c.PARENT_TAGS)
    assert (tags["mode"], tags["quick"], tags["planned_trials"]) == (
        "sensitivity", "true", str(trials),
    )  # fmt: skip
    assert json.loads(tags["versions"])["optuna"]
    assert json.loads(tags["hardware"])["cores"]
    assert len(tags["data_checksum"]) == 64


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    result = run("digits", "--quick", "--dry-run", "--train-size", "50", "--seeds", "3")
    assert result.exit_code == 0, result.output
    space = load_space("digits", quick=True, train_sizes=(50,), seeds=3)
    search, around = planned_trials(space, "study")[50]
    assert sweep_id(space, "study", 0) in result.stdout
    assert f"n=50: {search} search trials x 1 seeds, {around} cells x 3 seeds" in result.stdout
    assert f"  {search * 1 + around * 3} trainings in all" in result.stdout
    assert list(folder.iterdir()) == []


def test_the_words_after_set_are_typed() -> None:
    changes = parse_changes(("alpha=0.25", "steps = 20", "seeds=3,1", "method=nagan"))
    assert changes == {"alpha": 0.25, "steps": 20, "seeds": (3, 1), "method": "nagan"}
    assert type(changes["steps"]) is int
    with pytest.raises(SpaceError, match="--set alpha has no value"):
        parse_changes(("alpha",))


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_every_field_with_its_range(option: str) -> None:
    result = run(option)
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    for field in FIELDS:
        (line,) = (line for line in lines if line.startswith(f"{field.name} ("))
        assert f"; {describe_range(field.metadata)}): {field.metadata['help']}" in line
    assert ", ".join(experiments()) in result.stdout
    for mode in MODES:
        assert mode in result.stdout


def test_help_is_there_at_once() -> None:
    code = (
        "import json, runpy, sys\n"
        f"sys.argv = [{str(SCRIPT)!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "    print(json.dumps([end.code, sorted(loaded)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    status, loaded = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert "Usage:" in done.stdout
    slow = {"torch", "ray", "mlflow", "optuna", "pandas", "numpy", "pyarrow", "sklearn", "scipy"}
    assert not slow & set(loaded)
    assert {"click", "kdgan_core", "sweeps"} <= set(loaded)
