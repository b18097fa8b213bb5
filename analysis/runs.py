"""The only reader of MLflow: one sweep's runs as tidy frames, curves and images of its trials.

Reading runs costs two small queries and one page per thousand trials of the sweep, however many
other sweeps the store holds. Curves and images are a file a trial: only those wanted are read.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from analysis import columns as c
from analysis.frames import (
    SCHEMA,
    SWEEP_KEY,
    Runs,
    RunsError,
    Sweep,
    tau_label,
    tidy,
    write_runs,
)

__all__ = [
    "SCHEMA", "SWEEP_KEY", "Runs", "RunsError", "Sweep", "read_curves", "read_images", "read_runs",
    "tau_label", "tidy", "write_runs",
]  # fmt: skip

CURVE_COLUMNS: Final = [c.TRIAL_ID, *c.CURVE_COLUMNS]
IMAGE_COLUMNS: Final = [c.TRIAL_ID, *c.IMAGE_COLUMNS]
PAGE_SIZE: Final = 1000
SWEEPS_LISTED: Final = 8
SWEEP_ID_PATTERN: Final = re.compile(r"[\w.-]+")


def read_runs(experiment: str, tracking_uri: str, sweep_id: str | None = None) -> Runs:
    """Return one sweep's runs, by default of the most recently started sweep that has trials.

    Raises:
        RunsError: If the store, the experiment, the sweep or its trials are missing, or the store
            cannot be read.
    """
    _require_store(experiment, tracking_uri)
    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        experiment_id = _experiment_id(client, experiment)
        parent = _parent_run(client, experiment, experiment_id, sweep_id)
        sweep = _sweep(experiment, parent)
        trials = list(_search(client, experiment_id, _trials_filter(sweep.sweep_id)))
    except MlflowException as error:
        reason = str(error).strip().splitlines()[0]
        raise RunsError(f"cannot read runs from {tracking_uri!r}: {reason}") from error
    # A trial that was retried has several runs: the last to start is the one that counts.
    latest = {_trial_id(run): run for run in sorted(trials, key=_started)}
    records = [record for run in latest.values() for record in _records(run)]
    runs = tidy(sweep, records)
    if runs.trials.empty:
        why = "none but superseded trials" if records else "no trial that ended yet"
        raise RunsError(
            f"sweep {sweep.sweep_id!r} has {why}; "
            "wait for its first one, or name another with --sweep"
        )
    return runs


def read_curves(runs: Runs, tracking_uri: str, trial_ids: Collection[str]) -> pd.DataFrame:
    """Return the curves of some trials: trial_id, seed, step, metric, value.

    Args:
        runs: What `read_runs` returned.
        tracking_uri: The store they were read from.
        trial_ids: The trials wanted. One that has no curves, since it failed before its first
            evaluation, has no record.

    Raises:
        RunsError: If the store or a file of curves cannot be read.
    """
    return _read_files(runs, tracking_uri, trial_ids, c.CURVES_FILE, CURVE_COLUMNS)


def read_images(runs: Runs, tracking_uri: str, trial_ids: Collection[str]) -> pd.DataFrame:
    """Return the test scores of some tag trials image by image: trial_id, seed, image_id, a column
    a metric.

    Args:
        runs: What `read_runs` returned.
        tracking_uri: The store they were read from.
        trial_ids: The trials wanted. One that did not finish has no record.

    Raises:
        RunsError: If the store or a file of images cannot be read.
    """
    return _read_files(runs, tracking_uri, trial_ids, c.IMAGES_FILE, IMAGE_COLUMNS)


def _read_files(
    runs: Runs,
    tracking_uri: str,
    trial_ids: Collection[str],
    file: str,
    columns: Sequence[str],
) -> pd.DataFrame:
    """Return the records of an artifact of some trials; a trial that lacks it has none."""
    wanted = runs.trials[runs.trials[c.TRIAL_ID].isin(set(trial_ids))].sort_values(c.STARTED)
    run_ids = dict(zip(wanted[c.TRIAL_ID], wanted[c.RUN_ID], strict=True))
    client = MlflowClient(tracking_uri=tracking_uri)
    frames = [pd.DataFrame(columns=columns)]
    try:
        for trial_id, run_id in run_ids.items():
            if file not in {found.path for found in client.list_artifacts(run_id)}:
                continue
            with tempfile.TemporaryDirectory() as folder:
                path = client.download_artifacts(run_id, file, folder)
                frames.append(pd.read_parquet(path).assign(**{c.TRIAL_ID: trial_id})[columns])
    except (MlflowException, OSError, ValueError, KeyError) as error:  # pyarrow's are ValueErrors
        reason = str(error).strip().splitlines()[0]
        raise RunsError(
            f"cannot read {file} of trial {trial_id!r} from {tracking_uri!r}: {reason}"
        ) from error
    if len(frames) > 1:
        frames = frames[1:]
    return pd.concat(frames, ignore_index=True)


def _require_store(experiment: str, tracking_uri: str) -> None:
    """Raise if a SQLite store is absent: opening it would create it."""
    if not tracking_uri.startswith("sqlite:///"):
        return
    path = Path(unquote(tracking_uri.removeprefix("sqlite:///").partition("?")[0]))
    if not path.is_file() or path.stat().st_size == 0:
        raise RunsError(f"no runs at {path}; run: python sweeps/run.py {experiment} first")


def _experiment_id(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "active":
        return str(found.experiment_id)
    names = sorted(known.name for known in client.search_experiments())
    raise RunsError(f"no experiment {name!r} in the store; it has {', '.join(names) or 'none'}")


def _search(
    client: MlflowClient, experiment_id: str, filter_string: str, order: str = "ASC"
) -> Iterator[Run]:
    """Yield every matching run by start time, a page at a time."""
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string,
            max_results=PAGE_SIZE,
            order_by=[f"attributes.start_time {order}"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _trials_filter(sweep_id: str) -> str:
    """Return the filter for a sweep's trials that have ended and are recorded to the last metric.

    The recorder ends a run after writing it, so a run that still runs may lack its metrics.
    """
    return (
        f"tags.{c.SWEEP_ID} = '{sweep_id}' and tags.`{c.KIND}` = '{c.KIND_TRIAL}' "
        f"and tags.{c.OUTCOME} LIKE '%' and attributes.status != 'RUNNING'"
    )


def _parent_run(
    client: MlflowClient, experiment: str, experiment_id: str, sweep_id: str | None
) -> Run:
    """Return the parent run of `sweep_id`, or of the latest sweep with a trial."""
    parents = f"tags.`{c.KIND}` = '{c.KIND_SWEEP}'"
    if sweep_id is not None and SWEEP_ID_PATTERN.fullmatch(sweep_id):
        wanted = f"{parents} and tags.{c.SWEEP_ID} = '{sweep_id}'"
        for parent in _search(client, experiment_id, wanted, "DESC"):
            return parent
    seen: list[str] = []
    for parent in _search(client, experiment_id, parents, "DESC"):
        seen.append(parent.data.tags.get(c.SWEEP_ID, "unnamed"))
        if sweep_id is not None:
            continue
        if client.search_runs([experiment_id], _trials_filter(seen[-1]), max_results=1):
            return parent
    if not seen:
        raise RunsError(
            f"experiment {experiment!r} has no sweep; run: python sweeps/run.py {experiment} first"
        )
    if sweep_id is None:
        raise RunsError(
            f"no sweep of experiment {experiment!r} has a trial that ended yet "
            f"(latest sweep: {seen[0]}); wait for its first one"
        )
    more = ", ..." if len(seen) > SWEEPS_LISTED else ""
    raise RunsError(
        f"no sweep {sweep_id!r} in experiment {experiment!r}; "
        f"it has {', '.join(seen[:SWEEPS_LISTED])}{more}"
    )


def _sweep(experiment: str, parent: Run) -> Sweep:
    tags = parent.data.tags
    planned = tags.get(c.PLANNED_TRIALS, "")
    return Sweep(
        experiment=experiment,
        sweep_id=tags.get(c.SWEEP_ID, "unnamed"),
        run_id=parent.info.run_id,
        commit=tags.get(c.COMMIT, "unknown"),
        dirty=tags.get(c.DIRTY) == "true",
        command=tags.get(c.COMMAND, ""),
        mode=tags.get(c.MODE, ""),
        quick=tags.get(c.QUICK) == "true",
        plan_hash=tags.get(c.PLAN_HASH, ""),
        planned_trials=int(planned) if planned.isdigit() else None,
        has_ended=parent.info.status != "RUNNING",
    )


def _trial_id(run: Run) -> str:
    return str(run.data.tags.get(c.TRIAL_ID, run.info.run_id))


def _started(run: Run) -> int:
    """Return when the attempt that a run holds started, in milliseconds since the epoch.

    A trial that is retried may keep its run, whose own start is then that of the first attempt.
    """
    text = run.data.tags.get(c.ATTEMPT)
    if text is None:
        return int(run.info.start_time)
    try:
        return round(1000 * float(text))
    except (ValueError, OverflowError) as error:
        where = f"trial {_trial_id(run)!r}"
        raise RunsError(f"{where} has {c.ATTEMPT}={text!r}, which is not a time") from error


def _records(run: Run) -> Iterator[dict[str, Any]]:
    """Yield one record per seed of a trial, including seeds that have no score."""
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    where = f"trial {tags.get(c.TRIAL_ID)!r}"
    outcomes = _json(tags.get(c.SEED_OUTCOMES, "{}"), dict, where, c.SEED_OUTCOMES)
    seeds = _json(params.get(c.SEEDS, "[]"), list, where, c.SEEDS)
    if c.TRAIN_SIZE not in params or not (seeds or outcomes):
        raise RunsError(f"{where} has no {c.TRAIN_SIZE} or no {c.SEEDS}; record the sweep again")
    trial: dict[str, Any] = {
        c.SWEEP_ID: tags[c.SWEEP_ID],
        c.TRIAL_ID: _trial_id(run),
        c.CELL_ID: tags.get(c.CELL_ID, _trial_id(run)),
        c.RUN_ID: run.info.run_id,
        c.STARTED: _started(run),
        c.OUTCOME: tags[c.OUTCOME],
        c.ERROR: tags.get(c.ERROR),
        c.ROWS: _json(tags.get(c.ROWS, "[]"), list, where, c.ROWS),
        **{name: _param(name, params.get(name), where) for name in c.PARAMS if name in c.COLUMNS},
        **{name: _finite(metrics.get(name)) for name in c.METRICS},
    }
    kind, start, end = (params.get(name) for name in (c.TAU_KIND, c.TAU_START, c.TAU_END))
    if kind and start and end:
        trial[c.TAU] = tau_label(kind, float(start), float(end))
    for seed in sorted({int(seed) for seed in [*seeds, *outcomes]}):
        yield {
            **trial,
            c.SEED: seed,
            c.SEED_OUTCOME: outcomes.get(str(seed), tags[c.OUTCOME]),
            **{
                c.SEED_PREFIX + name: _finite(metrics.get(c.seed_metric(name, seed)))
                for name in c.SEED_METRICS
            },
        }


def _param(name: str, text: str | None, where: str) -> object:
    """Return a parameter in its column's type, None where the method has no such knob."""
    if text is None or text == "None":
        return None
    arrow = c.COLUMNS[name].arrow
    try:
        return {"int64": int, "float64": float, "string": str}[arrow](text)
    except ValueError as error:
        raise RunsError(f"{where} has {name}={text!r}, which is not {arrow}") from error


def _json(text: str, shape: type, where: str, name: str) -> Any:
    """Return a JSON value that must have `shape`."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, shape):
        raise RunsError(f"{where} has {name}={text!r}, which is not a JSON {shape.__name__}")
    return value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
