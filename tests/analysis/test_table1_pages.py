from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest
from handmade import make_runs
from handmade_methods import arm_trial, costs, realistic_arms

from analysis.table1 import TableInfo, table_info
from analysis.table1_pages import (
    cells_frame,
    differences_frame,
    latex,
    markdown,
    table_rows,
    write_table1,
)

SCORES = {0: 0.84, 1: 0.86, 2: 0.88}


@pytest.fixture(scope="module")
def info() -> TableInfo:
    """KDGAN and MIMIC at two sizes, NaGAN at one of them, with seeds that went wrong."""
    nagan = arm_trial("nagan", {0: 0.7}, outcome="diverged")
    wrong = {1: ("collapsed", 0.4), 2: ("diverged", math.nan)}
    extra = {**costs(SCORES, 40.0, 500), "best_test_evaluation": {0: 0.9, 1: 0.9}}
    trials = [
        arm_trial("kdgan", SCORES, extra=extra),
        arm_trial("kdgan", SCORES, 1000),
        arm_trial("mimic", {0: 0.80, 1: 0.82, 2: 0.81}),
        arm_trial("mimic", {0: 0.9}, 1000),
        nagan._replace(seeds={**nagan.seeds, **wrong}),
    ]
    return table_info(make_runs(trials, planned_trials=8, mode="methods"))


def test_rows_have_ours_first_and_what_to_compare_below(info: TableInfo) -> None:
    rows = list(table_rows(info))
    statistics = [(row.label, row.statistic.partition(" (")[0]) for row in rows]
    authors = "best over test evaluations"
    assert statistics == [
        ("MIMIC", "ours"), ("", "published"), ("NaGAN", "ours"), ("", "published"),
        ("KDGAN", "ours"), ("", authors), ("", "published"),
    ]  # fmt: skip
    # t(0.975, 2) = 4.30265; the standard error is 0.02 / sqrt(3).
    assert rows[4].texts == ("86.00 ± 4.97 (3 seeds)",) * 2
    assert rows[4].bold == (True, False)
    assert rows[5].texts == ("90.00 ± 0.00 (2 seeds)", "")
    assert rows[6].texts == ("77.95 ± 0.05", "96.42 ± 0.05")
    assert rows[0].texts[1] == "90.00 (1 seed)" and rows[0].bold == (False, False)
    assert rows[2].texts[0].endswith("(2 of 3 seeds; 1 collapsed; 1 diverged)")
    assert rows[2].texts[1] == ""
    assert rows[5].statistic == "best over test evaluations (authors' statistic)"


def test_the_page_has_tables_of_one_width_each(info: TableInfo) -> None:
    page = markdown(info)
    tables = re.split(r"\n\n", page)
    widths = [
        {line.count("|") for line in block.splitlines()} for block in tables if block[0] == "|"
    ]
    assert [len(width) for width in widths] == [1, 1, 1]
    assert "**86.00 ± 4.97** (3 seeds)" in page
    assert "partial: 5 of 8 planned trials" in page
    assert "* n = 100, NaGAN: seed 2 diverged (no score, not in the mean)." in page
    assert "| 100 | KDGAN − MIMIC | +5.00 [+0.70, +9.30] | 3 | 0.038 |" in page
    assert "| 2 (1 without a pair) |" in page
    assert "| 100 | KDGAN | none | 40.0 | 10.0 | 500 | 500 | 500 |" in page
    assert "| 1,000 | MIMIC | none |  |  |  |  |  |" in page


def test_an_arm_without_a_score_says_so() -> None:
    wrong = {0: ("diverged", math.nan), 1: ("diverged", math.nan)}
    trial = arm_trial("kdgan", {}, outcome="diverged")._replace(seeds=wrong)
    (row, _) = table_rows(table_info(make_runs([trial])))
    assert row.texts == ("no score (0 of 2 seeds; 2 diverged)",)


def test_latex_is_balanced_and_escaped(info: TableInfo) -> None:
    variant = arm_trial("kdgan+no_label", {0: 0.9, 1: 0.8})
    for one in (info, table_info(make_runs([variant, arm_trial("kdgan", SCORES)]))):
        tex = latex(one)
        assert tex.count(r"\begin{") == tex.count(r"\end{") == 4
        assert tex.count("{") - tex.count(r"\{") == tex.count("}") - tex.count(r"\}")
        assert not re.search(r"(?<!\\)[%#](?! Needs)", tex) and "±" not in tex
        body = [line for line in tex.splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in body}) == 2  # two tables
    assert r"KDGAN + no\_label" in tex
    assert r"\textbf{86.00 $\pm$ 4.97} (3 seeds)" in latex(info)


def test_files_are_written(info: TableInfo, tmp_path: Path) -> None:
    paths = write_table1(info, tmp_path / "deep")
    assert [path.name for path in paths] == [
        "table1.md", "table1.tex", "table1.csv", "table1_differences.csv",
    ]  # fmt: skip
    cells = pd.read_csv(paths[2]).set_index(["arm", "train_size"])
    kdgan, nagan = cells.loc["kdgan", 100], cells.loc["nagan", 100]
    assert (kdgan["test_accuracy"], kdgan["test_accuracy_n"]) == (pytest.approx(0.86), 3)
    assert (kdgan["train_seconds"], kdgan["updates_teacher"]) == (40, 500)
    assert (kdgan["best_test_evaluation_n"], kdgan["published_std"]) == (2, 0.0005)
    assert (nagan["diverged"], nagan["collapsed"], nagan["finished"]) == (1, 1, 1)
    assert bool(kdgan["is_best"]) and kdgan["matched"] == "none"
    paired = pd.read_csv(paths[3])
    assert list(paired["minus"]) == ["mimic", "nagan", "mimic"]
    assert paired["mean"][0] == pytest.approx(0.05)
    assert str(paired["unpaired_seeds"][1]) == "2"


def test_without_a_rival_there_are_no_differences() -> None:
    info = table_info(make_runs([arm_trial("distn", SCORES)]))
    assert differences_frame(info).empty and "Paired" not in markdown(info)
    assert latex(info).count(r"\begin{table}") == 1


def test_a_data_set_that_was_not_published_has_no_such_row() -> None:
    runs = make_runs(
        [t._replace(dataset="digits") for t in realistic_arms([100], n_seeds=3)], quick=True
    )
    page = markdown(table_info(runs))
    assert "ublished (mean" not in page and "quick: shortened training" in page
    assert cells_frame(table_info(runs))["published_mean"].isna().all()
