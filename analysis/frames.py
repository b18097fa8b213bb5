"""A sweep as tidy frames, and as Parquet; where the runs come from is the matter of `runs`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import columns as c
from analysis.tasks import Task, data_note, task_of

ROW_TYPE: Final = pa.struct(
    [(c.ROLE, pa.string()), (c.FACTOR, pa.string()), (c.LEVEL, pa.string())]
)
SCHEMA: Final = pa.schema(
    [
        pa.field(
            name,
            pa.list_(ROW_TYPE)
            if column.arrow == "rows"
            else pa.timestamp("ms", "UTC")
            if column.arrow.startswith("timestamp")
            else pa.type_for_alias(column.arrow),
            metadata={"description": column.sentence},
        )
        for name, column in c.COLUMNS.items()
    ]
)
SWEEP_KEY: Final = b"kdgan.sweep"


class RunsError(Exception):
    """The store has no runs that can be read; the message is one sentence saying what to do."""


class Sweep(NamedTuple):
    """What the parent run says about the sweep.

    `started` and `ended` are milliseconds since the epoch; `ended` is None while it runs, `seen`
    is when the last of its trials ended that were read. `facts` are the parent's tags that
    `columns.PARENT_TAGS` names.
    """

    experiment: str
    sweep_id: str
    run_id: str
    commit: str
    dirty: bool
    command: str
    mode: str
    quick: bool
    plan_hash: str
    planned_trials: int | None
    has_ended: bool
    started: int | None = None
    ended: int | None = None
    seen: int | None = None
    facts: dict[str, str] = {}  # noqa: RUF012  of a tuple, never changed


class Runs(NamedTuple):
    """One sweep: the parent's facts, a record per trial and seed, a record per trial and plan row.

    `trials` has the columns of `columns.COLUMNS` but `rows`; `rows` has trial_id, role, factor,
    level. Only trials that ended, in whatever way, and that the plan still holds are in either
    frame: superseded ones are left out here, so that nothing counts them.
    """

    sweep: Sweep
    trials: pd.DataFrame
    rows: pd.DataFrame


def tidy(sweep: Sweep, records: Sequence[Mapping[str, object]]) -> Runs:
    """Return the tidy frames of records that have the columns of `columns.COLUMNS`.

    Records of superseded trials are left out. Arrow gives every column its declared type; a
    column that a record lacks is empty there.
    """
    reasons = {str(record[c.TRIAL_ID]): _reasons(record[c.ROWS]) for record in records}
    kept = {
        trial_id: rows
        for trial_id, rows in reasons.items()
        if all(row[c.ROLE] != c.ROLE_SUPERSEDED for row in rows)
    }
    rows = [{c.TRIAL_ID: key, **row} for key, reason in kept.items() for row in reason]
    mine = [dict(record) for record in records if str(record[c.TRIAL_ID]) in kept]
    trials = pa.Table.from_pylist(mine, schema=SCHEMA).drop_columns([c.ROWS]).to_pandas()
    return Runs(sweep, trials, pd.DataFrame(rows, columns=[c.TRIAL_ID, c.ROLE, c.FACTOR, c.LEVEL]))


def _from_table(sweep: Sweep, table: pa.Table) -> Runs:
    """Return the runs of a table that `write_runs` made, column by column: there may be 50,000
    records, and a dictionary each would take seconds."""
    names = [name for name in SCHEMA.names if name != c.ROWS and name in table.column_names]
    known = pa.schema([SCHEMA.field(name) for name in names])
    trials = (
        table.select(names)
        .cast(known)
        .to_pandas()
        .reindex(columns=[name for name in SCHEMA.names if name != c.ROWS])
    )
    reasons = dict(
        zip(table[c.TRIAL_ID].to_pylist(), table[c.ROWS].to_pylist(), strict=True)
    )  # fmt: skip
    rows = [{c.TRIAL_ID: key, **row} for key, found in reasons.items() for row in _reasons(found)]
    return Runs(sweep, trials, pd.DataFrame(rows, columns=[c.TRIAL_ID, c.ROLE, c.FACTOR, c.LEVEL]))


def updated(known: Runs, new: Runs, changed: Collection[str]) -> Runs:
    """Return what is known with new runs in place of older ones.

    Args:
        known: What was read before.
        new: What was read now; its facts count.
        changed: Trials that were read now, also those that the plan holds no longer.
    """
    trials = known.trials[~known.trials[c.TRIAL_ID].isin(changed)]
    rows = known.rows[~known.rows[c.TRIAL_ID].isin(changed)]
    if new.trials.empty:
        return Runs(new.sweep, trials, rows)
    return Runs(
        new.sweep,
        pd.concat([trials, new.trials], ignore_index=True),
        pd.concat([rows, new.rows], ignore_index=True),
    )


def write_runs(runs: Runs, path: Path) -> None:
    """Write one record per trial and seed to a Parquet file, the sweep's facts in its metadata."""
    keys = [c.ROLE, c.FACTOR, c.LEVEL]
    rows = {
        trial_id: group[keys].to_dict("records")
        for trial_id, group in runs.rows.groupby("trial_id")
    }
    frame = runs.trials.assign(
        **{
            c.STARTED: runs.trials[c.STARTED].dt.tz_convert(None),
            c.ROWS: [rows.get(key, []) for key in runs.trials[c.TRIAL_ID]],
        }
    )
    table = pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False)
    metadata = {SWEEP_KEY: json.dumps(runs.sweep._asdict()).encode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table.replace_schema_metadata(metadata), partial)
    partial.replace(path)


def read_runs_file(path: Path) -> Runs:
    """Return the runs that `write_runs` wrote.

    Raises:
        RunsError: If the file is absent or is not one of these.
    """
    try:
        table = pq.read_table(path)
        facts = json.loads((table.schema.metadata or {})[SWEEP_KEY])
        return _from_table(Sweep(**facts), table)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise RunsError(f"{path} is not a file of runs that plot.py has written") from error


def require_same_data(several: Sequence[Runs]) -> None:
    """Raise RunsError if two sweeps are of different data sets."""
    datasets = {
        (str(name), _text(file))
        for runs in several
        for name, file in zip(runs.trials[c.DATASET], runs.trials[c.TAGS_FILE], strict=True)
    }
    if len(datasets) > 1:
        names = [f"{name} ({file})" if file else name for name, file in sorted(datasets)]
        raise RunsError(
            f"sweeps of {' and '.join(names)} cannot be put together: "
            "name sweeps of one data set with --sweep"
        )


def merge(several: Sequence[Runs]) -> Runs:
    """Return sweeps as one, whose facts name them all.

    Ids and commits are joined with commas. A trial that two sweeps hold has a record of each: the
    later one counts, as with a trial that was tried again.

    Raises:
        RunsError: If two of them are of different data sets.
    """
    first = several[0].sweep
    if len(several) == 1:
        return several[0]
    require_same_data(several)
    sweeps = [runs.sweep for runs in several]
    planned = [sweep.planned_trials for sweep in sweeps if sweep.planned_trials is not None]
    joined = first._replace(
        sweep_id=_joined(sweep.sweep_id for sweep in sweeps),
        run_id=_joined(sweep.run_id for sweep in sweeps),
        commit=_joined(sweep.commit for sweep in sweeps),
        dirty=any(sweep.dirty for sweep in sweeps),
        command="; ".join(sweep.command for sweep in sweeps),
        mode=_joined(sweep.mode for sweep in sweeps),
        quick=any(sweep.quick for sweep in sweeps),
        plan_hash=_joined(sweep.plan_hash for sweep in sweeps),
        planned_trials=sum(planned) if len(planned) == len(sweeps) else None,
        has_ended=all(sweep.has_ended for sweep in sweeps),
    )
    return Runs(
        joined,
        pd.concat([runs.trials for runs in several], ignore_index=True),
        pd.concat([runs.rows for runs in several], ignore_index=True).drop_duplicates(),
    )


def dataset_of(runs: Runs) -> str:
    """Return the data set that the runs are of; the names of all, should they be of several."""
    return _joined(str(name) for name in runs.trials[c.DATASET].unique())


def runs_task(runs: Runs) -> Task:
    """Return the task of the runs' data set."""
    return task_of(dataset_of(runs))


def runs_data_note(runs: Runs) -> str:
    """Return what must be said of the runs' data wherever they are shown; empty for most."""
    files = _joined(_text(file) for file in runs.trials[c.TAGS_FILE].unique())
    return data_note(dataset_of(runs), files)


def recorded_trials(runs: Runs) -> int:
    """Return the number of trials recorded, each once a sweep."""
    return len(runs.trials[[c.SWEEP_ID, c.TRIAL_ID]].drop_duplicates())


def origin(runs: Runs) -> str:
    """Return where numbers come from: sweep, commit, whether the sweep is quick or partial, and
    what must be said of its data; without a full stop."""
    sweep, recorded = runs.sweep, recorded_trials(runs)
    commits = ", ".join(commit[:12] for commit in sweep.commit.split(", "))
    sweeps, plural = sweep.sweep_id, "s" * (", " in commits)
    text = f"Sweep{'s' * (', ' in sweeps)} {sweeps}, commit{plural} {commits}"
    if sweep.dirty:
        text += " (dirty)"
    if sweep.quick:
        text += ", quick: shortened training"
    if sweep.planned_trials is not None and recorded < sweep.planned_trials:
        text += f", partial: {recorded} of {sweep.planned_trials} planned trials"
    elif not sweep.has_ended:
        text += f", partial: {recorded} trials so far, the sweep has not ended"
    note = runs_data_note(runs)
    return f"{text}. {note}" if note else text


def _joined(texts: Iterable[str]) -> str:
    """Return the different texts in their order, joined with commas."""
    return ", ".join(dict.fromkeys(texts))


def _text(value: object) -> str:
    """Return a text, empty where there is none."""
    return "" if pd.isna(value) else str(value)


def tau_label(kind: str, start: float, end: float) -> str:
    """Return the name of a temperature schedule; a constant one never uses `end`."""
    return f"constant {start:.3g}" if kind == "constant" else f"{kind} {start:.3g}→{end:.3g}"


def _reasons(rows: Any) -> list[dict[str, str]]:
    """Return a trial's plan rows with every key as text."""
    return [{key: str(row.get(key, "")) for key in (c.ROLE, c.FACTOR, c.LEVEL)} for row in rows]
