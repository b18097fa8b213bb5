"""A cluster's file, its machines' ssh, and the command lines that go to it; no machine needed."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from cluster import connect, nodes
from cluster.access import Machine, free_port, last_line, on_head, read_cluster
from cluster.errors import ClusterError
from cluster.remote import (
    LOST_SECONDS,
    LOST_VARIABLE,
    exit_code,
    follow,
    job_prefix,
    lost_seconds,
    machines,
    run_on,
    without_own,
)
from sweeps.run import main

ONPREM = Path(__file__).parents[2] / "cluster" / "onprem.yaml"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # what the commands set goes with the test
    return tmp_path


@pytest.mark.parametrize(
    "text, problem",
    [
        (None, "cannot be read (No such file or directory)"),
        ("a: [", "is not YAML"),
        ("just words", "is no mapping of keys to values"),
        ("cluster_name: a", "it names no cluster_name and provider"),
        ("cluster_name: a\nprovider: {}", "its provider has no type"),
    ],
)
def test_a_file_that_is_no_clusters(home: Path, text: str | None, problem: str) -> None:
    path = home / "cluster.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ClusterError) as error:
        read_cluster(path)
    assert str(path) in str(error.value) and problem in str(error.value)
    with pytest.raises(ClusterError):
        run_on(path, ["digits"], Console(), False)


def test_the_onprem_file_names_its_machines(home: Path) -> None:
    cluster = read_cluster(ONPREM)
    head = cluster.head()
    assert cluster.is_local and cluster.wanted_workers == ["192.0.2.11"]
    assert (head.host, head.user) == ("192.0.2.10", "ubuntu")
    words = head.ssh()
    assert words[-1] == "ubuntu@192.0.2.10"
    assert str(home / ".ssh" / "id_ed25519") in words
    assert f"UserKnownHostsFile={home}/.ssh/known_hosts_kdgan-onprem" in words
    assert "BatchMode=yes" in words  # a question for a password would never be answered


def test_a_machine_that_ssh_does_not_reach(home: Path) -> None:
    """Nothing listens on a port of the loopback that has just been free."""
    machine = Machine("127.0.0.1", "", "", home / "known_hosts")
    refused = machine.ssh("-p", str(free_port()))
    done = subprocess.run([*refused, "true"], capture_output=True, text=True)
    assert done.returncode == 255 and "refused" in done.stderr

    class Elsewhere(Machine):
        def ssh(self, *options: str) -> list[str]:
            return [*refused[:-1], *options, refused[-1]]

    machine = Elsewhere("127.0.0.1", "", "", home / "known_hosts")
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1 cannot be reached by ssh \(.*refused"):
        machine.run("true")
    with (
        pytest.raises(ClusterError, match="cannot be reached by ssh"),
        machine.forwarded([8265]),
    ):
        raise AssertionError("there is nothing to forward")


def test_a_command_for_the_head_survives_two_shells(home: Path) -> None:
    (home / "kdgan").mkdir()
    (home / ".kdgan").write_text("export KDGAN_STORAGE=/the/storage\n")
    awkward = "a 'quoted' \"word\" $HOME; ls"
    command = on_head(f"printf '%s|%s' $KDGAN_STORAGE {shlex.quote(awkward)}")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == f"/the/storage|{awkward}"


@pytest.mark.parametrize(
    "words, left",
    [
        (["digits", "--on", "a.yaml", "--quick"], ["digits", "--quick"]),
        (["--on=a.yaml", "digits", "--down-when-done"], ["digits"]),
        (["digits", "--set", "alpha=0.5"], ["digits", "--set", "alpha=0.5"]),
    ],
)
def test_what_is_for_this_machine_stays_here(words: list[str], left: list[str]) -> None:
    assert without_own(words) == left


def test_jobs_are_found_again_by_their_command_line() -> None:
    assert job_prefix(["digits", "--quick"]) == job_prefix(["digits", "--quick"])
    assert job_prefix(["digits", "--quick"]) != job_prefix(["digits --quick"])


@pytest.mark.parametrize(
    "status, driver, code",
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", None, 1), ("STOPPED", None, 130)],
)
def test_the_exit_code_is_the_sweeps(status: str, driver: int | None, code: int) -> None:
    assert exit_code(status, driver) == code


def test_a_silent_head_is_given_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Machine):
        @contextlib.contextmanager
        def forwarded(self, ports: Sequence[int], fixed: bool = False) -> Iterator[dict[int, int]]:
            raise ClusterError("it is gone")
            yield {}

    monkeypatch.setenv(LOST_VARIABLE, "0")
    with pytest.raises(ClusterError, match=r"not answered for 0 s \(it is gone\)"):
        follow(Silent("head", "", "", home), "job", Console())


@pytest.mark.parametrize("given", ["soon", "-1", "inf", "nan"])
def test_the_wait_for_a_silent_head_is_in_seconds(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv(LOST_VARIABLE, given)
    with pytest.raises(ClusterError, match=f"KDGAN_LOST_SECONDS is '{given}'"):
        run_on(ONPREM, ["digits"], Console(), False)
    monkeypatch.delenv(LOST_VARIABLE)
    assert lost_seconds() == LOST_SECONDS


def test_machines_in_words() -> None:
    nodes = {"10.0.0.2": {"resources_total": {"CPU": 4.0, "GPU": 1.0}}, "10.0.0.1": {}}
    assert machines(nodes) == "2 machines: 10.0.0.1 (0 CPUs), 10.0.0.2 (4 CPUs, 1 GPUs)"


def test_the_last_line_that_says_something() -> None:
    assert last_line("a\n b \n\n") == "b" and last_line(" \n") == "no reason given"


def test_free_ports_are_the_wanted_ones_where_they_are_free() -> None:
    wanted = free_port()
    assert free_port(wanted) == wanted


def test_wrong_command_lines(home: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(main, ["digits", "--down-when-done"])
    assert result.exit_code == 2 and "--down-when-done goes with --on" in result.stderr
    result = runner.invoke(main, ["digits", "--on", str(home / "no.yaml")])
    assert result.exit_code == 2 and "no.yaml cannot be read" in result.stderr
    for command in ("up", "status", "ui", "fetch", "down"):
        result = runner.invoke(connect.main, [command, str(home / "no.yaml")])
        assert result.exit_code == 2, command
        assert result.stderr.startswith("Error: ") and "no.yaml cannot be read" in result.stderr
    assert "up" in runner.invoke(connect.main, ["--help"]).output
    assert os.environ["HOME"] == str(home)


def test_a_cloud_without_a_worker_is_asked_for_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head runs no trial; a machine comes for the request, which is withdrawn then."""
    asked: list[str] = []
    answers = [{"head": {"resources_total": {"memory": 1.0}}}] * 3
    with_worker = {**answers[0], "worker": {"resources_total": {"CPU": 4.0, "GPU": 1.0}}}

    class Head(Machine):
        def run(self, command: str, timeout: float = 60.0) -> str:
            asked.append(command)
            return ""

    monkeypatch.setattr(nodes, "ASK_SECONDS", 0.0)
    left = iter([*answers, with_worker])
    monkeypatch.setattr(nodes, "joined", lambda dashboard: next(left))
    cluster, head = read_cluster(ONPREM), Head("head", "", "", home)
    said: list[str] = []
    assert nodes.await_worker(cluster, head, "http://here", said.append) == with_worker
    assert len(said) == 1 and "asking for a first worker" in said[0]
    assert [command.rstrip("'")[-1] for command in asked] == ["1", "0"]

    monkeypatch.setattr(nodes, "joined", lambda dashboard: answers[0])
    with pytest.raises(ClusterError, match="no worker has come within 0 minutes"):
        nodes.await_worker(cluster, head, "http://here", said.append, seconds=0.0)
    assert [command.rstrip("'")[-1] for command in asked] == ["1", "0"] * 2
