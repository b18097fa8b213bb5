"""A driver killed at any write it makes, and the same command again until the sweep is done."""

from __future__ import annotations

import itertools
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from staging import baseline, optuna_trials, outcomes, roles, trainings

from sweeps.plan import Plan, Row
from sweeps.search import Journal
from sweeps.space import Space
from sweeps.spool import SpoolWriter
from sweeps.stages import Stages, Task


class Killed(BaseException):
    """kill -9: nothing catches it."""


def half_a_spool_line(writer: SpoolWriter, record: object) -> None:
    os.write(writer._file.fileno(), b'{"event": "eval')


def half_a_journal_line(journal: Journal, logs: list[dict[str, Any]]) -> None:
    with journal._path.open("ab") as file:
        file.write(b'{"op_code":')
    journal._path.with_name(f"{journal._path.name}.lock").symlink_to(journal._path)


def half_a_plan(plan: Plan) -> None:
    plan.path.with_name("tmp1234.part").write_bytes(b"PAR1")


Drive = Callable[..., list[Row]]
HOW = ("before", "in", "after")
WRITES: tuple[tuple[type, str, Callable[..., None]], ...] = (
    (SpoolWriter, "_append", half_a_spool_line),
    (Journal, "append_logs", half_a_journal_line),
    (Plan, "_write", half_a_plan),
)


class Killer:
    """Dies at a write to the sweep's folder, "before", "in" or "after" it."""

    def __init__(self, write: int, how: str) -> None:
        """write: its number, from 1."""
        self.left, self.how, self.killed = write, how, False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Ends the block with the death, if there are so many writes in it."""
        patches = [
            patch.object(owner, name, self._dying(getattr(owner, name), half))
            for owner, name, half in WRITES
        ]
        with suppress(Killed), patches[0], patches[1], patches[2]:
            yield

    def _dying(self, real: Callable[..., None], half: Callable[..., None]) -> Callable[..., None]:
        def write(*args: Any) -> None:
            self.left -= 1
            self.killed = self.left == 0
            if self.killed and self.how == "in":
                half(*args)
            if not self.killed or self.how == "after":
                real(*args)
            if self.killed:
                raise Killed

        return write


@pytest.fixture(scope="module", autouse=True)
def no_fsync() -> Iterator[None]:
    """What is tested is the order of the writes: a killed process loses none that it has made."""
    with patch("os.fsync"):
        yield


def stops_some(row: Row) -> str:
    """Two search trials in five are stopped early."""
    return "stopped" if row.role == "search" and int(row.trial_id, 16) % 5 < 2 else "finished"


def finish(space: Space, folder: Path, drive: Drive, **how: Any) -> None:
    """Runs a study to its end; every row must have ended once, no Optuna trial be left open."""
    before = {trial_id: ends for trial_id, ends in outcomes(folder).items() if ends}
    stages = Stages(Task(space, "study"), folder)
    handed = [row.trial_id for row in drive(stages, outcome=stops_some, **how)]
    assert stages.exhausted and not stages.missing

    planned = Plan(folder / "plan.parquet").trials()
    ended = outcomes(folder)
    assert ended.keys() == planned.keys() == stages.results.keys()
    for trial_id, rows in planned.items():
        # A search trial that was stopped before it became a cell is trained in full then.
        searched_only = all(row.role == "search" for row in rows)
        in_full = [["stopped"]] if searched_only else [["stopped", "finished"]]
        assert ended[trial_id] in [["finished"], *in_full]
    for trial_id in set(handed) & before.keys():
        assert (before[trial_id], ended[trial_id][-1]) == (["stopped"], "finished")

    levels = sum(map(len, space.cuts.values()))
    assert roles(stages) == {
        (n, role): count
        for n in space.train_sizes
        for role, count in (("search", space.trials), ("baseline", 1), ("sensitivity", levels))
    }
    for branch, search in stages.searches.items():
        n = branch.train_size
        assert search.base.trial_id in search.rows
        best = stages.best(branch)
        assert best is not None
        stands = best[0].config if space.baseline_from == "best" else space.base_config(n)
        assert baseline(stages, n).config == stands.replace(seeds=space.seeds)
    assert set(trainings(folder).values()) == {1}

    trials = optuna_trials(folder)
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    told = Counter(trial.user_attrs["trial_id"] for trial in complete)
    asked = {trial_id for search in stages.searches.values() for trial_id in search.rows}
    assert told == dict.fromkeys(asked, 1)
    assert Stages(Task(space, "study"), folder).exhausted


@settings(max_examples=15, deadline=None)
@given(
    kills=st.lists(st.tuples(st.integers(1, 120), st.sampled_from(HOW)), max_size=5),
    workers=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
    kind=st.sampled_from(["best", "paper"]),
    shares_seeds=st.booleans(),
)
def test_every_row_ends_once_wherever_the_driver_is_killed(
    space: Space, drive: Drive, kills: list[tuple[int, str]], workers: int, order: random.Random,
    kind: str, shares_seeds: bool,
) -> None:  # fmt: skip
    search_seeds = space.seeds if shares_seeds else space.search_seeds
    one = replace(space, baseline_from=kind, search_seeds=search_seeds)
    how: dict[str, Any] = {"workers": workers, "pick": order.randrange}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kill in kills:
            with Killer(*kill)():
                drive(Stages(Task(one, "study"), folder), outcome=stops_some, **how)
        finish(one, folder, drive, **how)


@pytest.mark.parametrize("how", HOW)
def test_every_row_ends_once_after_a_kill_at_each_of_the_writes(
    space: Space, drive: Drive, how: str
) -> None:
    """One after the other, so that none is left to chance."""
    cuts = {"alpha": ({"alpha": 0.0},)}
    one = replace(space, train_sizes=(50,), trials=2, search_seeds=space.seeds, cuts=cuts)
    for write in itertools.count(1):
        with tempfile.TemporaryDirectory() as name:
            killer = Killer(write, how)
            with killer():
                drive(Stages(Task(one, "study"), Path(name)), outcome=stops_some)
            finish(one, Path(name), drive)
            if not killer.killed:
                break
    assert write > 25


@pytest.mark.parametrize("write", [1, 2, 3, 4, 5, 6])
def test_dying_again_and_again_in_the_same_place_loses_nothing(
    space: Space, tmp_path: Path, drive: Drive, write: int
) -> None:
    one = replace(space, train_sizes=(50,))
    for how in 3 * HOW:
        with Killer(write, how)():
            drive(Stages(Task(one, "study"), tmp_path), outcome=stops_some)
    finish(one, tmp_path, drive)
