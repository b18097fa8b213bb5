"""The live screen of a running sweep; plain lines where there is no terminal."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeps.cost import CostModel, format_seconds
from sweeps.plan import Row, planned_trials
from sweeps.spool import score
from sweeps.stages import Stages

PLAIN_SECONDS = 15.0  # between plain lines
DRAW_SECONDS = 0.5  # between redrawings


@dataclass
class Snapshot:
    """What the screen shows, computed apart from how it is drawn.

    Attributes:
        done, running, total: trials; the total is exact once the cuts are known.
        seconds_left: estimated wall time.
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


def take_snapshot(
    stages: Stages, mode: str, cost: CostModel, parallel: int, running: Mapping[str, float]
) -> Snapshot:
    """The sweep as it stands.

    Args:
        stages: plan and results.
        mode: of the sweep.
        cost: seconds per trial.
        parallel: trials that run at the same time.
        running: trial_id -> fraction done.
    """
    trials = stages.plan.trials()
    snapshot = Snapshot(done=len(stages.results), running=len(running))
    left = 0.0
    failures: list[tuple[float, str]] = []
    for trial_id, rows in trials.items():
        config, result = rows[0].config, stages.results.get(trial_id)
        if result is None:
            left += cost.trial_seconds(config) * (1.0 - running.get(trial_id, 0.0))
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
    for size, (search, around) in unplanned_trials(stages, mode).items():
        snapshot.total += search + around
        seeds, searchers = len(stages.space.seeds), len(stages.space.search_seeds)
        left += cost.seconds_per_seed(size) * (search * searchers + around * seeds)
        left += cost.pretrain_seconds(size) * seeds
    snapshot.seconds_left = left / max(1, parallel)
    return snapshot


def unplanned_trials(stages: Stages, mode: str) -> dict[int, tuple[int, int]]:
    """Training size -> (search trials still to be asked for, cells still to be planned)."""
    left = {}
    for size, (search, around) in planned_trials(stages.space, mode).items():
        rows = [row for row in stages.plan if row.config.train_size == size]
        asked = len({row.trial_id for row in rows if row.role == "search"})
        if size in stages.searches and stages.searches[size].complete:
            asked = search
        cut = any(row.role != "search" for row in rows)
        left[size] = (max(0, search - asked), 0 if cut else around)
    return left


def expected_trials(stages: Stages, mode: str) -> int:
    """Trials of the whole sweep, as far as that is known: those planned and those to come."""
    to_come = sum(search + around for search, around in unplanned_trials(stages, mode).values())
    return len(stages.plan.trials()) + to_come


def describe(row: Row) -> str:
    """A configuration in one line: 'α=0.5 β=1 γ=0.01 τ exponential 1→0.1', or another method."""
    config = row.config
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


def line(snapshot: Snapshot) -> str:
    """A snapshot as one line."""
    parts = [f"{snapshot.done}/{snapshot.total} trials done"]
    if snapshot.done < snapshot.total:
        parts[0] += f", {snapshot.running} running"
        parts.append(f"about {format_seconds(snapshot.seconds_left)} left")
    if snapshot.best:
        best = (f"{100 * v:.2f} % (n={n})" for n, (v, _) in sorted(snapshot.best.items()))
        parts.append("best on validation " + ", ".join(best))
    bad = {k: v for k, v in sorted(snapshot.outcomes.items()) if k != "finished"}
    parts += [f"{count} {outcome}" for outcome, count in bad.items()]
    return "; ".join(parts)


def _table(snapshot: Snapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    share = snapshot.done / max(1, snapshot.total)
    filled = round(30 * share)
    table.add_row(
        "trials",
        f"{'━' * filled}[dim]{'━' * (30 - filled)}[/dim] {snapshot.done}/{snapshot.total}"
        f" done, {snapshot.running} running, about {format_seconds(snapshot.seconds_left)} left",
    )
    for n, (value, what) in sorted(snapshot.best.items()):
        table.add_row(f"best, n={n}", f"{100 * value:.2f} % on validation at {what}")
    outcomes = ", ".join(f"{v} {k}" for k, v in sorted(snapshot.outcomes.items())) or "none yet"
    table.add_row("outcomes", outcomes)
    if snapshot.last_failure:
        table.add_row("last failure", Text(snapshot.last_failure, style="red"))
    return table
