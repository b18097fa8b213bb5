"""A recorded trial as records, one per seed: what MLflow keeps as text gets its type here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from analysis import columns as c
from analysis.frames import RunsError, tau_label


class Recorded(NamedTuple):
    """A trial's run as MLflow returns it; `start_time` is in milliseconds since the epoch."""

    run_id: str
    start_time: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def trial_id(self) -> str:
        return str(self.tags.get(c.TRIAL_ID, self.run_id))


def started(run: Recorded) -> int:
    """Return when the attempt that a run holds started, in milliseconds since the epoch.

    A trial that is retried may keep its run, whose own start is then that of the first attempt.
    """
    text = run.tags.get(c.ATTEMPT)
    if text is None:
        return int(run.start_time)
    try:
        return round(1000 * float(text))
    except (ValueError, OverflowError) as error:
        where = f"trial {run.trial_id!r}"
        raise RunsError(f"{where} has {c.ATTEMPT}={text!r}, which is not a time") from error


def seed_records(run: Recorded) -> Iterator[dict[str, Any]]:
    """Yield one record per seed of a trial, including seeds that have no score."""
    tags, params, metrics = run.tags, run.params, run.metrics
    where = f"trial {tags.get(c.TRIAL_ID)!r}"
    outcomes = _json(tags.get(c.SEED_OUTCOMES, "{}"), dict, where, c.SEED_OUTCOMES)
    seeds = _json(params.get(c.SEEDS, "[]"), list, where, c.SEEDS)
    if c.TRAIN_SIZE not in params or not (seeds or outcomes):
        raise RunsError(f"{where} has no {c.TRAIN_SIZE} or no {c.SEEDS}; record the sweep again")
    trial: dict[str, Any] = {
        c.SWEEP_ID: tags[c.SWEEP_ID],
        c.TRIAL_ID: run.trial_id,
        c.CELL_ID: tags.get(c.CELL_ID, run.trial_id),
        c.RUN_ID: run.run_id,
        c.STARTED: started(run),
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
