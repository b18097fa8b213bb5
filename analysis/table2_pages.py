"""Table 2 as Markdown, LaTeX and CSV: a table per training size, a column per metric."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd

from analysis import columns as c
from analysis.arm_tables import AUTHORS, OURS
from analysis.paper import TABLE2_LABEL
from analysis.stats import RESAMPLES, Interval
from analysis.table2 import DIFFERENCES_NOTE, Table2Info, TagCell, TagDifference
from analysis.tasks import TAGS, size_text
from analysis.typeset import (
    DIFFERENCE_COLUMNS,
    arm_record,
    change_text,
    compute_section,
    difference_records,
    difference_texts,
    escaped,
    in_bold,
    interval_record,
    latex_row,
    latex_table,
    markdown_table,
    mean_text,
    seeds_text,
    write_pages,
)

LABELS: Final = [metric.label for metric in TAGS.metrics]
DIFFERENCE_HEADER: Final = (
    "n", "difference", "by seed", "seeds", "p", "p (Holm)", "by image", "images",
)  # fmt: skip
IMAGE_COLUMNS: Final = (
    "image_mean", "image_low", "image_high", "n_images", "image_seeds", "resamples", "metric",
)  # fmt: skip
SMALL: Final = (r"\resizebox{\textwidth}{!}{%",)  # ten columns are wider than a page


class TagRow(NamedTuple):
    """A printed row: an arm's name and seeds (empty below its first row), the statistic, a text
    per metric; `bold` says which of them are the best means."""

    label: str
    statistic: str
    seeds: str
    texts: tuple[str, ...]
    bold: tuple[bool, ...]


def table2_rows(info: Table2Info, size: int) -> Iterator[TagRow]:
    """Yield the rows of one size: ours for each arm, and below it what there is to compare."""
    for cell in info.ordered():
        if cell.arm.train_size != size:
            continue
        scores = [cell.scores[metric.name] for metric in TAGS.metrics]
        n = cell.scores[TAGS.score.name].test.n
        yield TagRow(
            cell.arm.label,
            OURS,
            seeds_text(cell.arm, n),
            tuple(mean_text(score.test, TAGS) or "no score" for score in scores),
            tuple(score.is_best for score in scores),
        )
        plain = (False,) * len(scores)
        if any(score.authors.n for score in scores):
            authors = [score.authors for score in scores]
            yield TagRow("", AUTHORS, _others(cell, authors), _texts(authors), plain)
        published = ["" if s.published is None else TAGS.text(s.published) for s in scores]
        if any(published):
            yield TagRow("", TABLE2_LABEL, "", tuple(published), plain)


def table2_markdown(info: Table2Info) -> str:
    """Return the page: a table per size, its caption, what went wrong, differences, compute."""
    lines = [f"# Table 2: {info.experiment}"]
    for size in info.train_sizes:
        rows = [
            [row.label, row.statistic, row.seeds, *_bolded(row, row.texts, "**", "**")]
            for row in table2_rows(info, size)
        ]
        lines += ["", f"## n = {size_text(size)}", ""]
        lines += markdown_table(["method", "score", "seeds", *LABELS], rows)
    lines += ["", *(f"* {sentence}" for sentence in info.caption)]
    if info.notes:
        lines += ["", "What went wrong or is missing:", "", *(f"* {note}" for note in info.notes)]
    if info.differences:
        lines += ["", "## Paired differences", "", DIFFERENCES_NOTE, ""]
        lines += markdown_table(DIFFERENCE_HEADER, map(_difference, info.differences))
    lines += compute_section((cell.arm, cell.compute) for cell in info.ordered())
    return "\n".join(lines) + "\n"


def table2_latex(info: Table2Info) -> str:
    """Return a table per size, and the differences as another; they need booktabs, graphicx."""
    label = f"table2-{info.experiment}"
    lines = ["% Needs \\usepackage{booktabs} and \\usepackage{graphicx}."]
    for number, size in enumerate(info.train_sizes):
        body: list[str] = []
        for row in table2_rows(info, size):
            if row.label and body:
                body.append(r"\addlinespace")
            texts = _bolded(row, tuple(map(escaped, row.texts)), r"\textbf{", "}")
            head = map(escaped, (row.label, row.statistic, row.seeds))
            body.append(latex_row([*head, *texts]))
        said = [f"n = {size_text(size)}.", *info.caption, *info.notes]
        lines += [""] * bool(number)
        lines += latex_table(
            " ".join(said), f"{label}-{size_text(size).replace(',', '')}",
            f"lll{'c' * len(LABELS)}", ["Method", "Score", "Seeds", *LABELS], body, SMALL, ("}",),
        )  # fmt: skip
    if info.differences:
        rows = [latex_row([escaped(text) for text in _difference(d)]) for d in info.differences]
        header = ["$n$", "Difference", "By seed", "Seeds", "$p$", "$p$ (Holm)", "By image",
                  "Images"]  # fmt: skip
        caption = f"{DIFFERENCES_NOTE} {info.data_note}".rstrip()
        lines += ["", *latex_table(
            caption, f"{label}-differences", "rlcrrrcr", header, rows, SMALL, ("}",),
        )]  # fmt: skip
    return "\n".join(lines) + "\n"


def table2_frame(info: Table2Info) -> pd.DataFrame:
    """Return a record per training size, arm and metric; scores are fractions."""
    records = [
        {
            "train_size": cell.arm.train_size, "arm": cell.arm.name, "metric": metric.name,
            "is_best": score.is_best,
            **interval_record("test", score.test),
            **interval_record(c.BEST_TEST_EVALUATION, score.authors),
            "published": math.nan if score.published is None else score.published,
            **arm_record(cell.arm, cell.compute),
        }
        for cell in info.ordered()
        for metric in TAGS.metrics
        for score in [cell.scores[metric.name]]
    ]  # fmt: skip
    return pd.DataFrame(records)


def tag_differences_frame(info: Table2Info) -> pd.DataFrame:
    """Return a record per paired difference in MAP, in fractions, by seed and by image."""
    records = []
    plain = difference_records(d.by_seed for d in info.differences)
    for record, (_, by_image) in zip(plain, info.differences, strict=True):
        over = by_image.difference
        records.append(
            {
                **record,
                "image_mean": over.mean, "image_low": over.low, "image_high": over.high,
                "n_images": over.n, "image_seeds": " ".join(map(str, by_image.seeds)),
                "resamples": RESAMPLES, "metric": TAGS.score.name,
            }
        )  # fmt: skip
    return pd.DataFrame(records, columns=[*DIFFERENCE_COLUMNS, *IMAGE_COLUMNS])


def write_table2(info: Table2Info, folder: Path) -> list[Path]:
    """Write table2.md, .tex, .csv and table2_differences.csv to `folder`; returns the paths."""
    return write_pages(
        "table2", table2_markdown(info), table2_latex(info), table2_frame(info),
        tag_differences_frame(info), folder,
    )  # fmt: skip


def _bolded(row: TagRow, texts: tuple[str, ...], before: str, after: str) -> list[str]:
    return [in_bold(text, b, before, after) for text, b in zip(texts, row.bold, strict=True)]


def _texts(intervals: list[Interval]) -> tuple[str, ...]:
    return tuple(mean_text(interval, TAGS) for interval in intervals)


def _others(cell: TagCell, authors: list[Interval]) -> str:
    """Return the number of seeds behind the authors' statistic if that is another one."""
    n = max(interval.n for interval in authors)
    return f"{n} seeds" if n != cell.scores[TAGS.score.name].test.n else ""


def _difference(difference: TagDifference) -> list[str]:
    over = difference.by_image.difference
    images = [change_text(over, TAGS), f"{over.n:,}" if over.n else ""]
    return [*difference_texts(difference.by_seed, TAGS), *images]
