"""The command line on a sweep that has been begun, up to the point where Ray would start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commanding import COMMAND, driven, refusal, run
from mlflow import MlflowClient

from analysis import columns as c
from kdgan_core.data import load_dataset
from sweeps import preflight
from sweeps.design import Size, planned_sizes
from sweeps.folder import OWNER
from sweeps.loading import load_space
from sweeps.manifest import new_manifest, read_manifest, sweep_id, write_manifest
from sweeps.options import Options
from sweeps.resources import PreflightError
from sweeps.space import Space
from sweeps.stages import Stages, Task


@pytest.fixture(autouse=True)
def _plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and no settings of the user's own."""
    for name in ("KDGAN_DATA", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


class Sweep:
    """A quick sweep of digits as a driver left it, and the command that goes on with it."""

    def __init__(self, storage: Path, store: str, mode: str = "study", sizes: int = 2) -> None:
        chosen = (50, 200)[:sizes]
        self.space: Space = load_space("digits", mode, quick=True, train_sizes=chosen)
        self.options = Options(
            mode=mode, quick=True, data_dir=None, storage=storage, tracking_uri=store,
            cpus_per_trial=1.0, gpus_per_trial=None, seed=0, command="python sweeps/run.py",
        )  # fmt: skip
        self.name = sweep_id(self.space, self.options)
        self.folder = storage / self.name
        sizes_of = [word for n in chosen for word in ("--train-size", str(n))]
        self.words = ["digits", "--quick", "--mode", mode, *sizes_of, "--storage", str(storage)]
        self.words += ["--tracking-uri", store]

    def run(self, end_trial: Callable[..., object], trials: int = 999) -> None:
        """Ends so many trials."""
        (self.folder / "spool").mkdir(parents=True)
        stages = Stages(Task(self.space, self.options.mode), self.folder)
        while trials and (row := stages.next_row()) is not None:
            trials -= 1
            end_trial(stages.spool, row.config, 0.9)
            stages.complete(row.trial_id)
        checksum = load_dataset("digits", None).checksum
        write_manifest(self.folder, new_manifest(self.space, self.options, checksum))

    def change(self, *path: str, to: object) -> None:
        """Changes an entry of the manifest."""
        manifest = read_manifest(self.folder)
        assert manifest is not None
        entry = manifest
        for key in path[:-1]:
            entry = entry[key]
        entry[path[-1]] = to
        write_manifest(self.folder, manifest)


@pytest.fixture
def sweep(tmp_path: Path, store: str) -> Sweep:
    return Sweep(tmp_path / "storage", store)


def test_a_sweep_that_another_process_runs(sweep: Sweep) -> None:
    with driven(sweep.folder) as driver:
        sentence = refusal(run(*sweep.words))
        assert (sweep.folder / OWNER).exists()
    assert f"process {driver.pid} of" in sentence
    assert COMMAND in sentence and "--status" in sentence


def test_a_damaged_plan(sweep: Sweep, end_trial: Callable[..., object]) -> None:
    sweep.run(end_trial, 1)
    (sweep.folder / "plan.parquet").write_bytes(b"PAR1")
    for words in ([], ["--dry-run"], ["--status"]):
        assert f"move the folder {sweep.folder} away" in refusal(run(*sweep.words, *words))


def test_a_damaged_manifest(sweep: Sweep, end_trial: Callable[..., object]) -> None:
    sweep.run(end_trial, 1)
    (sweep.folder / "sweep.json").write_text("{")
    for words in ([], ["--status"]):
        assert f"move the folder {sweep.folder} away" in refusal(run(*sweep.words, *words))


@pytest.mark.parametrize(
    ("path", "to", "line"),
    [
        (("code", "kdgan_core/losses.py"), "0" * 12, "code: kdgan_core/losses.py changed"),
        (("versions", "torch"), "1.0", "package torch: 1.0 -> "),
        (("facts", "data_checksum"), "0" * 64, f"data: checksum: {'0' * 64} -> "),
        (("definition", "sizes", "50", "steps"), 7, "n=50: steps: 7 -> 60"),
        (("definition", "search_seeds"), [0, 1, 2], "search seeds: [0, 1, 2] -> [0]"),
    ],
)
def test_a_half_done_sweep_that_has_changed_is_refused_with_the_difference(
    sweep: Sweep, end_trial: Callable[..., object], path: tuple[str, ...], to: object, line: str
) -> None:
    sweep.run(end_trial, 2)
    sweep.change(*path, to=to)
    before = (sweep.folder / "sweep.json").read_bytes()
    result = run(*sweep.words)
    assert result.exit_code == 2, result.output
    (shown,) = (one for one in result.stderr.splitlines() if one.startswith("  "))
    assert shown.startswith(f"  {line}")
    assert "--accept-changes" in result.stderr
    assert (sweep.folder / "sweep.json").read_bytes() == before
    assert not (sweep.folder / OWNER).exists()


def test_a_sweep_without_trials_may_change(
    sweep: Sweep, end_trial: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.run(end_trial, 0)
    sweep.change("versions", "torch", to="1.0")

    def stop(tracking_uri: str) -> None:
        raise PreflightError("as far as this")

    monkeypatch.setattr(preflight, "StoreCheck", stop)
    assert refusal(run(*sweep.words)) == "as far as this"


def test_the_status_of_a_sweep(sweep: Sweep, end_trial: Callable[..., object]) -> None:
    assert "there is no sweep in" in refusal(run(*sweep.words, "--status"))
    assert not sweep.options.storage.exists()
    sweep.run(end_trial, 3)
    result = run(*sweep.words, "--status")
    assert result.exit_code == 0, result.output
    assert f"sweep {sweep.name} has not come to an end" in result.stdout
    assert f"3/{sum(size.search + size.around for size in sizes(sweep))} trials" in result.stdout
    with driven(sweep.folder) as driver:
        shown = run(*sweep.words, "--status").stdout
    assert f"sweep {sweep.name} runs since" in shown and f"process {driver.pid}" in shown


def sizes(sweep: Sweep) -> list[Size]:
    return list(planned_sizes(sweep.space, sweep.options.mode).values())


def test_a_sweep_that_is_done_trains_nothing_and_records_what_is_missing(
    tmp_path: Path, store: str, end_trial: Callable[..., object]
) -> None:
    sweep = Sweep(tmp_path / "storage", store, "sensitivity", sizes=1)
    sweep.run(end_trial)
    for _ in range(2):
        result = run(*sweep.words)
        assert result.exit_code == 0, result.output
        assert f"sweep {sweep.name}: all trials have finished, nothing to train" in result.output
        assert "n=50 baseline α=0.5" in result.output
        assert "warning" not in result.output
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.sweep_id = '{sweep.name}'")
    (parent,) = (run for run in runs if run.data.tags["kdgan.kind"] == "sweep")
    trials = len(list((sweep.folder / "spool").iterdir()))
    assert len(runs) == 1 + trials
    assert {run.info.status for run in runs} == {"FINISHED"}
    tags = {k: v for k, v in parent.data.tags.items() if not k.startswith("mlflow.")}
    assert set(tags) == set(c.PARENT_TAGS) - {c.RESOURCES}  # Ray was not started
    assert (tags["mode"], tags["quick"], tags["planned_trials"]) == (
        "sensitivity", "true", str(trials),
    )  # fmt: skip
    assert json.loads(tags["versions"])["optuna"]
    assert json.loads(tags["hardware"])["cores"]
    assert len(tags["data_checksum"]) == 64
    assert "is complete" in run(*sweep.words, "--status").stdout
