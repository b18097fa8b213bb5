"""An experiment's space: what is fixed, what is searched, which levels the cuts have.

Spaces are TOML files in `sweeps/spaces/`, one an experiment, each citing where its ranges come
from. Importable without torch and Ray.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
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
GRID_FACTORS = ("beta", "gamma")  # of a grid where none are named
# Powers of two, where a scrambled Sobol design is balanced: of the study, and of a rehearsal.
SOBOL_TRIALS = 64
QUICK_SOBOL_TRIALS = 8
BASELINES = ("best", "paper")


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
        baseline: config fields of the paper's baseline cell, or of the one named on the command
            line; also the first point of a search.
        baseline_from: where the cuts stand: "best" (the best configuration a search has found),
            "paper" (`baseline`) or "named" (`baseline`, with fields from the command line).
        search: dimension -> [low, high] or choices; log10_X samples the logarithm of X.
        cuts: factor -> levels, each a mapping of config fields.
        changes: what the command line has fixed; part of `fixed` already.
    """

    experiment: str
    train_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    search_seeds: tuple[int, ...]
    trials: int
    fixed: Mapping[str, object]
    sizes: Mapping[int, Mapping[str, object]]
    baseline: Mapping[str, object]
    baseline_from: str
    search: Mapping[str, tuple[object, ...]]
    cuts: Mapping[str, tuple[Mapping[str, object], ...]]
    changes: Mapping[str, object] = field(default_factory=dict)

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
) -> Space:
    """The experiment's space with the command line's options laid over it.

    Args:
        experiment: name of a file in `sweeps/spaces/`.
        mode: of the sweep; a grid has two factors, a Sobol design more trials than a search.
        quick: lay the file's `[quick]` table over it.
        train_sizes: instead of the file's, if any are given.
        seeds: number of seeds of the cells around the baseline.
        trials: search or Sobol trials per training size.
        changes: config fields to fix (`--set`). A factor fixed so is neither searched nor cut.
        factors: those to vary, all if none are named.
        levels: "printed", "authors", or "factor=level,level"; tau's are kind:start:end.
        baseline: "best", "paper", or config fields to lay over the paper's.

    Raises:
        SpaceError: an unknown experiment, a value that no trial can have, or options that
            contradict each other.
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
    listed = "seeds" in changes
    chosen_sizes = _take_sizes(changes, train_sizes, table["train_sizes"])
    chosen_seeds, search_seeds = _take_seeds(changes, seeds, table["seeds"], table["search_seeds"])
    _check_changes(changes, fixed)
    search = _free_dimensions(table["search"], changes)
    if mode in ("search", "sobol") and not search:
        raise SpaceError(f"--mode {mode} has nothing to vary: --set fixes every dimension")
    baseline_from, named = _take_baseline(baseline, mode, changes, bool(search))
    named_levels, own = _take_levels(table, levels)
    cuts = _take_factors(_free_cuts(named_levels, changes), factors, mode, own)
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


def moved(config: TrialConfig, level: Mapping[str, object]) -> TrialConfig:
    """The cell with the fields of a level, the others unchanged.

    Raises:
        SpaceError: the level is out of its range.
    """
    try:
        return config.replace(**level)
    except ValueError as error:
        raise SpaceError(str(error)) from None


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


def _take_trials(option: int | None, default: int) -> int:
    number = default if option is None else option
    if number < 1:
        raise SpaceError(f"trials={number} is out of range: a search has at least 1 trial")
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


def _take_levels(
    table: Mapping[str, Any], words: tuple[str, ...]
) -> tuple[dict[str, list[Any]], set[str]]:
    """Factor -> levels, the printed ones but for what the words say; and the factors that a word
    names itself. A later word has its way over an earlier one."""
    printed: dict[str, list[Any]] = dict(table["cuts"])
    cuts, own = dict(printed), set()
    for word in words:
        factor, equals, text = (part.strip() for part in word.partition("="))
        if word.strip() == "printed":
            cuts |= printed
        elif word.strip() == "authors" and "authors" in table:
            cuts |= table["authors"]
        elif equals and factor in FACTORS:
            cuts[factor] = [_parse_level(factor, one) for one in text.split(",") if one.strip()]
            own.add(factor)
            if not cuts[factor]:
                raise SpaceError(f"--levels {word} names no level: write {factor}=level,level")
        else:
            named = "printed, authors" if "authors" in table else "printed"
            raise SpaceError(
                f"--levels {word}: write {named}, or factor=level,level with a factor of"
                f" {', '.join(FACTORS)}"
            )
    return cuts, own


def _parse_level(factor: str, text: str) -> object:
    """A number; for tau kind:start:end, and a constant one has one temperature."""
    try:
        if factor != "tau":
            return float(text)
        kind, *numbers = text.strip().split(":")
        if kind == "constant" and len(numbers) == 1:
            numbers *= 2
        start, end = (float(number) for number in numbers)
    except ValueError:
        wanted = (
            "kind:start:end, such as exponential:1:0.1, or constant:1"
            if factor == "tau"
            else "a number"
        )
        raise SpaceError(f"--levels {factor}: {text.strip()!r} is not {wanted}") from None
    return [kind, start, end]


def _take_factors(
    cuts: Mapping[str, tuple[Mapping[str, object], ...]],
    factors: tuple[str, ...],
    mode: str,
    own: set[str],
) -> dict[str, tuple[Mapping[str, object], ...]]:
    """The cuts of the chosen factors, in the order they are named.

    Args:
        cuts: of the factors that are not fixed.
        factors: those chosen, all if none.
        mode: of the sweep.
        own: factors whose levels the command line names; they must be among the chosen.
    """
    for factor in factors:
        if factor not in FACTORS:
            raise SpaceError(f"--factors {factor!r} is not one of {', '.join(FACTORS)}")
        if factor not in cuts:
            raise SpaceError(f"--factors {factor} cannot be varied: --set fixes it")
    chosen = tuple(dict.fromkeys(factors)) or (GRID_FACTORS if mode == "grid" else tuple(cuts))
    if mode == "grid" and (len(chosen) != 2 or not set(chosen) <= cuts.keys()):
        free = ", ".join(cuts)
        raise SpaceError(
            f"a grid has two factors: write, for example, --factors beta,gamma (free: {free})"
        )
    for factor in FACTORS:
        if factor in own and factor not in chosen:
            why = "--set fixes it" if factor not in cuts else "it is not among the factors varied"
            raise SpaceError(f"--levels {factor}=... has no effect: {why}")
    return {factor: cuts[factor] for factor in chosen}


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
    """The dimensions that are not fixed; the end of a temperature that is constant is none."""
    fixed = {*changes, *(["tau_end"] if changes.get("tau_kind") == "constant" else [])}
    free = {k: tuple(v) for k, v in search.items() if dimension_field(k) not in fixed}
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
