"""Seconds until a command answers, and until a sweep of mnist has got as far as starting Ray.

    python benchmarks/startup.py [--check] [--passes 5]

Each is a process of its own, all in turn, the median of the passes. A sweep's start is from the
command to the call that starts Ray: Python, imports, the data with their checksums, the plan.
Ray's own import is taken off, and what Ray takes from there on is not in it; the tracking store is
opened meanwhile.

With --check the exit code is 1 unless --help answers in 0.5 s and a sweep gets to Ray in 3 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder hides a package

from benchmarks.common import ROOT, Goal, conclude, in_turn, medians, print_table, run, spread
from kdgan_core.data.fetch import default_data_dir

HELP = ("sweeps/run.py", "analysis/plot.py")
MOST_HELP, MOST_START = 0.5, 3.0
PLAN = ("mnist", "--mode", "sensitivity", "--train-size", "1000")
UNTIL_RAY = "sweep until Ray"
REACHED = "reached.json"  # when Ray was to be started, and seconds of its import


def help_seconds(script: str) -> Callable[[], float]:
    """A function that returns the seconds of a command's --help."""
    return lambda: run([str(ROOT / script), "--help"], ROOT)


def until_ray(folder: Path, data_dir: Path) -> Callable[[], float]:
    """A function that returns the seconds from a sweep's command to Ray's start."""

    def measure() -> float:
        started = time.time()
        run([__file__, "--sweep", "--data-dir", str(data_dir.resolve())], folder)
        reached = json.loads((folder / REACHED).read_text())
        return float(reached["at"]) - started - float(reached["ray"])

    return measure


def _sweep_until_ray(data_dir: Path) -> None:
    """In a process of its own: the command line, ended where Ray would start."""
    from unittest import mock

    import torch  # noqa: F401  (these two and what they import are not Ray's)

    started = time.perf_counter()
    from ray import tune  # noqa: F401

    ray_seconds = time.perf_counter() - started

    sys.argv = ["sweeps/run.py", *PLAN, "--data-dir", str(data_dir)]
    from sweeps.run import main as command

    def reached() -> None:
        Path(REACHED).write_text(json.dumps({"at": time.time(), "ray": ray_seconds}))
        raise SystemExit(0)

    def stop() -> None:
        """Nothing was started."""

    import sweeps.execute

    with (
        mock.patch.object(sweeps.execute, "start_ray", reached),
        mock.patch.object(sweeps.execute, "stop_ray", stop),
    ):
        command()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 where an aim is missed")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--sweep", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    data_dir = asked.data_dir or default_data_dir()
    if asked.sweep:
        _sweep_until_ray(data_dir)
        return 0
    with tempfile.TemporaryDirectory() as name:
        measures = {f"{script} --help": help_seconds(script) for script in HELP}
        measures[UNTIL_RAY] = until_ray(Path(name), data_dir)
        found = in_turn(measures, asked.passes)
    seconds = medians(found)
    print_table(
        ("what", "seconds", "passes"),
        [(what, seconds[what], spread(values)) for what, values in found.items()],
    )
    goals = [
        Goal(what, one, MOST_START if what == UNTIL_RAY else MOST_HELP)
        for what, one in seconds.items()
    ]
    return conclude("startup", {"seconds": seconds}, goals, 1, asked.check)


if __name__ == "__main__":
    sys.exit(main())
