from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from handmade import (
    BASELINE,
    SUPERSEDED,
    Trial,
    curve_frame,
    image_frame,
    record_sweep,
    record_trial,
    seeds,
    sensitivity,
)
from handmade_methods import arm_trial, learning_curves
from handmade_tags import metrics_of, tag_arm, tag_images
from mlflow import MlflowClient

from analysis import columns as c
from analysis import runs as runs_module
from analysis.frames import merge
from analysis.methods import arms_of
from analysis.runs import (
    SCHEMA,
    SWEEP_KEY,
    RunsError,
    read_curves,
    read_images,
    read_runs,
    tau_label,
    write_runs,
)

Make = Callable[[str], tuple[MlflowClient, str]]

SHARED = Trial(
    {0: ("finished", 0.88), 1: ("diverged", math.nan)},
    rows=(BASELINE, sensitivity("alpha", 0.5)),
    outcome="diverged",
)
FAILED = Trial(
    {0: ("failed", math.nan)},
    rows=(sensitivity("beta", 1000.0),),
    beta=1000.0,
    outcome="failed",
    error="ValueError: bad",
)


@pytest.fixture(scope="session")
def read_once(store: str) -> runs_module.Runs:
    client = MlflowClient(tracking_uri=store)
    experiment_id = client.create_experiment("tidy")
    record_sweep(client, experiment_id, "tidy-1", [SHARED, FAILED], dirty="true")
    return read_runs("tidy", store)


def test_trials_have_a_record_per_seed(read_once: runs_module.Runs) -> None:
    records = read_once.trials.set_index([c.TRIAL_ID, c.SEED])
    assert len(records) == 3
    good, bad = records.loc[(SHARED.trial_id, 0)], records.loc[(SHARED.trial_id, 1)]
    assert (good["seed_outcome"], good["seed_test_accuracy"]) == ("finished", 0.88)
    assert bad["seed_outcome"] == "diverged" and math.isnan(bad["seed_test_accuracy"])
    assert good["test_accuracy"] == 0.88 and good["test_accuracy_n"] == 1
    assert math.isnan(good["test_accuracy_low"])
    assert good["tau"] == "exponential 1→0.1"
    assert "samples" not in read_once.trials
    assert records.loc[(FAILED.trial_id, 0)]["error"] == "ValueError: bad"


def test_rows_have_a_record_per_reason(read_once: runs_module.Runs) -> None:
    rows = read_once.rows
    reasons = set(rows[rows["trial_id"] == SHARED.trial_id][["role", "factor"]].itertuples(False))
    assert reasons == {("baseline", ""), ("sensitivity", "alpha")}
    assert len(rows) == 3


def test_sweep_holds_the_parents_facts(read_once: runs_module.Runs) -> None:
    sweep = read_once.sweep
    assert (sweep.sweep_id, sweep.dirty, sweep.quick, sweep.planned_trials) == (
        "tidy-1", True, False, 2,
    )  # fmt: skip


def test_parquet_has_the_declared_columns_and_gives_the_frame_back(
    read_once: runs_module.Runs, tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "runs.parquet"
    write_runs(read_once, path)
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    assert list(c.COLUMNS) == table.column_names
    back = table.to_pandas()
    assert back["seed_test_accuracy"].tolist()[0] == 0.88
    assert table.column("started").to_pylist() == read_once.trials["started"].tolist()
    assert table.column("rows").to_pylist()[0] == list(SHARED.rows)
    assert json.loads(table.schema.metadata[SWEEP_KEY])["sweep_id"] == "tidy-1"
    assert [file.name for file in path.parent.iterdir()] == ["runs.parquet"]


def test_the_latest_sweep_with_trials_is_read(store: str, experiment: Make) -> None:
    client, experiment_id = experiment("latest")
    record_sweep(client, experiment_id, "old", [SHARED])
    record_sweep(client, experiment_id, "new", [SHARED, FAILED])
    record_sweep(client, experiment_id, "newest-but-empty", [])
    assert read_runs("latest", store).sweep.sweep_id == "new"
    old = read_runs("latest", store, "old")
    assert old.trials["trial_id"].nunique() == 1
    assert set(old.trials["sweep_id"]) == {"old"}


def test_curves_are_read_of_the_trials_wanted(store: str, experiment: Make) -> None:
    client, experiment_id = experiment("curves")
    drawn = arm_trial("kdgan", {0: 0.9, 4: 0.8}, curves=learning_curves({0: 0.9, 4: 0.8}, 0.5))
    missing = drawn.curves[0][:3]
    drawn = drawn._replace(curves=((*missing, None), *drawn.curves[1:]))
    other = arm_trial("nagan", {0: 0.7}, curves=learning_curves({0: 0.7}, 0.5))
    without = arm_trial("mimic", {0: 0.7})
    record_sweep(client, experiment_id, "curves-1", [drawn, other, without])
    runs = read_runs("curves", store)
    found = read_curves(runs, store, {drawn.trial_id, without.trial_id})
    assert found.columns.tolist() == ["trial_id", *c.CURVE_COLUMNS]
    assert set(found["trial_id"]) == {drawn.trial_id}
    pd.testing.assert_frame_equal(found, curve_frame(drawn), check_dtype=False)
    assert found["value"].isna().sum() == 1
    assert read_curves(runs, store, {without.trial_id}).empty
    (arm,) = (arm for arm in arms_of(runs) if arm.name == "kdgan")
    assert (arm.matched, arm.estimator, arm.train_size) == ("none", "concrete", 100)


def test_a_trial_of_two_sweeps_has_the_curves_of_its_later_run(
    store: str, experiment: Make
) -> None:
    client, experiment_id = experiment("twice")
    for sweep, value in (("twice-1", 0.1), ("twice-2", 0.9)):
        curves = ((0, 0, "valid_accuracy", value),)
        trial = arm_trial("kdgan", {0: 0.9}, curves=curves)
        record_sweep(client, experiment_id, sweep, [trial])
    both = [read_runs("twice", store, sweep) for sweep in ("twice-2", "twice-1")]
    assert read_curves(merge(both), store, [trial.trial_id])["value"].tolist() == [0.9]


def test_a_tag_trial_has_its_metrics_and_images(store: str, experiment: Make) -> None:
    client, experiment_id = experiment("tagged")
    scores = {0: 0.5, 3: 0.4}
    trial = tag_arm("kdgan", scores, images=tag_images(scores, 5, untagged=1))
    trial = trial._replace(params={**trial.params, "tags_file": ""})
    without = tag_arm("knn", {0: 0.3})
    record_sweep(client, experiment_id, "tagged-1", [trial, without])
    runs = read_runs("tagged", store)
    record = runs.trials.set_index([c.TRIAL_ID, c.SEED]).loc[(trial.trial_id, 3)]
    assert (record["dataset"], record["train_size"], record["tags_file"]) == ("flickr8k", 0, "")
    assert (record["seed_test_map"], record["test_map"]) == (0.4, pytest.approx(0.45))
    assert record["seed_test_authors_f_at_5"] == pytest.approx(metrics_of(0.4)["authors_f_at_5"])
    assert math.isnan(record["seed_test_accuracy"]) and record["test_map_n"] == 2
    images = read_images(runs, store, {trial.trial_id, without.trial_id})
    assert images.columns.tolist() == ["trial_id", *c.IMAGE_COLUMNS]
    pd.testing.assert_frame_equal(images, image_frame(trial), check_dtype=False)
    assert images["map"].isna().sum() == 2
    assert read_images(runs, store, [without.trial_id]).empty


def test_a_file_of_images_without_its_columns_is_named(
    store: str, experiment: Make, tmp_path: Path
) -> None:
    client, experiment_id = experiment("odd-images")
    trial = tag_arm("kdgan", {0: 0.5})
    record_sweep(client, experiment_id, "odd-images-1", [trial])
    runs = read_runs("odd-images", store)
    pd.DataFrame({"seed": [0]}).to_parquet(tmp_path / "images.parquet")
    client.log_artifact(runs.trials["run_id"][0], str(tmp_path / "images.parquet"))
    with pytest.raises(RunsError, match=rf"images\.parquet of trial '{trial.trial_id}'.*image_id"):
        read_images(runs, store, [trial.trial_id])


def test_a_damaged_file_of_curves_is_named(store: str, experiment: Make, tmp_path: Path) -> None:
    client, experiment_id = experiment("damaged-curves")
    record_sweep(client, experiment_id, "damaged-curves-1", [SHARED])
    runs = read_runs("damaged-curves", store)
    (tmp_path / "curves.parquet").write_text("not Parquet")
    client.log_artifact(runs.trials["run_id"][0], str(tmp_path / "curves.parquet"))
    with pytest.raises(RunsError, match=f"curves.parquet of trial '{SHARED.trial_id}'"):
        read_curves(runs, store, [SHARED.trial_id])


def test_every_page_is_read(store: str, experiment: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client, experiment_id = experiment("pages")
    trials = [Trial(seeds(0.9), alpha=step / 10) for step in range(5)]
    record_sweep(client, experiment_id, "pages-1", trials)
    monkeypatch.setattr(runs_module, "PAGE_SIZE", 2)
    assert read_runs("pages", store).trials["trial_id"].nunique() == 5


def test_a_trial_that_runs_still_is_left_out_and_a_retry_counts_once(
    store: str, experiment: Make
) -> None:
    client, experiment_id = experiment("retry")
    parent = record_sweep(client, experiment_id, "retry-1", [FAILED])
    again = FAILED._replace(seeds=seeds(0.7), outcome="finished", error=None)
    record_trial(client, experiment_id, "retry-1", parent, again)
    tags = {"kdgan.kind": "trial", "sweep_id": "retry-1", "trial_id": "running"}
    client.create_run(experiment_id, tags=tags)
    half_written = {
        **tags,
        "trial_id": "half",
        "outcome": "finished",
        "seed_outcomes": '{"0": "finished"}',
    }
    client.create_run(experiment_id, tags=half_written)
    trials = read_runs("retry", store).trials
    assert trials["trial_id"].tolist() == [FAILED.trial_id]
    assert trials["outcome"].tolist() == ["finished"]


def test_the_attempt_that_started_last_counts(store: str, experiment: Make) -> None:
    client, experiment_id = experiment("attempts")
    parent = record_sweep(client, experiment_id, "attempts-1", [])
    for value, attempt in ((0.7, 1767225600.25), (0.6, 1767225500.0)):
        trial = Trial(seeds(value), attempt=attempt)
        record_trial(client, experiment_id, "attempts-1", parent, trial)
    (record,) = read_runs("attempts", store).trials.to_dict("records")
    assert record["seed_test_accuracy"] == 0.7
    assert record["started"] == pd.Timestamp("2026-01-01T00:00:00.250", tz="UTC")


def test_an_attempt_that_is_no_time_is_named(store: str, experiment: Make) -> None:
    client, experiment_id = experiment("timeless")
    parent = record_sweep(client, experiment_id, "timeless-1", [])
    run_id = record_trial(client, experiment_id, "timeless-1", parent, SHARED)
    client.set_tag(run_id, "attempt", "noon")
    with pytest.raises(RunsError, match=f"{SHARED.trial_id}.*attempt='noon'"):
        read_runs("timeless", store)


def test_a_trial_has_its_cell_or_stands_for_it(store: str, experiment: Make) -> None:
    client, experiment_id = experiment("cells")
    old = SHARED._replace(is_old=True, alpha=0.1)
    record_sweep(client, experiment_id, "cells-1", [SHARED, old])
    cells = dict(read_runs("cells", store).trials[["trial_id", "cell_id"]].itertuples(False))
    assert cells == {SHARED.trial_id: SHARED.cell_id, old.trial_id: old.trial_id}
    assert SHARED.trial_id != SHARED.cell_id


def test_superseded_trials_are_nowhere(store: str, experiment: Make, tmp_path: Path) -> None:
    client, experiment_id = experiment("superseded")
    past = Trial(seeds(0.9), (SUPERSEDED,), alpha=0.3)
    mixed = Trial(seeds(0.9), (sensitivity("alpha", 0.4), SUPERSEDED), alpha=0.4)
    record_sweep(client, experiment_id, "superseded-1", [past, SHARED, mixed])
    runs = read_runs("superseded", store)
    for frame in (runs.trials, runs.rows):
        assert set(frame["trial_id"]) == {SHARED.trial_id}
    write_runs(runs, tmp_path / "runs.parquet")
    assert pq.read_table(tmp_path / "runs.parquet").num_rows == len(SHARED.seeds)
    record_sweep(client, experiment_id, "superseded-2", [past])
    with pytest.raises(RunsError, match="'superseded-2' has none but superseded trials"):
        read_runs("superseded", store)


def test_a_stopped_seed_has_no_test_accuracy(store: str, experiment: Make) -> None:
    client, experiment_id = experiment("stopped")
    stopped = Trial(seeds(math.nan, outcome="stopped"), valid={0: 0.8}, outcome="stopped")
    record_sweep(client, experiment_id, "stopped-1", [stopped])
    (record,) = read_runs("stopped", store).trials.to_dict("records")
    assert record["seed_best_valid_accuracy"] == 0.8 and record["seed_outcome"] == "stopped"
    assert math.isnan(record["seed_test_accuracy"]) and math.isnan(record["test_accuracy"])


def test_a_missing_store_is_named_and_not_created(folder: Path) -> None:
    for uri in ("sqlite:///mlflow.db", f"sqlite:///{folder}/elsewhere.db"):
        with pytest.raises(RunsError, match=r"run: python sweeps/run\.py mnist first"):
            read_runs("mnist", uri)
    assert list(folder.iterdir()) == []


def test_a_missing_experiment_names_those_that_exist(store: str) -> None:
    with pytest.raises(RunsError, match=r"no experiment 'nope'.*empty"):
        read_runs("nope", store)


def test_an_experiment_without_a_sweep(store: str) -> None:
    with pytest.raises(RunsError, match="has no sweep"):
        read_runs("empty", store)


def test_a_sweep_without_trials(store: str, experiment: Make) -> None:
    client, experiment_id = experiment("waiting")
    record_sweep(client, experiment_id, "waiting-1", [])
    with pytest.raises(RunsError, match=r"has a trial that ended yet \(latest sweep: waiting-1\)"):
        read_runs("waiting", store)
    with pytest.raises(RunsError, match="'waiting-1' has no trial"):
        read_runs("waiting", store, "waiting-1")


@pytest.mark.parametrize("sweep_id", ["tidy-9", "it's"])
def test_an_unknown_sweep_names_those_that_exist(
    read_once: runs_module.Runs, store: str, sweep_id: str
) -> None:
    with pytest.raises(RunsError, match=r"no sweep .* it has tidy-1"):
        read_runs("tidy", store, sweep_id)


def test_a_damaged_run_is_named(store: str, experiment: Make) -> None:
    client, experiment_id = experiment("damaged")
    parent = record_sweep(client, experiment_id, "damaged-1", [])
    run_id = record_trial(client, experiment_id, "damaged-1", parent, SHARED)
    client.set_tag(run_id, "seed_outcomes", "{broken")
    with pytest.raises(RunsError, match=f"{SHARED.trial_id}.*seed_outcomes='{{broken'"):
        read_runs("damaged", store)


def test_a_store_that_mlflow_cannot_open_is_one_sentence() -> None:
    with pytest.raises(RunsError, match="cannot read runs from"):
        read_runs("mnist", "nonsense://host")


def test_a_constant_schedule_is_named_by_its_start() -> None:
    assert tau_label("constant", 0.1, 0.7) == "constant 0.1"
    assert tau_label("linear", 10.0, 0.1) == "linear 10→0.1"
