"""What can be counted of a study's cost, on any machine: no time is taken.

    python benchmarks/counts.py [--write]

* kernels: calls of torch's operators in one round of each method (views and bare allocations are
  not among them), backward passes and optimizers included; and in one update of pretraining;
* forwards: how often each player is asked in that round;
* MLflow requests: calls of the tracking store, a sweep's own and those of each trial in it;
* pretrainings: of all cells of a study, and of all methods of a table, under the same seeds.

The numbers last recorded are in counts.json beside this file. Tests compare with them and fail
where a count has risen; `--write` records the numbers as they are now.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from benchmarks.common import print_table
from benchmarks.kernels import count_kernels
from kdgan_core import Trial, TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.names import METHODS
from kdgan_core.players import PLAYERS
from kdgan_core.pretrain import fresh_player, train_supervised
from kdgan_core.replica import Replica
from sweeps.cost import untrained_replica
from sweeps.loading import load_space
from sweeps.plan import Row
from sweeps.record import Recorder
from sweeps.space import moved
from sweeps.spool import SpoolWriter

RECORDED = Path(__file__).with_name("counts.json")
FUSED_METHODS = ("kdgan", "nagan")  # that have a round of one forward a player
SMALL = {
    "dataset": "digits", "architecture": "small", "train_size": 100, "valid_size": 50,
    "batch_size": 20, "seeds": (0,), "steps": 4, "pretrain_steps": 0, "evaluations": 2,
}  # fmt: skip
RECORDED_TRIALS = (1, 4)
SECONDS = 120.0  # for a store to take them

Counts = dict[str, dict[str, int]]


def cases() -> dict[str, TrialConfig]:
    """Name -> a small trial of every method, and of the fused schedule where it has that."""
    found = {method: TrialConfig.from_dict({**SMALL, "method": method}) for method in METHODS}
    fused = {f"{name} fused": found[name].replace(schedule="fused") for name in FUSED_METHODS}
    return found | fused


def of_round(config: TrialConfig) -> tuple[int, dict[str, int]]:
    """Kernels of the second round, and role -> forwards in it."""
    replica = untrained_replica(config, load_dataset(config.dataset, None), "cpu")
    replica.train_to(1)
    forwards: Counter[str] = Counter()
    for role, player in _players(replica).items():
        player.register_forward_hook(functools.partial(_count_forward, forwards, role))
    kernels = count_kernels(lambda: replica.train_to(2)).total()
    return kernels, dict(sorted(forwards.items()))


def _players(replica: Replica) -> dict[str, torch.nn.Module]:
    averages = {f"average {role}": player for role, player in replica.averages.items()}
    return {**replica.frozen, **replica.players, **averages}


def _count_forward(forwards: Counter[str], role: str, *call: object) -> None:
    forwards[role] += 1


def of_pretraining(role: str) -> int:
    """Kernels of one update of a player in pretraining, without its validation."""
    config = TrialConfig.from_dict(SMALL)
    replica = untrained_replica(config, load_dataset(config.dataset, None), "cpu")
    data = replica.data.with_little_validation()
    found: list[int] = []
    for steps in (12, 18):  # both validate as often
        player = fresh_player(role, config, 0, replica.device, data.shape)
        longer = config.replace(pretrain_steps=steps)
        train = functools.partial(train_supervised, role, player, longer, 0, data)
        found.append(count_kernels(train).total())
    return round((found[1] - found[0]) / 6)


def round_counts() -> Counts:
    """kernels: case -> calls; forwards: case and role -> forwards."""
    found = {name: of_round(config) for name, config in cases().items()}
    kernels = {name: count for name, (count, _) in found.items()}
    kernels |= {f"pretraining {role}": of_pretraining(role) for role in PLAYERS}
    forwards = {
        f"{name} {role}": count
        for name, (_, roles) in found.items()
        for role, count in roles.items()
    }
    return {"kernels": kernels, "forwards": forwards}


@contextmanager
def counted_requests() -> Iterator[Counter[str]]:
    """Counts calls of the SQL store from outside, each of which is a request to a server."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    calls: Counter[str] = Counter()
    inside = threading.local()

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(inside, "depth", 0) == 0:
                calls[name] += 1
            inside.depth = getattr(inside, "depth", 0) + 1
            try:
                return method(self, *args, **kwargs)
            finally:
                inside.depth -= 1

        return counted

    names = [
        name for name in dir(SqlAlchemyStore)
        if not name.startswith("_") and callable(getattr(SqlAlchemyStore, name))
    ]  # fmt: skip
    patched: Any = {name: counting(name, getattr(SqlAlchemyStore, name)) for name in names}
    with mock.patch.multiple(SqlAlchemyStore, **patched):
        yield calls


def train_into(spool: Path, config: TrialConfig) -> None:
    """Trains a small trial and writes its spool."""
    writer = SpoolWriter(spool, config.trial_id)
    writer.start()
    trial = Trial(config, data_dir=None, cache_dir=spool.parent / "cache", device="cpu")
    while not trial.done:
        writer.evaluation(trial.advance())
    writer.result(trial.result())
    writer.close()


def requests_of(folder: Path, trials: int) -> int:
    """Requests that recording a sweep of so many trials takes, in the folder's store."""
    configs = [TrialConfig.from_dict({**SMALL, "alpha": number / 10}) for number in range(trials)]
    spool = folder / f"sweep-{trials}" / "spool"
    for config in configs:
        train_into(spool, config)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    recorder = Recorder(uri, "counts", f"sweep-{trials}", spool)
    with counted_requests() as calls:
        recorder.start({"mode": "search"})
        for config in configs:
            recorder.trial_ended(config.trial_id, [Row(config, "search")])
        if not recorder.close("FINISHED", trials, SECONDS):
            raise RuntimeError(f"the sweep could not be recorded: {recorder.error}")
    return calls.total()


def request_counts() -> Counts:
    """requests: of a sweep, and of each trial in it."""
    with tempfile.TemporaryDirectory() as name:
        requests_of(Path(name), 0)  # makes the store
        few, many = (requests_of(Path(name), trials) for trials in RECORDED_TRIALS)
    each, rest = divmod(many - few, RECORDED_TRIALS[1] - RECORDED_TRIALS[0])
    if rest:
        raise RuntimeError(f"trials take different numbers of requests: {few}, {many} in all")
    return {"requests": {"a trial": each, "a sweep": few - each * RECORDED_TRIALS[0]}}


def pretrainings(configs: Iterable[TrialConfig]) -> int:
    """How often a player is pretrained when these trials run one after the other."""
    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch("kdgan_core.pretrain.train_supervised") as trained,
    ):
        for config in configs:
            Trial(config, data_dir=None, cache_dir=Path(cache), device="cpu").advance()
        return trained.call_count


def study(seeds: tuple[int, ...] = (0, 1)) -> list[TrialConfig]:
    """The cells of the small study of digits at one size."""
    space = load_space("digits", "sensitivity", quick=True)
    base = space.base_config(space.train_sizes[0]).replace(seeds=seeds)
    return [moved(base, level) for levels in space.cuts.values() for level in levels]


def pretraining_counts() -> Counts:
    """pretrainings: of a study's cells, and of a table's methods, two seeds each."""
    cells = study()
    table = [cells[0].replace(method=method, distillation="auto") for method in METHODS]
    return {
        "pretrainings": {
            "study": pretrainings(cells), "table": pretrainings(table),
            "players of two seeds": 2 * len(PLAYERS),
        }
    }  # fmt: skip


def all_counts() -> Counts:
    return {**round_counts(), **request_counts(), **pretraining_counts()}


def recorded() -> Counts:
    """The numbers last recorded."""
    found: Counts = json.loads(RECORDED.read_text())
    return found


def risen(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, tuple[int | None, int]]:
    """Name -> (recorded, now) of every count that is larger than recorded, or is not recorded."""
    return {
        name: (before.get(name), count)
        for name, count in now.items()
        if name not in before or count > before[name]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="record the numbers as they are")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = all_counts()
    before = recorded() if RECORDED.exists() else {}
    for what, counts in found.items():
        known = before.get(what, {})
        print_table(
            (what, "now", "recorded"), [(n, c, known.get(n, "-")) for n, c in counts.items()]
        )
        print()
    if asked.write:
        RECORDED.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
