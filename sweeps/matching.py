"""Compute of the arms of a table, and the steps that give every arm as much as KDGAN has.

Compute is counted over all players, pretraining included, in updates (one of any player counts 1)
or in seconds of this machine's players (measured by benchmarks/updates.py). Validation checks are
left out: every arm has as many. Pure functions, importable without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdgan_core.config import TrialConfig
from kdgan_core.names import RECOMMENDERS
from sweeps.factors import SpaceError

CLASSIFIER, TEACHER, DISCRIMINATOR = "classifier", "teacher", "discriminator"
# Players that a method pretrains; supervised has the one it is told to have.
PRETRAINED: dict[str, tuple[str, ...]] = {
    "kdgan": (CLASSIFIER, TEACHER, DISCRIMINATOR),
    "nagan": (CLASSIFIER, DISCRIMINATOR),
    "distn": (CLASSIFIER, TEACHER),
    "mimic": (CLASSIFIER, TEACHER),
    "noisy": (CLASSIFIER, TEACHER),
    "codis": (),
    **dict.fromkeys(RECOMMENDERS, ()),
}
FIXED_TEACHER = ("distn", "mimic", "noisy")  # methods whose teacher is pretrained only


@dataclass(frozen=True)
class Price:
    """What an arm's compute is counted with.

    Attributes:
        pretraining: role -> an update of that player in pretraining.
        round: one round of the arm.
    """

    pretraining: Mapping[str, float]
    round: float


def pretrained(config: TrialConfig) -> dict[str, int]:
    """Role -> updates in pretraining, of the players that the method pretrains."""
    roles = PRETRAINED.get(config.method, (config.player,))
    return {role: config.pretraining(role) for role in roles}


def round_updates(config: TrialConfig) -> int:
    """Updates of all players in one round."""
    match config.method:
        case "kdgan":
            return config.discriminator_steps + config.teacher_steps + config.classifier_steps
        case "nagan":
            return config.discriminator_steps + config.classifier_steps
        case "codis":
            return config.teacher_steps + config.classifier_steps
    return config.classifier_steps


def updates_price(config: TrialConfig) -> Price:
    """An update of any player counts 1."""
    return Price(dict.fromkeys((CLASSIFIER, TEACHER, DISCRIMINATOR), 1), round_updates(config))


def seconds_price(table: Mapping[str, Any] | None, arm: str, missing: str) -> Price:
    """What a space file's `[update_seconds.N]` says of an arm.

    Args:
        table: pretrain_classifier, pretrain_teacher, pretrain_discriminator, and `round`, a table
            of arm -> seconds; None if the size has none.
        arm: name of the arm.
        missing: what to say where a line is missing.

    Raises:
        SpaceError: one is.
    """
    try:
        if table is None:
            raise KeyError(arm)
        roles = (CLASSIFIER, TEACHER, DISCRIMINATOR)
        seconds = {role: float(table[f"pretrain_{role}"]) for role in roles}
        return Price(seconds, float(table["round"][arm]))
    except KeyError as error:
        raise SpaceError(f"matched=seconds: no {error.args[0]} {missing}") from None


def preparation(config: TrialConfig, price: Price) -> float:
    """Compute of one seed before its first round: pretraining, and D's head start, whose updates
    count as those of D in pretraining."""
    updates = pretrained(config)
    if DISCRIMINATOR in updates:
        updates[DISCRIMINATOR] += config.discriminator_warmup
    return sum(price.pretraining[role] * count for role, count in updates.items())


def compute(config: TrialConfig, price: Price) -> float:
    """Compute of one seed: all players' pretraining and all rounds."""
    return preparation(config, price) + price.round * config.rounds


def match(config: TrialConfig, price: Price, reference: TrialConfig, budget: float) -> TrialConfig:
    """`config` with as many rounds as fit into the budget, never more.

    A teacher that is fixed gets all updates that the reference's has, in pretraining; the rest of
    the budget is C's. All others get it as rounds of their own, after their own pretraining.

    Args:
        config: the arm's recipe.
        price: what the arm's compute is counted with.
        reference: KDGAN's recipe.
        budget: its compute.

    Raises:
        SpaceError: not one round fits, or `config` has more validation checks than rounds.
    """
    if config.method in RECOMMENDERS:
        return config  # fitted as its paper says, whatever that takes
    if config.method in FIXED_TEACHER:
        updates = reference.pretraining(TEACHER) + reference.rounds * reference.teacher_steps
        config = config.replace(teacher_pretrain_steps=updates)
    rounds = int((budget - preparation(config, price)) // price.round)
    if rounds < 1:
        raise SpaceError(
            f"matched={config.matched}: {config.method} at n={config.train_size:,} has no compute"
            " left for a round after its pretraining: lower its pretrain_steps"
        )
    try:
        matched = config.replace(steps=rounds * config.classifier_steps)
        while compute(matched, price) > budget:  # a division that was rounded up
            rounds -= 1
            matched = config.replace(steps=rounds * config.classifier_steps)
    except ValueError as error:
        raise SpaceError(str(error)) from None
    return matched
