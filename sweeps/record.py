"""The only writer of MLflow: turns ended trials' spools into runs, in a thread of the driver.

One parent run per sweep, one nested run per trial, the trial's metrics in one request. Writing is
idempotent: a trial's run is found by its tags, and a run that is complete is not written again.
No trial and no search waits for it; a tracking server that is away costs its own absence, and the
same command later records what is missing.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.stats import t_interval
from kdgan_core.config import TrialConfig
from sweeps.plan import Row
from sweeps.spool import SpoolState, read_spool, spool_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

SEED_METRICS = (
    "test_accuracy", "best_valid_accuracy", "last_valid_accuracy", "pretrained_valid_accuracy",
    "best_step",
)  # fmt: skip
SUMMARISED = ("test_accuracy", "best_valid_accuracy")
METRICS_PER_REQUEST = 1000  # MLflow's limit of one log_batch


class Recorded(NamedTuple):
    """A trial's run as it stands in the store."""

    run_id: str
    status: str
    tags: Mapping[str, str]


class Recorder:
    """Records a sweep in a background thread.

    Attributes:
        error: why recording stopped, None while all is well.
        parent_id: the parent's MLflow run id once it is known.
    """

    def __init__(self, tracking_uri: str, experiment: str, sweep_id: str, spool: Path) -> None:
        """Does not touch the tracking store yet; `start` does, in the thread.

        Args:
            tracking_uri: of the store or server.
            experiment: MLflow experiment, made if absent.
            sweep_id: name of the parent run, and tag of all runs.
            spool: folder of the spool files.
        """
        self.tracking_uri, self.experiment, self.sweep_id = tracking_uri, experiment, sweep_id
        self.spool = spool
        self.error: str | None = None
        self.parent_id: str | None = None
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._recorded: dict[str, Recorded] = {}
        self._queue: queue.Queue[tuple[str, Sequence[Row]] | None] = queue.Queue()
        self._facts: Mapping[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self, facts: Mapping[str, str]) -> None:
        """Opens the store in the thread and goes on with what is queued; facts: parent's tags."""
        self._facts = dict(facts)
        self._thread.start()

    def trial_ended(self, trial_id: str, rows: Sequence[Row]) -> None:
        """Queues a trial whose spool has a result, or whose rows have changed."""
        self._queue.put((trial_id, tuple(rows)))

    def close(self, status: str, planned_trials: int, timeout_seconds: float) -> bool:
        """Ends the parent run after all that is queued; False if that was not done in time.

        Args:
            status: FINISHED, FAILED or KILLED.
            planned_trials: trials in the plan.
            timeout_seconds: how long to wait.
        """
        self._final = (status, planned_trials)
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive() and self.error is None

    @property
    def left(self) -> int:
        """Trials still queued."""
        return self._queue.qsize()

    def _run(self) -> None:
        try:
            self._open()
            while (item := self._queue.get()) is not None:
                self._record(*item)
            status, planned = self._final
            self._set_parent_tags({"planned_trials": str(planned)})
            self._terminate(self.parent_id, status)
        except (
            Exception
        ) as error:  # whatever it is: recording ends, the sweep and its spools go on
            reason = str(error).strip() or "no reason given"
            self.error = f"{type(error).__name__}: {reason.splitlines()[0]}"

    def _open(self) -> None:
        """Finds or makes the experiment, the parent run, and the runs recorded before."""
        limit_http_retries()
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        from mlflow import MlflowClient

        self._client = client = MlflowClient(self.tracking_uri)
        found = client.get_experiment_by_name(self.experiment)
        self._experiment_id = (
            found.experiment_id if found is not None else client.create_experiment(self.experiment)
        )
        parents = self._search("sweep")
        if parents:
            self.parent_id = parents[0].info.run_id
            client.update_run(self.parent_id, status="RUNNING")
        else:
            tags = {"kdgan.kind": "sweep", "sweep_id": self.sweep_id}
            run = client.create_run(self._experiment_id, run_name=self.sweep_id, tags=tags)
            self.parent_id = run.info.run_id
        self._set_parent_tags(self._facts)
        for run in self._search("trial"):
            known = Recorded(run.info.run_id, run.info.status, dict(run.data.tags))
            self._recorded[run.data.tags["trial_id"]] = known

    def _search(self, kind: str) -> list[Any]:
        assert self._client is not None
        query = f"tags.`kdgan.kind` = '{kind}' AND tags.sweep_id = '{self.sweep_id}'"
        runs: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], query, max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _set_parent_tags(self, tags: Mapping[str, str]) -> None:
        assert self._client is not None and self.parent_id is not None
        from mlflow.entities import RunTag

        self._client.log_batch(self.parent_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def _terminate(self, run_id: str | None, status: str) -> None:
        assert self._client is not None and run_id is not None
        self._client.set_terminated(run_id, status)

    def _record(self, trial_id: str, rows: Sequence[Row]) -> None:
        """Writes one trial's run, or only its tags if its result is there already."""
        assert self._client is not None
        from mlflow.entities import Param, RunTag

        config = rows[0].config
        state = read_spool(spool_path(self.spool, trial_id))
        tags = {k: str(v) for k, v in trial_tags(trial_id, rows, state).items()}
        known = self._recorded.get(trial_id)
        if known is None:
            tags |= {"mlflow.parentRunId": str(self.parent_id), "sweep_id": self.sweep_id}
            name = f"{run_label(rows)} {trial_id}"
            started = int(1000 * (state.started or time.time()))
            run = self._client.create_run(
                self._experiment_id, start_time=started, tags=tags, run_name=name
            )
            run_id = run.info.run_id
        else:
            run_id = known.run_id
            if known.status != "RUNNING" and known.tags.get("outcome") == tags["outcome"]:
                if not tags.items() <= known.tags.items():
                    self._client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
                return
            if "error" in known.tags and "error" not in tags:  # it failed before
                self._client.delete_tag(run_id, "error")
        params = [Param(k, v) for k, v in trial_params(config).items()]
        # A failed trial has no metrics: it may be run again, and then they are the new attempt's.
        metrics = [] if state.outcome == "failed" else list(trial_metrics(state))
        for start in range(0, max(1, len(metrics)), METRICS_PER_REQUEST):
            self._client.log_batch(
                run_id,
                metrics=metrics[start : start + METRICS_PER_REQUEST],
                params=params if start == 0 else [],
                tags=[RunTag(k, v) for k, v in tags.items()] if start == 0 else [],
            )
        self._log_curves(run_id, state)
        status = "FAILED" if state.outcome == "failed" else "FINISHED"
        self._terminate(run_id, status)
        self._recorded[trial_id] = Recorded(run_id, status, tags)

    def _log_curves(self, run_id: str, state: SpoolState) -> None:
        """Artifact curves.parquet: seed, step, metric, value of every evaluation."""
        assert self._client is not None
        import pyarrow as pa
        import pyarrow.parquet as pq

        points = [
            (int(seed), evaluation["step"], metric, value)
            for evaluation in state.evaluations
            for seed, metrics in evaluation["metrics"].items()
            for metric, value in metrics.items()
        ]
        if not points:
            return
        schema = pa.schema(
            [("seed", pa.int32()), ("step", pa.int64()), ("metric", pa.string()),
             ("value", pa.float64())]
        )  # fmt: skip
        columns = [list(column) for column in zip(*points, strict=True)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "curves.parquet"
            pq.write_table(pa.table(columns, schema=schema), path)
            self._client.log_artifact(run_id, str(path))


def limit_http_retries() -> None:
    """Makes a dead tracking server fail in seconds, not in MLflow's default of minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


def trial_tags(trial_id: str, rows: Sequence[Row], state: SpoolState) -> dict[str, str]:
    """Tags of a trial's run, but for its parent and sweep."""
    most_telling = max(rows, key=lambda row: row.role != "search")
    reasons = [{"role": r.role, "factor": r.factor, "level": r.level} for r in rows]
    seeds = state.result["seeds"] if state.result else []
    tags = {
        "kdgan.kind": "trial",
        "trial_id": trial_id,
        "role": most_telling.role,
        "factor": most_telling.factor,
        "level": most_telling.level,
        "rows": json.dumps(reasons, ensure_ascii=False),
        "outcome": state.outcome or "failed",
        "seed_outcomes": json.dumps({str(seed["seed"]): seed["outcome"] for seed in seeds}),
    }
    if state.result and "traceback" in state.result:
        tags["error"] = state.result["traceback"].strip().splitlines()[-1][:1000]
    return tags


def trial_params(config: TrialConfig) -> dict[str, str]:
    """Params of a trial's run: every config field, and beta and gamma as logarithms too."""
    params = {
        name: json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in config.as_dict().items()
    }
    params["log10_beta"] = f"{math.log10(config.beta):.6g}"
    params["log10_gamma"] = f"{math.log10(config.gamma):.6g}"
    return params


def run_label(rows: Sequence[Row]) -> str:
    """A run's name in the MLflow UI, such as 'n=100 alpha=0.5'."""
    row = max(rows, key=lambda one: one.role != "search")
    what = f"{row.factor}={row.level}" if row.factor else row.role
    return f"n={row.config.train_size} {what}"


def trial_metrics(state: SpoolState) -> Iterable[Metric]:
    """Metrics of a trial's run: final ones, each seed's, and the histories (means over seeds)."""
    from mlflow.entities import Metric

    result = state.result or {"seeds": []}
    now = int(1000 * result.get("time", time.time()))
    last = int(result.get("step", 0))
    for name, value in final_metrics(result).items():
        yield Metric(name, value, now, last)
    for evaluation in state.evaluations:
        at, step = int(1000 * evaluation["time"]), int(evaluation["step"])
        yield Metric("tau", evaluation["tau"], at, step)
        for name, value in _means(evaluation["metrics"].values()).items():
            yield Metric(name, value, at, step)


def final_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Name -> value of what a trial ends with: summaries over seeds, then each seed's scores.

    Seeds without a score (diverged) are not in the means; `_n` says how many are.
    """
    metrics: dict[str, float] = {}
    if "seconds" in result:
        metrics["seconds"] = result["seconds"]
    for name in SUMMARISED:
        values = [seed[name] for seed in result["seeds"] if seed[name] is not None]
        if not values:
            continue
        interval = t_interval(values)
        metrics |= {name: interval.mean, f"{name}_n": float(interval.n)}
        if interval.n > 1:
            metrics[f"{name}_std"] = interval.std
            metrics |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    for seed in result["seeds"]:
        for name in SEED_METRICS:
            if seed[name] is not None:
                metrics[f"{name}/seed_{seed['seed']}"] = float(seed[name])
    return metrics


def _means(seeds: Iterable[Mapping[str, float | None]]) -> dict[str, float]:
    """Mean over the seeds that have a finite value, for every metric."""
    gathered: dict[str, list[float]] = {}
    for metrics in seeds:
        for name, value in metrics.items():
            if value is not None:
                gathered.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in gathered.items()}
