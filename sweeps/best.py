"""The best configuration that searches have found, by validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from kdgan_core.config import TrialConfig
from sweeps.factors import FACTORS, SpaceError
from sweeps.plan import Plan, PlanError, Row
from sweeps.space import Space
from sweeps.spool import read_spool, score, spool_path

FACTOR_FIELDS = {field for fields in FACTORS.values() for field in fields}


def best_row(
    rows: Iterable[Row], results: Mapping[str, Mapping[str, Any]]
) -> tuple[Row, float] | None:
    """The row with the highest validation score and that score, None if none has one.

    Collapsed and diverged trials come after all others, and a trial that was stopped early after
    those that were not.
    """
    order = {"finished": 2, "stopped": 1}
    scored = []
    for row in rows:
        result = results.get(row.trial_id)
        value = score(result)
        if result is not None and value is not None:
            scored.append((order.get(result["outcome"], 0), value, row))
    if not scored:
        return None
    _, value, row = max(scored, key=lambda one: one[:2])
    return row, value


def best_in_storage(storage: Path, space: Space, train_size: int) -> TrialConfig:
    """The best configuration that any sweep of the storage has found for a training size.

    Only of searches whose trials differ from the space's baseline in the free factors alone: the
    same data, method, players and training, and what --set fixes has that value.

    Raises:
        SpaceError: no search has found any.
    """
    free = FACTOR_FIELDS - space.changes.keys()
    wanted = _besides(free, space.base_config(train_size))
    rows: list[Row] = []
    results: dict[str, Mapping[str, Any]] = {}
    for path in sorted(storage.glob("*/plan.parquet")):
        try:
            plan = Plan(path)
        except PlanError:
            continue
        for row in plan:
            if row.role != "search" or _besides(free, row.config) != wanted:
                continue
            result = read_spool(spool_path(path.parent / "spool", row.trial_id)).result
            if result is not None:
                rows.append(row)
                results[row.trial_id] = result
    best = best_row(rows, results)
    if best is None:
        raise SpaceError(
            f"--baseline best: no search in {storage} has found one for n={train_size:,}: run"
            " --mode search with the same options first, or name a baseline"
        )
    return best[0].config.replace(seeds=space.seeds)


def _besides(free: Set[str], config: TrialConfig) -> dict[str, object]:
    """The config's fields that are neither free nor seeds."""
    return {k: v for k, v in config.as_dict().items() if k not in free and k != "seeds"}
