"""The script that makes a machine fit: what it refuses, mounts and leaves alone."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAMP = "kdgan-requirements"
SCRIPT = ROOT / "cluster" / "setup_node.sh"


class Host:
    """A home folder, a storage folder and commands that only write down that they were called."""

    def __init__(self, folder: Path) -> None:
        self.home, self.storage, self.bin = folder / "home", folder / "mnt", folder / "bin"
        self.calls = folder / "calls"
        self.home.mkdir()
        self.bin.mkdir()
        self.calls.touch()
        self.command("sudo", f'echo "$@" >>{self.calls}')
        self.command("mount.nfs4", "true")

    def command(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def install(self) -> Path:
        """An environment that has been completed for today's requirements."""
        venv = self.home / "kdgan-venv"
        (venv / "bin").mkdir(parents=True)
        wanted = hashlib.sha256((ROOT / "requirements.txt").read_bytes()).hexdigest()
        (venv / STAMP).write_text(f"{wanted}\n")
        return venv

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.bin}:{os.environ['PATH']}"
        given = {"HOME": str(self.home), "PATH": path, "KDGAN_STORAGE": str(self.storage)}
        return subprocess.run(
            ["bash", str(SCRIPT)], env={**given, **environment}, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_without_storage_it_says_what_to_do(host: Host) -> None:
    host.install()
    done = host.run()
    assert done.returncode == 1
    assert f"no shared storage at {host.storage}" in done.stderr
    assert "KDGAN_STORAGE" in done.stderr
    assert not host.calls.read_text()  # nothing is mounted, nothing installed


def test_ones_own_machine_is_left_as_it_is(host: Host) -> None:
    host.install()
    host.storage.mkdir()
    (host.home / ".bashrc").write_text("# the user's\n")
    assert host.run().returncode == 0
    assert (host.home / ".bashrc").read_text() == "# the user's\n"
    assert not host.calls.read_text()


def test_on_aws_the_file_system_is_mounted_once_and_the_shell_knows(host: Host) -> None:
    venv = host.install()
    host.storage.mkdir()
    (host.home / ".bashrc").write_text("# the user's\n")
    host.command("mountpoint", f"[ -e {host.storage}/mounted ]")
    host.command(  # tee takes what it is given, or whoever writes to it is killed
        "sudo",
        f'echo "$@" >>{host.calls}; [ "$1" != tee ] || cat >/dev/null;'
        ' [ "$1" != mount ] || touch "$2/mounted"',
    )
    for _ in range(2):
        done = host.run(KDGAN_EFS="fs-1.efs.us-west-2.amazonaws.com")
        assert done.returncode == 0, done.stderr
    calls = host.calls.read_text().splitlines()
    assert calls.count(f"mount {host.storage}") == 1
    assert "tee -a /etc/fstab" in calls
    shell = (host.home / ".bashrc").read_text()
    assert shell.count(f'PATH="{venv}/bin:$PATH" RAY_AUTH_MODE=token') == 1
    assert shell.endswith("# the user's\n")


def test_an_environment_of_other_requirements_is_brought_up_to_date(host: Host) -> None:
    venv = host.install()
    host.storage.mkdir()
    (venv / STAMP).write_text("of yesterday\n")
    python = venv / "bin" / "python"
    python.write_text(f'#!/bin/bash\necho "$PWD: $@" >>{host.calls}\n')
    python.chmod(0o755)
    assert host.run().returncode == 0
    call = f"{ROOT}: -m pip install --quiet -r requirements.txt"
    assert host.calls.read_text().splitlines() == [call]
    assert host.run().returncode == 0
    assert host.calls.read_text().splitlines() == [call]


def test_an_interrupted_installation_is_not_taken_for_done(host: Host) -> None:
    venv = host.install()
    host.storage.mkdir()
    (venv / STAMP).unlink()
    python = venv / "bin" / "python"
    python.write_text("#!/bin/bash\nexit 1\n")
    python.chmod(0o755)
    assert host.run().returncode != 0
    assert not (venv / STAMP).exists()


def test_without_a_python_it_says_so(host: Host) -> None:
    host.storage.mkdir()
    done = host.run(KDGAN_PYTHON="python0.1")
    assert done.returncode == 1
    assert "no Python of 3.11 to 3.13" in done.stderr
