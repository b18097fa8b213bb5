"""The best configuration: of one search, and of all searches in a storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from searching import FAILED, ended

from kdgan_core import TrialConfig
from sweeps.best import best_in_storage, best_row
from sweeps.factors import SpaceError
from sweeps.loading import load_space
from sweeps.plan import Plan, Row
from sweeps.space import Space


def rows_of(space: Space, results: list[Mapping[str, Any] | None]) -> tuple[list[Row], Any]:
    """Search rows that differ in alpha, and their results; None for one that has none."""
    base = space.base_config(50)
    rows = [Row(base.replace(alpha=i / 10), "search") for i in range(len(results))]
    pairs = zip(rows, results, strict=True)
    return rows, {row.trial_id: result for row, result in pairs if result is not None}


@pytest.mark.parametrize(
    ("results", "best"),
    [
        ([ended(0.5), ended(0.9), ended(0.7)], 1),
        ([ended(0.9), ended(0.9)], 0),
        ([None, FAILED, ended(0.1)], 2),
        ([ended(0.9, "collapsed"), ended(0.2), ended(0.95, "diverged")], 1),
        ([ended(0.9, "stopped"), ended(0.2), ended(0.95, "stopped")], 1),
        ([ended(0.9, "collapsed"), ended(0.3, "stopped")], 1),
        ([ended(0.3, "collapsed"), ended(0.4, "diverged")], 1),
    ],
)
def test_the_best_row(space: Space, results: list[Mapping[str, Any] | None], best: int) -> None:
    rows, ends = rows_of(space, results)
    found = best_row(rows, ends)
    assert found is not None
    assert found[0] == rows[best]
    assert found[1] == ends[rows[best].trial_id]["seeds"][0]["best_valid_accuracy"]


def test_no_row_is_the_best_of_none_with_a_score(space: Space) -> None:
    rows, ends = rows_of(space, [None, FAILED])
    assert best_row(rows, ends) is None
    assert best_row([], {}) is None


@pytest.fixture
def sweep(tmp_path: Path, end_trial: Callable[..., object]) -> Callable[..., None]:
    """A function that puts a sweep with one ended search trial into the storage."""

    def make(name: str, config: TrialConfig, accuracy: float, role: str = "search") -> None:
        plan = Plan(tmp_path / name / "plan.parquet")
        plan.path.parent.mkdir(exist_ok=True)
        plan.append([Row(config, role)])
        end_trial(plan.path.parent / "spool", config, accuracy)

    return make


def test_the_best_of_all_searches_of_a_storage(
    space: Space, tmp_path: Path, sweep: Callable[..., None]
) -> None:
    base = space.base_config(50)
    good = base.replace(beta=3.0, tau_start=2.0, seeds=(0,))
    sweep("one", base.replace(beta=2.0), 0.5)
    sweep("one", good, 0.7)
    sweep("other", base.replace(beta=4.0), 0.6)
    # None of these is a search of the same trials.
    sweep("cells", base.replace(beta=5.0), 0.9, "sensitivity")
    sweep("changed", base.replace(beta=6.0), 0.9, "superseded")
    sweep("long", base.replace(steps=99), 0.9)
    sweep("large", space.base_config(200), 0.9)
    sweep("method", base.replace(method="nagan"), 0.9)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "plan.parquet").write_bytes(b"PAR1")
    assert best_in_storage(tmp_path, space, 50) == good.replace(seeds=space.seeds)
    more = replace(space, seeds=(7, 8, 9))
    assert best_in_storage(tmp_path, more, 50) == good.replace(seeds=(7, 8, 9))


def test_what_is_fixed_stays_fixed_in_the_best(tmp_path: Path, sweep: Callable[..., None]) -> None:
    """A better trial with another gamma is not the best of those with this one."""
    free = load_space("digits", "sensitivity", baseline="best")
    fixed = load_space("digits", "sensitivity", baseline="best", changes={"gamma": 0.5})
    base = free.base_config(50)
    sweep("free", base.replace(gamma=3.0), 0.9)
    assert best_in_storage(tmp_path, free, 50).gamma == 3.0
    with pytest.raises(SpaceError, match=r"--baseline best: no search in .* for n=50"):
        best_in_storage(tmp_path, fixed, 50)
    sweep("fixed", base.replace(gamma=0.5, beta=4.0), 0.4)
    assert best_in_storage(tmp_path, fixed, 50) == base.replace(gamma=0.5, beta=4.0)


def test_a_storage_without_a_search_is_named(space: Space, tmp_path: Path) -> None:
    for storage in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SpaceError, match=f"no search in {storage} has found one for n=200"):
            best_in_storage(storage, space, 200)
