"""The command line in this process, a driver in another one, and what shows that one wrote."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from sweeps.run import main

COMMAND = "python sweeps/run.py digits --set 'alpha=0.5'"
DRIVER = """
import sys
from pathlib import Path
from sweeps.folder import locked, make_folder
with locked(make_folder(Path(sys.argv[1])), sys.argv[2]):
    print("driving", flush=True)
    sys.stdin.read()
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def refusal(result: Result) -> str:
    """The one sentence with which a command was refused."""
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


@contextmanager
def driven(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process drives the sweep of a folder, with `COMMAND`, as long as the block lasts."""
    words = [sys.executable, "-c", DRIVER, str(folder), COMMAND]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None and driver.stdout.readline() == "driving\n"
        try:
            yield driver
        finally:
            driver.communicate(timeout=10)


def traces(folder: Path) -> dict[str, tuple[int, ...]]:
    """What would show that something in a folder was written."""
    stats = {path: path.stat() for path in (folder, *folder.rglob("*"))}
    return {
        str(path): (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size)
        for path, stat in stats.items()
    }
