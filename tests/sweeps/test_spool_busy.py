"""Only one process at a time trains a trial: its spool file is locked."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps import spool as spool_module
from sweeps.spool import SpoolBusy, SpoolWriter, read_spool, spool_path

HOLDER = """
import sys, time
from pathlib import Path
from sweeps.spool import SpoolWriter
writer = SpoolWriter(Path(sys.argv[1]), "abc")
writer.start()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is training trial abc."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_no_two_processes_train_one_trial(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "LOCK_SECONDS", 0.3)
    with pytest.raises(SpoolBusy, match=f"trial abc is being trained by process {holder.pid} on "):
        SpoolWriter(tmp_path, "abc")
    assert spool_path(tmp_path, "abc").read_bytes().count(b"\n") == 1
    SpoolWriter(tmp_path, "another").close()
    driver = SpoolWriter(tmp_path, "abc", exclusive=False)
    driver.failed("WorkerDied: idle")
    driver.close()
    assert read_spool(driver.path).outcome == "failed"
    holder.kill()
    holder.wait()
    SpoolWriter(tmp_path, "abc").close()


def test_an_orphan_that_goes_away_is_waited_for(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    threading.Timer(0.5, holder.kill).start()
    begun = time.monotonic()
    SpoolWriter(tmp_path, "abc").close()
    assert 0.4 < time.monotonic() - begun < 30.0
