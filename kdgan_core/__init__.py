"""The training core of KDGAN: one trial function and its types.

`TrialConfig` is importable at once; the others load torch on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kdgan_core.config import TemperatureSchedule, TrialConfig

if TYPE_CHECKING:
    from kdgan_core.trial import Evaluation, Trial, TrialResult, run_trial

__all__ = [
    "Evaluation",
    "TemperatureSchedule",
    "Trial",
    "TrialConfig",
    "TrialResult",
    "run_trial",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("kdgan_core.trial"), name)
    raise AttributeError(f"module 'kdgan_core' has no attribute {name!r}")
