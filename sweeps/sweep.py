"""One sweep from start to end: its folder, its trials, its records and its closing words."""

from __future__ import annotations

import hashlib
import json
import platform
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
from rich.console import Console
from rich.text import Text

from kdgan_core.data import load_dataset
from sweeps import environment
from sweeps.closing import print_best, print_next
from sweeps.cost import CostModel, format_seconds, probe_seconds
from sweeps.plan import definition, sweep_id
from sweeps.progress import Screen, expected_trials, line, take_snapshot
from sweeps.record import Recorder
from sweeps.space import Space
from sweeps.stages import Stages

if TYPE_CHECKING:
    from sweeps.execute import Workers

LONG_SECONDS = 3600.0  # from here on a sweep on a CPU says how to make it short
RECORD_SECONDS = 120.0  # how long the end waits for the tracking server
DEFAULT_GPUS_PER_TRIAL = 0.25  # small players: several trials keep one GPU busy


class StorageError(Exception):
    """The storage folder or the cluster cannot carry the sweep; the message says why."""


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


def run_sweep(space: Space, options: Options, console: Console) -> int:
    """Runs what is missing of the sweep and records it.

    Returns:
        The exit code: 0 if every trial reached an outcome and none failed, 1 if some did not, 130
        after Ctrl-C.

    Raises:
        DataError: the data are absent or damaged.
        PlanError: the plan on disk cannot be read.
        StorageError: the storage folder cannot be written, or no trial could ever start.
        filelock.Timeout: another process runs this sweep.
    """
    dataset = load_dataset(str(space.fixed["dataset"]), options.data_dir)
    folder = _make_folder(options.storage, sweep_id(space, options.mode, options.seed))
    with filelock.FileLock(folder / "lock", timeout=0):
        sweep = _Sweep(space, options, folder, dataset.checksum, console)
        interrupted = False
        if sweep.stages.exhausted:
            console.print(f"sweep {folder.name}: all trials have finished, nothing to train")
        else:
            try:
                sweep.train()
            except KeyboardInterrupt:
                interrupted = True
                console.print("interrupted: what has finished is kept")
        return sweep.finish(interrupted)


class _Sweep:
    """A sweep that holds its folder's lock."""

    def __init__(
        self, space: Space, options: Options, folder: Path, checksum: str, console: Console
    ) -> None:
        """Opens the plan and starts recording what has ended already."""
        self.space, self.options, self.console = space, options, console
        self.name = folder.name
        self.recorder = Recorder(
            options.tracking_uri, space.experiment, self.name, folder / "spool"
        )
        self.stages = Stages(space, options.mode, options.seed, folder, self.recorder.trial_ended)
        facts = _facts(space, options, checksum)
        facts["planned_trials"] = str(expected_trials(self.stages, options.mode))
        self.recorder.start(facts)
        self.cost = CostModel({})
        for trial_id in list(self.stages.results):
            self._trial_ended(trial_id)

    def train(self) -> None:
        """Runs the missing trials, on Ray.

        Raises:
            KeyboardInterrupt: on Ctrl-C or SIGTERM, after Ray has been shut down.
        """
        from sweeps.execute import execute, start_ray, stop_ray

        try:
            if self.console.is_terminal:
                self.console.print("starting Ray ...")
            resources = start_ray()
            signal.signal(signal.SIGTERM, _interrupt)  # after Ray, which sets a handler of its own
            workers, parallel = _workers(self.options, resources, self.stages.folder)
            self._probe("cuda" if workers.gpus else "cpu")
            self._announce(
                parallel, f"{resources.get('GPU', 0):g} GPUs" if workers.gpus else "CPU"
            )
            with Screen(self.console) as screen:
                started = time.monotonic()

                def on_beat(running: Mapping[str, float]) -> None:
                    if not screen.due:
                        return
                    snapshot = take_snapshot(
                        self.stages, self.options.mode, self.cost, parallel, running
                    )
                    if snapshot.done == self.stages.resumed and not any(running.values()):
                        elapsed = time.monotonic() - started  # only pretraining so far
                        snapshot.seconds_left = max(0.0, snapshot.seconds_left - elapsed)
                    screen.show(snapshot)

                on_beat({})
                execute(self.stages, workers, self._trial_ended, on_beat)
            last = take_snapshot(self.stages, self.options.mode, self.cost, parallel, {})
            self.console.print(Text(line(last)))
        finally:
            stop_ray()

    def finish(self, interrupted: bool) -> int:
        """Closes the record, prints the closing words, gives the exit code."""
        planned = self.stages.plan.trials()
        results = self.stages.results
        outcomes = [results[trial_id]["outcome"] for trial_id in planned if trial_id in results]
        failed, missing = outcomes.count("failed"), len(planned) - len(outcomes)
        complete = not (failed or missing or interrupted) and self.stages.exhausted
        total = len(planned) if complete else expected_trials(self.stages, self.options.mode)
        self._close_record(
            "KILLED" if interrupted else "FINISHED" if complete else "FAILED", total
        )
        print_best(self.space, self.stages, self.console)
        if failed:
            self.console.print(
                f"{failed} trials failed: their tracebacks are in {self.stages.spool} and in"
                " MLflow; the same command tries them again",
                style="red",
            )
        print_next(self.space, self.options, self.name, complete, self.console)
        return 130 if interrupted else 0 if complete else 1

    def _close_record(self, status: str, planned_trials: int) -> None:
        if self.recorder.left > 10:
            self.console.print("bringing MLflow up to date")
        if not self.recorder.close(status, planned_trials, RECORD_SECONDS):
            reason = self.recorder.error or f"no answer for {RECORD_SECONDS:.0f} s"
            self.console.print(
                f"warning: MLflow at {self.options.tracking_uri} does not have all of it"
                f" ({reason}). Nothing is lost: the same command records what is missing.",
                style="yellow",
            )

    def _trial_ended(self, trial_id: str) -> None:
        rows = self.stages.plan.trials()[trial_id]
        if trial_id in self.stages.results:
            self.cost.learn(rows[0].config, self.stages.results[trial_id])
        self.recorder.trial_ended(trial_id, rows)

    def _probe(self, device: str) -> None:
        for n in self.space.train_sizes:
            if not self.cost.knows(n):
                probe = probe_seconds(self.space.base_config(n), self.options.data_dir, device)
                self.cost.expect(n, probe)

    def _announce(self, parallel: int, device: str) -> None:
        first = take_snapshot(self.stages, self.options.mode, self.cost, parallel, {})
        done = f", {first.done} of them done before" if first.done else ""
        self.console.print(
            f"sweep {self.name}: {first.total} trials{done}, {parallel} at a time on {device},"
            f" about {format_seconds(first.seconds_left)}"
        )
        if device == "CPU" and first.seconds_left > LONG_SECONDS:
            self.console.print(
                "  long on a CPU: --quick rehearses it in minutes; --train-size, --seeds and"
                " --trials make it smaller; Ray uses GPUs and other machines where it has them"
            )


def _interrupt(signum: int, frame: object) -> None:
    """A batch system's way to end a job is treated as Ctrl-C: what has finished is kept."""
    raise KeyboardInterrupt


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
        "host": platform.node(),
    }
