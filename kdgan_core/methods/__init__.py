"""The training methods, one module each: which players it has, and one round of their updates."""

from __future__ import annotations

from kdgan_core.methods import kdgan, nagan, supervised
from kdgan_core.methods.method import Method

METHODS: dict[str, Method] = {
    "kdgan": Method(("classifier", "teacher", "discriminator"), kdgan.play_round),
    "nagan": Method(("classifier", "discriminator"), nagan.play_round),
    "supervised": Method(("classifier",), supervised.play_round),
}

__all__ = ["METHODS", "Method"]
