"""tau(progress), the temperature of the concrete distribution over training (Eq. 9, section 4)."""

from __future__ import annotations

import math

from kdgan_core.config import TemperatureSchedule


def temperature(schedule: TemperatureSchedule, progress: float) -> float:
    """tau at `progress` in [0, 1], exactly `start` at 0 and `end` at 1.

    The paper decays exponentially from 1.0 to 0.1 without giving the number of steps; here the
    whole training is the unit: tau = start * (end / start) ** progress. A `constant` schedule
    stays at `start` and ignores `end`.

    Raises:
        ValueError: progress outside [0, 1], or an unknown kind.
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress={progress!r} is outside [0, 1]")
    start, end = schedule.start, schedule.end
    match schedule.kind:
        case "constant":
            return start
        case "exponential":
            return float(start ** (1.0 - progress) * end**progress)
        case "linear":
            return start * (1.0 - progress) + end * progress
        case "cosine":
            weight = 0.5 * (1.0 + math.cos(math.pi * progress))
            return start * weight + end * (1.0 - weight)
    raise ValueError(f"tau_kind={schedule.kind!r} is not a known schedule")
