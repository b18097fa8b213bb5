"""Seconds and memory that reading and drawing 10,000 runs take, against a bare search of MLflow.

    python benchmarks/analysis.py [--check] [--runs 10000] [--store FOLDER]

A study of mnist is recorded in a fresh SQLite store: a trial is written as the recorder lays it
out, then copied by SQL with other settings and scores, since writing 10,000 by MLflow takes many
minutes. Each measurement is a process of its own: a bare `mlflow.search_runs` of the experiment,
our first read, our second read from what the first kept, and all figures from that.

With --check the exit code is 1 unless the first read takes at most twice the bare search, the
second less than 2 s, the figures less than 10 s, and none of ours more than 1.5 GiB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # in place of this folder, whose analysis.py is not the package
EXPERIMENT = "mnist"
SIZES, SEEDS = (100, 1000), 5
LEVELS = {
    "alpha": [round(0.1 * step, 1) for step in range(11)],
    "beta": [10.0**power for power in range(-3, 4)],
    "gamma": [10.0**power for power in range(-4, 3)],
}
MOST_RATIO, MOST_SECOND, MOST_FIGURES, MOST_GIB = 2.0, 2.0, 10.0, 1.5
GIB = 2**20  # KiB, the unit of ru_maxrss


def make_store(folder: Path, count: int) -> str:
    """The URI of a store with one study of `count` trials: cuts at two sizes, the rest search."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment(EXPERIMENT, (folder / "artifacts").as_uri())
    facts = {
        "kdgan.kind": "sweep", "sweep_id": "mnist-bench", "mode": "study", "commit": "0" * 40,
        "planned_trials": str(count), "command": "python sweeps/run.py mnist",
    }  # fmt: skip
    parent = client.create_run(experiment, tags=facts).info.run_id
    client.set_terminated(parent)
    first = client.create_run(experiment, tags=_tags(parent, _plan(0, count))).info.run_id
    plan = _plan(0, count)
    metrics, params = _numbers(plan), _params(plan)
    client.log_batch(
        first, [Metric(k, v, 0, 0) for k, v in metrics.items()],
        [Param(k, v) for k, v in params.items()],
    )  # fmt: skip
    client.set_terminated(first)
    with sqlite3.connect(folder / "mlflow.db") as store:
        for number in range(1, count):
            _copy(store, first, parent, _plan(number, count))
    return uri


def _plan(number: int, count: int) -> dict[str, object]:
    """What trial `number` is: the baseline of a size, a level of a factor, or a search trial."""
    cuts = [("baseline", "", "")]
    cuts += [("sensitivity", name, f"{v:g}") for name, levels in LEVELS.items() for v in levels]
    size = SIZES[number % 2]
    at = {"alpha": 0.5, "beta": 1.0, "gamma": 0.01}
    role, factor, level = cuts[number // 2] if number // 2 < len(cuts) else ("search", "", "")
    if factor:
        at[factor] = float(level)
    if role == "search":
        drawn = random.Random(number)
        at = {
            "alpha": drawn.random(), "beta": 10 ** drawn.uniform(-3, 3),
            "gamma": 10 ** drawn.uniform(-4, 2),
        }  # fmt: skip
    return {"number": number, "size": size, "role": role, "factor": factor, "level": level, **at}


def _tags(parent: str, plan: dict[str, object]) -> dict[str, str]:
    row = {key: plan[key] for key in ("role", "factor", "level")}
    trial_id = f"{plan['number']:012x}"
    return {
        "mlflow.parentRunId": parent, "kdgan.kind": "trial", "sweep_id": "mnist-bench",
        "trial_id": trial_id, "cell_id": trial_id, "outcome": "finished",
        "attempt": f"{1_700_000_000 + 10 * int(str(plan['number'])):.3f}",
        "seed_outcomes": json.dumps({str(seed): "finished" for seed in range(SEEDS)}),
        "rows": json.dumps([row]), "device": "cpu", "threads": "1", "node": "bench",
        "processor": "none",
    }  # fmt: skip


def _params(plan: dict[str, object]) -> dict[str, str]:
    fixed = {
        "dataset": "mnist", "method": "kdgan", "train_size": plan["size"],
        "seeds": json.dumps(list(range(SEEDS))), "alpha": plan["alpha"], "beta": plan["beta"],
        "gamma": plan["gamma"], "log10_beta": 0.0, "log10_gamma": 0.0,
        "tau_kind": "exponential", "tau_start": 1.0, "tau_end": 0.1,
        "estimator": "straight_through", "steps": 2000, "batch_size": 50, "matched": "none",
        **{f"field_{number}": number for number in range(24)},
    }  # fmt: skip
    return {name: str(value) for name, value in fixed.items()}


def _numbers(plan: dict[str, object]) -> dict[str, float]:
    """Metrics of a trial: a summary, and each seed's."""
    drawn = random.Random(int(str(plan["number"])))
    low = 0.1 if float(str(plan["gamma"])) > 1 else 0.0
    found: dict[str, float] = {"seconds": 100.0}
    for name in ("test_accuracy", "best_valid_accuracy"):
        values = [0.9 - low + drawn.gauss(0, 0.01) for _ in range(SEEDS)]
        found |= {f"{name}/seed_{seed}": value for seed, value in enumerate(values)}
        found |= {f"{name}{end}": 0.9 for end in ("", "_std", "_n", "_low", "_high")}
    for name in ("train_seconds", "pretrain_seconds", "best_step", "last_valid_accuracy",
                 "pretrained_valid_accuracy"):  # fmt: skip
        found |= {f"{name}/seed_{seed}": drawn.uniform(0.5, 1.0) for seed in range(SEEDS)}
    return found


def _copy(store: sqlite3.Connection, first: str, parent: str, plan: dict[str, object]) -> None:
    """Copies a run's rows in every table, with this trial's tags, parameters and metrics."""
    run = f"{int(str(plan['number'])):032x}"
    for table in ("runs", "tags", "params", "latest_metrics"):
        names = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
        taken = ["?" if name == "run_uuid" else name for name in names]
        store.execute(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(taken)} FROM {table} "
            "WHERE run_uuid = ?",
            (run, first),
        )
    for table, values in (
        ("tags", _tags(parent, plan)), ("params", _params(plan)),
        ("latest_metrics", _numbers(plan)),
    ):  # fmt: skip
        store.executemany(
            f"UPDATE {table} SET value = ? WHERE run_uuid = ? AND key = ?",
            [(value, run, key) for key, value in values.items()],
        )


def bare(uri: str, folder: Path) -> int:
    """The baseline: MLflow's own search."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    return len(mlflow.search_runs(experiment_names=[EXPERIMENT], max_results=50_000))


def read(uri: str, folder: Path) -> int:
    """Our read, first or second."""
    from analysis.cache import Cache
    from analysis.runs import read_runs

    return len(read_runs(EXPERIMENT, uri, cache=Cache(folder / "cache")).trials)


def draw(uri: str, folder: Path) -> int:
    """All figures and tables from what was kept; the read is not in the time."""
    from analysis.cache import Cache
    from analysis.outputs import Readers, Wanted, write_outputs
    from analysis.runs import read_curves, read_images, read_runs

    runs = read_runs(EXPERIMENT, uri, cache=Cache(folder / "cache"))
    readers = Readers(
        lambda ids: read_curves(runs, uri, ids), lambda ids: read_images(runs, uri, ids)
    )
    wanted = Wanted("", frozenset(), "corrected")
    global started
    started = time.perf_counter()
    return len(write_outputs(runs, wanted, folder / "figures", readers).paths)


MEASURED = {"bare": bare, "first": read, "second": read, "figures": draw}
started = 0.0


def measure(name: str, uri: str, folder: Path) -> tuple[float, float]:
    """Seconds without imports, and GiB at most, of a measurement in a process of its own."""
    words = [sys.executable, __file__, "--measure", name, "--uri", uri, "--store", str(folder)]
    done = subprocess.run(words, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory


def _measure_here(name: str, uri: str, folder: Path) -> None:
    # What every command imports is not part of reading.
    import mlflow  # noqa: F401

    import analysis.outputs
    import analysis.runs  # noqa: F401

    global started
    started = time.perf_counter()
    MEASURED[name](uri, folder)
    seconds = time.perf_counter() - started
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 unless the limits hold")
    parser.add_argument("--runs", type=int, default=10_000, help="trials of the store")
    parser.add_argument("--store", type=Path, help="folder for the store; kept")
    parser.add_argument("--measure", choices=MEASURED, help=argparse.SUPPRESS)
    parser.add_argument("--uri", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        _measure_here(asked.measure, asked.uri, asked.store)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.store or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        uri = make_store(folder, asked.runs)
        found = {name: measure(name, uri, folder) for name in MEASURED}
    seconds = {name: one for name, (one, _) in found.items()}
    memory = max(one for name, (_, one) in found.items() if name != "bare")
    ratio = seconds["first"] / seconds["bare"]
    print(f"{asked.runs:,} runs")
    print(f"bare mlflow.search_runs {seconds['bare']:8.2f} s")
    print(f"first read              {seconds['first']:8.2f} s, {ratio:.2f} times that")
    print(f"second read             {seconds['second']:8.2f} s")
    print(f"figures and tables      {seconds['figures']:8.2f} s")
    print(f"peak memory             {memory:8.2f} GiB, of the bare search {found['bare'][1]:.2f}")
    is_good = (
        ratio <= MOST_RATIO
        and seconds["second"] < MOST_SECOND
        and seconds["figures"] < MOST_FIGURES
        and memory < MOST_GIB
    )
    return 0 if is_good or not asked.check else 1


if __name__ == "__main__":
    sys.exit(main())
