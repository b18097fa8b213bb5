"""Time of one step (an update of D, of T and of C) against the naive program's, on one thread.

    python benchmarks/step.py [--check] [--passes 15] [--rounds 20] [--profile]

mnist at n=1,000, minibatches of 50, the paper's players (LeNet 20-20-500, MLP 800-800). The naive
program and every schedule are timed in turn, all in every pass; a ratio is the median of the
passes' ratios. Validation and pretraining are not in a step. The floor is that of
benchmarks/floor.py, measured before and after.

With --check the exit code is 1 unless a step of Algorithm 1 takes at most 1/1.6 of the naive
program's, a fused one at most 1/3.4, and either at most 4 times its floor.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from benchmarks import naive
from benchmarks.common import (
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
from benchmarks.floor import CPU, gemm_rate, step_operations
from kdgan_core.config import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.names import SCHEDULES
from kdgan_core.precision import matmul_precision
from sweeps.cost import untrained_replica

MOST = {"alternating": 1 / 1.6, "fused": 1 / 3.4}  # of the naive step
MOST_FLOORS = 4.0
PROFILED_ROUNDS = 20
PROFILE_LINES = 30

Rounds = Callable[[int], None]


def naive_rounds(config: TrialConfig, data_dir: Path | None) -> Rounds:
    """A function that plays so many rounds of the naive game."""
    torch.manual_seed(0)
    parts = naive.load_parts(config, config.seeds[0], data_dir)
    players = {role: naive.new_player(role, config) for role in naive.ROLES}
    game = naive.Game(config, players, parts.train)

    def play(rounds: int) -> None:
        for _ in range(rounds):
            game.play()

    return play


def own_rounds(config: TrialConfig, data_dir: Path | None) -> Rounds:
    """A function that plays so many rounds of the product's game."""
    replica = untrained_replica(config, load_dataset(config.dataset, data_dir), "cpu")

    def play(rounds: int) -> None:
        with matmul_precision(config.matmul_precision, CPU):
            replica.train_to(replica.round + rounds)

    return play


def timed(play: Rounds, rounds: int) -> Callable[[], float]:
    """A function that returns seconds of a round, mean over some."""

    def measure() -> float:
        started = time.perf_counter()
        play(rounds)
        return (time.perf_counter() - started) / rounds

    return measure


def print_profile(name: str, play: Rounds) -> None:
    """Where the time of a step goes, by torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as watched:
        play(PROFILED_ROUNDS)
    events = sorted(watched.key_averages(), key=lambda one: -one.self_cpu_time_total)
    print(f"\n{name}: where a step's time goes")
    print_table(
        ("operation", "ms a step", "calls"),
        [
            (one.key, one.self_cpu_time_total / PROFILED_ROUNDS / 1e3, one.count / PROFILED_ROUNDS)
            for one in events[:PROFILE_LINES]
        ],
    )


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--passes", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=20, help="timed at once")
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    steps = max(3000, (asked.passes + 2) * asked.rounds)
    configs = {name: mnist_config(steps=steps).replace(schedule=name) for name in SCHEDULES}
    plays = {"naive": naive_rounds(mnist_config(steps=steps), asked.data_dir)}
    plays |= {name: own_rounds(config, asked.data_dir) for name, config in configs.items()}
    if asked.profile:
        for name, play in plays.items():
            play(5)
            print_profile(name, play)
        return 0
    precision = configs["alternating"].matmul_precision
    rates = [gemm_rate(precision)]
    found = in_turn({n: timed(play, asked.rounds) for n, play in plays.items()}, asked.passes)
    rates.append(gemm_rate(precision))
    seconds, rate = medians(found), max(rates)
    ratios = {name: ratio(found, name, "naive") for name in configs}
    operations = {n: sum(step_operations(c, asked.data_dir).values()) for n, c in configs.items()}
    floors = {name: seconds[name] / (operations[name] / rate) for name in configs}
    print(f"mnist n=1,000, batch 50, {asked.threads} threads; products {rate / 1e9:.0f} GFLOP/s")
    print_table(
        ("step", "ms", "passes", "naive / this", "of its floor", "GFLOP"),
        [
            (name, f"{1e3 * seconds[name]:.1f}", spread([1e3 * one for one in found[name]]),
             f"{1 / ratios.get(name, 1.0):.2f}", floors.get(name, "-"),
             operations[name] / 1e9 if name in operations else "-")
            for name in plays
        ],
    )  # fmt: skip
    goals = [Goal(f"{n} step, of naive's", one, MOST[n]) for n, one in ratios.items()]
    goals += [Goal(f"{n} step, of its floor", one, MOST_FLOORS) for n, one in floors.items()]
    figures: dict[str, object] = {
        "step_ms": {name: 1e3 * one for name, one in seconds.items()}, "ratio": ratios,
        "floors": floors, "gemm_gflops": rate / 1e9,
    }  # fmt: skip
    return conclude("step", figures, goals, asked.threads, asked.check)


if __name__ == "__main__":
    sys.exit(main())
