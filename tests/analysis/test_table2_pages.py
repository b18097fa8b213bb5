from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from handmade import image_frame, make_runs
from handmade_tags import realistic_tag_arms, tag_arm, tag_images

from analysis.columns import TAG_METRICS
from analysis.table2 import Table2Info, table2_info
from analysis.table2_pages import (
    table2_frame,
    table2_latex,
    table2_markdown,
    table2_rows,
    tag_differences_frame,
    write_table2,
)
from analysis.tasks import data_note

SCORES = {0: 0.50, 1: 0.52, 2: 0.54}


def made(dataset: str) -> Table2Info:
    """KDGAN with the authors' statistic of two seeds, and KNN."""
    kdgan = tag_arm("kdgan", SCORES, gain=0.01, dataset=dataset, images=tag_images(SCORES, 30, 1))
    found = kdgan.extra["best_test_evaluation_map"]
    kdgan = kdgan._replace(
        extra={**kdgan.extra, "best_test_evaluation_map": {s: found[s] for s in (0, 1)}}
    )
    flat = dict.fromkeys(SCORES, 0.45)
    knn = tag_arm("knn", flat, dataset=dataset, images=tag_images(flat, 30, 2))
    trials = [kdgan, knn]
    return table2_info(make_runs(trials, mode="methods"), image_frame(*trials))


def test_rows_have_ours_first_and_what_to_compare_below() -> None:
    rows = list(table2_rows(made("yfcc-popular"), 0))
    statistics = [(row.label, row.statistic.partition(" (")[0]) for row in rows]
    assert statistics == [
        ("KNN", "ours"), ("", "published"),
        ("KDGAN", "ours"), ("", "best over test evaluations"), ("", "published"),
    ]  # fmt: skip
    # t(0.975, 2) = 4.30265; the standard error of MAP is 0.02 / sqrt(3).
    assert rows[2].texts[4] == "0.5200 ± 0.0497" and rows[2].seeds == "3 seeds"
    assert all(rows[2].bold) and not any(row.bold[0] for row in rows if row is not rows[2])
    assert rows[0].texts[4] == "0.4500 ± 0.0000"
    assert rows[3].texts[4].startswith("0.5200 ± ")  # of seeds 0 and 1, 0.01 higher
    assert rows[4].texts == (
        "0.3047", "0.1968", "", "", "0.7787", "0.7905", "0.3678", "0.2526",
    )  # fmt: skip
    assert not list(table2_rows(made("flickr8k"), 500))


def test_flickr8k_has_no_published_row_and_says_why() -> None:
    page = table2_markdown(made("flickr8k"))
    assert "published (as printed)" not in page
    assert "the paper's Table 2 is of YFCC100M" in page and data_note("flickr8k") in page
    assert page.count(data_note("flickr8k")) == 1
    tex = table2_latex(made("flickr8k"))
    assert tex.count("Hodosh et al. 2013") == tex.count(r"\begin{table}") == 2


def test_the_page_has_tables_of_one_width_each() -> None:
    page = table2_markdown(made("yfcc-random"))
    blocks = [block for block in re.split(r"\n\n", page) if block[0] == "|"]
    assert [len({line.count("|") for line in block.splitlines()}) for block in blocks] == [1, 1, 1]
    assert page.startswith("# Table 2: mnist\n\n## n = all\n\n| method | score | seeds | P@3 |")
    assert "**0.5200 ± 0.0497**" in page
    assert (
        "| all | KDGAN − KNN | +0.0700 [+0.0203, +0.1197] | 3 | 0.026 | 0.026 | +0.0700 [" in page
    )
    assert re.search(r"10,000 resamples, generator seeded with 0", page)


def test_latex_is_balanced_and_escaped() -> None:
    trials = realistic_tag_arms(n_seeds=3, images=10)
    trials.append(tag_arm("kdgan+no_label", {0: 0.5, 1: 0.5, 2: 0.5}, 500))
    for info in (table2_info(make_runs(trials), image_frame(*trials)), made("yfcc-popular")):
        tex = table2_latex(info)
        assert tex.count(r"\begin{") == tex.count(r"\end{")
        # An escaped percent sign is text, one at a line's end continues it.
        plain = re.sub(r"%$|^% Needs.*$", "", tex, flags=re.MULTILINE)
        assert plain.count("{") - plain.count(r"\{") == plain.count("}") - plain.count(r"\}")
        assert not re.search(r"(?<!\\)[%#]", plain) and "±" not in tex and "−" not in tex
        body = [line for line in tex.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {7, 10}
    assert r"\textbf{0.5200 $\pm$ 0.0497}" in table2_latex(made("yfcc-popular"))


def test_files_are_written(tmp_path: Path) -> None:
    paths = write_table2(made("yfcc-popular"), tmp_path / "deep")
    assert [path.name for path in paths] == [
        "table2.md", "table2.tex", "table2.csv", "table2_differences.csv",
    ]  # fmt: skip
    cells = pd.read_csv(paths[2]).set_index(["arm", "metric"])
    assert len(cells) == 2 * len(TAG_METRICS)
    kdgan = cells.loc["kdgan", "map"]
    assert (kdgan["test"], kdgan["test_n"], kdgan["published"]) == (pytest.approx(0.52), 3, 0.7787)
    assert (kdgan["best_test_evaluation_n"], kdgan["train_size"]) == (2, 0)
    assert bool(kdgan["is_best"]) and cells["published"].isna().sum() == 4
    (paired,) = pd.read_csv(paths[3]).to_dict("records")
    assert (paired["arm"], paired["minus"], paired["metric"]) == ("kdgan", "knn", "map")
    assert paired["image_mean"] == pytest.approx(paired["mean"]) == pytest.approx(0.07)
    assert paired["image_low"] < paired["image_mean"] < paired["image_high"]
    assert (paired["n_images"], paired["resamples"], paired["image_seeds"]) == (
        30,
        10_000,
        "0 1 2",
    )


def test_without_a_rival_there_are_no_differences() -> None:
    info = table2_info(make_runs([tag_arm("distn", SCORES)]), image_frame())
    assert tag_differences_frame(info).empty and "image_low" in tag_differences_frame(info)
    assert "Paired" not in table2_markdown(info) and len(table2_frame(info)) == len(TAG_METRICS)
    assert table2_latex(info).count(r"\begin{table}") == 1
