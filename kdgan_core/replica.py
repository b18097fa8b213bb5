"""One seed of a trial in training: its players, optimizers, minibatches and random streams."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.data import Dataset, draw_split
from kdgan_core.data.batches import Minibatches, accuracy, make_generator
from kdgan_core.methods import METHODS
from kdgan_core.players import parameter_groups
from kdgan_core.pretrain import SeedData, pretrained_player, scheduled_learning_rate
from kdgan_core.temperature import temperature


class Replica:
    """The players of one seed and all that their updates draw on.

    A method (`kdgan_core.methods`) moves it by one round of Algorithm 1 at a time; a player that
    only gives targets or rewards is called without a generator, that is in eval mode.

    Attributes:
        players: role -> network, those the method trains.
        noise: generator of the sampled labels.
        dropout: role -> generator; passing it to a player is what training mode means.
    """

    def __init__(
        self, config: TrialConfig, seed: int, dataset: Dataset, cache_dir: Path,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.config, self.seed, self.device = config, seed, device
        self.data = _seed_data(dataset, config, seed, device)
        self.method = METHODS[config.method]
        self.players: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Adam] = {}
        self.streams: dict[str, Minibatches] = {}
        self.dropout: dict[str, torch.Generator] = {}
        for role in self.method.players:
            player = pretrained_player(role, config, seed, self.data, cache_dir, device)
            groups = parameter_groups(role, player, config.weight_decay)
            self.players[role] = player
            self.optimizers[role] = torch.optim.Adam(groups, lr=config.learning_rate, fused=True)
            self.streams[role] = Minibatches(
                self.data.train_images, self.data.train_labels, self.data.white, config,
                make_generator(seed, f"batches {role}", device),
            )  # fmt: skip
            self.dropout[role] = make_generator(seed, f"dropout {role}", device)
        self.noise = make_generator(seed, "labels", device)
        self.round = 0
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self.best_valid_accuracy = -1.0
        self.best_step = 0
        self._best_classifier: dict[str, Tensor] = {}

    @property
    def step(self) -> int:
        """Updates of C so far."""
        return self.round * self.config.classifier_steps

    def tau(self) -> float:
        """The temperature now: the schedule's start in the first round, its end in the last."""
        last = max(1, self.config.rounds - 1)
        return temperature(self.config.temperature, min(1.0, self.round / last))

    def train_to(self, round_number: int) -> None:
        """Run rounds until `round_number` of them are done."""
        while self.round < round_number:
            progress = self.round / self.config.rounds
            rate = scheduled_learning_rate(self.config, self.config.learning_rate, progress)
            for optimizer in self.optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = rate
            self.method.play_round(self, self.tau())
            self.round += 1

    def descend(self, role: str, loss: Tensor) -> None:
        """One Adam step of the player on its loss; the other players get no gradient."""
        optimizer = self.optimizers[role]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def note(self, name: str, value: Tensor) -> None:
        """Add to the running mean that the next evaluation reports; never waits for the device."""
        value = value.detach()
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def read_notes(self) -> dict[str, float]:
        """Means of what was noted since the last call."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def is_finite(self) -> bool:
        """Whether every weight of every player is a finite number."""
        weights = [
            p.detach().sum() for player in self.players.values() for p in player.parameters()
        ]
        return bool(torch.isfinite(torch.stack(weights)).all())

    def validate(self) -> float:
        """C's validation accuracy."""
        data = self.data
        return accuracy(
            self.players["classifier"], data.valid_images, data.valid_labels, data.white
        )

    def keep_if_best(self, valid_accuracy: float) -> None:
        """Remember C as it is now if it beats every earlier check."""
        if valid_accuracy > self.best_valid_accuracy:
            self.best_valid_accuracy, self.best_step = valid_accuracy, self.step
            self._best_classifier = copy.deepcopy(self.players["classifier"].state_dict())

    def test_best(self, images: Tensor, labels: Tensor) -> float:
        """Test accuracy of the C kept by `keep_if_best`. images: (M, 1, S, S) uint8."""
        classifier = copy.deepcopy(self.players["classifier"])
        classifier.load_state_dict(self._best_classifier)
        return accuracy(classifier, images, labels, self.data.white)

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
            "generators": {name: g.get_state() for name, g in self._generators().items()},
            "best_valid_accuracy": self.best_valid_accuracy,
            "best_step": self.best_step,
            "best_classifier": self._best_classifier,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where `state` was taken: the updates from there are the same."""
        for role in self.players:
            self.players[role].load_state_dict(state["players"][role])
            self.optimizers[role].load_state_dict(state["optimizers"][role])
            self.streams[role].load_state_dict(state["streams"][role])
        for name, generator in self._generators().items():
            generator.set_state(state["generators"][name].cpu())
        self.round = int(state["round"])
        self.best_valid_accuracy = float(state["best_valid_accuracy"])
        self.best_step = int(state["best_step"])
        self._best_classifier = dict(state["best_classifier"])
        self._sums, self._counts = {}, {}

    def _generators(self) -> dict[str, torch.Generator]:
        """Every random stream of the seed, by name."""
        streams = {f"batches {role}": s.generator for role, s in self.streams.items()}
        dropout = {f"dropout {role}": generator for role, generator in self.dropout.items()}
        return {"labels": self.noise, **streams, **dropout}


def _seed_data(dataset: Dataset, config: TrialConfig, seed: int, device: torch.device) -> SeedData:
    split = draw_split(dataset, config, seed)
    images, labels = dataset.images, dataset.labels
    return SeedData(
        torch.from_numpy(images[split.train]).to(device),
        torch.from_numpy(labels[split.train]).to(device),
        torch.from_numpy(images[split.valid]).to(device),
        torch.from_numpy(labels[split.valid]).to(device),
        dataset.white,
        dataset.checksum,
    )
