"""Test accuracy of the naive program and of ours, seed by seed, on the same images.

    python benchmarks/agreement.py [--check] [--seeds 5] [--steps 500] [--pretrain-steps 1500]

mnist at n=1,000, the baseline cell. A seed draws the same training, validation and test images in
both programs; initial weights, minibatches and samples differ, so the difference is that of two
independent trainings on the same images. Both score C at its best validation check.

With --check the exit code is 1 unless the mean difference is at most half a point under every
schedule.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from analysis.stats import t_interval
from benchmarks import naive
from benchmarks.common import (
    STUDY_STEPS,
    Goal,
    conclude,
    mnist_config,
    options,
    print_table,
)
from kdgan_core import run_trial
from kdgan_core.names import SCHEDULES

MOST_DIFFERENCE = 0.005  # of the mean accuracy, either way


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STUDY_STEPS)
    parser.add_argument("--pretrain-steps", type=int, default=1500)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    seeds = tuple(range(asked.seeds))
    config = mnist_config(steps=asked.steps, pretrain_steps=asked.pretrain_steps, seeds=seeds)
    found = {"naive": [naive.train_seed(config, seed, asked.data_dir).test for seed in seeds]}
    with tempfile.TemporaryDirectory() as cache:
        for name in SCHEDULES:
            own = config.replace(schedule=name)
            result = run_trial(own, data_dir=asked.data_dir, cache_dir=Path(cache), device="cpu")
            found[name] = [seed.test_score or 0.0 for seed in result.seeds]
    rows, goals = [], []
    differences: dict[str, list[float]] = {}
    for name, scores in found.items():
        pairs = zip(scores, found["naive"], strict=True)
        less = t_interval([one - other for one, other in pairs])
        differences[name] = [less.mean, less.low, less.high]
        if name != "naive":
            goals.append(Goal(f"{name} against naive", abs(less.mean), MOST_DIFFERENCE))
        rows.append(
            (name, f"{statistics.fmean(scores):.4f}", f"{less.mean:+.4f}",
             f"[{less.low:+.4f}, {less.high:+.4f}]", " ".join(f"{s:.4f}" for s in scores))
        )  # fmt: skip
    print(f"mnist n=1,000, {asked.steps} steps after {asked.pretrain_steps} of pretraining")
    print_table(("test accuracy", "mean", "less naive's", "95 % t interval", "seeds"), rows)
    figures: dict[str, object] = {"test_accuracy": found, "difference": differences}
    return conclude("agreement", figures, goals, asked.threads, asked.check)


if __name__ == "__main__":
    sys.exit(main())
