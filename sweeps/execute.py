"""Runs a sweep's trials on Ray Tune: one Tune run, trials in actors that are used again."""

from __future__ import annotations

import logging
import os
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by Ray when it is imported.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # 0.07 -> 0.037 s a trial
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # resume is the plan's, not Tune's
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is run.py's
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import tune
from ray.tune.search import Searcher

from kdgan_core import Trial, TrialConfig
from sweeps.plan import Row
from sweeps.spool import SpoolWriter, read_spool, spool_path
from sweeps.stages import Stages

WORKER_DEATHS = 2  # a trial whose worker was killed is run again this often before it has failed


@dataclass(frozen=True)
class Workers:
    """What a trial gets and where it finds things; the same for every trial of a sweep.

    Attributes:
        cpus: cores, and torch threads, of a trial.
        gpus: GPUs of a trial, a fraction to let trials share one; 0 trains on the CPU.
        data_dir: the data folder, None for the default.
        cache_dir: pretrained players are kept here.
        spool: folder of the spool files.
    """

    cpus: float
    gpus: float
    data_dir: str | None
    cache_dir: str
    spool: str


class TrialActor(tune.Trainable):
    """A worker: trains one trial after the other, one validation check a step.

    Nothing of a trial happens before its first step: Tune sets an actor up for one trial and may
    then give that trial to another actor.
    """

    def setup(self, config: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(max(1, int(config["workers"]["cpus"])))
        self.trial: Trial | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial; the process keeps the data set and its imports."""
        self.trial = None
        return True

    def step(self) -> dict[str, Any]:
        """Trains to the next check. An error ends the trial as failed, not the worker."""
        workers = Workers(**self.config["workers"])
        config = TrialConfig.from_dict(self.config["trial"])
        if self.trial is None:
            self.spool = SpoolWriter(Path(workers.spool), config.trial_id)
            self.trial = Trial(
                config,
                data_dir=Path(workers.data_dir) if workers.data_dir else None,
                cache_dir=Path(workers.cache_dir),
                device="cuda" if workers.gpus > 0 else "cpu",
            )
        try:
            evaluation = self.trial.advance()
            self.spool.evaluation(evaluation)
            progress = evaluation.step / evaluation.steps
            if not self.trial.done:
                return {"progress": progress, "done": False}
            self.spool.result(self.trial.result())
        except Exception:
            self.spool.failed(traceback.format_exc())
        return {"progress": 1.0, "done": True}


class StageSearcher(Searcher):
    """Feeds Ray Tune from `Stages`: Optuna's questions and the plan's rows alike."""

    def __init__(self, stages: Stages, workers: Workers, on_end: Callable[[str], None]) -> None:
        """on_end is called with the trial_id of each trial that has ended."""
        super().__init__(metric="progress", mode="max")
        self.stages, self.workers, self.on_end = stages, workers, on_end
        self.rows: dict[str, Row] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config; None to be asked again later, FINISHED after the last."""
        row = self.stages.next_row()
        if row is None:
            return Searcher.FINISHED if self.stages.exhausted else None
        self.rows[trial_id] = row
        return {"trial": row.config.as_dict(), "workers": vars(self.workers)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A worker that died leaves no result in the spool: it gets one here, `failed`."""
        row = self.rows.pop(trial_id)
        path = spool_path(self.stages.spool, row.trial_id)
        if read_spool(path).result is None:
            why = f"the worker process died {WORKER_DEATHS + 1} times; see the Ray logs"
            SpoolWriter(self.stages.spool, row.trial_id).failed(f"WorkerDied: {why}")
        self.stages.complete(row.trial_id)
        self.on_end(row.trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a sweep is resumed from its plan and spools."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a sweep is resumed from its plan and spools."""


class Heartbeat(tune.Callback):
    """Tells the screen which trials run and how far they are."""

    def __init__(self, on_beat: Callable[[Mapping[str, float]], None]) -> None:
        """on_beat gets trial_id -> fraction done of the running trials, several times a second."""
        self.on_beat = on_beat
        self.progress: dict[str, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress[_trial_id(trial)] = 0.0

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.progress[_trial_id(trial)] = result["progress"]

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **info: Any
    ) -> None:
        self.progress.pop(_trial_id(trial), None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.pop(_trial_id(trial), None)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.on_beat(dict(self.progress))


def _trial_id(trial: Any) -> str:
    return TrialConfig.from_dict(trial.config["trial"]).trial_id


def start_ray() -> dict[str, float]:
    """Joins the cluster of RAY_ADDRESS or the one running here, else starts one on this machine.

    Returns:
        The cluster's resources, such as {"CPU": 8.0, "GPU": 1.0}.

    Raises:
        ConnectionError: RAY_ADDRESS names a cluster that does not answer.
    """
    ray.init(dashboard_host="127.0.0.1", logging_level=logging.ERROR, log_to_driver=False)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def stop_ray() -> None:
    ray.shutdown()


def execute(
    stages: Stages,
    workers: Workers,
    on_end: Callable[[str], None],
    on_beat: Callable[[Mapping[str, float]], None],
) -> None:
    """Runs every trial that `stages` hands out, until it hands out no more.

    Args:
        stages: what to run.
        workers: resources and folders of a trial.
        on_end: called with the trial_id of each trial that ends.
        on_beat: called often with trial_id -> fraction done of the running ones.
    """
    folder = stages.folder / "tune"
    try:
        tune.run(
            TrialActor,
            name="run",
            config={},
            num_samples=-1,
            search_alg=StageSearcher(stages, workers, on_end),
            resources_per_trial={"cpu": workers.cpus, "gpu": workers.gpus},
            storage_path=str(folder.resolve()),
            reuse_actors=True,
            max_failures=WORKER_DEATHS,
            raise_on_failed_trial=False,
            verbose=0,
            callbacks=[Heartbeat(on_beat)],
            trial_dirname_creator=lambda trial: trial.trial_id,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # Tune's own bookkeeping; nothing reads it
