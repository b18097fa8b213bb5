"""Sweeps written by hand: as frames, and as runs of a real MLflow store."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from analysis.columns import TAG_METRICS
from analysis.runs import Runs, Sweep, tau_label, tidy
from analysis.stats import t_interval
from analysis.tasks import TAG_DATASETS

BASELINE = {"role": "baseline", "factor": "", "level": ""}
SEARCH = {"role": "search", "factor": "", "level": ""}
SUPERSEDED = {"role": "superseded", "factor": "", "level": ""}
DEFAULT_TAU = ("exponential", 1.0, 0.1)


class Trial(NamedTuple):
    """A trial as the tests think of it; `seeds` maps a seed to its outcome and score, which is
    accuracy or, of tags, MAP.

    `attempt` is when it started, seconds since the epoch. A trial recorded by an older version has
    no tag for its cell.
    """

    seeds: dict[int, tuple[str, float]]
    rows: tuple[dict[str, str], ...] = (BASELINE,)
    train_size: int = 100
    alpha: float = 0.5
    beta: float = 1.0
    gamma: float = 0.01
    tau: tuple[str, float, float] = DEFAULT_TAU
    outcome: str = "finished"
    error: str | None = None
    dataset: str = "mnist"
    method: str = "kdgan"
    valid: dict[int, float] | None = None
    attempt: float | None = None
    is_old: bool = False
    extra: dict[str, dict[int, float]] = {}  # noqa: RUF012  further per-seed metrics
    params: dict[str, str] = {}  # noqa: RUF012  further parameters
    curves: tuple[tuple[int, int, str, float | None], ...] = ()  # seed, step, metric, value
    images: tuple[tuple[int, str, float], ...] = ()  # seed, image, average precision

    @property
    def score(self) -> str:
        return "map" if self.dataset in TAG_DATASETS else "accuracy"

    @property
    def cell_id(self) -> str:
        knobs = (self.train_size, self.alpha, self.beta, self.gamma, self.tau)
        plain = self.method == "kdgan" and not self.params
        return _digits(knobs if plain else (*knobs, self.method, *sorted(self.params.items())))

    @property
    def trial_id(self) -> str:
        return _digits((self.cell_id, *sorted(self.seeds)))

    def scores(self) -> list[float]:
        return [value for _, value in self.seeds.values() if not math.isnan(value)]

    def valid_scores(self) -> dict[int, float]:
        if self.valid is not None:
            return self.valid
        return {s: v + 0.001 for s, (_, v) in self.seeds.items() if not math.isnan(v)}


def _digits(key: Hashable) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()[:12]  # hash() differs by process


def seeds(*values: float, outcome: str = "finished") -> dict[int, tuple[str, float]]:
    """Return seeds 0, 1, ... that all ended the same way."""
    return {seed: (outcome, value) for seed, value in enumerate(values)}


def sensitivity(factor: str, level: object) -> dict[str, str]:
    """Return the plan row of a sensitivity cell."""
    return {"role": "sensitivity", "factor": factor, "level": str(level)}


def arm(name: str) -> dict[str, str]:
    """Return the plan row of an arm of Table 1."""
    return {"role": "methods", "factor": "method", "level": name}


def make_sweep(**facts: object) -> Sweep:
    known: dict[str, object] = {
        "experiment": "mnist",
        "sweep_id": "mnist-1a2b3c4d",
        "run_id": "parent",
        "commit": "8f1367d0a1b2c3d4e5f6",
        "dirty": False,
        "command": "python sweeps/run.py mnist",
        "mode": "sensitivity",
        "quick": False,
        "plan_hash": "c0ffee",
        "planned_trials": None,
        "has_ended": True,
    }
    return Sweep(**{**known, **facts})  # type: ignore[arg-type]


def make_runs(trials: Sequence[Trial], **facts: object) -> Runs:
    """Return the frames that `read_runs` would return for these trials."""
    records: list[dict[str, object]] = []
    for order, trial in enumerate(trials):
        interval = t_interval(trial.scores())
        valid = trial.valid_scores()
        common = {
            "sweep_id": facts.get("sweep_id", "mnist-1a2b3c4d"),
            "trial_id": trial.trial_id,
            "cell_id": trial.trial_id if trial.is_old else trial.cell_id,
            "rows": list(trial.rows),
            "run_id": f"run-{trial.trial_id}",
            "started": pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(minutes=order),
            "outcome": trial.outcome,
            "error": trial.error,
            "dataset": trial.dataset,
            "method": trial.method,
            "train_size": trial.train_size,
            "alpha": trial.alpha,
            "beta": trial.beta,
            "gamma": trial.gamma,
            "tau": tau_label(*trial.tau),
            **trial.params,
            f"test_{trial.score}": interval.mean,
            f"best_valid_{trial.score}": np.mean(list(valid.values())) if valid else math.nan,
        }
        for seed, (outcome, value) in trial.seeds.items():
            scores = {
                f"seed_test_{trial.score}": value,
                f"seed_best_valid_{trial.score}": valid.get(seed, math.nan),
                **{f"seed_{name}": values.get(seed) for name, values in trial.extra.items()},
            }
            records.append({**common, "seed": seed, "seed_outcome": outcome, **scores})
    return tidy(make_sweep(**facts), records)


def record_trial(
    client: MlflowClient, experiment_id: str, sweep_id: str, parent_id: str, trial: Trial
) -> str:
    """Write a trial to MLflow as the recorder lays it out; returns the run's id."""
    tags = {
        "mlflow.parentRunId": parent_id,
        "kdgan.kind": "trial",
        "sweep_id": sweep_id,
        "trial_id": trial.trial_id,
        "outcome": trial.outcome,
        "seed_outcomes": json.dumps({s: outcome for s, (outcome, _) in trial.seeds.items()}),
        "rows": json.dumps(trial.rows),
        **({"error": trial.error} if trial.error else {}),
        **({} if trial.is_old else {"cell_id": trial.cell_id, "device": "cpu", "threads": "1"}),
        **({} if trial.attempt is None else {"attempt": f"{trial.attempt:.3f}"}),
    }
    kind, start, end = trial.tau
    params = {
        "dataset": trial.dataset,
        "method": trial.method,
        "train_size": trial.train_size,
        "seeds": json.dumps(sorted(trial.seeds)),
        "alpha": trial.alpha,
        "beta": trial.beta,
        "gamma": trial.gamma,
        "log10_beta": math.log10(trial.beta),
        "log10_gamma": math.log10(trial.gamma),
        "tau_kind": kind,
        "tau_start": start,
        "tau_end": end,
        "estimator": "straight_through",
        "steps": 3000,
        "batch_size": 50,
        "samples": 8,
        **trial.params,
    }
    metrics: dict[str, float] = {"seconds": 12.5}
    per_seed = {
        f"test_{trial.score}": {s: v for s, (_, v) in trial.seeds.items() if not math.isnan(v)},
        f"best_valid_{trial.score}": trial.valid_scores(),
    }
    for name, values in per_seed.items():
        interval = t_interval(list(values.values()))
        summary = {
            name: interval.mean,
            f"{name}_std": interval.std,
            f"{name}_n": interval.n,
            f"{name}_low": interval.low,
            f"{name}_high": interval.high,
            **{f"{name}/seed_{seed}": value for seed, value in values.items()},
        }
        metrics |= {key: value for key, value in summary.items() if not math.isnan(value)}
    for name, found in trial.extra.items():
        metrics |= {f"{name}/seed_{seed}": value for seed, value in found.items()}
    if trial.outcome == "failed":
        metrics = {}
    run_id: str = client.create_run(experiment_id, tags=tags).info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, 0, 0) for key, value in metrics.items()],
        params=[Param(key, str(value)) for key, value in params.items()],
        tags=[RunTag("mlflow.runName", trial.trial_id)],
    )
    for name, frame in (("curves", curve_frame(trial)), ("images", image_frame(trial))):
        if len(frame):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{name}.parquet"
                frame.drop(columns="trial_id").to_parquet(path, index=False)
                client.log_artifact(run_id, str(path))
    client.set_terminated(run_id)
    return run_id


def curve_frame(*trials: Trial) -> pd.DataFrame:
    """Return the frame that `read_curves` would return for these trials."""
    records = [(trial.trial_id, *point) for trial in trials for point in trial.curves]
    frame = pd.DataFrame(records, columns=["trial_id", "seed", "step", "metric", "value"])
    return frame.astype({"value": "float64"})


def image_frame(*trials: Trial) -> pd.DataFrame:
    """Return the frame that `read_images` would return for these trials; every metric of an image
    is its average precision."""
    records = [
        (trial.trial_id, seed, image, *[value] * len(TAG_METRICS))
        for trial in trials
        for seed, image, value in trial.images
    ]
    frame = pd.DataFrame(records, columns=["trial_id", "seed", "image_id", *TAG_METRICS])
    return frame.astype({"seed": "int32", **dict.fromkeys(TAG_METRICS, "float64")})


def record_sweep(
    client: MlflowClient,
    experiment_id: str,
    sweep_id: str,
    trials: Sequence[Trial],
    **tags: str,
) -> str:
    """Write a parent run and its trials to MLflow; returns the parent's id."""
    parent_tags = {
        "kdgan.kind": "sweep",
        "sweep_id": sweep_id,
        "commit": "8f1367d0a1b2c3d4e5f6",
        "dirty": "false",
        "command": "python sweeps/run.py mnist",
        "mode": "study",
        "quick": "false",
        "plan_hash": "c0ffee",
        "planned_trials": str(len(trials)),
        **tags,
    }
    parent_id: str = client.create_run(experiment_id, tags=parent_tags).info.run_id
    for trial in trials:
        record_trial(client, experiment_id, sweep_id, parent_id, trial)
    client.set_terminated(parent_id)
    return parent_id


def realistic_trials(
    sizes: Sequence[int], *, n_seeds: int = 3, taus: int = 4, dataset: str = "mnist"
) -> list[Trial]:
    """Return a sweep with the effects seen in practice, and some cells that went wrong."""
    generator = np.random.default_rng(0)
    schedules = [
        ("exponential", 1.0, 0.1), ("exponential", 10.0, 0.1), ("linear", 1.0, 0.1),
        ("constant", 0.1, 0.1), ("constant", 1.0, 1.0), ("cosine", 1.0, 0.1),
        ("linear", 10.0, 0.1), ("constant", 0.5, 0.5),
    ][:taus]  # fmt: skip
    grids: dict[str, list[object]] = {
        "alpha": [round(0.1 * step, 1) for step in range(11)],
        "beta": [10.0**power for power in range(-3, 4)],
        "gamma": [10.0**power for power in range(-4, 3)],
        "tau": list(schedules),
    }
    trials: list[Trial] = []
    for size in sizes:
        base_error = 0.12 * (100 / size) ** 0.6
        found: dict[str, Trial] = {}
        for factor, levels in grids.items():
            for level in levels:
                trial = Trial({}, (), size, dataset=dataset)._replace(**{factor: level})
                key = trial.cell_id
                error = base_error * (1 + _harm(factor, level))
                values = 1 - error * np.exp(generator.normal(0, 0.12, n_seeds))
                trial = trial._replace(seeds=seeds(*(round(float(v), 4) for v in values)))
                kept = found.get(key, trial)
                found[key] = kept._replace(rows=(*kept.rows, sensitivity(factor, level)))
        trials += found.values()
    baseline = Trial({}, dataset=dataset)
    trials = [
        trial._replace(rows=(*trial.rows, BASELINE))
        if trial.cell_id == baseline._replace(train_size=trial.train_size).cell_id
        else trial
        for trial in trials
    ]
    return [_with_accidents(trial, sizes[0]) for trial in trials]


def _harm(factor: str, level: object) -> float:
    """Return the relative rise of the error at a level."""
    if factor == "alpha":
        return 0.35 * max(0.0, float(level) - 0.5) ** 2 * 4  # type: ignore[arg-type]
    if factor == "beta":
        return 0.05 * abs(math.log10(float(level)))  # type: ignore[arg-type]
    if factor == "gamma":
        return max(0.0, math.log10(float(level)) + 1) * 0.25  # type: ignore[arg-type]
    return 0.1 if level[0] == "constant" else 0.0  # type: ignore[index]


def _with_accidents(trial: Trial, smallest: int) -> Trial:
    """Return the trial as it is, or collapsed, diverged or failed at the harshest settings."""
    if trial.gamma == 100.0:
        return trial._replace(
            seeds={**trial.seeds, 0: ("collapsed", 0.3641), 1: ("collapsed", 0.58)},
            outcome="collapsed",
        )
    if trial.beta == 1000.0 and trial.train_size == smallest:
        return trial._replace(seeds={**trial.seeds, 2: ("diverged", math.nan)}, outcome="diverged")
    if trial.beta == 0.01 and trial.train_size != smallest:
        failed = {seed: ("failed", math.nan) for seed in trial.seeds}
        return trial._replace(seeds=failed, outcome="failed", error="ValueError: no such file")
    return trial
