"""What was read before, so that a second look at a sweep fetches only what is new.

One file of runs and one of curves for each sweep, in a folder that may be deleted at any time.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import columns as c
from analysis.frames import Runs, RunsError, read_runs_file, write_runs

# The run is beside the trial: a trial that is tried again has other curves in another run.
CURVES_SCHEMA: Final = pa.schema(
    [
        pa.field(c.TRIAL_ID, pa.string()),
        pa.field(c.RUN_ID, pa.string()),
        pa.field(c.SEED, pa.int64()),
        pa.field(c.STEP, pa.int64()),
        pa.field(c.METRIC, pa.string()),
        pa.field(c.VALUE, pa.float64()),
    ]
)


class Cache(NamedTuple):
    """A folder of earlier reads; what is not there, or cannot be read, is as if never read."""

    folder: Path

    def runs(self, sweep_id: str) -> Runs | None:
        """Return the runs of a sweep as they were read last."""
        try:
            return read_runs_file(self._file(sweep_id, "runs"))
        except RunsError:
            return None

    def keep_runs(self, runs: Runs) -> None:
        """Keep what was read; raises OSError if it cannot be written."""
        write_runs(runs, self._file(runs.sweep.sweep_id, "runs"))

    def curves(self, sweep_id: str, run_ids: Collection[str]) -> pd.DataFrame:
        """Return the curves known of some runs: the columns of CURVES_SCHEMA."""
        try:
            table = pq.read_table(self._file(sweep_id, "curves"), schema=CURVES_SCHEMA)
        except (OSError, pa.ArrowException):
            table = CURVES_SCHEMA.empty_table()
        found = table.to_pandas()
        return found[found[c.RUN_ID].isin(set(run_ids))]

    def keep_curves(self, sweep_id: str, curves: pd.DataFrame) -> None:
        """Keep curves in place of those known; raises OSError if they cannot be written."""
        path = self._file(sweep_id, "curves")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        table = pa.Table.from_pandas(curves, schema=CURVES_SCHEMA, preserve_index=False)
        pq.write_table(table, partial)
        partial.replace(path)

    def _file(self, sweep_id: str, what: str) -> Path:
        return self.folder / f"{sweep_id}.{what}.parquet"
