"""The only reader of MLflow: sweeps' runs as tidy frames, curves and images of their trials.

Reading runs costs two small queries and one page per thousand trials of the sweep, however many
other sweeps the store holds. With a cache, a sweep that has ended and not changed since costs the
two queries alone, and one that runs only its new trials besides. Curves and images are a file a
trial: only those wanted are read, and curves only once.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from analysis import columns as c
from analysis.cache import Cache
from analysis.frames import (
    SCHEMA,
    SWEEP_KEY,
    Runs,
    RunsError,
    Sweep,
    tau_label,
    tidy,
    updated,
    write_runs,
)
from analysis.records import Recorded, seed_records, started
from analysis.stores import beside, require_store

__all__ = [
    "SCHEMA", "SWEEP_KEY", "Runs", "RunsError", "Sweep", "read_curves", "read_images",
    "read_latest", "read_runs", "tau_label", "tidy", "write_runs",
]  # fmt: skip

CURVE_COLUMNS: Final = [c.TRIAL_ID, *c.CURVE_COLUMNS]
IMAGE_COLUMNS: Final = [c.TRIAL_ID, *c.IMAGE_COLUMNS]
PARENTS: Final = f"tags.`{c.KIND}` = '{c.KIND_SWEEP}'"
PAGE_SIZE: Final = 1000
REPORT_FOLDER: Final = "report"
OVERLAP_MILLISECONDS: Final = 600_000  # trials of several nodes are recorded a little out of order
SWEEPS_LISTED: Final = 8
SWEEP_ID_PATTERN: Final = re.compile(r"[\w.-]+")


def read_runs(
    experiment: str, tracking_uri: str, sweep_id: str | None = None, cache: Cache | None = None
) -> Runs:
    """Return one sweep's runs, by default of the most recently started sweep that has trials.

    Args:
        experiment: Its name.
        tracking_uri: The store.
        sweep_id: The sweep wanted.
        cache: Holds what was read before, and gets what is read now.

    Raises:
        RunsError: If the store, the experiment, the sweep or its trials are missing, or the store
            cannot be read.
    """
    with _opened(experiment, tracking_uri) as (client, experiment_id):
        parent = _parent_run(client, experiment, experiment_id, sweep_id)
        return _read(client, experiment, experiment_id, parent, cache)


def read_latest(experiment: str, tracking_uri: str, cache: Cache | None = None) -> list[Runs]:
    """Return the latest sweep of each mode that has trials, the most recently started first.

    A quick sweep is only rehearsal: it is returned where its mode has no other.

    Raises:
        RunsError: As `read_runs` does.
    """
    with _opened(experiment, tracking_uri) as (client, experiment_id):
        latest: dict[str, Run] = {}
        for parent in _search(client, experiment_id, PARENTS, "DESC"):
            tags = parent.data.tags
            mode = tags.get(c.MODE, "")
            held = latest.get(mode)
            is_better = held is None or (_is_quick(held) and not _is_quick(parent))
            if is_better and _has_trials(client, experiment_id, tags.get(c.SWEEP_ID, "unnamed")):
                latest[mode] = parent
        if not latest:  # says which sentence it is
            latest[""] = _parent_run(client, experiment, experiment_id, None)
        parents = sorted(latest.values(), key=lambda run: -run.info.start_time)
        return [_read(client, experiment, experiment_id, one, cache) for one in parents]


@contextmanager
def _opened(experiment: str, tracking_uri: str) -> Iterator[tuple[MlflowClient, str]]:
    """Yield a client and the experiment's id; what MLflow raises becomes a sentence."""
    require_store(experiment, tracking_uri)
    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        yield client, _experiment_id(client, experiment)
    except MlflowException as error:
        reason = str(error).strip().splitlines()[0]
        raise RunsError(f"cannot read runs from {tracking_uri!r}: {reason}") from error


def _read(
    client: MlflowClient, experiment: str, experiment_id: str, parent: Run, cache: Cache | None
) -> Runs:
    """Return a sweep's runs, as far as they are known from the cache and have not changed."""
    sweep = _sweep(experiment, parent)
    known = None if cache is None else cache.runs(sweep.sweep_id)
    since = None
    if known is not None and known.sweep.run_id == sweep.run_id:
        if sweep.ended is not None and known.sweep._replace(seen=None) == sweep:
            return known
        # While a driver records, runs come in the order they ended, but for what a store that was
        # away got late: when the sweep has ended, all of it is read once more.
        if sweep.ended is None and known.sweep.ended is None:
            since = known.sweep.seen
    wanted = _trials_filter(sweep.sweep_id)
    if since is not None:
        wanted += f" and attributes.end_time > {since - OVERLAP_MILLISECONDS}"
    found = list(_search(client, experiment_id, wanted))
    # A trial that was retried has several runs: the last to start is the one that counts.
    latest = {run.trial_id: run for run in sorted(map(_recorded, found), key=started)}
    records = [record for run in latest.values() for record in seed_records(run)]
    ends = [int(run.info.end_time) for run in found if run.info.end_time is not None]
    sweep = sweep._replace(seen=max([*ends, since or 0]))
    runs = tidy(sweep, records)
    if since is not None and known is not None:
        runs = updated(known, runs, set(latest))
    if runs.trials.empty:
        why = "none but superseded trials" if records else "no trial that ended yet"
        raise RunsError(
            f"sweep {sweep.sweep_id!r} has {why}; "
            "wait for its first one, or name another with --sweep"
        )
    if cache is not None:
        cache.keep_runs(runs)
    return runs


def read_curves(
    runs: Runs, tracking_uri: str, trial_ids: Collection[str], cache: Cache | None = None
) -> pd.DataFrame:
    """Return the curves of some trials: trial_id, seed, step, metric, value.

    Args:
        runs: What `read_runs` returned.
        tracking_uri: The store they were read from.
        trial_ids: The trials wanted. One that has no curves, since it failed before its first
            evaluation, has no record.
        cache: Holds what was read before, and gets what is read now.

    Raises:
        RunsError: If the store or a file of curves cannot be read.
        OSError: If the cache cannot be written.
    """
    if cache is None:
        return _read_files(runs, tracking_uri, trial_ids, c.CURVES_FILE, CURVE_COLUMNS)
    run_ids = dict(zip(runs.trials[c.TRIAL_ID], runs.trials[c.RUN_ID], strict=True))
    known = cache.curves(runs.sweep.sweep_id, set(run_ids.values()))
    missing = set(trial_ids) - set(known[c.TRIAL_ID])
    if missing:
        new = _read_files(runs, tracking_uri, missing, c.CURVES_FILE, CURVE_COLUMNS)
        new = new.assign(**{c.RUN_ID: new[c.TRIAL_ID].map(run_ids)})
        known = pd.concat([known, new], ignore_index=True) if len(known) else new
        cache.keep_curves(runs.sweep.sweep_id, known)
    return known[known[c.TRIAL_ID].isin(set(trial_ids))][CURVE_COLUMNS]


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
                run = client.get_run(run_id)
                near = beside(tracking_uri, run.info.experiment_id, run_id, file)
                if near is not None:
                    found = pd.read_parquet(near)
                    frames.append(found.assign(**{c.TRIAL_ID: trial_id})[columns])
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
    if sweep_id is not None and SWEEP_ID_PATTERN.fullmatch(sweep_id):
        wanted = f"{PARENTS} and tags.{c.SWEEP_ID} = '{sweep_id}'"
        for parent in _search(client, experiment_id, wanted, "DESC"):
            return parent
    seen: list[str] = []
    for parent in _search(client, experiment_id, PARENTS, "DESC"):
        seen.append(parent.data.tags.get(c.SWEEP_ID, "unnamed"))
        if sweep_id is not None:
            continue
        if _has_trials(client, experiment_id, seen[-1]):
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


def _has_trials(client: MlflowClient, experiment_id: str, sweep_id: str) -> bool:
    return bool(client.search_runs([experiment_id], _trials_filter(sweep_id), max_results=1))


def _has_ended(parent: Run) -> bool:
    return parent.info.status != "RUNNING" and parent.info.end_time is not None


def _is_quick(parent: Run) -> bool:
    return bool(parent.data.tags.get(c.QUICK) == "true")


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
        started=int(parent.info.start_time),
        # One that goes on keeps the time at which it ended first.
        ended=int(parent.info.end_time) if _has_ended(parent) else None,
        facts={name: tags[name] for name in c.PARENT_TAGS if name in tags},
    )


def _recorded(run: Run) -> Recorded:
    return Recorded(
        run.info.run_id, int(run.info.start_time), run.data.tags, run.data.params,
        run.data.metrics,
    )  # fmt: skip


def log_files(runs: Runs, tracking_uri: str, paths: Sequence[Path]) -> None:
    """Log files to the sweep's parent run, as artifacts in the folder `report`.

    The one thing that is written here. Of several sweeps put together each gets them.

    Raises:
        RunsError: If the store does not take them.
    """
    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        for run_id in runs.sweep.run_id.split(", "):
            for path in paths:
                client.log_artifact(run_id, str(path), REPORT_FOLDER)
    except (MlflowException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunsError(f"cannot log to {tracking_uri!r}: {reason}") from error
