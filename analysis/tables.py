"""Tables of a sweep in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd

from analysis import columns as c
from analysis.cells import SYMBOLS
from analysis.paper import DATASET, PublishedCell, best_figure4_cell
from analysis.runs import Runs
from analysis.stats import Interval, t_interval

OUTCOMES: Final = (c.FINISHED, c.STOPPED, c.COLLAPSED, c.DIVERGED, c.FAILED)
RULE: Final = (
    "For each training size and method: among the trials of this sweep in which every seed "
    "finished, those with the largest number of seeds; of these, the one with the highest mean "
    "best validation accuracy. The test score is read at each seed's best validation checkpoint "
    "and chooses nothing. The chosen trial's validation score is the highest of several and "
    "therefore optimistic; its test score is not."
)


class BestRow(NamedTuple):
    """The best trial of one training size and method; without one only the counts are filled."""

    train_size: int
    method: str
    trial_id: str
    alpha: float
    beta: float
    gamma: float
    tau: str
    valid: Interval
    test: Interval
    candidates: int
    outcomes: dict[str, int]
    published: PublishedCell | None


def best_rows(runs: Runs) -> list[BestRow]:
    """Return the best trial per training size and method, by the rule of `RULE`."""
    return [
        _best_row(int(size), str(method), trials)
        for (size, method), trials in runs.trials.groupby([c.TRAIN_SIZE, c.METHOD])
    ]


def best_markdown(runs: Runs) -> str:
    """Return the table of best configurations as a Markdown page."""
    rows = best_rows(runs)
    sweep = runs.sweep
    recorded = runs.trials[c.TRIAL_ID].nunique()
    planned = "" if sweep.planned_trials is None else f" of {sweep.planned_trials} planned"
    header = ["n", "method", *(SYMBOLS[name] for name in ("alpha", "beta", "gamma", "tau"))]
    header += ["validation, %", "test, %", "seeds", "trials compared", "trial outcomes", "trial"]
    lines = [
        f"# Best configurations: {sweep.experiment}",
        "",
        f"Sweep `{sweep.sweep_id}`, commit `{sweep.commit}`{' (dirty)' if sweep.dirty else ''}, "
        f"{recorded}{planned} trials recorded{', quick: shortened training' * sweep.quick}.",
        "",
        RULE,
        "",
        "Scores are means over seeds with a 95 % Student-t interval in brackets.",
        "",
    ]
    has_published = any(row.published for row in rows)
    if has_published:
        header.append("published, %")
    lines += [_line(header), _line(["---"] * len(header))]
    lines += [_line([*_texts(row), *([_published(row)] if has_published else [])]) for row in rows]
    if has_published:
        lines += [
            "",
            "Published: the highest cell of the paper's Figure 4 at that training size, the "
            "constant added for plotting removed. It is the best over test evaluations of one "
            "run, so it is not comparable as it stands with a score selected on validation data.",
        ]
    return "\n".join(lines) + "\n"


def write_best(runs: Runs, folder: Path) -> Path:
    """Write `best.md` to `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "best.md"
    path.write_text(best_markdown(runs), encoding="utf-8")
    return path


def _best_row(size: int, method: str, trials: pd.DataFrame) -> BestRow:
    each = trials.groupby(c.TRIAL_ID, sort=False)
    finished = each[c.SEED_OUTCOME].agg(lambda outcomes: bool((outcomes == c.FINISHED).all()))
    scored = each[c.SEED_PREFIX + c.BEST_VALID_ACCURACY].count()
    valid_means = each[c.SEED_PREFIX + c.BEST_VALID_ACCURACY].mean()
    able = valid_means[finished & (scored > 0)]
    most = scored[able.index].max() if len(able) else 0
    candidates = able[scored[able.index] == most]
    counts = each[c.OUTCOME].first().value_counts()
    is_paper = set(trials[c.DATASET]) == {DATASET} and method == "kdgan"
    empty = BestRow(
        train_size=size,
        method=method,
        trial_id="",
        alpha=math.nan,
        beta=math.nan,
        gamma=math.nan,
        tau="",
        valid=t_interval([]),
        test=t_interval([]),
        candidates=len(candidates),
        outcomes={name: int(counts[name]) for name in OUTCOMES if name in counts},
        published=best_figure4_cell(size) if is_paper else None,
    )
    if not len(candidates):
        return empty
    best = trials[trials[c.TRIAL_ID] == candidates.idxmax()]
    first = best.iloc[0]
    return empty._replace(
        trial_id=str(first[c.TRIAL_ID]),
        alpha=float(first[c.ALPHA]),
        beta=float(first[c.BETA]),
        gamma=float(first[c.GAMMA]),
        tau="" if pd.isna(first[c.TAU]) else str(first[c.TAU]),
        valid=t_interval(best[c.SEED_PREFIX + c.BEST_VALID_ACCURACY].dropna().to_numpy()),
        test=t_interval(best[c.SEED_PREFIX + c.TEST_ACCURACY].dropna().to_numpy()),
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _texts(row: BestRow) -> list[str]:
    """Return a row's cells up to the published one."""
    outcomes = ", ".join(f"{count} {name}" for name, count in row.outcomes.items())
    if not row.trial_id:
        none = ["none qualifies", "", "", "", "", "", "", "0", outcomes, ""]
        return [f"{row.train_size:,}", row.method, *none]
    numbers = [f"{value:.3g}" for value in (row.alpha, row.beta, row.gamma)]
    return [
        f"{row.train_size:,}",
        row.method,
        *numbers,
        row.tau,
        _percent(row.valid),
        _percent(row.test),
        str(row.test.n),
        str(row.candidates),
        outcomes,
        f"`{row.trial_id}`",
    ]


def _percent(interval: Interval) -> str:
    if not interval.n:
        return "none"
    mean = f"{100 * interval.mean:.2f}"
    if math.isnan(interval.low):
        return mean
    return f"{mean} [{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def _published(row: BestRow) -> str:
    cell = row.published
    if cell is None:
        return ""
    where = f"{SYMBOLS[cell.factor]} = {cell.level:g}"
    return f"{100 * cell.accuracy:.2f} at {where} (best over test evaluations of one run)"
