"""Seconds of a whole trial of one seed, players in the cache, against the naive program's.

    python benchmarks/trial.py [--check] [--steps 500] [--pretrain-steps 1500] [--passes 1]

mnist at n=1,000, minibatches of 50, the paper's players, one thread. A trial of the product reads
its pretrained players from the cache, as all but the first of a study do; the naive program
pretrains its own. Both have 20 validation checks and look at the test images once. The data set
is in memory and the modules are imported before either begins. The default is a trial of the
study of benchmarks/sweep.py; `--steps 3000` is that of the space file, where pretraining weighs
less.

With --check the exit code is 1 unless a trial under the fastest schedule takes at most a fifth of
the naive one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from benchmarks import naive
from benchmarks.common import (
    STUDY_STEPS,
    Goal,
    conclude,
    in_turn,
    medians,
    mnist_config,
    options,
    print_table,
    ratio,
    spread,
)
from kdgan_core import run_trial
from kdgan_core.config import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.names import SCHEDULES

MOST = 1 / 5  # of the naive trial


class Trials:
    """Runs trials of both programs and keeps their test accuracies.

    Attributes:
        scores: program -> test accuracies in [0, 1], a pass each.
        seconds: schedule -> part of the last trial -> its seconds.
    """

    def __init__(self, config: TrialConfig, data_dir: Path | None, cache_dir: Path) -> None:
        self.config, self.data_dir, self.cache_dir = config, data_dir, cache_dir
        self.scores: dict[str, list[float]] = {}
        self.seconds: dict[str, dict[str, float]] = {}

    def naive(self) -> float:
        """Seconds of the naive program's trial."""

        def ignore(metrics: dict[str, float]) -> None:
            """A validation check's metrics are made, as in a sweep, and go nowhere."""

        found = naive.train_seed(self.config, self.config.seeds[0], self.data_dir, ignore)
        self.scores.setdefault("naive", []).append(found.test)
        return found.seconds

    def own(self, schedule: str) -> Callable[[], float]:
        """A function that returns seconds of the product's trial."""
        config = self.config.replace(schedule=schedule)

        def measure() -> float:
            started = time.perf_counter()
            found = run_trial(
                config, data_dir=self.data_dir, cache_dir=self.cache_dir, device="cpu"
            )
            seconds = time.perf_counter() - started
            (seed,) = found.seeds
            self.scores.setdefault(schedule, []).append(seed.test_score or 0.0)
            self.seconds[schedule] = {
                "prepare": found.prepare_seconds, "steps": seed.train_seconds,
                "checks and test": found.seconds - found.prepare_seconds - seed.train_seconds,
                "pretraining, not counted": seed.pretrain_seconds,
            }  # fmt: skip
            return seconds

        return measure


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=STUDY_STEPS)
    parser.add_argument("--pretrain-steps", type=int, default=1500)
    parser.add_argument("--passes", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    config = mnist_config(steps=asked.steps, pretrain_steps=asked.pretrain_steps, seeds=(0,))
    load_dataset(config.dataset, asked.data_dir)
    with tempfile.TemporaryDirectory() as cache:
        trials = Trials(config, asked.data_dir, Path(cache))
        fill = config.replace(steps=1, evaluations=1)  # the players of the seed, once
        run_trial(fill, data_dir=asked.data_dir, cache_dir=Path(cache), device="cpu")
        measures: dict[str, Callable[[], float]] = {name: trials.own(name) for name in SCHEDULES}
        found = in_turn({"naive": trials.naive, **measures}, asked.passes, warm_up=0)
    seconds = medians(found)
    ratios = {name: ratio(found, name, "naive") for name in measures}
    print(
        f"mnist n=1,000, one seed, {asked.steps} steps after {asked.pretrain_steps} of"
        f" pretraining, {asked.threads} threads"
    )
    print_table(
        ("trial", "seconds", "passes", "naive / this", "test accuracy"),
        [
            (name, seconds[name], spread(values), f"{1 / ratios.get(name, 1.0):.2f}",
             f"{sum(trials.scores[name]) / len(trials.scores[name]):.4f}")
            for name, values in found.items()
        ],
    )  # fmt: skip
    for name, parts in trials.seconds.items():
        print(f"{name}: " + ", ".join(f"{part} {one:.1f} s" for part, one in parts.items()))
    best = min(ratios, key=ratios.__getitem__)
    goals = [Goal(f"trial ({best}), of naive's", ratios[best], MOST)]
    figures: dict[str, object] = {
        "steps": asked.steps, "pretrain_steps": asked.pretrain_steps, "trial_s": seconds,
        "ratio": ratios, "parts_s": trials.seconds, "test_accuracy": trials.scores,
    }  # fmt: skip
    return conclude("trial", figures, goals, asked.threads, asked.check)


if __name__ == "__main__":
    sys.exit(main())
