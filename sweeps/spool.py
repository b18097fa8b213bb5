"""Spool files: what a trial has to say, appended line by line to the sweep's storage.

One JSON Lines file a trial. A `start` line begins an attempt (a later one replaces what came
before), a `resume` line goes on from a checkpoint (what lies beyond its step is dropped), an
`evaluation` line follows at every validation check, and a `result` line ends the trial. A line cut
short by a crash is passed over; the next writer puts an empty line behind it. Trials write nothing
else but their checkpoint, so a tracking server that is slow or dead costs a sweep nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdgan_core.config import score_of

if TYPE_CHECKING:
    from kdgan_core import Evaluation, TrialResult

# What a line must have to be one of ours.
FIELDS = {
    "start": {"time"},
    "resume": {"time", "step"},
    "evaluation": {"time", "step", "steps", "tau", "seconds", "metrics"},
    "result": {"time", "outcome", "seeds"},
}
SYNC_SECONDS = 1.0  # a result is on disk at once, what comes before it at most this much later
LOCK_SECONDS = 60.0  # how long a worker waits for an orphan of a killed driver to go away


class SpoolBusy(Exception):
    """Another process is training this very trial; the message names it."""


@dataclass
class SpoolState:
    """What a spool file says, read back.

    Attributes:
        evaluations: the last attempt's, in order: step, steps, tau, seconds, `metrics` (seed ->
            metric -> value; None where it was not finite) and `seed_seconds` (seed -> seconds of
            its training so far; an older line lacks it).
        result: the last attempt's result, None while it is unfinished.
        started: wall-clock time of the last attempt, seconds since the epoch.
        host: where the last attempt started or went on: host, pid, device, threads, processor.
        resumed: how often the last attempt was resumed from a checkpoint.
        ended: results in the file, those of earlier attempts included.
        seconds: what all attempts cost, those that a crash or a pause cut short included.
        corrupt: numbers of the lines, from 1, that no crash explains.
    """

    evaluations: list[Mapping[str, Any]] = field(default_factory=list)
    result: Mapping[str, Any] | None = None
    started: float | None = None
    host: Mapping[str, Any] = field(default_factory=dict)
    resumed: int = 0
    ended: int = 0
    seconds: float = 0.0
    corrupt: list[int] = field(default_factory=list)

    @property
    def outcome(self) -> str | None:
        """The trial's outcome, None while it has none."""
        return None if self.result is None else str(self.result["outcome"])

    @property
    def progress(self) -> float:
        """Fraction of the updates done by the last evaluation."""
        if not self.evaluations:
            return 0.0
        return float(self.evaluations[-1]["step"]) / float(self.evaluations[-1]["steps"])


class SpoolWriter:
    """Appends to a trial's spool file. A line outlives its process at once, and a result the
    machine.

    Holds the file's lock until `close`, so that no two processes train one trial: a worker may
    outlive its killed driver for a moment.
    """

    def __init__(
        self, folder: Path, trial_id: str, host: Mapping[str, object] | None = None,
        exclusive: bool = True,
    ) -> None:  # fmt: skip
        """Opens the file; an attempt begins with `start` or `resume`.

        Args:
            folder: of the spool files, made if absent.
            trial_id: names the file.
            host: further facts of this process for the first line: device, threads, processor.
            exclusive: take the file's lock. The driver, which ends trials whose worker is gone or
                idle, does without.

        Raises:
            SpoolBusy: another process holds it, also after a minute.
            OSError: the storage cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = spool_path(folder, trial_id)
        self._host = {"host": socket.gethostname(), "pid": os.getpid(), **(host or {})}
        self._file = self.path.open("a+b")
        self._synced = time.monotonic()
        if exclusive:
            try:
                self._lock(trial_id)
            except BaseException:
                self._file.close()
                raise

    def start(self) -> None:
        """Begins an attempt from nothing."""
        self._append({"event": "start", **self._host})

    def resume(self, step: int) -> None:
        """Goes on from the checkpoint taken at `step`."""
        self._append({"event": "resume", "step": step, **self._host})

    def evaluation(self, evaluation: Evaluation) -> None:
        self._append(
            {
                "event": "evaluation",
                "step": evaluation.step,
                "steps": evaluation.steps,
                "tau": evaluation.tau,
                "seconds": evaluation.seconds,
                "metrics": {str(seed): dict(m) for seed, m in evaluation.metrics.items()},
                "seed_seconds": {str(seed): s for seed, s in evaluation.seed_seconds.items()},
            }
        )

    def result(self, result: TrialResult) -> None:
        seeds = [seed.as_record() for seed in result.seeds]
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

    def stopped(self, state: SpoolState, seeds: Sequence[int] = ()) -> None:
        """Ends the trial as stopped early, with the validation scores it had by then.

        The test set is not looked at: a stopped trial only informs the search.

        Args:
            state: what the spool says.
            seeds: the trial's, since a seed that diverged in pretraining is in no check.

        Raises:
            ValueError: the trial has not reached its first check after the pretrained one.
        """
        if state.progress == 0.0:
            raise ValueError(f"{self.path.name} has no check to stop at: train to the first one")
        named = [str(seed) for seed in seeds] or list(state.evaluations[0]["metrics"])
        last = state.evaluations[-1]
        self._append(
            {
                "event": "result", "outcome": "stopped", "seconds": last["seconds"],
                "prepare_seconds": state.evaluations[0]["seconds"], "step": last["step"],
                "seeds": [_stopped_seed(seed, state) for seed in named],
            }
        )  # fmt: skip

    def close(self) -> None:
        """Lets go of the file. Closing twice does nothing."""
        self._file.close()

    def _lock(self, trial_id: str) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    host = read_spool(self.path).host
                    raise SpoolBusy(
                        f"trial {trial_id} is being trained by process {host.get('pid')} on"
                        f" {host.get('host')}"
                    ) from None
                time.sleep(0.2)

    def sync(self) -> None:
        """Has the disk hold what was written: it survives a power cut, other machines see it."""
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(_finite({**record, "time": time.time()}), allow_nan=False) + "\n"
        file = self._file.fileno()
        end = os.fstat(file).st_size
        if end > 0 and os.pread(file, 1, end - 1) != b"\n":
            line = "\n\n" + line  # ends a line that a crash cut short, and says so
        left = line.encode()
        try:
            while left:  # unbuffered: a later flush must not write what a full disk refused
                left = left[os.write(file, left) :]
            if record["event"] == "result" or time.monotonic() > self._synced + SYNC_SECONDS:
                self.sync()
        except OSError:  # a full disk: leave no half line
            with contextlib.suppress(OSError):  # what matters is why it could not be written
                os.ftruncate(file, end)
            raise


def spool_path(folder: Path, trial_id: str) -> Path:
    return folder / f"{trial_id}.jsonl"


def read_spool(path: Path) -> SpoolState:
    """The state of the last attempt; an absent file is a trial that has not begun."""
    state = SpoolState()
    if not path.exists():
        return state
    spent = reached = 0.0  # of attempts before, of this one
    bad: int | None = None  # number of an unreadable line that a crash may yet explain
    *whole, rest = path.read_bytes().split(b"\n")
    for number, line in enumerate([*whole, rest] if rest else whole, start=1):
        record = _parse(line)
        event = record.get("event")
        if bad is not None and line and event not in ("start", "resume"):
            state.corrupt.append(bad)
        bad = number if line.strip() and event is None else None
        match event:
            case "start":
                spent, reached = spent + reached, 0.0
                state = SpoolState(
                    started=record["time"], host=record, corrupt=state.corrupt, ended=state.ended
                )
            case "resume":
                kept = [e for e in state.evaluations if e["step"] <= record["step"]]
                before = float(kept[-1]["seconds"]) if kept else 0.0
                spent, reached = spent + max(0.0, reached - before), before
                state.evaluations, state.result, state.host = kept, None, record
                state.resumed += 1
            case "evaluation":
                state.evaluations.append(record)
                reached = float(record["seconds"])
            case "result":
                state.result = record
                state.ended += 1
                reached = float(record.get("seconds") or reached)
    if bad is not None and not rest:  # a whole line, so no crash cut it
        state.corrupt.append(bad)
    state.seconds = spent + reached
    return state


def _stopped_seed(seed: str, state: SpoolState) -> dict[str, Any]:
    """A SeedResult's fields from the checks a seed has passed; one absent in the last diverged."""
    checks = [(e["step"], e["metrics"][seed]) for e in state.evaluations if seed in e["metrics"]]
    every = (metrics for e in state.evaluations for metrics in e["metrics"].values())
    has_tags = any("valid_map" in metrics for metrics in every)
    score = "map" if has_tags else "accuracy"
    pretrained = score_of(checks[0][1]) if checks else None
    found: dict[str, Any] = {
        "seed": int(seed), "outcome": "diverged", "best_step": None,
        f"best_valid_{score}": None, f"last_valid_{score}": None,
        f"pretrained_valid_{score}": pretrained, f"test_{score}": None,
    }  # fmt: skip
    if seed not in state.evaluations[-1]["metrics"]:
        return found
    trained = [check for check in checks if check[0] > 0]
    best_step, best = max(trained, key=lambda check: float(score_of(check[1])))
    return found | {
        "outcome": "stopped", "best_step": best_step, f"best_valid_{score}": score_of(best),
        f"last_valid_{score}": score_of(checks[-1][1]),
    }  # fmt: skip


def _parse(line: bytes) -> dict[str, Any]:
    """A line's record; an empty one for an empty, cut or foreign line."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(record, dict):
        return {}
    fields = FIELDS.get(str(record.get("event")))
    return record if fields is not None and record.keys() >= fields else {}


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
    """What the search maximises: mean over all seeds of the validation score, in [0, 1].

    At the best check of a seed; a collapsed seed counts with where it ended, a diverged one as 0.
    None for a trial that failed.
    """
    if result is None or not result["seeds"]:
        return None
    values = []
    for seed in result["seeds"]:
        name = "last" if seed["outcome"] == "collapsed" else "best"
        values.append(score_of(seed, f"{name}_valid_") or 0.0)
    return float(sum(values) / len(values))
