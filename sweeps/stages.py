"""What to run next: a search per branch of the sweep, then the cells around the best of each.

One Ray Tune run works through all of it, so no worker waits for the slowest trial of a stage.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kdgan_core.config import TrialConfig
from sweeps.arms import Branch
from sweeps.best import best_row
from sweeps.design import around_rows, planned_sizes, seed_rows, sobol_rows
from sweeps.plan import SAMPLED, Plan, Row
from sweeps.search import JOURNAL, Search, close_studies
from sweeps.space import Space, branches
from sweeps.spool import read_spool, spool_path
from sweeps.words import RETRY, SEARCHING, TABLE

if TYPE_CHECKING:
    from sweeps.stopping import EarlyStopping


class Task(NamedTuple):
    """What a command asks of a sweep.

    Attributes:
        space: with the training sizes, arms, seeds, levels and number of trials it asks for.
        mode: one of words.MODES.
        sampler: of the search.
        seed: of the search and of a Sobol design.
        retry: which ended trials run again, one of words.RETRY.
    """

    space: Space
    mode: str
    sampler: str = "tpe"
    seed: int = 0
    retry: str = "failed"


class Stages:
    """Hands out trials, each once, and learns how they ended.

    Resume = plan minus finished: a trial whose spool ends in a result is not handed out again,
    unless it is to be tried again, and its result is told to the search as if it had just come
    in. The plan may hold more than this command asks for: sizes, arms, seeds, levels of others.

    Attributes:
        plan: grows as the search asks and as the cells around the baseline become known.
        asked: trial_ids of what this command asks for, in order, as far as they are known.
        branches: what is searched on its own -> its space.
        sizes: branch -> how many trials it will have.
        results: trial_id -> result of every trial that has one and is not to run again.
        corrupt: spool file -> numbers of the lines in it that cannot be read.
    """

    def __init__(
        self, task: Task, folder: Path,
        on_rows: Callable[[str, list[Row]], None] = lambda trial_id, rows: None,
        found: Callable[[int], TrialConfig | None] = lambda n: None,
    ) -> None:  # fmt: skip
        """Opens the sweep in `folder` (made before), with whatever it has already.

        Args:
            task: what is asked for.
            folder: plan.parquet, optuna.journal, spool/ and checkpoints/ live here.
            on_rows: called with the trial_id and all rows of an ended trial whose rows change.
            found: the best configuration that other sweeps have found for a training size, for
                a baseline that is to be the best in a mode that does not search.

        Raises:
            PlanError: the plan, or the search's journal, on disk cannot be read.
            SpaceError: a level is out of its range, or there is no best baseline to be found.
        """
        self.task, self.space, self.mode, self.folder = task, task.space, task.mode, folder
        self.spool = folder / "spool"
        self.on_rows, self.found = on_rows, found
        self.plan = Plan(folder / "plan.parquet")
        self.branches = branches(self.space, self.mode)
        self.sizes = planned_sizes(self.space, self.mode)
        self.asked: dict[str, None] = {}
        self.results: dict[str, Mapping[str, Any]] = {}
        self.corrupt: dict[Path, list[int]] = {}
        self.running: set[str] = set()
        self._ready: deque[str] = deque()
        self._queued: set[str] = set()
        self._read_results()
        self.searches: dict[Branch, Search] = {}
        self._cut: set[Branch] = set()
        if self.mode in SEARCHING and any(own.search for own in self.branches.values()):
            self._open_searches()
        for branch in self.branches:
            self._plan_cells(branch)
        self.resumed = len(self.asked.keys() & self.results.keys())

    def next_row(self) -> Row | None:
        """A trial to run now, marked as running; None if none can be named yet.

        Its row is that of a cell if it is one, since a cell is not to be stopped early.

        Raises:
            OSError: the plan or the search's journal cannot be written.
        """
        if not self._ready:
            self._ask()
        if not self._ready:
            return None
        trial_id = self._ready.popleft()
        self._queued.discard(trial_id)
        self.running.add(trial_id)
        rows = self.plan.trials()[trial_id]
        return next((row for row in rows if row.role not in SAMPLED), rows[0])

    def give_back(self, row: Row) -> None:
        """Takes back a row that was handed out and has not ended: it is the next to be run."""
        self.running.discard(row.trial_id)
        if row.trial_id not in self.results and row.trial_id not in self._queued:
            self._queued.add(row.trial_id)
            self._ready.appendleft(row.trial_id)

    @property
    def exhausted(self) -> bool:
        """No further trial will be handed out, though some may still run."""
        if self._ready or not all(search.complete for search in self.searches.values()):
            return False
        return self.mode == "search" or len(self._cut) == len(self.branches)

    @property
    def missing(self) -> list[str]:
        """trial_ids of what is asked for, known by now, and has no result."""
        return [trial_id for trial_id in self.asked if trial_id not in self.results]

    def complete(self, trial_id: str) -> Mapping[str, Any] | None:
        """Reads how a running trial ended from its spool, tells the search, plans what follows.

        Returns:
            Its result; None, and nothing is done, if the spool has none.

        Raises:
            OSError: the plan or the search's journal cannot be written.
        """
        self.running.discard(trial_id)
        result = read_spool(spool_path(self.spool, trial_id)).result
        if result is None:
            return None
        self.results[trial_id] = result
        self._enqueue(self.plan.trials()[trial_id])
        for branch, search in self.searches.items():
            if trial_id in search.rows:
                search.tell(trial_id, result)
                self._plan_cells(branch)
        return result

    def best(self, branch: Branch) -> tuple[Row, float] | None:
        """Its search's best row and that one's score; collapsed and diverged ones come last."""
        rows = self.searches[branch].rows.values() if branch in self.searches else ()
        return best_row(rows, self.results)

    def _read_results(self) -> None:
        again = RETRY[self.task.retry]
        for trial_id in self.plan.trials():
            path = spool_path(self.spool, trial_id)
            state = read_spool(path)
            if state.corrupt:
                self.corrupt[path] = state.corrupt
            if state.result is not None and state.outcome not in again:
                if self._is_enough(trial_id, state.result):
                    self.results[trial_id] = state.result

    def _open_searches(self) -> None:
        task, journal = self.task, self.folder / JOURNAL
        for branch, own in self.branches.items():
            if not own.search:
                continue
            n, arm = branch.train_size, f"-{branch.arm}" if branch.arm else ""
            search = Search(
                own, branch, f"{self.folder.name}-n{n}{arm}-{_what_is_searched(own, n)}",
                journal, task.sampler, task.seed,
                [row for row in self.plan if row.branch == branch and row.role == "search"],
                [row for row in self.plan
                 if row.config.train_size == n and row.role == "superseded"],
            )  # fmt: skip
            self.searches[branch] = search
            self._add(list(search.rows.values()))
            for trial_id in search.rows:
                if trial_id in self.results:
                    search.tell(trial_id, self.results[trial_id])
        close_studies(
            journal,
            but={search.study.study_name for search in self.searches.values()},
            planned={row.trial_id for row in self.plan if row.role == "search"},
        )

    def _ask(self) -> None:
        """Ask the first search that has trials left for one that is to be run."""
        for branch, search in self.searches.items():
            while not self._ready and not search.complete:
                row = search.ask()
                if row is not None:
                    self._add([row])
                    if row.trial_id in self.results:
                        search.tell(row.trial_id, self.results[row.trial_id])
            if search.complete:
                self._plan_cells(branch)

    def _plan_cells(self, branch: Branch) -> None:
        """Plan what does not come from the search of a branch, once it can be known."""
        if branch in self._cut or self.mode == "search":
            return
        own = self.branches[branch]
        if self.mode == "sobol":
            rows = sobol_rows(own, branch.train_size, self.task.seed)
        else:
            baseline = self._baseline(branch)
            if baseline is None:
                return
            self._withdraw_others(branch, baseline)
            rows = list(seed_rows(self.plan, around_rows(own, self.mode, baseline)))
        self._add(rows)
        self._cut.add(branch)

    def _baseline(self, branch: Branch) -> TrialConfig | None:
        """Where a branch's cells stand: as planned before, else as asked for; None if unknown.

        A baseline once planned stays, also when a later search trial does better: there are
        curves around it. An arm has its own cell only, which moves to what is best now.
        """
        for row in self.plan:
            if row.role == "baseline" and row.branch == branch:
                return row.config.replace(seeds=self.space.seeds)
        own, n, best = self.branches[branch], branch.train_size, None
        if own.baseline_from == "best" and branch in self.searches:
            search = self.searches[branch]
            if not search.complete or not search.rows.keys() <= self.results.keys():
                return None
            found = self.best(branch)
            best = None if found is None else found[0].config
        elif own.baseline_from == "best" and self.mode not in SEARCHING:
            best = self.found(n)
        base = own.base_config(n)
        if best is not None:
            base = best.replace(authors_statistic=base.authors_statistic)
        return base.replace(seeds=self.space.seeds)

    def _withdraw_others(self, branch: Branch, stands: TrialConfig) -> None:
        """Takes an arm's row out of the plan if a longer search has found a better one."""
        others = [
            row for row in self.plan
            if row.role == TABLE and row.branch == branch and row.config.cell_id != stands.cell_id
        ]  # fmt: skip
        self.plan.withdraw(others)
        for row in others:
            if row.trial_id in self.results:
                self.on_rows(row.trial_id, self.plan.trials()[row.trial_id])

    def replay_into(self, stopping: EarlyStopping) -> None:
        """Tells early stopping of the search trials that have ended in earlier commands."""
        for branch, search in self.searches.items():
            for trial_id, row in search.rows.items():
                if trial_id in self.results:
                    state = read_spool(spool_path(self.spool, trial_id))
                    stopping.replay(branch.name, row.config, state.evaluations)

    def _is_enough(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """A trial that was stopped early informs the search, but is no cell of a curve."""
        roles = {row.role for row in self.plan.trials()[trial_id]}
        return result["outcome"] != "stopped" or roles <= {*SAMPLED, "superseded"}

    def _add(self, rows: list[Row]) -> None:
        """Plans and queues rows; a trial that has ended has got another."""
        added = {row.trial_id: None for row in self.plan.append(rows)}
        self._enqueue(rows)
        for trial_id in added:
            if trial_id in self.results:
                self.on_rows(trial_id, self.plan.trials()[trial_id])

    def _enqueue(self, rows: list[Row]) -> None:
        for row in rows:
            trial_id = row.trial_id
            self.asked.setdefault(trial_id)
            result = self.results.get(trial_id)
            if result is not None and not self._is_enough(trial_id, result):
                del self.results[trial_id]
            known = (self.results, self.running, self._queued)
            if not any(trial_id in trials for trials in known):
                self._queued.add(trial_id)
                self._ready.append(trial_id)


def _what_is_searched(space: Space, n: int) -> str:
    """Four hex digits that change when the ranges, or what is trained, change: another study."""
    base = space.tuning_config(n)
    text = json.dumps([list(space.search.items()), base.identity()])
    return hashlib.sha256(text.encode()).hexdigest()[:4]
