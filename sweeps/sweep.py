"""One sweep from start to end: its folder, its trials, its records and its closing words."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from kdgan_core.data.seed_data import load_named
from sweeps import closing
from sweeps.best import best_in_storage
from sweeps.caps import Budget
from sweeps.cost import CostModel, Kind, format_seconds, kind, learn_from_storage
from sweeps.folder import StorageError, locked, make_folder, sweep_folder
from sweeps.manifest import accept_changes, new_manifest, write_manifest
from sweeps.notify import notify
from sweeps.options import Options
from sweeps.progress import Screen, Snapshot, expected_trials, line, of_stages, take_snapshot
from sweeps.record import Recorder
from sweeps.resources import PreflightError, parallel_trials
from sweeps.space import Space
from sweeps.stages import Stages, Task

if TYPE_CHECKING:
    from kdgan_core.config import TrialConfig
    from sweeps.worker import Workers

LONG_SECONDS = 3600.0  # from here on a sweep on a CPU says how to make it short
CAPPED = 3  # exit code when a cap ended the command


def run_sweep(space: Space, options: Options, console: Console) -> int:
    """Runs what is missing of the sweep and records it.

    Returns:
        The exit code: 0 if every trial reached an outcome and none failed, 1 if some did not, 3 if
        a cap ended the command before that, 130 after Ctrl-C.

    Raises:
        CapError: a cap could never act.
        DataError: the data are absent or damaged.
        ManifestError: the sweep has become another one, or what is known of it cannot be read.
        PlanError: the plan on disk cannot be read.
        PreflightError: the sweep could not run to its end.
        StorageError: the storage folder cannot be written, or another process runs this sweep.
    """
    options.caps.check(options.gpus_per_trial)
    dataset = load_named(space.dataset, space.tags_file, options.data_dir)
    folder = make_folder(sweep_folder(space, options))
    with locked(folder, options.command):
        try:
            sweep = _Sweep(space, options, folder, dataset.checksum, console)
        except OSError as error:
            raise StorageError(
                f"the storage folder {folder} cannot be written ({error}): make space or access"
            ) from error
        if not sweep.stages.missing and sweep.stages.exhausted:
            console.print(f"sweep {folder.name}: all trials have finished, nothing to train")
            return sweep.finish("")
        return sweep.finish(sweep.train())


class _Sweep:
    """A sweep that holds its folder's lock."""

    def __init__(
        self, space: Space, options: Options, folder: Path, checksum: str, console: Console
    ) -> None:
        """Opens the plan and reads what has ended already.

        Raises:
            ManifestError: the sweep has become another one.
            PlanError: the plan on disk cannot be read.
        """
        self.space, self.options, self.console, self.folder = space, options, console, folder
        self.manifest = new_manifest(space, options, checksum)
        accept_changes(folder, self.manifest, options.accept_changes, console.print)
        self.budget: Budget | None = None
        self.started = time.monotonic()
        self.storage_error = ""
        self.paused = 0
        self.recorder = Recorder(
            options.tracking_uri, space.experiment, folder.name, folder / "spool"
        )
        self._recording = False
        self.cost = CostModel()
        self.stages = Stages(
            Task(space, options.mode, options.sampler, options.seed, options.retry),
            folder,
            self.recorder.trial_ended,
            lambda n: best_in_storage(options.storage, space, n),
        )
        closing.print_corrupt(self.stages, console)
        for trial_id, rows in self.stages.plan.trials().items():
            if trial_id in self.stages.results:
                self.cost.learn(rows[0].config, self.stages.results[trial_id])
                self.recorder.trial_ended(trial_id, rows)
        self.manifest["expected_trials"] = expected_trials(self.stages)
        write_manifest(folder, self.manifest)

    def train(self) -> str:
        """Runs the missing trials, on Ray.

        Returns:
            What ended it early: "interrupted", "storage", "cap", or "" if nothing did.

        Raises:
            PreflightError: the sweep could not run to its end.
        """
        from sweeps.execute import StorageFull, start_ray, stop_ray
        from sweeps.preflight import StoreCheck
        from sweeps.worker import STORAGE_ERRORS

        try:
            store = StoreCheck(self.options.tracking_uri) if self.options.preflight else None
            if self.console.is_terminal:
                self.console.print("starting Ray ...")
            start_ray()
            if store is not None:
                store.wait()
            signal.signal(signal.SIGTERM, _interrupt)  # after Ray, which sets a handler of its own
            self._train()
        except KeyboardInterrupt:
            self.console.print("interrupted: what has finished is kept")
            return "interrupted"
        except (OSError, StorageFull) as error:
            if isinstance(error, OSError) and error.errno not in STORAGE_ERRORS:
                raise
            self.storage_error = str(error)
            return "storage"
        finally:
            stop_ray()
        return "cap" if self.budget and self.budget.reached else ""

    def _train(self) -> None:
        from sweeps.execute import execute, node_resources
        from sweeps.stopping import EarlyStopping

        nodes = node_resources()
        workers, parallel = self._workers(nodes)
        if workers.gpus and self.options.gpus_per_trial is None and self.options.preflight:
            self.options = replace(self.options, gpus_per_trial=self._share(workers, nodes))
            workers, parallel = self._workers(nodes)
        self._start_recording({"gpus_per_trial": workers.gpus, "nodes": nodes})
        self.budget = Budget(self.options.caps, workers.gpus, self.started)
        self.manifest["parallel"] = parallel
        write_manifest(self.folder, self.manifest)
        self._preflight(workers)
        device = f"{sum(n.get('GPU', 0.0) for n in nodes):g} GPUs" if workers.gpus else "CPU"
        self._announce(parallel, device)
        stopping = EarlyStopping(self.options.early_stopping)
        self.stages.replay_into(stopping)
        with Screen(self.console) as screen:
            started = time.monotonic()

            def on_beat(running: Mapping[str, float]) -> None:
                if not screen.due:
                    return
                snapshot = self._snapshot(parallel, running)
                if snapshot.done == self.stages.resumed and not any(running.values()):
                    elapsed = time.monotonic() - started  # only pretraining so far
                    snapshot.seconds_left = max(0.0, snapshot.seconds_left - elapsed)
                screen.show(snapshot)

            def slots() -> int:
                try:
                    return parallel_trials(self.options, node_resources())[1]
                except PreflightError:  # the last node that a trial fits on has gone: wait for one
                    return 1

            on_beat({})
            self.paused = execute(
                self.stages, workers, self.budget, stopping, self._trial_ended, on_beat,
                lambda row: self.cost.trial_seconds(row.config)
                + self.cost.pretraining([row.config]).mid,
                slots,
            )  # fmt: skip
        self.console.print(Text(line(self._snapshot(parallel, {}))))

    def finish(self, why: str) -> int:
        """Closes the record, prints the closing words, gives the exit code.

        Args:
            why: what `train` returned.
        """
        self._start_recording({})
        stages = self.stages
        outcomes = [stages.results[t]["outcome"] for t in stages.asked if t in stages.results]
        failed = outcomes.count("failed")
        complete = why in ("", "cap") and not (failed or stages.missing) and stages.exhausted
        if complete:
            why = ""  # a cap that was reached by the very last trial has ended nothing
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)  # of stopped trials
        status = "KILLED" if why == "interrupted" else "FINISHED" if complete else "FAILED"
        recorded = self._close_record(status)
        closing.print_best(stages, self.console)
        closing.print_failed(failed, stages, self.console)
        if why == "storage":
            self.console.print(
                f"the storage cannot be written: {self.storage_error}. What has finished is kept;"
                " make space, then the same command goes on",
                style="red",
            )
        if why == "cap" and self.budget is not None:
            closing.print_cap(self.budget, self.paused, self.console)
        closing.print_next(
            self.space, self.options, self.folder.name, complete, recorded, self.console
        )
        code = {"interrupted": 130, "cap": CAPPED, "storage": 1}.get(why, 0 if complete else 1)
        self._tell(
            "ended",
            closing.summary(
                self.folder.name,
                why,
                complete,
                outcomes,
                self.budget.reached if self.budget else "",
            ),
            code,
        )
        return code

    def _workers(self, nodes: list[dict[str, float]]) -> tuple[Workers, int]:
        """Resources and folders of a trial, and how many trials run at a time."""
        from sweeps.worker import Workers

        gpus, parallel = parallel_trials(self.options, nodes)
        folder, data_dir = self.folder.resolve(), self.options.data_dir
        workers = Workers(
            cpus=self.options.cpus_per_trial,
            gpus=gpus,
            data_dir=str(data_dir.resolve()) if data_dir else None,
            cache_dir=str(self.options.storage.resolve() / "cache"),
            spool=str(folder / "spool"),
            checkpoints=str(folder / "checkpoints"),
            pack=self.options.pack,
        )
        return workers, parallel

    def _share(self, workers: Workers, nodes: list[dict[str, float]]) -> float:
        """GPUs of a trial, measured; the default where that does not work."""
        from sweeps.packing import PackingError, measured_share

        largest = max(
            (own.base_config(b.train_size) for b, own in self.stages.branches.items()),
            key=lambda config: (config.batch_size, config.train_size),
        )
        try:
            share = measured_share(largest, workers, nodes)
        except PackingError as error:
            self.console.print(
                f"warning: what a trial takes of a GPU could not be measured ({error}); each gets"
                f" {workers.gpus:g}",
                style="yellow",
            )
            return workers.gpus
        self.console.print(f"measured: {1 / share:.0f} trials share a GPU (--gpus-per-trial)")
        return share

    def _preflight(self, workers: Workers) -> None:
        """Checks the storage on every node and one cheapest row; times what has no estimate."""
        from sweeps.preflight import check_nodes, check_storage, rehearse

        if self.options.preflight:
            warning = check_storage(self.folder)
            if warning:
                self.console.print(f"warning: {warning}", style="yellow")
            check_nodes(self.folder)
        configs = sorted(
            (own.base_config(b.train_size) for b, own in self.stages.branches.items()),
            key=lambda config: (config.rounds, config.train_size),
        )
        learn_from_storage(
            self.cost, self.options.storage, configs, workers.device, workers.threads
        )
        planned = [rows[0].config for rows in self.stages.plan.trials().values()]
        unknown: dict[Kind, TrialConfig] = {}
        for config in (*configs, *planned):
            if not self.cost.knows(config):
                unknown.setdefault(kind(config), config)
        probed = list(unknown.values()) or configs[:1]
        if unknown or self.options.preflight:
            probes = rehearse(probed, workers, self.folder, self.options.preflight)
            for config, probe in zip(probed, probes, strict=True):
                if not self.cost.knows(config):
                    self.cost.expect(config, probe)

    def _snapshot(self, parallel: int, running: Mapping[str, float]) -> Snapshot:
        trials, to_come = of_stages(self.stages)
        return take_snapshot(trials, self.stages.results, to_come, self.cost, parallel, running)

    def _announce(self, parallel: int, device: str) -> None:
        first = self._snapshot(parallel, {})
        done = f", {first.done} of them done before" if first.done else ""
        self.console.print(
            f"sweep {self.folder.name}: {first.total} trials{done}, {parallel} at a time on"
            f" {device}, about {format_seconds(first.seconds_left)}"
        )
        if device == "CPU" and first.seconds_left > LONG_SECONDS:
            self.console.print(
                "  long on a CPU: --quick rehearses it in minutes; --train-size, --seeds and"
                " --trials make it smaller; Ray uses GPUs and other machines where it has them"
            )

    def _trial_ended(self, trial_id: str) -> None:
        rows = self.stages.plan.trials()[trial_id]
        result = self.stages.results[trial_id]
        self.cost.learn(rows[0].config, result)
        self.recorder.trial_ended(trial_id, rows)
        if result["outcome"] == "failed" and self.budget and self.budget.failures <= 1:
            reason = result["traceback"].strip().splitlines()[-1]
            self._tell("trial_failed", f"sweep {self.folder.name}: a trial failed: {reason}", 1)

    def _start_recording(self, resources: Mapping[str, object]) -> None:
        if not self._recording:
            self._recording = True
            self.manifest["facts"] = closing.facts(self.manifest, self.options, resources)
            self.recorder.start(self.manifest["facts"])

    def _close_record(self, status: str) -> bool:
        """Ends the record and the manifest; whether MLflow has all of it."""
        planned = expected_trials(self.stages)
        ended = {"status": status, "planned_trials": planned}
        with contextlib.suppress(OSError):  # the disk may be full; what matters has been said
            write_manifest(self.folder, {**self.manifest, "ended": ended})
        if self.recorder.left > 10:
            self.console.print("bringing MLflow up to date")
        if self.recorder.close(status, planned):
            return True
        reason = self.recorder.error or "it has not answered"
        self.console.print(
            f"warning: MLflow at {self.options.tracking_uri} does not have all of it ({reason})."
            " Nothing is lost: the backfill command below records what is missing.",
            style="yellow",
        )
        return False

    def _tell(self, event: str, text: str, code: int) -> None:
        if self.options.notify is None:
            return
        facts = {"sweep": self.folder.name, "exit_code": code, "command": self.options.command}
        problem = notify(self.options.notify, event, text, facts)
        if problem:
            self.console.print(f"warning: --notify did not work: {problem}", style="yellow")


def _interrupt(signum: int, frame: object) -> None:
    """A batch system's way to end a job is treated as Ctrl-C: what has finished is kept."""
    raise KeyboardInterrupt
