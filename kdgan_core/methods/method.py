"""What a method is to the trial: its players and its round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdgan_core.config import TrialConfig
    from kdgan_core.data.task import Batches
    from kdgan_core.draws import Generators, Scalar


class Training(Protocol):
    """What a round moves: one replica, or a stack of R whose tensors have R in front.

    The attributes are those of `replica.Replica`. Of a stack, `config` is that of its first
    replica, from which the others differ in their weights, temperatures and learning rates alone.
    """

    @property
    def config(self) -> TrialConfig: ...

    @property
    def players(self) -> Mapping[str, nn.Module]: ...

    @property
    def frozen(self) -> Mapping[str, nn.Module]: ...

    @property
    def averages(self) -> Mapping[str, nn.Module]: ...

    @property
    def streams(self) -> Mapping[str, Batches]: ...

    @property
    def dropout(self) -> Mapping[str, Generators]: ...

    @property
    def noise(self) -> Generators: ...

    @property
    def round(self) -> int: ...

    @property
    def progress(self) -> float: ...

    @property
    def alpha(self) -> Scalar: ...

    @property
    def beta(self) -> Scalar: ...

    @property
    def gamma(self) -> Scalar: ...

    def descend(self, role: str, loss: Tensor) -> None: ...

    def descend_together(self, losses: Mapping[str, Tensor]) -> None: ...

    def follow(self, role: str, decay: float) -> None: ...

    def note(self, name: str, value: Tensor) -> None: ...


class Method(NamedTuple):
    """Which players a method has, and how it moves them.

    Attributes:
        players: roles of the players it trains.
        play_round: plays one round at temperature tau.
        frozen: roles of pretrained players that only give targets.
        is_pretrained: whether its players start pretrained; from scratch otherwise.
    """

    players: tuple[str, ...]
    play_round: Callable[[Training, Scalar], None]
    frozen: tuple[str, ...] = ()
    is_pretrained: bool = True

    @property
    def scored(self) -> str:
        """Role of the player whose accuracy counts."""
        return "classifier" if "classifier" in self.players else self.players[0]
