"""The figure's factors, and the levels that the cuts and grids of a space give them.

Importable without torch and Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The figure's factors and the config fields each of them is made of.
FACTORS: dict[str, tuple[str, ...]] = {
    "alpha": ("alpha",),
    "beta": ("beta",),
    "gamma": ("gamma",),
    "tau": ("tau_kind", "tau_start", "tau_end"),
}
GRID_FACTORS = ("beta", "gamma")  # of a grid where none are named


class SpaceError(ValueError):
    """A space or an option that changes it is wrong; the message says which and why."""


def take_levels(
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


def take_factors(
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


def free_cuts(
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
