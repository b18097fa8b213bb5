"""What schedule=fused costs or gains in accuracy against Algorithm 1's, seed by seed.

    python benchmarks/schedules.py [--train-size 1000] [--seeds 10] [--rounds 1000]

The baseline cell of mnist. A round of `alternating` gives every player a minibatch of its own, a
fused one gives all three the same. So the fused schedule is trained three times: for as many
rounds, for as many seconds (by the ratio of a round's times, measured first, in turn), and for as
many images. Every seed starts from the same pretrained players and is scored on test at its best
validation check; the differences are paired by seed. Trials that RESULTS holds are not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from analysis.stats import t_interval
from benchmarks.common import conclude, in_turn, print_table, ratio
from kdgan_core import TrialConfig, run_trial
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


def train(values: Mapping[str, object], data_dir: Path | None, cache_dir: Path) -> float:
    """Test accuracy of a config of one seed; NaN where it diverged."""
    torch.set_num_threads(1)
    result = run_trial(
        TrialConfig.from_dict(values), data_dir=data_dir, cache_dir=cache_dir, device="cpu"
    )
    score = result.seeds[0].test_score
    return float("nan") if score is None else score


def scores_of(
    configs: Mapping[str, TrialConfig], asked: argparse.Namespace
) -> dict[str, dict[int, float]]:
    """Name -> seed -> test accuracy, from RESULTS or from training, which adds to it."""
    known: dict[str, float] = {}
    if asked.results.exists():
        lines = map(json.loads, asked.results.read_text().splitlines())
        known = {line["trial_id"]: line["test_accuracy"] for line in lines}
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[int, float]] = {name: {} for name in configs}
    with ProcessPoolExecutor(asked.processes) as pool, asked.results.open("a") as log:
        running = {}
        for seed in range(asked.seeds):
            for name, config in configs.items():
                own = config.replace(seeds=(seed,))
                if own.trial_id in known:
                    found[name][seed] = known[own.trial_id]
                    continue
                job = pool.submit(train, own.as_dict(), asked.data_dir, asked.cache_dir)
                running[job] = (name, seed, own)
        for done, job in enumerate(as_completed(running), start=1):
            name, seed, own = running[job]
            found[name][seed] = job.result()
            line = {"trial_id": own.trial_id, "name": name, "train_size": own.train_size,
                    "steps": own.steps, "seed": seed, "test_accuracy": job.result()}  # fmt: skip
            log.write(json.dumps(line) + "\n")
            log.flush()
            print(f"{done} of {len(running)} trainings", file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train-size", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=9, help="that time a round")
    parser.add_argument("--ratio", type=float, help="of a round's seconds, instead of timing it")
    parser.add_argument("--processes", type=int, default=2, help="one thread each")
    parser.add_argument("--results", type=Path, default=Path("schedules.jsonl"))
    parser.add_argument("--cache-dir", type=Path, default=Path("schedules-cache"))
    parser.add_argument("--data-dir", type=Path, default=None)
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
    rows = []
    differences: dict[str, list[float]] = {}
    for name, scores in found.items():
        less = t_interval([scores[seed] - found["alternating"][seed] for seed in scores])
        differences[name] = [less.mean, less.low, less.high]
        is_difference = name != "alternating" and len(scores) > 1
        words = f"[{less.low:+.4f}, {less.high:+.4f}]" if is_difference else ""
        rows.append(
            (name, str(configs[name].rounds), f"{statistics.fmean(scores.values()):.4f}",
             f"{less.mean:+.4f}", words)
        )  # fmt: skip
    print(f"mnist n={asked.train_size:,}, {asked.seeds} seeds; a fused round takes {share:.2f} of"
          " an alternating one's time")  # fmt: skip
    head = ("test accuracy", "rounds", "mean", "less alternating's", "95 % t interval, paired")
    print_table(head, rows)
    figures = {"train_size": asked.train_size, "seeds": asked.seeds, "round_ratio": share,
               "difference": differences}  # fmt: skip
    return conclude("schedules", figures, [], 1, False)


if __name__ == "__main__":
    sys.exit(main())
