"""Table 1 as Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.arm_tables import AUTHORS, OURS
from analysis.methods import arm_label
from analysis.paper import TABLE1_LABEL
from analysis.table1 import DIFFERENCES_NOTE, TableCell, TableInfo
from analysis.typeset import (
    DIFFERENCE_COLUMNS,
    arm_record,
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


class TableRow(NamedTuple):
    """A printed row: an arm's name (empty below its first row), the statistic, a text per size.

    `bold` says which of the texts begin with the best mean.
    """

    label: str
    statistic: str
    texts: tuple[str, ...]
    bold: tuple[bool, ...]


def table_rows(info: TableInfo) -> Iterator[TableRow]:
    """Yield the rows of the table: ours for each arm, and below it what there is to compare."""
    for arm in info.arms:
        cells = [info.cells.get((arm, size)) for size in info.train_sizes]
        bold = tuple(cell is not None and cell.is_best for cell in cells)
        yield TableRow(arm_label(arm), OURS, tuple(map(_ours, cells)), bold)
        plain = (False,) * len(cells)
        authors = tuple("" if cell is None else _authors(cell) for cell in cells)
        if any(authors):
            yield TableRow("", AUTHORS, authors, plain)
        published = tuple(_published(cell) for cell in cells)
        if any(published):
            yield TableRow("", TABLE1_LABEL, published, plain)


def markdown(info: TableInfo) -> str:
    """Return the page: the table with its caption, what went wrong, differences and compute."""
    header = ["method", "score", *(f"n = {size:,}" for size in info.train_sizes)]
    rows = [
        [row.label, row.statistic, *_bolded(row, row.texts, "**", "**")]
        for row in table_rows(info)
    ]
    lines = [f"# Table 1: {info.experiment}", "", *markdown_table(header, rows)]
    lines += ["", *(f"* {sentence}" for sentence in info.caption)]
    if info.notes:
        lines += ["", "What went wrong or is missing:", "", *(f"* {note}" for note in info.notes)]
    if info.differences:
        lines += ["", "## Paired differences", "", DIFFERENCES_NOTE, ""]
        header = ["n", "difference", "points", "pairs", "p", "p (Holm)"]
        lines += markdown_table(header, map(difference_texts, info.differences))
    lines += compute_section((cell.arm, cell.compute) for cell in _ordered(info))
    return "\n".join(lines) + "\n"


def latex(info: TableInfo) -> str:
    """Return the table, and the differences as another; both need the package booktabs."""
    sizes = [f"$n = {size:,}$".replace(",", "{,}") for size in info.train_sizes]
    body: list[str] = []
    for number, row in enumerate(table_rows(info)):
        if row.label and number:
            body.append(r"\addlinespace")
        texts = _bolded(row, tuple(map(escaped, row.texts)), r"\textbf{", "}")
        body.append(latex_row([escaped(row.label), escaped(row.statistic), *texts]))
    label = f"table1-{info.experiment}"
    lines = ["% Needs \\usepackage{booktabs}."]
    lines += latex_table(
        " ".join([*info.caption, *info.notes]), label, f"ll{'c' * len(sizes)}",
        ["Method", "Score", *sizes], body,
    )  # fmt: skip
    if info.differences:
        paired = [[escaped(text) for text in difference_texts(d)] for d in info.differences]
        lines += ["", *latex_table(
            DIFFERENCES_NOTE, f"{label}-differences", "rlcrrr",
            ["$n$", "Difference", "Points", "Pairs", "$p$", "$p$ (Holm)"],
            map(latex_row, paired),
        )]  # fmt: skip
    return "\n".join(lines) + "\n"


def cells_frame(info: TableInfo) -> pd.DataFrame:
    """Return a record per arm and training size; accuracies are fractions."""
    records: list[dict[str, object]] = []
    for cell in _ordered(info):
        arm, published = cell.arm, cell.published
        records.append(
            {
                "train_size": arm.train_size, "arm": arm.name, "is_best": cell.is_best,
                **interval_record("test_accuracy", cell.test),
                **interval_record("best_test_evaluation", cell.authors),
                "published_mean": published.mean if published else math.nan,
                "published_std": published.std if published else math.nan,
                **arm_record(arm, cell.compute),
            }
        )  # fmt: skip
    return pd.DataFrame(records)


def differences_frame(info: TableInfo) -> pd.DataFrame:
    """Return a record per paired difference, in fractions of accuracy."""
    return pd.DataFrame(difference_records(info.differences), columns=list(DIFFERENCE_COLUMNS))


def write_table1(info: TableInfo, folder: Path) -> list[Path]:
    """Write table1.md, .tex, .csv and table1_differences.csv to `folder`; returns the paths."""
    return write_pages(
        "table1", markdown(info), latex(info), cells_frame(info), differences_frame(info), folder
    )


def _bolded(row: TableRow, texts: tuple[str, ...], before: str, after: str) -> list[str]:
    return [in_bold(text, b, before, after) for text, b in zip(texts, row.bold, strict=True)]


def _ordered(info: TableInfo) -> Iterator[TableCell]:
    """Yield the cells by size, and in a size by arm."""
    for size in info.train_sizes:
        yield from (info.cells[arm, size] for arm in info.arms if (arm, size) in info.cells)


def _ours(cell: TableCell | None) -> str:
    """Return '77.95 ± 0.31 (9 of 10 seeds; 1 diverged)'; empty for a cell that was not run."""
    if cell is None:
        return ""
    return f"{mean_text(cell.test) or 'no score'} ({seeds_text(cell.arm, cell.test.n)})"


def _authors(cell: TableCell) -> str:
    """Return the authors' statistic, with its number of seeds if that is another one."""
    text = mean_text(cell.authors)
    return f"{text} ({cell.authors.n} seeds)" if text and cell.authors.n != cell.test.n else text


def _published(cell: TableCell | None) -> str:
    if cell is None or cell.published is None:
        return ""
    return f"{100 * cell.published.mean:.2f} ± {100 * cell.published.std:.2f}"
