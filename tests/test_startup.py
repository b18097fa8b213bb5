"""What a command imports before it answers, counted: no time is taken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {
    "torch", "ray", "mlflow", "optuna", "pandas", "matplotlib", "numpy", "scipy", "sklearn",
    "pyarrow",
}  # fmt: skip
NEEDED = {"torch", "numpy", "pyarrow"}  # for a trial, and a plan
COMMANDS = (
    "sweeps/run.py", "sweeps/backfill.py", "sweeps/replay.py", "sweeps/studies.py",
    "analysis/plot.py", "cluster/connect.py",
)  # fmt: skip
# Runs a file as a command with --help, or imports a module; prints what is loaded then.
PROBE = """
import contextlib, importlib, io, json, runpy, sys
what, sys.argv = sys.argv[1], [sys.argv[1], "--help"]
shown = io.StringIO()
with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
    runpy.run_path(what, run_name="__main__") if "/" in what else importlib.import_module(what)
print(json.dumps([shown.getvalue(), sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def loaded(what: str) -> tuple[str, set[str]]:
    """What a command printed, and the top-level modules that it had loaded by then."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, what], cwd=ROOT, check=True, capture_output=True, text=True
    )
    shown, modules = json.loads(done.stdout.splitlines()[-1])
    return shown, set(modules)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    shown, modules = loaded(command)
    assert "Usage:" in shown
    assert "click" in modules
    assert modules & HEAVY == set()


def test_a_trial_on_images_imports_nothing_of_the_other_tasks() -> None:
    _, modules = loaded("kdgan_core.trial")
    assert modules & HEAVY == NEEDED


def test_the_driver_of_a_sweep_imports_nothing_that_only_its_end_needs() -> None:
    _, modules = loaded("sweeps.sweep")
    assert modules & HEAVY == NEEDED | {"optuna"}  # quick: it loads its parts on use
