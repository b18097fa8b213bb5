"""A worker: the process that trains trials, one after the other, wherever Ray puts it."""

from __future__ import annotations

import errno
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from kdgan_core import Evaluation, Trial, TrialConfig
from kdgan_core.config import score_of
from kdgan_core.stacked.packs import parse_pack
from sweeps.details import write_details
from sweeps.environment import processor
from sweeps.spool import SpoolBusy, SpoolWriter, read_spool

# Errors of a storage that is full, gone or read-only; others are the trial's own.
STORAGE_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ESTALE, errno.ENOTCONN,
}  # fmt: skip
CHECKPOINT_SHARE = 0.05  # checkpoints take at most about this share of a trial's time


@dataclass(frozen=True)
class Workers:
    """What a trial gets and where it finds things; the same for every trial of a sweep.

    Attributes:
        cpus: cores, and torch threads, of a trial.
        gpus: GPUs of a trial, a fraction to let trials share one; 0 trains on the CPU.
        data_dir: the data folder, None for the default.
        cache_dir: pretrained players are kept here.
        spool: folder of the spool files.
        checkpoints: folder of the checkpoints of trials in training.
        pack: how many seeds of a trial are trained as one: auto | none | a number.
    """

    cpus: float
    gpus: float
    data_dir: str | None
    cache_dir: str
    spool: str
    checkpoints: str
    pack: str = "auto"

    @property
    def device(self) -> str:
        return "cuda" if self.gpus > 0 else "cpu"

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))


class Training:
    """One trial in training, with its spool and its checkpoint on the sweep's storage.

    A checkpoint follows every evaluation, unless writing it takes more than a twentieth of the
    time since the last one. A trial whose worker died goes on from its checkpoint.
    """

    def __init__(self, config: TrialConfig, workers: Workers) -> None:
        """Takes up the trial where it was left.

        Raises:
            SpoolBusy: another process trains it.
            OSError: the storage cannot be written.
        """
        self.config = config
        self.checkpoint = checkpoint_path(Path(workers.checkpoints), config.trial_id)
        self._saved_at, self._save_seconds = time.monotonic(), 0.0
        self.workers = workers
        self.trial = self._new_trial()
        host: dict[str, object] = {
            "device": workers.device, "threads": workers.threads,
            "processor": processor(workers.device),
        }  # fmt: skip
        self.spool = SpoolWriter(Path(workers.spool), config.trial_id, host)

    def begin(self) -> None:
        """Writes the first line of the attempt; resumes if there is a checkpoint to resume from.

        Raises:
            DataError: the data are absent or damaged.
            OSError: the storage cannot be written.
        """
        step = self._resume()
        if step is not None:
            self.spool.resume(step)
        else:
            self.checkpoint.unlink(missing_ok=True)  # must not be taken for this attempt's
            self.spool.start()

    def advance(self) -> Evaluation:
        """Trains to the next check; after the last one the result is in the spool."""
        evaluation = self.trial.advance()
        self.spool.evaluation(evaluation)
        if self.trial.done:
            result = self.trial.result()
            write_details(self.spool.path.parent, result)  # first: a result says all is there
            self.spool.result(result)
            self.checkpoint.unlink(missing_ok=True)
        elif evaluation.step > 0:
            self._save()
        return evaluation

    def fail(self, reason: str) -> None:
        """Ends the trial as failed; it starts from its beginning when it is tried again."""
        self.checkpoint.unlink(missing_ok=True)
        self.spool.failed(reason)

    def close(self) -> None:
        self.spool.close()

    def _new_trial(self) -> Trial:
        workers = self.workers
        return Trial(
            self.config, data_dir=Path(workers.data_dir) if workers.data_dir else None,
            cache_dir=Path(workers.cache_dir), device=workers.device,
            pack=parse_pack(workers.pack),
        )  # fmt: skip

    def _resume(self) -> int | None:
        """The step of the checkpoint that the trial now stands at; None where none is of use."""
        if not self.trial.resume(self.checkpoint):
            return None
        reached = self.trial.evaluation
        assert reached is not None
        checks = [(e["step"], e["seconds"]) for e in read_spool(self.spool.path).evaluations]
        if (reached.step, reached.seconds) in checks:
            return reached.step
        self.trial = self._new_trial()  # its spool is gone: the checks before would be missing
        return None

    def _save(self) -> None:
        since = time.monotonic() - self._saved_at
        if since * CHECKPOINT_SHARE < self._save_seconds:
            return
        started = time.monotonic()
        self.spool.sync()  # a checkpoint is of use only with what led to it
        self.trial.save(self.checkpoint)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started


def checkpoint_path(folder: Path, trial_id: str) -> Path:
    return folder / f"{trial_id}.pt"


class TrialActor(tune.Trainable):
    """Trains one trial after the other, one validation check a step.

    Nothing of a trial happens before its first step: Tune sets an actor up for one trial and may
    then give that trial to another actor. A trial's configuration names its cell (`trial`), the
    `Workers` (`workers`) and how many results its spool had when it was handed out (`ended`). What
    a step returns:

    * progress: fraction of the updates done; score: mean validation score of the seeds, a
      diverged one as 0; check: validation checks passed, the pretrained one not counted;
    * storage_error: why the storage cannot be written, "" while it can. The trial then has not
      failed: it goes on from its checkpoint in a later sweep.
    """

    def setup(self, config: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(Workers(**config["workers"]).threads)
        self.training: Training | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial; the process keeps the data set and its imports."""
        self._let_go()
        return True

    def cleanup(self) -> None:
        self._let_go()

    def step(self) -> dict[str, Any]:
        """Trains to the next check. An error ends the trial as failed, not the worker."""
        config = TrialConfig.from_dict(self.config["trial"])
        try:
            return self._step(config)
        except (OSError, SpoolBusy) as error:
            self._let_go()
            return _report(storage_error=str(error))

    def _step(self, config: TrialConfig) -> dict[str, Any]:
        begin = self.training is None
        if self.training is None:
            self.training = Training(config, Workers(**self.config["workers"]))
        training = self.training
        if begin and read_spool(training.spool.path).ended > self.config["ended"]:
            self._let_go()  # a worker ended it, and was lost before Tune heard of it
            return _report()
        try:
            if begin:
                training.begin()
            evaluation = training.advance()
            if evaluation.step == 0 and not training.trial.done:
                evaluation = training.advance()  # the pretrained player's check needs no report
        except Exception as error:  # a trial's error is a result: kept with its traceback
            if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
                raise
            training.fail(traceback.format_exc())
            self._let_go()
            return _report()
        done = training.trial.done
        if done:
            self._let_go()
        scores = [score_of(seed) for seed in evaluation.metrics.values()]
        return _report(
            progress=evaluation.step / evaluation.steps,
            score=sum(scores) / len(config.seeds),
            check=round(config.evaluations * evaluation.step / evaluation.steps),
            done=done,
        )

    def _let_go(self) -> None:
        if self.training is not None:
            self.training.close()
            self.training = None


def _report(
    progress: float = 1.0, score: float = 0.0, check: int = 0, done: bool = True,
    storage_error: str = "",
) -> dict[str, Any]:  # fmt: skip
    return {
        "progress": progress, "score": score, "check": check, "done": done,
        "storage_error": storage_error,
    }  # fmt: skip
