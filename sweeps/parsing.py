"""The words of run.py's options as values."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import click

from kdgan_core.config import parse_value
from sweeps.factors import SpaceError
from sweeps.loading import BASELINES


def parse_changes(words: tuple[str, ...], option: str = "--set") -> Mapping[str, object]:
    """The words of --set, or of --baseline, as typed config fields.

    Raises:
        SpaceError: a word without '=', an unknown field, or a value not of its type.
    """
    changes: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise SpaceError(f"{option} {word} has no value: write {option} name=value")
        try:
            changes[name.strip()] = parse_value(name.strip(), text.strip())
        except ValueError as error:
            raise SpaceError(f"{option} {word}: {error} (--help lists the fields)") from None
    return changes


def with_tags_file(changes: Mapping[str, object], path: Path | None) -> Mapping[str, object]:
    """The changes with the file of --tags-file, found from any folder."""
    return changes if path is None else {**changes, "tags_file": str(path.absolute())}


def parse_baseline(words: tuple[str, ...]) -> str | Mapping[str, object] | None:
    """The --baseline words: 'best', 'paper', or typed config fields.

    Raises:
        SpaceError: a word that is none of these, or a mixture.
    """
    if not words:
        return None
    if len(words) == 1 and words[0] in BASELINES:
        return words[0]
    return parse_changes(words, "--baseline")


def split_names(ctx: object, param: object, value: str | None) -> tuple[str, ...]:
    """'beta,gamma' as ('beta', 'gamma')."""
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else ()


def check_pack(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """`value` if it is auto, none or a whole number above 0."""
    if value in ("auto", "none") or (value.isdecimal() and int(value) > 0):
        return value
    raise click.BadParameter(f"{value!r} is not auto, none or a number above 0.", ctx, param)


def check_url(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """`value` if a message can be posted there."""
    if value is None:
        return None
    try:
        parts = urllib.parse.urlsplit(value)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise click.BadParameter(f"{value!r} is not an http:// or https:// address.", ctx, param)
    return value
