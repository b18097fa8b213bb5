"""One sweep from start to end: its folder, estimate, run, records and closing words."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
from rich.console import Console
from rich.text import Text

from analysis.stats import t_interval
from kdgan_core.data import load_dataset
from sweeps import environment
from sweeps.cost import CostModel, Probe, format_seconds, probe_seconds
from sweeps.plan import definition, planned_trials, sweep_id
from sweeps.progress import Screen, describe, line, take_snapshot
from sweeps.record import Recorder
from sweeps.space import Space
from sweeps.stages import Stages

if TYPE_CHECKING:
    from sweeps.execute import Workers

LONG_SECONDS = 3600.0  # from here on a sweep on a CPU says how to make it short
RECORD_SECONDS = 120.0  # how long the end waits for the tracking server
DEFAULT_GPUS_PER_TRIAL = 0.25  # small players: several trials keep one GPU busy


class StorageError(Exception):
    """The storage folder cannot be used; the message says why."""


@dataclass(frozen=True)
class Options:
    """The command line's options that do not change what is trained.

    Attributes:
        mode: study | search | sensitivity | baseline.
        quick: whether the space is the quick one; recorded.
        data_dir: the data folder, None for the default.
        storage: folder of all sweeps: plans, spools, pretrained players.
        tracking_uri: MLflow store or server.
        cpus_per_trial: cores of a trial.
        gpus_per_trial: GPUs of a trial; None is 0.25 where Ray sees any.
        seed: of the search.
        command: what the user typed; recorded and shown.
    """

    mode: str
    quick: bool
    data_dir: Path | None
    storage: Path
    tracking_uri: str
    cpus_per_trial: float
    gpus_per_trial: float | None
    seed: int
    command: str


def show_plan(space: Space, options: Options, console: Console | None = None) -> None:
    """Prints what the sweep would run and how long it would take here; writes nothing.

    Raises:
        DataError: the data are absent or damaged.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    load_dataset(str(space.fixed["dataset"]), options.data_dir)
    cores = int(environment.hardware()["cores"])
    parallel = max(1, int(cores / options.cpus_per_trial))
    probes = _probe(space, options)
    name = sweep_id(space, options.mode, options.seed)
    console.print(f"sweep {name}: {options.mode} of {space.experiment}")
    for n, (search, around) in planned_trials(space, options.mode).items():
        console.print(
            f"  n={n:,}: {search} search trials x {len(space.search_seeds)} seeds,"
            f" {around} cells x {len(space.seeds)} seeds,"
            f" about {format_seconds(probes[n].train)} per training"
        )
    seconds = _estimate(space, options.mode, probes)
    trainings = sum(
        s * len(space.search_seeds) + a * len(space.seeds)
        for s, a in planned_trials(space, options.mode).values()
    )
    console.print(
        f"  {trainings} trainings in all: about {seconds / 3600:.2g} core-hours,"
        f" {format_seconds(seconds / parallel)} on the {cores} cores of this machine"
    )


def run_sweep(space: Space, options: Options, console: Console | None = None) -> int:
    """Runs what is missing of the sweep and records it.

    Returns:
        The exit code: 0 if every trial reached an outcome and none failed, 1 if some did not, 130
        after Ctrl-C.

    Raises:
        DataError: the data are absent or damaged.
        PlanError: the plan on disk cannot be read.
        StorageError: the storage folder cannot be written.
        filelock.Timeout: another process runs this sweep.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    dataset = load_dataset(str(space.fixed["dataset"]), options.data_dir)
    name = sweep_id(space, options.mode, options.seed)
    folder = _make_folder(options.storage, name)
    with filelock.FileLock(folder / "lock", timeout=0):
        recorder = Recorder(
            options.tracking_uri, space.experiment, name,
            _facts(space, options, dataset.checksum), folder / "spool",
        )  # fmt: skip
        stages = Stages(space, options.mode, options.seed, folder)
        stages.on_rows = lambda trial_id: recorder.trial_ended(
            trial_id, stages.plan.trials()[trial_id]
        )
        recorder.start()
        for trial_id, rows in stages.plan.trials().items():
            if trial_id in stages.results:
                recorder.trial_ended(trial_id, rows)
        interrupted = False
        if stages.exhausted:
            console.print(f"sweep {name}: every one of its trials has finished; nothing to train")
        else:
            interrupted = _train(space, options, name, stages, recorder, console)
        return _finish(space, options, name, stages, recorder, interrupted, console)


def _train(
    space: Space, options: Options, name: str, stages: Stages, recorder: Recorder,
    console: Console,
) -> bool:  # fmt: skip
    """Runs the missing trials; True if Ctrl-C ended it."""
    from sweeps.execute import execute, start_ray, stop_ray

    try:
        with console.status("starting Ray") if console.is_terminal else _nothing():
            resources = start_ray()
            workers, parallel = _workers(options, resources, folder=stages.folder)
            cost = CostModel({n: p.train for n, p in _probe(space, options).items()})
        for trial_id, rows in stages.plan.trials().items():
            if trial_id in stages.results:
                cost.learn(rows[0].config, stages.results[trial_id])
        first = take_snapshot(stages, options.mode, cost, parallel, {})
        done = f", {first.done} of them done before" if first.done else ""
        device = f"{resources.get('GPU', 0):g} GPUs" if workers.gpus else "CPU"
        console.print(
            f"sweep {name}: {first.total} trials{done}, {parallel} at a time on {device},"
            f" about {format_seconds(first.seconds_left)}"
        )
        if not workers.gpus and first.seconds_left > LONG_SECONDS:
            console.print(
                "  long on a CPU: --quick rehearses it in minutes, --train-size, --seeds and"
                " --trials make it smaller, and Ray uses GPUs and other machines if there are any"
            )
        with Screen(console) as screen:
            screen.show(first)
            running: Mapping[str, float] = {}

            def on_end(trial_id: str) -> None:
                rows = stages.plan.trials()[trial_id]
                if trial_id in stages.results:
                    cost.learn(rows[0].config, stages.results[trial_id])
                recorder.trial_ended(trial_id, rows)

            def on_beat(now: Mapping[str, float]) -> None:
                nonlocal running
                running = now
                if screen.due:
                    screen.show(take_snapshot(stages, options.mode, cost, parallel, running))

            execute(stages, workers, on_end, on_beat)
        last = take_snapshot(stages, options.mode, cost, parallel, {})
        console.print(Text(line(last).replace("; about 0 s left", "")))
    except KeyboardInterrupt:
        return True
    finally:
        stop_ray()
    return False


def _finish(
    space: Space, options: Options, name: str, stages: Stages, recorder: Recorder,
    interrupted: bool, console: Console,
) -> int:  # fmt: skip
    """Closes the record, prints the closing words, gives the exit code."""
    planned = stages.plan.trials()
    outcomes = {t: str(stages.results[t]["outcome"]) for t in planned if t in stages.results}
    failed = sum(outcome == "failed" for outcome in outcomes.values())
    missing = len(planned) - len(outcomes)
    complete = not failed and not missing and not interrupted
    if recorder.left > 10:
        console.print(f"recording {recorder.left} trials in MLflow")
    status = "KILLED" if interrupted else "FINISHED" if complete else "FAILED"
    if not recorder.close(status, len(planned), RECORD_SECONDS):
        reason = recorder.error or f"no answer for {RECORD_SECONDS:.0f} s"
        console.print(
            f"warning: MLflow at {options.tracking_uri} does not have all of it ({reason})."
            " Nothing is lost: the same command records what is missing.",
            style="yellow",
        )
    _print_best(space, stages, console)
    if failed or missing:
        console.print(
            f"{failed} trials failed, {missing} have no outcome yet; their spools are in"
            f" {stages.spool}",
            style="red",
        )
    _print_next(space, options, name, complete, console)
    return 130 if interrupted else 0 if complete else 1


def _print_best(space: Space, stages: Stages, console: Console) -> None:
    """Each training size's baseline cell with its test score, or the search's best."""
    for n in space.train_sizes:
        baselines = [r for r in stages.plan if r.role == "baseline" and r.config.train_size == n]
        for row in baselines:
            result = stages.results.get(row.trial_id)
            if result is None or not result["seeds"]:
                continue
            tests = [s["test_accuracy"] for s in result["seeds"] if s["test_accuracy"] is not None]
            if not tests:
                continue
            interval = t_interval([100 * value for value in tests])
            spread = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval.n > 1 else ""
            console.print(
                f"n={n:,} baseline {describe(row)}: test {interval.mean:.2f} %{spread}"
                f" ({interval.n} seeds, 95 % t interval)"
            )
        if not baselines and stages.searches and (best := stages.best(n)):
            row, value = best
            console.print(f"n={n:,} best {describe(row)}: validation {100 * value:.2f} %")


def _print_next(
    space: Space, options: Options, name: str, complete: bool, console: Console
) -> None:
    """The commands that come next, ready to paste."""
    uri = options.tracking_uri
    elsewhere = "" if uri == "sqlite:///mlflow.db" else f" --tracking-uri {uri}"
    ui = f"open {uri} in a browser"
    if "://" not in uri or not uri.startswith("http"):
        ui = "mlflow ui" + ("" if not elsewhere else f" --backend-store-uri {uri}")
    commands = {"runs": ui, "plots": f"python analysis/plot.py {space.experiment}{elsewhere}"}
    if not complete:
        commands["go on"] = options.command
    for what, command in commands.items():
        console.print(Text(f"{what:>6}: {command}"))
    console.print(Text(f" sweep: {name} in {options.storage / name}"))


def _workers(
    options: Options, resources: Mapping[str, float], folder: Path
) -> tuple[Workers, int]:
    """Resources and folders of a trial, and how many trials run at a time.

    Raises:
        StorageError: the cluster can never give a trial what it asks for.
    """
    from sweeps.execute import Workers

    gpus = options.gpus_per_trial
    if gpus is None:
        gpus = DEFAULT_GPUS_PER_TRIAL if resources.get("GPU", 0) > 0 else 0.0
    parallel = int(resources.get("CPU", 0) / options.cpus_per_trial)
    if gpus > 0:
        parallel = min(parallel, int(resources.get("GPU", 0) / gpus))
    if parallel < 1:
        raise StorageError(
            f"no trial could ever start: each wants {options.cpus_per_trial:g} CPUs and {gpus:g}"
            f" GPUs, Ray has {resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}; lower"
            " --cpus-per-trial or --gpus-per-trial"
        )
    storage = options.storage.resolve()
    workers = Workers(
        cpus=options.cpus_per_trial,
        gpus=gpus,
        data_dir=str(options.data_dir.resolve()) if options.data_dir else None,
        cache_dir=str(storage / "cache"),
        spool=str(folder.resolve() / "spool"),
    )
    return workers, parallel


def _make_folder(storage: Path, name: str) -> Path:
    """The sweep's folder, made if need be and written to once as a trial.

    Raises:
        StorageError: it cannot be made or written.
    """
    folder = storage / name
    try:
        (folder / "spool").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(
            f"the storage folder {storage} cannot be written ({error}): choose another with"
            " --storage"
        ) from error
    return folder


def _probe(space: Space, options: Options) -> dict[int, Probe]:
    """First estimates of a training by size, measured here."""
    return {
        n: probe_seconds(space.base_config(n), options.data_dir, "cpu") for n in space.train_sizes
    }


def _estimate(space: Space, mode: str, probes: Mapping[int, Probe]) -> float:
    """Core-seconds of the whole sweep: every training, and each seed's pretraining once."""
    seconds = 0.0
    for n, (search, around) in planned_trials(space, mode).items():
        trainings = search * len(space.search_seeds) + around * len(space.seeds)
        seconds += probes[n].train * trainings + probes[n].pretrain * len(space.seeds)
    return seconds


def _facts(space: Space, options: Options, checksum: str) -> dict[str, str]:
    """Tags of the parent run: what ran, with which code, on what."""
    commit, dirty = environment.code_version()
    plan = json.dumps(definition(space, options.mode, options.seed), sort_keys=True)
    return {
        "mode": options.mode,
        "quick": str(options.quick).lower(),
        "command": options.command,
        "plan_hash": hashlib.sha256(plan.encode()).hexdigest()[:16],
        "commit": commit,
        "dirty": str(dirty).lower(),
        "versions": json.dumps(environment.package_versions()),
        "hardware": json.dumps(environment.hardware()),
        "data_checksum": checksum,
        "host": os.uname().nodename if hasattr(os, "uname") else "",
    }


@contextmanager
def _nothing() -> Iterator[None]:
    yield
