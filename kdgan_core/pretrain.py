"""Supervised pretraining of C, T and D (Algorithm 1, line 1), each trained once and kept.

Pretrained players depend on the data, the seed, the architecture and the recipe, and on none of
alpha, beta, gamma, tau: every cell of a sweep shares them. They are kept in the cache folder under
a hash of all they depend on.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from kdgan_core.config import TrialConfig
from kdgan_core.data.batches import make_generator
from kdgan_core.data.task import PlayerShape, TaskData
from kdgan_core.losses import label_loss
from kdgan_core.player_cache import cached, make_unclaimed
from kdgan_core.players import build_player, parameter_groups

# Raise when pretraining changes, so that players of an older recipe are not picked up.
RECIPE = 4
CHECKS = 6  # validation checks over pretraining

# Everything in a config that a pretrained player depends on, besides how long it is trained.
DEPENDS_ON = (
    "dataset", "train_size", "draw", "valid_size", "learning_rate_schedule", "batch_size",
    "architecture", "weight_decay", "rotation_degrees", "shift", "zoom", "mirroring",
    "color_jitter", "cutout", "matmul_precision", "label_loss",
)  # fmt: skip
# And besides these, where the data set has tags; the files are in the data's checksum.
TAGS_DEPEND_ON = (
    "feature_dropout",
    "word_dropout",
    "text_pooling",
    "embedding_size",
    "word_start",
)
DROPOUT = {
    "classifier": "classifier_dropout", "teacher": "teacher_dropout",
    "discriminator": "teacher_dropout",
}  # fmt: skip


class Pretrained(NamedTuple):
    """A pretrained player, and the seconds that its training took when it was trained."""

    player: nn.Module
    seconds: float


def fresh_player(
    role: str, config: TrialConfig, seed: int, device: torch.device,
    shape: PlayerShape | None = None,
) -> nn.Module:  # fmt: skip
    """The player with the seed's first weights, which every method starts from."""
    generator = make_generator(seed, f"init {role}", torch.device("cpu"))
    return build_player(role, config, generator, shape).to(device)


def scheduled_learning_rate(config: TrialConfig, base: float, progress: float) -> float:
    """The learning rate at `progress` in [0, 1]; cosine ends at 0."""
    if config.learning_rate_schedule == "constant":
        return base
    return base * 0.5 * (1.0 + math.cos(math.pi * progress))


def cache_key(role: str, config: TrialConfig, seed: int, checksum: str, device: str) -> str:
    """Hash of everything the pretrained player depends on; `device` is its type (cpu, cuda)."""
    names = (*DEPENDS_ON, DROPOUT[role], *(TAGS_DEPEND_ON if config.has_tags else ()))
    facts = {name: getattr(config, name) for name in names}
    facts["pretrain_steps"] = config.pretraining(role)
    facts["pretrain_learning_rate"] = config.pretraining_learning_rate(role)
    facts |= {"role": role, "seed": seed, "data": checksum, "device": device}
    facts |= {"recipe": RECIPE, "torch": torch.__version__}
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def pretrained_player(
    role: str,
    config: TrialConfig,
    seed: int,
    data: TaskData,
    cache_dir: Path,
    device: torch.device,
) -> Pretrained:
    """The player at its best validation check of pretraining, from the cache if it is there.

    Safe under many processes: the first one trains, the others wait for it. A damaged entry is
    trained again; how much is kept says `player_cache.size_limit`.

    Raises:
        OSError: the cache folder cannot be written.
        ValueError: the cache's limit is no number.
    """
    path = _entry(role, config, seed, data, cache_dir, device)
    player = fresh_player(role, config, seed, device, data.shape)
    kept = cached(path, device, lambda: _train(role, player, config, seed, data))
    player.load_state_dict(kept["player"])
    return Pretrained(player, float(kept["seconds"]))


def pretrain_unclaimed(
    roles: Sequence[str], config: TrialConfig, seed: int, data: TaskData, cache_dir: Path,
    device: torch.device,
) -> None:  # fmt: skip
    """Pretrains those of a seed's players that are absent and that nobody else is pretraining.

    Workers that begin together so share the work, where each would wait for the other's players.

    Raises:
        OSError: the cache folder cannot be written.
        ValueError: the cache's limit is no number.
    """
    for role in roles:
        path = _entry(role, config, seed, data, cache_dir, device)

        def make(role: str = role) -> dict[str, Any]:
            player = fresh_player(role, config, seed, device, data.shape)
            return _train(role, player, config, seed, data)

        make_unclaimed(path, device, make)


def _entry(
    role: str, config: TrialConfig, seed: int, data: TaskData, cache_dir: Path,
    device: torch.device,
) -> Path:  # fmt: skip
    """Where the player is kept; the folder is made if need be."""
    folder = cache_dir / "pretrained"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{role}-{cache_key(role, config, seed, data.checksum, device.type)}.pt"


def _train(
    role: str, player: nn.Module, config: TrialConfig, seed: int, data: TaskData
) -> dict[str, Any]:
    """The cache's entry of a player, trained in place."""
    started = time.perf_counter()
    train_supervised(role, player, config, seed, data)
    return {"player": player.state_dict(), "seconds": time.perf_counter() - started}


def train_supervised(
    role: str, player: nn.Module, config: TrialConfig, seed: int, data: TaskData
) -> None:
    """Train `player` in place by cross-entropy; leaves it at its best validation check."""
    device = data.device
    stream = data.stream(config, make_generator(seed, f"pretrain batches {role}", device))
    dropout = make_generator(seed, f"pretrain dropout {role}", device)
    base = config.pretraining_learning_rate(role)
    groups = parameter_groups(role, player, config.weight_decay)
    optimizer = torch.optim.Adam(groups, lr=base, fused=True)
    best, best_state = -1.0, copy.deepcopy(player.state_dict())
    steps = config.pretraining(role)
    checks = {round(steps * (i + 1) / CHECKS) for i in range(CHECKS)}
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = scheduled_learning_rate(config, base, (step - 1) / steps)
        inputs, truth = stream.next()
        optimizer.zero_grad(set_to_none=True)
        loss = label_loss(config.label_loss, player(inputs, dropout), truth)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step in checks:
            valid = data.validate(player).metrics[config.score]
            if valid > best:
                best, best_state = valid, copy.deepcopy(player.state_dict())
    player.load_state_dict(best_state)
