"""What schedule=fused costs or gains in accuracy against Algorithm 1's, seed by seed.

    python benchmarks/schedules.py [--train-size 1000] [--seeds 10] [--rounds 1000]

The baseline cell of mnist. A round of `alternating` gives every player a minibatch of its own, a
fused one gives all three the same. So the fused schedule is trained three times: for as many
rounds, for as many seconds (by the ratio of a round's times, measured first, in turn), and for as
many images. Every seed starts from the same pretrained players and is scored on test at its best
validation check; the differences are paired by seed. Trials that RESULTS holds are not run again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from benchmarks.common import conclude, in_turn, options, print_table, ratio
from benchmarks.seeds import add_options, differences, lines, scores_of
from kdgan_core import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.precision import matmul_precision
from sweeps.cost import untrained_replica
from sweeps.loading import load_space

PLAYERS = 3  # minibatches of an alternating round to one of a fused round
TIMED_ROUNDS = 30


def base_config(train_size: int, rounds: int) -> TrialConfig:
    """The baseline cell at a training size, with so many rounds."""
    space = load_space("mnist", "sensitivity", train_sizes=(train_size,))
    return space.base_config(train_size).replace(steps=rounds, evaluations=10)


def round_ratio(config: TrialConfig, data_dir: Path | None, passes: int) -> float:
    """Seconds of a fused round to one of an alternating round's."""
    dataset = load_dataset("mnist", data_dir)

    def timed(schedule: str) -> Callable[[], float]:
        own = config.replace(schedule=schedule).replace(seeds=(0,), steps=10**6)
        replica = untrained_replica(own, dataset, "cpu")

        def once() -> float:
            started = time.perf_counter()
            replica.train_to(replica.round + TIMED_ROUNDS)
            return time.perf_counter() - started

        return once

    with matmul_precision(config.matmul_precision, torch.device("cpu")):
        found = in_turn({name: timed(name) for name in ("alternating", "fused")}, passes)
    return ratio(found, "fused", "alternating")


def main() -> int:
    parser = options(__doc__)
    add_options(parser, "schedules")
    parser.add_argument("--train-size", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=9, help="that time a round")
    parser.add_argument("--ratio", type=float, help="of a round's seconds, instead of timing it")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    base = base_config(asked.train_size, asked.rounds)
    share = asked.ratio or round_ratio(base, asked.data_dir, asked.passes)
    fused = base.replace(schedule="fused")
    configs = {
        "alternating": base,
        "fused, as many rounds": fused,
        "fused, as many seconds": fused.replace(steps=round(asked.rounds / share)),
        "fused, as many images": fused.replace(steps=PLAYERS * asked.rounds),
    }
    found = scores_of(configs, asked)
    print(f"mnist n={asked.train_size:,}, {asked.seeds} seeds; a fused round takes {share:.2f} of"
          " an alternating one's time")  # fmt: skip
    head = ("test accuracy", "rounds", "mean", "less alternating's", "95 % t interval, paired",
            "seeds")  # fmt: skip
    rows = [
        (name, str(configs[name].rounds), *rest) for name, *rest in lines(found, "alternating")
    ]
    print_table(head, rows)
    figures: dict[str, object] = {
        "train_size": asked.train_size, "round_ratio": share, "test_accuracy": found,
        "difference": differences(found, "alternating"),
    }  # fmt: skip
    return conclude("schedules", figures, [], 1, asked.check)


if __name__ == "__main__":
    sys.exit(main())
