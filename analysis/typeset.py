"""Pieces of a printed table: numbers as text, rows of Markdown and LaTeX, the parts that Tables 1
and 2 have in common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from analysis import columns as c
from analysis.arm_tables import COMPUTE, COMPUTE_NOTE, Difference
from analysis.methods import Arm, arm_label
from analysis.stats import Interval
from analysis.tasks import IMAGES, Task, size_text

COMPUTE_HEADER: Final = (
    "n", "method", "matched", "train, s", "pretrain, s", "updates of C", "of T", "of D",
)  # fmt: skip
DIFFERENCE_COLUMNS: Final = (
    "train_size", "arm", "minus", "mean", "std", "n", "low", "high", "p", "p_holm",
    "unpaired_seeds",
)  # fmt: skip
SMALLEST_P: Final = 0.001
LATEX: Final = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
        "_": r"\_", "%": r"\%", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "±": r"$\pm$", "<": r"$<$", ">": r"$>$", "−": r"$-$", "→": r"$\to$", "×": r"$\times$",
    }
)  # fmt: skip


def mean_text(interval: Interval, task: Task = IMAGES) -> str:
    """Return '77.95 ± 0.31'; without the ± for one seed, empty for none."""
    if not interval.n:
        return ""
    mean = task.text(interval.mean)
    if math.isnan(interval.high):
        return mean
    return f"{mean} ± {task.text(interval.high - interval.mean)}"


def change_text(interval: Interval, task: Task) -> str:
    """Return '+0.53 [+0.29, +0.77]'; without the bracket for one pair, empty for none."""
    if not interval.n:
        return ""
    mean = task.text(interval.mean, "+")
    if math.isnan(interval.low):
        return mean
    return f"{mean} [{task.text(interval.low, '+')}, {task.text(interval.high, '+')}]"


def seeds_text(arm: Arm, scored: int) -> str:
    """Return '9 of 10 seeds; 1 diverged'."""
    counts = Counter(seed.outcome for seed in arm.seeds if seed.outcome != c.FINISHED)
    said = [f"{counts[outcome]} {outcome}" for outcome in c.OUTCOMES if counts[outcome]]
    total = f"{len(arm.seeds)} seed{'s' * (len(arm.seeds) != 1)}"
    if scored < len(arm.seeds):
        total = f"{scored} of {total}"
    return "; ".join([total, *said])


def p_text(p: float) -> str:
    """Return a p value with three decimals, '< 0.001' below them, empty for none."""
    if math.isnan(p):
        return ""
    return f"< {SMALLEST_P:g}" if p < SMALLEST_P else f"{p:.3f}"


def difference_texts(difference: Difference, task: Task = IMAGES) -> list[str]:
    """Return training size, arms, mean with interval, pairs, p and p by Holm."""
    test, odd = difference.test, len(difference.unpaired)
    pairs = test.difference.n
    return [
        size_text(difference.train_size),
        f"{arm_label(difference.arm)} − {arm_label(difference.other)}",
        change_text(test.difference, task),
        f"{pairs} ({odd} without a pair)" if odd else str(pairs),
        p_text(test.p),
        p_text(difference.p_holm),
    ]


def compute_section(arms: Iterable[tuple[Arm, Mapping[str, float]]]) -> list[str]:
    """Return the Markdown lines on what the arms cost, from each arm and its `compute_of`."""
    rows = []
    for arm, compute in arms:
        seconds = [_number(compute[name], ",.1f") for name in COMPUTE[:2]]
        updates = [_number(compute[name], ",.0f") for name in COMPUTE[2:]]
        rows.append([size_text(arm.train_size), arm.label, arm.matched, *seconds, *updates])
    head = ["", "## Compute per seed", "", COMPUTE_NOTE, ""]
    return [*head, *markdown_table(COMPUTE_HEADER, rows)]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def latex_table(
    caption: str, label: str, columns: str, header: Sequence[str], body: Iterable[str],
    before: Sequence[str] = (), after: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Return the lines of a LaTeX table that needs booktabs.

    Args:
        caption: Plain text.
        label: Plain text, without 'tab:'.
        columns: LaTeX's column types.
        header: LaTeX, a text a column.
        body: LaTeX lines, as `latex_row` gives them.
        before: Lines in front of the tabular.
        after: Lines behind it.
    """
    return [
        r"\begin{table}", r"\centering", rf"\caption{{{escaped(caption)}}}",
        rf"\label{{tab:{escaped(label)}}}", *before, rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule", latex_row(header), r"\midrule", *body, r"\bottomrule", r"\end{tabular}",
        *after, r"\end{table}",
    ]  # fmt: skip


def latex_row(cells: Sequence[str]) -> str:
    """Return a row of cells that are LaTeX."""
    return " & ".join(cells) + r" \\"


def escaped(text: str) -> str:
    """Return plain text as LaTeX."""
    return text.translate(LATEX)


def in_bold(text: str, is_bold: bool, before: str, after: str) -> str:
    """Return the text with its mean and interval, what stands before the seeds, in bold."""
    if not is_bold:
        return text
    mean, bracket, rest = text.partition(" (")
    return before + mean + after + bracket + rest


def interval_record(name: str, interval: Interval) -> dict[str, object]:
    """Return the five columns of an interval."""
    mean, std, n, low, high = interval
    return {name: mean, f"{name}_std": std, f"{name}_n": n, f"{name}_low": low,
            f"{name}_high": high}  # fmt: skip


def arm_record(arm: Arm, compute: Mapping[str, float]) -> dict[str, object]:
    """Return the columns that say what an arm's seeds did and what they cost."""
    counts = Counter(seed.outcome for seed in arm.seeds)
    return {
        "seeds": " ".join(str(seed.seed) for seed in arm.seeds),
        **{outcome: counts[outcome] for outcome in c.OUTCOMES},
        "matched": arm.matched,
        "estimator": arm.estimator,
        **compute,
        "trial_ids": " ".join(arm.trial_ids),
    }


def difference_records(differences: Iterable[Difference]) -> Iterator[dict[str, object]]:
    """Yield the columns of each paired difference, in fractions."""
    for d in differences:
        yield {
            "train_size": d.train_size, "arm": d.arm, "minus": d.other,
            **d.test.difference._asdict(), "p": d.test.p, "p_holm": d.p_holm,
            "unpaired_seeds": " ".join(map(str, d.unpaired)),
        }  # fmt: skip


def write_pages(
    name: str, markdown: str, latex: str, cells: pd.DataFrame, differences: pd.DataFrame,
    folder: Path,
) -> list[Path]:  # fmt: skip
    """Write <name>.md, .tex, .csv and <name>_differences.csv to `folder`; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, tex, csv = (folder / f"{name}.{ending}" for ending in ("md", "tex", "csv"))
    paired = folder / f"{name}_differences.csv"
    page.write_text(markdown, encoding="utf-8")
    tex.write_text(latex, encoding="utf-8")
    cells.to_csv(csv, index=False)
    differences.to_csv(paired, index=False)
    return [page, tex, csv, paired]


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
