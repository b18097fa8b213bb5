"""Whatever the space and the mode: unique trials, one baseline, levels × seeds × sizes in all."""

from __future__ import annotations

import math
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from staging import MANY, baseline, roles, trainings

from kdgan_core import TrialConfig
from sweeps.factors import FACTORS
from sweeps.plan import Plan, Row
from sweeps.space import Space
from sweeps.stages import Stages, Task
from sweeps.words import MODES, SEARCHING, TABLE

Drive = Callable[..., list[Row]]
LEVELS: dict[str, list[dict[str, object]]] = {
    "alpha": [{"alpha": value} for value in (0.0, 0.3, 0.5, 1.0)],
    "beta": [{"beta": value} for value in (1e-3, 1.0, 2.5, 1e3)],
    "gamma": [{"gamma": value} for value in (1e-4, 0.01, 3.0)],
    "tau": [
        dict(zip(FACTORS["tau"], values, strict=True))
        for values in (("constant", 1.0, 1.0), ("exponential", 1.0, 0.1), ("linear", 2.0, 0.5))
    ],
}
DIMENSIONS: dict[str, tuple[object, ...]] = {
    "alpha": (0.0, 1.0),
    "log10_beta": (-3.0, 3.0),
    "log10_gamma": (-4.0, 2.0),
    "tau_kind": ("exponential", "linear"),
}
AROUND = [mode for mode in MODES if mode != TABLE]  # test_stages_table.py has the other
SEEDS = st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True).map(tuple)
SIZES = st.lists(st.sampled_from([50, 100, 200]), min_size=1, max_size=3, unique=True).map(tuple)


@pytest.fixture(scope="module", autouse=True)
def no_fsync() -> Iterator[None]:
    """Nothing is killed here."""
    with patch("os.fsync"):
        yield


@st.composite
def tasks(draw: st.DrawFn, space: Space) -> Task:
    mode = draw(st.sampled_from(AROUND))
    factors = draw(st.lists(st.sampled_from(sorted(FACTORS)), min_size=2, max_size=4, unique=True))
    named = draw(st.sampled_from([{}, {"alpha": 0.3}, {"beta": 2.5, "tau_kind": "linear"}]))
    dimensions = draw(
        st.lists(st.sampled_from(sorted(DIMENSIONS)), min_size=1, max_size=4, unique=True)
    )
    cuts = {
        factor: tuple(draw(st.lists(st.sampled_from(LEVELS[factor]), min_size=1, max_size=6)))
        for factor in (factors[:2] if mode == "grid" else factors)
    }
    return Task(
        replace(
            space, train_sizes=draw(SIZES), seeds=draw(SEEDS), search_seeds=draw(SEEDS),
            trials=draw(st.integers(1, 4)), baseline={**space.baseline, **named},
            baseline_from=draw(st.sampled_from(["best", "paper", "named"])),
            search={name: DIMENSIONS[name] for name in dimensions}, cuts=cuts,
        ),
        mode,
        sampler=draw(st.sampled_from(["tpe", "random", "qmc"])),
        seed=draw(st.integers(0, 3)),
    )  # fmt: skip


def cells_around(task: Task, stands: TrialConfig) -> set[str]:
    """The cells that a mode has around a baseline, said in another way than the plan's."""
    if task.mode in ("search", "sobol"):
        return set()
    steps: list[dict[str, Any]] = [{}]
    if task.mode == "grid":
        first, second = task.space.cuts.values()
        steps += [{**one, **other} for one in first for other in second]
    elif task.mode != "baseline":
        steps += [dict(level) for levels in task.space.cuts.values() for level in levels]
    return {stands.replace(**step).cell_id for step in steps}


def points(space: Space) -> int:
    """How many trials a search or a Sobol design can have."""
    choices = [len(v) if isinstance(v[0], str) else math.inf for v in space.search.values()]
    return int(min(space.trials, math.prod(choices)))


@settings(max_examples=25, deadline=None)
@given(data=st.data(), workers=st.integers(1, 6))
def test_a_plan_has_what_was_asked_for_once(
    space: Space, drive: Drive, data: st.DataObject, workers: int
) -> None:
    task = data.draw(tasks(space))
    asked, plans = task.space, []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as name:
            stages = Stages(task, Path(name))
            handed = drive(stages, workers=workers)
            assert stages.exhausted and not stages.missing
            plans.append(Plan(Path(name) / "plan.parquet").rows)
            trained = trainings(Path(name))
    assert plans[0] == plans[1] == stages.plan.rows

    planned = stages.plan.trials()
    assert len({rows[0].config for rows in planned.values()}) == len(planned)
    assert len({row.key for row in stages.plan}) == len(stages.plan.rows)
    assert Counter(row.trial_id for row in handed) == dict.fromkeys(planned, 1)
    searches = task.mode in SEARCHING
    for n in asked.train_sizes:
        counted = {role: count for (size, role), count in roles(stages).items() if size == n}
        assert counted.get("search", 0) == (points(asked) if searches else 0)
        if task.mode in ("search", "sobol"):
            assert counted == {task.mode: points(asked)}
            continue
        assert counted["baseline"] == 1
        stands = baseline(stages, n).config
        if not searches or asked.baseline_from != "best":
            assert stands == asked.base_config(n)
        cells = cells_around(task, stands)
        mine = {pair: k for pair, k in trained.items() if pair[0] in cells}
        assert mine == {(cell, seed): 1 for cell in cells for seed in asked.seeds}
        assert len(mine) == len(cells) * len(asked.seeds)
        for pair in mine:
            del trained[pair]
    if task.mode != "sobol":
        assert not trained


class Command(NamedTuple):
    """What one command asks for, and after how many trials it is killed."""

    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    levels: frozenset[int]
    trials: int
    ends: int


COMMANDS = st.builds(
    Command, SIZES, SEEDS, st.frozensets(st.integers(0, 3), min_size=1), st.integers(1, 4),
    st.sampled_from([0, 1, 3, MANY]),
)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    mode=st.sampled_from(AROUND),
    commands=st.lists(COMMANDS, min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_what_is_added_in_any_order_is_trained_once(
    space: Space, drive: Drive, mode: str, commands: list[Command], order: random.Random
) -> None:
    def task(command: Command) -> Task:
        some = {
            name: tuple(LEVELS[name][i] for i in sorted(command.levels))
            for name in ("alpha", "beta")
        }
        asked = replace(
            space, train_sizes=command.sizes, seeds=command.seeds, cuts=some,
            trials=command.trials, baseline_from="paper" if mode == "grid" else "best",
        )  # fmt: skip
        return Task(asked, mode, sampler="random")

    ends = []
    for ordered in (commands, order.sample(commands, len(commands))):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for command in [*ordered, *(c._replace(ends=MANY) for c in reversed(ordered))]:
                stages = Stages(task(command), folder)
                handed = drive(stages, ends=command.ends)
                if command.ends == MANY:
                    assert stages.exhausted and not stages.missing
                assert len({row.trial_id for row in handed}) == len(handed)
            trained, counted = trainings(folder), roles(stages)
            wanted = {
                (cell, seed)
                for command in commands
                for n in command.sizes
                for row in stages.plan
                if row.role == "baseline" and row.config.train_size == n
                for cell in cells_around(task(command), row.config)
                for seed in command.seeds
            }
        for n in {n for command in commands for n in command.sizes}:
            most = max(command.trials for command in commands if n in command.sizes)
            assert counted[n, "search"] == (most if mode in SEARCHING else 0)
            assert counted[n, "sobol"] == (most if mode == "sobol" else 0)
        assert set(trained.values()) <= {1}
        if mode != "sobol":
            assert trained.keys() == wanted
        ends.append(trained)
    if mode != "study":  # where the best is found depends on what is told when
        assert ends[0] == ends[1]
