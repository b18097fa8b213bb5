from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from handmade import Trial, record_sweep, seeds, sensitivity
from mlflow import MlflowClient

from analysis.plot import main

Make = Callable[[str], tuple[MlflowClient, str]]
SCRIPT = Path(__file__).parents[2] / "analysis" / "plot.py"


def cells() -> list[Trial]:
    alphas = [
        Trial(seeds(0.8, 0.82), (sensitivity("alpha", level),), alpha=level)
        for level in (0.0, 1.0)
    ]
    return [Trial(seeds(0.88, 0.9)), *alphas]


def plot(store: str, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, [*arguments, "--tracking-uri", store])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_a_sweep_becomes_figure_table_and_parquet(
    store: str, experiment: Make, folder: Path
) -> None:
    record_sweep(*experiment("whole"), "whole-1", cells())
    code, output = plot(store, "whole")
    assert code == 0
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert written == [
        "figures/whole/best.md",
        "figures/whole/figure4.csv",
        "figures/whole/figure4.pdf",
        "figures/whole/figure4.png",
        "runs.parquet",
    ]
    assert all(f"Wrote {path}" in output for path in written)


def test_a_search_only_sweep_has_no_figure_and_says_so(
    store: str, experiment: Make, folder: Path
) -> None:
    rows = ({"role": "search", "factor": "", "level": ""},)
    record_sweep(*experiment("search"), "search-1", [Trial(seeds(0.9, 0.8), rows)])
    code, output = plot(store, "search", "--out", "drawn", "--runs-file", "table.parquet")
    assert code == 0
    assert "no sensitivity trial" in output
    assert {path.name for path in folder.rglob("*.*")} == {"table.parquet", "best.md"}
    assert (folder / "drawn" / "search" / "best.md").is_file()


def test_a_missing_store_is_one_sentence_and_exit_code_2(folder: Path) -> None:
    code, output = plot("sqlite:///mlflow.db", "mnist")
    assert code == 2
    assert output == "error: no runs at mlflow.db; run: python sweeps/run.py mnist first\n"
    assert list(folder.iterdir()) == []


def test_the_store_comes_from_the_environment_too(
    store: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    result = CliRunner().invoke(main, ["empty"])
    assert result.exit_code == 2 and "'empty' has no sweep" in result.output


def test_an_unwritable_folder_is_one_sentence(store: str, experiment: Make, folder: Path) -> None:
    record_sweep(*experiment("unwritable"), "unwritable-1", cells())
    (folder / "taken").write_text("")
    code, output = plot(store, "unwritable", "--runs-file", "taken/runs.parquet")
    assert code == 2
    assert "error: cannot write taken" in output


def test_help_teaches_and_is_fast() -> None:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True
    )
    assert time.perf_counter() - started < 2  # 0.06 s on an idle machine; a busy one is slower
    assert "python analysis/plot.py mnist --sweep" in done.stdout


def test_the_command_line_loads_no_heavy_library_before_it_needs_one() -> None:
    code = (
        "import runpy, sys\n"
        "try:\n    sys.argv = ['plot.py', '--help']\n"
        f"    runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({'mlflow', 'matplotlib', 'pandas', 'pyarrow', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
