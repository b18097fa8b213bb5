"""What a step would take if it were nothing but its matrix products at this machine's best rate.

    python benchmarks/floor.py [--check]

The floating-point operations of a round are counted by torch's counter, which sees matrix products
and convolutions, and divided by the rate of one large float32 product on as many threads. No step
can be faster with these operations; augmentation, sampling, Adam and pooling come on top, and
small products do not reach the rate. benchmarks/step.py holds the measured step against it.

With --check the exit code is 1 unless the fused round has fewer operations than Algorithm 1's.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from benchmarks.common import (
    Goal,
    conclude,
    mnist_config,
    options,
    print_table,
)
from kdgan_core.config import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.names import SCHEDULES
from kdgan_core.precision import matmul_precision
from sweeps.cost import untrained_replica

SIDES = (512, 1024, 2048)  # of the square products whose best rate counts
CPU = torch.device("cpu")


def gemm_rate(precision: str, passes: int = 7) -> float:
    """Floating-point operations a second of a large product: the best size's median.

    Args:
        precision: as `TrialConfig.matmul_precision`.
        passes: over every size, after one that warms up.
    """
    rates = []
    with matmul_precision(precision, CPU):
        for side in SIDES:
            one, other = torch.randn(2, side, side)
            seconds = []
            for _ in range(1 + passes):
                started = time.perf_counter()
                one @ other
                seconds.append(time.perf_counter() - started)
            rates.append(2.0 * side**3 / statistics.median(seconds[1:]))
    return max(rates)


def step_operations(config: TrialConfig, data_dir: Path | None) -> dict[str, int]:
    """Kind of operation -> floating-point operations in one round of the config's first seed."""
    replica = untrained_replica(config, load_dataset(config.dataset, data_dir), "cpu")
    replica.train_to(1)
    with FlopCounterMode(display=False) as counter:
        replica.train_to(2)
    counts = counter.get_flop_counts()["Global"]
    return {str(operation): int(count) for operation, count in counts.items()}


def main() -> int:
    parser = options(__doc__)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    config = mnist_config()
    rate = gemm_rate(config.matmul_precision)
    found = {
        name: step_operations(config.replace(schedule=name), asked.data_dir) for name in SCHEDULES
    }
    totals = {name: sum(counts.values()) for name, counts in found.items()}
    print(f"large products: {rate / 1e9:.0f} GFLOP/s on {asked.threads} threads, mnist n=1,000")
    print_table(
        ("schedule", "GFLOP a step", "floor, ms", "largest part"),
        [
            (name, total / 1e9, 1e3 * total / rate, max(found[name], key=found[name].__getitem__))
            for name, total in totals.items()
        ],
    )
    share = totals["fused"] / totals["alternating"]
    goals = [Goal("operations of a fused step, of alternating's", share, 1.0)]
    figures: dict[str, object] = {
        "gemm_gflops": rate / 1e9,
        "step_gflop": {name: total / 1e9 for name, total in totals.items()},
        "floor_ms": {name: 1e3 * total / rate for name, total in totals.items()},
    }
    return conclude("floor", figures, goals, asked.threads, asked.check)


if __name__ == "__main__":
    sys.exit(main())
