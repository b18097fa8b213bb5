"""The trial: one configuration trained under each of its seeds, scored on validation and test."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kdgan_core.config import TrialConfig
from kdgan_core.data.seed_data import load
from kdgan_core.data.task import Detail, Scores
from kdgan_core.files import load_labelled, save_labelled
from kdgan_core.names import RECOMMENDERS
from kdgan_core.precision import matmul_precision
from kdgan_core.replica import Replica, pretrain_ahead
from kdgan_core.results import OUTCOMES, Evaluation, SeedResult, TrialResult
from kdgan_core.stacked.packs import Pack, Packs
from kdgan_core.tagging.fitted import Fitted, new_replica

__all__ = ["OUTCOMES", "Evaluation", "SeedResult", "Trial", "TrialResult", "run_trial"]

CHECKPOINT_FORMAT = 3  # raise when training, or what `Trial.save` writes, changes


class Trial:
    """A trial that is moved from one validation check to the next by its owner.

    Seeds advance together, so that a check compares all of them at the same step.
    """

    def __init__(
        self, config: TrialConfig, *, data_dir: Path | None, cache_dir: Path,
        device: torch.device | str, pack: Pack = "auto",
    ) -> None:  # fmt: skip
        """Cheap: data are read and players pretrained by the first `advance`.

        Args:
            config: the cell.
            data_dir: the data folder; None is KDGAN_DATA or the user's cache directory.
            cache_dir: pretrained players are kept here.
            device: "cpu", "cuda", ...
            pack: how many seeds are trained as one; see `stacked.packs`. Results and checkpoints
                are the same up to float error.
        """
        self.config, self.data_dir, self.cache_dir = config, data_dir, cache_dir
        self.device = torch.device(device)
        self.packs = Packs(config, self.device, pack)
        self.replicas: list[Replica | Fitted] = []
        self.evaluation: Evaluation | None = None
        self.stopped = False
        self._pretrained: dict[int, float] = {}
        self._pretrained_error: dict[int, float] = {}  # standard errors
        self._last: dict[int, float] = {}
        self._diverged: set[int] = set()
        self._seconds = self._prepare_seconds = 0.0
        every = config.rounds / config.evaluations
        self._checks = [0] + [round(every * (i + 1)) for i in range(config.evaluations)]
        self._next_check = 0

    @property
    def done(self) -> bool:
        """No check is left, the trial was stopped, or every seed has diverged."""
        return self.stopped or self._all_diverged or self._next_check == len(self._checks)

    @property
    def _all_diverged(self) -> bool:
        return bool(self.replicas) and len(self._diverged) == len(self.replicas)

    def advance(self) -> Evaluation:
        """Train to the next validation check and return it; the first is the pretrained student.

        Raises:
            DataError: the data are absent or damaged.
            RuntimeError: the trial is done.
        """
        if self.done:
            raise RuntimeError(f"trial {self.config.trial_id} is done: nothing is left to advance")
        with matmul_precision(self.config.matmul_precision, self.device):
            return self._advance()

    def _advance(self) -> Evaluation:
        started = time.perf_counter()
        if not self.replicas:
            self.replicas = self._make_replicas()
            self._prepare_seconds = time.perf_counter() - started
        target = self._checks[self._next_check]
        metrics: dict[int, dict[str, float]] = {}
        tau = self.replicas[0].tau()
        living = [one for one in self.replicas if one.seed not in self._diverged]
        for group in self.packs.of(living):
            group.train_to(target - 1)
            tau = group.tau()
            group.train_to(target)
            scores = group.validate()
            for replica in group.replicas:
                notes = replica.read_notes()
                if not replica.is_finite():
                    self._diverged.add(replica.seed)
                    continue
                metrics[replica.seed] = {
                    **self._check(replica, scores[replica.seed]), **replica.teacher_score(),
                    **notes,
                }  # fmt: skip
                if self.config.log_gradient_variance:
                    metrics[replica.seed] |= replica.gradient_variance()
        self._next_check += 1
        self._seconds += time.perf_counter() - started
        self.evaluation = Evaluation(
            step=target * self.config.classifier_steps,
            steps=self.config.rounds * self.config.classifier_steps,
            tau=tau,
            seconds=self._seconds,
            metrics=metrics,
            seed_seconds={replica.seed: replica.seconds for replica in self.replicas},
        )
        return self.evaluation

    def stop(self) -> None:
        """End here; the seeds count as stopped early."""
        self.stopped = True

    def result(self) -> TrialResult:
        """Scores of every seed; this is the one time that the test images are looked at, but for
        the authors' statistic.

        Raises:
            RuntimeError: the trial has not reached its first check after the pretrained one.
        """
        if self.evaluation is None or (self.evaluation.step == 0 and not self._all_diverged):
            raise RuntimeError(f"trial {self.config.trial_id} has not been trained yet")
        started = time.perf_counter()
        details: dict[int, Detail] = {}
        with matmul_precision(self.config.matmul_precision, self.device):
            seeds = tuple(self._seed_result(replica, details) for replica in self.replicas)
        worst = max((seed.outcome for seed in seeds), key=OUTCOMES.index)
        seconds = self._seconds + time.perf_counter() - started
        return TrialResult(
            self.config.trial_id, worst, seeds, seconds, self.evaluation.step,
            self._prepare_seconds, details,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Writes a checkpoint, to be taken between two calls of `advance`; never half of one.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
            RuntimeError: nothing has been trained yet.
        """
        if self.evaluation is None:
            raise RuntimeError(f"trial {self.config.trial_id} has nothing to save yet")
        state = {
            "evaluation": dict(vars(self.evaluation)),
            "next_check": self._next_check,
            "stopped": self.stopped,
            "seconds": self._seconds,
            "prepare_seconds": self._prepare_seconds,
            "pretrained": self._pretrained,
            "pretrained_error": self._pretrained_error,
            "last": self._last,
            "diverged": sorted(self._diverged),
            "replicas": {replica.seed: replica.state_dict() for replica in self.replicas},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        save_labelled(path, self._label(), state)

    def resume(self, path: Path) -> bool:
        """Takes up a checkpoint of this very trial; False, and nothing changed, if it is not one.

        A checkpoint of another trial, torch version, kind of device or code version's format is
        not taken up, nor is a damaged one: the trial then starts from its beginning. From the
        checkpoint on, the updates are those of the undisturbed trial (on a CPU to the bit, with
        as many threads).

        Raises:
            DataError: the data are absent or damaged.
        """
        if self.replicas:
            raise RuntimeError(f"trial {self.config.trial_id} is in training already")
        started = time.perf_counter()
        state = load_labelled(path, self._label(), self.device)
        if state is None:
            return False
        with matmul_precision(self.config.matmul_precision, self.device):
            replicas = self._make_replicas()  # pretrains if the cache has been cleared
        for replica in replicas:
            replica.load_state_dict(state["replicas"][replica.seed])
        self.replicas = replicas
        self.evaluation = Evaluation(**state["evaluation"])
        self._next_check, self.stopped = state["next_check"], state["stopped"]
        self._pretrained, self._last = state["pretrained"], state["last"]
        self._pretrained_error = state["pretrained_error"]
        self._diverged = set(state["diverged"])
        self._prepare_seconds = state["prepare_seconds"]
        self._seconds = state["seconds"] + time.perf_counter() - started
        return True

    def _label(self) -> str:
        """What a checkpoint must say to be taken up."""
        return (
            f"kdgan checkpoint {CHECKPOINT_FORMAT} trial {self.config.trial_id}"
            f" torch {torch.__version__} {self.device.type}"
        )

    def _make_replicas(self) -> list[Replica | Fitted]:
        dataset = load(self.config, self.data_dir)
        if self.config.method not in RECOMMENDERS:
            pretrain_ahead(self.config, dataset, self.cache_dir, self.device)
        return [
            new_replica(self.config, seed, dataset, self.cache_dir, self.device)
            for seed in self.config.seeds
        ]

    def _check(self, replica: Replica | Fitted, scores: Scores) -> dict[str, float]:
        score = scores.metrics[self.config.score]
        self._last[replica.seed] = score
        if replica.round == 0:
            self._pretrained[replica.seed] = score
            self._pretrained_error[replica.seed] = scores.standard_error
        else:
            replica.keep_if_best(score)
            if self.config.authors_statistic:
                replica.evaluate_test()
        return {f"valid_{name}": value for name, value in scores.metrics.items()}

    def _seed_result(self, replica: Replica | Fitted, details: dict[int, Detail]) -> SeedResult:
        """How a seed ended; its scores image by image are put into `details`."""
        seed = replica.seed
        pretrained = self._pretrained.get(seed, math.nan)
        cost: dict[str, Any] = {
            "score": self.config.score,
            "train_seconds": replica.seconds, "pretrain_seconds": replica.pretrain_seconds,
            **{f"updates_{role}": count for role, count in replica.updates.items()},
        }  # fmt: skip
        if seed in self._diverged:
            return SeedResult(seed, "diverged", None, None, None, pretrained, None, **cost)
        last = self._last[seed]
        outcome = (
            "stopped" if self.stopped and self._next_check < len(self._checks) else "finished"
        )
        if last < pretrained - 2.0 * self._pretrained_error[seed]:
            outcome = "collapsed"
        scores, detail = replica.test_best()
        if detail is not None:
            details[seed] = detail
        return SeedResult(
            seed=seed,
            outcome=outcome,
            best_step=replica.best_step,
            best_valid_score=replica.best_valid_score,
            last_valid_score=last,
            pretrained_valid_score=pretrained,
            test_score=scores.metrics[self.config.score],
            test_metrics=scores.metrics,
            best_test_evaluation=replica.best_test_evaluation,
            **cost,
        )


def run_trial(
    config: TrialConfig, *, data_dir: Path | None, cache_dir: Path, device: torch.device | str,
    report: Callable[[Evaluation], bool | None] | None = None, pack: Pack = "auto",
) -> TrialResult:  # fmt: skip
    """Train one cell under each of its seeds and score it: the single trial function.

    The same config on the same device with the same versions gives the same result. Nothing is
    read or written but the data folder and the cache of pretrained players.

    Args:
        config: the cell.
        data_dir: the data folder; None is KDGAN_DATA or the user's cache directory.
        cache_dir: pretrained players are kept here.
        device: "cpu", "cuda", ...
        report: called at every evaluation, the pretrained one first; True stops the trial there
            (not before its first training).
        pack: as of `Trial`.

    Raises:
        DataError: the data are absent or damaged.
    """
    trial = Trial(config, data_dir=data_dir, cache_dir=cache_dir, device=device, pack=pack)
    while not trial.done:
        evaluation = trial.advance()
        if report is not None and report(evaluation) and evaluation.step > 0:
            trial.stop()
    return trial.result()
