from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from handmade import Trial, record_sweep, seeds, sensitivity
from handmade_methods import arm_trial, learning_curves, variance_curves
from handmade_tags import realistic_tag_arms, with_metrics
from mlflow import MlflowClient

from analysis.plot import main
from analysis.tasks import data_note

ENDINGS = ("csv", "pdf", "png")
Make = Callable[[str], tuple[MlflowClient, str]]
SCRIPT = Path(__file__).parents[2] / "analysis" / "plot.py"


def cells() -> list[Trial]:
    alphas = [
        Trial(seeds(0.8, 0.82), (sensitivity("alpha", level),), alpha=level)
        for level in (0.0, 1.0)
    ]
    return [Trial(seeds(0.88, 0.9)), *alphas]


def drawn(folder: Path) -> list[Path]:
    """Return the files below a folder, but for what was kept of the store."""
    return [path for path in folder.rglob("*.*") if path.parent.name != "cache"]


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
    written = sorted(path.relative_to(folder).as_posix() for path in drawn(folder))
    assert written == [
        "figures/whole/best.md",
        "figures/whole/figure4.csv",
        "figures/whole/figure4.pdf",
        "figures/whole/figure4.png",
        "figures/whole/figure4_ranks.csv",
        "figures/whole/seeds.csv",
        "figures/whole/seeds.pdf",
        "figures/whole/seeds.png",
        "runs.parquet",
    ]
    assert all(f"Wrote {path}" in output for path in written)
    assert "published curve, α, n = 100: +0.00 at 3 common levels (p = 1.000, exact)." in output


def test_a_search_only_sweep_has_no_figure_and_says_so(
    store: str, experiment: Make, folder: Path
) -> None:
    rows = ({"role": "search", "factor": "", "level": ""},)
    record_sweep(*experiment("search"), "search-1", [Trial(seeds(0.9, 0.8), rows)])
    code, output = plot(store, "search", "--out", "drawn", "--runs-file", "table.parquet")
    assert code == 0
    assert "no sensitivity trial" in output
    names = {path.name for path in drawn(folder)}
    assert names == {"table.parquet", "best.md", *(f"history.{end}" for end in ENDINGS)}
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


TABLE = ["table1.csv", "table1.md", "table1.tex", "table1_differences.csv"]
TABLE_2 = [name.replace("table1", "table2") for name in TABLE]
FIGURES = {n: [f"figure{n}.{end}" for end in ENDINGS] for n in "3457"}
SEEDS, SECONDS = ([f"{name}.{end}" for end in ENDINGS] for name in ("seeds", "seconds"))


def arms() -> list[Trial]:
    """NaGAN and KDGAN at n = 100 with curves, variances of their gradients, and MIMIC."""
    scores = {0: 0.9, 1: 0.92}
    trials = [arm_trial("mimic", scores)]
    for name, levels in (
        ("kdgan", {"adversarial": 1e-4, "distillation": 1e-5, "mixture": 5e-5}),
        ("nagan", {"adversarial": 3e-4}),
    ):
        curves = learning_curves(scores, 0.7) + variance_curves(range(2), levels)
        trial = arm_trial(name, scores, curves=curves)
        params = {**trial.params, "log_gradient_variance": "True"}
        trials.append(trial._replace(params=params))
    return trials


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in drawn(folder / "figures"))


def test_a_methods_sweep_becomes_its_table_and_figures(
    store: str, experiment: Make, folder: Path
) -> None:
    record_sweep(*experiment("methods"), "methods-1", arms(), mode="methods")
    code, output = plot(store, "methods")
    assert code == 0
    assert written(folder) == sorted([*TABLE, *FIGURES["3"], *FIGURES["7"], *SEEDS])
    assert "**" in (folder / "figures" / "methods" / "table1.md").read_text()
    assert output.count("Wrote ") == 1 + len(written(folder))


def test_only_what_is_asked_for_is_written(store: str, experiment: Make, folder: Path) -> None:
    record_sweep(*experiment("asked"), "asked-1", arms(), mode="methods")
    assert plot(store, "asked", "--table", "1")[0] == 0
    assert written(folder) == TABLE
    assert plot(store, "asked", "--figure", "3", "--published", "none")[0] == 0
    assert written(folder) == sorted([*TABLE, *FIGURES["3"]])
    assert "published" not in (folder / "figures" / "asked" / "figure3.csv").read_text()


def test_a_table_of_several_sweeps(store: str, experiment: Make, folder: Path) -> None:
    client, experiment_id = experiment("several")
    record_sweep(client, experiment_id, "several-1", arms()[:1], mode="methods")
    later = [arm_trial("mimic", {2: 0.9}), arm_trial("kdgan", {0: 0.9}, 1000)]
    record_sweep(client, experiment_id, "several-2", later, mode="methods")
    both = ["--sweep", "several-1", "--sweep", "several-2"]
    code, output = plot(store, "several", "--table", "1", *both)
    assert code == 0 and "Sweep several-1, several-2: 3 trials." in output
    page = (folder / "figures" / "several" / "table1.md").read_text()
    assert "(3 seeds)" in page and "n = 1,000" in page and "Sweeps several-1, several-2" in page
    code, output = plot(store, "several", "--figure", "4", *both)
    assert (code, output.splitlines()[-1]) == (
        2, "error: Figure 4 is of one sweep, not of several-1, several-2: name one with --sweep",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["--table", "1"], "has no trial of a methods sweep"),
        (["--figure", "3"], "has no trial of a methods sweep"),
        (["--figure", "7"], "has no variance of gradients"),
    ],
)
def test_what_a_sweep_cannot_give_is_one_sentence(
    store: str, experiment: Make, folder: Path, asked: list[str], sentence: str
) -> None:
    name = f"cannot{asked[0]}-{asked[1]}"
    record_sweep(*experiment(name), "cannot-1", cells())
    code, output = plot(store, name, *asked)
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and sentence in errors[0]
    assert written(folder) == []


def test_figure_4_of_a_methods_sweep_is_one_sentence(
    store: str, experiment: Make, folder: Path
) -> None:
    record_sweep(*experiment("no-four"), "no-four-1", arms()[:1], mode="methods")
    code, output = plot(store, "no-four", "--figure", "4")
    assert code == 2 and "has no sensitivity trial; name one with --sweep" in output


def test_a_methods_sweep_without_curves_still_has_its_table(
    store: str, experiment: Make, folder: Path
) -> None:
    record_sweep(*experiment("no-curves"), "no-curves-1", arms()[:1], mode="methods")
    code, output = plot(store, "no-curves")
    assert code == 0 and "No Figure 3: sweep 'no-curves-1' has no curve" in output
    assert written(folder) == TABLE


def test_a_methods_sweep_that_only_tuned_so_far_says_so(
    store: str, experiment: Make, folder: Path
) -> None:
    searched = {"role": "search", "factor": "method", "level": "kdgan"}
    tuned = arm_trial("kdgan", {100: 0.9}, rows=(searched,))
    record_sweep(*experiment("tuned"), "tuned-1", [tuned], mode="methods")
    code, output = plot(store, "tuned")
    assert code == 0 and "No arm of Table 1 has been trained yet" in output
    assert written(folder) == []


def test_a_methods_sweep_of_tags_becomes_table_2_and_figure_3(
    store: str, experiment: Make, folder: Path
) -> None:
    trials = realistic_tag_arms(n_seeds=2, names=("kdgan", "nagan", "knn"), images=20)
    record_sweep(*experiment("tag-methods"), "tag-methods-1", trials, mode="methods")
    assert plot(store, "tag-methods")[0] == 0
    assert written(folder) == sorted([*TABLE_2, *FIGURES["3"], *SECONDS, *SEEDS])
    page = (folder / "figures" / "tag-methods" / "table2.md").read_text()
    assert "| all | KDGAN − KNN |" in page and data_note("flickr8k") in page
    assert plot(store, "tag-methods", "--table", "2", "--out", "again")[0] == 0
    again = (folder / "again" / "tag-methods" / "table2.md").read_text()
    assert again == page


def test_a_sensitivity_sweep_of_tags_becomes_figure_5_and_best(
    store: str, experiment: Make, folder: Path
) -> None:
    trials = [with_metrics(trial._replace(dataset="flickr8k", train_size=0)) for trial in cells()]
    record_sweep(*experiment("tag-sensitivity"), "tag-sensitivity-1", trials)
    code, output = plot(store, "tag-sensitivity")
    assert code == 0 and "Rank correlation" not in output
    assert written(folder) == ["best.md", *FIGURES["5"], *SEEDS]
    assert plot(store, "tag-sensitivity", "--figure", "5", "--published", "none")[0] == 0
    csv = folder / "figures" / "tag-sensitivity" / "figure5.csv"
    assert "published" not in csv.read_text()


@pytest.mark.parametrize(
    ("asked", "dataset", "sentence"),
    [
        (["--figure", "4"], "flickr8k", "Figure 4 is of images with one label"),
        (["--table", "1"], "flickr8k", "Table 1 is of images with one label"),
        (["--figure", "5"], "mnist", "Figure 5 is of tag recommendation"),
        (["--table", "2"], "mnist", "Table 2 is of tag recommendation"),
    ],
)
def test_the_other_tasks_table_or_figure_is_one_sentence(
    store: str, experiment: Make, folder: Path, asked: list[str], dataset: str, sentence: str
) -> None:
    name = f"other{asked[0]}-{asked[1]}"
    trial = with_metrics(Trial(seeds(0.5), dataset=dataset))
    record_sweep(*experiment(name), "other-1", [trial])
    code, output = plot(store, name, *asked)
    mine = {"--figure": {"4": "5", "5": "4"}, "--table": {"1": "2", "2": "1"}}[asked[0]][asked[1]]
    assert code == 2 and f"error: {sentence}" in output
    assert output.rstrip().endswith(f"use {asked[0]} {mine}")
    assert written(folder) == []


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
    assert "python analysis/plot.py mnist --table 1" in done.stdout
    assert "python analysis/plot.py flickr8k --figure 5" in done.stdout


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
