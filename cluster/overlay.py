"""Variants of a cluster's YAML: what differs is in cluster/overlays/, and laid over the base."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from cluster.errors import ClusterError

SUFFIX = ".composed.yaml"  # .gitignore knows it


def compose(base: Path, overlays: Sequence[str | Path] = ()) -> dict[str, Any]:
    """The base with the overlays laid over it, one after the other.

    Mappings are merged, all else is replaced, lists too; null takes a key away.

    Args:
        base: a cluster's YAML.
        overlays: files, or names of those in `overlays/` beside the base.

    Raises:
        ClusterError: a file is missing or holds no mapping, or an overlay takes away what is not
            there.
    """
    config = read_yaml(base)
    for overlay in overlays:
        path = _find(base, overlay)
        config = _merge(config, read_yaml(path), path.name)
    return config


def write(base: Path, overlays: Sequence[str | Path]) -> Path:
    """A file that `ray up` takes: the base itself without overlays, else a new one beside it."""
    if not overlays:
        return base
    names = "+".join([base.stem, *(Path(overlay).stem for overlay in overlays)])
    path = base.with_name(f"{names}{SUFFIX}")
    text = yaml.safe_dump(compose(base, overlays), sort_keys=False, allow_unicode=True)
    path.write_text(f"# Made from {base.name} by cluster/overlay.py; change that.\n{text}")
    return path


def _merge(under: dict[str, Any], over: dict[str, Any], name: str) -> dict[str, Any]:
    merged = copy.deepcopy(under)
    for key, value in over.items():
        if value is None:
            if key not in merged:
                raise ClusterError(f"{name} takes away {key!r}, which is not there")
            del merged[key]
        elif isinstance(value, dict):
            present = merged.get(key)
            merged[key] = _merge(present if isinstance(present, dict) else {}, value, name)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _find(base: Path, overlay: str | Path) -> Path:
    folder = base.parent / "overlays"
    named = folder / f"{overlay}.yaml"
    if named.is_file():
        return named
    path = Path(overlay)
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.yaml"))) or "none"
        raise ClusterError(f"no overlay {str(overlay)!r}: neither a file nor one of {known}")
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        ClusterError: the file cannot be read or holds none.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ClusterError(f"{path} cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        last = str(error).strip().splitlines()[-1].strip()
        raise ClusterError(f"{path} is not YAML ({last})") from None
    if not isinstance(config, dict):
        raise ClusterError(f"{path} is no mapping of keys to values")
    return config


@click.command()
@click.argument("base", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("overlays", nargs=-1)
def main(base: Path, overlays: tuple[str, ...]) -> None:
    """Write BASE with OVERLAYS to a file beside it, and print its name: ray up $(…)."""
    click.echo(str(write(base, overlays)))


if __name__ == "__main__":
    main()
