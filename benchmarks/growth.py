"""How cost grows: a trial's with n, seeds, steps and cells, the driver's with plan and store.

    python benchmarks/growth.py [--check] [--passes 3] [--data-dir DATA]

A trial's cost should be proportional to its steps, seeds and cells, and should not depend on n.
What the driver does for a trial (hand it out, take in its result, one look at the screen, its
record in MLflow) should not depend on how many trials the plan has or how many runs the store
holds; the screen goes through the plan, some times a second at most. Sizes are small (mnist, the
small players, no pretraining, one thread); the exponent is that of the power law through the first
and the last size: 1 is proportional, 0 is flat. Requests to MLflow are counted, not timed.

With --check the exit code is 1 unless the exponents of steps, seeds and cells are at most 1.15,
that of n is at most 0.1, a trial's requests are the same number in an empty and in a full store,
and those of the driver's seconds a trial are at most 0.25.
"""

from __future__ import annotations

import functools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from benchmarks.analysis import make_store
from benchmarks.common import Goal, conclude, options, print_table
from benchmarks.counts import SECONDS, SMALL, counted_requests, train_into
from kdgan_core import TrialConfig, run_trial
from kdgan_core.data import load_dataset
from kdgan_core.trial import Evaluation, SeedResult, TrialResult
from sweeps.cost import CostModel, Probe
from sweeps.loading import load_space
from sweeps.plan import Row
from sweeps.progress import of_stages, take_snapshot
from sweeps.record import Recorder, quiet_mlflow
from sweeps.spool import SpoolWriter
from sweeps.stages import Stages, Task

BASE = TrialConfig(
    dataset="mnist", architecture="small", train_size=1000, seeds=(0,), steps=60, evaluations=1,
    pretrain_steps=0, valid_size=500, batch_size=50,
)  # fmt: skip
SIZES: Mapping[str, Sequence[int]] = {
    "n": (100, 1000, 10_000), "steps": (60, 120, 240, 480), "seeds": (1, 2, 4, 8),
    "cells": (1, 2, 4, 8),
}  # fmt: skip
PLANS = (64, 256, 1024)  # trials
STORES = (10, 100, 1000)  # finished runs
T = TypeVar("T")
HANDED = 16  # trials whose driver cost is timed
MOST_LINEAR, MOST_FLAT, MOST_DRIVER = 1.15, 0.1, 0.25


def exponent(found: Mapping[int, float]) -> float:
    """Of the power law through the first and the last size."""
    (first, one), *_, (last, other) = found.items()
    return math.log(other / one) / math.log(last / first)


def trials_of(factor: str, size: int) -> list[TrialConfig]:
    """What is trained where a factor has a size."""
    match factor:
        case "n":
            return [BASE.replace(train_size=size)]
        case "steps":
            return [BASE.replace(steps=size)]
        case "seeds":
            return [BASE.replace(seeds=tuple(range(size)))]
        case _:
            return [BASE.replace(beta=2.0**cell) for cell in range(size)]


def training_seconds(configs: Sequence[TrialConfig], data_dir: Path | None, cache: Path) -> float:
    """Wall seconds of some trials, one after the other."""
    started = time.perf_counter()
    for config in configs:
        run_trial(config, data_dir=data_dir, cache_dir=cache, device="cpu")
    return time.perf_counter() - started


def of_trials(data_dir: Path | None, passes: int) -> dict[str, dict[int, float]]:
    """Factor -> size -> median seconds; all sizes in every pass."""
    with tempfile.TemporaryDirectory() as cache:
        measure = functools.partial(training_seconds, data_dir=data_dir, cache=Path(cache))
        plans = {(f, size): trials_of(f, size) for f, sizes in SIZES.items() for size in sizes}
        for configs in plans.values():
            measure(configs)  # fills the cache, warms up
        found: dict[tuple[str, int], list[float]] = {key: [] for key in plans}
        for _ in range(passes):
            for key, configs in plans.items():
                found[key].append(measure(configs))
    return {
        factor: {size: statistics.median(found[factor, size]) for size in sizes}
        for factor, sizes in SIZES.items()
    }


def end_trial(spool: Path, config: TrialConfig) -> None:
    """Writes the spool of a trial that has ended, as a worker does."""
    writer = SpoolWriter(spool, config.trial_id)
    writer.start()
    metrics = {seed: {"valid_accuracy": 0.9} for seed in config.seeds}
    writer.evaluation(Evaluation(config.steps, config.steps, 0.1, 1.0, metrics))
    seeds = tuple(
        SeedResult(seed, "finished", config.steps, 0.9, 0.9, 0.8, 0.9, {"accuracy": 0.9})
        for seed in config.seeds
    )
    writer.result(TrialResult(config.trial_id, "finished", seeds, 1.0, config.steps))
    writer.close()


def driver_seconds(trials: int) -> tuple[float, float]:
    """Seconds a trial of the last ones of a plan, handed out and taken in, and of one look at the
    screen by then."""
    space = load_space("digits", "sobol", quick=True, trials=trials, train_sizes=(100,))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spool").mkdir()
        stages = Stages(Task(space, "sobol"), folder)
        cost = CostModel()
        cost.expect(space.base_config(space.train_sizes[0]), Probe(1.0, 1.0))
        taken: list[float] = []
        looks: list[float] = []
        handed = 0
        while (row := _timed(stages.next_row, taken)) is not None:
            handed += 1
            end_trial(stages.spool, row.config)
            _timed(functools.partial(stages.complete, row.trial_id), taken)
            if handed > trials - HANDED:
                planned, to_come = of_stages(stages)
                look = functools.partial(
                    take_snapshot, planned, stages.results, to_come, cost, 2, {}
                )
                _timed(look, looks)
        if handed != trials:
            raise RuntimeError(f"{handed} of {trials} trials were handed out")
    return 2.0 * statistics.fmean(taken[-1 - 2 * HANDED : -1]), statistics.median(looks)


def _timed(do: Callable[[], T], taken: list[float]) -> T:
    started = time.perf_counter()
    found = do()
    taken.append(time.perf_counter() - started)
    return found


def recording(runs: int) -> tuple[int, float]:
    """Requests and seconds that recording one trial takes in a store that holds so many runs."""
    config = TrialConfig.from_dict(SMALL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = make_store(folder, runs)
        spool = folder / "sweep" / "spool"
        configs = [config.replace(alpha=number / HANDED) for number in range(HANDED)]
        train_into(spool, configs[0])
        text = (spool / f"{configs[0].trial_id}.jsonl").read_text()
        for other in configs[1:]:
            (spool / f"{other.trial_id}.jsonl").write_text(text)
        recorder = Recorder(uri, "mnist", "sweep", spool)
        with counted_requests() as calls:
            recorder.start({"mode": "search"})
            if not recorder.wait_until_open(SECONDS):
                raise RuntimeError(f"the store could not be opened: {recorder.error}")
            before, started = calls.total(), time.perf_counter()
            for one in configs:
                recorder.trial_ended(one.trial_id, [Row(one, "search")])
            while recorder.left and recorder.error is None:
                time.sleep(0.01)
            seconds = time.perf_counter() - started
            count = calls.total() - before
            if not recorder.close("FINISHED", HANDED, SECONDS):
                raise RuntimeError(f"the sweep could not be recorded: {recorder.error}")
    return round(count / HANDED), seconds / HANDED


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--passes", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    quiet_mlflow()
    load_dataset(BASE.dataset, asked.data_dir)
    curves = of_trials(asked.data_dir, asked.passes)
    recorded = {runs: recording(runs) for runs in STORES}
    driver = {trials: driver_seconds(trials) for trials in PLANS}
    curves["driver, a trial, by trials of the plan"] = {k: v for k, (v, _) in driver.items()}
    curves["one look at the screen, by trials of the plan"] = {
        k: v for k, (_, v) in driver.items()
    }
    curves["recording a trial, by runs of the store"] = {k: v for k, (_, v) in recorded.items()}
    exponents = {what: exponent(found) for what, found in curves.items()}
    for what, found in curves.items():
        print_table((what, *map(str, found)), [("ms", *(1e3 * one for one in found.values()))])
        print(f"exponent {exponents[what]:+.2f}\n")
    requests = {runs: count for runs, (count, _) in recorded.items()}
    print(f"requests a trial, by runs of the store: {requests}")
    goals = [
        Goal(f"exponent of {f}", exponents[f], MOST_LINEAR) for f in ("steps", "seeds", "cells")
    ]
    goals.append(Goal("exponent of n", exponents["n"], MOST_FLAT))
    goals += [
        Goal(f"exponent of {what}", exponents[what], MOST_DRIVER)
        for what in exponents if what.startswith(("driver", "recording"))
    ]  # fmt: skip
    more = max(requests.values()) - min(requests.values())
    goals.append(Goal("more requests a trial in a full store", more, 0))
    figures: dict[str, object] = {
        "seconds": curves, "exponents": exponents, "requests": requests,
    }  # fmt: skip
    return conclude("growth", figures, goals, asked.threads, asked.check)


if __name__ == "__main__":
    sys.exit(main())
