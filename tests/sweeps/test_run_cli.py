"""The command line, up to the point where Ray would start: help, refusals and the dry run."""

from __future__ import annotations

import gzip
import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from commanding import refusal, run

from kdgan_core.config import FIELDS, describe_range
from kdgan_core.data.mnist import FILES
from sweeps.design import planned_sizes
from sweeps.factors import SpaceError
from sweeps.loading import experiments, load_space
from sweeps.parsing import parse_baseline, parse_changes, split_names
from sweeps.run import HEADINGS, main
from sweeps.words import MODES

SCRIPT = Path(__file__).parents[2] / "sweeps" / "run.py"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no settings of the user's own."""
    for name in ("KDGAN_DATA", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    return working


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["cifar"], ["'cifar'", "cifar10, digits, flickr8k, mnist, tags"]),
        (["digits", "--set", "alpha=1.5"], ["alpha=1.5", "[0, 1]"]),
        (["digits", "--set", "beta=0"], ["beta=0", "above 0"]),
        (["digits", "--set", "tau_end=0"], ["tau_end=0", "above 0"]),
        (["digits", "--set", "tau_kind=square"], ["tau_kind='square'", "exponential"]),
        (["digits", "--set", "nosuch=1"], ["nosuch", "--help"]),
        (["digits", "--set", "stepz=1"], ["stepz", "did you mean steps"]),
        (["digits", "--set", "alpha"], ["--set alpha", "name=value"]),
        (["digits", "--set", "alpha="], ["--set alpha=", "number"]),
        (["digits", "--set", "steps=many"], ["steps='many'", "whole number"]),
        (["digits", "--set", "dataset=mnist"], ["dataset='mnist'"]),
        (["digits", "--seeds", "0"], ["seeds=0"]),
        (["digits", "--trials", "0"], ["trials=0"]),
        (["digits", "--train-size", "5"], ["train_size=5"]),
        (["digits", "--train-size", "1200"], ["train_size=1200", "1,297"]),
        (["digits", "--train-size", "50", "--set", "train_size=60"], ["train_size", "twice"]),
        (["digits", "--seeds", "2", "--set", "seeds=0,1"], ["seeds", "twice"]),
        (["digits", "--set", "seeds="], ["seeds=()"]),
        (["digits", "--baseline", "better"], ["--baseline better", "name=value"]),
        (["digits", "--baseline", "steps=3"], ["--baseline steps", "--set steps"]),
        (["digits", "--baseline", "beta=1", "--set", "beta=2"], ["beta", "twice"]),
        (["digits", "--factors", "delta"], ["--factors 'delta'", "alpha, beta, gamma, tau"]),
        (["digits", "--factors", "beta", "--set", "beta=1"], ["--factors beta", "--set"]),
        (["digits", "--mode", "grid", "--factors", "beta"], ["two factors"]),
        (["digits", "--levels", "authors"], ["--levels authors", "printed"]),
        (["digits", "--levels", "beta=x"], ["--levels beta", "'x'", "a number"]),
        (["digits", "--levels", "tau=linear"], ["'linear'", "kind:start:end"]),
        (["digits", "--max-usd", "5"], ["--max-usd", "--usd-per-hour"]),
        (["digits", "--max-gpu-hours", "5", "--gpus-per-trial", "0"], ["--max-gpu-hours"]),
        (["digits", "--mode", "methods", "--arms", "kdgan,mimick"], ["'mimick'", "kdgan, nagan"]),
        (["digits", "--arms", "kdgan"], ["--arms", "--mode methods"]),
        (["digits", "--mode", "methods", "--factors", "beta"], ["--factors", "--mode methods"]),
        (["digits", "--mode", "methods", "--levels", "beta=1"], ["--levels", "--mode methods"]),
        (["digits", "--mode", "methods", "--baseline", "paper"], ["--baseline", "--mode methods"]),
        (["digits", "--mode", "methods", "--set", "method=kdgan"], ["--set method", "--arms"]),
        (["digits", "--mode", "methods", "--trials", "-1"], ["trials=-1", "0"]),
        (["digits", "--set", "matched=steps"], ["matched=steps", "--mode methods"]),
        (
            ["digits", "--mode", "methods", "--set", "matched=seconds", "--train-size", "60"],
            ["update_seconds.60", "python benchmarks/updates.py digits --train-size 60"],
        ),
        (["digits", "--status", "--json"], ["--json", "--dry-run"]),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry"])
def test_a_bad_option_is_refused_in_one_sentence(
    folder: Path, words: list[str], parts: list[str], dry: list[str]
) -> None:
    sentence = refusal(run(*words, *dry))
    if words[-1] == "--json" and dry:
        parts = ["--dry-run", "--status"]
    assert all(part in sentence for part in parts), sentence
    assert list(folder.iterdir()) == []


def test_json_is_the_dry_runs(folder: Path) -> None:
    assert "--dry-run" in refusal(run("digits", "--json"))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["digits", "--mode", "random"],
        ["digits", "--cpus-per-trial", "0"],
        ["digits", "--gpus-per-trial", "-1"],
        ["digits", "--seed", "-1"],
        ["digits", "--pack", "many"],
        ["digits", "--pack", "0"],
        ["digits", "--trials", "x"],
        ["digits", "mnist"],
        [],
        ["digits", "--max-hours", "0"],
        ["digits", "--max-hours", "nan"],
        ["digits", "--max-gpu-hours", "inf"],
        ["digits", "--max-usd", "-1"],
        ["digits", "--max-trials", "0"],
        ["digits", "--max-failures", "1.5"],
        ["digits", "--usd-per-hour", "nan"],
        ["digits", "--cpus-per-trial", "inf"],
        ["digits", "--gpus-per-trial", "nan"],
        ["digits", "--sampler", "grid"],
        ["digits", "--early-stopping", "on"],
        ["digits", "--retry", "none"],
        ["digits", "--notify", "hook"],
        ["digits", "--notify", "file:///etc/passwd"],
        ["digits", "--notify", "http://"],
        ["digits", "--notify", "http://[x"],
        ["digits", "--notify", "http://host:port/"],
    ],
    ids=" ".join,
)
def test_whatever_is_wrong_the_last_line_says_it(folder: Path, words: list[str]) -> None:
    result = run("--dry-run", *words)  # what is not refused must not start a sweep
    assert result.exit_code == 2
    sentence = result.stderr.splitlines()[-1]
    assert sentence.startswith("Error: ")
    assert not words or words[-1] in sentence
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry"])
def test_a_data_folder_that_is_a_file(tmp_path: Path, dry: list[str]) -> None:
    file = tmp_path / "data"
    file.write_text("not a folder")
    sentence = refusal(run("mnist", "--data-dir", str(file), *dry))
    assert str(file) in sentence and "--data-dir" in sentence


def test_the_data_folder_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "data"
    file.write_text("not a folder")
    monkeypatch.setenv("KDGAN_DATA", str(file))
    assert str(file) in refusal(run("mnist"))


def cut_content(content: bytes) -> bytes:
    return gzip.compress(content[:-100])


def cut_archive(content: bytes) -> bytes:
    return gzip.compress(content)[:-20]


@pytest.mark.parametrize("cut", [cut_content, cut_archive])
def test_a_truncated_data_file_is_named(
    tmp_path: Path, folder: Path, cut: Callable[[bytes], bytes]
) -> None:
    data = tmp_path / "data"
    (data / "mnist").mkdir(parents=True)
    for file in FILES:
        header = bytes([0, 0, 8, len(file.shape)]) + struct.pack(
            f">{len(file.shape)}I", *file.shape
        )
        size = 1
        for side in file.shape:
            size *= side
        (data / "mnist" / f"{file.name}.gz").write_bytes(cut(header + bytes(size)))
    sentence = refusal(run("mnist", "--data-dir", str(data)))
    assert f"{FILES[0].name}.gz" in sentence
    assert "truncated" in sentence or "cannot be read" in sentence
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_storage_that_cannot_be_written(tmp_path: Path, below: str) -> None:
    file = tmp_path / "storage"
    file.write_text("not a folder")
    sentence = refusal(run("digits", "--storage", str(file / below)))
    assert str(file) in sentence and "--storage" in sentence


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    words = ["digits", "--quick", "--dry-run", "--train-size", "50", "--seeds", "3"]
    space = load_space("digits", quick=True, train_sizes=(50,), seeds=3)
    (size,) = planned_sizes(space, "study").values()
    result = run(*words)
    assert result.exit_code == 0, result.output
    cells = f"{size.around} cells x 3 seeds"
    assert f"n=50: {size.search} search trials x 1 seeds, {cells}" in result.stdout
    assert f"{size.search * 1 + size.around * 3} trainings in all" in result.stdout
    result = run(*words, "--json", "--usd-per-hour", "2.5")
    facts = json.loads(result.stdout)
    assert facts["trainings"] == size.search * 1 + size.around * 3
    assert facts["usd"]["mid"] == pytest.approx(facts["wall_seconds"]["mid"] * 2.5 / 3600)
    assert facts["sweep_id"].startswith("digits-study-")
    assert list(folder.iterdir()) == []


def test_a_dry_run_of_a_table_has_a_line_for_every_arm_and_writes_nothing(folder: Path) -> None:
    words = ["digits", "--mode", "methods", "--quick", "--dry-run", "--train-size", "50"]
    result = run(*words, "--arms", "codis,kdgan", "--trials", "3", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["sweep_id"].startswith("digits-methods-")
    assert [size["arm"] for size in facts["sizes"]] == ["kdgan", "codis"]
    assert facts["rows"] == {"search": 6, "methods": 2}
    assert facts["trainings"] == 2 * (3 * 1 + 2)
    assert list(folder.iterdir()) == []


def test_the_words_after_set_are_typed() -> None:
    changes = parse_changes(("alpha=0.25", "steps = 20", "seeds=3,1", "method=nagan"))
    assert changes == {"alpha": 0.25, "steps": 20, "seeds": (3, 1), "method": "nagan"}
    assert type(changes["steps"]) is int
    with pytest.raises(SpaceError, match="--set alpha has no value"):
        parse_changes(("alpha",))


def test_the_words_after_baseline() -> None:
    assert parse_baseline(()) is None
    assert parse_baseline(("best",)) == "best"
    assert parse_baseline(("alpha=0.25", "beta=2")) == {"alpha": 0.25, "beta": 2.0}
    with pytest.raises(SpaceError, match="--baseline best has no value"):
        parse_baseline(("alpha=0.25", "best"))


def test_factors_are_named_with_commas() -> None:
    assert split_names(None, None, " beta, gamma,") == ("beta", "gamma")
    assert split_names(None, None, None) == ()


def test_every_option_has_its_place_in_the_help() -> None:
    named = [name for names in HEADINGS.values() for name in names]
    options = [param for param in main.params if isinstance(param, click.Option)]
    assert sorted(named) == sorted(str(option.name) for option in options)
    text = run("--help").stdout
    for option in options:
        first = re.compile(rf"^  {re.escape(option.opts[0])}\b(?!-)", re.MULTILINE)
        assert len(first.findall(text)) == 1, option.opts[0]
    assert "\n  EXPERIMENT" not in text  # no option
    sections = [line for line in text.splitlines() if line.removesuffix(":") in HEADINGS]
    assert sections == [f"{heading}:" for heading in HEADINGS]


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_every_field_with_its_range(option: str) -> None:
    result = run(option)
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    for field in FIELDS:
        (line,) = (line for line in lines if line.startswith(f"{field.name} ("))
        assert f"; {describe_range(field.metadata)}): {field.metadata['help']}" in line
    assert ", ".join(experiments()) in " ".join(result.stdout.split())
    for mode in MODES:
        assert mode in result.stdout


def test_help_is_there_at_once() -> None:
    code = (
        "import json, runpy, sys\n"
        f"sys.argv = [{str(SCRIPT)!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "    print(json.dumps([end.code, sorted(loaded)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    status, loaded = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert "Usage:" in done.stdout
    slow = {"torch", "ray", "mlflow", "optuna", "pandas", "numpy", "pyarrow", "sklearn", "scipy"}
    assert not slow & set(loaded)
    assert {"click", "kdgan_core", "sweeps"} <= set(loaded)
