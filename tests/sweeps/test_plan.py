"""The plan: its rows, its file, and the identity of a sweep."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdgan_core.config import TAU_KINDS
from sweeps.plan import Plan, PlanError, Row, planned_trials, sensitivity_rows, sweep_id
from sweeps.space import Space, load_space
from sweeps.stages import Stages

WEIGHTS = st.floats(1e-6, 1e6)


@st.composite
def temperatures(draw: st.DrawFn) -> dict[str, object]:
    kind, start = draw(st.sampled_from(TAU_KINDS)), draw(WEIGHTS)
    end = start if kind == "constant" else draw(WEIGHTS)
    return {"tau_kind": kind, "tau_start": start, "tau_end": end}


def levels(field: str, values: st.SearchStrategy[float]) -> st.SearchStrategy[object]:
    singles = st.lists(values, max_size=6, unique=True)
    return singles.map(lambda drawn: tuple({field: value} for value in drawn))


CUTS = st.fixed_dictionaries(
    {
        "alpha": levels("alpha", st.floats(0.0, 1.0)),
        "beta": levels("beta", WEIGHTS),
        "gamma": levels("gamma", WEIGHTS),
        "tau": st.lists(temperatures(), max_size=4, unique_by=lambda v: tuple(v.values())),
    }
)


@settings(deadline=None, max_examples=60)
@given(cuts=CUTS, alpha=st.floats(0.0, 1.0), beta=WEIGHTS, tau=temperatures())
def test_a_row_per_level_and_one_baseline(
    space: Space,
    cuts: dict[str, tuple[dict[str, object], ...]],
    alpha: float,
    beta: float,
    tau: dict[str, object],
) -> None:
    cut = replace(space, cuts=cuts)
    baseline = cut.base_config(50).replace(alpha=alpha, beta=beta, **tau)
    rows = sensitivity_rows(cut, baseline)
    assert len({row.key for row in rows}) == len(rows)
    assert [row for row in rows if row.role == "baseline"] == [Row(baseline, "baseline")]
    counts = Counter(row.factor for row in rows if row.role == "sensitivity")
    assert counts == Counter({factor: len(values) for factor, values in cuts.items() if values})
    for row in rows:
        assert (row.trial_id == baseline.trial_id) == (row.config == baseline)
    assert sensitivity_rows(cut, baseline) == rows


def test_a_row_varies_its_factor_alone(space: Space) -> None:
    baseline = space.base_config(50)
    for row in sensitivity_rows(space, baseline)[1:]:
        varied = {k for k, v in row.config.as_dict().items() if v != baseline.as_dict()[k]}
        assert varied <= {"alpha": {"alpha"}, "tau": {"tau_kind", "tau_end"}}[row.factor]


def test_a_level_at_the_baseline_shares_its_trial(space: Space) -> None:
    baseline = space.base_config(50)
    rows = sensitivity_rows(space, baseline)
    shared = [(row.factor, row.level) for row in rows if row.trial_id == baseline.trial_id]
    assert shared == [("", ""), ("alpha", "0.5"), ("tau", "exponential 1→0.1")]
    assert [row.level for row in rows] == [
        "", "0", "0.5", "1", "constant 1", "exponential 1→0.1",
    ]  # fmt: skip


def test_a_plan_is_read_back_in_order(space: Space, tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    plan = Plan(path)
    first = sensitivity_rows(space, space.base_config(200))
    second = [Row(space.base_config(50), "search"), *first, Row(space.base_config(50), "baseline")]
    plan.append(first)
    plan.append(second)
    assert plan.rows == [*first, second[0], second[-1]]
    again = Plan(path)
    assert again.rows == plan.rows
    assert again.trials() == plan.trials()
    assert [row.role for row in again.trials()[space.base_config(50).trial_id]] == [
        "search", "baseline",
    ]  # fmt: skip


def test_rows_known_already_do_not_touch_the_file(space: Space, tmp_path: Path) -> None:
    plan = Plan(tmp_path / "plan.parquet")
    rows = sensitivity_rows(space, space.base_config(50))
    plan.append(rows)
    before = plan.path.stat()
    plan.append(rows)
    after = plan.path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.parquet"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PAR1 but not for long"),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: pq.write_table(pa.table({"role": ["search"]}), path),
        lambda path: pq.write_table(
            pa.table(
                {
                    "config": [json.dumps({"gone": 1})],
                    "role": ["search"],
                    "factor": [""],
                    "level": [""],
                }
            ),
            path,
        ),
    ],
    ids=["empty", "garbage", "truncated", "other columns", "unknown field"],
)
def test_a_damaged_plan_names_the_folder_to_move(
    space: Space, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    path = tmp_path / "plan.parquet"
    Plan(path).append([Row(space.base_config(50), "baseline")])
    damage(path)
    with pytest.raises(PlanError, match=f"move the folder {tmp_path} away"):
        Plan(path)


def test_a_crash_while_writing_leaves_the_old_plan(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.parquet"
    plan = Plan(path)
    plan.append([Row(space.base_config(50), "baseline")])
    before = path.read_bytes()

    def die(table: pa.Table, part: object) -> None:
        part.write(b"PAR1 half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", die)
        with pytest.raises(KeyboardInterrupt):
            plan.append([Row(space.base_config(200), "baseline")])
    assert path.read_bytes() == before
    assert Plan(path).rows == [Row(space.base_config(50), "baseline")]


def test_the_same_definition_is_the_same_sweep() -> None:
    one, other = load_space("mnist"), load_space("mnist")
    assert one is not other
    assert sweep_id(one, "study", 0) == sweep_id(other, "study", 0)
    assert sweep_id(one, "study", 0).startswith("mnist-")


def test_another_definition_is_another_sweep() -> None:
    space = load_space("mnist")
    names = [
        *(sweep_id(space, mode, 0) for mode in ("study", "search", "sensitivity", "baseline")),
        sweep_id(space, "study", 1),
        sweep_id(load_space("mnist", seeds=3), "study", 0),
        sweep_id(load_space("mnist", train_sizes=(100,)), "study", 0),
        sweep_id(load_space("mnist", trials=31), "study", 0),
        sweep_id(load_space("mnist", quick=True), "study", 0),
        sweep_id(load_space("mnist", changes={"samples": 9}), "study", 0),
        sweep_id(load_space("mnist", changes={"alpha": 0.5}), "study", 0),
        sweep_id(load_space("digits"), "study", 0),
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("mode", ["sensitivity", "baseline"])
def test_what_a_search_alone_uses_is_no_part_of_a_sweep_without_one(mode: str) -> None:
    space = load_space("mnist")
    assert sweep_id(space, mode, 0) == sweep_id(space, mode, 7)
    assert sweep_id(space, mode, 0) == sweep_id(load_space("mnist", trials=99), mode, 0)
    assert sweep_id(space, "search", 0) != sweep_id(space, "search", 7)


def test_a_new_level_is_another_sweep(space: Space) -> None:
    more = replace(space, cuts={**space.cuts, "alpha": (*space.cuts["alpha"], {"alpha": 0.7})})
    assert sweep_id(more, "sensitivity", 0) != sweep_id(space, "sensitivity", 0)
    assert sweep_id(more, "search", 0) == sweep_id(space, "search", 0)


def test_planned_trials_are_the_ones_a_sensitivity_sweep_runs(
    space: Space, tmp_path: Path
) -> None:
    stages = Stages(space, "sensitivity", 0, tmp_path)
    handed = []
    while (row := stages.next_row()) is not None:
        handed.append(row.config.train_size)
    assert planned_trials(space, "sensitivity") == {50: (0, 4), 200: (0, 4)}
    assert Counter(handed) == {50: 4, 200: 4}


def test_planned_trials_of_the_other_modes(space: Space) -> None:
    assert planned_trials(space, "baseline") == {50: (0, 1), 200: (0, 1)}
    assert planned_trials(space, "search") == {50: (3, 0), 200: (3, 0)}
    assert planned_trials(space, "study") == {50: (3, 6), 200: (3, 6)}
