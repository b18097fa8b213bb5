"""Caps on what one command may spend: no trial starts that would cross one."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields

HOUR = 3600.0


class CapError(ValueError):
    """Caps that cannot be kept as they are written; the message says why."""


@dataclass(frozen=True)
class Caps:
    """Limits on one command, None where there is none. They count from the command's start: the
    same command again may spend as much once more.

    Attributes:
        max_hours: wall time.
        max_gpu_hours: GPUs of the running trials times their wall time.
        max_usd: wall time at `usd_per_hour`.
        max_trials: trials started.
        max_failures: trials failed.
        usd_per_hour: price of all machines together.
    """

    max_hours: float | None = None
    max_gpu_hours: float | None = None
    max_usd: float | None = None
    max_trials: int | None = None
    max_failures: int | None = None
    usd_per_hour: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is a cap at all."""
        return any(getattr(self, f.name) for f in fields(self) if f.name.startswith("max_"))

    def check(self, gpus_per_trial: float | None = None) -> None:
        """Raises CapError for a cap that could never act.

        Args:
            gpus_per_trial: None while it is not known yet.
        """
        for cap in fields(self):
            if not math.isfinite(getattr(self, cap.name) or 0.0):
                raise CapError(f"{self.option(cap.name)} could never act: give a finite number")
        if self.max_usd is not None and self.usd_per_hour is None:
            raise CapError("--max-usd needs a price: add --usd-per-hour")
        if self.max_gpu_hours is not None and gpus_per_trial == 0:
            raise CapError(
                "--max-gpu-hours never acts here, trials get no GPU: use --max-hours, or"
                " --gpus-per-trial where Ray sees GPUs"
            )

    def option(self, name: str) -> str:
        """A cap as it is written on the command line: '--max-hours 2'."""
        return f"--{name.replace('_', '-')} {getattr(self, name):.12g}"


class Budget:
    """Keeps the caps while a command runs.

    Attributes:
        reached: the cap that has ended the command, as an option, "" while none has.
    """

    def __init__(self, caps: Caps, gpus_per_trial: float, started: float | None = None) -> None:
        """The command started at `started` (time.monotonic), or now.

        Raises:
            CapError: a cap could never act.
        """
        caps.check(gpus_per_trial)
        self.caps, self.gpus = caps, gpus_per_trial
        self.reached = ""
        self.started_trials = self.failures = 0
        self._started = time.monotonic() if started is None else started
        self._ended_seconds = 0.0
        self._running: dict[str, tuple[float, float]] = {}  # id -> (start, expected seconds)

    @property
    def hours(self) -> float:
        return (time.monotonic() - self._started) / HOUR

    @property
    def gpu_hours(self) -> float:
        running = sum(time.monotonic() - start for start, _ in self._running.values())
        return self.gpus * (self._ended_seconds + running) / HOUR

    @property
    def usd(self) -> float:
        return self.hours * (self.caps.usd_per_hour or 0.0)

    def allows(self, seconds: float) -> bool:
        """Whether a trial of so many seconds may start; the first refusal sets `reached`."""
        if not self.reached:
            for name, spent in self._after(seconds).items():
                cap = getattr(self.caps, name)
                if cap is not None and spent > cap:
                    self.reached = self.caps.option(name)
                    break
        return not self.reached

    def overrun(self) -> bool:
        """Whether what has been spent is over a cap, so that running trials must stop."""
        spent = {"max_hours": self.hours, "max_gpu_hours": self.gpu_hours, "max_usd": self.usd}
        for name, value in spent.items():
            cap = getattr(self.caps, name)
            if cap is not None and value > cap:
                self.reached = self.reached or self.caps.option(name)
                return True
        return False

    def trial_started(self, key: str, seconds: float) -> None:
        """A trial that was allowed has been handed out, to a worker that is free: one that had to
        wait would end later than `allows` was told, and be charged for its waiting."""
        self.started_trials += 1
        self._running[key] = (time.monotonic(), seconds)

    def trial_ended(self, key: str, failed: bool) -> None:
        started, _ = self._running.pop(key)
        self._ended_seconds += time.monotonic() - started
        self.failures += failed

    def spent(self) -> Mapping[str, float]:
        """What the command has spent so far, by the names of the caps without their max_."""
        return {
            "hours": self.hours, "gpu_hours": self.gpu_hours, "usd": self.usd,
            "trials": float(self.started_trials), "failures": float(self.failures),
        }  # fmt: skip

    def _after(self, seconds: float) -> dict[str, float]:
        """Cap -> what will have been spent once the running trials and this one have ended."""
        now = time.monotonic()
        left = [max(0.0, start + length - now) for start, length in self._running.values()]
        hours = self.hours + max([seconds, *left]) / HOUR
        return {
            "max_hours": hours,
            "max_usd": hours * (self.caps.usd_per_hour or 0.0),
            "max_gpu_hours": self.gpu_hours + self.gpus * (sum(left) + seconds) / HOUR,
            "max_trials": self.started_trials + 1,
            # One more failure would cross it, and whether the trial fails shows too late.
            "max_failures": self.failures + 1,
        }
