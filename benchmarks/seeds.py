"""Test accuracy seed by seed, several trainings at a time; what was found is not trained again."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from analysis.stats import t_interval
from kdgan_core import TrialConfig, run_trial

Scores = dict[str, dict[int, float]]  # name of an arm -> seed -> test accuracy
Train = Callable[[TrialConfig, Path | None, Path], float]  # of one seed: config, data, cache


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Options of `scores_of`; name: of the benchmark."""
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2, help="one thread each")
    parser.add_argument("--results", type=Path, default=Path(f"{name}.jsonl"))
    parser.add_argument("--cache-dir", type=Path, default=Path(f"{name}-cache"))


def own_accuracy(config: TrialConfig, data_dir: Path | None, cache_dir: Path) -> float:
    """Test accuracy of a trial of one seed; NaN where it diverged."""
    result = run_trial(config, data_dir=data_dir, cache_dir=cache_dir, device="cpu")
    score = result.seeds[0].test_score
    return float("nan") if score is None else score


def scores_of(
    configs: Mapping[str, TrialConfig], asked: argparse.Namespace,
    others: Mapping[str, Train] | None = None,
) -> Scores:  # fmt: skip
    """Accuracies of every arm under every seed, from RESULTS or from training, which adds to it.

    Args:
        configs: arm -> what it trains.
        asked: of `add_options`, and data_dir.
        others: arm -> who trains it, where not the product.
    """
    known: dict[tuple[str, str], float] = {}
    if asked.results.exists():
        for line in map(json.loads, asked.results.read_text().splitlines()):
            known[line["name"], line["trial_id"]] = line["test_accuracy"]
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    found: Scores = {name: {} for name in configs}
    with ProcessPoolExecutor(asked.processes) as pool, asked.results.open("a") as log:
        running = {}
        for seed in range(asked.seeds):
            for name, config in configs.items():
                own = config.replace(seeds=(seed,))
                if (name, own.trial_id) in known:
                    found[name][seed] = known[name, own.trial_id]
                    continue
                train = (others or {}).get(name, own_accuracy)
                job = pool.submit(_on_one_thread, train, own, asked.data_dir, asked.cache_dir)
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


def _on_one_thread(
    train: Train, config: TrialConfig, data_dir: Path | None, cache_dir: Path
) -> float:
    torch.set_num_threads(1)
    return train(config, data_dir, cache_dir)


def differences(scores: Scores, base: str) -> dict[str, tuple[float, float, float]]:
    """Arm -> its accuracy less that of `base`, paired by seed: mean and 95 % t interval."""
    found = {}
    for name, own in scores.items():
        less = t_interval([own[seed] - scores[base][seed] for seed in own])
        found[name] = (less.mean, less.low, less.high)
    return found


def lines(scores: Scores, base: str) -> list[tuple[str, ...]]:
    """Rows of a table: arm, mean, less that of `base`, its interval, seed by seed."""
    rows = []
    for name, (mean, low, high) in differences(scores, base).items():
        own = scores[name]
        apart = name != base and len(own) > 1
        rows.append((
            name, f"{statistics.fmean(own.values()):.4f}", f"{mean:+.4f}",
            f"[{low:+.4f}, {high:+.4f}]" if apart else "",
            " ".join(f"{own[seed]:.4f}" for seed in sorted(own)),
        ))  # fmt: skip
    return rows
