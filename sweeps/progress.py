"""The live screen of a running sweep; plain lines where there is no terminal."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kdgan_core.config import TrialConfig
from sweeps.arms import FACTOR, Branch
from sweeps.cost import CostModel, Estimate, format_seconds
from sweeps.design import Size
from sweeps.plan import Row
from sweeps.spool import score

if TYPE_CHECKING:
    from sweeps.stages import Stages

PLAIN_SECONDS = 15.0  # between plain lines
DRAW_SECONDS = 0.5  # between redrawings


@dataclass
class Snapshot:
    """What the screen shows, computed apart from how it is drawn.

    Attributes:
        done, running, total: trials; the total is exact once the cuts are known.
        seconds_left: estimated wall time; NaN where nothing has been measured yet.
        outcomes: outcome -> trials.
        best: training size -> (score of its best trial so far in [0, 1], what that trial is).
        last_failure: the last line of the last failure's traceback, "" if none failed.
    """

    done: int = 0
    running: int = 0
    total: int = 0
    seconds_left: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    best: dict[int, tuple[float, str]] = field(default_factory=dict)
    last_failure: str = ""


class ToCome(NamedTuple):
    """Trials of a branch that are not in the plan yet.

    Attributes:
        config: a cell of that branch; its seeds are those of the cells around the baseline.
        search: trials still to be asked of Optuna, each under `search_seeds`.
        around: cells around the baseline.
    """

    config: TrialConfig
    search: int
    search_seeds: tuple[int, ...]
    around: int

    def costs(self, cost: CostModel) -> Estimate:
        """Seconds of training these trials."""
        cell = self.config.replace(seeds=self.config.seeds[:1])
        tuned = cost.training(cell.replace(authors_statistic=False))
        searched = tuned.scaled(self.search * len(self.search_seeds))
        return searched.plus(cost.training(cell).scaled(self.around * len(self.config.seeds)))


def take_snapshot(
    trials: Mapping[str, Sequence[Row]],
    results: Mapping[str, Mapping[str, Any]],
    to_come: Iterable[ToCome],
    cost: CostModel,
    parallel: int,
    running: Mapping[str, float],
) -> Snapshot:
    """The sweep as it stands.

    Args:
        trials: what is asked for, as far as it is planned: trial_id -> rows.
        results: trial_id -> result.
        to_come: what is not planned yet.
        cost: seconds per trial.
        parallel: trials that run at the same time.
        running: trial_id -> fraction done.
    """
    snapshot = Snapshot(done=len(trials.keys() & results.keys()), running=len(running))
    left = longest = 0.0
    waiting: list[TrialConfig] = []
    failures: list[tuple[float, str]] = []
    for trial_id, rows in trials.items():
        config, result = rows[0].config, results.get(trial_id)
        if result is None:
            known = cost.knows(config)
            seconds = cost.trial_seconds(config) if known else math.nan
            seconds *= 1.0 - running.get(trial_id, 0.0)
            left += seconds
            longest = max(longest, seconds)
            waiting.append(config)
            continue
        snapshot.outcomes[result["outcome"]] += 1
        if result["outcome"] == "failed":
            failures.append((result["time"], result["traceback"].strip().splitlines()[-1]))
        value = score(result)
        size = config.train_size
        if value is not None and value > snapshot.best.get(size, (-1.0, ""))[0]:
            snapshot.best[size] = (value, describe(rows[-1]))
    if failures:
        snapshot.last_failure = max(failures)[1]
    snapshot.total = len(trials)
    for group in to_come:
        snapshot.total += group.search + group.around
        if group.search + group.around:
            config = group.config
            left += group.costs(cost).mid if cost.knows(config) else math.nan
            waiting += [config] * bool(group.around)
            if group.search:
                waiting.append(config.replace(seeds=group.search_seeds))
    left += cost.pretraining(waiting).mid
    snapshot.seconds_left = max(left / max(1, parallel), longest)
    return snapshot


def trials_to_come(
    sizes: Mapping[Branch, tuple[TrialConfig, Size]],
    search_seeds: tuple[int, ...],
    rows: Iterable[Row],
    searched: Container[Branch] = (),
) -> list[ToCome]:
    """What is still to be planned, by branch.

    Args:
        sizes: branch -> a cell of it, and how many trials it will have in all.
        search_seeds: seeds of a search trial.
        rows: the plan.
        searched: branches whose search has named its last trial, maybe early.
    """
    asked: Counter[Branch] = Counter()
    planned = set()
    for row in rows:
        if row.role == "search":
            asked[row.branch] += 1
        elif row.role != "superseded":
            planned.add(row.branch)
    left = []
    for branch, (config, size) in sizes.items():
        search = 0 if branch in searched else max(0, size.search - asked[branch])
        around = 0 if branch in planned else size.around
        left.append(ToCome(config, search, search_seeds, around))
    return left


def of_stages(stages: Stages) -> tuple[dict[str, Sequence[Row]], list[ToCome]]:
    """What a command asks for: the trials that are planned, and what is to come."""
    space = stages.space
    sizes = {}
    for branch, size in stages.sizes.items():
        cell = stages.branches[branch].base_config(branch.train_size)
        sizes[branch] = (cell.replace(seeds=space.seeds[: size.around_seeds]), size)
    rows = [row for row in stages.plan if row.trial_id in stages.asked]
    searched = {branch for branch, search in stages.searches.items() if search.complete}
    planned = stages.plan.trials()
    to_come = trials_to_come(sizes, space.search_seeds, rows, searched)
    return {trial_id: planned[trial_id] for trial_id in stages.asked}, to_come


def expected_trials(stages: Stages) -> int:
    """Trials of the whole sweep, as far as that is known: all that are planned, and those that
    the command will add."""
    planned = sum(rows[0].role != "superseded" for rows in stages.plan.trials().values())
    return planned + sum(size.search + size.around for size in of_stages(stages)[1])


def describe(row: Row) -> str:
    """A configuration in one line: 'α=0.5 β=1 γ=0.01 τ exponential 1→0.1', or another method; in
    a table the arm."""
    config = row.config
    if row.factor == FACTOR:
        return row.level
    if config.method != "kdgan":
        return config.method
    return f"α={config.alpha:g} β={config.beta:g} γ={config.gamma:g} τ {config.temperature}"


class Screen:
    """Shows snapshots: redrawn in place on a terminal, a line every 15 s elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._last_shown = -math.inf
        self._shown_failure = ""

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def due(self) -> bool:
        """Whether it is time for another snapshot."""
        pause = DRAW_SECONDS if self._live is not None else PLAIN_SECONDS
        return time.monotonic() - self._last_shown >= pause

    def show(self, snapshot: Snapshot) -> None:
        """Draws it now. A new failure gets a line of its own, once."""
        self._last_shown = time.monotonic()
        if snapshot.last_failure not in ("", self._shown_failure):
            self._shown_failure = snapshot.last_failure
            self.console.print(Text(f"a trial failed: {snapshot.last_failure}", style="red"))
        if self._live is not None:
            self._live.update(_table(snapshot), refresh=True)
        else:
            self.console.print(Text(line(snapshot)))


def show_once(snapshot: Snapshot, console: Console) -> None:
    """The screen as it would be drawn now: a table on a terminal, a line elsewhere."""
    console.print(_table(snapshot) if console.is_terminal else Text(line(snapshot)))


def line(snapshot: Snapshot) -> str:
    """A snapshot as one line."""
    parts = [f"{snapshot.done}/{snapshot.total} trials done"]
    if snapshot.done < snapshot.total:
        parts[0] += f", {snapshot.running} running"
        parts.append(time_left(snapshot))
    if snapshot.best:
        best = (f"{100 * v:.2f} % (n={n or 'all'})" for n, (v, _) in sorted(snapshot.best.items()))
        parts.append("best on validation " + ", ".join(best))
    bad = {k: v for k, v in sorted(snapshot.outcomes.items()) if k != "finished"}
    parts += [f"{count} {outcome}" for outcome, count in bad.items()]
    return "; ".join(parts)


def time_left(snapshot: Snapshot) -> str:
    """'about 12 min left'."""
    if math.isnan(snapshot.seconds_left):
        return "time left unknown"
    return f"about {format_seconds(snapshot.seconds_left)} left"


def _table(snapshot: Snapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    share = snapshot.done / max(1, snapshot.total)
    filled = round(30 * share)
    table.add_row(
        "trials",
        f"{'━' * filled}[dim]{'━' * (30 - filled)}[/dim] {snapshot.done}/{snapshot.total}"
        f" done, {snapshot.running} running, {time_left(snapshot)}",
    )
    for n, (value, what) in sorted(snapshot.best.items()):
        table.add_row(f"best, n={n or 'all'}", f"{100 * value:.2f} % on validation at {what}")
    outcomes = ", ".join(f"{v} {k}" for k, v in sorted(snapshot.outcomes.items())) or "none yet"
    table.add_row("outcomes", outcomes)
    if snapshot.last_failure:
        table.add_row("last failure", Text(snapshot.last_failure, style="red"))
    return table
