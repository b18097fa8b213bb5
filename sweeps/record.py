"""Turns ended trials' spools into MLflow runs, in a thread of the driver.

No trial and no search waits for a store. While it is away, what has ended is kept and tried again;
what is still missing at the end of the sweep, `sweeps/backfill.py` or the same command records.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sweeps.courier import Busy, Courier
from sweeps.details import detail_files
from sweeps.plan import Row
from sweeps.spool import read_spool, spool_path
from sweeps.store import Store, is_sqlite, open_store, quiet_mlflow

PATIENCE_SECONDS = 10.0  # without anything recorded, the end of a sweep waits no longer


@contextmanager
def _busy_where_locked() -> Iterator[None]:
    """An error of a sqlite store that another process is writing becomes Busy."""
    try:
        yield
    except Exception as error:
        if "database is locked" in str(error):
            raise Busy(str(error)) from error
        raise


class Recorder:
    """Records a sweep in a background thread.

    Attributes:
        parent_id: the parent's MLflow run id once it is known.
        written: trials whose results this recorder has brought to the store.
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
        self.parent_id: str | None = None
        self.written = 0
        self._facts: Mapping[str, str] = {}
        self._span: tuple[float, float] | None = None
        self._final = ("", 0)
        self._store: Store | None = None
        self._courier: Courier[Sequence[Row]] = Courier(
            "recorder", self._open, self._record, self._end, self._reason
        )

    def start(self, facts: Mapping[str, str], span: tuple[float, float] | None = None) -> None:
        """Opens the store in the thread and goes on with what is queued.

        Args:
            facts: the parent's tags.
            span: of a sweep that is over, when its first trial started and its last one ended,
                seconds since the epoch. A new parent gets these times, and one that has ended is
                not put back to running.
        """
        self._facts, self._span = dict(facts), span
        self._courier.start()

    def trial_ended(self, trial_id: str, rows: Sequence[Row]) -> None:
        """Queues a trial whose spool has a result, or whose rows have changed."""
        self._courier.put(trial_id, tuple(rows))

    @property
    def left(self) -> int:
        """Trials that have ended and are not recorded yet."""
        return self._courier.left

    @property
    def error(self) -> str | None:
        """The latest problem; None once the store works again.

        Never None where `close` has returned False.
        """
        return self._courier.error

    def wait_until_open(self, seconds: float) -> bool:
        """True once the store has been opened and has the parent; False after an error, or that
        time."""
        return self._courier.wait_until_open(seconds)

    def close(
        self, status: str, planned_trials: int, patience_seconds: float = PATIENCE_SECONDS
    ) -> bool:
        """Ends the parent run after all that is queued; True if all of it is in the store.

        Waits as long as trials get recorded. A store that has been failing gets one more try.
        What it takes to make a fresh sqlite store does not count as waiting.

        Args:
            status: FINISHED, FAILED or KILLED.
            planned_trials: trials in the plan.
            patience_seconds: how long to wait without anything being recorded.
        """
        self._final = (status, planned_trials)
        return self._courier.close(patience_seconds)

    @_busy_where_locked()
    def _open(self) -> None:
        with self._courier.locally():
            quiet_mlflow()
            client = open_store(self.tracking_uri) if is_sqlite(self.tracking_uri) else None
        client = client or open_store(self.tracking_uri)
        self._store = Store(client, self.tracking_uri, self.experiment, self.sweep_id)
        self.parent_id = self._store.begin(self._facts, self._span)

    @_busy_where_locked()
    def _record(self, trial_id: str, rows: Sequence[Row]) -> None:
        assert self._store is not None
        state = read_spool(spool_path(self.spool, trial_id))
        details = detail_files(self.spool, trial_id)
        self.written += self._store.record(trial_id, rows, state, details)

    @_busy_where_locked()
    def _end(self) -> None:
        assert self._store is not None
        self._store.end(*self._final, at=self._span[1] if self._span else time.time())

    def _reason(self, error: Exception) -> str:
        text = str(error).strip() or "no reason given"
        if "Connection refused" in text:
            return f"connection refused by {self.tracking_uri}"
        if "timed out" in text and text.startswith("API request"):
            return f"{self.tracking_uri} does not answer"
        return f"{type(error).__name__}: {text.splitlines()[0][:300]}"
