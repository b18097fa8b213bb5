"""What can never work is refused at once; what was capped or has changed says so and goes on."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from driving import (
    ROOT,
    check_plan_is_done,
    command,
    count_events,
    environment,
    finished,
    free_port,
    recorded,
    run,
    sqlite_of,
    sweep_of,
)
from mlflow import MlflowClient

TINY = ("--train-size", "50", "--set", "steps=20", "--set", "pretrain_steps=20",
        "--set", "evaluations=2")  # fmt: skip
CELLS = ("--quick", "--mode", "sensitivity", *TINY, "--skip-preflight")


@pytest.mark.slow
def test_resources_that_can_never_be_met(tmp_path: Path) -> None:
    done = run(tmp_path, command("--mode", "baseline", *TINY, "--cpus-per-trial", "999"))
    assert done.returncode == 2, done.stdout
    assert "no trial could ever start: each wants 999 CPUs" in done.stdout
    assert "--cpus-per-trial" in done.stdout
    assert finished(tmp_path) == 0


@pytest.mark.slow
def test_an_unreachable_tracking_server(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    words = command("--mode", "baseline", *TINY, "--tracking-uri", uri)
    done = run(tmp_path, words)
    assert done.returncode == 2, done.stdout
    assert f"the tracking store {uri} cannot be used" in done.stdout
    assert "--skip-preflight" in done.stdout
    assert "Traceback" not in done.stdout
    assert finished(tmp_path) == 0


@pytest.mark.slow
def test_without_preflight_an_unreachable_server_costs_only_its_absence(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    words = command("--mode", "baseline", *TINY, "--tracking-uri", uri, "--skip-preflight")
    done = run(tmp_path, words)
    assert done.returncode == 0, done.stdout
    assert "warning: MLflow" in done.stdout
    backfill = [sys.executable, str(ROOT / "sweeps" / "backfill.py"), "--tracking-uri",
                "sqlite:///late.db"]  # fmt: skip
    done = run(tmp_path, backfill)
    assert done.returncode == 0, done.stdout
    assert len(recorded(f"sqlite:///{tmp_path / 'late.db'}", sweep_of(tmp_path).name)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cap", "least"),
    [
        (("--max-trials", "2"), 2),
        (("--max-hours", "0.004"), 1),
        (("--max-usd", "0.4", "--usd-per-hour", "100"), 1),
    ],
)
def test_a_cap_ends_the_command_and_the_same_without_it_goes_on(
    tmp_path: Path, cap: tuple[str, ...], least: int
) -> None:
    longer = ("--set", "steps=600", "--set", "evaluations=6") if least == 1 else ()
    done = run(tmp_path, command(*CELLS, *longer, *cap))
    assert done.returncode == 3, done.stdout
    assert f"ended by {' '.join(cap[:2])}" in done.stdout
    assert "go on: python" in done.stdout
    ended = finished(tmp_path)
    if least == 2:
        assert ended == 2
    started = count_events(tmp_path, "start")
    done = run(tmp_path, command(*CELLS, *longer))
    assert done.returncode == 0, done.stdout
    assert f"{ended} of them done before" in done.stdout or not ended
    counted = check_plan_is_done(tmp_path)
    assert len(counted) > started
    assert sum(lines["start"] for lines in counted.values()) == len(counted)


@pytest.mark.slow
def test_failures_are_capped_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "sweep_runs").mkdir()
    in_the_way = tmp_path / "sweep_runs" / "cache"  # where the players' folder should be
    in_the_way.write_text("not a folder")
    done = run(tmp_path, command(*CELLS, "--max-failures", "2", "--cpus-per-trial", "2"))
    assert done.returncode == 3, done.stdout
    assert "ended by --max-failures 2" in done.stdout
    assert "2 trials failed" in done.stdout
    assert finished(tmp_path) == 2
    in_the_way.unlink()
    done = run(tmp_path, command(*CELLS))
    assert done.returncode == 0, done.stdout
    runs = recorded(sqlite_of(tmp_path), sweep_of(tmp_path).name)
    assert {status for _, status, _ in runs.values()} == {"FINISHED"}
    assert all(metrics["test_accuracy"] for _, _, metrics in runs.values())


@pytest.mark.slow
def test_levels_seeds_and_sizes_are_added_later(tmp_path: Path) -> None:
    def sweep(*words: str) -> tuple[str, int]:
        before = count_events(tmp_path, "start")
        done = run(tmp_path, command(*CELLS, *words))
        assert done.returncode == 0, done.stdout
        return done.stdout, count_events(tmp_path, "start") - before

    alpha = ("--factors", "alpha")
    assert sweep(*alpha, "--seeds", "2")[1] == 3  # 0, 0.5 (the baseline), 1
    assert sweep(*alpha, "--seeds", "2")[1] == 0
    output, started = sweep(*alpha, "--seeds", "4")
    assert started == 3
    assert "(4 seeds, 95 % t interval)" in output
    assert sweep(*alpha, "--seeds", "4", "--levels", "alpha=0,0.25,0.5,1")[1] == 1
    assert sweep(*alpha, "--seeds", "2", "--train-size", "60")[1] == 3
    assert sweep("--factors", "gamma", "--seeds", "2")[1] == 3  # its baseline is there
    check_plan_is_done(tmp_path)


def checkout(tmp_path: Path) -> Path:
    """A copy of the code, to be changed."""
    copy = tmp_path / "checkout"
    for name in ("kdgan_core", "sweeps", "analysis"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.slow
def test_changed_code_is_refused_with_the_difference(tmp_path: Path) -> None:
    copy = checkout(tmp_path)
    words = [sys.executable, str(copy / "sweeps" / "run.py"), *command(*CELLS)[2:]]
    more = {"PYTHONPATH": str(copy)}
    done = run(tmp_path, [*words, "--max-trials", "2"], **more)
    assert done.returncode == 3, done.stdout
    losses = copy / "kdgan_core" / "losses.py"
    text = losses.read_text()
    losses.write_text(text + "\n# a comment changes nothing\n")
    done = run(tmp_path, [*words, "--max-trials", "1"], **more)
    assert done.returncode == 3, done.stdout
    losses.write_text(text + "\nUNUSED = 1\n")
    done = run(tmp_path, words, **more)
    assert done.returncode == 2, done.stdout
    assert "code: kdgan_core/losses.py changed" in done.stdout
    assert finished(tmp_path) == 3
    done = run(tmp_path, [*words, "--accept-changes"], **more)
    assert done.returncode == 0, done.stdout
    check_plan_is_done(tmp_path)


@pytest.mark.slow
def test_a_changed_plan_is_refused_and_once_accepted_replaces_the_old(tmp_path: Path) -> None:
    copy = checkout(tmp_path)
    words = [sys.executable, str(copy / "sweeps" / "run.py"), *command(*CELLS)[2:]]
    words += ["--factors", "alpha"]
    more = {"PYTHONPATH": str(copy)}
    assert run(tmp_path, words, **more).returncode == 0
    space = copy / "sweeps" / "spaces" / "digits.toml"
    space.write_text(space.read_text().replace("gamma = 0.01\n", "gamma = 0.1\n"))
    done = run(tmp_path, words, **more)
    assert done.returncode == 2, done.stdout
    assert "n=50: gamma: 0.01 -> 0.1" in done.stdout
    done = run(tmp_path, [*words, "--accept-changes"], **more)
    assert done.returncode == 0, done.stdout
    client = MlflowClient(sqlite_of(tmp_path))
    [parent] = client.search_runs(["1"], "tags.`kdgan.kind` = 'sweep'")
    assert parent.info.status == "FINISHED"
    trials = client.search_runs(["1"], "tags.`kdgan.kind` = 'trial'")
    roles = sorted(run_.data.tags["role"] for run_ in trials)
    assert roles == ["baseline", "sensitivity", "sensitivity", *["superseded"] * 3]
    plot = [sys.executable, str(ROOT / "analysis" / "plot.py"), "digits"]
    assert run(tmp_path, plot).returncode == 0


@pytest.mark.slow
def test_a_recorded_trial_is_replayed_to_the_bit(tmp_path: Path) -> None:
    cell = ("--mode", "baseline", "--seeds", "2", *TINY, "--skip-preflight")
    assert run(tmp_path, command(*cell)).returncode == 0
    client = MlflowClient(sqlite_of(tmp_path))
    [trial] = client.search_runs(["1"], "tags.`kdgan.kind` = 'trial'")
    words = [sys.executable, str(ROOT / "sweeps" / "replay.py"), trial.info.run_id]
    done = run(tmp_path, words)
    assert done.returncode == 0, done.stdout
    assert "recorded and replayed agree: 0, tolerance 0" in done.stdout

    client.log_metric(trial.info.run_id, "test_accuracy/seed_1", 0.5, step=20)
    done = run(tmp_path, words)
    assert done.returncode == 1, done.stdout
    assert "DIFFER" in done.stdout

    for wrong, sentence in (("0" * 32, "cannot be read"), (parent_of(trial), "not a trial's")):
        done = run(tmp_path, [*words[:2], wrong])
        assert done.returncode == 2, done.stdout
        assert sentence in done.stdout
        assert "Traceback" not in done.stdout


def parent_of(trial: object) -> str:
    tags: dict[str, str] = trial.data.tags  # type: ignore[attr-defined]
    return tags["mlflow.parentRunId"]


def test_a_dry_run_as_json_is_json_and_nothing_else(tmp_path: Path) -> None:
    done = run(tmp_path, command("--quick", "--dry-run", "--json", "--usd-per-hour", "3"))
    assert done.returncode == 0, done.stdout
    facts = json.loads(done.stdout)
    assert facts["trials"] > 0
    assert 0 < facts["usd"]["low"] <= facts["usd"]["mid"] <= facts["usd"]["high"]
    assert not list(tmp_path.iterdir())
    assert "RAY_ADDRESS" not in environment()
