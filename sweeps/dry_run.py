"""What a sweep would run and cost, measured without writing anything."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.text import Text

from kdgan_core.config import TrialConfig
from kdgan_core.data import Dataset, cifar10, load_dataset, mnist
from kdgan_core.data.fetch import default_data_dir, find_file
from kdgan_core.data.posts import Posts
from kdgan_core.data.seed_data import load_named
from kdgan_core.names import DATASET_CHANNELS, DATASET_SIDE, DATASET_SIZES
from sweeps import environment
from sweeps.arms import Branch
from sweeps.best import best_in_storage
from sweeps.cost import (
    ZERO,
    CostModel,
    Estimate,
    format_range,
    format_seconds,
    learn_from_storage,
    probe_seconds,
)
from sweeps.design import Size, around_rows, planned_sizes, seed_rows, sobol_rows
from sweeps.plan import Plan, Row
from sweeps.resources import parallel_trials
from sweeps.space import Space, branches
from sweeps.spool import read_spool, spool_path
from sweeps.words import RETRY, SEARCHING, TABLE

if TYPE_CHECKING:
    from sweeps.options import Options

NOISE = "noise"  # checksum of data that stand in for absent ones
STARTUP_SECONDS = 15.0  # Ray, preflight and the record's last words
# A search with early stopping keeps one trial in two at a third and at two thirds of its budget:
# 58 % of the full cost if every trial met its rungs in time, all of it if none ever did.
STOPPED_SHARE = Estimate(0.58, 0.7, 1.0)


class Left(NamedTuple):
    """What is left to train of a branch.

    Attributes:
        finished: trials that have ended, of those the command asks for.
        trials: trials still to run.
        seconds: of training them.
        configs: their configurations, as far as they are known; a search's are typical ones.
        longest: seconds of those that cannot run side by side: a search trial, then a cell.
    """

    finished: int
    trials: int
    seconds: Estimate
    configs: list[TrialConfig]
    longest: Estimate


def describe_plan(space: Space, options: Options, folder: Path) -> dict[str, Any]:
    """Size and cost of a sweep as plain JSON values: what `--dry-run --json` prints.

    Costs are {"low", "mid", "high"}: those in `sizes`, an entry a branch, are of all its trials,
    the others of what is left. Reads finished trials of the same kind from the storage, and times
    a few steps where there are none; starts no Ray, but asks a cluster that RAY_ADDRESS names
    for its size. Downloads no data: absent ones are timed with noise of their shape.

    Raises:
        DataError: the data are damaged.
        PlanError: the plan of earlier commands cannot be read.
        SpaceError: the sweep is to stand around a best that no search has found.
    """
    dataset = _dataset(space, options.data_dir)
    device, gpus, parallel = _machine(options)
    threads = max(1, int(options.cpus_per_trial))
    spaces = branches(space, options.mode)
    configs = {branch: own.base_config(branch.train_size) for branch, own in spaces.items()}
    cost = CostModel()
    learned = learn_from_storage(cost, options.storage, configs.values(), device, threads)
    probed = [config for config in configs.values() if not cost.knows(config)]
    for config in probed:
        if not cost.knows(config):
            probe = probe_seconds(config, options.data_dir, device, threads, dataset)
            cost.expect(config, probe)
    sources = [f"{learned} finished trials"] * bool(learned)
    sources += ["a probe of a few steps"] * bool(probed)
    sizes: list[dict[str, Any]] = []
    whole = planned_sizes(space, options.mode)
    for branch, size in whole.items():
        config, searched = configs[branch], len(space.search_seeds) if size.search else 0
        left = _left(spaces[branch], options, size, cost, branch, [], {})
        sizes.append(
            {
                "train_size": branch.train_size,
                "arm": branch.arm,
                "search_trials": size.search,
                "search_seeds": searched,
                "cells": size.around,
                "cell_seeds": size.around_seeds if size.around else 0,
                "trainings": size.search * searched + size.around * size.around_seeds,
                "seconds_per_training": cost.training(config.replace(seeds=(0,)))._asdict(),
                "seconds": left.seconds.plus(cost.pretraining(left.configs))._asdict(),
            }
        )
    plan, results = _before(folder)
    lefts = [_left(spaces[b], options, size, cost, b, plan, results) for b, size in whole.items()]
    seconds = cost.pretraining(config for left in lefts for config in left.configs)
    longest = ZERO
    for left in lefts:
        seconds = seconds.plus(left.seconds)
        longest = Estimate(*map(max, longest, left.longest))
    wall = Estimate(*(max(s / parallel, x) for s, x in zip(seconds, longest, strict=True)))
    if any(left.trials for left in lefts):
        wall = wall.plus(Estimate(*[STARTUP_SECONDS] * 3))
    unit = seconds.scaled((gpus if gpus else options.cpus_per_trial) / 3600.0)
    price = options.caps.usd_per_hour
    return {
        "sweep_id": folder.name,
        "experiment": space.experiment,
        "mode": options.mode,
        "method": next(iter(configs.values())).method if options.mode != TABLE else "",
        "rows": _rows_by_role(space, options),
        "sizes": sizes,
        "trials": sum(s["search_trials"] + s["cells"] for s in sizes),
        "trainings": sum(s["trainings"] for s in sizes),
        "finished_trials": sum(left.finished for left in lefts),
        "data_present": dataset.checksum != NOISE,
        "device": device,
        "parallel": parallel,
        "gpu_hours" if gpus else "core_hours": unit._asdict(),
        "wall_seconds": wall._asdict(),
        "usd": None if price is None else wall.scaled(price / 3600.0)._asdict(),
        "measured_on": " and ".join(sources),
    }


def print_plan(facts: dict[str, Any], as_json: bool, console: Console) -> None:
    """The plan in words, or as JSON."""
    if as_json:
        console.file.write(json.dumps(facts, indent=1) + "\n")
        return
    method = f", method {facts['method']}" if facts["method"] else ""
    lines = [f"sweep {facts['sweep_id']}: {facts['mode']} of {facts['experiment']}{method}"]
    for size in facts["sizes"]:
        parts = []
        if size["search_trials"]:
            parts.append(f"{size['search_trials']} search trials x {size['search_seeds']} seeds")
        if size["cells"]:
            what = {"sobol": "points", TABLE: "cell"}.get(facts["mode"], "cells")
            parts.append(f"{size['cells']} {what} x {size['cell_seeds']} seeds")
        each = format_range(Estimate(**size["seconds_per_training"]))
        branch = Branch(size["train_size"], size["arm"])
        line = f"  {branch}: {', '.join(parts)}; a training {each}"
        if facts["mode"] == TABLE:
            line += f"; in all {format_seconds(size['seconds']['mid'])}"
        lines.append(line)
    roles = ", ".join(f"{count} {role}" for role, count in facts["rows"].items())
    lines.append(
        f"  {facts['trials']} trials ({roles} rows), {facts['trainings']} trainings in all"
    )
    if not facts["data_present"]:
        lines.append("  the data are not here yet: the sweep would download them first")
    if facts["finished_trials"]:
        lines.append(f"  {facts['finished_trials']} trials have finished before; what is left:")
    unit = "GPU" if "gpu_hours" in facts else "core"
    hours = facts[f"{unit.lower()}_hours"]
    lines.append(
        f"  about {_short(hours['mid'])} {unit}-hours"
        f" ({_short(hours['low'])} to {_short(hours['high'])});"
        f" {format_range(Estimate(**facts['wall_seconds']))} with {facts['parallel']} at a time"
    )
    if facts["usd"]:
        usd = facts["usd"]
        lines.append(f"  about ${usd['mid']:.2f} (${usd['low']:.2f} to ${usd['high']:.2f})")
    lines.append(f"  estimated from {facts['measured_on']}; nothing was written")
    for line in lines:
        console.print(Text(line))


def _short(number: float) -> str:
    """Two digits, or all before the point."""
    return f"{number:.2g}" if number < 10 else f"{number:,.0f}"


def _machine(options: Options) -> tuple[str, float, int]:
    """Device, GPUs of a trial, and trials at a time: of this machine, or of RAY_ADDRESS's."""
    if os.environ.get("RAY_ADDRESS"):
        from sweeps.execute import node_resources, start_ray, stop_ray

        start_ray()
        nodes = node_resources()
        stop_ray()
    else:
        import torch

        cores = float(environment.hardware()["cores"])
        nodes = [{"CPU": cores, "GPU": float(torch.cuda.device_count())}]
    gpus, parallel = parallel_trials(options, nodes)
    return ("cuda" if gpus else "cpu"), gpus, parallel


def _dataset(space: Space, data_dir: Path | None) -> Dataset | Posts:
    """The data, or noise of their shape where the sweep would have to download them first.

    Raises:
        DataError: the data are damaged, or absent and cannot be downloaded.
    """
    name = space.dataset
    if space.has_tags:
        return load_named(name, space.tags_file, data_dir)
    folder = (data_dir or default_data_dir()) / name
    blocked = any(path.exists() and not path.is_dir() for path in (folder.parent, folder))
    if blocked or _is_here(name, folder):
        return load_dataset(name, data_dir)
    pool, test, classes = DATASET_SIZES[name]
    rng, side, channels = np.random.default_rng(0), DATASET_SIDE[name], DATASET_CHANNELS[name]
    images = [rng.integers(0, 256, (n, channels, side, side), np.uint8) for n in (pool, test)]
    labels = [np.arange(n, dtype=np.int64) % classes for n in (pool, test)]
    return Dataset(name, images[0], labels[0], images[1], labels[1], 255.0, classes, NOISE)


def _is_here(name: str, folder: Path) -> bool:
    """Whether the files of a data set are all there, whatever is in them."""
    if name == "mnist":
        return all(find_file(folder, file.name, ("", ".gz")) for file in mnist.FILES)
    return name != "cifar10" or bool(cifar10.find_form(folder))


def _rows_by_role(space: Space, options: Options) -> dict[str, int]:
    counts: Counter[str] = Counter()
    spaces = branches(space, options.mode)
    for branch, size in planned_sizes(space, options.mode).items():
        own, n = spaces[branch], branch.train_size
        counts["search"] += size.search
        if options.mode == "sobol":
            counts["sobol"] += len(sobol_rows(own, n, options.seed))
        for row in around_rows(own, options.mode, own.base_config(n)):
            counts[row.role] += 1
    return {role: count for role, count in counts.items() if count}


def _before(folder: Path) -> tuple[list[Row], dict[str, str]]:
    """The plan of earlier commands, and trial_id -> outcome.

    Raises:
        PlanError: the plan cannot be read.
    """
    plan = Plan(folder / "plan.parquet")
    outcomes = {}
    for trial_id in plan.trials():
        outcome = read_spool(spool_path(folder / "spool", trial_id)).outcome
        if outcome is not None:
            outcomes[trial_id] = outcome
    return plan.rows, outcomes


def _left(
    space: Space, options: Options, size: Size, cost: CostModel, branch: Branch,
    plan: Iterable[Row], outcomes: Mapping[str, str],
) -> Left:  # fmt: skip
    """What is left of a branch.

    Args:
        space: the branch's.
        options: of the command.
        size: how many trials the branch has in all.
        cost: seconds per trial.
        branch: which it is.
        plan: of earlier commands.
        outcomes: of their trials.

    Raises:
        SpaceError: no search has found a best.
    """
    done = {trial_id for trial_id, outcome in outcomes.items()
            if outcome not in RETRY[options.retry]}  # fmt: skip
    config = space.base_config(branch.train_size)
    rows = [row for row in plan if row.branch == branch]
    asked = {row.trial_id for row in rows if row.role == "search"}
    search = max(0, size.search - len(asked & done))
    wanted = _cells(space, options, config, rows, search if options.mode == TABLE else size.search)
    enough = done if options.mode == "sobol" else {t for t in done if outcomes[t] != "stopped"}
    cells = [cell for cell in wanted if cell.trial_id not in enough]
    one, share = cost.training(space.tuning_config(branch.train_size)), Estimate(1.0, 1.0, 1.0)
    if options.early_stopping != "off":
        share = STOPPED_SHARE
    seconds = Estimate(*(search * s * x for s, x in zip(one, share, strict=True)))
    for cell in cells:
        seconds = seconds.plus(cost.training(cell))
    typical = sobol_rows(space, branch.train_size, options.seed)[:search] if search else []
    longest = one if search else ZERO
    if cells:
        longest = longest.plus(max(map(cost.training, cells)))
    finished = size.search - search + len(wanted) - len(cells)
    configs = [*(row.config for row in typical), *cells]
    return Left(finished, search + len(cells), seconds, configs, longest)


def _cells(
    space: Space, options: Options, base: TrialConfig, planned: list[Row], searched: int
) -> list[TrialConfig]:
    """The trials that a command asks for besides its search's, as `stages.Stages` would plan them.

    Where they stand around a best that is yet to be found: around the paper's baseline.

    Raises:
        SpaceError: no search has found a best.
    """
    if options.mode == "search":
        return []
    if options.mode == "sobol":
        return [row.config for row in sobol_rows(space, base.train_size, options.seed)]
    stands = next((row.config for row in planned if row.role in ("baseline", TABLE)), None)
    if options.mode == TABLE and searched:
        stands = None  # what is still to be tuned may be better than what is planned
    if stands is None and space.baseline_from == "best" and options.mode not in SEARCHING:
        stands = best_in_storage(options.storage, space, base.train_size)
    rows = around_rows(space, options.mode, (stands or base).replace(seeds=space.seeds))
    if stands is None and searched and space.baseline_from == "best":
        return [row.config for row in rows]  # no level need be where the best will be
    return list({row.trial_id: row.config for row in seed_rows(planned, rows)}.values())
