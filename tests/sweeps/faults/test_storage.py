"""Storage that is full, read-only, damaged or taken: a clear sentence, and nothing lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import (
    Driver,
    check_all_recorded,
    check_plan_is_done,
    command,
    count_events,
    events,
    finished,
    run,
    sweep_of,
)

from sweeps.plan import Plan
from sweeps.spool import read_spool

CELLS = ("--quick", "--mode", "sensitivity", "--train-size", "50", "--set", "steps=200",
         "--set", "pretrain_steps=40", "--set", "evaluations=4")  # fmt: skip
TINY = ("--mode", "baseline", "--seeds", "1", "--train-size", "50", "--set", "steps=20",
        "--set", "pretrain_steps=20", "--set", "evaluations=2", "--skip-preflight")  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 30 MB of its own, mounted as sweep_runs."""
    folder = tmp_path / "sweep_runs"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounts are not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Writes until there is no byte left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    return ballast


@pytest.mark.slow
def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    driver = Driver(tmp_path, command(*CELLS))
    driver.wait_for(lambda: finished(tmp_path) >= 2 and count_events(tmp_path, "start") >= 3)
    ballast = fill(small_disk)
    assert driver.end() == 1, driver.output
    assert "No space left on device" in driver.output
    assert "the same command goes on" in driver.output
    assert "Traceback" not in driver.output

    sweep = sweep_of(tmp_path)
    assert not list(sweep.glob("**/*.part"))
    for trial_id in Plan(sweep / "plan.parquet").trials():
        path = sweep / "spool" / f"{trial_id}.jsonl"
        assert not read_spool(path).corrupt
        assert not path.exists() or path.read_bytes().endswith(b"\n") or not path.stat().st_size
    before = {trial: lines for trial, lines in events(sweep).items() if lines["result"]}

    ballast.unlink()
    done = run(tmp_path, command(*CELLS))
    assert done.returncode == 0, done.stdout
    counted = check_plan_is_done(tmp_path)
    assert {trial: counted[trial] for trial in before} == before
    check_all_recorded(tmp_path)


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_start(small_disk: Path, tmp_path: Path) -> None:
    ballast = fill(small_disk)
    done = run(tmp_path, command(*TINY))
    assert done.returncode == 2, done.stdout
    assert "cannot be written" in done.stdout
    assert "No space left on device" in done.stdout
    ballast.unlink()
    done = run(tmp_path, command(*TINY))
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_read_only_storage(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run(tmp_path, command(*TINY))
    assert done.returncode == 2, done.stdout
    assert "cannot be written" in done.stdout
    assert "--storage" in done.stdout


@pytest.mark.slow
def test_a_second_driver_is_refused_with_the_first_named(tmp_path: Path) -> None:
    words = command(*TINY, "--set", "steps=2000")
    driver = Driver(tmp_path, words)
    driver.wait_for(lambda: count_events(tmp_path, "evaluation") >= 1)
    second = run(tmp_path, words)
    status = run(tmp_path, [*words, "--status"])
    driver.kill()
    assert second.returncode == 2, second.stdout
    assert f"process {driver.process.pid}" in second.stdout
    assert status.returncode == 0, status.stdout
    assert f"process {driver.process.pid}" in status.stdout
    assert "1 running" in status.stdout
    after = run(tmp_path, [*words, "--status"])
    assert "was killed" in after.stdout


@pytest.mark.slow
def test_a_damaged_plan_and_a_damaged_spool(tmp_path: Path) -> None:
    words = command(*TINY)
    assert run(tmp_path, words).returncode == 0
    sweep = sweep_of(tmp_path)
    [spool] = (sweep / "spool").iterdir()
    lines = spool.read_bytes().splitlines(keepends=True)
    spool.write_bytes(b"".join(lines[:-1]) + b"\xff\x00 not a result\n")
    done = run(tmp_path, words)
    assert done.returncode == 0, done.stdout
    assert f"{spool.name} cannot be read at line {len(lines)}" in done.stdout
    assert "trained again" in done.stdout
    again = spool.read_bytes()
    assert again.startswith(b"".join(lines[:-1]))  # what was there is kept
    assert read_spool(spool).outcome == "collapsed" or read_spool(spool).outcome == "finished"

    plan = sweep / "plan.parquet"
    whole = plan.read_bytes()
    plan.write_bytes(whole[: len(whole) // 2])
    done = run(tmp_path, words)
    assert done.returncode == 2, done.stdout
    assert "plan.parquet is not a plan this version can read" in done.stdout
    assert "Traceback" not in done.stdout
    assert spool.read_bytes() == again
    plan.write_bytes(whole)
    done = run(tmp_path, words)
    assert done.returncode == 0, done.stdout
    assert "nothing to train" in done.stdout
