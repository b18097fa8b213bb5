"""How a sweep stands, from its plan and its spools alone: from any terminal, while it runs or
after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from kdgan_core.config import TrialConfig
from sweeps.arms import Branch
from sweeps.cost import CostModel
from sweeps.design import Size
from sweeps.folder import is_driven, read_owner
from sweeps.manifest import ManifestError, read_manifest
from sweeps.plan import SAMPLED, Plan, Row
from sweeps.progress import Snapshot, show_once, take_snapshot, trials_to_come
from sweeps.spool import SpoolState, read_spool, spool_path


class Status(NamedTuple):
    """A sweep as its folder shows it.

    Attributes:
        snapshot: what the live screen would show.
        driven: whether a process runs it now.
        owner: what the process says of itself that runs it, or was killed while it did; empty
            where there is none, or it has not said it yet.
        ended: the manifest's word on its end, empty while it has none.
        spent_hours: trial-hours of all attempts, those that were cut short included.
    """

    snapshot: Snapshot
    driven: bool
    owner: Mapping[str, Any]
    ended: Mapping[str, Any]
    spent_hours: float


def read_status(folder: Path) -> Status:
    """The state of the sweep in `folder`; writes nothing.

    Raises:
        ManifestError: there is no sweep, or what is known of it cannot be read.
        PlanError: the plan on disk cannot be read.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ManifestError(f"there is no sweep in {folder} yet: leave out --status to start it")
    driven, owner = is_driven(folder), read_owner(folder)
    plan = Plan(folder / "plan.parquet")
    trials = {k: rows for k, rows in plan.trials().items() if rows[0].role != "superseded"}
    states = {trial_id: read_spool(spool_path(folder / "spool", trial_id)) for trial_id in trials}
    results = {
        trial_id: state.result
        for trial_id, state in states.items()
        if state.result is not None and _is_enough(state, trials[trial_id])
    }
    cost = CostModel()
    for trial_id, result in results.items():
        cost.learn(trials[trial_id][0].config, result)
    for trial_id, state in states.items():
        _learn_from_half(cost, trials[trial_id][0].config, state)
    asked = manifest["asked"]
    sizes = {}
    for name, numbers in asked["sizes"].items():
        size = Size(*numbers)
        number = max(1, size.around_seeds)
        seeds = (asked["seeds"] if number <= len(asked["seeds"]) else range(number))[:number]
        fields = {**manifest["definition"]["sizes"][name], "seeds": seeds}
        sizes[Branch.named(name)] = (TrialConfig.from_dict(fields), size)
    to_come = trials_to_come(sizes, tuple(asked["search_seeds"]), plan)
    if manifest["ended"] is not None and manifest["ended"]["status"] == "FINISHED":
        to_come = []  # a search may end early, in a small space
    since = datetime.fromisoformat(owner["since"]).timestamp() if owner else 0.0
    running = {
        trial_id: state.progress
        for trial_id, state in states.items()
        if driven and state.result is None and _last_seen(state) >= since
    }
    snapshot = take_snapshot(trials, results, to_come, cost, manifest["parallel"], running)
    spent = sum(state.seconds for state in states.values()) / 3600.0
    return Status(snapshot, driven, owner, manifest["ended"] or {}, spent)


def print_status(folder: Path, console: Console) -> None:
    """The live screen once, and who runs the sweep.

    Raises:
        ManifestError: there is no sweep, or what is known of it cannot be read.
        PlanError: the plan on disk cannot be read.
    """
    status = read_status(folder)
    if status.driven and not status.owner:
        who = "is being run by another process"
    elif status.driven:
        who = (
            f"runs since {status.owner['since']} as process {status.owner['pid']} on"
            f" {status.owner['host']}"
        )
    elif status.ended:
        names = {"FINISHED": "is complete", "FAILED": "ended incomplete", "KILLED": "was ended"}
        who = names[status.ended["status"]]
    else:
        why = "was killed" if status.owner else "has not come to an end"
        who = f"{why}: the same command without --status goes on"
    console.print(Text(f"sweep {folder.name} {who}; {status.spent_hours:.2f} trial-hours so far"))
    show_once(status.snapshot, console)


def _is_enough(state: SpoolState, rows: Sequence[Row]) -> bool:
    """A trial that was stopped early informs the search, but is no cell of a curve."""
    return state.outcome != "stopped" or all(row.role in SAMPLED for row in rows)


def _last_seen(state: SpoolState) -> float:
    """When a trial last said something, by its worker's clock; before all time if it has not."""
    if state.started is None:
        return -math.inf
    return max(float(line["time"]) for line in (state.host, *state.evaluations[-1:]))


def _learn_from_half(cost: CostModel, config: TrialConfig, state: SpoolState) -> None:
    """While no trial of a kind has ended, one that is half done tells what they cost."""
    if cost.knows(config) or len(state.evaluations) < 2:
        return
    last = state.evaluations[-1]
    prepared = state.evaluations[0]["seconds"]
    cost.learn(
        config, {"step": last["step"], "seconds": last["seconds"], "prepare_seconds": prepared}
    )
