"""What a method is to the trial: its players and its round."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kdgan_core.replica import Replica


class Method(NamedTuple):
    """Roles of the players it trains, and the function that plays one round at temperature tau."""

    players: tuple[str, ...]
    play_round: Callable[[Replica, float], None]
