"""What stacking replicas saves: kernel launches, and on a GPU time.

    python benchmarks/pack.py [--data-dir DIR] [--replicas 1,2,4,8,16] [--json FILE]

Trains R replicas of KDGAN (MNIST, n=1,000, batch 50, the paper's players; one cell, R seeds) one
by one and as a stack, with either schedule and either form of the stacked convolutions. Printed
for each: launches of a round over R (torch's operators that compute), milliseconds
of a round over R, and their ratio to training one by one, measured in turns in the same run.

On a CPU the launches are what counts: a stack of large R saves nearly all of them, and no time,
since a core has nothing to wait for. On a GPU (the command is the same) the line "graph" has the
rounds as CUDA graphs, replayed with one launch; the rate in the last columns is the result.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from benchmarks.kernels import count_kernels
from kdgan_core.config import TrialConfig
from kdgan_core.data import Dataset, load_dataset
from kdgan_core.names import SCHEDULES
from kdgan_core.precision import matmul_precision
from kdgan_core.replica import Replica
from kdgan_core.stacked.players import CONVOLUTIONS
from kdgan_core.stacked.stack import EAGER_ROUNDS, Stack
from sweeps.environment import hardware, package_versions

COUNTED = 10  # rounds whose launches are counted: as between two checks, some belong to none


class Line(NamedTuple):
    """Of one way to train R replicas.

    Attributes:
        launches: of a round, over R; 1 / R for a graph, which is launched as one.
        milliseconds: of a round, over R.
    """

    schedule: str
    replicas: int
    way: str
    launches: float
    milliseconds: float


def make_replicas(config: TrialConfig, count: int, dataset: Dataset, device: str) -> list[Replica]:
    """Untrained replicas of so many seeds."""
    with tempfile.TemporaryDirectory() as cache:
        return [
            Replica(config, seed, dataset, Path(cache), torch.device(device))
            for seed in range(count)
        ]


def ways(replicas: Callable[[], list[Replica]], device: str) -> dict[str, Callable[[int], None]]:
    """Way -> a function that trains R replicas of its own by so many rounds."""
    single = replicas()

    def one_by_one(rounds: int) -> None:
        for replica in single:
            replica.train_to(replica.round + rounds)

    found: dict[str, Callable[[int], None]] = {"one by one": one_by_one}
    for convolution in CONVOLUTIONS:
        found[convolution] = functools.partial(
            _train, Stack(replicas(), convolution, use_graph=False)
        )
        if device == "cuda":
            graph = Stack(replicas(), convolution)
            found[f"{convolution}, graph"] = functools.partial(_train, graph)
    return found


def _train(stack: Stack, rounds: int) -> None:
    stack.train_to(stack.round + rounds)


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(
    config: TrialConfig, count: int, dataset: Dataset, device: str, rounds: int, passes: int
) -> list[Line]:
    """All ways with R replicas, timed in turns; medians over the passes."""
    on = torch.device(device)
    trained = ways(lambda: make_replicas(config, count, dataset, device), device)
    launches: dict[str, float] = {}
    seconds: dict[str, list[float]] = {way: [] for way in trained}
    with matmul_precision(config.matmul_precision, on):
        for way, train in trained.items():
            train(EAGER_ROUNDS + 1)
            made = count_kernels(functools.partial(train, COUNTED))
            launches[way] = 1.0 if way.endswith("graph") else made.total() / COUNTED
        for _ in range(passes):
            for way, train in trained.items():
                synchronize(on)
                started = time.perf_counter()
                train(rounds)
                synchronize(on)
                seconds[way].append((time.perf_counter() - started) / rounds)
    return [
        Line(config.schedule, count, way, launches[way] / count,
             1e3 * statistics.median(seconds[way]) / count)
        for way in trained
    ]  # fmt: skip


@click.command(help=__doc__)
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="KDGAN_DATA")
@click.option("--replicas", "counts", default="1,2,4,8,16", show_default=True, help="R.")
@click.option("--rounds", default=4, show_default=True, help="Timed at once; on a GPU 200 or so.")
@click.option("--passes", default=3, show_default=True, help="Over all ways.")
@click.option("--train-size", default=1000, show_default=True)
@click.option("--precision", default="medium", show_default=True, help="matmul_precision.")
@click.option("--threads", default=1, show_default=True, help="Of torch.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Written too.")
def main(
    data_dir: Path | None, counts: str, rounds: int, passes: int, train_size: int, precision: str,
    threads: int, file: Path | None,
) -> None:  # fmt: skip
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dataset = load_dataset("mnist", data_dir)
    lines: list[Line] = []
    click.echo(f"{'schedule':12} {'R':>3} {'way':16} {'launches/R':>10} {'ms/R':>8} {'speed':>6}"
               f" {'rounds/s':>9}")  # fmt: skip
    for schedule in SCHEDULES:
        config = TrialConfig(
            dataset="mnist", train_size=train_size, valid_size=1000, batch_size=50, steps=10**6,
            pretrain_steps=0, schedule=schedule, matmul_precision=precision,
        )  # fmt: skip
        for count in map(int, counts.split(",")):
            found = measure(config, count, dataset, device, rounds, passes)
            lines += found
            for line in found:
                speed = found[0].milliseconds / line.milliseconds
                click.echo(
                    f"{line.schedule:12} {line.replicas:3} {line.way:16} {line.launches:10.1f}"
                    f" {line.milliseconds:8.2f} {speed:6.2f} {1e3 / line.milliseconds:9.1f}"
                )
    where = {"device": device, "threads": threads, **hardware(), **package_versions()}
    record = json.dumps({"pack": [line._asdict() for line in lines], "where": where})
    click.echo(record)
    if file is not None:
        file.write_text(record + "\n")


if __name__ == "__main__":
    main()
