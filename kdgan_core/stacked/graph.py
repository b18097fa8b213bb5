"""One round of a stack as a CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import torch


def capture(
    play: Callable[[], None], generators: Iterable[torch.Generator], stream: torch.cuda.Stream
) -> torch.cuda.CUDAGraph | None:
    """The graph of a round that asks nothing of the host; None, and a warning, where CUDA refuses.

    Nothing is computed by the capture; the generators stay where they are.

    Args:
        play: the round. It has been played some times, so that all it keeps is in its place.
        generators: all that the round draws from.
        stream: that the round is played on, not the default one.
    """
    states = [(generator, generator.get_state()) for generator in generators]
    try:
        graph = torch.cuda.CUDAGraph()
        for generator, _ in states:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=stream):
            play()
    except RuntimeError as error:
        for generator, state in states:
            generator.set_state(state)
        reason = str(error).strip().splitlines()[0]
        warnings.warn(
            f"a round is played without a CUDA graph, at more launches: {reason}", stacklevel=2
        )
        return None
    return graph
