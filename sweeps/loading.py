"""From a space file and the command line's options to a `Space`.

Spaces are TOML files in `sweeps/spaces/`, one an experiment, each citing where its ranges come
from. Importable without torch and Ray.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdgan_core.config import check_names
from sweeps.arms import OWN, TUNING_SEEDS_FROM, Methods, choose_arms, read_methods
from sweeps.factors import FACTORS, SpaceError, free_cuts, take_factors, take_levels
from sweeps.space import Space, branches, free_dimensions, moved
from sweeps.words import TABLE

SPACES = Path(__file__).parent / "spaces"

# Powers of two, where a scrambled Sobol design is balanced: of the study, and of a rehearsal.
SOBOL_TRIALS = 64
QUICK_SOBOL_TRIALS = 8
BASELINES = ("best", "paper")


def experiments() -> tuple[str, ...]:
    """Names of the experiments that have a space file."""
    return tuple(sorted(path.stem for path in SPACES.glob("*.toml")))


def _read(name: str) -> dict[str, Any]:
    """The tables of a space file, laid over those of the file that it extends."""
    table = tomllib.loads((SPACES / f"{name}.toml").read_text())
    base = table.pop("extends", None)
    return _laid_over(_read(base), table) if base else table


def _laid_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `own`; a table is laid over a table, all else replaces."""
    both = {
        key: _laid_over(base[key], value)
        for key, value in own.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return {**base, **own, **both}


def load_space(
    experiment: str,
    mode: str = "study",
    *,
    quick: bool = False,
    train_sizes: tuple[int, ...] = (),
    seeds: int | None = None,
    trials: int | None = None,
    changes: Mapping[str, object] | None = None,
    factors: tuple[str, ...] = (),
    levels: tuple[str, ...] = (),
    baseline: str | Mapping[str, object] | None = None,
    arms: tuple[str, ...] = (),
) -> Space:
    """The experiment's space with the command line's options laid over it.

    Args:
        experiment: name of a file in `sweeps/spaces/`.
        mode: of the sweep; a grid has two factors, a Sobol design more trials than a search.
        quick: lay the file's `[quick]` table over it.
        train_sizes: instead of the file's, if any are given.
        seeds: number of seeds of the cells around the baseline.
        trials: search or Sobol trials per training size, in a table tuning trials per arm.
        changes: config fields to fix (`--set`). A factor fixed so is neither searched nor cut.
        factors: those to vary, all if none are named.
        levels: "printed", "authors", or "factor=level,level"; tau's are kind:start:end.
        baseline: "best", "paper", or config fields to lay over the paper's.
        arms: of a table, those to train; the file's, but for the optional ones, if none is named.

    Raises:
        SpaceError: an unknown experiment, a value that no trial can have, or options that
            contradict each other.
    """
    if experiment not in experiments():
        known = ", ".join(experiments())
        raise SpaceError(f"{experiment!r} is not an experiment: choose one of {known}")
    whole = table = _read(experiment)
    fixed: dict[str, object] = dict(table["fixed"])
    sizes: dict[int, dict[str, object]] = {
        int(n): dict(fields) for n, fields in table.get("sizes", {}).items()
    }
    if quick:
        table, fixed, sizes = _lay_quick(table, fixed, sizes)
    changes = dict(changes or {})
    _check_changes(changes, fixed)
    _check_mode(mode, changes, arms, bool(factors or levels or baseline))
    chosen_sizes = _take_sizes(changes, train_sizes, table["train_sizes"])
    if mode == TABLE:
        methods = read_methods(whole, quick)
        fixed |= table["baseline"]
        return _table_space(
            methods, experiment, chosen_sizes, seeds, trials, fixed, sizes, changes, arms,
            whole.get("update_seconds", {}),
        )  # fmt: skip
    listed = "seeds" in changes
    chosen_seeds, search_seeds = _take_seeds(changes, seeds, table["seeds"], table["search_seeds"])
    search = free_dimensions(table["search"], changes)
    if mode in ("search", "sobol") and not search:
        raise SpaceError(f"--mode {mode} has nothing to vary: --set fixes every dimension")
    baseline_from, named = _take_baseline(baseline, mode, changes, bool(search))
    named_levels, own = take_levels(table, levels)
    cuts = take_factors(free_cuts(named_levels, changes), factors, mode, own)
    sobol_trials = QUICK_SOBOL_TRIALS if quick else SOBOL_TRIALS
    space = Space(
        experiment=experiment,
        train_sizes=chosen_sizes,
        seeds=chosen_seeds,
        search_seeds=search_seeds,
        trials=_take_trials(trials, sobol_trials if mode == "sobol" else table["trials"]),
        fixed={**fixed, **changes},
        sizes={n: {k: v for k, v in f.items() if k not in changes} for n, f in sizes.items()},
        baseline={k: v for k, v in {**table["baseline"], **named}.items() if k not in changes},
        baseline_from=baseline_from,
        search=search,
        cuts=cuts,
        changes={**changes, **({"seeds": search_seeds} if listed else {})},
    )
    for n in space.train_sizes:
        for level in [{}, *itertools.chain(*cuts.values())]:
            moved(space.base_config(n), level)
    return space


def _table_space(
    methods: Methods, experiment: str, train_sizes: tuple[int, ...], seeds: int | None,
    trials: int | None, fixed: Mapping[str, object], sizes: Mapping[int, Mapping[str, object]],
    changes: dict[str, object], arms: tuple[str, ...], update_seconds: Mapping[str, Any],
) -> Space:  # fmt: skip
    """The space of a table of methods; see `load_space`.

    Raises:
        SpaceError: as `load_space`.
    """
    chosen_seeds, _ = _take_seeds(changes, seeds, methods.seeds, 0)
    first = TUNING_SEEDS_FROM
    if max(chosen_seeds, default=0) >= first:
        raise SpaceError(f"seeds from {first} on are those of the tuning: the table takes others")
    number = _take_trials(trials, methods.trials, at_least=0)
    both = {n: {**sizes.get(n, {}), **methods.sizes.get(n, {})} for n in train_sizes}
    space = Space(
        experiment=experiment,
        train_sizes=train_sizes,
        seeds=chosen_seeds,
        search_seeds=tuple(range(first, first + methods.search_seeds)),
        trials=number,
        fixed={**fixed, **methods.fixed, **changes},
        sizes=both,
        baseline={},
        baseline_from="best" if number else "paper",
        search={},
        cuts={},
        changes=changes,
        arms=methods.arms,
        chosen=choose_arms(methods.arms, arms),
        update_seconds={int(n): table for n, table in update_seconds.items()},
    )
    for branch, own in branches(space, TABLE).items():
        own.base_config(branch.train_size)
    return space


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


def _take_seeds(
    changes: dict[str, object], option: int | None, default: int, search_seeds: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Seeds of the cells and of the search; the latter do not depend on how many the cells have,
    so that a search stays what it is when seeds are added."""
    if "seeds" in changes:
        if option is not None:
            raise SpaceError("seeds are given twice: use --seeds N or --set seeds=0,1,2")
        listed = changes.pop("seeds")
        assert isinstance(listed, tuple)  # parse_value's type for this field
        return listed, listed[:search_seeds]
    number = default if option is None else option
    if number < 1:
        raise SpaceError(f"seeds={number} is out of range: every cell needs at least 1 seed")
    return tuple(range(number)), tuple(range(search_seeds))


def _take_trials(option: int | None, default: int, at_least: int = 1) -> int:
    number = default if option is None else option
    if number < at_least:
        has = "a search has at least 1 trial" if at_least else "it must be at least 0"
        raise SpaceError(f"trials={number} is out of range: {has}")
    return number


def _take_baseline(
    option: str | Mapping[str, object] | None,
    mode: str,
    changes: Mapping[str, object],
    searches: bool,
) -> tuple[str, Mapping[str, object]]:
    """Space.baseline_from, and the fields to lay over the paper's baseline.

    A study that has nothing to search has no best one: all that could be searched is fixed.
    """
    if option is None or isinstance(option, str):
        kind = option or ("best" if mode == "study" else "paper")
        if kind not in BASELINES:
            raise SpaceError(f"baseline={kind!r} is not one of {', '.join(BASELINES)}")
        return ("paper" if mode == "study" and not searches else kind), {}
    for name in option:
        if name not in {field for fields in FACTORS.values() for field in fields}:
            raise SpaceError(f"--baseline {name}: only factors have a baseline; use --set {name}")
        if name in changes:
            raise SpaceError(f"{name} is given twice: use --set to fix it, --baseline to vary it")
    return "named", option


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


def _check_mode(
    mode: str, changes: Mapping[str, object], arms: tuple[str, ...], varies: bool
) -> None:
    """Raises SpaceError for options that go with other modes only.

    Args:
        mode: of the sweep.
        changes: config fields that are fixed.
        arms: those named.
        varies: whether a baseline, factors or levels are named.
    """
    if mode != TABLE:
        if arms:
            raise SpaceError(f"--arms goes with --mode {TABLE}")
        if changes.get("matched", "none") != "none":
            raise SpaceError(f"--set matched={changes['matched']} goes with --mode {TABLE}")
        return
    if varies:
        raise SpaceError(
            f"--baseline, --factors and --levels do not go with --mode {TABLE}: every arm stands"
            " at its own best"
        )
    for name in OWN:
        if name in changes:
            raise SpaceError(f"--set {name} would make all arms the same: use --arms")
