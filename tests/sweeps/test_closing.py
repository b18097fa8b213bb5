"""The words before and after a sweep."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from analysis.stats import t_interval
from sweeps.closing import print_best, print_next, print_plan
from sweeps.plan import sweep_id
from sweeps.space import Space
from sweeps.stages import Stages
from sweeps.sweep import Options

DEFAULT = "sqlite:///mlflow.db"


@pytest.fixture
def make_options(tmp_path: Path) -> Callable[..., Options]:
    """A function that returns the command line's defaults, with changes."""
    options = Options(
        mode="study",
        quick=False,
        data_dir=None,
        storage=tmp_path / "sweep_runs",
        tracking_uri=DEFAULT,
        cpus_per_trial=1.0,
        gpus_per_trial=None,
        seed=0,
        command="python sweeps/run.py toy --set 'alpha=0.5'",
    )
    return lambda **changes: replace(options, **changes)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def said(console: Console) -> dict[str, str]:
    """What is printed after each 'word: '."""
    return {
        word.strip(): rest for word, _, rest in (line.partition(": ") for line in lines(console))
    }


@pytest.mark.parametrize(
    ("uri", "runs", "plots"),
    [
        (DEFAULT, "mlflow ui", "python analysis/plot.py toy"),
        (
            "sqlite:////data/mlflow.db",
            "mlflow ui --backend-store-uri sqlite:////data/mlflow.db",
            "python analysis/plot.py toy --tracking-uri sqlite:////data/mlflow.db",
        ),
        (
            "http://tracker:5000",
            "open http://tracker:5000 in a browser",
            "python analysis/plot.py toy --tracking-uri http://tracker:5000",
        ),
    ],
)
def test_the_commands_that_come_next(
    space: Space,
    make_options: Callable[..., Options],
    console: Console,
    uri: str,
    runs: str,
    plots: str,
) -> None:
    options = make_options(tracking_uri=uri)
    print_next(space, options, "toy-1a2b3c4d", True, console)
    assert said(console) == {
        "runs": runs,
        "plots": plots,
        "sweep": f"toy-1a2b3c4d in {options.storage / 'toy-1a2b3c4d'}",
    }


def test_an_incomplete_sweep_is_told_how_to_go_on(
    space: Space, make_options: Callable[..., Options], console: Console
) -> None:
    options = make_options()
    print_next(space, options, "toy-1a2b3c4d", False, console)
    assert said(console)["go on"] == options.command


def test_a_store_with_a_space_in_its_path_can_be_pasted(
    space: Space, make_options: Callable[..., Options], console: Console
) -> None:
    uri = "sqlite:////my data/mlflow.db"
    print_next(space, make_options(tracking_uri=uri), "toy-1a2b3c4d", True, console)
    assert shlex.split(said(console)["runs"])[-1] == uri
    assert shlex.split(said(console)["plots"])[-1] == uri


def run_all(stages: Stages, end_trial: Callable[..., object], *outcomes: str) -> None:
    while (row := stages.next_row()) is not None:
        end_trial(stages.spool, row.config, 0.9, outcomes, spread=0.02)
        stages.complete(row.trial_id)


def test_the_baseline_of_each_size_with_its_test_score(
    space: Space, tmp_path: Path, end_trial: Callable[..., object], console: Console
) -> None:
    stages = Stages(space, "baseline", 0, tmp_path)
    run_all(stages, end_trial)
    print_best(space, stages, console)
    interval = t_interval([89.0, 91.0])
    spread = f"[{interval.low:.2f}, {interval.high:.2f}]"
    at = "α=0.5 β=1 γ=0.01 τ exponential 1→0.1"
    assert lines(console) == [
        f"n={n} baseline {at}: test 90.00 % {spread} (2 seeds, 95 % t interval)" for n in (50, 200)
    ]


def test_one_seed_has_no_interval_and_a_diverged_one_no_score(
    space: Space, tmp_path: Path, end_trial: Callable[..., object], console: Console
) -> None:
    one = replace(space, train_sizes=(50,))
    stages = Stages(one, "baseline", 0, tmp_path)
    run_all(stages, end_trial, "diverged")
    print_best(one, stages, console)
    (line,) = lines(console)
    assert line.endswith(": test 91.00 % (1 seed)")


@pytest.mark.parametrize("outcomes", [("failed",), ("diverged", "diverged")])
def test_a_baseline_without_a_score_is_passed_over(
    space: Space,
    tmp_path: Path,
    end_trial: Callable[..., object],
    console: Console,
    outcomes: tuple[str, ...],
) -> None:
    stages = Stages(space, "baseline", 0, tmp_path)
    run_all(stages, end_trial, *outcomes)
    print_best(space, stages, console)
    assert lines(console) == []


def test_a_search_names_its_best(
    space: Space, tmp_path: Path, end_trial: Callable[..., object], console: Console
) -> None:
    one = replace(space, train_sizes=(50,))
    stages = Stages(one, "search", 0, tmp_path)
    row = stages.next_row()
    assert row is not None
    end_trial(stages.spool, row.config, 0.75)
    stages.complete(row.trial_id)
    print_best(one, stages, console)
    assert lines(console) == ["n=50 best α=0.5 β=1 γ=0.01 τ exponential 1→0.1: validation 75.00 %"]


def test_a_dry_run_counts_and_writes_nothing(
    space: Space,
    make_options: Callable[..., Options],
    console: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    print_plan(space, make_options(), console)
    first, small, large, total = lines(console)
    assert first == f"sweep {sweep_id(space, 'study', 0)}: study of toy, method kdgan"
    assert small.startswith("  n=50: 3 search trials x 1 seeds, 6 cells x 2 seeds, about ")
    assert large.startswith("  n=200: 3 search trials x 1 seeds, 6 cells x 2 seeds, about ")
    assert total.startswith(f"  {2 * (3 * 1 + 6 * 2)} trainings in all: about ")
    assert list(tmp_path.iterdir()) == []
