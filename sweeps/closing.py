"""What a sweep says when it is planned and when it ends."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from analysis.stats import t_interval
from kdgan_core.data import load_dataset
from sweeps import environment
from sweeps.cost import format_seconds, probe_seconds
from sweeps.plan import planned_trials, sweep_id
from sweeps.progress import describe
from sweeps.space import Space
from sweeps.stages import Stages

if TYPE_CHECKING:
    from sweeps.sweep import Options


def print_plan(space: Space, options: Options, console: Console) -> None:
    """What the sweep would run and how long it would take on this machine's cores.

    Writes nothing and starts no Ray; measures a few training steps of each size.

    Raises:
        DataError: the data are absent or damaged.
    """
    load_dataset(str(space.fixed["dataset"]), options.data_dir)
    cores = int(environment.hardware()["cores"])
    parallel = max(1, int(cores / options.cpus_per_trial))
    name = sweep_id(space, options.mode, options.seed)
    console.print(f"sweep {name}: {options.mode} of {space.experiment}, method {_method(space)}")
    seconds, trainings = 0.0, 0
    for n, (search, around) in planned_trials(space, options.mode).items():
        probe = probe_seconds(space.base_config(n), options.data_dir, "cpu")
        number = search * len(space.search_seeds) + around * len(space.seeds)
        trainings += number
        seconds += probe.train * number + probe.pretrain * len(space.seeds)
        console.print(
            f"  n={n:,}: {search} search trials x {len(space.search_seeds)} seeds,"
            f" {around} cells x {len(space.seeds)} seeds,"
            f" about {format_seconds(probe.train)} per training"
        )
    console.print(
        f"  {trainings} trainings in all: about {seconds / 3600:.2g} core-hours,"
        f" {format_seconds(seconds / parallel)} on the {cores} cores of this machine"
    )


def _method(space: Space) -> str:
    return space.base_config(space.train_sizes[0]).method


def print_best(space: Space, stages: Stages, console: Console) -> None:
    """Each training size's baseline cell with its test score, or the search's best."""
    for n in space.train_sizes:
        baselines = [r for r in stages.plan if r.role == "baseline" and r.config.train_size == n]
        for row in baselines:
            result = stages.results.get(row.trial_id, {"seeds": []})
            tests = [s["test_accuracy"] for s in result["seeds"] if s["test_accuracy"] is not None]
            if not tests:
                continue
            interval = t_interval([100 * value for value in tests])
            spread = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval.n > 1 else ""
            seeds = "1 seed" if interval.n == 1 else f"{interval.n} seeds, 95 % t interval"
            console.print(
                f"n={n:,} baseline {describe(row)}: test {interval.mean:.2f} %{spread} ({seeds})"
            )
        if not baselines and stages.searches and (best := stages.best(n)):
            row, value = best
            console.print(f"n={n:,} best {describe(row)}: validation {100 * value:.2f} %")


def print_next(
    space: Space, options: Options, name: str, complete: bool, console: Console
) -> None:
    """The commands that come next, ready to paste."""
    uri, quoted = options.tracking_uri, shlex.quote(options.tracking_uri)
    default = uri == "sqlite:///mlflow.db"
    if uri.startswith(("http://", "https://")):
        ui = f"open {uri} in a browser"
    else:
        ui = "mlflow ui" if default else f"mlflow ui --backend-store-uri {quoted}"
    plots = f"python analysis/plot.py {space.experiment}"
    commands = {"runs": ui, "plots": plots if default else f"{plots} --tracking-uri {quoted}"}
    if not complete:
        commands["go on"] = options.command
    for what, command in commands.items():
        console.print(Text(f"{what:>6}: {command}"))
    console.print(Text(f" sweep: {name} in {options.storage / name}"))
