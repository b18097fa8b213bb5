"""Five hundred trials: no zombie, no leak, nothing missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from driving import (
    Driver,
    check_all_recorded,
    check_plan_is_done,
    command,
    finished,
)

TRIALS = 500
TRIVIAL = ("--mode", "sobol", "--trials", str(TRIALS), "--train-size", "50", "--set", "seeds=0",
           "--set", "steps=1", "--set", "pretrain_steps=0", "--set", "evaluations=1",
           "--skip-preflight")  # fmt: skip


def resident_kilobytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no memory: it has ended")


def zombies_of(pid: int) -> list[str]:
    """Children of a process that have ended and that it has not waited for."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(") ")
        except OSError:
            continue  # it has gone in the meantime
        state, parent = rest.split()[:2]
        if state == "Z" and int(parent) == pid:
            found.append(name)
    return found


@pytest.mark.slow
def test_five_hundred_trials_leave_nothing_behind_and_lack_nothing(tmp_path: Path) -> None:
    driver = Driver(tmp_path, command(*TRIVIAL))
    pid = driver.process.pid
    driver.wait_for(lambda: finished(tmp_path) >= 100)
    after_hundred = resident_kilobytes(pid)
    peak, zombies = after_hundred, []
    while driver.process.poll() is None and finished(tmp_path) < TRIALS - 5:
        peak = max(peak, resident_kilobytes(pid))
        zombies = zombies_of(pid)
    assert driver.end() == 0, driver.output
    assert not zombies
    assert peak <= 1.1 * after_hundred, f"{after_hundred} kB after 100 trials, {peak} kB later"
    check_plan_is_done(tmp_path)
    check_all_recorded(tmp_path)
