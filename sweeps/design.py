"""What each mode plans: the rows of a sweep, before or after its search has run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kdgan_core.config import TrialConfig
from sweeps.arms import FACTOR, Branch
from sweeps.factors import FACTORS, SpaceError
from sweeps.plan import SAMPLED, Row
from sweeps.space import Space, branches, dimension_field, moved
from sweeps.words import SEARCHING, TABLE


class Size(NamedTuple):
    """How many trials a branch has, and of how many seeds each."""

    search: int  # asked of Optuna
    around: int  # cells around the baseline, itself included; points of a Sobol design; an arm's 1
    around_seeds: int


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
            config = moved(baseline, level)
            rows.append(Row(config, "sensitivity", factor, level_label(factor, config)))
    return _unique(rows)


def grid_rows(space: Space, baseline: TrialConfig) -> list[Row]:
    """The baseline cell, then the product of two factors' levels, for contours.

    The same rows whichever factor is named first.

    Raises:
        SpaceError: a level is out of its range.
    """
    first, second = sorted(space.cuts, key=list(FACTORS).index)
    first_levels, second_levels = space.cuts[first], space.cuts[second]
    rows = [Row(baseline, "baseline")]
    for one, other in itertools.product(first_levels, second_levels):
        config = moved(baseline, {**one, **other})
        level = f"{level_label(first, config)}×{level_label(second, config)}"
        rows.append(Row(config, "grid", f"{first}×{second}", level))
    return _unique(rows)


def around_rows(space: Space, mode: str, baseline: TrialConfig) -> list[Row]:
    """The rows that a mode plans around a baseline; none if it is a search only."""
    if mode in ("study", "sensitivity"):
        return sensitivity_rows(space, baseline)
    if mode == "grid":
        return grid_rows(space, baseline)
    if mode == TABLE:
        return [Row(baseline, TABLE, FACTOR, space.arm)]
    return [Row(baseline, "baseline")] if mode == "baseline" else []


def sobol_rows(space: Space, train_size: int, seed: int) -> list[Row]:
    """The first `space.trials` points of a scrambled Sobol sequence over the searched dimensions.

    A longer design with the same seed begins with the same points. A choice's strata are of equal
    width. Source: Owen's scrambling as in scipy.stats.qmc.

    Raises:
        SpaceError: the space has no dimension.
    """
    from scipy.stats import qmc

    if not space.search:
        raise SpaceError("a Sobol design needs a dimension: --set fixes them all")
    base = space.tuning_config(train_size)
    sequence = qmc.Sobol(len(space.search), scramble=True, rng=seed + train_size)
    drawn = sequence.random_base2(max(1, (space.trials - 1).bit_length()))[: space.trials]
    rows = []
    for point in drawn:
        values = {
            dimension: value_at(values, float(share))
            for (dimension, values), share in zip(space.search.items(), point, strict=True)
        }
        rows.append(Row(point_config(base, values), "sobol"))
    return _unique(rows)


def value_at(values: tuple[object, ...], share: float) -> object:
    """The value at `share` in [0, 1) of a dimension: of a range, or of equally wide choices."""
    if all(isinstance(value, str) for value in values):
        return values[int(share * len(values))]
    low, high = (float(str(value)) for value in values)
    return low + share * (high - low)


def point_config(base: TrialConfig, point: Mapping[str, object]) -> TrialConfig:
    """`base` moved to a point of the search space; log10_X sets X, to four digits."""
    changes: dict[str, object] = {}
    for dimension, value in point.items():
        if isinstance(value, float):
            is_log = dimension.startswith("log10_")
            value = float(f"{10.0**value:.4g}") if is_log else round(value, 4)
        changes[dimension_field(dimension)] = value
    return base.replace(**changes)


def seed_rows(plan: Iterable[Row], wanted: Iterable[Row]) -> Iterator[Row]:
    """The rows that give `wanted` its seeds: of trials in the plan, and of new ones for the rest.

    A cell that was planned with fewer seeds gets a second trial with those it lacks; trials that
    were sampled on their own are not part of any cell.
    """
    planned: dict[str, dict[str, Row]] = {}
    for row in plan:
        if row.role not in (*SAMPLED, "superseded"):
            planned.setdefault(row.config.cell_id, {})[row.trial_id] = row
    for row in wanted:
        lacking = dict.fromkeys(row.config.seeds)
        mine = planned.setdefault(row.config.cell_id, {})
        for trial in list(mine.values()):
            shared = [seed for seed in trial.config.seeds if seed in lacking]
            if shared:
                yield row._replace(config=trial.config)
            for seed in shared:
                del lacking[seed]
        if lacking:
            new = row._replace(config=row.config.replace(seeds=tuple(lacking)))
            mine[new.trial_id] = new
            yield new


def planned_sizes(space: Space, mode: str) -> dict[Branch, Size]:
    """Branch -> how many trials it will have.

    Exact where no search decides the baseline; after one, `around` is an upper bound, since a
    level may turn out to be the baseline.

    Raises:
        SpaceError: a configuration cannot be.
    """
    sizes = {}
    for branch, own in branches(space, mode).items():
        n = branch.train_size
        if mode == "sobol":
            sizes[branch] = Size(0, len(sobol_rows(own, n, 0)), len(own.search_seeds))
            continue
        search = own.trials if mode in SEARCHING and own.search else 0
        rows = around_rows(own, mode, own.base_config(n))
        undecided = own.baseline_from == "best" and own.search
        cells = len(rows) if undecided else len({row.trial_id for row in rows})
        sizes[branch] = Size(search, cells, len(own.seeds))
    return sizes


def _unique(rows: list[Row]) -> list[Row]:
    return list({row.key: row for row in rows}.values())
