"""The plan: the table of trials a sweep is made of, kept as Parquet in the sweep's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from kdgan_core.config import TrialConfig
from kdgan_core.files import atomic_write
from sweeps.space import Space, SpaceError

ROLES = ("search", "baseline", "sensitivity")
MODES = ("study", "search", "sensitivity", "baseline")


class PlanError(Exception):
    """The plan on disk cannot be used; the message says why and what to do."""


class Row(NamedTuple):
    """One reason to run a trial. A trial may have several: a cell is run once, however many
    curves and stages it belongs to.

    Attributes:
        config: the cell.
        role: search | baseline | sensitivity.
        factor: the factor varied, "" unless role is sensitivity.
        level: its level as text, "" unless role is sensitivity.
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


def level_label(factor: str, config: TrialConfig) -> str:
    """The level of `factor` that a config stands at, as text: '0.1', 'exponential 1→0.1'."""
    if factor == "tau":
        return str(config.temperature)
    return f"{getattr(config, factor):g}"


def sensitivity_rows(space: Space, baseline: TrialConfig) -> list[Row]:
    """The baseline cell, then one row a level: one factor at a time, the others at the baseline.

    A level at which the baseline itself stands gives a row with the baseline's trial_id, so the
    cell is run once and shared.

    Raises:
        SpaceError: a level is out of its range.
    """
    rows = [Row(baseline, "baseline")]
    for factor, levels in space.cuts.items():
        for level in levels:
            try:
                config = baseline.replace(**level)
            except ValueError as error:
                raise SpaceError(str(error)) from None
            rows.append(Row(config, "sensitivity", factor, level_label(factor, config)))
    return rows


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
        if path.exists():
            for row in _read(path):
                self._add(row)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def append(self, rows: list[Row]) -> None:
        """Adds those that are new and writes the file if there are any."""
        before = len(self.rows)
        for row in rows:
            self._add(row)
        if len(self.rows) > before:
            self._write()

    def trials(self) -> dict[str, list[Row]]:
        """trial_id -> its rows, in the order planned."""
        grouped: dict[str, list[Row]] = {}
        for row in self.rows:
            grouped.setdefault(row.trial_id, []).append(row)
        return grouped

    def _add(self, row: Row) -> None:
        if row.key not in self._keys:
            self._keys.add(row.key)
            self.rows.append(row)

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


def definition(space: Space, mode: str, seed: int) -> Mapping[str, object]:
    """What makes a sweep this sweep, as plain JSON values: the same for the same command."""
    searched = mode in ("study", "search")
    cut = mode in ("study", "sensitivity")
    return {
        "experiment": space.experiment,
        "mode": mode,
        "baselines": {str(n): space.base_config(n).as_dict() for n in space.train_sizes},
        "trials": space.trials if searched else 0,
        "search_seeds": list(space.search_seeds) if searched else [],
        "search": {k: list(v) for k, v in space.search.items()} if searched else {},
        "seed": seed if searched else 0,
        "cuts": {k: [dict(x) for x in v] for k, v in space.cuts.items()} if cut else {},
    }


def sweep_id(space: Space, mode: str, seed: int) -> str:
    """`<experiment>-<8 hex digits of the definition's hash>`: the same command, the same sweep."""
    text = json.dumps(definition(space, mode, seed), sort_keys=True)
    return f"{space.experiment}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def planned_trials(space: Space, mode: str) -> dict[int, tuple[int, int]]:
    """Training size -> (search trials, trials around the baseline), before anything has run.

    The second is exact for a sensitivity sweep; after a search it is an upper bound, since a level
    may turn out to be the baseline.
    """
    counts = {}
    for n in space.train_sizes:
        search = space.trials if mode in ("study", "search") and space.search else 0
        rows = [Row(space.base_config(n), "baseline")] if mode != "search" else []
        if mode in ("study", "sensitivity"):
            rows = sensitivity_rows(space, space.base_config(n))
        around = len({row.trial_id for row in rows})
        if mode == "study" and rows:
            around = len(rows)
        counts[n] = (search, around)
    return counts
