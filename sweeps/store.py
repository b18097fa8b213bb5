"""The only writer of MLflow: a sweep's runs in a tracking store.

One parent run per sweep, one nested run per trial, found again by their tags. Writing is
idempotent: names, times and steps are the spool's, a run that is complete is not written again,
and one that was cut short is completed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import filelock

from sweeps.courier import LOCAL_SECONDS
from sweeps.plan import Row
from sweeps.run_facts import (
    OPTIONAL_TAGS,
    result_time,
    run_label,
    trial_curves,
    trial_metrics,
    trial_params,
    trial_tags,
)  # fmt: skip
from sweeps.spool import SpoolState

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LONGEST_TAG = 8000  # characters, MLflow's limit
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the recorder tries again by itself
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; MLflow's 120 would hide a hung server
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a request and two lines of output a trial
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a sweep talks to its store only
}


class _Recorded(NamedTuple):
    """A trial's run as it stands in the store."""

    run_id: str
    artifacts: str
    status: str  # RUNNING until all of it is written
    ended: int | None  # milliseconds since the epoch
    tags: Mapping[str, str]
    has_metrics: bool

    @classmethod
    def of(cls, run: Run) -> _Recorded:
        info, data = run.info, run.data
        return cls(
            info.run_id, info.artifact_uri, info.status, info.end_time, dict(data.tags),
            bool(data.metrics),
        )  # fmt: skip

    def holds(self, tags: Mapping[str, str], ended: int) -> bool:
        """Whether the run is of this very result, or was going to be."""
        return (
            self.tags.get("attempt") == tags.get("attempt")
            and self.tags.get("outcome") == tags["outcome"]
            and (self.status == "RUNNING" or self.ended == ended)
        )


class Store:
    """One sweep's runs in an MLflow store. Every method may raise whatever the store raises; then
    a new object must take over, since a write that raised may have been stored."""

    def __init__(
        self, client: MlflowClient, tracking_uri: str, experiment: str, sweep_id: str
    ) -> None:
        """Finds the experiment, or makes it, and the sweep's runs."""
        self._client, self._uri, self._sweep_id = client, tracking_uri, sweep_id
        self._experiment_id = self._find_experiment(experiment)
        parents: list[_Recorded] = []
        trials: dict[str, list[_Recorded]] = {}
        for run in map(_Recorded.of, self._search()):
            if run.tags.get("kdgan.kind") == "sweep":
                parents.append(run)
            elif "trial_id" in run.tags:
                trials.setdefault(run.tags["trial_id"], []).append(run)
        self._trials = {trial_id: self._one_of(runs) for trial_id, runs in trials.items()}
        children = [run.tags.get("mlflow.parentRunId") for run in self._trials.values()]
        parents.sort(key=lambda run: -children.count(run.run_id))
        self._parent = self._one_of(parents) if parents else None

    def _find_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:
                found = self._client.get_experiment_by_name(name)
                if found is None:  # so it was not another process that has just made it
                    raise
        return str(found.experiment_id)

    def _search(self) -> list[Run]:
        """All runs of the sweep, the oldest first."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], f"tags.sweep_id = '{self._sweep_id}'", max_results=1000,
                order_by=["attributes.start_time ASC"], page_token=token,
            )  # fmt: skip
            runs += page
            token = page.token
            if not token:
                return runs

    def _one_of(self, runs: Sequence[_Recorded]) -> _Recorded:
        """The run to keep. Others, of requests that were given up but arrived, are deleted."""
        kept = next((run for run in runs if run.status != "RUNNING"), runs[0])
        for run in runs:
            if run is not kept:
                self._client.delete_run(run.run_id)
        return kept

    def begin(self, facts: Mapping[str, str], span: tuple[float, float] | None) -> str:
        """The parent's run id. It is made if need be, and has these facts as tags."""
        tags = {name: _fitting(value) for name, value in facts.items()}
        tags |= {"kdgan.kind": "sweep", "sweep_id": self._sweep_id}
        if self._parent is None:
            started = round(1000 * (span[0] if span else time.time()))
            self._parent = self._create(started, tags, self._sweep_id)
        else:
            self._set_tags(self._parent, tags)
            if span is None and self._parent.status != "RUNNING":
                self._client.update_run(self._parent.run_id, status="RUNNING")
                self._parent = self._parent._replace(status="RUNNING")
        return self._parent.run_id

    def end(self, status: str, planned_trials: int, at: float) -> None:
        """Ends the parent, unless it has ended so before."""
        assert self._parent is not None
        facts = {"planned_trials": str(planned_trials), "recorded": self._recorded()}
        self._set_tags(self._parent, facts)
        if self._parent.status != status:
            self._client.set_terminated(self._parent.run_id, status, end_time=round(1000 * at))

    def _recorded(self) -> str:
        """How many trials are in the store, and a hash of what they are: whoever has read the
        sweep before sees whether something has changed since, also after a backfill."""
        lines = sorted(
            f"{trial_id} {run.ended} {run.tags.get('attempt')} {run.tags.get('rows')}"
            for trial_id, run in self._trials.items()
            if run.status != "RUNNING"
        )
        return f"{len(lines)} {hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:12]}"

    def record(
        self, trial_id: str, rows: Sequence[Row], state: SpoolState,
        details: Mapping[str, Path] | None = None,
    ) -> bool:  # fmt: skip
        """Brings a trial's run up to date; whether the result was not in the store before.

        A trial that the plan no longer holds gets no run, but keeps the one that it has.
        """
        run = self._trials.get(trial_id)
        superseded = all(row.role == "superseded" for row in rows)
        if run is None and superseded:
            return False
        assert self._parent is not None
        tags = trial_tags(trial_id, rows, state)
        tags |= {"mlflow.parentRunId": self._parent.run_id, "sweep_id": self._sweep_id}
        if run is not None:
            same = run.holds(tags, result_time(state))
            if run.status != "RUNNING" and (same or superseded):
                self._trials[trial_id] = self._set_tags(run, tags)
                return False
            if run.has_metrics and not same:  # another attempt's, whose points would stay
                self._client.delete_run(run.run_id)
                run = None
        self._trials[trial_id] = self._write(run, trial_id, rows, state, tags, details or {})
        return True

    def _write(
        self, run: _Recorded | None, trial_id: str, rows: Sequence[Row], state: SpoolState,
        tags: Mapping[str, str], details: Mapping[str, Path],
    ) -> _Recorded:  # fmt: skip
        """Writes a trial's result, to a new run if there is none."""
        from mlflow.entities import Metric, Param

        metrics = [Metric(*point) for point in trial_metrics(state)]
        params = [Param(name, value) for name, value in trial_params(rows[0].config).items()]
        ended = result_time(state)
        if run is None:
            started = ended if state.started is None else round(1000 * state.started)
            run = self._create(started, tags, f"{run_label(rows)} {trial_id}")
        else:
            for gone in run.tags.keys() & set(OPTIONAL_TAGS) - tags.keys():
                self._client.delete_tag(run.run_id, gone)
            self._set_tags(run, tags)
        self._client.log_batch(run.run_id, metrics=metrics, params=params)
        self._log_files(run, state, details)
        status = "FAILED" if state.outcome == "failed" else "FINISHED"
        self._client.set_terminated(run.run_id, status, end_time=ended)
        return run._replace(status=status, ended=ended, tags=dict(tags), has_metrics=bool(metrics))

    def _log_files(self, run: _Recorded, state: SpoolState, details: Mapping[str, Path]) -> None:
        """Artifacts: curves.parquet (seed, step, metric, value of every evaluation), and what the
        trial says of single images."""
        import pyarrow.parquet as pq
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        table = trial_curves(state)
        if table is None and not details:
            return
        # The client's own log_artifact would first ask the store where to put it.
        repository = get_artifact_repository(run.artifacts, tracking_uri=self._uri)
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: Path(folder) / name for name in details}
            for name, path in paths.items():
                shutil.copyfile(details[name], path)
            if table is not None:
                paths["curves"] = Path(folder) / "curves.parquet"
                pq.write_table(table, paths["curves"])
            for path in paths.values():
                repository.log_artifact(str(path))  # type: ignore[no-untyped-call]

    def _create(self, started: int, tags: Mapping[str, str], name: str) -> _Recorded:
        run = self._client.create_run(
            self._experiment_id, start_time=started, tags=dict(tags), run_name=name
        )
        return _Recorded.of(run)

    def _set_tags(self, run: _Recorded, tags: Mapping[str, str]) -> _Recorded:
        """The run with these tags; nothing is written where it has them."""
        if tags.items() <= run.tags.items():
            return run
        from mlflow.entities import RunTag

        self._client.log_batch(run.run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        return run._replace(tags={**run.tags, **tags})


def open_store(tracking_uri: str) -> MlflowClient:
    """A client of the store; a sqlite file then exists and is migrated.

    Processes that migrate a fresh file at the same time would die of it: one at a time does.

    Raises:
        filelock.Timeout: another process has been making it for minutes.
    """
    from mlflow import MlflowClient

    if not is_sqlite(tracking_uri):
        return MlflowClient(tracking_uri)
    path = Path(tracking_uri.removeprefix("sqlite:///").partition("?")[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCAL_SECONDS):
        return MlflowClient(tracking_uri)


def quiet_mlflow() -> None:
    """Imports MLflow so that a dead server costs seconds, and nothing is printed or sent home.

    What the user has set is left.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401

    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # the recorder says what is wrong


def is_sqlite(tracking_uri: str) -> bool:
    """Whether the store is a sqlite file."""
    return tracking_uri.startswith("sqlite:///")


def _fitting(text: str) -> str:
    return text if len(text) <= LONGEST_TAG else text[: LONGEST_TAG - 4] + " ..."
