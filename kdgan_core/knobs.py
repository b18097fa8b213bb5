"""A knob: a field of a configuration with its help text and its valid range, as plain values."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

WORDS = {"true": True, "false": False, "on": True, "off": False, "1": True, "0": False}


def knob(
    default: object,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    later: bool = False,
) -> Any:
    """A dataclass field that carries its help text and its valid range.

    Args:
        default: of the field.
        help: one line for a user.
        low: the least valid value.
        high: the greatest one.
        above: what values must be greater than.
        choices: the valid values, if they can be listed.
        later: whether trials had been recorded before the field existed. Its default then does
            what they did, and stands in no id (`TrialConfig.identity`).
    """
    limits = {"low": low, "high": high, "above": above, "choices": choices, "help": help}
    limits["later"] = later
    limits["is_flag"] = isinstance(default, bool)
    limits["is_text"] = isinstance(default, str) and not choices
    return dataclasses.field(default=default, metadata=limits)


def typed(name: str, value: object, kind: object) -> object:
    """`value` as the field's type, so that 1 and 1.0 give the same trial_id."""
    kinds: dict[object, str] = {
        int: "a whole number", float: "a finite number", bool: "true or false",
    }  # fmt: skip
    wanted = kinds.get(kind, "whole numbers")
    try:
        if kind is bool:
            return WORDS[str(value).lower()]
        if kind is str:
            return str(value)
        if kind is float:
            number = float(value) + 0.0  # type: ignore[arg-type]  # -0.0 is 0.0
            if isinstance(value, bool) or not math.isfinite(number):
                raise ValueError
            return number
        if kind is int:
            return _whole(value)
        if isinstance(value, str):
            raise ValueError
        return tuple(_whole(one) for one in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError, KeyError):
        raise ValueError(f"{name}={value!r} is not {wanted}") from None


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, bool) or float(value) != int(value):  # type: ignore[call-overload, arg-type]
        raise ValueError
    return int(value)  # type: ignore[call-overload, no-any-return]


def check_range(name: str, value: float | str, limits: typing.Mapping[str, Any]) -> None:
    if limits["choices"] and value not in limits["choices"]:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(limits['choices'])}")
    wanted = describe_range(limits)
    low, high, above = limits["low"], limits["high"], limits["above"]
    if isinstance(value, str):
        return
    if (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
    ):
        raise ValueError(f"{name}={value!r} is out of range: it must be {wanted}")


def describe_range(limits: typing.Mapping[str, Any]) -> str:
    """The valid range in words, such as 'in [0, 1]' or 'above 0'; choices are listed."""
    if limits["choices"]:
        return "|".join(limits["choices"])
    if limits["is_flag"]:
        return "true|false"
    if limits["is_text"]:
        return "text"
    if limits["above"] is not None:
        return f"above {limits['above']:g}"
    if limits["low"] is not None and limits["high"] is not None:
        return f"in [{limits['low']:g}, {limits['high']:g}]"
    return f"at least {limits['low']:g}" if limits["low"] is not None else "any"
