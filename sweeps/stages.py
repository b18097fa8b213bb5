"""What to run next: a search per training size, then the cuts around the best of each.

One Ray Tune run works through all of it, so no worker waits for the slowest trial of a stage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdgan_core.config import TrialConfig
from sweeps.plan import Plan, Row, sensitivity_rows, sweep_id
from sweeps.search import Search
from sweeps.space import Space
from sweeps.spool import read_spool, score, spool_path


class Stages:
    """Hands out trials, each once, and learns how they ended.

    Resume = plan minus finished: a trial whose spool ends in a result other than `failed` is not
    handed out again, and its result is told to the search as if it had just come in.

    Attributes:
        plan: grows as the search asks and as the cuts become known.
        results: trial_id -> result of every trial that has one.
    """

    def __init__(
        self, space: Space, mode: str, seed: int, folder: Path,
        on_rows: Callable[[str, list[Row]], None] = lambda trial_id, rows: None,
    ) -> None:  # fmt: skip
        """Opens the sweep in `folder` (made before), with whatever it has already.

        Args:
            space: the sweep's space.
            mode: study | search | sensitivity | baseline.
            seed: of the search.
            folder: plan.parquet, optuna.journal and spool/ live here.
            on_rows: called with the trial_id and all rows of an ended trial that got another.

        Raises:
            PlanError: the plan on disk cannot be read.
        """
        self.space, self.mode, self.folder = space, mode, folder
        self.spool = folder / "spool"
        self.on_rows = on_rows
        self.plan = Plan(folder / "plan.parquet")
        self.results: dict[str, Mapping[str, Any]] = {}
        self.running: set[str] = set()
        self._ready: deque[Row] = deque()
        self._queued: set[str] = set()
        for trial_id in self.plan.trials():
            result = read_spool(spool_path(self.spool, trial_id)).result
            if result is not None and result["outcome"] != "failed":
                self.results[trial_id] = result
        self.resumed = len(self.results)
        self.searches: dict[int, Search] = {}
        if mode in ("study", "search") and space.search:
            self._open_searches(seed)
        self._cut: set[int] = set()
        self._enqueue(list(self.plan))
        for n in space.train_sizes:
            self._plan_cuts(n)

    def next_row(self) -> Row | None:
        """A trial to run now, marked as running; None if none can be named yet."""
        if not self._ready:
            self._ask()
        if not self._ready:
            return None
        row = self._ready.popleft()
        self._queued.discard(row.trial_id)
        self.running.add(row.trial_id)
        return row

    @property
    def exhausted(self) -> bool:
        """No further trial will be handed out, though some may still run."""
        if self._ready or not all(search.complete for search in self.searches.values()):
            return False
        return self.mode != "study" or len(self._cut) == len(self.space.train_sizes)

    def complete(self, trial_id: str) -> Mapping[str, Any] | None:
        """Reads how a running trial ended from its spool, tells the search, plans what follows."""
        self.running.discard(trial_id)
        result = read_spool(spool_path(self.spool, trial_id)).result
        if result is not None:
            self.results[trial_id] = result
        for n, search in self.searches.items():
            if trial_id in search.rows:
                search.tell(trial_id, result)
                self._plan_cuts(n)
        return result

    def best(self, train_size: int) -> tuple[Row, float] | None:
        """The search's best row of a size and its score; collapsed and diverged ones come last."""
        scored = []
        for row in self.searches[train_size].rows.values() if self.searches else ():
            result = self.results.get(row.trial_id)
            value = score(result)
            if result is not None and value is not None:
                scored.append((result["outcome"] in ("finished", "stopped"), value, row))
        if not scored:
            return None
        _, value, row = max(scored, key=lambda one: one[:2])
        return row, value

    def _open_searches(self, seed: int) -> None:
        name = sweep_id(self.space, self.mode, seed)
        for n in self.space.train_sizes:
            planned = [r for r in self.plan if r.role == "search" and r.config.train_size == n]
            search = Search(
                self.space, n, f"{name}-n{n}", self.folder / "optuna.journal", seed, planned
            )
            for row in planned:
                if row.trial_id in self.results:
                    search.tell(row.trial_id, self.results[row.trial_id])
            self.searches[n] = search

    def _ask(self) -> None:
        """Ask the first search that has trials left for one more."""
        for n, search in self.searches.items():
            if self._ready or search.complete:
                continue
            row = search.ask()
            if row is None:
                self._plan_cuts(n)
                continue
            self.plan.append([row])
            if row.trial_id in self.results:
                search.tell(row.trial_id, self.results[row.trial_id])
                self._plan_cuts(n)
            self._enqueue([row])

    def _plan_cuts(self, n: int) -> None:
        """Plan the baseline of a size and the cuts around it, once they can be known."""
        if n in self._cut or self.mode == "search":
            return
        baseline = self._baseline(n)
        if baseline is None:
            return
        rows = sensitivity_rows(self.space, baseline)
        if self.mode == "baseline":
            rows = rows[:1]
        self._cut.add(n)
        self.plan.append(rows)
        self._enqueue(rows)
        for trial_id in {row.trial_id for row in rows} & self.results.keys():
            self.on_rows(trial_id, self.plan.trials()[trial_id])

    def _baseline(self, n: int) -> TrialConfig | None:
        """Where the cuts of a size stand: as planned before, else the best found; None if unknown.

        A baseline once planned stays, also when a failed search trial runs again and does better.
        """
        for row in self.plan:
            if row.role == "baseline" and row.config.train_size == n:
                return row.config
        if n not in self.searches:
            return self.space.base_config(n)
        search = self.searches[n]
        if not search.complete or not search.rows.keys() <= self.results.keys():
            return None
        best = self.best(n)
        if best is None:
            return self.space.base_config(n)
        return best[0].config.replace(seeds=self.space.seeds)

    def _enqueue(self, rows: list[Row]) -> None:
        for row in rows:
            known = self.results.keys() | self.running | self._queued
            if row.trial_id not in known:
                self._queued.add(row.trial_id)
                self._ready.append(row)
