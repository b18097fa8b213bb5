"""Tables of a sweep in Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from analysis import columns as c
from analysis.cells import SYMBOLS, TRIAL_SEPARATOR, Cell, SeedPoint, cells_of
from analysis.frames import Runs, dataset_of, runs_data_note, runs_task
from analysis.paper import DATASET, PublishedCell, best_figure4_cell
from analysis.stats import Interval, t_interval
from analysis.tasks import Task, size_order, size_text

RULE: Final = (
    "For each training size and method: among the configurations in which every seed finished, "
    "those with the largest number of seeds; of these, the one with the highest mean "
    "best validation {score}. Trials of one configuration count together; a search trial counts "
    "by itself, and one that was stopped early has no test score and does not compete. The test "
    "score is read at each seed's best validation checkpoint and chooses nothing. The chosen "
    "configuration's validation score is the highest of several and therefore optimistic; its "
    "test score is not."
)


class BestRow(NamedTuple):
    """The best cell of one training size and method; without one only the counts are filled.

    `trial_id` holds the ids of all its trials, joined with commas; `candidates` counts the cells
    compared, `outcomes` the trials that ended in each way.
    """

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
    """Return the best cell per training size and method, by the rule of `RULE`."""
    groups: dict[tuple[int, str], list[Cell]] = {}
    for cell in cells_of(runs):
        groups.setdefault((cell.train_size, cell.method), []).append(cell)
    is_paper = dataset_of(runs) == DATASET
    places = sorted(groups, key=lambda place: (size_order(place[0]), place[1]))
    return [_best_row(size, method, groups[size, method], is_paper) for size, method in places]


def best_markdown(runs: Runs) -> str:
    """Return the table of best configurations as a Markdown page."""
    rows, task = best_rows(runs), runs_task(runs)
    sweep, note = runs.sweep, runs_data_note(runs)
    recorded = runs.trials[c.TRIAL_ID].nunique()
    planned = "" if sweep.planned_trials is None else f" of {sweep.planned_trials} planned"
    header = ["n", "method", *(SYMBOLS[name] for name in ("alpha", "beta", "gamma", "tau"))]
    unit = ", %" if task.scale == 100 else f" {task.score.label}"
    header += [f"validation{unit}", f"test{unit}", "seeds", "compared", "trial outcomes", "trials"]
    lines = [
        f"# Best configurations: {sweep.experiment}",
        "",
        f"Sweep `{sweep.sweep_id}`, commit `{sweep.commit}`{' (dirty)' if sweep.dirty else ''}, "
        f"{recorded}{planned} trials recorded{', quick: shortened training' * sweep.quick}.",
        "",
        RULE.format(score=task.score.label),
        "",
        "Scores are means over seeds with a 95 % Student-t interval in brackets.",
        "",
        *([f"{note}.", ""] if note else []),
    ]
    has_published = any(row.published for row in rows)
    if has_published:
        header.append("published, %")
    lines += [_line(header), _line(["---"] * len(header))]
    lines += [
        _line([*_texts(row, task), *([_published(row)] if has_published else [])]) for row in rows
    ]
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


def _best_row(size: int, method: str, cells: Sequence[Cell], is_paper: bool) -> BestRow:
    able = [cell for cell in cells if all(_is_scored(seed) for seed in cell.seeds)]
    most = max((len(cell.seeds) for cell in able), default=0)
    candidates = [cell for cell in able if len(cell.seeds) == most]
    counts = Counter(outcome for cell in cells for outcome in cell.trial_outcomes)
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
        outcomes={name: counts[name] for name in c.OUTCOMES if name in counts},
        published=best_figure4_cell(size) if is_paper and method == "kdgan" else None,
    )
    if not candidates:
        return empty
    best = max(candidates, key=lambda cell: _valid(cell).mean)
    return empty._replace(
        trial_id=best.trial_id,
        alpha=best.numbers[c.ALPHA],
        beta=best.numbers[c.BETA],
        gamma=best.numbers[c.GAMMA],
        tau=best.tau,
        valid=_valid(best),
        test=t_interval([seed.value for seed in best.seeds]),
    )


def _is_scored(seed: SeedPoint) -> bool:
    """Return whether a seed finished, with both scores."""
    return seed.outcome == c.FINISHED and not math.isnan(seed.valid + seed.value)


def _valid(cell: Cell) -> Interval:
    return t_interval([seed.valid for seed in cell.seeds])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _texts(row: BestRow, task: Task) -> list[str]:
    """Return a row's cells up to the published one."""
    outcomes = ", ".join(f"{count} {name}" for name, count in row.outcomes.items())
    if not row.trial_id:
        none = ["none qualifies", "", "", "", "", "", "", "0", outcomes, ""]
        return [size_text(row.train_size), row.method, *none]
    numbers = [f"{value:.3g}" for value in (row.alpha, row.beta, row.gamma)]
    return [
        size_text(row.train_size),
        row.method,
        *numbers,
        row.tau,
        _interval(row.valid, task),
        _interval(row.test, task),
        str(row.test.n),
        str(row.candidates),
        outcomes,
        ", ".join(f"`{trial_id}`" for trial_id in row.trial_id.split(TRIAL_SEPARATOR)),
    ]


def _interval(interval: Interval, task: Task) -> str:
    if not interval.n:
        return "none"
    mean = task.text(interval.mean)
    if math.isnan(interval.low):
        return mean
    return f"{mean} [{task.text(interval.low)}, {task.text(interval.high)}]"


def _published(row: BestRow) -> str:
    cell = row.published
    if cell is None:
        return ""
    where = f"{SYMBOLS[cell.factor]} = {cell.level:g}"
    return f"{100 * cell.accuracy:.2f} at {where} (best over test evaluations of one run)"
