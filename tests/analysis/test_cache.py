from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from handmade import Trial, record_sweep, record_trial, seeds
from mlflow import MlflowClient

from analysis import runs as runs_module
from analysis.cache import Cache
from analysis.runs import RunsError, read_curves, read_latest, read_runs

Make = Callable[[str], tuple[MlflowClient, str]]


def counted_searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of runs of every page that is fetched."""
    fetched: list[int] = []
    search = MlflowClient.search_runs

    def count(self: MlflowClient, *arguments: object, **options: object) -> object:
        page = search(self, *arguments, **options)  # type: ignore[arg-type]
        fetched.append(len(page))
        return page

    monkeypatch.setattr(MlflowClient, "search_runs", count)
    return fetched


def test_a_second_read_of_an_ended_sweep_fetches_no_trial(
    store: str, experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [Trial(seeds(0.9), alpha=0.1 * number) for number in range(5)]
    record_sweep(*experiment("read-twice"), "twice-1", trials)
    cache = Cache(tmp_path / "cache")
    first = read_runs("read-twice", store, cache=cache)
    fetched = counted_searches(monkeypatch)
    again = read_runs("read-twice", store, cache=cache)
    assert sum(fetched) == 2  # the parent, and one trial to see that there are some
    pd.testing.assert_frame_equal(again.trials, first.trials)
    assert again.sweep == first.sweep and len(again.rows) == len(first.rows)


def test_a_running_sweep_fetches_its_new_trials_alone(
    store: str, experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, experiment_id = experiment("running")
    old = [Trial(seeds(0.9), alpha=0.1 * number) for number in range(4)]
    parent = record_sweep(client, experiment_id, "running-1", old)
    client.update_run(parent, status="RUNNING")
    cache = Cache(tmp_path / "cache")
    seen = read_runs("running", store, cache=cache).sweep.seen
    assert seen is not None
    monkeypatch.setattr(runs_module, "OVERLAP_MILLISECONDS", -1)
    record_trial(client, experiment_id, "running-1", parent, Trial(seeds(0.8), alpha=0.9))
    fetched = counted_searches(monkeypatch)
    runs = read_runs("running", store, cache=cache)
    assert sum(fetched) == 3 and runs.trials["trial_id"].nunique() == 5
    assert set(runs.rows["trial_id"]) == set(runs.trials["trial_id"])


def test_a_trial_tried_again_replaces_what_was_kept(
    store: str, experiment: Make, tmp_path: Path
) -> None:
    client, experiment_id = experiment("retried")
    trial = Trial(seeds(0.9), attempt=1000.0)
    parent = record_sweep(client, experiment_id, "retried-1", [trial, Trial(seeds(0.7), alpha=0)])
    client.update_run(parent, status="RUNNING")
    cache = Cache(tmp_path / "cache")
    read_runs("retried", store, cache=cache)
    better = trial._replace(seeds=seeds(0.95), attempt=2000.0)
    record_trial(client, experiment_id, "retried-1", parent, better)
    found = read_runs("retried", store, cache=cache).trials
    assert sorted(found["seed_test_accuracy"]) == [0.7, 0.95]


def test_a_sweep_that_has_ended_in_between_is_read_whole(
    store: str, experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a store that was away got late has ended long before what is known already."""
    client, experiment_id = experiment("late")
    parent = record_sweep(client, experiment_id, "late-1", [Trial(seeds(0.9))])
    client.update_run(parent, status="RUNNING")
    cache = Cache(tmp_path / "cache")
    read_runs("late", store, cache=cache)
    late = record_trial(client, experiment_id, "late-1", parent, Trial(seeds(0.8), alpha=0.9))
    client.set_terminated(late, end_time=1000)
    assert read_runs("late", store, cache=cache).trials["trial_id"].nunique() == 1
    client.set_terminated(parent)
    assert read_runs("late", store, cache=cache).trials["trial_id"].nunique() == 2


def test_a_damaged_cache_is_as_if_there_were_none(
    store: str, experiment: Make, tmp_path: Path
) -> None:
    record_sweep(*experiment("damaged-cache"), "damaged-cache-1", [Trial(seeds(0.9))])
    cache = Cache(tmp_path)
    first = read_runs("damaged-cache", store, cache=cache)
    (tmp_path / "damaged-cache-1.runs.parquet").write_bytes(b"no Parquet")
    (tmp_path / "damaged-cache-1.curves.parquet").write_bytes(b"no Parquet")
    again = read_runs("damaged-cache", store, cache=cache)
    assert len(again.trials) == len(first.trials)
    assert read_curves(again, store, set(again.trials["trial_id"]), cache).empty


def test_curves_are_read_once(
    store: str, experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = ((0, 0, "valid_accuracy", 0.5), (0, 10, "valid_accuracy", None))
    trials = [Trial(seeds(0.9), alpha=0.1 * n, curves=points) for n in range(2)]
    record_sweep(*experiment("curves-once"), "curves-once-1", trials)
    cache = Cache(tmp_path)
    runs = read_runs("curves-once", store, cache=cache)
    one, two = (trial.trial_id for trial in trials)
    first = read_curves(runs, store, {one}, cache)
    assert list(first["step"]) == [0, 10] and len(read_curves(runs, store, {one, two}, cache)) == 4
    monkeypatch.setattr(MlflowClient, "download_artifacts", None)
    pd.testing.assert_frame_equal(
        read_curves(runs, store, {one}, cache).reset_index(drop=True),
        first.reset_index(drop=True), check_dtype=False,
    )  # fmt: skip


def test_the_latest_sweep_of_each_mode_is_read_and_quick_ones_only_for_want_of_others(
    store: str, experiment: Make
) -> None:
    client, experiment_id = experiment("modes")
    trials = [Trial(seeds(0.9))]
    for sweep_id, mode, quick in (
        ("m-1", "sensitivity", "false"), ("m-2", "sensitivity", "true"), ("m-3", "grid", "true"),
    ):  # fmt: skip
        record_sweep(client, experiment_id, sweep_id, trials, mode=mode, quick=quick)
    record_sweep(client, experiment_id, "m-4", [], mode="sobol")
    found = [runs.sweep.sweep_id for runs in read_latest("modes", store)]
    assert sorted(found) == ["m-1", "m-3"]
    with pytest.raises(RunsError, match="'empty' has no sweep"):
        read_latest("empty", store)


def test_a_store_of_another_tool_is_one_sentence_and_stays_as_it_is(tmp_path: Path) -> None:
    other = tmp_path / "optuna.db"
    with closing(sqlite3.connect(other)) as store:
        store.execute("CREATE TABLE studies (study_id INTEGER)")
        store.commit()
    before = other.read_bytes()
    with pytest.raises(RunsError, match=r"optuna\.db is no MLflow store"):
        read_runs("mnist", f"sqlite:///{other}")
    assert other.read_bytes() == before
    text = tmp_path / "notes.db"
    text.write_text("no database " * 100)
    with pytest.raises(RunsError, match=r"notes\.db cannot be read as a SQLite store"):
        read_runs("mnist", f"sqlite:///{text}")


def test_a_fetched_folder_has_its_curves_beside_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Artifacts keep the address that they had on the machine that made them."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    monkeypatch.chdir(there)
    client = MlflowClient(tracking_uri=f"sqlite:///{there}/mlflow.db")
    experiment_id = client.create_experiment("fetched", (there / "mlruns" / "1").as_uri())
    trial = Trial(seeds(0.9), curves=((0, 0, "valid_accuracy", 0.5),))
    record_sweep(client, experiment_id, "fetched-1", [trial])
    assert experiment_id == "1"
    there.rename(here)
    uri = f"sqlite:///{here}/mlflow.db"
    runs = read_runs("fetched", uri)
    assert list(read_curves(runs, uri, {trial.trial_id})["value"]) == [0.5]
