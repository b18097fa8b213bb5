"""The recorder, against a real MLflow store: what it writes, once, and what it survives."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from analysis import columns as c
from analysis.runs import read_runs
from analysis.stats import t_interval
from kdgan_core import Evaluation, TrialResult, run_trial
from kdgan_core.config import FIELDS, METHODS
from kdgan_core.trial import SeedResult
from sweeps.plan import Row, sensitivity_rows
from sweeps.record import Recorder, final_metrics, run_label, trial_params, trial_tags
from sweeps.space import Space
from sweeps.spool import SpoolWriter, read_spool, spool_path

FACTS = {"commit": "8f1367d", "mode": "sensitivity", "quick": "false", "planned_trials": "3"}
CURVES = pa.schema(
    [("seed", pa.int32()), ("step", pa.int64()), ("metric", pa.string()), ("value", pa.float64())]
)
SECONDS = 60.0  # to wait for a store


class Sweep:
    """A sweep of fabricated trials in an experiment of its own."""

    def __init__(self, uri: str, name: str, folder: Path) -> None:
        self.uri, self.name, self.spool = uri, name, folder / "spool"
        self.sweep_id = f"{name}-1a2b3c4d"
        self.client = MlflowClient(tracking_uri=uri)

    def record(
        self, *trials: Sequence[Row], status: str = "FINISHED", planned: int = 3
    ) -> Recorder:
        """One driver's life: start, the trials that ended, close."""
        recorder = Recorder(self.uri, self.name, self.sweep_id, self.spool)
        recorder.start(FACTS)
        for rows in trials:
            recorder.trial_ended(rows[0].trial_id, rows)
        assert recorder.close(status, planned, SECONDS), recorder.error
        assert recorder.error is None
        return recorder

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


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own, and MLflow's settings as in a fresh process."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")  # so that what the recorder sets is taken back
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def sweep(store: str, folder: Path, request: pytest.FixtureRequest) -> Sweep:
    return Sweep(store, request.node.name, folder)


@pytest.fixture
def trials(
    space: Space, sweep: Sweep, end_trial: Callable[..., object]
) -> tuple[list[Row], list[Row], list[Row]]:
    """A finished trial with two reasons, one with a diverged seed, and one that failed."""
    rows = sensitivity_rows(space, space.base_config(50))
    good, diverged, failed = [rows[0], rows[2]], [rows[1]], [rows[3]]
    end_trial(sweep.spool, good[0].config, 0.9, spread=0.02)
    end_trial(sweep.spool, diverged[0].config, 0.8, ["finished", "diverged"])
    end_trial(sweep.spool, failed[0].config, 0.8, ["failed"])
    return good, diverged, failed


def test_one_parent_with_the_sweeps_facts(
    sweep: Sweep, trials: tuple[list[Row], list[Row], list[Row]]
) -> None:
    recorder = sweep.record(*trials, status="FAILED", planned=17)
    (parent,) = sweep.runs("sweep")
    assert parent.info.run_id == recorder.parent_id
    assert parent.info.run_name == sweep.sweep_id
    assert parent.info.status == "FAILED"
    wanted = {**FACTS, "planned_trials": "17", "sweep_id": sweep.sweep_id, "kdgan.kind": "sweep"}
    assert wanted.items() <= parent.data.tags.items()
    unknown = {tag for tag in parent.data.tags if not tag.startswith("mlflow.")} - set(
        c.PARENT_TAGS
    )
    assert not unknown


def test_a_finished_trials_run(
    sweep: Sweep, trials: tuple[list[Row], list[Row], list[Row]]
) -> None:
    sweep.record(*trials)
    good = trials[0]
    run = sweep.run(good)
    state = read_spool(spool_path(sweep.spool, good[0].trial_id))
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"n=50 baseline {good[0].trial_id}"
    assert run.info.start_time == int(1000 * (state.started or 0))
    (parent,) = sweep.runs("sweep")
    tags = run.data.tags
    assert tags["mlflow.parentRunId"] == parent.info.run_id
    assert json.loads(tags["rows"]) == [
        {"role": "baseline", "factor": "", "level": ""},
        {"role": "sensitivity", "factor": "alpha", "level": "0.5"},
    ]
    assert (tags["role"], tags["factor"], tags["level"]) == ("baseline", "", "")
    assert (tags["outcome"], tags["seed_outcomes"]) == (
        "finished", '{"0": "finished", "1": "finished"}',
    )  # fmt: skip
    assert "error" not in tags
    assert run.data.params["alpha"] == "0.5"
    assert run.data.params["seeds"] == "[0, 1]"
    assert float(run.data.params["log10_gamma"]) == -2.0
    metrics, interval = run.data.metrics, t_interval([0.89, 0.91])
    assert metrics["seconds"] == 8.0
    assert metrics["test_accuracy"] == pytest.approx(interval.mean)
    assert metrics["test_accuracy_std"] == pytest.approx(interval.std)
    assert metrics["test_accuracy_n"] == 2.0
    assert metrics["test_accuracy_low"] == pytest.approx(interval.low)
    assert metrics["test_accuracy_high"] == pytest.approx(interval.high)
    assert metrics["best_valid_accuracy/seed_1"] == pytest.approx(0.92)
    assert metrics["best_step/seed_0"] == 20.0
    assert sweep.history(run, "tau") == [(0, 1.0), (10, 0.5), (20, 0.1)]
    means = [(0, 0.71), (10, 0.81), (20, 0.91)]
    for found, wanted in zip(sweep.history(run, "valid_accuracy"), means, strict=True):
        assert found == pytest.approx(wanted)


def test_a_diverged_seed_is_visible_and_in_no_mean(
    sweep: Sweep, trials: tuple[list[Row], list[Row], list[Row]]
) -> None:
    sweep.record(*trials)
    run = sweep.run(trials[1])
    metrics = run.data.metrics
    assert run.info.status == "FINISHED"
    assert (run.data.tags["outcome"], run.data.tags["seed_outcomes"]) == (
        "diverged", '{"0": "finished", "1": "diverged"}',
    )  # fmt: skip
    assert metrics["test_accuracy"] == pytest.approx(0.79)
    assert metrics["test_accuracy_n"] == 1.0
    assert not {name for name in metrics if name.endswith(("_std", "_low", "_high"))}
    assert {name for name in metrics if name.endswith("/seed_1")} == {
        "pretrained_valid_accuracy/seed_1"
    }
    assert [value for _, value in sweep.history(run, "valid_accuracy")] == pytest.approx(
        [0.6, 0.7, 0.8]
    )


def test_a_failed_trial_keeps_its_reason(
    sweep: Sweep, trials: tuple[list[Row], list[Row], list[Row]]
) -> None:
    sweep.record(*trials)
    run = sweep.run(trials[2])
    assert run.info.status == "FAILED"
    assert run.data.tags["outcome"] == "failed"
    assert run.data.tags["error"] == "ValueError: no such thing"
    assert not {name for name in run.data.metrics if "test_accuracy" in name}
    assert run.info.run_name == f"n=50 alpha=1 {trials[2][0].trial_id}"


def test_the_curves_of_every_seed_are_an_artifact(
    sweep: Sweep, trials: tuple[list[Row], list[Row], list[Row]], folder: Path
) -> None:
    sweep.record(*trials)
    path = sweep.client.download_artifacts(
        sweep.run(trials[1]).info.run_id, "curves.parquet", str(folder)
    )
    table = pq.read_table(path)
    assert table.schema.equals(CURVES)
    frame = table.to_pandas()
    accuracy = frame[frame["metric"] == "valid_accuracy"]
    points = list(zip(accuracy["seed"], accuracy["step"], accuracy["value"], strict=True))
    wanted = [(0, 0, 0.6), (1, 0, 0.6), (0, 10, 0.7), (0, 20, 0.8)]
    assert [pytest.approx(point) for point in wanted] == points
    assert set(frame["metric"]) == {"valid_accuracy", "loss_discriminator"}


def test_what_is_written_is_what_the_analysis_declares(
    sweep: Sweep, trials: tuple[list[Row], list[Row], list[Row]]
) -> None:
    sweep.record(*trials)
    runs = [sweep.run(rows) for rows in trials]
    tags = {tag for run in runs for tag in run.data.tags if not tag.startswith("mlflow.")}
    tags |= {"mlflow.parentRunId"} & runs[0].data.tags.keys()
    assert tags == set(c.TRIAL_TAGS)
    fields = {field.name for field in FIELDS}
    for run in runs:
        assert set(c.PARAMS) <= run.data.params.keys()
        assert run.data.params.keys() <= fields | set(c.PARAMS)
    seeds = {c.seed_metric(name, seed) for name in c.SEED_METRICS for seed in (0, 1)}
    good = runs[0].data.metrics.keys()
    histories = {"valid_accuracy", "loss_discriminator", "tau"}
    assert good - histories == set(c.METRICS) | seeds
    assert histories <= good


@pytest.mark.parametrize("method", METHODS)
def test_every_history_a_method_reports_is_declared(
    method: str, space: Space, tmp_path: Path
) -> None:
    config = space.base_config(50).replace(
        method=method, seeds=(0,), steps=2, pretrain_steps=1, evaluations=1
    )
    names: set[str] = {"tau"}

    def report(evaluation: Evaluation) -> None:
        for metrics in evaluation.metrics.values():
            names.update(metrics)

    run_trial(config, data_dir=None, cache_dir=tmp_path, device="cpu", report=report)
    assert {"tau", "valid_accuracy"} < names <= set(c.HISTORY_METRICS)


def test_the_analysis_reads_the_same_numbers(
    sweep: Sweep, trials: tuple[list[Row], list[Row], list[Row]]
) -> None:
    sweep.record(*trials)
    runs = read_runs(sweep.name, sweep.uri)
    assert (runs.sweep.sweep_id, runs.sweep.commit, runs.sweep.mode) == (
        sweep.sweep_id, "8f1367d", "sensitivity",
    )  # fmt: skip
    assert runs.sweep.planned_trials == 3 and runs.sweep.has_ended
    frame = runs.trials.set_index([c.TRIAL_ID, c.SEED])
    assert len(frame) == 3 * 2
    assert frame["seed_test_accuracy"].notna().sum() == 3
    for rows in trials:
        config = rows[0].config
        result = read_spool(spool_path(sweep.spool, config.trial_id)).result
        assert result is not None
        final = final_metrics(result)
        for seed in config.seeds:
            record = frame.loc[(config.trial_id, seed)]
            assert (record["alpha"], record["beta"]) == (config.alpha, config.beta)
            assert record["tau"] == str(config.temperature)
            assert record["outcome"] == result["outcome"]
            same(record["test_accuracy"], final.get("test_accuracy"))
            same(record["test_accuracy_low"], final.get("test_accuracy_low"))
            same(record["seed_test_accuracy"], final.get(f"test_accuracy/seed_{seed}"))
            same(record["seed_best_step"], final.get(f"best_step/seed_{seed}"))
    rows = runs.rows
    assert len(rows) == 4
    assert set(rows[rows["trial_id"] == trials[0][0].trial_id]["role"]) == {
        "baseline", "sensitivity",
    }  # fmt: skip


def same(found: float, wanted: float | None) -> None:
    assert pd.isna(found) if wanted is None else found == wanted


def test_recording_twice_changes_nothing(
    sweep: Sweep, trials: tuple[list[Row], list[Row], list[Row]]
) -> None:
    def everything() -> list[object]:
        runs = sorted(
            [*sweep.runs("sweep"), *sweep.runs("trial")], key=lambda run: str(run.info.run_id)
        )
        return [
            (
                run.info.run_id,
                run.info.status,
                run.info.end_time if run.data.tags["kdgan.kind"] == "trial" else None,
                run.data.tags,
                run.data.params,
                {name: sweep.history(run, name) for name in run.data.metrics},
            )
            for run in runs
        ]

    sweep.record(*trials, *trials)
    before = everything()
    assert len(before) == 1 + 3
    sweep.record(*trials)
    assert everything() == before


@pytest.mark.parametrize("cut", ["before the metrics", "before the end"])
def test_a_half_written_run_is_completed_and_not_doubled(
    sweep: Sweep, trials: tuple[list[Row], list[Row], list[Row]], cut: str
) -> None:
    good = trials[0]
    trial_id = good[0].trial_id
    if cut == "before the end":
        sweep.record(good)
        run_id = sweep.run(good).info.run_id
        sweep.client.update_run(run_id, status="RUNNING")
    else:
        recorder = sweep.record()
        state = read_spool(spool_path(sweep.spool, trial_id))
        tags = trial_tags(trial_id, good, state)
        tags |= {"mlflow.parentRunId": str(recorder.parent_id), "sweep_id": sweep.sweep_id}
        (parent,) = sweep.runs("sweep")
        run_id = sweep.client.create_run(parent.info.experiment_id, tags=tags).info.run_id
    sweep.record(*trials)
    run = sweep.run(good)
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert len(sweep.runs("sweep")) == 1
    assert run.data.metrics["test_accuracy"] == pytest.approx(0.9)
    assert run.data.params["train_size"] == "50"
    for name in run.data.metrics:
        steps = [step for step, _ in sweep.history(run, name)]
        assert len(steps) == len(set(steps)), name
    assert [step for step, _ in sweep.history(run, "tau")] == [0, 10, 20]
    artifacts = sweep.client.list_artifacts(run.info.run_id)
    assert [artifact.path for artifact in artifacts] == ["curves.parquet"]


def test_rows_that_come_later_update_the_tags(
    sweep: Sweep, trials: tuple[list[Row], list[Row], list[Row]]
) -> None:
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


def test_a_failed_trial_that_later_succeeds_is_a_finished_one(
    sweep: Sweep,
    trials: tuple[list[Row], list[Row], list[Row]],
    end_trial: Callable[..., object],
) -> None:
    failed = trials[2]
    sweep.record(failed, status="FAILED")
    before = sweep.run(failed)
    end_trial(sweep.spool, failed[0].config, 0.85)
    sweep.record(failed)
    run = sweep.run(failed)
    assert (run.info.run_id, run.info.status) == (before.info.run_id, "FINISHED")
    assert run.data.tags["outcome"] == "finished"
    assert run.data.tags["seed_outcomes"] == '{"0": "finished", "1": "finished"}'
    assert run.data.metrics["test_accuracy"] == pytest.approx(0.84)


def test_nothing_of_the_failure_stays_with_a_trial_that_later_succeeds(
    sweep: Sweep,
    trials: tuple[list[Row], list[Row], list[Row]],
    end_trial: Callable[..., object],
) -> None:
    failed = trials[2]
    sweep.record(failed, status="FAILED")
    end_trial(sweep.spool, failed[0].config, 0.85)
    sweep.record(failed)
    run = sweep.run(failed)
    assert not run.data.tags.get("error")
    assert [step for step, _ in sweep.history(run, "tau")] == [0, 10, 20]


def test_one_seed_has_no_interval(
    sweep: Sweep, space: Space, end_trial: Callable[..., object]
) -> None:
    row = Row(space.base_config(50).replace(seeds=(3,)), "baseline")
    end_trial(sweep.spool, row.config, 0.9)
    sweep.record([row])
    metrics = sweep.run([row]).data.metrics
    assert not {name for name in metrics if name.endswith(("_std", "_low", "_high"))}
    assert metrics["test_accuracy_n"] == 1.0
    assert metrics["test_accuracy/seed_3"] == pytest.approx(0.89)


def test_more_metrics_than_one_request_holds_are_all_written(sweep: Sweep, space: Space) -> None:
    row = Row(space.base_config(50), "baseline")
    writer = SpoolWriter(sweep.spool, row.trial_id)
    for step in range(600):
        writer.evaluation(Evaluation(step, 600, 1.0, 0.1, {0: {"valid_accuracy": step / 600}}))
    seed = SeedResult(0, "finished", 600, 0.9, 0.9, 0.5, 0.8)
    writer.result(TrialResult(row.trial_id, "finished", (seed,), 1.0, 600))
    sweep.record([row])
    run = sweep.run([row])
    for name in ("tau", "valid_accuracy"):
        assert [step for step, _ in sweep.history(run, name)] == list(range(600))


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_server_that_is_away_costs_seconds_and_blocks_nothing(
    space: Space, folder: Path, closed_port: int
) -> None:
    uri = f"http://127.0.0.1:{closed_port}"
    recorder = Recorder(uri, "away", "away-1", folder)
    rows = [Row(space.base_config(50), "baseline")]
    recorder.start(FACTS)
    started = time.monotonic()
    slowest = 0.0
    while recorder.error is None and time.monotonic() - started < SECONDS:
        before = time.monotonic()
        recorder.trial_ended(rows[0].trial_id, rows)
        slowest = max(slowest, time.monotonic() - before)
        time.sleep(0.05)
    assert slowest < 0.1
    assert time.monotonic() - started < 30.0
    assert recorder.error is not None and "\n" not in recorder.error
    assert str(closed_port) in recorder.error
    assert recorder.close("FINISHED", 1, 5.0) is False


def test_closing_waits_no_longer_than_it_is_told(
    space: Space, folder: Path, closed_port: int
) -> None:
    recorder = Recorder(f"http://127.0.0.1:{closed_port}", "away", "away-1", folder)
    recorder.start(FACTS)
    started = time.monotonic()
    assert recorder.close("FINISHED", 1, 0.2) is False
    assert time.monotonic() - started < 2.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_spool_that_cannot_be_recorded_is_not_passed_over(sweep: Sweep, space: Space) -> None:
    row = Row(space.base_config(50), "baseline")
    SpoolWriter(sweep.spool, row.trial_id)
    line = {"event": "result", "outcome": "finished", "seeds": [{"seed": 0}]}  # of another version
    with spool_path(sweep.spool, row.trial_id).open("a") as spool:
        spool.write(json.dumps(line) + "\n")
    recorder = Recorder(sweep.uri, sweep.name, sweep.sweep_id, sweep.spool)
    recorder.start(FACTS)
    recorder.trial_ended(row.trial_id, [row])
    assert recorder.close("FINISHED", 1, SECONDS) is False
    assert recorder.error


def test_params_are_the_config_and_two_logarithms(space: Space) -> None:
    config = space.base_config(50).replace(beta=0.002)
    params = trial_params(config)
    assert params.keys() == {field.name for field in FIELDS} | {"log10_beta", "log10_gamma"}
    assert float(params["log10_beta"]) == pytest.approx(math.log10(0.002), abs=1e-5)
    assert json.loads(params["seeds"]) == [0, 1]


def test_a_label_tells_the_most_telling_row(space: Space) -> None:
    rows = sensitivity_rows(space, space.base_config(50))
    search = Row(space.base_config(50), "search")
    assert run_label([search]) == "n=50 search"
    assert run_label([search, rows[2]]) == "n=50 alpha=0.5"
    assert run_label([search, rows[0], rows[2]]) == "n=50 baseline"
