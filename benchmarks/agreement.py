"""Test accuracy of the naive program and of ours, seed by seed, on the same images.

    python benchmarks/agreement.py [--check] [--seeds 10] [--steps 500] [--pretrain-steps 1500]

mnist at n=1,000, the baseline cell. A seed draws the same training, validation and test images in
both programs; initial weights, minibatches and samples differ, so the difference is that of two
independent trainings on the same images. Both score C at its best validation check. What makes the
product fast (resident images, other draws, matrix products on the CPU's own terms, the order of
pooling, bias and ReLU, fused Adam) is all on one side: the difference is what it does to accuracy.
Trainings that RESULTS holds are not run again.

With --check the exit code is 1 unless the mean difference is at most half a point under every
schedule.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from benchmarks import naive
from benchmarks.common import STUDY_STEPS, Goal, conclude, mnist_config, options, print_table
from benchmarks.seeds import add_options, differences, lines, scores_of
from kdgan_core import TrialConfig
from kdgan_core.names import SCHEDULES

MOST_DIFFERENCE = 0.005  # of the mean accuracy, either way


def naive_accuracy(config: TrialConfig, data_dir: Path | None, cache_dir: Path) -> float:
    """Test accuracy of the naive program under one seed; it keeps no players."""
    del cache_dir
    return naive.train_seed(config, config.seeds[0], data_dir).test


def main() -> int:
    parser = options(__doc__)
    add_options(parser, "agreement")
    parser.add_argument("--steps", type=int, default=STUDY_STEPS)
    parser.add_argument("--pretrain-steps", type=int, default=1500)
    asked = parser.parse_args()
    config = mnist_config(steps=asked.steps, pretrain_steps=asked.pretrain_steps)
    arms = {"naive": config} | {name: config.replace(schedule=name) for name in SCHEDULES}
    scores = scores_of(arms, asked, {"naive": naive_accuracy})
    print(f"mnist n=1,000, {asked.steps} steps after {asked.pretrain_steps} of pretraining")
    head = ("test accuracy", "mean", "less naive's", "95 % t interval, paired", "seeds")
    print_table(head, lines(scores, "naive"))
    found = differences(scores, "naive")
    goals = [
        Goal(f"{name} against naive", abs(found[name][0]), MOST_DIFFERENCE) for name in SCHEDULES
    ]
    figures: dict[str, object] = {"test_accuracy": scores, "difference": found}
    return conclude("agreement", figures, goals, 1, asked.check)


if __name__ == "__main__":
    sys.exit(main())
