"""The recorder, against a real MLflow store: what a sweep's runs hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import columns as c
from analysis.runs import read_runs
from analysis.stats import t_interval
from kdgan_core import Evaluation, TrialConfig, TrialResult, run_trial
from kdgan_core.config import FIELDS
from kdgan_core.names import METHODS
from kdgan_core.trial import SeedResult
from sweeps.plan import Row
from sweeps.run_facts import final_metrics
from sweeps.spool import SpoolWriter, read_spool, spool_path

if TYPE_CHECKING:
    from conftest import Sweep

Trials = tuple[list[Row], list[Row], list[Row]]
CURVES = pa.schema(
    [("seed", pa.int32()), ("step", pa.int64()), ("metric", pa.string()), ("value", pa.float64())]
)


def test_one_parent_with_the_sweeps_facts(sweep: Sweep, trials: Trials) -> None:
    recorder = sweep.record(*trials, status="FAILED", planned=17)
    (parent,) = sweep.runs("sweep")
    assert parent.info.run_id == recorder.parent_id
    assert parent.info.run_name == sweep.sweep_id
    assert parent.info.status == "FAILED"
    wanted = {
        **sweep.facts,
        "planned_trials": "17",
        "sweep_id": sweep.sweep_id,
        "kdgan.kind": "sweep",
    }
    assert wanted.items() <= parent.data.tags.items()
    unknown = {tag for tag in parent.data.tags if not tag.startswith("mlflow.")} - set(
        c.PARENT_TAGS
    )
    assert not unknown


def test_a_finished_trials_run(sweep: Sweep, trials: Trials) -> None:
    sweep.record(*trials)
    good = trials[0]
    run = sweep.run(good)
    state = read_spool(spool_path(sweep.spool, good[0].trial_id))
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"n=50 baseline {good[0].trial_id}"
    assert run.info.start_time == round(1000 * (state.started or 0))
    assert state.result is not None
    assert run.info.end_time == round(1000 * state.result["time"])
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
    assert (tags["cell_id"], tags["attempt"]) == (good[0].config.cell_id, f"{state.started:.3f}")
    assert [tags[name] for name in ("device", "threads", "node", "processor")] == [
        "cpu", "2", state.host["host"], "EPYC",
    ]  # fmt: skip
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


def test_a_diverged_seed_is_visible_and_in_no_mean(sweep: Sweep, trials: Trials) -> None:
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
    costs = {
        name for name in c.SEED_METRICS_OF[c.IMAGES]
        if name.startswith(("updates", "train", "pretrain"))
    }  # fmt: skip
    assert {name for name in metrics if name.endswith("/seed_1")} == {
        c.seed_metric(name, 1) for name in costs
    }
    assert [value for _, value in sweep.history(run, "valid_accuracy")] == pytest.approx(
        [0.6, 0.7, 0.8]
    )


def test_a_failed_trial_keeps_its_reason(sweep: Sweep, trials: Trials) -> None:
    sweep.record(*trials)
    run = sweep.run(trials[2])
    assert run.info.status == "FAILED"
    assert run.data.tags["outcome"] == "failed"
    assert run.data.tags["error"] == "ValueError: no such thing"
    assert not {name for name in run.data.metrics if "test_accuracy" in name}
    assert run.info.run_name == f"n=50 alpha=1 {trials[2][0].trial_id}"


def test_the_curves_of_every_seed_are_an_artifact(
    sweep: Sweep, trials: Trials, folder: Path
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


def test_what_is_written_is_what_the_analysis_declares(sweep: Sweep, trials: Trials) -> None:
    sweep.record(*trials)
    runs = [sweep.run(rows) for rows in trials]
    tags = {tag for run in runs for tag in run.data.tags if not tag.startswith("mlflow.")}
    tags |= {"mlflow.parentRunId"} & runs[0].data.tags.keys()
    assert tags == set(c.TRIAL_TAGS)
    fields = {field.name for field in FIELDS}
    for run in runs:
        assert set(c.PARAMS) <= run.data.params.keys()
        assert run.data.params.keys() <= fields | set(c.PARAMS)
    seeds = {c.seed_metric(name, seed) for name in c.SEED_METRICS_OF[c.IMAGES] for seed in (0, 1)}
    good = runs[0].data.metrics.keys()
    histories = {"valid_accuracy", "loss_discriminator", "tau"}
    assert good - histories == set(c.METRICS_OF[c.IMAGES]) | seeds
    assert histories <= good


@pytest.mark.parametrize("method", METHODS)
def test_every_history_a_method_reports_is_declared(
    method: str, baseline: TrialConfig, tmp_path: Path
) -> None:
    config = baseline.replace(method=method, seeds=(0,), steps=2, pretrain_steps=1, evaluations=1)
    has_game = method in ("kdgan", "nagan")
    if has_game:
        config = config.replace(log_gradient_variance=True, gradient_batches=2)
    names: set[str] = {"tau"}

    def report(evaluation: Evaluation) -> None:
        for metrics in evaluation.metrics.values():
            names.update(metrics)

    run_trial(config, data_dir=None, cache_dir=tmp_path, device="cpu", report=report)
    assert {"tau", "valid_accuracy"} < names <= set(c.HISTORY_METRICS)
    variances = {name for name in c.HISTORY_METRICS if name.startswith("gradient_")}
    logged = {name for name in variances if name.endswith("adversarial") or method == "kdgan"}
    assert names & variances == (logged if has_game else set())


def test_the_analysis_reads_the_same_numbers(sweep: Sweep, trials: Trials) -> None:
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


def test_one_seed_has_no_interval(
    sweep: Sweep, baseline: TrialConfig, end_trial: Callable[..., object]
) -> None:
    row = Row(baseline.replace(seeds=(3,)), "baseline")
    end_trial(sweep.spool, row.config, 0.9)
    sweep.record([row])
    metrics = sweep.run([row]).data.metrics
    assert not {name for name in metrics if name.endswith(("_std", "_low", "_high"))}
    assert metrics["test_accuracy_n"] == 1.0
    assert metrics["test_accuracy/seed_3"] == pytest.approx(0.89)


def test_more_metrics_than_one_request_holds_are_all_written(
    sweep: Sweep, baseline: TrialConfig
) -> None:
    row = Row(baseline, "baseline")
    writer = SpoolWriter(sweep.spool, row.trial_id)
    writer.start()
    for step in range(600):
        writer.evaluation(Evaluation(step, 600, 1.0, 0.1, {0: {"valid_accuracy": step / 600}}))
    seed = SeedResult(0, "finished", 600, 0.9, 0.9, 0.5, 0.8)
    writer.result(TrialResult(row.trial_id, "finished", (seed,), 1.0, 600))
    sweep.record([row])
    run = sweep.run([row])
    for name in ("tau", "valid_accuracy"):
        assert [step for step, _ in sweep.history(run, name)] == list(range(600))


def test_what_is_too_long_for_a_tag_is_cut(sweep: Sweep) -> None:
    sweep.facts["command"] = "python " + 9000 * "x"
    sweep.record()
    sweep.record()
    (parent,) = sweep.runs("sweep")
    command = parent.data.tags["command"]
    assert command.startswith("python xxx") and command.endswith("x ...")
    assert len(command) == 8000


def test_what_a_spool_does_not_know_of_its_host_is_left_out(sweep: Sweep, trials: Trials) -> None:
    sweep.record(*trials)
    tags = sweep.run(trials[1]).data.tags
    assert "node" in tags and not {"device", "threads", "processor"} & tags.keys()
