"""A real table of methods, from the command line to MLflow; again, and with an arm added."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from driving import check_all_recorded, check_plan_is_done, command, run, sqlite_of, sweep_of
from mlflow import MlflowClient

from sweeps.plan import Plan

SHORT = [
    "--mode", "methods", "--quick", "--train-size", "50", "--trials", "2", "--set", "steps=20",
    "--set", "pretrain_steps=20", "--set", "evaluations=2",
]  # fmt: skip


def arms_in_mlflow(folder: Path) -> Counter[tuple[str, str, str, str, str]]:
    """(role, factor, level, method, seeds) of every trial's run -> how many."""
    client = MlflowClient(sqlite_of(folder))
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`kdgan.kind` = 'trial'")
    return Counter(
        (*(r.data.tags[tag] for tag in ("role", "factor", "level")),
         r.data.params["method"], r.data.params["seeds"])
        for r in runs
    )  # fmt: skip


def line_of(level: str, method: str) -> dict[tuple[str, str, str, str, str], int]:
    """What an arm has in MLflow: two tuning trials, and the table's."""
    tuned = ("search", "method", level, method, "[100]")
    return {tuned: 2, ("methods", "method", level, method, "[0, 1]"): 1}


@pytest.mark.slow
def test_a_table_is_tuned_trained_recorded_and_added_to(tmp_path: Path) -> None:
    words = command(*SHORT, "--arms", "teacher,codis")
    done = run(tmp_path, words)
    assert done.returncode == 0, done.stdout
    wanted = line_of("codis", "codis") | line_of("teacher", "supervised")
    assert arms_in_mlflow(tmp_path) == wanted
    check_all_recorded(tmp_path)
    scores = [line for line in done.stdout.splitlines() if line.startswith("n=50 ")]
    assert [line.partition(": test ")[0] for line in scores] == ["n=50 codis", "n=50 teacher"]
    assert "python analysis/plot.py digits --table 1" in done.stdout

    before = check_plan_is_done(tmp_path)
    again = run(tmp_path, words)
    assert again.returncode == 0, again.stdout
    assert "nothing to train" in again.stdout
    assert check_plan_is_done(tmp_path) == before

    more = run(tmp_path, command(*SHORT, "--arms", "codis,teacher,mimic"))
    assert more.returncode == 0, more.stdout
    assert "9 trials, 6 of them done before" in more.stdout
    assert arms_in_mlflow(tmp_path) == wanted | line_of("mimic", "mimic")
    after = check_plan_is_done(tmp_path)
    assert {trial: after[trial] for trial in before} == before
    assert len(Plan(sweep_of(tmp_path) / "plan.parquet").trials()) == 9
