"""What a sweep says it ran with."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from sweeps import environment


def git(folder: Path, *words: str) -> str:
    identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for who in ("AUTHOR", "COMMITTER"):
        identity |= {f"GIT_{who}_NAME": "a", f"GIT_{who}_EMAIL": "a@example.org"}
    return subprocess.run(
        ["git", "-C", str(folder), *words],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **identity},
    ).stdout.strip()


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the code seems to lie in, outside any git checkout."""
    module = tmp_path / "sweeps" / "environment.py"
    module.parent.mkdir()
    module.write_text("first\n")
    monkeypatch.setattr(environment, "__file__", str(module))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def test_the_commit_of_a_checkout_and_whether_it_was_changed(code: Path) -> None:
    git(code, "init")
    git(code, "add", ".")
    git(code, "commit", "-m", "first")
    commit = git(code, "rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert environment.code_version() == (commit, False)
    (code / "mlflow.db").write_text("untracked")
    assert environment.code_version() == (commit, False)
    (code / "sweeps" / "environment.py").write_text("second\n")
    assert environment.code_version() == (commit, True)


def test_outside_a_checkout_the_commit_is_unknown(code: Path) -> None:
    assert environment.code_version() == ("unknown", False)


@pytest.mark.parametrize(
    "error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10.0)]
)
def test_without_an_answer_from_git_the_commit_is_unknown(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*words: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert environment.code_version() == ("unknown", False)


def test_versions_are_the_installed_ones() -> None:
    versions = environment.package_versions()
    assert {"torch", "ray", "optuna", "mlflow", "numpy"} <= versions.keys()
    assert versions["torch"] == version("torch")


def test_the_hardware_in_words() -> None:
    facts = environment.hardware()
    assert set(facts) == {"processor", "cores", "system", "python"}
    assert all(facts.values())
    assert 1 <= int(facts["cores"]) <= (os.cpu_count() or 1)


def test_the_processor_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert environment.processor("cuda") == "a GPU"
    assert environment.processor() == environment.hardware()["processor"] != "a GPU"
