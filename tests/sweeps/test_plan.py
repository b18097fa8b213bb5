"""The plan: its rows, its file, what is superseded and comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeps.arms import Branch
from sweeps.design import sensitivity_rows
from sweeps.plan import Plan, PlanError, Row
from sweeps.space import Space


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "plan.parquet"


@pytest.fixture
def rows(space: Space) -> list[Row]:
    """A baseline and its levels, two of which are the baseline."""
    return sensitivity_rows(space, space.base_config(50))


def test_a_plan_is_read_back_in_order(space: Space, path: Path) -> None:
    plan = Plan(path)
    first = sensitivity_rows(space, space.base_config(200))
    second = [Row(space.base_config(50), "search"), *first, Row(space.base_config(50), "baseline")]
    assert plan.append(first) == first
    assert plan.append(second) == [second[0], second[-1]]
    assert plan.rows == [*first, second[0], second[-1]]
    again = Plan(path)
    assert again.rows == list(again) == plan.rows
    assert again.trials() == plan.trials()
    assert [row.role for row in again.trials()[space.base_config(50).trial_id]] == [
        "search", "baseline",
    ]  # fmt: skip


def test_the_plan_of_an_earlier_version_has_the_same_trials(rows: list[Row], path: Path) -> None:
    """One that lacked an option; what its spools are named after."""
    Plan(path).append(rows)
    table = pq.read_table(path)
    older = [json.loads(text) for text in table["config"].to_pylist()]
    assert {config.pop("color_jitter") for config in older} == {0.0}
    column = table.schema.get_field_index("config")
    pq.write_table(table.set_column(column, "config", [list(map(json.dumps, older))]), path)
    assert list(Plan(path).trials()) == list(dict.fromkeys(row.trial_id for row in rows))


def test_the_trials_follow_the_plan(rows: list[Row], path: Path) -> None:
    plan = Plan(path)
    trials = plan.trials()
    plan.append(rows)
    assert list(trials) == list(dict.fromkeys(row.trial_id for row in rows))
    assert [row for mine in trials.values() for row in mine] == sorted(
        rows, key=lambda row: list(trials).index(row.trial_id)
    )


def test_rows_known_already_do_not_touch_the_file(rows: list[Row], path: Path) -> None:
    plan = Plan(path)
    plan.append(rows)
    before = plan.path.stat()
    assert plan.append(rows) == []
    after = plan.path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert [found.name for found in path.parent.iterdir()] == ["plan.parquet"]


def test_what_is_superseded_keeps_its_trials(rows: list[Row], path: Path) -> None:
    plan = Plan(path)
    plan.append(rows)
    trial_ids = list(plan.trials())
    plan.supersede()
    for one in (plan, Plan(path)):
        assert list(one.trials()) == trial_ids
        assert {(row.role, row.factor, row.level) for row in one} == {("superseded", "", "")}
        assert len(one.rows) == len(trial_ids) < len(rows)


def test_a_superseded_row_that_is_planned_again_is_back(rows: list[Row], path: Path) -> None:
    plan = Plan(path)
    plan.append(rows)
    plan.supersede()
    kept, back = rows[1], [row for row in rows if row.trial_id != rows[1].trial_id]
    assert plan.append(back) == back
    for one in (plan, Plan(path)):
        assert one.rows == [Row(kept.config, "superseded"), *back]
        assert one.trials()[kept.trial_id] == [Row(kept.config, "superseded")]
        assert one.trials()[back[0].trial_id] == [
            row for row in back if row.trial_id == back[0].trial_id
        ]


def test_a_plan_that_is_back_as_a_whole_is_written(rows: list[Row], path: Path) -> None:
    trials = list({row.trial_id: row for row in rows}.values())
    plan = Plan(path)
    plan.append(trials)
    plan.supersede()
    plan.append(trials)  # as many rows as before
    assert Plan(path).rows == trials


def test_superseding_nothing_writes_nothing(path: Path) -> None:
    Plan(path).supersede()
    assert not path.exists()


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
    space: Space, path: Path, damage: Callable[[Path], object]
) -> None:
    Plan(path).append([Row(space.base_config(50), "baseline")])
    damage(path)
    with pytest.raises(PlanError, match=f"move the folder {path.parent} away"):
        Plan(path)


def test_a_crash_while_writing_leaves_the_old_plan(
    space: Space, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_row_that_is_withdrawn_leaves_a_superseded_trial_and_can_come_back(
    space: Space, tmp_path: Path
) -> None:
    plan = Plan(tmp_path / "plan.parquet")
    config = space.base_config(50)
    rows = [Row(config, "methods", "method", arm) for arm in ("a", "b")]
    plan.append(rows)
    plan.withdraw(rows[:1])
    assert plan.rows == Plan(plan.path).rows == rows[1:]
    plan.withdraw(rows[1:])
    assert plan.rows == Plan(plan.path).rows == [Row(config, "superseded")]
    assert plan.append(rows[:1]) == rows[:1]
    assert plan.rows == Plan(plan.path).rows == rows[:1]


def test_a_row_knows_its_branch(space: Space) -> None:
    config = space.base_config(50)
    assert Row(config, "methods", "method", "kdgan").branch == Branch(50, "kdgan")
    assert Row(config, "search", "method", "kdgan").branch == Branch(50, "kdgan")
    for row in (Row(config, "search"), Row(config, "sensitivity", "beta", "0.1")):
        assert row.branch == Branch(50)
