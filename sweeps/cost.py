"""How long a sweep will take: from its finished trials, else from a probe of a few steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kdgan_core.config import TrialConfig
from kdgan_core.names import RECOMMENDERS
from sweeps.environment import processor
from sweeps.matching import pretrained
from sweeps.plan import Plan, PlanError
from sweeps.spool import read_spool, spool_path

if TYPE_CHECKING:
    from kdgan_core.data import Dataset
    from kdgan_core.data.posts import Posts
    from kdgan_core.replica import Replica

PROBE_ROUNDS = 4
PROBE_UPDATES = 4  # of each pretrained player
FIT_SECONDS = 30.0  # of a recommender, which cannot be fitted a little: a guess
PROBE_FACTOR = 1.5  # a probe is good to about this factor
FEW, FEW_FACTOR = 5, 1.25  # with fewer trials than this, their mean is good to about the factor
ENOUGH = 200  # trials to learn from


class Probe(NamedTuple):
    """Estimated seconds of one seed: its training, and its pretraining (once per sweep)."""

    train: float
    pretrain: float


def probe_seconds(
    config: TrialConfig, data_dir: Path | None, device: str, threads: int = 1,
    dataset: Dataset | Posts | None = None,
) -> Probe:  # fmt: skip
    """What one seed of `config` takes on `device` here, with so many torch threads.

    Times a few rounds of freshly initialised players, one validation check and a few updates of
    each pretrained player. Good to about a factor of 1.5.

    Args:
        config: what to time.
        data_dir: the data folder, None for the default.
        device: "cpu" or "cuda".
        threads: of torch.
        dataset: to time with, None for the config's from the data folder.

    Raises:
        DataError: the data are absent or damaged.
    """
    import torch

    from kdgan_core.data.seed_data import load
    from kdgan_core.precision import matmul_precision

    if config.method in RECOMMENDERS:
        return Probe(FIT_SECONDS, 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        dataset = dataset or load(config, data_dir)
        replica = untrained_replica(config, dataset, device)
        with matmul_precision(config.matmul_precision, torch.device(device)):
            replica.train_to(1)
            started = time.perf_counter()
            replica.train_to(1 + PROBE_ROUNDS)
            per_round = (time.perf_counter() - started) / PROBE_ROUNDS
            started = time.perf_counter()
            replica.validate()
            per_check = time.perf_counter() - started
            prepared = sum(
                updates * pretraining_update(replica, role, PROBE_UPDATES)
                for role, updates in pretrained(config).items()
                if updates
            )
    finally:
        torch.set_num_threads(before)
    if config.authors_statistic:
        per_check *= 1.0 + _test_share(dataset, config)
    if config.log_gradient_variance:
        per_check += config.gradient_batches * per_round
    train = per_round * config.rounds + per_check * config.evaluations
    return Probe(train, prepared)


def _test_share(dataset: Dataset | Posts, config: TrialConfig) -> float:
    """Test images, as a multiple of the validation images."""
    from kdgan_core.data import Dataset

    if isinstance(dataset, Dataset):
        return len(dataset.test_labels) / config.valid_size
    tested = int(dataset.is_test.sum())
    return tested / max(1, len(dataset) - tested - int(dataset.is_training.sum()))


def untrained_replica(config: TrialConfig, dataset: Dataset | Posts, device: str) -> Replica:
    """The first seed of `config` with players as they are made."""
    import torch

    from kdgan_core.replica import Replica

    fresh = config.replace(pretrain_steps=0, teacher_pretrain_steps=0, seeds=config.seeds[:1])
    with tempfile.TemporaryDirectory() as cache:
        return Replica(fresh, fresh.seeds[0], dataset, Path(cache), torch.device(device))


def pretraining_update(replica: Replica, role: str, updates: int) -> float:
    """Seconds of an update in pretraining, validation apart: mean over so many, after a first."""
    from kdgan_core.pretrain import fresh_player, train_supervised

    seed, little = replica.seed, replica.data.with_little_validation()
    player = fresh_player(role, replica.config, seed, replica.device, little.shape)
    seconds = []
    for steps in (1, updates):
        config = replica.config.replace(pretrain_steps=steps)
        started = time.perf_counter()
        train_supervised(role, player, config, seed, little)
        float(next(player.parameters()).detach().sum())  # waits for the device
        seconds.append((time.perf_counter() - started) / steps)
    return seconds[-1]


class Estimate(NamedTuple):
    """A cost with its range."""

    low: float
    mid: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        return Estimate(*(factor * value for value in self))

    def plus(self, other: Estimate) -> Estimate:
        """The sum; the ranges add up, since what makes one slow makes the other slow."""
        return Estimate(*(one + two for one, two in zip(self, other, strict=True)))


ZERO = Estimate(0.0, 0.0, 0.0)


class CostModel:
    """Seconds that training takes on this sweep's workers; learns from the trials that end.

    Trials whose rounds cost the same are of one kind; what differs in a kind is how many rounds,
    seeds and updates of pretraining they have. Pretraining is counted apart, and once for all
    trials that start from the same player.
    """

    def __init__(self) -> None:
        self._first: dict[Kind, float] = {}  # seconds a round, from a probe
        self._pretrain: dict[Kind, float] = {}  # seconds an update of pretraining
        self._measured: dict[Kind, list[float]] = {}
        self._pretrained: set[Player] = set()

    def knows(self, config: TrialConfig) -> bool:
        """Whether there is an estimate or a measurement for trials of this kind."""
        known = self._first.keys() | self._measured.keys()
        return any(one in known for one in _alike(config))

    def expect(self, config: TrialConfig, probe: Probe) -> None:
        """Sets the first estimate of the kind of `config`."""
        self._first[kind(config)] = probe.train / config.rounds
        if updates := sum(pretrained(config).values()):
            self._pretrain[kind(config)] = probe.pretrain / updates

    def learn(self, config: TrialConfig, result: Mapping[str, Any]) -> bool:
        """Takes in what an ended trial cost, pretraining apart; whether it could: failed ones
        teach nothing."""
        rounds = int(result.get("step") or 0) / config.classifier_steps
        if not rounds or not result.get("seconds"):
            return False
        prepared = float(result.get("prepare_seconds", 0.0))
        per_round = max(0.0, result["seconds"] - prepared) / (rounds * len(config.seeds))
        self._measured.setdefault(kind(config), []).append(per_round)
        self._pretrained |= _players(config).keys()
        if updates := len(config.seeds) * sum(pretrained(config).values()):
            # As it took when the players were trained, where the result says so.
            took = sum(seed.get("pretrain_seconds") or 0.0 for seed in result.get("seeds", ()))
            known = self._pretrain.get(kind(config), 0.0)
            self._pretrain[kind(config)] = max(known, max(took, prepared) / updates)
        return True

    def training(self, config: TrialConfig) -> Estimate:
        """Seconds of a trial whose players are pretrained."""
        rounds = config.rounds * len(config.seeds)
        known = next(k for k in _alike(config) if k in self._measured or k in self._first)
        measured = self._measured.get(known)
        if not measured:
            per_round = self._first[known]
            return Estimate(per_round / PROBE_FACTOR, per_round, PROBE_FACTOR * per_round).scaled(
                rounds
            )
        mean = sum(measured) / len(measured)
        if len(measured) < FEW:
            return Estimate(mean / FEW_FACTOR, mean, FEW_FACTOR * mean).scaled(rounds)
        ordered = sorted(measured)
        tail = len(ordered) // 20  # a twentieth at either end
        return Estimate(min(mean, ordered[tail]), mean, max(mean, ordered[-1 - tail])).scaled(
            rounds
        )

    def pretraining(self, configs: Iterable[TrialConfig]) -> Estimate:
        """Seconds of pretraining all players that trials of these configs start from.

        Nothing for one from which an ended trial started: it is in the storage's cache.
        """
        wanted: dict[Player, float] = {}
        for config in configs:
            rate = max(self._pretrain.get(one, 0.0) for one in _alike(config))
            for player, updates in _players(config).items():
                if player not in self._pretrained:
                    wanted.setdefault(player, rate * updates)
        seconds = sum(wanted.values())
        return Estimate(seconds / PROBE_FACTOR, seconds, PROBE_FACTOR * seconds)

    def trial_seconds(self, config: TrialConfig) -> float:
        """The middle of `training`."""
        return self.training(config).mid


Kind = tuple[object, ...]
Player = tuple[object, ...]


def kind(config: TrialConfig) -> Kind:
    """What the cost of a round depends on, checks included."""
    names = (
        "dataset", "method", "player", "architecture", "batch_size", "estimator", "samples",
        "positives", "negatives", "schedule", "discriminator_steps", "teacher_steps",
        "classifier_steps", "matmul_precision", "authors_statistic", "log_gradient_variance",
    )  # fmt: skip
    batches = config.gradient_batches if config.log_gradient_variance else 0
    return (*(getattr(config, name) for name in names), config.teacher_average > 0.0, batches)


def _alike(config: TrialConfig) -> tuple[Kind, Kind]:
    """The kinds whose cost says what `config` takes, the nearest first: where trials of its own
    kind are not known, those that look at the test set too."""
    return kind(config), kind(config.replace(authors_statistic=True))


def _players(config: TrialConfig) -> dict[Player, int]:
    """What names each pretrained player of each seed -> its updates."""
    names = (
        "dataset", "architecture", "batch_size", "train_size", "draw", "valid_size",
        "weight_decay", "rotation_degrees", "shift", "zoom", "mirroring",
        "color_jitter", "cutout",
    )  # fmt: skip
    what = tuple(getattr(config, name) for name in names)
    players = {}
    for role, updates in pretrained(config).items():
        is_classifier = role == "classifier"
        dropout = config.classifier_dropout if is_classifier else config.teacher_dropout
        rate = config.pretraining_learning_rate(role)
        for seed in config.seeds:
            players[(*what, role, updates, rate, dropout, seed)] = updates
    return players


def format_seconds(seconds: float) -> str:
    """'0.4 s', '45 s', '12 min', '3.5 h' or '2.1 days'."""
    if seconds < 9.5:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def format_range(estimate: Estimate) -> str:
    """'12 min (8 to 18 min)'; without the range where it is none."""
    low, mid, high = (format_seconds(value) for value in estimate)
    return mid if low == high else f"{mid} ({low} to {high})"


def learn_from_storage(
    cost: CostModel, storage: Path, configs: Iterable[TrialConfig], device: str, threads: int
) -> int:
    """Teaches `cost` what trials of the same kind took in the storage's finished sweeps.

    Only trials of this device, number of threads and processor count, and the newest first.

    Returns:
        How many trials it has learned from.
    """
    kinds = {
        kind(one)
        for config in configs
        for one in (config, config.replace(authors_statistic=False))  # an arm's, and its tuning's
    }
    here = {"device": device, "threads": threads, "processor": processor(device)}
    learned = 0
    for path in sorted(storage.glob("*/plan.parquet"), key=_modified, reverse=True):
        try:
            trials = Plan(path).trials()
        except PlanError:
            continue
        for trial_id, rows in trials.items():
            config = rows[0].config
            if kind(config) not in kinds:
                continue
            state = read_spool(spool_path(path.parent / "spool", trial_id))
            if state.result is None or any(state.host.get(k) != v for k, v in here.items()):
                continue
            learned += cost.learn(config, state.result)
            if learned >= ENOUGH:
                return learned
    return learned


def _modified(path: Path) -> float:
    return path.stat().st_mtime
