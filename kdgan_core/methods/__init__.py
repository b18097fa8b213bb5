"""The training methods, one module each: which players it has, and one round of their updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdgan_core.methods import codis, distn, kdgan, mimic, nagan, noisy, supervised
from kdgan_core.methods.method import Method

if TYPE_CHECKING:
    from kdgan_core.config import TrialConfig

_PUPIL = ("classifier",)
_TEACHER = ("teacher",)

METHODS: dict[str, Method] = {
    "kdgan": Method(("classifier", "teacher", "discriminator"), kdgan.play_round),
    "nagan": Method(("classifier", "discriminator"), nagan.play_round),
    "distn": Method(_PUPIL, distn.play_round, frozen=_TEACHER),
    "mimic": Method(_PUPIL, mimic.play_round, frozen=_TEACHER),
    "noisy": Method(_PUPIL, noisy.play_round, frozen=_TEACHER),
    "codis": Method(("classifier", "teacher"), codis.play_round, is_pretrained=False),
    "supervised": Method(_PUPIL, supervised.play_round),
}


def method_of(config: TrialConfig) -> Method:
    """The method of a config; supervised trains the player that the config names."""
    method = METHODS[config.method]
    return method._replace(players=(config.player,)) if config.method == "supervised" else method


__all__ = ["METHODS", "Method", "method_of"]
