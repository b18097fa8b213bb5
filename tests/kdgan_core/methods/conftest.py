"""Methods on one fixed minibatch: the losses that a round descends, and their golden values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdgan_core.replica import Replica

GOLDEN = json.loads((Path(__file__).parent / "golden_rounds.json").read_text())
# Neither dropout nor augmentation, so that a loss can be written down by hand.
PLAIN: dict[str, object] = {
    "classifier_dropout": 0, "teacher_dropout": 0, "rotation_degrees": 0, "shift": 0, "zoom": 0,
}  # fmt: skip


class Scene:
    """A replica whose players all see the first minibatch of C's stream, again and again.

    Attributes:
        images: (B, 1, 8, 8) float.
        labels: (B,).
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        first = next(iter(replica.streams.values()))
        self.images, self.labels = first.next()
        for stream in replica.streams.values():
            stream.next = lambda: (self.images, self.labels)  # type: ignore[method-assign]
        self._noise = torch.Generator()
        self._noise.set_state(replica.noise.get_state())

    def logits(self, player: nn.Module, dropout: torch.Generator | None = None) -> Tensor:
        """(B, K) in float64. With a generator in training mode, leaving the generator alone."""
        copy = None
        if dropout is not None:
            copy = torch.Generator()
            copy.set_state(dropout.get_state())
        with torch.no_grad():
            scores: Tensor = player(self.images, copy)
        return scores.double()

    @property
    def h(self) -> Tensor:
        return self.logits(self.replica.players["classifier"])

    @property
    def f(self) -> Tensor:
        both = {**self.replica.frozen, **self.replica.players}
        return self.logits(both["teacher"])

    @property
    def g(self) -> Tensor:
        return self.logits(self.replica.players["discriminator"])

    def draw(self, logits: Tensor, count: int) -> Tensor:
        """(count, B) labels from softmax(logits), as the replica's next ones will be."""
        uniform = torch.rand(count, *logits.shape, generator=self._noise)
        return (logits - (-(1.0 - uniform).log()).log()).argmax(dim=2)

    def uniform(self, count: int) -> Tensor:
        """(count,) from U(0, 1), as the replica's next ones will be."""
        return torch.rand(count, generator=self._noise).double()

    def normal(self, *shape: int) -> Tensor:
        """From N(0, 1), as the replica's next ones will be."""
        return torch.randn(shape, generator=self._noise).double()

    def cross_entropy(self, logits: Tensor) -> float:
        """Against the true labels."""
        return -float(logits.log_softmax(1)[range(len(logits)), self.labels].mean())

    def half_squared_distance(self, one: Tensor, two: Tensor) -> float:
        """(1/2B) sum_i ||one_i - two_i||^2."""
        return float((one - two).square().sum()) / (2 * len(one))

    def softened_divergence(self, target: Tensor, own: Tensor, temperature: float) -> float:
        """T^2 KL(softmax(target / T) || softmax(own / T)), mean over the images."""
        p, q = (target / temperature).softmax(1), (own / temperature).softmax(1)
        return temperature**2 * float((p * (p / q).log()).sum(1).mean())

    def losses(self, tau: float = 0.5) -> dict[str, float]:
        """Role -> the loss it would descend in a round; nothing is updated."""
        found: dict[str, float] = {}
        descend = self.replica.descend_together
        self.replica.descend_together = (  # type: ignore[method-assign]
            lambda losses: found.update({role: loss.item() for role, loss in losses.items()})
        )
        self.replica.method.play_round(self.replica, tau)
        self.replica.descend_together = descend  # type: ignore[method-assign]
        return found


@pytest.fixture
def make_scene(make_replica: Callable[..., Replica]) -> Callable[..., Scene]:
    """A function that returns the scene of a config's first seed, without any randomness but
    that of the sampled labels."""

    def make(**changes: object) -> Scene:
        return Scene(make_replica(**{"pretrain_steps": 60, "samples": 4, **PLAIN, **changes}))

    return make


@pytest.fixture(scope="session")
def assert_losses() -> Callable[[str, dict[str, float], dict[str, float]], None]:
    """A function that holds a round's losses to those by hand and to the committed ones."""

    def check(name: str, found: dict[str, float], by_hand: dict[str, float]) -> None:
        assert found == pytest.approx(by_hand, rel=1e-5)
        assert found == pytest.approx(GOLDEN[name], rel=1e-4)

    return check
