"""The plan: the table of trials a sweep is made of, kept as Parquet in the sweep's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from kdgan_core.config import TrialConfig
from kdgan_core.files import atomic_write
from sweeps.arms import FACTOR, Branch

# superseded: the plan changed, and the trial no longer belongs to it.
ROLES = ("search", "baseline", "sensitivity", "grid", "sobol", "methods", "superseded")
SAMPLED = ("search", "sobol")  # roles whose trials stand alone: they are in no cell with others


class PlanError(Exception):
    """The plan on disk cannot be used; the message says why and what to do."""


class Row(NamedTuple):
    """One reason to run a trial. A trial may have several: a cell is run once, however many
    curves and stages it belongs to.

    Attributes:
        config: the cell.
        role: one of ROLES.
        factor: the factor varied, "beta×gamma" in a grid, "method" in a table, "" where none is.
        level: its level as text, "0.1×0.01" in a grid, the arm in a table, "" where none is.
    """

    config: TrialConfig
    role: str
    factor: str = ""
    level: str = ""

    @property
    def trial_id(self) -> str:
        return self.config.trial_id

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.trial_id, self.role, self.factor, self.level)

    @property
    def branch(self) -> Branch:
        """The training size, in a table with the arm; a superseded row has lost its arm."""
        return Branch(self.config.train_size, self.level if self.factor == FACTOR else "")


class Plan:
    """Rows in the order they were planned, none twice; appended to as a search asks.

    The file is rewritten as a whole and moved into place, so that it is never half-written.
    """

    def __init__(self, path: Path) -> None:
        """Reads `path` if it exists.

        Raises:
            PlanError: the file is not a plan.
        """
        self.path = path
        self.rows: list[Row] = []
        self._keys: set[tuple[str, str, str, str]] = set()
        self._trials: dict[str, list[Row]] = {}
        if path.exists():
            for row in _read(path):
                self._add(row)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def append(self, rows: list[Row]) -> list[Row]:
        """Adds those that are new and writes the file if there are any; gives these back."""
        added = [row for row in rows if self._add(row)]
        if added:
            self._write()
        return added

    def trials(self) -> Mapping[str, list[Row]]:
        """trial_id -> its rows, in the order planned."""
        return self._trials

    def supersede(self) -> None:
        """Takes every row out of the sweep: its trials are kept, but belong to it no longer.

        A row that is appended again is back.
        """
        trials = [rows[0] for rows in self._trials.values()]
        self.rows, self._keys, self._trials = [], set(), {}
        self.append([Row(row.config, "superseded") for row in trials])

    def withdraw(self, rows: list[Row]) -> None:
        """Takes rows out of the sweep; a trial that has no other is superseded."""
        for row in rows:
            self.rows.remove(row)
            self._keys.discard(row.key)
            self._trials[row.trial_id].remove(row)
            if not self._trials[row.trial_id]:
                self._add(Row(row.config, "superseded"))
        if rows:
            self._write()

    def _add(self, row: Row) -> bool:
        """Whether the row is new."""
        if row.key in self._keys:
            return False
        mine = self._trials.setdefault(row.trial_id, [])
        if mine and mine[0].role == "superseded":
            self.rows.remove(mine.pop())
        self._keys.add(row.key)
        self.rows.append(row)
        mine.append(row)
        return True

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "trial_id": [row.trial_id for row in self.rows],
                "role": [row.role for row in self.rows],
                "factor": [row.factor for row in self.rows],
                "level": [row.level for row in self.rows],
                "train_size": [row.config.train_size for row in self.rows],
                "config": [row.config.canonical_json() for row in self.rows],
            }
        )
        with atomic_write(self.path) as file:
            pq.write_table(table, file)


def _read(path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        records = pq.read_table(path).to_pylist()
        return [
            Row(TrialConfig.from_dict(json.loads(r["config"])), r["role"], r["factor"], r["level"])
            for r in records
        ]
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise PlanError(
            f"{path} is not a plan this version can read ({error}): move the folder"
            f" {path.parent} away to start the sweep afresh"
        ) from error
