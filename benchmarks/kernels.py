"""How many kernels a piece of training launches: what a GPU with small players waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

ALLOCATIONS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


def count_kernels(do: Callable[[], object]) -> Counter[str]:
    """Operator of torch -> how often it computes something in `do`, backward passes included.

    Views and bare allocations are not among them. On a GPU each is a kernel or a few; which
    backend computes changes some, so that a number of a CPU is close to a GPU's and not it.
    """
    with _Calls() as watched:
        do()
    return watched.calls


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the calls of torch's operators that compute something."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not _is_free(func):
            self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def _is_free(operator: Any) -> bool:
    """Whether an operator only looks at a tensor in another way, or makes an empty one."""
    schema = operator._schema
    if schema.name.removeprefix("aten::") in ALLOCATIONS:
        return True
    aliases = [one.alias_info for one in schema.returns if one.alias_info is not None]
    return bool(aliases) and not any(alias.is_write for alias in aliases)
