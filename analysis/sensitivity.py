"""What Figures 4 and 5 show, as plain tuples: each factor's effect around the baseline cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

from analysis import columns as c
from analysis.cells import (
    FACTORS,
    SYMBOLS,
    UNSCORED,
    Cell,
    SeedPoint,
    by_trial_id,
    cells_of,
    differ_only_in,
    distinct,
)
from analysis.frames import Runs, dataset_of, origin, runs_task
from analysis.paper import FACTORS as PUBLISHED_FACTORS
from analysis.paper import LABEL, Floats, PublishedMode, published_curve
from analysis.stats import LEVEL, t_interval
from analysis.tasks import ACCURACY, IMAGES, Metric, Task, size_order, size_text

LOGARITHMIC: Final = {"beta", "gamma"}
TAU_KINDS: Final = ("exponential", "linear", "cosine", "constant")
MISSING: Final = "missing"
BASELINE_CATEGORY: Final = "baseline"
ERROR_CHARACTERS: Final = 70


class Point(NamedTuple):
    """One cell of a curve: where it lies, its mean with interval, and its seeds.

    A cell that failed or that nobody has run yet keeps its place with a NaN mean. `trial_id` holds
    the ids of all trials of the cell, joined with commas; each seed says which of them is its own.
    """

    level: float
    label: str
    mean: float
    low: float
    high: float
    n: int
    seeds: tuple[SeedPoint, ...]
    is_baseline: bool
    outcome: str
    trial_id: str


class Curve(NamedTuple):
    """One training size in one panel, its points ordered by level."""

    train_size: int
    points: tuple[Point, ...]


class PublishedCurve(NamedTuple):
    """A curve of the paper at one training size."""

    train_size: int
    levels: tuple[float, ...]
    values: tuple[float, ...]


class Panel(NamedTuple):
    """One factor; `labels` names the positions 0, 1, ... of a categorical axis, else is empty."""

    factor: str
    logarithmic: bool
    labels: tuple[str, ...]
    curves: tuple[Curve, ...]
    published: tuple[PublishedCurve, ...]


class SensitivityInfo(NamedTuple):
    """All that Figure 4 draws and prints, and Figure 5 of one metric; scores are fractions."""

    experiment: str
    train_sizes: tuple[int, ...]
    panels: tuple[Panel, ...]
    footer: str
    notes: tuple[str, ...]
    task: Task = IMAGES
    metric: Metric = ACCURACY


def has_sensitivity(runs: Runs) -> bool:
    """Return whether any recorded trial belongs to a sensitivity curve."""
    return bool((runs.rows[c.ROLE] == c.ROLE_SENSITIVITY).any())


def sensitivity_info(
    runs: Runs, published: PublishedMode = "corrected", metric: Metric | None = None
) -> SensitivityInfo:
    """Return what Figure 4, or Figure 5 of one metric, shows of one sweep.

    Args:
        runs: The sweep's runs; its partial state is drawn as it is and said in the footer.
        published: Which axis and values to take the paper's curves from, if any.
        metric: Of the runs' task, by default the one that selects.
    """
    task = runs_task(runs)
    metric = metric or task.score
    cells = by_trial_id(cells_of(runs, metric))
    baselines = _baselines(runs, cells)
    published_of = partial(published_curve, dataset_of(runs), metric.name, mode=published)
    panels: list[Panel] = []
    notes: list[str] = []
    for factor in FACTORS:
        is_row = (runs.rows[c.ROLE] == c.ROLE_SENSITIVITY) & (runs.rows[c.FACTOR] == factor)
        chosen = distinct(cells[trial_id] for trial_id in runs.rows[is_row][c.TRIAL_ID])
        if not chosen:
            notes.append(f"No sensitivity trial of {SYMBOLS[factor]} yet.")
            continue
        panel = _panel(factor, chosen, baselines, published_of, notes)
        panels.append(panel)
        notes.extend(_gaps(panel, {cell.trial_id: cell for cell in cells.values()}))
    drawn = {point.trial_id: point for point in _points(panels)}
    failed = sum(cell.failed_trials for cell in distinct(cells.values()) if cell.trial_id in drawn)
    if any(panel.published for panel in panels):
        notes.insert(0, f"Dashed: {published_text(published)}")
    return SensitivityInfo(
        experiment=runs.sweep.experiment,
        train_sizes=tuple(
            sorted({curve.train_size for p in panels for curve in p.curves}, key=size_order)
        ),
        panels=tuple(panels),
        footer=_footer(runs, list(drawn.values()), failed),
        notes=tuple(dict.fromkeys(notes)),
        task=task,
        metric=metric,
    )


def _baselines(runs: Runs, cells: dict[str, Cell]) -> dict[int, Cell]:
    """Return the latest baseline cell of each training size."""
    found = runs.rows[runs.rows[c.ROLE] == c.ROLE_BASELINE][c.TRIAL_ID]
    baselines = distinct(cells[trial_id] for trial_id in found)
    return {cell.train_size: cell for cell in sorted(baselines, key=lambda cell: cell.started)}


def _panel(
    factor: str,
    chosen: list[Cell],
    baselines: dict[int, Cell],
    published_of: Callable[[str, int], tuple[Floats, Floats]],
    notes: list[str],
) -> Panel:
    """Return one panel; says in `notes` which trials it leaves out and why."""
    members: dict[int, list[Cell]] = {}
    for size in sorted({cell.train_size for cell in chosen}, key=size_order):
        mine = [cell for cell in chosen if cell.train_size == size]
        baseline = baselines.get(size)
        if baseline is None:
            notes.append(f"n = {size_text(size)}: no baseline trial recorded.")
            members[size] = mine
            continue
        around = [cell for cell in mine if differ_only_in(factor, cell, baseline)]
        stray = sum(len(cell.trial_ids) for cell in mine if cell not in around)
        if stray:
            notes.append(
                f"n = {size_text(size)}: {stray} {SYMBOLS[factor]} trial(s) around "
                "another baseline are not drawn."
            )
        members[size] = [baseline, *around]
    kept = [cell for cells in members.values() for cell in cells]
    wanted = {cell.label(factor) for cell in kept if cell in chosen}
    categories: tuple[str, ...] = ()
    if factor == "tau":
        categories, said = _categories(wanted, {cell.label(factor): cell for cell in kept})
        notes.extend(said)
    return Panel(
        factor=factor,
        logarithmic=factor in LOGARITHMIC,
        labels=categories,
        curves=tuple(
            Curve(size, _curve_points(factor, cells, baselines.get(size), wanted, categories))
            for size, cells in members.items()
        ),
        published=tuple(
            PublishedCurve(size, levels, values)
            for size in members
            for levels, values in [published_of(factor, size)]
            if levels
        ),
    )


def _curve_points(
    factor: str,
    cells: list[Cell],
    baseline: Cell | None,
    wanted: set[str],
    categories: tuple[str, ...],
) -> tuple[Point, ...]:
    """Return a point per level, one also for each wanted level that has no trial."""
    by_label: dict[str, Cell] = {}
    # The baseline comes first, so that a level at its place does not become a second point.
    for cell in cells:
        by_label.setdefault(cell.label(factor), cell)
    points = []
    for label in wanted | set(by_label):
        if not categories:
            level = float(label)
        else:
            level = float(categories.index(label if label in categories else BASELINE_CATEGORY))
        found = by_label.get(label)
        if found is None:
            nan = math.nan
            points.append(Point(level, label, nan, nan, nan, 0, (), False, MISSING, ""))
            continue
        mean = t_interval([seed.value for seed in found.seeds if not math.isnan(seed.value)])
        points.append(
            Point(
                level=level,
                label=label,
                mean=mean.mean,
                low=mean.low,
                high=mean.high,
                n=mean.n,
                seeds=found.seeds,
                is_baseline=found is baseline,
                outcome=found.outcome,
                trial_id=found.trial_id,
            )
        )
    return tuple(sorted(points, key=lambda point: point.level))


def _categories(wanted: set[str], by_label: dict[str, Cell]) -> tuple[tuple[str, ...], list[str]]:
    """Return the schedules along the tau axis, and notes on those that have no name there.

    A search gives each training size a baseline schedule of its own. Where they differ they share
    one place, called baseline, rather than one place each with a single point on it.
    """

    def key(label: str) -> tuple[int, str]:
        kind = label.partition(" ")[0]
        return (TAU_KINDS.index(kind) if kind in TAU_KINDS else len(TAU_KINDS), label)

    own = set(by_label) - wanted
    if len(own) < 2:
        return tuple(sorted(by_label, key=key)), []
    notes = [
        f"n = {size_text(by_label[label].train_size)}: the baseline's {SYMBOLS['tau']} is {label}."
        for label in sorted(own, key=lambda label: by_label[label].train_size)
    ]
    return (BASELINE_CATEGORY, *sorted(wanted, key=key)), notes


def _points(panels: Iterable[Panel]) -> Iterator[Point]:
    """Yield every cell of the panels that was run; a baseline comes once a panel."""
    for panel in panels:
        for curve in panel.curves:
            yield from (point for point in curve.points if point.trial_id)


def _gaps(panel: Panel, cells: dict[str, Cell]) -> Iterator[str]:
    """Yield a sentence for what a curve lacks: trials not run, cells and seeds without a score."""
    symbol = SYMBOLS[panel.factor]
    for curve in panel.curves:
        size = f"n = {size_text(curve.train_size)}"
        missing = [point.label for point in curve.points if point.outcome == MISSING]
        if missing:
            yield f"{size}: no trial yet at {symbol} = {', '.join(missing)}."
        for point in curve.points:
            if point.outcome == MISSING:
                continue
            where = f"{size}, " + (
                "baseline" if point.is_baseline else f"{symbol} = {point.label}"
            )
            for sentence in _lacks(point, cells[point.trial_id].error[:ERROR_CHARACTERS]):
                yield f"{where}: {sentence}"


def _lacks(point: Point, error: str) -> Iterator[str]:
    """Yield a sentence for what a cell that was run lacks.

    Diverged seeds beside scored ones are left to the figure, which marks and counts them.
    """
    failed = [seed for seed in point.seeds if seed.outcome == c.FAILED]
    others = [seed for seed in point.seeds if seed.outcome != c.FAILED]
    why = f" ({error})." if error else "."
    if failed and not others:
        yield "failed" + why
        return
    if not point.n:
        worst = max((seed.outcome for seed in others), key=c.OUTCOMES.index)
        yield f"no seed has a test score ({worst})."
    if failed:
        yield f"{_named(failed)} failed{why}"
    stopped = [s for s in others if math.isnan(s.value) and s.outcome not in UNSCORED]
    if point.n and stopped:
        yield f"{_named(stopped)} stopped early, without a test score."


def _named(seeds: list[SeedPoint]) -> str:
    """Return 'seed 3' or 'seeds 3, 4'."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(str(seed.seed) for seed in seeds)}"


def published_text(published: PublishedMode) -> str:
    """Return what the published curves are and on which axes they stand."""
    alpha, beta, gamma = (SYMBOLS[factor] for factor in PUBLISHED_FACTORS)
    if published == "printed":
        how = f"as printed ({alpha} weights the teacher, {beta} and {gamma} as the ticks say)"
    else:
        how = (
            f"on the equation's axes ({alpha} weights the classifier, {beta} and {gamma} as run), "
            "without the constants added for plotting"
        )
    return f"{LABEL}, {how}; the paper has panels for {alpha}, {beta}, {gamma} only."


def _footer(runs: Runs, points: list[Point], failed: int) -> str:
    """Return the sentence under the figure: statistic, selection rule, origin, what went wrong.

    Args:
        runs: The sweep that is drawn.
        points: Its cells that are drawn, each once.
        failed: Number of failed trials of the cells that are drawn.
    """
    counts = sorted({point.n for point in points if point.n})
    if counts[-1:] == [1]:
        statistic = "One scored seed a cell, hence no interval."
    else:
        many = "-".join(str(count) for count in dict.fromkeys(counts[:1] + counts[-1:])) or "no"
        statistic = (
            f"Mean and {100 * LEVEL:g} % Student-t interval over {many} scored seeds a cell."
        )
    seeds = [seed for point in points for seed in point.seeds]
    diverged = sum(seed.outcome == c.DIVERGED for seed in seeds)
    # A collapsed seed of a trial that was stopped early has no test score.
    collapsed = sum(seed.outcome == c.COLLAPSED and not math.isnan(seed.value) for seed in seeds)
    return (
        f"{statistic} {runs_task(runs).statement} "
        f"Seeds collapsed: {collapsed} (in the mean), "
        f"diverged: {diverged} (no score, not in the mean); "
        f"failed trials: {failed}. {origin(runs)}."
    )
