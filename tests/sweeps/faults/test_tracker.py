"""A tracking server that dies: the sweep does not notice, and nothing is missing afterwards."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import (
    ROOT,
    Driver,
    Server,
    cluster,
    command,
    finished,
    free_port,
    joined,
    recorded,
    run,
    sqlite_of,
    sweep_of,
)

from sweeps.plan import Plan

pytestmark = pytest.mark.slow

CELLS = ("--quick", "--mode", "sensitivity", "--train-size", "50", "--set", "steps=400",
         "--set", "pretrain_steps=40", "--set", "evaluations=8")  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    running = Server(folder, free_port())
    yield running
    running.stop()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A sweep recorded by a server that lived, and its wall seconds."""
    folder = tmp_path_factory.mktemp("undisturbed")
    running = Server(folder, free_port())
    started = time.monotonic()
    done = run(folder, command(*CELLS, "--tracking-uri", running.uri))
    seconds = time.monotonic() - started
    running.stop()
    assert done.returncode == 0, done.stdout
    return folder, seconds


def test_killed_and_never_back(
    undisturbed: tuple[Path, float], server: Server, tmp_path: Path
) -> None:
    folder, seconds = undisturbed
    words = command(*CELLS, "--tracking-uri", server.uri)
    started = time.monotonic()
    driver = Driver(tmp_path, words)
    driver.wait_for(lambda: finished(tmp_path) >= 3)
    server.stop()
    assert driver.end() == 0, driver.output
    took = time.monotonic() - started
    assert "warning: MLflow" in driver.output
    assert "python sweeps/backfill.py" in driver.output
    assert took <= 1.05 * seconds, f"{took:.1f} s against {seconds:.1f} s undisturbed"

    sweep = sweep_of(tmp_path)
    back = Server(tmp_path / "server", int(server.uri.rpartition(":")[2]))
    backfill = [sys.executable, str(ROOT / "sweeps" / "backfill.py")]
    try:
        done = run(tmp_path, backfill)
        assert done.returncode == 0, done.stdout
    finally:
        back.stop()
    store = sqlite_of(tmp_path / "server")
    once = recorded(store, sweep.name)
    assert once == recorded(sqlite_of(folder), sweep.name)
    again = Server(tmp_path / "server", int(server.uri.rpartition(":")[2]))
    try:
        assert run(tmp_path, backfill).returncode == 0
    finally:
        again.stop()
    assert recorded(store, sweep.name) == once


def test_killed_and_back(undisturbed: tuple[Path, float], server: Server, tmp_path: Path) -> None:
    driver = Driver(tmp_path, command(*CELLS, "--tracking-uri", server.uri))
    driver.wait_for(lambda: finished(tmp_path) >= 2)
    server.stop()
    driver.wait_for(lambda: finished(tmp_path) >= 4)
    back = Server(tmp_path / "server", int(server.uri.rpartition(":")[2]))
    try:
        assert driver.end() == 0, driver.output
    finally:
        back.stop()
    assert "warning" not in driver.output
    sweep = sweep_of(tmp_path)
    store = recorded(sqlite_of(tmp_path / "server"), sweep.name)
    assert store == recorded(sqlite_of(undisturbed[0]), sweep.name)


def test_eight_sweeps_on_one_fresh_store(tmp_path: Path) -> None:
    cell = (
        "--mode", "baseline", "--train-size", "50", "--seeds", "1", "--skip-preflight",
        "--set", "steps=20", "--set", "pretrain_steps=20", "--set", "evaluations=2",
    )  # fmt: skip
    with cluster(8) as made:
        drivers = [
            Driver(tmp_path, command(*cell, "--set", f"alpha=0.{number}"), **joined(made))
            for number in range(1, 9)
        ]
        codes = [driver.end() for driver in drivers]
    assert codes == [0] * 8, "\n".join(driver.output for driver in drivers)
    assert not any("warning" in driver.output for driver in drivers)
    sweeps = [plan.parent for plan in tmp_path.glob("sweep_runs/*/plan.parquet")]
    assert len(sweeps) == 8
    for sweep in sweeps:
        planned = Plan(sweep / "plan.parquet").trials().keys()
        assert recorded(sqlite_of(tmp_path), sweep.name).keys() == planned
