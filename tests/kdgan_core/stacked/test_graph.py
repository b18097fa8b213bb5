"""What can be tested of CUDA graphs without CUDA: their bookkeeping, and the way without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdgan_core.config import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.replica import Replica
from kdgan_core.stacked import stack as stack_module
from kdgan_core.stacked.graph import capture
from kdgan_core.stacked.stack import EAGER_ROUNDS, Stack

CPU = torch.device("cpu")
ROUNDS = EAGER_ROUNDS + 4
CASES: list[dict[str, object]] = [
    {},
    {"schedule": "fused", "teacher_average": 0.9, "gamma_schedule": "cosine"},
    {"method": "nagan", "discriminator_warmup": 2},
    {"method": "mimic"},
]


class Replayed:
    """Stands in for a CUDA graph: plays the round again, which counts nothing on the host.

    The capture plays it once, so that the host counts, and takes back what it did.
    """

    def __init__(self, stack: Stack, play: Callable[[], None]) -> None:
        self.stack, self.play, self.replays = stack, play, 0
        tensors = self._tensors()
        kept = [tensor.clone() for tensor in tensors]
        generators = [g for replica in stack.replicas for g in replica.generators().values()]
        states = [generator.get_state() for generator in generators]
        play()
        for tensor, before in zip(tensors, kept, strict=True):
            tensor.copy_(before)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)

    def _tensors(self) -> list[Tensor]:
        """All that a round changes on the device."""
        stack = self.stack
        found = [*stack._sums.values()]
        for player in (*stack.players.values(), *stack.averages.values()):
            found += [parameter.detach() for parameter in player.parameters()]
        for replica in stack.replicas:
            for optimizer in replica.optimizers.values():
                for state in optimizer.state.values():
                    found += [state["step"], state["exp_avg"], state["exp_avg_sq"]]
        return found

    def replay(self) -> None:
        self.replays += 1
        stack, counts = self.stack, self.stack._counts.copy()
        drawn = {role: stream.drawn for role, stream in stack.streams.items()}
        stack._is_capturing = True
        self.play()
        stack._is_capturing, stack._counts = False, counts
        assert drawn == {role: stream.drawn for role, stream in stack.streams.items()}


@pytest.fixture
def make_replicas(
    make_config: Callable[..., TrialConfig], cache_dir: Path
) -> Callable[..., list[Replica]]:
    def make(**changes: object) -> list[Replica]:
        config = make_config(pretrain_steps=40, **changes)
        dataset = load_dataset("digits", None)
        return [Replica(config, seed, dataset, cache_dir, CPU) for seed in (0, 1)]

    return make


def run_with_graph(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> list[Replayed]:
    """Runs ROUNDS as on CUDA, but for the streams."""
    graphs: list[Replayed] = []

    def stand_in(play: Callable[[], None], *rest: Any) -> Replayed:
        graphs.append(Replayed(stack, play))
        return graphs[-1]

    monkeypatch.setattr(stack_module, "capture", stand_in)
    stack._stream = object()  # type: ignore[assignment]
    stack._run(ROUNDS)
    stack._stream = None
    stack._settle(0.0)
    return graphs


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_replayed_rounds_are_the_played_ones(
    changes: dict[str, object],
    make_replicas: Callable[..., list[Replica]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit: weights, notes, counts and random streams."""
    played, replayed = make_replicas(**changes), make_replicas(**changes)
    Stack(played).train_to(ROUNDS)
    (graph,) = run_with_graph(Stack(replayed), monkeypatch)
    assert graph.replays == ROUNDS - EAGER_ROUNDS
    for one, other in zip(played, replayed, strict=True):
        for role, player in one.players.items():
            theirs = other.players[role].state_dict()
            assert all(torch.equal(v, theirs[name]) for name, v in player.state_dict().items())
        assert one.read_notes() == other.read_notes()
        assert (one.updates, one.round) == (other.updates, other.round)
        for name, generator in one.generators().items():
            assert torch.equal(generator.get_state(), other.generators()[name].get_state())


def test_a_round_with_several_updates_of_a_player_is_not_captured(
    make_replicas: Callable[..., list[Replica]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its minibatches cannot all be drawn before it."""
    assert run_with_graph(Stack(make_replicas(classifier_steps=2)), monkeypatch) == []


def test_where_cuda_refuses_the_round_is_played_without(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        def __init__(self) -> None:
            raise RuntimeError("CUDA error: operation not permitted\nmore")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Refused)
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    with pytest.warns(UserWarning, match="without a CUDA graph.* operation not permitted$"):
        assert capture(lambda: None, [generator], None) is None  # type: ignore[arg-type]
    assert torch.equal(generator.get_state(), before)
