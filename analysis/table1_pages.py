"""Table 1 as Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd

from analysis import columns as c
from analysis.methods import arm_label
from analysis.paper import TABLE1_LABEL
from analysis.stats import Interval
from analysis.table1 import (
    AUTHORS,
    COMPUTE,
    COMPUTE_NOTE,
    DIFFERENCES_NOTE,
    OURS,
    Difference,
    TableCell,
    TableInfo,
)

COMPUTE_HEADER: Final = ("train, s", "pretrain, s", "updates of C", "of T", "of D")
SMALLEST_P: Final = 0.001
LATEX: Final = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
        "_": r"\_", "%": r"\%", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "±": r"$\pm$", "<": r"$<$", ">": r"$>$", "−": r"$-$", "→": r"$\to$", "×": r"$\times$",
    }
)  # fmt: skip


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
    lines = [f"# Table 1: {info.experiment}", ""]
    sizes = [f"n = {size:,}" for size in info.train_sizes]
    header = ["method", "score", *sizes]
    lines += [_line(header), _line(["---"] * len(header))]
    for row in table_rows(info):
        texts = [_bold(text, b, "**", "**") for text, b in zip(row.texts, row.bold, strict=True)]
        lines.append(_line([row.label, row.statistic, *texts]))
    lines += ["", *(f"* {sentence}" for sentence in info.caption)]
    if info.notes:
        lines += ["", "What went wrong or is missing:", "", *(f"* {note}" for note in info.notes)]
    if info.differences:
        lines += ["", "## Paired differences", "", DIFFERENCES_NOTE, ""]
        header = ["n", "difference", "points", "pairs", "p", "p (Holm)"]
        lines += [_line(header), _line(["---"] * len(header))]
        lines += [_line(_difference(difference)) for difference in info.differences]
    lines += ["", "## Compute per seed", "", COMPUTE_NOTE, ""]
    header = ["n", "method", "matched", *COMPUTE_HEADER]
    lines += [_line(header), _line(["---"] * len(header))]
    lines += [_line(_compute(cell)) for cell in _ordered(info)]
    return "\n".join(lines) + "\n"


def latex(info: TableInfo) -> str:
    """Return the table, and the differences as another; both need the package booktabs."""
    lines = ["% Needs \\usepackage{booktabs}.", r"\begin{table}", r"\centering"]
    lines.append(rf"\caption{{{_escaped(' '.join([*info.caption, *info.notes]))}}}")
    lines.append(rf"\label{{tab:table1-{_escaped(info.experiment)}}}")
    lines.append(rf"\begin{{tabular}}{{ll{'c' * len(info.train_sizes)}}}")
    sizes = [f"$n = {size:,}$".replace(",", "{,}") for size in info.train_sizes]
    lines += [r"\toprule", _row(["Method", "Score", *sizes]), r"\midrule"]
    for number, row in enumerate(table_rows(info)):
        if row.label and number:
            lines.append(r"\addlinespace")
        texts = [
            _bold(_escaped(text), b, r"\textbf{", "}")
            for text, b in zip(row.texts, row.bold, strict=True)
        ]
        lines.append(_row([_escaped(row.label), _escaped(row.statistic), *texts]))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    if info.differences:
        lines += ["", r"\begin{table}", r"\centering"]
        lines.append(rf"\caption{{{_escaped(DIFFERENCES_NOTE)}}}")
        lines.append(rf"\label{{tab:table1-{_escaped(info.experiment)}-differences}}")
        lines += [r"\begin{tabular}{rlcrrr}", r"\toprule"]
        lines += [_row(["$n$", "Difference", "Points", "Pairs", "$p$", "$p$ (Holm)"])]
        lines.append(r"\midrule")
        lines += [_row([_escaped(text) for text in _difference(d)]) for d in info.differences]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def cells_frame(info: TableInfo) -> pd.DataFrame:
    """Return a record per arm and training size; accuracies are fractions."""
    records: list[dict[str, object]] = []
    for cell in _ordered(info):
        arm, published = cell.arm, cell.published
        counts = Counter(seed.outcome for seed in arm.seeds)
        records.append(
            {
                "train_size": arm.train_size, "arm": arm.name, "is_best": cell.is_best,
                **_interval("test_accuracy", cell.test),
                **_interval("best_test_evaluation", cell.authors),
                "published_mean": published.mean if published else math.nan,
                "published_std": published.std if published else math.nan,
                "seeds": " ".join(str(seed.seed) for seed in arm.seeds),
                **{outcome: counts[outcome] for outcome in c.OUTCOMES},
                "matched": arm.matched, "estimator": arm.estimator,
                **cell.compute,
                "trial_ids": " ".join(arm.trial_ids),
            }
        )  # fmt: skip
    return pd.DataFrame(records)


def differences_frame(info: TableInfo) -> pd.DataFrame:
    """Return a record per paired difference, in fractions of accuracy."""
    names = ["train_size", "arm", "minus", "mean", "std", "n", "low", "high", "p", "p_holm"]
    records = [
        (d.train_size, d.arm, d.other, *d.test.difference, d.test.p, d.p_holm,
         " ".join(map(str, d.unpaired)))
        for d in info.differences
    ]  # fmt: skip
    return pd.DataFrame(records, columns=[*names, "unpaired_seeds"])


def write_table1(info: TableInfo, folder: Path) -> list[Path]:
    """Write table1.md, .tex, .csv and table1_differences.csv to `folder`; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, tex, csv = (folder / f"table1.{ending}" for ending in ("md", "tex", "csv"))
    paired = folder / "table1_differences.csv"
    page.write_text(markdown(info), encoding="utf-8")
    tex.write_text(latex(info), encoding="utf-8")
    cells_frame(info).to_csv(csv, index=False)
    differences_frame(info).to_csv(paired, index=False)
    return [page, tex, csv, paired]


def _ordered(info: TableInfo) -> Iterator[TableCell]:
    """Yield the cells by size, and in a size by arm."""
    for size in info.train_sizes:
        yield from (info.cells[arm, size] for arm in info.arms if (arm, size) in info.cells)


def _ours(cell: TableCell | None) -> str:
    """Return '77.95 ± 0.31 (9 of 10 seeds; 1 diverged)'; empty for a cell that was not run."""
    if cell is None:
        return ""
    seeds = cell.arm.seeds
    counts = Counter(seed.outcome for seed in seeds if seed.outcome != c.FINISHED)
    said = [f"{counts[outcome]} {outcome}" for outcome in c.OUTCOMES if counts[outcome]]
    total = f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"
    if cell.test.n < len(seeds):
        total = f"{cell.test.n} of {total}"
    return f"{mean_text(cell.test) or 'no score'} ({'; '.join([total, *said])})"


def _authors(cell: TableCell) -> str:
    """Return the authors' statistic, with its number of seeds if that is another one."""
    text = mean_text(cell.authors)
    return f"{text} ({cell.authors.n} seeds)" if text and cell.authors.n != cell.test.n else text


def _published(cell: TableCell | None) -> str:
    if cell is None or cell.published is None:
        return ""
    return f"{100 * cell.published.mean:.2f} ± {100 * cell.published.std:.2f}"


def _difference(difference: Difference) -> list[str]:
    points = difference.test.difference
    text = f"{100 * points.mean:+.2f}" if points.n else ""
    if not math.isnan(points.low):
        text += f" [{100 * points.low:+.2f}, {100 * points.high:+.2f}]"
    odd = len(difference.unpaired)
    return [
        f"{difference.train_size:,}",
        f"{arm_label(difference.arm)} − {arm_label(difference.other)}",
        text,
        f"{points.n} ({odd} without a pair)" if odd else str(points.n),
        _p(difference.test.p),
        _p(difference.p_holm),
    ]


def _compute(cell: TableCell) -> list[str]:
    seconds = [_number(cell.compute[name], ",.1f") for name in COMPUTE[:2]]
    updates = [_number(cell.compute[name], ",.0f") for name in COMPUTE[2:]]
    arm = cell.arm
    return [f"{arm.train_size:,}", arm.label, arm.matched, *seconds, *updates]


def mean_text(interval: Interval) -> str:
    """Return '77.95 ± 0.31' in percent; without the ± for one seed, empty for none."""
    if not interval.n:
        return ""
    mean = f"{100 * interval.mean:.2f}"
    if math.isnan(interval.high):
        return mean
    return f"{mean} ± {100 * (interval.high - interval.mean):.2f}"


def _interval(name: str, interval: Interval) -> dict[str, object]:
    mean, std, n, low, high = interval
    return {name: mean, f"{name}_std": std, f"{name}_n": n, f"{name}_low": low,
            f"{name}_high": high}  # fmt: skip


def _p(p: float) -> str:
    if math.isnan(p):
        return ""
    return f"< {SMALLEST_P:g}" if p < SMALLEST_P else f"{p:.3f}"


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _bold(text: str, is_bold: bool, before: str, after: str) -> str:
    """Return the text with its mean and interval, what stands before the seeds, in bold."""
    if not is_bold:
        return text
    mean, bracket, rest = text.partition(" (")
    return before + mean + after + bracket + rest


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escaped(text: str) -> str:
    return text.translate(LATEX)
