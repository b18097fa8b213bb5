"""What a sweep says of itself: to MLflow at its start, to the user and a webhook at its end."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from analysis.stats import t_interval
from sweeps.caps import Budget, Caps
from sweeps.closing import (
    facts,
    print_best,
    print_cap,
    print_corrupt,
    print_failed,
    print_next,
    summary,
)
from sweeps.manifest import new_manifest
from sweeps.options import Options
from sweeps.space import Space
from sweeps.spool import spool_path
from sweeps.stages import Stages, Task

DEFAULT = "sqlite:///mlflow.db"


@pytest.fixture
def make_options(tmp_path: Path) -> Callable[..., Options]:
    """A function that returns the command line's defaults, with changes."""
    options = Options(
        mode="study",
        quick=False,
        data_dir=None,
        storage=tmp_path / "sweep_runs",
        tracking_uri=DEFAULT,
        cpus_per_trial=1.0,
        gpus_per_trial=None,
        seed=0,
        command="python sweeps/run.py toy --set 'alpha=0.5'",
    )
    return lambda **changes: replace(options, **changes)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def said(console: Console) -> dict[str, str]:
    """What is printed after each 'word: '."""
    return {
        word.strip(): rest for word, _, rest in (line.partition(": ") for line in lines(console))
    }


@pytest.mark.parametrize(
    ("uri", "runs", "plots"),
    [
        (DEFAULT, "mlflow ui", "python analysis/plot.py toy"),
        (
            "sqlite:////data/mlflow.db",
            "mlflow ui --backend-store-uri sqlite:////data/mlflow.db",
            "python analysis/plot.py toy --tracking-uri sqlite:////data/mlflow.db",
        ),
        (
            "http://tracker:5000",
            "open http://tracker:5000 in a browser",
            "python analysis/plot.py toy --tracking-uri http://tracker:5000",
        ),
    ],
)
def test_the_commands_that_come_next(
    space: Space,
    make_options: Callable[..., Options],
    console: Console,
    uri: str,
    runs: str,
    plots: str,
) -> None:
    options = make_options(tracking_uri=uri)
    print_next(space, options, "toy-1a2b3c4d", True, True, console)
    assert said(console) == {
        "runs": runs,
        "plots": plots,
        "sweep": f"toy-1a2b3c4d in {options.storage / 'toy-1a2b3c4d'}",
    }


def test_an_incomplete_sweep_is_told_how_to_go_on(
    space: Space, make_options: Callable[..., Options], console: Console
) -> None:
    options = make_options()
    print_next(space, options, "toy-1a2b3c4d", False, True, console)
    assert said(console)["go on"] == options.command


def test_a_store_with_a_space_in_its_path_can_be_pasted(
    space: Space, make_options: Callable[..., Options], console: Console
) -> None:
    uri = "sqlite:////my data/mlflow.db"
    print_next(space, make_options(tracking_uri=uri), "toy-1a2b3c4d", True, True, console)
    assert shlex.split(said(console)["runs"])[-1] == uri
    assert shlex.split(said(console)["plots"])[-1] == uri


def run_all(stages: Stages, end_trial: Callable[..., object], *outcomes: str) -> None:
    while (row := stages.next_row()) is not None:
        end_trial(stages.spool, row.config, 0.9, outcomes, spread=0.02)
        stages.complete(row.trial_id)


def test_the_baseline_of_each_size_with_its_test_score(
    space: Space, tmp_path: Path, end_trial: Callable[..., object], console: Console
) -> None:
    stages = Stages(Task(space, "baseline"), tmp_path)
    run_all(stages, end_trial)
    print_best(stages, console)
    interval = t_interval([89.0, 91.0])
    spread = f"[{interval.low:.2f}, {interval.high:.2f}]"
    at = "α=0.5 β=1 γ=0.01 τ exponential 1→0.1"
    assert lines(console) == [
        f"n={n} baseline {at}: test 90.00 % {spread} (2 seeds, 95 % t interval)" for n in (50, 200)
    ]


def test_one_seed_has_no_interval_and_a_diverged_one_no_score(
    space: Space, tmp_path: Path, end_trial: Callable[..., object], console: Console
) -> None:
    one = replace(space, train_sizes=(50,))
    stages = Stages(Task(one, "baseline"), tmp_path)
    run_all(stages, end_trial, "diverged")
    print_best(stages, console)
    (line,) = lines(console)
    assert line.endswith(": test 91.00 % (1 seed)")


@pytest.mark.parametrize("outcomes", [("failed",), ("diverged", "diverged")])
def test_a_baseline_without_a_score_is_passed_over(
    space: Space,
    tmp_path: Path,
    end_trial: Callable[..., object],
    console: Console,
    outcomes: tuple[str, ...],
) -> None:
    stages = Stages(Task(space, "baseline"), tmp_path)
    run_all(stages, end_trial, *outcomes)
    print_best(stages, console)
    assert lines(console) == []


def test_a_search_names_its_best(
    space: Space, tmp_path: Path, end_trial: Callable[..., object], console: Console
) -> None:
    one = replace(space, train_sizes=(50,))
    stages = Stages(Task(one, "search"), tmp_path)
    row = stages.next_row()
    assert row is not None
    end_trial(stages.spool, row.config, 0.75)
    stages.complete(row.trial_id)
    print_best(stages, console)
    assert lines(console) == ["n=50 best α=0.5 β=1 γ=0.01 τ exponential 1→0.1: validation 75.00 %"]


def test_every_arm_of_a_table_in_the_files_order(
    table: Space, tmp_path: Path, end_trial: Callable[..., object], console: Console
) -> None:
    stages = Stages(Task(replace(table, trials=0), "methods"), tmp_path)
    run_all(stages, end_trial)
    print_best(stages, console)
    interval = t_interval([89.0, 91.0])
    score = f"test 90.00 % [{interval.low:.2f}, {interval.high:.2f}] (2 seeds, 95 % t interval)"
    assert lines(console) == [
        f"n={n} {arm}: {score}" for n in (50, 200) for arm in ("kdgan", "mimic", "teacher")
    ]


def test_seeds_that_were_added_to_an_arm_are_in_its_mean(
    table: Space, tmp_path: Path, end_trial: Callable[..., object], console: Console
) -> None:
    one = replace(table, train_sizes=(50,), chosen=("mimic",), trials=0)
    run_all(Stages(Task(one, "methods"), tmp_path), end_trial)
    stages = Stages(Task(replace(one, seeds=(0, 1, 2)), "methods"), tmp_path)
    run_all(stages, end_trial)
    print_best(stages, console)
    (line,) = lines(console)
    assert line.startswith("n=50 mimic: test 89.67 %") and "3 seeds" in line


def test_an_arm_in_tuning_has_its_best_on_validation(
    table: Space, tmp_path: Path, end_trial: Callable[..., object], console: Console
) -> None:
    one = replace(table, train_sizes=(50,), chosen=("mimic",))
    stages = Stages(Task(one, "methods"), tmp_path)
    row = stages.next_row()
    assert row is not None
    end_trial(stages.spool, row.config, 0.75)
    stages.complete(row.trial_id)
    print_best(stages, console)
    assert lines(console) == ["n=50 mimic best: validation 75.00 %"]


def test_a_table_is_what_is_drawn_next(
    table: Space, make_options: Callable[..., Options], console: Console
) -> None:
    print_next(table, make_options(mode="methods"), "toy-1a2b3c4d", True, True, console)
    assert said(console)["plots"] == "python analysis/plot.py toy --table 1"


@pytest.mark.parametrize(
    ("storage", "command"),
    [
        ("sweep_runs", "python sweeps/backfill.py toy-1a2b3c4d"),
        ("my runs", "python sweeps/backfill.py toy-1a2b3c4d --storage 'my runs'"),
    ],
)
def test_what_mlflow_lacks_can_be_sent_later(
    space: Space,
    make_options: Callable[..., Options],
    console: Console,
    storage: str,
    command: str,
) -> None:
    options = make_options(storage=Path(storage))
    print_next(space, options, "toy-1a2b3c4d", True, False, console)
    assert said(console)["backfill"] == command
    assert "go on" not in said(console)


@pytest.mark.parametrize(
    ("failed", "words"), [(1, "1 trial failed: its traceback"), (3, "3 trials failed: their")]
)
def test_failed_trials_are_counted(
    space: Space, tmp_path: Path, console: Console, failed: int, words: str
) -> None:
    stages = Stages(Task(space, "baseline"), tmp_path)
    print_failed(0, stages, console)
    assert lines(console) == []
    print_failed(failed, stages, console)
    (line,) = lines(console)
    assert line.startswith(words)
    assert str(stages.spool) in line and "the same command tries again" in line


def test_lines_that_cannot_be_read_are_named(
    space: Space, tmp_path: Path, console: Console, end_trial: Callable[..., object]
) -> None:
    rows = Stages(Task(space, "baseline"), tmp_path).plan.rows
    for row in rows:
        end_trial(tmp_path / "spool", row.config)
    kept, lost = (spool_path(tmp_path / "spool", row.trial_id) for row in rows)
    kept.write_bytes(kept.read_bytes().replace(b'"evaluation"', b"\xff", 1))
    lost.write_bytes(lost.read_bytes().replace(b'"result"', b"\xff", 1))
    print_corrupt(Stages(Task(space, "baseline"), tmp_path), console)
    first, second = lines(console)
    assert first.startswith(f"warning: {kept} cannot be read at line 2:")
    assert "keeps its result" in first
    assert second.startswith(f"warning: {lost} cannot be read at line 5:")
    assert "is trained again" in second


def test_the_cap_and_what_was_spent(console: Console) -> None:
    budget = Budget(Caps(max_trials=1, max_failures=9), 0.0)
    budget.trial_started("a", 1.0)
    assert not budget.allows(1.0)
    print_cap(budget, 0, console)
    assert lines(console) == ["ended by --max-trials 1: this command has spent 1 trials, 0.0 min"]


def test_what_was_paused_by_a_cap_is_said(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(Caps(max_gpu_hours=2.0, usd_per_hour=3.0), 1.0)
    spent = {"trials": 4.0, "hours": 0.5, "gpu_hours": 2.1, "usd": 1.5, "failures": 1.0}
    monkeypatch.setattr(budget, "spent", lambda: spent)
    budget.reached = "--max-gpu-hours 2"
    print_cap(budget, 2, console)
    assert lines(console) == [
        "ended by --max-gpu-hours 2: this command has spent 4 trials, 30.0 min, 2.10 GPU-hours,"
        " $1.50, 1 failed; 2 running trials were paused and go on from their last check"
    ]


@pytest.mark.parametrize(
    ("why", "complete", "sentence"),
    [
        ("", True, "sweep toy is complete: 1 failed, 2 finished"),
        ("", False, "sweep toy ended incomplete: 1 failed, 2 finished"),
        ("interrupted", False, "sweep toy was interrupted: 1 failed, 2 finished"),
        ("cap", False, "sweep toy ended by --max-hours 2: 1 failed, 2 finished"),
        ("storage", False, "sweep toy ended: its storage cannot be written: 1 failed, 2 finished"),
    ],
)
def test_how_a_sweep_ended_in_a_sentence(why: str, complete: bool, sentence: str) -> None:
    outcomes = ["finished", "failed", "finished"]
    assert summary("toy", why, complete, outcomes, "--max-hours 2") == sentence


def test_a_sweep_without_an_ended_trial() -> None:
    assert summary("toy", "interrupted", False, [], "").endswith(": no trial has ended")


def test_the_tags_of_the_parent_run(space: Space, make_options: Callable[..., Options]) -> None:
    options = make_options(mode="baseline")
    manifest = {**new_manifest(space, options, "c0ffee"), "expected_trials": 2}
    tags = facts(manifest, options, {"gpus_per_trial": 0.25, "nodes": [{"CPU": 2.0}]})
    assert tags.items() >= manifest["facts"].items()
    assert tags["planned_trials"] == "2"
    assert json.loads(tags["resources"]) == {
        "cpus_per_trial": 1.0, "gpus_per_trial": 0.25, "nodes": [{"CPU": 2.0}],
    }  # fmt: skip
    assert "resources" not in facts(manifest, options, {})
    more = {**new_manifest(replace(space, seeds=(0,)), options, "c0ffee"), "expected_trials": 2}
    assert facts(more, options, {})["plan_hash"] != tags["plan_hash"]
    assert facts(manifest, options, {})["plan_hash"] == tags["plan_hash"]
