"""An experiment's space: what is fixed, what is searched, which levels the cuts have.

Spaces are TOML files in `sweeps/spaces/`, one an experiment, each citing where its ranges come
from. Importable without torch and Ray.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdgan_core.config import TrialConfig, check_names

SPACES = Path(__file__).parent / "spaces"

# The figure's factors and the config fields each of them is made of.
FACTORS: dict[str, tuple[str, ...]] = {
    "alpha": ("alpha",),
    "beta": ("beta",),
    "gamma": ("gamma",),
    "tau": ("tau_kind", "tau_start", "tau_end"),
}


class SpaceError(ValueError):
    """A space or an option that changes it is wrong; the message says which and why."""


@dataclass(frozen=True)
class Space:
    """What a sweep ranges over.

    Attributes:
        experiment: name; also that of the MLflow experiment.
        train_sizes: training sizes n, each with its own search, baseline and curves.
        seeds: of the cells around the baseline.
        search_seeds: of the search trials.
        trials: search trials per training size.
        fixed: config fields for every trial.
        sizes: n -> config fields for that size.
        baseline: config fields of the cell the cuts stand on when nothing was searched; also the
            first point of a search.
        search: dimension -> [low, high] or choices; log10_X samples the logarithm of X.
        cuts: factor -> levels, each a mapping of config fields.
    """

    experiment: str
    train_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    search_seeds: tuple[int, ...]
    trials: int
    fixed: Mapping[str, object]
    sizes: Mapping[int, Mapping[str, object]]
    baseline: Mapping[str, object]
    search: Mapping[str, tuple[object, ...]]
    cuts: Mapping[str, tuple[Mapping[str, object], ...]]

    def base_config(self, train_size: int) -> TrialConfig:
        """The baseline cell of a training size.

        Raises:
            SpaceError: a field is unknown or out of its range.
        """
        values = {**self.fixed, **self.sizes.get(train_size, {}), **self.baseline}
        values |= {"train_size": train_size, "seeds": self.seeds}
        try:
            return TrialConfig.from_dict(values)
        except ValueError as error:
            raise SpaceError(str(error)) from None


def experiments() -> tuple[str, ...]:
    """Names of the experiments that have a space file."""
    return tuple(sorted(path.stem for path in SPACES.glob("*.toml")))


def load_space(
    experiment: str,
    *,
    quick: bool = False,
    train_sizes: tuple[int, ...] = (),
    seeds: int | None = None,
    trials: int | None = None,
    changes: Mapping[str, object] | None = None,
) -> Space:
    """The experiment's space with the command line's options laid over it.

    Args:
        experiment: name of a file in `sweeps/spaces/`.
        quick: lay the file's `[quick]` table over it.
        train_sizes: instead of the file's, if any are given.
        seeds: number of seeds of the cells around the baseline; the search has at most as many.
        trials: search trials per training size.
        changes: config fields to fix (`--set`). A factor fixed so is neither searched nor cut.

    Raises:
        SpaceError: an unknown experiment, or a value that no trial can have.
    """
    path = SPACES / f"{experiment}.toml"
    if experiment not in experiments():
        known = ", ".join(experiments())
        raise SpaceError(f"{experiment!r} is not an experiment: choose one of {known}")
    table = tomllib.loads(path.read_text())
    fixed: dict[str, object] = dict(table["fixed"])
    sizes: dict[int, dict[str, object]] = {
        int(n): dict(fields) for n, fields in table.get("sizes", {}).items()
    }
    if quick:
        table, fixed, sizes = _lay_quick(table, fixed, sizes)
    changes = dict(changes or {})
    chosen_sizes = _take_sizes(changes, train_sizes, table["train_sizes"])
    chosen_seeds = _take_seeds(changes, seeds, table["seeds"])
    number = table["trials"] if trials is None else trials
    if number < 1:
        raise SpaceError(f"trials={number} is out of range: a search has at least 1 trial")
    _check_changes(changes, fixed)
    space = Space(
        experiment=experiment,
        train_sizes=chosen_sizes,
        seeds=chosen_seeds,
        search_seeds=chosen_seeds[: int(table["search_seeds"])],
        trials=number,
        fixed={**fixed, **changes},
        sizes={n: {k: v for k, v in f.items() if k not in changes} for n, f in sizes.items()},
        baseline={k: v for k, v in table["baseline"].items() if k not in changes},
        search=_free_dimensions(table["search"], changes),
        cuts=_free_cuts(table["cuts"], changes),
    )
    for n in space.train_sizes:
        space.base_config(n)
    return space


def dimension_field(dimension: str) -> str:
    """The config field that a search dimension sets: log10_beta sets beta."""
    return dimension.removeprefix("log10_")


def _lay_quick(
    table: dict[str, Any], fixed: dict[str, object], sizes: dict[int, dict[str, object]]
) -> tuple[dict[str, Any], dict[str, object], dict[int, dict[str, object]]]:
    quick = dict(table["quick"])
    shortened = quick.pop("fixed", {})
    kept = {n: {k: v for k, v in f.items() if k not in shortened} for n, f in sizes.items()}
    return {**table, **quick}, {**fixed, **shortened}, kept


def _take_sizes(
    changes: dict[str, object], option: tuple[int, ...], default: list[int]
) -> tuple[int, ...]:
    if "train_size" in changes:
        if option:
            raise SpaceError("train_size is given twice: use --train-size alone")
        return (int(str(changes.pop("train_size"))),)
    return tuple(dict.fromkeys(option)) or tuple(default)


def _take_seeds(changes: dict[str, object], option: int | None, default: int) -> tuple[int, ...]:
    if "seeds" in changes:
        if option is not None:
            raise SpaceError("seeds are given twice: use --seeds N or --set seeds=0,1,2")
        listed = changes.pop("seeds")
        assert isinstance(listed, tuple)  # parse_value's type for this field
        return listed
    number = default if option is None else option
    if number < 1:
        raise SpaceError(f"seeds={number} is out of range: every cell needs at least 1 seed")
    return tuple(range(number))


def _check_changes(changes: Mapping[str, object], fixed: Mapping[str, object]) -> None:
    try:
        check_names(changes)
    except ValueError as error:
        raise SpaceError(str(error)) from None
    if changes.get("dataset", fixed["dataset"]) != fixed["dataset"]:
        raise SpaceError(
            f"dataset={changes['dataset']!r} is another experiment: name it instead of"
            f" {fixed['dataset']!r}"
        )


def _free_dimensions(
    search: Mapping[str, list[object]], changes: Mapping[str, object]
) -> dict[str, tuple[object, ...]]:
    free = {k: tuple(v) for k, v in search.items() if dimension_field(k) not in changes}
    for dimension in free:
        check_names([dimension_field(dimension)])
    return free


def _free_cuts(
    cuts: Mapping[str, list[Any]], changes: Mapping[str, object]
) -> dict[str, tuple[Mapping[str, object], ...]]:
    free: dict[str, tuple[Mapping[str, object], ...]] = {}
    for factor, levels in cuts.items():
        if factor not in FACTORS:
            raise SpaceError(f"cuts.{factor} is not one of {', '.join(FACTORS)}")
        fields = FACTORS[factor]
        if any(field in changes for field in fields):
            continue
        if len(fields) == 1:
            free[factor] = tuple({fields[0]: level} for level in levels)
        else:
            free[factor] = tuple(dict(zip(fields, level, strict=True)) for level in levels)
    return free
