"""Workers, drivers and nodes that are killed: nothing is lost and nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from driving import (
    Driver,
    check_all_recorded,
    check_plan_is_done,
    cluster,
    command,
    count_events,
    finished,
    joined,
    optuna_states,
    results,
    run,
    sweep_of,
)

from sweeps.plan import Plan

SHORT = ("--train-size", "50", "--set", "pretrain_steps=40", "--skip-preflight")
ONE_CELL = ("--mode", "baseline", "--seeds", "2", *SHORT, "--set", "steps=400",
            "--set", "evaluations=10")  # fmt: skip
STUDY = ("--quick", "--trials", "4", "--seeds", "2", *SHORT, "--set", "steps=200",
         "--set", "evaluations=4")  # fmt: skip


@pytest.mark.slow
def test_a_killed_workers_trial_goes_on_from_its_last_evaluation(tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "one", tmp_path / "other"
    undisturbed.mkdir()
    disturbed.mkdir()
    done = run(undisturbed, command(*ONE_CELL))
    assert done.returncode == 0, done.stdout

    driver = Driver(disturbed, command(*ONE_CELL))
    driver.wait_for(lambda: count_events(disturbed, "evaluation") >= 5)
    [path] = disturbed.glob("sweep_runs/*/spool/*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    seen = [line["step"] for line in lines if line["event"] == "evaluation"]
    os.kill(lines[0]["pid"], signal.SIGKILL)
    assert driver.end() == 0, driver.output

    counted = check_plan_is_done(disturbed)
    assert [lines["start"] for lines in counted.values()] == [1]
    text = path.read_text().splitlines()
    [resumed] = [json.loads(line) for line in text if '"event": "resume"' in line]
    assert resumed["step"] >= seen[-2]  # the last one's checkpoint may have been in the making
    assert resumed["pid"] != lines[0]["pid"]
    assert results(sweep_of(disturbed)) == results(sweep_of(undisturbed))
    assert not list(sweep_of(disturbed).glob("checkpoints/*"))


@pytest.mark.slow
def test_a_driver_killed_at_three_moments(tmp_path: Path) -> None:
    words = command(*STUDY)

    def search_rows() -> list[str]:
        return [
            r.trial_id for r in Plan(sweep_of(tmp_path) / "plan.parquet") if r.role == "search"
        ]

    driver = Driver(tmp_path, words)  # in the search
    driver.wait_for(lambda: finished(tmp_path) >= 1 and count_events(tmp_path, "start") >= 3)
    driver.kill()

    driver = Driver(tmp_path, words)  # between the stages
    driver.wait_for(lambda: finished(tmp_path) >= 4 and len(search_rows()) == 4)
    driver.kill()

    driver = Driver(tmp_path, words)  # among the cells
    driver.wait_for(lambda: finished(tmp_path) >= 8)
    driver.kill()

    done = run(tmp_path, words)
    assert done.returncode == 0, done.stdout
    counted = check_plan_is_done(tmp_path)
    for trial, lines in counted.items():
        assert lines["start"] == 1 or started_over_rightly(tmp_path, trial), (trial, lines)
    assert sum(lines["resume"] for lines in counted.values()) >= 1
    assert optuna_states(sweep_of(tmp_path))["RUNNING"] == 0
    check_all_recorded(tmp_path)


def started_over_rightly(folder: Path, trial_id: str) -> bool:
    """Every attempt but the last ended before its first check after the pretrained one."""
    path = sweep_of(folder) / "spool" / f"{trial_id}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    last = max(i for i, line in enumerate(lines) if line["event"] == "start")
    return not any(line.get("step", 0) > 0 for line in lines[:last])


@pytest.mark.slow
def test_a_node_killed_in_mid_sweep(tmp_path: Path) -> None:
    words = command("--quick", "--mode", "sensitivity", *SHORT, "--set", "steps=300",
                    "--set", "evaluations=6")  # fmt: skip
    with cluster(1) as made:
        second = made.add_node(num_cpus=1)
        driver = Driver(tmp_path, words, **joined(made))
        try:
            driver.wait_for(lambda: finished(tmp_path) >= 2)
            driver.wait_for(lambda: count_events(tmp_path, "evaluation") >= 20)
            made.remove_node(second, allow_graceful=False)
            assert driver.end() == 0, driver.output
        finally:
            driver.process.kill()
    counted = check_plan_is_done(tmp_path)
    again = [lines for lines in counted.values() if lines["resume"] or lines["start"] > 1]
    assert again, "the killed node trained nothing"
    check_all_recorded(tmp_path)
