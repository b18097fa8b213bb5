"""Variants laid over a base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cluster.errors import ClusterError
from cluster.overlay import compose, main, write


def put(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return put(tmp_path / "base.yaml", {"a": {"b": 1, "c": [1, 2]}, "d": "x"})


@pytest.mark.parametrize(
    ("over", "result"),
    [
        ({"d": "y"}, {"a": {"b": 1, "c": [1, 2]}, "d": "y"}),
        ({"a": {"b": 2}}, {"a": {"b": 2, "c": [1, 2]}, "d": "x"}),
        ({"a": {"c": [3]}}, {"a": {"b": 1, "c": [3]}, "d": "x"}),
        ({"a": {"b": None}}, {"a": {"c": [1, 2]}, "d": "x"}),
        ({"a": None}, {"d": "x"}),
        ({"e": {"f": 1}}, {"a": {"b": 1, "c": [1, 2]}, "d": "x", "e": {"f": 1}}),
        ({"a": 7}, {"a": 7, "d": "x"}),
    ],
)
def test_mappings_merge_lists_replace_null_deletes(base: Path, over: Any, result: Any) -> None:
    assert compose(base, [put(base.parent / "over.yaml", over)]) == result


def test_the_last_one_counts_and_names_are_found(base: Path) -> None:
    put(base.parent / "overlays" / "first.yaml", {"d": 1, "e": 1})
    put(base.parent / "overlays" / "second.yaml", {"d": 2})
    assert compose(base, ["first", "second"])["d"] == 2
    assert compose(base, ["second", "first"])["d"] == 1
    assert compose(base)["d"] == "x"


def test_an_unknown_name_is_refused_with_those_there_are(base: Path) -> None:
    put(base.parent / "overlays" / "first.yaml", {})
    with pytest.raises(ClusterError, match=r"no overlay 'frist': neither a file nor one of first"):
        compose(base, ["frist"])


@pytest.mark.parametrize("over", [{"a": {"z": None}}, {"new": {"z": None}}, {"d": {"z": None}}])
def test_taking_away_what_is_not_there_is_refused(base: Path, over: Any) -> None:
    with pytest.raises(ClusterError, match=r"over\.yaml takes away 'z'"):
        compose(base, [put(base.parent / "over.yaml", over)])


@pytest.mark.parametrize("text", ["- 1\n", "", "a: [\n"])
def test_what_is_no_mapping_is_refused(base: Path, text: str) -> None:
    base.write_text(text)
    with pytest.raises(ClusterError, match=r"base\.yaml is no"):
        compose(base)


def test_written_beside_the_base(base: Path) -> None:
    put(base.parent / "overlays" / "first.yaml", {"d": 1})
    assert write(base, []) == base
    path = write(base, ["first"])
    assert path == base.with_name("base+first.composed.yaml")
    assert yaml.safe_load(path.read_text()) == compose(base, ["first"])
    assert CliRunner().invoke(main, [str(base), "first"]).output == f"{path}\n"


def test_git_ignores_what_is_written() -> None:
    ignored = (Path(__file__).parents[2] / ".gitignore").read_text().splitlines()
    assert "/cluster/*.composed.yaml" in ignored
