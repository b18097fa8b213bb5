"""What a sweep says of itself: to MLflow at its start, to the user and a webhook at its end."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from kdgan_core.config import score_of
from sweeps.progress import describe
from sweeps.space import Space
from sweeps.stages import Stages
from sweeps.words import TABLE

if TYPE_CHECKING:
    from sweeps.caps import Budget
    from sweeps.options import Options


def facts(
    manifest: Mapping[str, Any], options: Options, resources: Mapping[str, object]
) -> dict[str, str]:
    """Tags of the parent run: what ran, with which code, on what."""
    plan = json.dumps([manifest["definition"], manifest["asked"]], sort_keys=True)
    wanted = {"cpus_per_trial": options.cpus_per_trial, "gpus_per_trial": options.gpus_per_trial}
    tags = {
        **manifest["facts"],
        "plan_hash": hashlib.sha256(plan.encode()).hexdigest()[:16],
        "planned_trials": str(manifest["expected_trials"]),
    }
    return tags if not resources else {**tags, "resources": json.dumps({**wanted, **resources})}


def print_corrupt(stages: Stages, console: Console) -> None:
    """A sentence for every spool file with lines that no crash explains."""
    for path, lines in stages.corrupt.items():
        trial_id = path.stem
        what = "is trained again" if trial_id not in stages.results else "keeps its result"
        numbers = ", ".join(map(str, lines))
        console.print(
            Text(
                f"warning: {path} cannot be read at line {numbers}: the trial {what}, the rest of"
                " the file is kept",
                style="yellow",
            )
        )


def print_failed(failed: int, stages: Stages, console: Console) -> None:
    if failed:
        trials = (
            "1 trial failed: its traceback is"
            if failed == 1
            else (f"{failed} trials failed: their tracebacks are")
        )
        console.print(
            Text(
                f"{trials} in {stages.spool} and in MLflow; the same command tries again",
                style="red",
            )
        )


def print_cap(budget: Budget, paused: int, console: Console) -> None:
    """Which cap ended the command, and what it has spent."""
    spent = budget.spent()
    parts = [f"{spent['trials']:.0f} trials", f"{60 * spent['hours']:.1f} min"]
    if spent["gpu_hours"]:
        parts.append(f"{spent['gpu_hours']:.2f} GPU-hours")
    if spent["usd"]:
        parts.append(f"${spent['usd']:.2f}")
    if spent["failures"]:
        parts.append(f"{spent['failures']:.0f} failed")
    text = f"ended by {budget.reached}: this command has spent {', '.join(parts)}"
    if paused:
        text += f"; {paused} running trials were paused and go on from their last check"
    console.print(Text(text, style="yellow"))


def summary(name: str, why: str, complete: bool, outcomes: Sequence[str], cap: str) -> str:
    """How a command ended, in a sentence for --notify."""
    counts = ", ".join(f"{count} {what}" for what, count in sorted(Counter(outcomes).items()))
    ended = {
        "interrupted": "was interrupted", "storage": "ended: its storage cannot be written",
        "cap": f"ended by {cap}",
    }.get(why, "is complete" if complete else "ended incomplete")  # fmt: skip
    return f"sweep {name} {ended}: {counts or 'no trial has ended'}"


def print_best(stages: Stages, console: Console) -> None:
    """Each branch's baseline cell, in a table its arm, with its test score, or the search's
    best."""
    from analysis.stats import t_interval  # scipy: not at the start of a sweep

    for branch in stages.branches:
        rows = [
            row for row in stages.plan
            if row.role in ("baseline", TABLE) and row.branch == branch
            and row.trial_id in stages.asked
        ]  # fmt: skip
        seeds = {
            seed["seed"]: score_of(seed, "test_")
            for row in rows
            for seed in stages.results.get(row.trial_id, {"seeds": []})["seeds"]
            if score_of(seed, "test_") is not None
        }
        if seeds:
            interval = t_interval([100 * value for value in seeds.values()])
            spread = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval.n > 1 else ""
            of = "1 seed" if interval.n == 1 else f"{interval.n} seeds, 95 % t interval"
            what = "" if branch.arm else f" baseline {describe(rows[0])}"
            metric = "test MAP" if rows[0].config.has_tags else "test"
            line = f"{branch}{what}: {metric} {interval.mean:.2f} %{spread} ({of})"
            console.print(Text(line))
        if not rows and (best := stages.best(branch)):
            row, value = best
            what = "" if branch.arm else f" {describe(row)}"
            console.print(Text(f"{branch} best{what}: validation {100 * value:.2f} %"))


def print_next(
    space: Space, options: Options, name: str, complete: bool, recorded: bool, console: Console
) -> None:
    """The commands that come next, ready to paste."""
    uri, quoted = options.tracking_uri, shlex.quote(options.tracking_uri)
    default = uri == "sqlite:///mlflow.db"
    if uri.startswith(("http://", "https://")):
        ui = f"open {uri} in a browser"
    else:
        ui = "mlflow ui" if default else f"mlflow ui --backend-store-uri {quoted}"
    plots = f"python analysis/plot.py {space.experiment}"
    if options.mode == TABLE:
        plots += f" --table {2 if space.has_tags else 1}"
    commands = {"runs": ui, "plots": plots if default else f"{plots} --tracking-uri {quoted}"}
    if not recorded:
        storage = (
            ""
            if str(options.storage) == "sweep_runs"
            else (f" --storage {shlex.quote(str(options.storage))}")
        )
        commands["backfill"] = f"python sweeps/backfill.py {name}{storage}"
    if not complete:
        commands["go on"] = options.command
    for what, command in commands.items():
        console.print(Text(f"{what:>8}: {command}"))
    console.print(Text(f"   sweep: {name} in {options.storage / name}"))
