"""Trials per hour of two machines against one, and what a sweep's head can feed.

    sudo python benchmarks/scaling.py [--check]

Makes two hosts in namespaces on this machine (tests/cluster/hosts.py), each with a core of its
own, and brings up cluster/onprem.yaml on one of them, then on both. The same plan of digits trials
runs on either; what counts is the time from the first trial's start to the last one's end, so that
starting Ray and the preflight do not. Then the head's own work is measured on its own core:
seconds of the driver for a trial that does nothing, and runs a second that the tracking server
takes in. From these a projection to 8, 64 and 512 GPUs follows; it is arithmetic, not a
measurement.

With --check the exit code is 1 unless two machines run 1.85 times as many trials per hour.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

import hosts  # noqa: E402

LEAST_RATIO = 1.85
GPUS = (8, 64, 512)
TRIALS_A_GPU = 4
TRIAL_SECONDS = 60.0  # assumed of a trial on a quarter of a GPU
PLAN = (
    "digits", "--mode", "sobol", "--train-size", "50", "--trials", "24", "--set", "seeds=0,1",
    "--set", "steps=900",
)  # fmt: skip
NOTHING = (
    "digits", "--mode", "sobol", "--train-size", "50", "--trials", "64", "--set", "seeds=0",
    "--set", "steps=1", "--set", "pretrain_steps=0", "--set", "evaluations=1",
)  # fmt: skip


class Swept(NamedTuple):
    """A sweep that has run.

    Attributes:
        name: of its folder.
        trials: how many.
        seconds: from the first one's start to the last one's end.
        trained: seconds of all trials together.
    """

    name: str
    trials: int
    seconds: float
    trained: float


class Cluster:
    """cluster/onprem.yaml on the first `machines` hosts of a network, one core each."""

    def __init__(self, net: hosts.Hosts, machines: int) -> None:
        self.net, self.machines = net, machines
        self.home = net.folder / f"laptop-{machines}"
        self.home.mkdir()
        self.file = net.folder / f"{machines}.yaml"
        workers = [f"{hosts.NETWORK}.{number}" for number in range(3, 2 + machines)]
        text = (ROOT / "cluster" / "onprem.yaml").read_text()
        for old, new in (
            ("kdgan-onprem", f"kdgan-scaling-{machines}-{os.getpid()}"),
            ("192.0.2.10", f"{hosts.NETWORK}.2"),
            ("[192.0.2.11]", json.dumps(workers)),
            ("ssh_user: ubuntu", "ssh_user: root"),
            ("~/.ssh/id_ed25519", str(net.key)),
            ("/mnt/kdgan", hosts.STORAGE),
            ("ray start ", "ray start --num-cpus=1 "),
        ):
            assert old in text, old
            text = text.replace(old, new)
        self.file.write_text(text)

    def run(self, *words: str) -> str:
        """What a command of the repository prints that works."""
        environment = {**os.environ, "HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "KDGAN_DATA"):
            environment.pop(name, None)
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stdout[-3000:]}")
        return done.stdout

    def sweep(self, plan: Sequence[str]) -> Swept:
        """Runs a plan."""
        before = set(self.net.storage.glob("sweep_runs/*/spool/*.jsonl"))
        self.run("sweeps/run.py", *plan, "--on", str(self.file))
        starts, ends, trained = [], [], 0.0
        for path in set(self.net.storage.glob("sweep_runs/*/spool/*.jsonl")) - before:
            events = [json.loads(line) for line in path.read_text().splitlines()]
            starts.append(events[0]["time"])
            ends.append(events[-1]["time"])
            trained += events[-1]["seconds"]
        return Swept(path.parents[1].name, len(ends), max(ends) - min(starts), trained)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    why = hosts.lacking()
    if why:
        raise SystemExit(f"hosts cannot be made here: {why}")
    stamp = Path(sys.prefix) / "kdgan-requirements"
    wanted = hashlib.sha256((ROOT / "requirements.txt").read_bytes()).hexdigest()
    stamp.write_text(wanted + "\n")
    rates = {}
    overhead = intake = 0.0
    for machines in (1, 2):
        with hosts.network() as net:
            for number in range(machines):
                net.start(("head", "worker")[number], 2 + number, cpus=str(number))
            cluster = Cluster(net, machines)
            cluster.run("cluster/connect.py", "up", str(cluster.file))
            plan = cluster.sweep(PLAN)
            rates[machines] = 3600.0 * plan.trials / plan.seconds
            print(f"{machines} machines: {plan.trials} trials in {plan.seconds:.0f} s,"
                  f" {rates[machines]:.0f} an hour", flush=True)  # fmt: skip
            if machines == 1:
                idle = cluster.sweep(NOTHING)
                overhead = max(0.0, idle.seconds - idle.trained) / idle.trials
                intake = runs_a_second(cluster, idle.name, idle.trials)
            cluster.run("cluster/connect.py", "down", str(cluster.file))
    ratio = rates[2] / rates[1]
    print(f"two machines against one: {ratio:.2f} times the trials per hour")
    print(
        f"the head: {overhead:.3f} s of its driver a trial, {intake:.1f} runs a second to MLflow"
    )
    columns = ("GPUs", "trials/h wanted", "driver feeds", "MLflow takes")
    print(f"\n{columns[0]:>5}", *(f"{one:>15}" for one in columns[1:]), " first limit")
    limits = {"driver": 3600.0 / overhead, "MLflow": 3600.0 * intake}
    for gpus in GPUS:
        wanted_rate = gpus * TRIALS_A_GPU * 3600.0 / TRIAL_SECONDS
        name = min(limits, key=lambda one: limits[one])
        first = name if limits[name] < wanted_rate else "none: the GPUs themselves"
        numbers = (wanted_rate, limits["driver"], limits["MLflow"])
        print(f"{gpus:5}", *(f"{one:15,.0f}" for one in numbers), f" {first}")
    print(f"(projected: {TRIALS_A_GPU} trials a GPU at a time, {TRIAL_SECONDS:.0f} s each)")
    print(json.dumps({"ratio": ratio, "driver_seconds": overhead, "runs_per_second": intake,
                      "trials_per_hour": rates}))  # fmt: skip
    return int(check and ratio < LEAST_RATIO)


def runs_a_second(cluster: Cluster, sweep: str, trials: int) -> float:
    """Runs that the head's server takes in when a finished sweep is recorded anew."""
    again = (
        f". ~/.kdgan && rm -rf /tmp/again && mkdir /tmp/again && cd /tmp/again && cp -r"
        f" $KDGAN_STORAGE/sweep_runs/{sweep} second"
        f" && sed -i 's/{sweep}/second/' second/sweep.json"
        " && python ~/kdgan/sweeps/backfill.py --storage . --tracking-uri $MLFLOW_TRACKING_URI"
    )
    started = time.monotonic()
    done = cluster.net.ssh(f"{hosts.NETWORK}.2", again)
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"recording anew failed: {done.stdout}{done.stderr}")
    return trials / seconds


if __name__ == "__main__":
    sys.exit(main())
