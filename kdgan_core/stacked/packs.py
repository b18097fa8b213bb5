"""Which replicas of a trial are trained as one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import torch

from kdgan_core.config import TrialConfig
from kdgan_core.data.task import Scores
from kdgan_core.replica import Replica
from kdgan_core.stacked.stack import Stack, why_not
from kdgan_core.tagging.fitted import Fitted

# How many seeds are trained as one: so many, one by one (none), or what suits the device (auto:
# on CUDA as many as find memory, on a CPU, where it is slower, one by one).
Pack = int | Literal["auto", "none"]

MOST = 32  # from here on more replicas do not make a GPU's kernels cheaper
MEMORY_SHARE = 0.5  # of what is free, since other trials may share the GPU
# Of a replica, beside its weights: what a minibatch and a check take, measured generously.
WORKING_BYTES = 256 * 2**20


def parse_pack(text: str) -> Pack:
    """auto, none, or the number that the text is.

    Raises:
        ValueError: it is none of these.
    """
    if text == "auto":
        return "auto"
    if text == "none":
        return "none"
    if not text.isdecimal():
        raise ValueError(f"pack={text!r} is not auto, none or a number above 0")
    return int(text)


class Group(Protocol):
    """Replicas that are trained and checked together."""

    @property
    def replicas(self) -> Sequence[Replica | Fitted]: ...

    def train_to(self, round_number: int) -> None: ...

    def tau(self) -> float: ...

    def validate(self) -> Mapping[int, Scores]:
        """Seed -> validation scores of the scored player."""
        ...


class _Alone:
    """A group of one."""

    def __init__(self, replica: Replica | Fitted) -> None:
        self.replicas = [replica]

    def train_to(self, round_number: int) -> None:
        self.replicas[0].train_to(round_number)

    def tau(self) -> float:
        return self.replicas[0].tau()

    def validate(self) -> dict[int, Scores]:
        return {self.replicas[0].seed: self.replicas[0].validate()}


class _Stacked:
    """A group whose stack is made when there is something to train."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self._stack: Stack | None = None

    def train_to(self, round_number: int) -> None:
        if self._stack is None and round_number > self.replicas[0].round:
            self._stack = Stack(self.replicas)
        if self._stack is not None:
            self._stack.train_to(round_number)

    def tau(self) -> float:
        return self.replicas[0].tau()

    def validate(self) -> dict[int, Scores]:
        if self._stack is None:
            return {replica.seed: replica.validate() for replica in self.replicas}
        found = self._stack.validate(self.replicas[0].scored)
        return {one.seed: scores for one, scores in zip(self.replicas, found, strict=True)}


class Packs:
    """The groups of a trial's replicas, kept for as long as the same replicas live."""

    def __init__(self, config: TrialConfig, device: torch.device, pack: Pack) -> None:
        """Warns where a config cannot be stacked though it is asked for.

        Raises:
            ValueError: pack is a number below 1.
        """
        if isinstance(pack, int) and pack < 1:
            raise ValueError(f"pack={pack!r} is out of range: it must be at least 1, auto or none")
        self.device, self.pack = device, pack
        self._groups: list[Group] = []
        self._of: list[int] = []
        is_asked = isinstance(pack, int) and pack > 1
        reason = why_not(config) if is_asked or (pack == "auto" and device.type == "cuda") else ""
        self.is_stackable = not reason
        if reason and is_asked:
            warnings.warn(reason, stacklevel=3)

    def of(self, replicas: Sequence[Replica | Fitted]) -> list[Group]:
        """The groups of these replicas, in their order."""
        names = [id(replica) for replica in replicas]
        if names != self._of:
            self._groups, self._of = self._grouped(replicas), names
        return self._groups

    def _grouped(self, replicas: Sequence[Replica | Fitted]) -> list[Group]:
        trained = [replica for replica in replicas if isinstance(replica, Replica)]
        size = self._size(trained) if len(trained) == len(replicas) else 1
        if size == 1:
            return [_Alone(replica) for replica in replicas]
        parts = [trained[first : first + size] for first in range(0, len(trained), size)]
        return [_Stacked(part) if len(part) > 1 else _Alone(part[0]) for part in parts]

    def _size(self, replicas: list[Replica]) -> int:
        if not self.is_stackable or self.pack == "none" or not replicas:
            return 1
        if isinstance(self.pack, int):
            return self.pack
        return fitting(replicas[0], self.device) if self.device.type == "cuda" else 1


def fitting(replica: Replica, device: torch.device) -> int:
    """How many replicas like this one find memory on a GPU together."""
    free, _ = torch.cuda.mem_get_info(device)
    count = sum(p.numel() for player in replica.players.values() for p in player.parameters())
    each = WORKING_BYTES + 6 * 4 * count  # weights, gradients, two moments, the best, a copy
    return max(1, min(MOST, int(MEMORY_SHARE * free // each)))
