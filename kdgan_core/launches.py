"""How many kernels a round launches: what a GPU with small players waits for."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

# Calls that only say how memory is looked at, or reserve it.
NO_KERNEL = {
    f"aten::{name}"
    for name in (
        "_has_compatible_shallow_copy_type", "_reshape_alias", "_unsafe_view", "alias",
        "as_strided", "as_strided_", "broadcast_tensors", "chunk", "conj", "contiguous",
        "detach", "detach_", "empty", "empty_like", "empty_strided", "expand", "expand_as",
        "flatten", "is_pinned", "item", "lift_fresh", "mT", "movedim", "narrow", "numpy_T",
        "permute", "resize_", "resolve_conj", "resolve_neg", "result_type", "select",
        "set_data", "slice", "split", "split_with_sizes", "squeeze", "t", "to", "transpose",
        "unbind", "unflatten", "unfold", "unsafe_split", "unsqueeze", "view", "view_as",
        "_local_scalar_dense", "_version", "new_empty", "new_empty_strided", "numel",
    )
}  # fmt: skip


def count_launches(play: Callable[[], None]) -> Counter[str]:
    """aten call -> how often `play` makes it, by torch's profiler.

    Only calls with a kernel of their own are counted, without what these call in turn: on a GPU
    each is a kernel or a few. Which backend computes changes some of them, so that a number
    counted on a CPU is close to a GPU's and not it.
    """
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        play()
    found = watched.events() or []
    return Counter(event.name for event in found if _launches(event.name) and not _is_inner(event))


@functools.cache
def _launches(name: str) -> bool:
    """Whether a call computes by a kernel of its own, and not by other calls alone."""
    if not name.startswith("aten::") or name in NO_KERNEL:
        return False
    packet = getattr(torch.ops.aten, name.removeprefix("aten::"), None)
    if packet is None:
        return True
    names = [f"{name}.{one}" if one != "default" else name for one in packet.overloads()]
    return not all(map(_is_composite, names))


def _is_composite(name: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd")


def _is_inner(event: FunctionEvent) -> bool:
    """Whether it is made within a call that is counted."""
    outer = event.cpu_parent
    while outer is not None:
        if _launches(outer.name):
            return True
        outer = outer.cpu_parent
    return False


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
