"""The arms of an experiment: the lines of its table of methods, each with its own small search.

An arm is a `[arms.<name>]` table of the space file, `[methods]` is what they have in common; an
arm named after another one and a plus, `kdgan+ema`, has all of that one's but what it changes.
Importable without torch and Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sweeps.factors import SpaceError

FACTOR = "method"  # of the rows of a table; their level is the arm
REFERENCE = "kdgan"  # the arm whose compute the others are given where it is matched
# The tuning draws other seeds than the table: no seed's draw of images is both tuned on and
# reported.
TUNING_SEEDS_FROM = 100
VARIANT = "+"  # between an arm and what a variant of it changes
OWN = ("method", "player")  # fields that make an arm what it is


@dataclass(frozen=True)
class Arm:
    """A line of the table.

    Attributes:
        fixed: config fields that make it what it is; nothing but --set overrides them.
        sizes: n -> its recipe for that size, where the search starts.
        search: dimension -> [low, high] or choices, as in a space.
        optional: trained only where --arms names it.
    """

    fixed: Mapping[str, object]
    sizes: Mapping[int, Mapping[str, object]]
    search: Mapping[str, tuple[object, ...]]
    optional: bool = False


class Branch(NamedTuple):
    """What is searched and compared on its own: a training size, in a table one arm of it."""

    train_size: int
    arm: str = ""

    @property
    def name(self) -> str:
        """'100', or '100 kdgan' in a table."""
        return f"{self.train_size} {self.arm}".rstrip()

    @classmethod
    def named(cls, name: str) -> Branch:
        """The branch that has this name."""
        train_size, _, arm = name.partition(" ")
        return cls(int(train_size), arm)

    @property
    def labels(self) -> tuple[str, str]:
        """Factor and level of its rows where they have no others."""
        return (FACTOR, self.arm) if self.arm else ("", "")

    def __str__(self) -> str:
        """'n=1,000', or 'n=1,000 kdgan'; 'n=all' for all posts of a file of tags."""
        size = f"{self.train_size:,}" if self.train_size else "all"
        return f"n={size} {self.arm}".rstrip()


class Methods(NamedTuple):
    """The `[methods]` table, and the arms.

    Attributes:
        seeds, search_seeds: how many.
        trials: of tuning, the same for every arm.
        fixed: config fields of all arms.
        sizes: n -> config fields of all arms at that size.
        arms: name -> arm, in the file's order.
    """

    seeds: int
    search_seeds: int
    trials: int
    fixed: Mapping[str, object]
    sizes: Mapping[int, Mapping[str, object]]
    arms: Mapping[str, Arm]


def read_methods(table: Mapping[str, Any], quick: bool) -> Methods:
    """What a space file says of its table of methods.

    Args:
        table: the whole file.
        quick: lay `[quick.methods]` over it. What `[quick.fixed]` and `[quick.methods.fixed]`
            name then wins over the recipes of all sizes, though not over what makes an arm.

    Raises:
        SpaceError: the file has no such table.
    """
    if "methods" not in table or not table.get("arms"):
        raise SpaceError("the experiment has no table of methods: its file names no arms")
    common, rehearsal = dict(table["methods"]), {}
    shortened: set[str] = set()
    if quick:
        rehearsal = dict(table["quick"].get("methods", {}))
        shortened = {*table["quick"].get("fixed", {}), *rehearsal.get("fixed", {})}
    fixed = {k: v for k, v in common.get("fixed", {}).items() if k not in shortened}
    numbers = {k: v for k, v in {**common, **rehearsal}.items() if isinstance(v, int)}
    return Methods(
        numbers["seeds"], numbers["search_seeds"], numbers["trials"],
        {**fixed, **rehearsal.get("fixed", {})}, _by_size(common, shortened),
        {name: _arm(_whole(name, table["arms"]), shortened) for name in table["arms"]},
    )  # fmt: skip


def choose_arms(arms: Mapping[str, Arm], named: Iterable[str]) -> tuple[str, ...]:
    """The named arms in the file's order; all that are not optional if none is named.

    Raises:
        SpaceError: one does not exist.
    """
    wanted = set(named)
    for name in sorted(wanted - arms.keys()):
        raise SpaceError(f"--arms {name!r} is not one of {', '.join(arms)}")
    return tuple(a for a, arm in arms.items() if (a in wanted if wanted else not arm.optional))


def _whole(name: str, tables: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The table of an arm; that of `kdgan+ema` laid over that of `kdgan`: only what the variant
    changes is in the file, and no recipe for a size undoes it.

    Raises:
        SpaceError: it is a variant of an arm that does not exist.
    """
    own, (parent, plus, _) = tables[name], name.partition(VARIANT)
    if not plus:
        return own
    if parent not in tables:
        raise SpaceError(f"the arm {name} is a variant of {parent}, which the file does not have")
    base, fixed = tables[parent], own.get("fixed", {})
    sizes = {
        n: {
            **{k: v for k, v in recipe.items() if k not in fixed},
            **own.get("sizes", {}).get(n, {}),
        }
        for n, recipe in {**own.get("sizes", {}), **base.get("sizes", {})}.items()
    }
    return {**base, **own, "fixed": {**base["fixed"], **fixed}, "sizes": sizes}


def _arm(fields: Mapping[str, Any], shortened: set[str]) -> Arm:
    search = {name: tuple(values) for name, values in fields.get("search", {}).items()}
    return Arm(
        dict(fields["fixed"]), _by_size(fields, shortened), search, fields.get("optional", False)
    )


def _by_size(table: Mapping[str, Any], but: set[str]) -> dict[int, dict[str, object]]:
    return {
        int(n): {name: value for name, value in fields.items() if name not in but}
        for n, fields in table.get("sizes", {}).items()
    }
