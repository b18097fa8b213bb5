"""Seconds of an update in pretraining and of a round of every arm, for --set matched=seconds.

Prints the tables `[update_seconds.N]` to paste into the experiment's space file, and the hardware.
A player's update in pretraining and an arm's round are timed at several points of training in
turn, all arms in every pass, so that a drift of the machine falls on all of them; of the passes
the median counts, of the points the mean. Validation is left out. Run it on quiet cores, with as
many threads as a trial gets.

    python benchmarks/updates.py mnist                   (all training sizes; or --train-size 100)
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import click
import torch

from kdgan_core.config import TrialConfig
from kdgan_core.data import Dataset, load_dataset
from kdgan_core.players import PLAYERS
from kdgan_core.precision import matmul_precision
from kdgan_core.replica import Replica
from sweeps.arms import REFERENCE
from sweeps.cost import pretraining_update, untrained_replica
from sweeps.environment import hardware, package_versions
from sweeps.loading import experiments, load_space
from sweeps.space import Space, branches

POINTS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of training: a method may do more in a later round
MOST = 200  # updates or rounds timed at once


def recipes(space: Space, train_size: int) -> dict[str, TrialConfig]:
    """Arm -> its recipe at a size, one seed."""
    found = branches(space, "methods").items()
    return {
        branch.arm: own.base_config(train_size).replace(seeds=space.seeds[:1])
        for branch, own in found
        if branch.train_size == train_size
    }


def count_within(seconds: float, one: float) -> int:
    """How many updates or rounds of `one` second each fit; at least one."""
    return max(1, min(MOST, int(seconds / one)))


def round_seconds(replica: Replica, point: float, rounds: int) -> float:
    """Seconds of a round at a point of training in [0, 1), mean over some."""
    last = replica.config.rounds - rounds
    replica.round = min(round(point * replica.config.rounds), last)
    started = time.perf_counter()
    replica.train_to(replica.round + rounds)
    return (time.perf_counter() - started) / rounds


def measure(
    configs: dict[str, TrialConfig], dataset: Dataset, device: str, seconds: float, passes: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Role -> seconds of an update in pretraining, and arm -> seconds of a round.

    Args:
        configs: arm -> its recipe; that of kdgan among them.
        dataset: to train on.
        device: "cpu" or "cuda".
        seconds: timed at once, about.
        passes: over all players and arms.
    """
    replicas = {arm: untrained_replica(config, dataset, device) for arm, config in configs.items()}
    players: dict[str, list[float]] = {role: [] for role in PLAYERS}
    arms: dict[str, dict[float, list[float]]] = {a: {p: [] for p in POINTS} for a in configs}
    counts: dict[str, int] = {}
    for passed in range(1 + passes):  # the first warms up, and says how many to time at once
        for role, taken in players.items():
            with matmul_precision(configs[REFERENCE].matmul_precision, torch.device(device)):
                one = pretraining_update(replicas[REFERENCE], role, counts.get(role, 2))
            taken += [one] * bool(passed)
            counts.setdefault(role, count_within(seconds, one))
        for arm, points in arms.items():
            with matmul_precision(configs[arm].matmul_precision, torch.device(device)):
                for point, taken in points.items():
                    one = round_seconds(replicas[arm], point, counts.get(arm, 1))
                    taken += [one] * bool(passed)
            counts.setdefault(arm, min(configs[arm].rounds, count_within(seconds, one)))
    return (
        {role: statistics.median(seconds) for role, seconds in players.items()},
        {
            arm: statistics.fmean(map(statistics.median, points.values()))
            for arm, points in arms.items()
        },
    )


def toml(train_size: int, players: dict[str, float], arms: dict[str, float]) -> str:
    """The table of a size as it stands in a space file."""
    lines = [f"[update_seconds.{train_size}]"]
    lines += [f"pretrain_{role} = {seconds:.4g}" for role, seconds in players.items()]
    lines += ["", f"[update_seconds.{train_size}.round]"]
    lines += [f"{json.dumps(arm)} = {seconds:.4g}" for arm, seconds in arms.items()]
    return "\n".join(lines) + "\n"


@click.command(help=__doc__)
@click.argument("experiment", type=click.Choice(experiments()))
@click.option("--train-size", "train_sizes", type=int, multiple=True, help="Repeatable.")
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="KDGAN_DATA")
@click.option("--threads", default=1, show_default=True, help="Of torch: those of a trial.")
@click.option("--seconds", default=0.5, show_default=True, help="Timed at once, about.")
@click.option("--passes", default=5, show_default=True, help="Over all players and arms.")
def main(
    experiment: str, train_sizes: tuple[int, ...], data_dir: Path | None, threads: int,
    seconds: float, passes: int,
) -> None:  # fmt: skip
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    space = load_space(experiment, "methods", train_sizes=train_sizes, trials=0)
    space = replace(space, chosen=tuple(space.arms))  # the optional ones too
    dataset = load_dataset(experiment, data_dir)
    where = {"device": device, "threads": threads, **hardware(), **package_versions()}
    for train_size in space.train_sizes:
        found = measure(recipes(space, train_size), dataset, device, seconds, passes)
        click.echo(toml(train_size, *found))
    click.echo(f"# measured by benchmarks/updates.py on {json.dumps(where)}")


if __name__ == "__main__":
    main()
