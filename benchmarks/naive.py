"""KDGAN as one would write it down from the paper: the baseline of every claim about speed.

    python benchmarks/naive.py [--cells 2] [--seeds 3] [--steps 500]

It shares with the product a trial's configuration, the images that a seed draws, and nothing else:
Algorithm 1 with a DataLoader for each player and images augmented one by one, modules in torch's
layout, one plain Adam a player, every player asked afresh in every update, pretraining in every
trial, validation in small batches, losses read at every step. A sweep is a function trainable of
Ray Tune, a process for every trial, logged by Ray's MLflow callback.

It is held to the same work: players, images, minibatches, augmentation, estimator and samples,
updates, learning rates, validation checks; benchmarks/agreement.py shows that it comes to the same
accuracy. It has no checkpoints and cannot resume. What is slow here is what is slow in such
programs: nothing was added to make it so.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from kdgan_core.config import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.data.dataset import draw_split

ROLES = ("classifier", "teacher", "discriminator")
EVALUATION_BATCH = 100
PRETRAINING_CHECKS = 6  # as the product has, so that both keep the best of as many
# What this program can do; any other value of these fields is refused.
EXPECTED = {
    "dataset": "mnist", "method": "kdgan", "architecture": "paper", "distillation": "l2",
    "estimator": "straight_through", "tau_kind": "exponential", "discriminator_steps": 1,
    "teacher_steps": 1, "classifier_steps": 1, "learning_rate_schedule": "cosine",
    "teacher_average": 0.0, "gamma_schedule": "constant", "label_smoothing": 0.0,
    "teacher_label_weight": 0.0, "classifier_label_weight": 0.0, "discriminator_warmup": 0,
}  # fmt: skip

Batch = tuple[Tensor, Tensor]
Report = Callable[[dict[str, float]], None]


class Images(Dataset[Batch]):
    """Training images, each rotated, shifted and zoomed anew whenever it is asked for."""

    def __init__(self, images: Tensor, labels: Tensor, config: TrialConfig) -> None:
        """images: (n, 1, S, S) float; labels: (n,)."""
        self.images, self.labels, self.config = images, labels, config

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        """(1, S, S) image and its label."""
        config = self.config
        angle = math.radians(random.uniform(-config.rotation_degrees, config.rotation_degrees))
        zoom_x, zoom_y = (1.0 + random.uniform(-config.zoom, config.zoom) for _ in range(2))
        shift_x, shift_y = (2.0 * random.uniform(-config.shift, config.shift) for _ in range(2))
        cos, sin = math.cos(angle), math.sin(angle)
        theta = torch.tensor(
            [[[cos * zoom_x, -sin * zoom_y, shift_x], [sin * zoom_x, cos * zoom_y, shift_y]]]
        )
        image = self.images[index].unsqueeze(0)
        grid = F.affine_grid(theta, list(image.shape), align_corners=False)
        moved = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
        return moved.squeeze(0), self.labels[index]


def mlp(dropout: float) -> nn.Module:
    """C: 784-800-800-10."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 800), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(800, 800), nn.ReLU(), nn.Dropout(dropout), nn.Linear(800, 10),
    )  # fmt: skip


def lenet(dropout: float) -> nn.Module:
    """T and D: two convolutions of 20 5x5 kernels with pooling, 500, 10."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(20, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(320, 500), nn.ReLU(), nn.Dropout(dropout), nn.Linear(500, 10),
    )  # fmt: skip


def new_player(role: str, config: TrialConfig) -> nn.Module:
    """A player with Xavier weights, its biases 0."""
    is_mlp = role == "classifier"
    player = mlp(config.classifier_dropout) if is_mlp else lenet(config.teacher_dropout)
    for parameter in player.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
    return player


def new_adam(role: str, player: nn.Module, rate: float, weight_decay: float) -> torch.optim.Adam:
    """Adam; the biases of T and D do not decay."""
    biases = [p for p in player.parameters() if p.dim() == 1]
    weights = [p for p in player.parameters() if p.dim() > 1]
    of_biases = weight_decay if role == "classifier" else 0.0
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": weight_decay},
        {"params": biases, "weight_decay": of_biases},
    ]
    return torch.optim.Adam(groups, lr=rate)


def endless(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Minibatches, pass after pass."""
    while True:
        yield from loader


class Parts(NamedTuple):
    """The images of a seed; test images are all there are."""

    train: DataLoader[Batch]
    valid: DataLoader[Batch]
    test: DataLoader[Batch]


def load_parts(config: TrialConfig, seed: int, data_dir: Path | None) -> Parts:
    """The images that the product draws for this seed."""
    dataset = load_dataset(config.dataset, data_dir)
    split = draw_split(dataset, config, seed)
    images = torch.from_numpy(dataset.images).float() / dataset.white
    labels = torch.from_numpy(dataset.labels)
    tested = torch.from_numpy(dataset.test_images).float() / dataset.white
    train = Images(images[split.train], labels[split.train], config)
    valid: Any = TensorDataset(images[split.valid], labels[split.valid])
    test: Any = TensorDataset(tested, torch.from_numpy(dataset.test_labels))
    return Parts(
        DataLoader(train, batch_size=config.batch_size, shuffle=True, drop_last=True),
        DataLoader(valid, batch_size=EVALUATION_BATCH),
        DataLoader(test, batch_size=EVALUATION_BATCH),
    )


@torch.no_grad()
def accuracy(player: nn.Module, loader: DataLoader[Batch]) -> float:
    """Fraction of images whose largest score is the label."""
    player.eval()
    right = count = 0
    for images, labels in loader:
        right += (player(images).argmax(dim=1) == labels).sum().item()
        count += len(labels)
    return right / count


def pretrain(role: str, player: nn.Module, config: TrialConfig, parts: Parts) -> None:
    """Trains a player on the labels and leaves it at its best validation check."""
    steps = config.pretraining(role)
    adam = new_adam(role, player, config.pretrain_learning_rate, config.weight_decay)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(1, steps))
    batches = endless(parts.train)
    checks = {round(steps * (i + 1) / PRETRAINING_CHECKS) for i in range(PRETRAINING_CHECKS)}
    best, kept = -1.0, copy.deepcopy(player.state_dict())
    losses = []
    for step in range(1, steps + 1):
        player.train()
        images, labels = next(batches)
        loss = F.cross_entropy(player(images), labels)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        cosine.step()
        losses.append(loss.item())
        if step in checks:
            score = accuracy(player, parts.valid)
            if score > best:
                best, kept = score, copy.deepcopy(player.state_dict())
    player.load_state_dict(kept)


class Game:
    """C, T and D in the game of Algorithm 1."""

    def __init__(
        self, config: TrialConfig, players: dict[str, nn.Module], train: DataLoader[Batch]
    ) -> None:
        """players: pretrained, by role; train: gives the minibatches of each of them."""
        self.config, self.players = config, players
        self.step = 0
        self.batches = {role: endless(train) for role in ROLES}
        self.adams = {
            role: new_adam(role, player, config.game_learning_rate(role), config.weight_decay)
            for role, player in players.items()
        }
        self.cosines = [
            torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.steps)
            for adam in self.adams.values()
        ]
        self.history: list[dict[str, float]] = []

    def tau(self) -> float:
        """The temperature now."""
        config = self.config
        progress = min(1.0, self.step / max(1, config.steps - 1))
        return float(config.tau_start * (config.tau_end / config.tau_start) ** progress)

    def play(self) -> None:
        """An update of D, then of T, then of C."""
        tau = self.tau()
        notes = self.update_discriminator()
        notes |= self.update_learner("teacher", "classifier", tau)
        notes |= self.update_learner("classifier", "teacher", tau)
        for cosine in self.cosines:
            cosine.step()
        self.step += 1
        self.history.append(notes)

    def update_discriminator(self) -> dict[str, float]:
        """Line 5: true labels against those drawn from C and from T."""
        config = self.config
        images, labels = next(self.batches["discriminator"])
        drawn = []
        for role in ("classifier", "teacher"):
            with torch.no_grad():
                logits = self.players[role].eval()(images)
            categorical = torch.distributions.Categorical(logits=logits)
            labelled: Tensor = categorical.sample((config.samples,))  # type: ignore[no-untyped-call]
            drawn.append(labelled.T)
        scores = self.players["discriminator"].train()(images)
        accepted = F.logsigmoid(scores).gather(1, labels.unsqueeze(1)).mean()
        of_classifier, of_teacher = (F.logsigmoid(-scores).gather(1, z).mean() for z in drawn)
        loss = -(accepted + config.alpha * of_classifier + (1.0 - config.alpha) * of_teacher)
        self.descend("discriminator", loss)
        return {"loss_discriminator": loss.item()}

    def update_learner(self, role: str, other: str, tau: float) -> dict[str, float]:
        """Lines 8 and 11: the concrete distribution's gradient, and distillation."""
        config = self.config
        weight, distilled_weight = (
            (config.alpha, config.beta) if role == "classifier"
            else (1.0 - config.alpha, config.gamma)
        )  # fmt: skip
        images, _ = next(self.batches[role])
        logits = self.players[role].train()(images)
        with torch.no_grad():
            rewards = F.logsigmoid(-self.players["discriminator"].eval()(images))
            targets = self.players[other].eval()(images)
        many = logits.expand(config.samples, -1, -1)
        chosen = F.gumbel_softmax(many, tau=tau, hard=True)
        adversarial = (chosen * rewards).sum(dim=2).mean()
        distilled = 0.5 * (logits - targets).square().sum(dim=1).mean()
        loss = weight * adversarial + distilled_weight * distilled
        self.descend(role, loss)
        rejection = (logits.softmax(dim=1) * rewards).sum(dim=1).mean()
        return {
            f"loss_{role}": loss.item(), f"rejection_{role}": rejection.item(),
            f"distillation_{role}": distilled.item(),
        }  # fmt: skip

    def descend(self, role: str, loss: Tensor) -> None:
        """One step of the player's Adam."""
        self.adams[role].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adams[role].step()


class SeedScore(NamedTuple):
    """How a seed ended: accuracies at the best validation check, in [0, 1], and seconds."""

    seed: int
    valid: float
    test: float
    seconds: float


def train_seed(
    config: TrialConfig, seed: int, data_dir: Path | None, report: Report | None = None
) -> SeedScore:
    """Pretrains the three players, plays the game, tests C at its best validation check.

    Args:
        config: the cell; see EXPECTED.
        seed: of images and of all that is random.
        data_dir: the data folder.
        report: gets the metrics of every validation check.

    Raises:
        ValueError: the config asks for what this program does not do.
    """
    check(config)
    started = time.perf_counter()
    torch.manual_seed(seed)
    random.seed(seed)
    parts = load_parts(config, seed, data_dir)
    players = {role: new_player(role, config) for role in ROLES}
    for role, player in players.items():
        pretrain(role, player, config, parts)
    game = Game(config, players, parts.train)
    every = config.steps / config.evaluations
    checks = {round(every * (i + 1)) for i in range(config.evaluations)}
    best, kept = -1.0, copy.deepcopy(players["classifier"].state_dict())
    while game.step < config.steps:
        game.play()
        if game.step not in checks:
            continue
        score = accuracy(players["classifier"], parts.valid)
        if score > best:
            best, kept = score, copy.deepcopy(players["classifier"].state_dict())
        if report is not None:
            teacher = accuracy(players["teacher"], parts.valid)
            report(check_metrics(game, seed, score, teacher))
        game.history.clear()
    players["classifier"].load_state_dict(kept)
    test = accuracy(players["classifier"], parts.test)
    return SeedScore(seed, best, test, time.perf_counter() - started)


def check_metrics(game: Game, seed: int, score: float, teacher: float) -> dict[str, float]:
    """What a validation check has to say: scores, and means of what was noted since the last."""
    metrics = {name: statistics.fmean(n[name] for n in game.history) for name in game.history[0]}
    return metrics | {
        "seed": seed, "step": game.step, "tau": game.tau(), "valid_accuracy": score,
        "valid_accuracy_teacher": teacher,
    }  # fmt: skip


def check(config: TrialConfig) -> None:
    """Raises ValueError where the config asks for what this program does not do."""
    for name, value in EXPECTED.items():
        if getattr(config, name) != value:
            raise ValueError(f"{name}={getattr(config, name)!r}: the baseline has {value!r} only")


def train_cell(values: dict[str, Any]) -> None:
    """The function trainable: one cell under each of its seeds, in a process of its own.

    Args:
        values: of the configuration, and `data_dir`.
    """
    from ray import tune

    torch.set_num_threads(1)
    values = dict(values)
    data_dir = Path(values.pop("data_dir"))
    config = TrialConfig.from_dict(values["cell"])
    scores = [train_seed(config, seed, data_dir, tune.report) for seed in config.seeds]
    found = {f"test_accuracy/seed_{one.seed}": one.test for one in scores}
    found["test_accuracy"] = statistics.fmean(one.test for one in scores)
    tune.report({**found, "seconds": sum(one.seconds for one in scores)})


def sweep(cells: list[TrialConfig], data_dir: Path, folder: Path) -> list[float]:
    """Trains the cells with Ray Tune, one a core, and logs them to mlflow.db in the folder.

    Returns:
        Seconds of each cell's training, all seeds, pretraining included.
    """
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    place = folder.resolve()
    logger = MLflowLoggerCallback(f"sqlite:///{place}/mlflow.db", experiment_name="naive")
    cell = tune.grid_search([one.as_dict() for one in cells])
    ended = tune.run(
        train_cell, config={"cell": cell, "data_dir": str(data_dir.resolve())},
        resources_per_trial={"cpu": 1}, storage_path=str(place / "ray"), callbacks=[logger],
        verbose=0,
    )  # fmt: skip
    return [float(trial.last_result["seconds"]) for trial in ended.trials]


def main() -> None:
    from benchmarks.common import mnist_config
    from kdgan_core.data.fetch import default_data_dir

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", type=int, default=2, help="levels of beta")
    parser.add_argument("--seeds", type=int, default=3, help="of a cell")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=Path(), help="for mlflow.db and ray/")
    parser.add_argument("--data-dir", type=Path, default=None)
    asked = parser.parse_args()
    config = mnist_config(seeds=tuple(range(asked.seeds)), steps=asked.steps)
    cells = [config.replace(beta=2.0**power) for power in range(asked.cells)]
    sweep(cells, asked.data_dir or default_data_dir(), asked.folder)


if __name__ == "__main__":
    main()
