"""What the benchmarks of speed have in common: the machine in words, timing in turns, tables."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from kdgan_core.config import TrialConfig
from sweeps.environment import code_version, hardware, package_versions
from sweeps.loading import load_space

ROOT = Path(__file__).resolve().parents[1]
# Of a study on two cores: 30 cells, each under three seeds.
STUDY_SEEDS = (0, 1, 2)
STUDY_STEPS = 500
KNOBS = ("alpha", "beta", "gamma", "tau_kind", "tau_start", "tau_end")


class Goal(NamedTuple):
    """A figure that a benchmark is held to by --check.

    Attributes:
        name: what is measured.
        value: as found.
        limit: the largest, or with `at_least` the smallest, that is good.
        at_least: which of the two `limit` is.
    """

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        met = "met" if self.is_met else "MISSED"
        return f"{self.name}: {self.value:.3g}, aim {word} {self.limit:.3g}: {met}"


def options(doc: str | None) -> argparse.ArgumentParser:
    """A parser with what benchmarks have in common; the script adds to it."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 where an aim is missed")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--data-dir", type=Path, help="default: KDGAN_DATA or the user's cache")
    return parser


def mnist_config(**changes: object) -> TrialConfig:
    """The baseline cell of mnist at n=1,000, the paper's players, with changes."""
    space = load_space("mnist", "sensitivity", train_sizes=(1000,))
    return space.base_config(1000).replace(**changes)


def where(threads: int) -> dict[str, object]:
    """The machine, the versions, the code and the time of a measurement."""
    commit, has_changes = code_version()
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit[:12] + ("+" if has_changes else ""),
        "threads": threads, **hardware(), **package_versions(),
    }  # fmt: skip


def conclude(
    name: str, figures: Mapping[str, object], goals: Sequence[Goal], threads: int, check: bool
) -> int:
    """Prints the goals and the JSON line; the exit code, 1 where a goal is to be met and is not.

    Args:
        name: of the benchmark.
        figures: for the JSON line.
        goals: what was to be reached.
        threads: of torch, in what was measured.
        check: whether a missed goal is a failure.
    """
    print()
    for goal in goals:
        print(goal)
    reached = {goal.name: goal.is_met for goal in goals}
    print(json.dumps({"benchmark": name, **figures, "goals": reached, **where(threads)}))
    return int(check and not all(reached.values()))


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table in columns, numbers with three digits; the first column is words."""
    text = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in text) for column in range(len(head))]
    for row in text:
        first = row[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join([first, *rest]).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def in_turn(
    measures: Mapping[str, Callable[[], float]], passes: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Name -> what each pass found. All are measured in every pass, so that a drift of the machine
    falls on all of them; every other pass goes the other way round.

    Args:
        measures: name -> does the work once and returns its seconds.
        passes: that count.
        warm_up: passes before them.
    """
    found: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(warm_up + passes):
        names = list(measures)[:: 1 if number % 2 else -1]
        for name in names:
            seconds = measures[name]()
            if number >= warm_up:
                found[name].append(seconds)
    return found


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Name -> median."""
    return {name: statistics.median(values) for name, values in found.items()}


def spread(values: Sequence[float]) -> str:
    """Smallest and largest, in words."""
    return f"{min(values):.3g} to {max(values):.3g}"


def ratio(found: Mapping[str, Sequence[float]], name: str, baseline: str) -> float:
    """Median over the passes of the ratio of two that were measured in the same pass."""
    pairs = zip(found[name], found[baseline], strict=True)
    return statistics.median(one / other for one, other in pairs)


def environment() -> dict[str, str]:
    """For commands of this checkout: one thread a core, no cluster and no store but their own."""
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    foreign = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
    return {**{k: v for k, v in os.environ.items() if k not in foreign}, **own}


def run(words: Sequence[str], folder: Path) -> float:
    """Wall seconds of a Python command in a folder.

    Raises:
        SystemExit: it failed; its output is the message.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout[-4000:]}")
    return time.perf_counter() - started
