"""Runs a sweep's trials on Ray Tune: one Tune run, trials in actors that are used again."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
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

from sweeps.caps import Budget
from sweeps.plan import Row
from sweeps.spool import SpoolWriter, read_spool, spool_path
from sweeps.stages import Stages
from sweeps.stopping import EarlyStopping
from sweeps.worker import STORAGE_ERRORS, TrialActor, Workers

WORKER_DEATHS = 3  # a trial whose worker or node was lost goes on this often before it has failed


class StageSearcher(Searcher):
    """Feeds Ray Tune from `Stages`: Optuna's questions and the plan's rows alike.

    Attributes:
        storage_error: why the storage cannot be written, "" while it can; no trial starts then.
        paused: trials that go on from their checkpoint when the sweep does.
    """

    def __init__(
        self, stages: Stages, workers: Workers, budget: Budget, stopping: EarlyStopping,
        on_end: Callable[[str], None], expected_seconds: Callable[[Row], float],
        slots: Callable[[], int],
    ) -> None:  # fmt: skip
        """See `execute`."""
        super().__init__(metric="score", mode="max")
        self.stages, self.workers, self.budget, self.stopping = stages, workers, budget, stopping
        self.on_end, self.expected_seconds, self.slots = on_end, expected_seconds, slots
        self.rows: dict[str, Row] = {}
        self.storage_error = ""
        self.paused = 0

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config; None to be asked again later, FINISHED after the last."""
        if self.storage_error or self.budget.reached:
            return Searcher.FINISHED
        if self.budget.caps.any and len(self.rows) >= self.slots():
            return (
                None  # Tune asks one ahead, and what has not been spent yet could not be counted
            )
        try:
            row = self.stages.next_row()
        except OSError as error:
            self.storage_error = str(error)
            return Searcher.FINISHED
        if row is None:
            return Searcher.FINISHED if self.stages.exhausted else None
        seconds = self.expected_seconds(row)
        if not self.budget.allows(seconds):
            self.stages.give_back(row)
            return Searcher.FINISHED
        self.budget.trial_started(trial_id, seconds)
        self.rows[trial_id] = row
        return {
            "trial": row.config.as_dict(),
            "trial_id": row.trial_id,
            "compare": row.branch.name if row.role == "search" else None,
            "ended": read_spool(spool_path(self.stages.spool, row.trial_id)).ended,
            "workers": vars(self.workers),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Sees to it that a trial that has ended has a result in its spool; a worker that died
        left none."""
        row = self.rows.pop(trial_id)
        try:
            outcome = self._end(trial_id, row, result or {}, error)
        except OSError as problem:
            self.storage_error, outcome = str(problem), ""
        self.budget.trial_ended(trial_id, outcome == "failed")
        if not outcome:
            self.stages.give_back(row)
        elif row.trial_id in self.stages.results:
            self.on_end(row.trial_id)

    def _end(self, trial_id: str, row: Row, result: Mapping[str, Any], error: bool) -> str:
        """The trial's outcome; "" if it is to go on later."""
        if result.get("storage_error"):
            self.storage_error = str(result["storage_error"])
            return ""
        state = read_spool(spool_path(self.stages.spool, row.trial_id))
        if state.result is None:
            stopped = trial_id in self.stopping.stopped
            if not stopped and not error:
                self.paused += 1
                return ""
            spool = SpoolWriter(self.stages.spool, row.trial_id, exclusive=False)
            if stopped:
                spool.stopped(state, row.config.seeds)
            else:
                spool.failed(
                    f"WorkerDied: its worker or node was lost {WORKER_DEATHS + 1} times; memory"
                    " may have run out there, see Ray's logs"
                )
            spool.close()
        ended = self.stages.complete(row.trial_id)
        return "" if ended is None else str(ended["outcome"])

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
        self.progress[trial.config["trial_id"]] = 0.0

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.progress[trial.config["trial_id"]] = result["progress"]

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **info: Any
    ) -> None:
        self.progress.pop(trial.config["trial_id"], None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.pop(trial.config["trial_id"], None)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.on_beat(dict(self.progress))


class Overrun(tune.Stopper):
    """Stops running trials at their next check once a cap has been crossed, or the storage has
    gone: they keep their checkpoints."""

    def __init__(self, searcher: StageSearcher) -> None:
        self.searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return bool(self.searcher.storage_error) or self.searcher.budget.overrun()

    def stop_all(self) -> bool:
        return False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune would keep it for a resume that is not Tune's here."""
        return {}


def start_ray() -> None:
    """Joins the cluster of RAY_ADDRESS or the one running here, else starts one on this machine.

    Raises:
        ConnectionError: RAY_ADDRESS names a cluster that does not answer.
    """
    ray.init(dashboard_host="127.0.0.1", logging_level=logging.ERROR, log_to_driver=False)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the sweep says what is wrong


def node_resources() -> list[dict[str, float]]:
    """CPU and GPU of every node that is alive."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        {name: float(node["Resources"].get(name, 0.0)) for name in ("CPU", "GPU")}
        for node in nodes
        if node["Alive"]
    ]


def stop_ray() -> None:
    ray.shutdown()


class StorageFull(Exception):
    """The sweep's storage cannot be written any more; the message says why."""


def execute(
    stages: Stages,
    workers: Workers,
    budget: Budget,
    stopping: EarlyStopping,
    on_end: Callable[[str], None],
    on_beat: Callable[[Mapping[str, float]], None],
    expected_seconds: Callable[[Row], float],
    slots: Callable[[], int],
) -> int:
    """Runs every trial that `stages` hands out, until it hands out no more or a cap is reached.

    Args:
        stages: what to run.
        workers: resources and folders of a trial.
        budget: caps.
        stopping: early stopping of search trials.
        on_end: called with the trial_id of each trial that ends.
        on_beat: called often with trial_id -> fraction done of the running ones.
        expected_seconds: what a row is expected to take, asked before it starts.
        slots: how many trials can run at the same time, now.

    Returns:
        How many trials were paused because a cap was crossed while they ran.

    Raises:
        StorageFull: the storage could not be written.
    """
    folder = stages.folder / "tune"
    searcher = StageSearcher(stages, workers, budget, stopping, on_end, expected_seconds, slots)
    try:
        tune.run(
            TrialActor,
            name="run",
            config={},
            num_samples=-1,
            search_alg=searcher,
            scheduler=stopping,
            stop=Overrun(searcher),
            resources_per_trial={"cpu": workers.cpus, "gpu": workers.gpus},
            storage_path=str(folder.resolve()),
            reuse_actors=True,
            max_failures=WORKER_DEATHS,
            raise_on_failed_trial=False,
            verbose=0,
            callbacks=[Heartbeat(on_beat)],
            trial_dirname_creator=lambda trial: trial.trial_id,
        )
    except OSError as error:
        if error.errno not in STORAGE_ERRORS:
            raise
        searcher.storage_error = searcher.storage_error or str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # Tune's own bookkeeping; nothing reads it
    if searcher.storage_error:
        raise StorageFull(searcher.storage_error)
    return searcher.paused
