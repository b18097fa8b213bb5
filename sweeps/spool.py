"""Spool files: what a trial has to say, appended line by line to the sweep's storage.

One JSON Lines file a trial. A `start` line begins an attempt (a later one replaces what came
before), an `evaluation` line follows at every validation check, and a `result` line ends the
trial. A line cut short by a crash is passed over. Trials write nothing else, so a tracking server
that is slow or dead costs a sweep nothing.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdgan_core import Evaluation, TrialResult


@dataclass
class SpoolState:
    """What a spool file says, read back.

    Attributes:
        evaluations: the last attempt's, in order: step, steps, tau, seconds and `metrics`
            (seed -> metric -> value; None where it was not finite).
        result: the last attempt's result, None while it is unfinished.
        started: wall-clock time of the last attempt, seconds since the epoch.
    """

    evaluations: list[Mapping[str, Any]] = field(default_factory=list)
    result: Mapping[str, Any] | None = None
    started: float | None = None

    @property
    def outcome(self) -> str | None:
        """The trial's outcome, None while it has none."""
        return None if self.result is None else str(self.result["outcome"])


class SpoolWriter:
    """Appends one attempt of a trial to its spool file; every line is on disk when it returns."""

    def __init__(self, folder: Path, trial_id: str) -> None:
        """Starts an attempt."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = spool_path(folder, trial_id)
        self._append({"event": "start", "host": socket.gethostname(), "pid": os.getpid()})

    def evaluation(self, evaluation: Evaluation) -> None:
        self._append(
            {
                "event": "evaluation",
                "step": evaluation.step,
                "steps": evaluation.steps,
                "tau": evaluation.tau,
                "seconds": evaluation.seconds,
                "metrics": {str(seed): dict(m) for seed, m in evaluation.metrics.items()},
            }
        )

    def result(self, result: TrialResult) -> None:
        seeds = [dict(vars(seed)) for seed in result.seeds]
        self._append(
            {
                "event": "result",
                "outcome": result.outcome,
                "seconds": result.seconds,
                "prepare_seconds": result.prepare_seconds,
                "step": result.step,
                "seeds": seeds,
            }
        )

    def failed(self, traceback: str) -> None:
        """Ends the trial as failed; the traceback is kept."""
        self._append({"event": "result", "outcome": "failed", "traceback": traceback, "seeds": []})

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(_finite({**record, "time": time.time()}), allow_nan=False) + "\n"
        with self.path.open("ab") as spool:
            if spool.tell() > 0 and record["event"] == "start":
                line = "\n" + line  # a line that a crash cut short must not swallow this one
            spool.write(line.encode())
            spool.flush()
            os.fsync(spool.fileno())


def spool_path(folder: Path, trial_id: str) -> Path:
    return folder / f"{trial_id}.jsonl"


def read_spool(path: Path) -> SpoolState:
    """The state of the last attempt; an absent file is a trial that has not begun."""
    state = SpoolState()
    if not path.exists():
        return state
    for line in path.read_bytes().splitlines():
        record = _parse(line)
        match record.get("event"):
            case "start":
                state = SpoolState(started=record["time"])
            case "evaluation":
                state.evaluations.append(record)
            case "result":
                state.result = record
    return state


def _parse(line: bytes) -> dict[str, Any]:
    """A line's record; an empty one for a blank, cut or foreign line."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _finite(value: Any) -> Any:
    """`value` with None for every number that JSON cannot carry."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(one) for one in value]
    return value


def score(result: Mapping[str, Any] | None) -> float | None:
    """What the search maximises: mean over all seeds of validation accuracy, in [0, 1].

    At the best check of a seed; a collapsed seed counts with where it ended, a diverged one as 0.
    None for a trial that failed.
    """
    if result is None or not result["seeds"]:
        return None
    values = []
    for seed in result["seeds"]:
        name = "last" if seed["outcome"] == "collapsed" else "best"
        values.append(seed[f"{name}_valid_accuracy"] or 0.0)
    return float(sum(values) / len(values))
