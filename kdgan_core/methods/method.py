"""What a method is to the trial: its players and its round."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kdgan_core.replica import Replica


class Method(NamedTuple):
    """Which players a method has, and how it moves them.

    Attributes:
        players: roles of the players it trains.
        play_round: plays one round at temperature tau.
        frozen: roles of pretrained players that only give targets.
        is_pretrained: whether its players start pretrained; from scratch otherwise.
    """

    players: tuple[str, ...]
    play_round: Callable[[Replica, float], None]
    frozen: tuple[str, ...] = ()
    is_pretrained: bool = True

    @property
    def scored(self) -> str:
        """Role of the player whose accuracy counts."""
        return "classifier" if "classifier" in self.players else self.players[0]
