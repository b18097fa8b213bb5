"""One seed of a trial in training: its players, optimizers, minibatches and random streams."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.data import Dataset
from kdgan_core.data.batches import make_generator
from kdgan_core.data.posts import Posts
from kdgan_core.data.seed_data import seed_data
from kdgan_core.data.task import Detail, Scores, Stream
from kdgan_core.gradients import gradient_variance
from kdgan_core.methods import method_of
from kdgan_core.players import PLAYERS, parameter_groups
from kdgan_core.pretrain import (
    fresh_player,
    pretrain_unclaimed,
    pretrained_player,
    scheduled_learning_rate,
)
from kdgan_core.temperature import temperature


def pretrain_ahead(
    config: TrialConfig, dataset: Dataset | Posts, cache_dir: Path, device: torch.device
) -> None:
    """Pretrains the players of all seeds of a trial that no other process is pretraining.

    Raises:
        OSError: the cache folder cannot be written.
    """
    method = method_of(config)
    if not method.is_pretrained:
        return
    for seed in config.seeds:
        data = seed_data(dataset, config, seed, device)
        roles = (*method.players, *method.frozen)
        pretrain_unclaimed(roles, config, seed, data, cache_dir, device)


def average_decay(decay: float, updates: int) -> float:
    """Decay of a running mean after so many updates: early on (1+t)/(10+t), so that the start is
    forgotten."""
    return min(decay, (1.0 + updates) / (10.0 + updates))


def _lay_out_as_weights(optimizer: torch.optim.Adam) -> None:
    """Gives Adam's moments the weights' memory format, which the fused one takes for granted; a
    stack, whose checkpoint it may be, has another."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


class Replica:
    """The players of one seed and all that their updates draw on.

    A method (`kdgan_core.methods`) moves it by one round of Algorithm 1 at a time; a player that
    only gives targets or rewards is called without a generator, that is in eval mode.

    Attributes:
        players: role -> network, those the method trains.
        frozen: role -> network, those that only give targets.
        averages: role -> running mean of the player's weights, where the method keeps one.
        scored: role of the player that is validated, kept at its best and tested.
        updates: role -> optimizer updates so far, pretraining included.
        seconds: training so far, without pretraining and checks.
        pretrain_seconds: what the players' pretraining took when they were trained.
        noise: generator of the sampled labels.
        dropout: role -> generator; passing it to a player is what training mode means.
    """

    def __init__(
        self, config: TrialConfig, seed: int, dataset: Dataset | Posts, cache_dir: Path,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.config, self.seed, self.device = config, seed, device
        self.data = seed_data(dataset, config, seed, device)
        self.method = method_of(config)
        self.scored = self.method.scored
        self.players: dict[str, nn.Module] = {}
        self.frozen: dict[str, nn.Module] = {}
        self.averages: dict[str, nn.Module] = {}
        self.updates = {role: 0 for role in PLAYERS}
        self.seconds = self.pretrain_seconds = 0.0
        self.optimizers: dict[str, torch.optim.Adam] = {}
        self.streams: dict[str, Stream] = {}
        self.dropout: dict[str, torch.Generator] = {}
        for role in self.method.players:
            player = self._new_player(role, cache_dir)
            groups = parameter_groups(role, player, config.weight_decay)
            self.players[role] = player
            self.optimizers[role] = torch.optim.Adam(groups, lr=config.learning_rate, fused=True)
            batches = make_generator(seed, f"batches {role}", device)
            self.streams[role] = self.data.stream(config, batches)
            self.dropout[role] = make_generator(seed, f"dropout {role}", device)
        for role in self.method.frozen:
            self.frozen[role] = self._new_player(role, cache_dir)
        if config.method == "kdgan" and config.teacher_average > 0.0:
            self.averages["teacher"] = copy.deepcopy(self.players["teacher"])
        self.noise = make_generator(seed, "labels", device)
        self.round = 0
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self.best_valid_score = -1.0
        self.best_step = 0
        self.best_test_evaluation: dict[str, float] = {}
        self._best_player: dict[str, Tensor] = {}

    @property
    def step(self) -> int:
        """Updates of C so far."""
        return self.round * self.config.classifier_steps

    @property
    def progress(self) -> float:
        """Fraction of the rounds that are done, in [0, 1]."""
        return self.round / self.config.rounds

    @property
    def alpha(self) -> float:
        return self.config.alpha

    @property
    def beta(self) -> float:
        return self.config.beta

    @property
    def gamma(self) -> float:
        """gamma now: it may fall over training."""
        if self.config.gamma_schedule == "constant":
            return self.config.gamma
        return self.config.gamma * 0.5 * (1.0 + math.cos(math.pi * self.progress))

    def learning_rate(self, role: str) -> float:
        """Adam's step size of a player now."""
        base = self.config.game_learning_rate(role)
        return scheduled_learning_rate(self.config, base, self.progress)

    def tau(self) -> float:
        """The temperature now: the schedule's start in the first round, its end in the last."""
        last = max(1, self.config.rounds - 1)
        return temperature(self.config.temperature, min(1.0, self.round / last))

    def train_to(self, round_number: int) -> None:
        """Run rounds until `round_number` of them are done."""
        started = time.perf_counter()
        while self.round < round_number:
            for role, optimizer in self.optimizers.items():
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate(role)
            self.method.play_round(self, self.tau())
            self.round += 1
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - started

    def descend(self, role: str, loss: Tensor) -> None:
        """One Adam step of the player on its loss; the other players get no gradient."""
        self.descend_together({role: loss})

    def descend_together(self, losses: Mapping[str, Tensor]) -> None:
        """One backward of all losses, which share no weight, then an Adam step of each player.

        losses: role -> scalar that depends on the weights of that player alone.
        """
        for role in losses:
            self.optimizers[role].zero_grad(set_to_none=True)
        torch.autograd.backward(list(losses.values()))
        for role in losses:
            self.optimizers[role].step()
            self.updates[role] += 1

    @torch.no_grad()
    def follow(self, role: str, decay: float) -> None:
        """Moves the running mean of a player: decay (see `average_decay`) times itself plus the
        rest of the player."""
        decay = average_decay(decay, self.updates[role] - self.config.pretraining(role))
        mean, now = self.averages[role].state_dict(), self.players[role].state_dict()
        for name, tensor in mean.items():
            tensor.lerp_(now[name], 1.0 - decay)

    def note(self, name: str, value: Tensor) -> None:
        """Add to the running mean that the next evaluation reports; never waits for the device."""
        value = value.detach()
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def add_notes(self, sums: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        """Adds what was summed up elsewhere, and how often."""
        for name, total in sums.items():
            self._sums[name] = self._sums[name] + total if name in self._sums else total
            self._counts[name] = self._counts.get(name, 0) + counts[name]

    def read_notes(self) -> dict[str, float]:
        """Means of what was noted since the last call."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def is_finite(self) -> bool:
        """Whether every weight of every trained player is a finite number."""
        weights = [
            p.detach().sum() for player in self.players.values() for p in player.parameters()
        ]
        return bool(torch.isfinite(torch.stack(weights)).all())

    def validate(self) -> Scores:
        """Validation scores of the scored player."""
        return self.data.validate(self.players[self.scored])

    def teacher_score(self) -> dict[str, float]:
        """Validation score of a teacher that is trained along; nothing without one."""
        if "teacher" not in self.players or self.scored == "teacher":
            return {}
        name = self.config.score
        found = self.data.validate(self.players["teacher"]).metrics[name]
        return {f"valid_{name}_teacher": found}

    def evaluate_test(self) -> None:
        """The authors' statistic: keeps the best of each metric over all test evaluations,
        chooses nothing."""
        found = self.data.test(self.players[self.scored]).metrics
        self.best_test_evaluation = {
            name: max(value, self.best_test_evaluation.get(name, value))
            for name, value in found.items()
        }

    def gradient_variance(self) -> dict[str, float]:
        """As `gradients.gradient_variance`; nothing for a method without a discriminator."""
        if "discriminator" not in self.players:
            return {}
        return gradient_variance(self, self.tau())

    def keep_if_best(self, valid_score: float) -> None:
        """Remember the scored player as it is now if it beats every earlier check."""
        if valid_score > self.best_valid_score:
            self.best_valid_score, self.best_step = valid_score, self.step
            player = self.players[self.scored].state_dict()
            self._best_player = {name: value.clone() for name, value in player.items()}

    def test_best(self) -> tuple[Scores, Detail | None]:
        """Test scores of the player kept by `keep_if_best`, and image by image where there is
        such a thing."""
        player = copy.deepcopy(self.players[self.scored])
        player.load_state_dict(self._best_player)
        return self.data.test(player), self.data.test_detail(player)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training depends on, for `load_state_dict`.

        To be taken right after `read_notes`: running means are not part of it. As in torch, the
        tensors are those in training, not copies.
        """
        return {
            "round": self.round,
            "players": {role: player.state_dict() for role, player in self.players.items()},
            "optimizers": {role: adam.state_dict() for role, adam in self.optimizers.items()},
            "streams": {role: stream.state_dict() for role, stream in self.streams.items()},
            "generators": {name: g.get_state() for name, g in self.generators().items()},
            "averages": {role: player.state_dict() for role, player in self.averages.items()},
            "updates": self.updates,
            "seconds": self.seconds,
            "best_valid_score": self.best_valid_score,
            "best_step": self.best_step,
            "best_test_evaluation": self.best_test_evaluation,
            "best_player": self._best_player,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where `state` was taken: the updates from there are the same."""
        for role in self.players:
            self.players[role].load_state_dict(state["players"][role])
            self.optimizers[role].load_state_dict(state["optimizers"][role])
            _lay_out_as_weights(self.optimizers[role])
            self.streams[role].load_state_dict(state["streams"][role])
        for name, generator in self.generators().items():
            generator.set_state(state["generators"][name].cpu())
        for role, player in self.averages.items():
            player.load_state_dict(state["averages"][role])
        self.round = int(state["round"])
        self.updates = dict(state["updates"])
        self.seconds = float(state["seconds"])
        self.best_valid_score = float(state["best_valid_score"])
        self.best_step = int(state["best_step"])
        self.best_test_evaluation = dict(state["best_test_evaluation"])
        self._best_player = dict(state["best_player"])
        self._sums, self._counts = {}, {}

    def _new_player(self, role: str, cache_dir: Path) -> nn.Module:
        """The player that the method starts from; counts its pretraining."""
        if not self.method.is_pretrained:
            return fresh_player(role, self.config, self.seed, self.device, self.data.shape)
        player, seconds = pretrained_player(
            role, self.config, self.seed, self.data, cache_dir, self.device
        )
        self.updates[role] = self.config.pretraining(role)
        self.pretrain_seconds += seconds
        return player

    def generators(self) -> dict[str, torch.Generator]:
        """Every random stream of the seed, by name."""
        streams = {f"batches {role}": s.generator for role, s in self.streams.items()}
        dropout = {f"dropout {role}": generator for role, generator in self.dropout.items()}
        return {"labels": self.noise, **streams, **dropout}
