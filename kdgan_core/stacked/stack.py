"""R replicas in training as one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.data.batches import Minibatches
from kdgan_core.data.image_data import ImageData, accuracy_scores
from kdgan_core.data.task import Scores
from kdgan_core.draws import Generators, Scalar
from kdgan_core.replica import Replica, average_decay
from kdgan_core.stacked.adam import StackedAdam
from kdgan_core.stacked.batches import StackedBatches
from kdgan_core.stacked.graph import capture
from kdgan_core.stacked.players import stack_players

# What the configs of a stack's replicas may differ in.
OWN = (
    "seeds", "alpha", "beta", "gamma", "tau_kind", "tau_start", "tau_end", "learning_rate",
    "teacher_learning_rate",
)  # fmt: skip
NUMBERS = ("alpha", "beta", "gamma", "tau")  # of each replica, anew in every round
EAGER_ROUNDS = 3  # before a CUDA graph is captured
CONVOLUTION = "grouped"  # one of players.CONVOLUTIONS
VALIDATED = 2000  # images at a time, of all replicas together


class Stack:
    """What `methods.method.Training` asks for, for R replicas; their tensors become views of it.

    A replica draws, learns and notes what it would by itself, up to float error. A replica whose
    numbers are not finite leaves those of the others alone. Between two calls of `train_to` each
    replica is complete: it can be checked, saved, and trained on without the stack.
    """

    def __init__(
        self, replicas: Sequence[Replica], convolution: str = CONVOLUTION, use_graph: bool = True
    ) -> None:
        """Takes over the replicas where they stand.

        Args:
            replicas: at the same round, of configs that differ in OWN alone.
            convolution: one of players.CONVOLUTIONS.
            use_graph: whether rounds on CUDA are captured.

        Raises:
            ValueError: the replicas cannot be stacked.
        """
        _check_alike(replicas)
        first = replicas[0]
        self.replicas, self.config, self.device = list(replicas), first.config, first.device
        self.method, self.round, self.use_graph = first.method, first.round, use_graph
        self.players: dict[str, nn.Module] = {}
        self.adams: dict[str, StackedAdam] = {}
        self._runs: dict[str, list[int]] = {}  # role -> the first replica of each run of its Adam
        for role in first.players:
            players = [replica.players[role] for replica in replicas]
            self.players[role] = stack_players(players, convolution)
            adams = [replica.optimizers[role] for replica in replicas]
            rates = [replica.config.game_learning_rate(role) for replica in replicas]
            self.adams[role] = StackedAdam(self.players[role], players, adams, rates)
            self._runs[role] = [start for start, _ in self.adams[role].runs]
        self.frozen = {
            role: stack_players([replica.frozen[role] for replica in replicas], convolution)
            for role in first.frozen
        }
        self.averages = {
            role: stack_players([replica.averages[role] for replica in replicas], convolution)
            for role in first.averages
        }
        self.streams = _streams(replicas)
        self.dropout: dict[str, Generators] = {
            role: tuple(replica.dropout[role] for replica in replicas) for role in first.dropout
        }
        self.noise: Generators = tuple(replica.noise for replica in replicas)
        count = len(replicas)
        rows = len(NUMBERS) + len(self.players)
        self._table = torch.zeros((rows, count), device=self.device)
        self.alpha, self.beta, self.gamma, self._tau = self._table[: len(NUMBERS)].unbind(0)
        self._rates: dict[str, list[Scalar]] = {}
        self._average_weight = torch.zeros((), device=self.device)
        self._ones = torch.ones(count, device=self.device)
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[tuple[str, str]] = Counter()  # (what, of whom): updates and notes
        is_cuda = self.device.type == "cuda"
        self._stream = torch.cuda.Stream(self.device) if is_cuda else None  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._graph_counts: Counter[tuple[str, str]] = Counter()
        self._graph_streams: list[StackedBatches] = []
        self._is_capturing, self._eager_rounds = False, 0

    @property
    def progress(self) -> float:
        """Fraction of the rounds that are done, in [0, 1]."""
        return self.round / self.config.rounds

    def tau(self) -> float:
        """The first replica's temperature now."""
        return self.replicas[0].tau()

    def train_to(self, round_number: int) -> None:
        """Run rounds until `round_number` of them are done."""
        if self.round >= round_number:
            return
        started = time.perf_counter()
        if self._stream is None:
            self._run(round_number)
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._stream):
                self._run(round_number)
            torch.cuda.synchronize(self.device)
        self._settle((time.perf_counter() - started) / len(self.replicas))

    def play_round(self) -> None:
        """One round as a sequence of launches; `fill` has put its numbers in place."""
        self.method.play_round(self, self._tau)

    def fill(self) -> None:
        """Puts the next round's numbers where it reads them."""
        rows = [[getattr(one, name) for one in self.replicas] for name in NUMBERS[:-1]]
        rows.append([replica.tau() for replica in self.replicas])
        rates = {role: [one.learning_rate(role) for one in self.replicas] for role in self.players}
        self._table.copy_(torch.tensor([*rows, *rates.values()]), non_blocking=True)
        for row, (role, own) in enumerate(rates.items(), start=len(NUMBERS)):
            # On a CPU Adam reads its rate on the host: a number loses nothing on the way.
            on_device = self.device.type == "cuda"
            starts = self._runs[role]
            self._rates[role] = [self._table[row, i] if on_device else own[i] for i in starts]

    def descend(self, role: str, loss: Tensor) -> None:
        """As `Replica.descend`; loss: (R,)."""
        self.descend_together({role: loss})

    def descend_together(self, losses: Mapping[str, Tensor]) -> None:
        """As `Replica.descend_together`; losses: (R,) each."""
        for role in losses:
            self.adams[role].zero_grad()
        torch.autograd.backward(list(losses.values()), [self._ones] * len(losses))
        for role in losses:
            self.adams[role].step(self._rates[role])
            self._counts["updates", role] += 1

    @torch.no_grad()
    def follow(self, role: str, decay: float) -> None:
        """As `Replica.follow`."""
        if not self._is_capturing:
            self._set_average_weight(role, decay, self._counts["updates", role])
        means, now = self.averages[role].parameters(), self.players[role].parameters()
        for mean, weight in zip(means, now, strict=True):
            mean.lerp_(weight, self._average_weight)

    def note(self, name: str, value: Tensor) -> None:
        """As `Replica.note`; value: (R,)."""
        if name not in self._sums:
            self._sums[name] = torch.zeros_like(self._ones)
        self._sums[name] += value.detach()
        self._counts["notes", name] += 1

    @torch.no_grad()
    def validate(self, role: str) -> list[Scores]:
        """Each replica's validation scores of one of its players."""
        data = _image_data(self.replicas)
        player, pixels = self.players[role], data[0].pixels
        labels = torch.stack([one.valid_labels for one in data])
        right = torch.zeros(len(data), dtype=torch.int64, device=self.device)
        batch = max(1, VALIDATED // len(data))
        for start in range(0, labels.shape[1], batch):
            part = slice(start, start + batch)
            images = torch.stack([one.valid_images[part] for one in data])
            predicted = player(pixels.to_input(images)).argmax(dim=2)
            right += (predicted == labels[:, part]).sum(dim=1)
        count = labels.shape[1]
        return [accuracy_scores(found / count, count) for found in right.tolist()]

    def _run(self, round_number: int) -> None:
        while self.round < round_number:
            for replica in self.replicas:
                replica.round = self.round
            self.fill()
            self._play()
            self.round += 1

    def _play(self) -> None:
        if self._graph is None:
            before = {role: stream.drawn for role, stream in self.streams.items()}
            self.play_round()
            self._eager_rounds += 1
            if self._stream is not None and self.use_graph and self._eager_rounds == EAGER_ROUNDS:
                drawn = {role: s.drawn - before[role] for role, s in self.streams.items()}
                if max(drawn.values()) == 1:  # so that all can be drawn before the round
                    self._capture([self.streams[role] for role, count in drawn.items() if count])
            return
        for stream in self._graph_streams:
            stream.draw()
        if self.averages:
            done = self._counts["updates", "teacher"] + 1
            self._set_average_weight("teacher", self.config.teacher_average, done)
        self._graph.replay()
        self._counts.update(self._graph_counts)

    def _capture(self, streams: list[StackedBatches]) -> None:
        """Captures a round, which draws once from each of these streams."""
        assert self._stream is not None
        before = self._counts.copy()
        generators = [g for replica in self.replicas for g in replica.generators().values()]
        for stream in streams:
            stream.is_drawn = True
        self._is_capturing = True
        try:
            self._graph = capture(self.play_round, generators, self._stream)
        finally:
            self._is_capturing = False
            for stream in streams:
                stream.is_drawn = False
        self._graph_counts, self._counts = self._counts - before, before
        self._graph_streams = streams

    def _set_average_weight(self, role: str, decay: float, new_updates: int) -> None:
        first = self.replicas[0]
        updates = first.updates[role] + new_updates - self.config.pretraining(role)
        self._average_weight.fill_(1.0 - average_decay(decay, updates))

    def _settle(self, seconds: float) -> None:
        """Leaves every replica as if it had been trained by itself; seconds: its share."""
        for adam in self.adams.values():
            adam.settle()
        notes = {name: self._counts["notes", name] for name in self._sums}
        for index, replica in enumerate(self.replicas):
            sums = {name: values[index].clone() for name, values in self._sums.items()}
            replica.add_notes(sums, notes)
            replica.round = self.round
            replica.seconds += seconds
            for role in self.players:
                replica.updates[role] += self._counts["updates", role]
        for values in self._sums.values():
            values.zero_()
        self._counts.clear()


def _check_alike(replicas: Sequence[Replica]) -> None:
    first = replicas[0]
    for replica in replicas[1:]:
        ours, theirs = first.config.as_dict(), replica.config.as_dict()
        other = [name for name in ours if name not in OWN and ours[name] != theirs[name]]
        if other:
            raise ValueError(f"replicas that differ in {', '.join(other)} cannot be stacked")
        if replica.round != first.round:
            raise ValueError(
                f"replicas at the rounds {first.round} and {replica.round} cannot be stacked"
            )


def _image_data(replicas: Sequence[Replica]) -> list[ImageData]:
    data = [replica.data for replica in replicas if isinstance(replica.data, ImageData)]
    if len(data) < len(replicas):
        raise ValueError("replicas that train on posts cannot be stacked")
    return data


def _streams(replicas: Sequence[Replica]) -> dict[str, StackedBatches]:
    """Role -> the replicas' minibatches; all roles share one copy of the images."""
    data = _image_data(replicas)
    images = torch.stack([one.train_images for one in data])
    labels = torch.stack([one.train_labels for one in data])
    found: dict[str, StackedBatches] = {}
    for role in replicas[0].streams:
        streams: list[Any] = [replica.streams[role] for replica in replicas]
        own = [stream for stream in streams if isinstance(stream, Minibatches)]
        found[role] = StackedBatches(own, images, labels)
    return found


def why_not(config: TrialConfig) -> str:
    """Why replicas of a config are trained one by one; empty if they need not be."""
    if config.dataset not in ("digits", "mnist"):
        return f"the players of {config.dataset} are trained one by one: they are not stacked"
    if config.method == "codis":
        return "method='codis' is trained one by one: its loss is another after the burn-in"
    return ""
