"""The way through the house is one way: who imports whom, and what is pinned."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from kdgan_core import estimators, methods, names

ROOT = Path(__file__).parents[1]
OWN = ("kdgan_core", "sweeps", "analysis", "cluster")
MODULES = sorted(
    path.relative_to(ROOT).as_posix() for package in OWN for path in (ROOT / package).rglob("*.py")
)
ORCHESTRATION = {"ray", "mlflow", "optuna", "click", "rich"}
# The core's one command makes a file of posts; nothing imports it.
COMMAND_LINES = {"kdgan_core/data/prepare_tags.py": {"click", "rich"}}
# Modules whose distribution has another name.
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
    "optuna_dashboard": "optuna-dashboard",
}
# Optuna imports the first two for two of its samplers; the others run on a cluster's head.
NOT_IMPORTED = {"cmaes", "greenlet", "psycopg2-binary", "superlance", "supervisor"}
# Requirements of mlflow and of boto3, whose exceptions are caught by name.
TRANSITIVE = {"sqlalchemy", "botocore"}


def imported(module: str) -> set[str]:
    """Top-level names of all that a file imports, wherever in it."""
    return {name.partition(".")[0] for name in imported_modules(module)}


def imported_modules(module: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names.add(node.module or "")
    return names


def importers(package: str, library: str) -> set[str]:
    return {m for m in MODULES if m.startswith(f"{package}/") and library in imported(m)}


def test_the_walk_sees_imports_in_functions() -> None:
    assert "torch" in imported("sweeps/cost.py")
    assert {"kdgan_core/trial.py", "sweeps/run.py", "analysis/plot.py"} <= set(MODULES)


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("kdgan_core/")])
def test_the_core_knows_no_sweep_tracker_or_command_line(module: str) -> None:
    allowed = COMMAND_LINES.get(module, set())
    assert not imported(module) & ({"sweeps", "analysis"} | ORCHESTRATION) - allowed


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("analysis/")])
def test_the_analysis_knows_neither_core_nor_sweep(module: str) -> None:
    assert not imported(module) & {"sweeps", "kdgan_core", "ray", "torch"}


def test_one_file_for_each_big_library() -> None:
    assert importers("sweeps", "mlflow") == {"sweeps/store.py"}
    assert importers("sweeps", "ray") == {
        f"sweeps/{name}.py" for name in ("execute", "packing", "preflight", "stopping", "worker")
    }
    assert importers("sweeps", "optuna") == {"sweeps/search.py", "sweeps/studies.py"}
    assert importers("analysis", "optuna") == {"analysis/importance.py"}  # its fANOVA
    assert importers("analysis", "mlflow") == {"analysis/runs.py"}


def test_the_sweep_uses_of_the_analysis_only_what_reads_no_store() -> None:
    used = {
        name
        for module in MODULES
        if module.startswith("sweeps/")
        for name in imported_modules(module)
        if name.partition(".")[0] == "analysis"
    }
    assert used <= {"analysis.stats", "analysis.columns"}


def test_every_method_is_listed() -> None:
    folder = ROOT / "kdgan_core" / "methods"
    shared = {"__init__", "method", "pupil", "adversarial"}
    modules = {path.stem for path in folder.glob("*.py")} - shared
    assert modules == set(methods.METHODS)
    assert set(names.METHODS) == set(methods.METHODS)


def test_every_estimator_is_listed() -> None:
    assert set(names.ESTIMATORS) == set(estimators.ESTIMATORS)


def test_every_library_is_pinned_and_every_pin_is_used() -> None:
    text = (ROOT / "requirements.txt").read_text()
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    names = [re.split(r"[\[=]", line)[0] for line in lines if line and line != "-e ."]
    pinned = {line for line in lines if re.fullmatch(r"[\w-]+(\[[\w,]+\])?==[\w.]+", line)}
    assert len(pinned) == len(names) == len(set(names))
    used = {name for module in MODULES for name in imported(module)}
    used -= set(sys.stdlib_module_names) | set(OWN) | TRANSITIVE
    assert {DISTRIBUTIONS.get(name, name) for name in used} | NOT_IMPORTED == set(names)
