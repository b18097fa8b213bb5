"""Trials per hour of a study on this machine, `sweeps/run.py` against the naive program's Ray.

    python benchmarks/sweep.py [--check] [--schedule fused] [--cells 4] [--seeds 1]

The study: mnist at n=1,000, 30 cells (beta by gamma), three seeds each, 500 steps after 1,500 of
pretraining, one trial a core. Both programs run a sample of it, as a user would start them: fewer
cells and seeds, everything else as in the study, recording in MLflow included. What the whole
study takes follows from the sample:

    ours    start and end + seeds * pretraining + rounds of trials * (seeds * seed + between)
    naive   Ray's start + rounds of trials * (process + seeds * seed)

where a round of trials is one on every core, and what a trial of the naive program takes beyond
its training (its process, its imports, its log) counts once a trial, not once a seed. With
`--seeds 3 --cells 30 --naive-cells 30` nothing is projected; that takes hours.

With --check the exit code is 1 unless the fastest schedule of ours has at least 6 times the naive
trials per hour.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from benchmarks.common import (
    ROOT,
    STUDY_SEEDS,
    STUDY_STEPS,
    Goal,
    conclude,
    mnist_config,
    print_table,
    run,
)
from kdgan_core.config import TrialConfig
from kdgan_core.data.fetch import default_data_dir
from kdgan_core.names import SCHEDULES

CELLS = 30
BETAS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
GAMMAS = (0.0001, 0.001, 0.01, 0.1, 1.0)
LEAST_RATIO = 6.0
NAIVE_TIMES = "naive.json"


class Sample(NamedTuple):
    """A part of the study that has run.

    Attributes:
        wall: seconds of the whole command.
        once: seconds of it that do not depend on the number of trials or seeds.
        pretraining: seconds a seed, shared by all trials; 0 where it is in `seed`.
        between: seconds a trial beyond its seeds' training.
        seed: seconds of a seed in a trial.
    """

    wall: float
    once: float
    pretraining: float
    between: float
    seed: float

    def study_seconds(self, cores: int) -> float:
        """Of the whole study: 30 cells, three seeds."""
        seeds, rounds = len(STUDY_SEEDS), math.ceil(CELLS / cores)
        return self.once + seeds * self.pretraining + rounds * (self.between + seeds * self.seed)


def plan(cells: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Levels of beta and gamma whose product has that many cells, the baseline's among them.

    Raises:
        ValueError: the study has no such part.
    """
    for count in range(len(BETAS), 0, -1):
        if cells % count == 0 and cells // count <= len(GAMMAS):
            return (
                sorted(BETAS, key=lambda level: abs(math.log(level)))[:count],
                sorted(GAMMAS, key=lambda level: abs(math.log10(level / 0.01)))[: cells // count],
            )  # type: ignore[return-value]
    raise ValueError(f"cells={cells} is not a product of up to 6 betas and up to 5 gammas")


def configs(cells: int, seeds: int) -> list[TrialConfig]:
    """The same part of the study as configurations."""
    betas, gammas = plan(cells)
    base = mnist_config(seeds=STUDY_SEEDS[:seeds], steps=STUDY_STEPS)
    return [base.replace(beta=beta, gamma=gamma) for beta in betas for gamma in gammas]


def own_sample(schedule: str, cells: int, seeds: int, cores: int, data_dir: Path) -> Sample:
    """Runs `sweeps/run.py` in a folder of its own and reads its spools."""
    betas, gammas = plan(cells)
    words = [
        str(ROOT / "sweeps" / "run.py"), "mnist", "--mode", "grid", "--factors", "beta,gamma",
        "--levels", f"beta={_joined(betas)}", "--levels", f"gamma={_joined(gammas)}",
        "--train-size", "1000", "--data-dir", str(data_dir.resolve()),
        "--set", f"seeds={_joined(STUDY_SEEDS[:seeds])}", "--set", f"steps={STUDY_STEPS}",
        "--set", f"schedule={schedule}",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wall = run(words, folder)
        spools = sorted(folder.glob("sweep_runs/*/spool/*.jsonl"))
        events = [[json.loads(line) for line in path.read_text().splitlines()] for path in spools]
    if len(events) != cells or any(one[-1]["event"] != "result" for one in events):
        raise SystemExit(f"{len(events)} of {cells} trials have a spool, or one has not ended")
    ends = [one[-1] for one in events]
    span = max(one["time"] for one in ends) - min(one[0]["time"] for one in events)
    training = [one["seconds"] - one["prepare_seconds"] for one in ends]
    pretraining = max(one["prepare_seconds"] for one in ends) / seeds
    rounds = math.ceil(cells / cores)
    trial = sum(training) / cells
    between = max(0.0, span - seeds * pretraining - rounds * trial) / rounds
    return Sample(wall, wall - span, pretraining, between, trial / seeds)


def naive_sample(cells: int, seeds: int, cores: int, data_dir: Path) -> Sample:
    """Runs the naive program's sweep in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        words = [__file__, "--naive", str(cells), "--seeds", str(seeds), "--data-dir"]
        wall = run([*words, str(data_dir.resolve())], Path(name))
        times = json.loads((Path(name) / NAIVE_TIMES).read_text())
    rounds = math.ceil(cells / cores)
    trained = sum(times["seed_seconds"]) / cells  # a trial's
    between = times["sweep"] / rounds - trained
    return Sample(wall, wall - times["sweep"], 0.0, between, trained / seeds)


def _naive_sweep(cells: int, seeds: int, data_dir: Path) -> None:
    """In a process of its own: sweeps, and writes what took how long."""
    import ray

    from benchmarks import naive

    ray.init(dashboard_host="127.0.0.1", log_to_driver=False)
    started = time.perf_counter()
    seconds = naive.sweep(configs(cells, seeds), data_dir, Path())
    times = {"sweep": time.perf_counter() - started, "seed_seconds": seconds}
    Path(NAIVE_TIMES).write_text(json.dumps(times))


def _joined(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 where the aim is missed")
    parser.add_argument("--cells", type=int, default=4, help="of our sample")
    parser.add_argument("--naive-cells", type=int, default=2, help="of the naive program's")
    parser.add_argument("--seeds", type=int, default=1, help="of a cell in both samples")
    parser.add_argument("--schedule", action="append", choices=SCHEDULES, help="repeatable")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--naive", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    data_dir = asked.data_dir or default_data_dir()
    if asked.naive:
        _naive_sweep(asked.naive, asked.seeds, data_dir)
        return 0
    cores = len(os.sched_getaffinity(0))
    found = {"naive": naive_sample(asked.naive_cells, asked.seeds, cores, data_dir)}
    for name in asked.schedule or SCHEDULES[-1:]:
        found[name] = own_sample(name, asked.cells, asked.seeds, cores, data_dir)
    study = {name: sample.study_seconds(cores) for name, sample in found.items()}
    rates = {name: 3600.0 * CELLS / seconds for name, seconds in study.items()}
    print(
        f"mnist n=1,000, {STUDY_STEPS} steps; a sample of {asked.seeds} seeds, {asked.cells}"
        f" cells of ours and {asked.naive_cells} of naive's, {cores} cores; the study has {CELLS}"
        f" cells of {len(STUDY_SEEDS)} seeds"
    )
    print_table(
        ("program", "sample, s", "once, s", "pretrain a seed, s", "a trial besides, s",
         "a seed, s", "study, min", "trials/h", "this / naive"),
        [
            (name, *sample, study[name] / 60, f"{rates[name]:.1f}",
             f"{rates[name] / rates['naive']:.2f}")
            for name, sample in found.items()
        ],
    )  # fmt: skip
    best = max(rates, key=rates.__getitem__)
    share = rates[best] / rates["naive"]
    goals = [Goal(f"trials per hour ({best}), of naive's", share, LEAST_RATIO, at_least=True)]
    figures: dict[str, object] = {
        "cells": asked.cells, "naive_cells": asked.naive_cells, "seeds": asked.seeds,
        "samples": {name: sample._asdict() for name, sample in found.items()},
        "study_s": study, "trials_per_hour": rates,
        "ratio": {name: rate / rates["naive"] for name, rate in rates.items()},
    }  # fmt: skip
    return conclude("sweep", figures, goals, 1, asked.check)


if __name__ == "__main__":
    sys.exit(main())
