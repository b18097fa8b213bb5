"""Seconds that a trial costs beyond its training: ours against plain Ray Tune with MLflow.

    python benchmarks/orchestration.py [--check]

Both run trials that do next to nothing, each in a process of its own that starts Ray, runs and
records them in a fresh SQLite store and ends. The cost of a trial is the slope: the difference
between a run with many trials and one with few, over the difference in trials, so that starting
Ray and Python does not count. Ours trains one step of small players on digits; the seconds its
spools say were training are taken off. The baseline is a function trainable with Ray's
`MLflowLoggerCallback` that has the same parameters and reports the same metrics as often.

With --check the exit code is 1 unless ours is at most a twentieth of the baseline and at most
0.1 s.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kdgan_core import TrialConfig
from sweeps.spool import read_spool

ROOT = Path(__file__).resolve().parents[1]
OURS, BASELINE = (20, 220), (4, 24)  # trials of the short and of the long run
MOST_SECONDS, MOST_RATIO = 0.1, 1 / 20
TRIVIAL = (
    "digits", "--mode", "sobol", "--train-size", "50", "--set", "seeds=0", "--set", "steps=1",
    "--set", "pretrain_steps=0", "--set", "evaluations=1", "--skip-preflight",
)  # fmt: skip


def plain_tune(trials: int) -> None:
    """The baseline: `trials` function trials, logged to mlflow.db in the working folder."""
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    metrics = (
        "valid_accuracy", "tau", "loss_discriminator", "rejection_teacher",
        "rejection_classifier", "distillation_teacher", "distillation_classifier",
    )  # fmt: skip
    params = TrialConfig().as_dict()

    def train(config: dict[str, float]) -> None:
        for check in range(2):
            tune.report({name: config["alpha"] + check for name in metrics})

    tune.run(
        train,
        config={**params, "alpha": tune.uniform(0.0, 1.0)},
        num_samples=trials,
        resources_per_trial={"cpu": 1},
        storage_path=str(Path("ray").resolve()),
        callbacks=[MLflowLoggerCallback("sqlite:///mlflow.db", experiment_name="plain")],
        verbose=0,
    )


def run(words: list[str], folder: Path) -> float:
    """Wall seconds of a command.

    Raises:
        subprocess.CalledProcessError: it failed; its output is printed.
    """
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    started = time.perf_counter()
    done = subprocess.run(
        words, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        print(done.stdout)
        done.check_returncode()
    return time.perf_counter() - started


def ours(trials: int) -> tuple[float, float]:
    """Wall seconds of a sweep, and the training seconds in it per worker."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = str(ROOT / "sweeps" / "run.py")
        wall = run([sys.executable, script, *TRIVIAL, "--trials", str(trials)], folder)
        states = [read_spool(path) for path in folder.glob("sweep_runs/*/spool/*.jsonl")]
        assert len(states) == trials and all(s.outcome for s in states)
        cores = len(os.sched_getaffinity(0))
        return wall, sum(state.seconds for state in states) / min(cores, trials)


def baseline(trials: int) -> float:
    """Wall seconds of plain Ray Tune with its MLflow callback."""
    with tempfile.TemporaryDirectory() as name:
        return run([sys.executable, __file__, "--plain", str(trials)], Path(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 where the aim is missed")
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        plain_tune(arguments.plain)
        return 0
    few, many = (ours(trials) for trials in OURS)
    wall, trained = many[0] - few[0], many[1] - few[1]
    per_trial = (wall - trained) / (OURS[1] - OURS[0])
    plain = (baseline(BASELINE[1]) - baseline(BASELINE[0])) / (BASELINE[1] - BASELINE[0])
    print(f"plain Ray Tune with MLflowLoggerCallback: {plain:.3f} s a trial")
    print(f"ours: {per_trial:.3f} s a trial ({OURS[1]} trials in {many[0]:.1f} s)")
    print(f"ratio {per_trial / plain:.4f} (1/{plain / per_trial:.0f}), aim {MOST_RATIO:g} and"
          f" {MOST_SECONDS:g} s")  # fmt: skip
    good = per_trial <= MOST_SECONDS and per_trial <= MOST_RATIO * plain
    return 0 if good or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
