"""Reaching a cluster: its YAML file, its head's address, ssh, and ports brought here by ssh."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from cluster.overlay import read_yaml

CONNECT_SECONDS = 15.0  # for ssh to reach a machine
FORWARD_SECONDS = 30.0  # for a forwarded port to listen here
JOBS_PORT = 8265  # Ray's dashboard and Jobs API, on the head's loopback
MLFLOW_PORT = 5000
STUDIES_PORT = 8080  # optuna-dashboard


@dataclass(frozen=True)
class Machine:
    """How a machine is reached.

    Attributes:
        host: address or name.
        user: of ssh, "" for ssh's own choice.
        key: file of the private key, "" for ssh's own choice.
        known_hosts: file of the host keys seen before, of this cluster alone.
    """

    host: str
    user: str
    key: str
    known_hosts: Path

    def ssh(self, *options: str) -> list[str]:
        """The ssh command up to, and with, the host."""
        words = [
            "ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS:.0f}",
            "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
            "-o", "StrictHostKeyChecking=accept-new",
            "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "LogLevel=ERROR",
        ]  # fmt: skip
        if self.key:
            words += ["-i", self.key, "-o", "IdentitiesOnly=yes"]
        return [*words, *options, f"{self.user}@{self.host}" if self.user else self.host]

    def run(self, command: str, timeout: float = 60.0) -> str:
        """What the command prints there.

        Raises:
            ClusterError: the machine is not reached, or the command fails.
        """
        words = [*self.ssh(), command]
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{self.host} does not answer within {timeout:.0f} s") from None
        if done.returncode == 255:
            raise ClusterError(f"{self.host} cannot be reached by ssh ({last_line(done.stderr)})")
        if done.returncode:
            raise ClusterError(
                f"`{command}` failed on {self.host} ({last_line(done.stderr or done.stdout)})"
            )
        return done.stdout

    @contextlib.contextmanager
    def forwarded(self, ports: Sequence[int], fixed: bool = False) -> Iterator[dict[int, int]]:
        """Ports of the machine's loopback, brought to this one's while the block runs.

        Args:
            ports: there.
            fixed: take the same numbers here where they are free.

        Yields:
            Port there -> port here.

        Raises:
            ClusterError: the machine is not reached.
        """
        here = {port: free_port(port if fixed else 0) for port in ports}
        forwards = [w for there, port in here.items()
                    for w in ("-L", f"127.0.0.1:{port}:127.0.0.1:{there}")]  # fmt: skip
        command = self.ssh("-N", "-o", "ExitOnForwardFailure=yes", *forwards)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, start_new_session=True,  # Ctrl-C is for this program alone
        )  # fmt: skip
        try:
            deadline = time.monotonic() + FORWARD_SECONDS
            while not all(listens(port) for port in here.values()):
                if process.poll() is not None:
                    assert process.stderr is not None
                    reason = last_line(process.stderr.read())
                    raise ClusterError(f"{self.host} cannot be reached by ssh ({reason})")
                if time.monotonic() > deadline:
                    raise ClusterError(f"{self.host} forwards no port: ssh has not connected")
                time.sleep(0.1)
            yield here
        finally:
            process.terminate()
            process.wait()


@dataclass(frozen=True)
class Cluster:
    """A cluster as its YAML file has it.

    Attributes:
        path: of the file.
        config: what it says.
    """

    path: Path
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.config["cluster_name"])

    @property
    def is_local(self) -> bool:
        """Whether the machines are the user's own."""
        return bool(self.config["provider"]["type"] == "local")

    @property
    def wanted_workers(self) -> list[str]:
        """Addresses of the machines that have to be there; a cloud's workers come and go."""
        return list(self.config["provider"].get("worker_ips", ())) if self.is_local else []

    @property
    def known_hosts(self) -> Path:
        return Path.home() / ".ssh" / f"known_hosts_{self.name}"

    def head(self) -> Machine:
        """The head.

        Raises:
            ClusterError: there is none.
        """
        if self.is_local:
            return self.machine(str(self.config["provider"]["head_ip"]))
        from ray.autoscaler.sdk import bootstrap_config, get_head_node_ip

        from cluster.aws import open_door

        open_door(dict(self.config))  # this machine's address may be another one than yesterday
        try:
            resolved = bootstrap_config(dict(self.config))
            return self.machine(get_head_node_ip(dict(self.config)), resolved["auth"])
        except (RuntimeError, ValueError, SystemExit) as error:
            raise ClusterError(
                f"cluster {self.name} has no head ({last_line(str(error))}): `ray up {self.path}`"
                " brings it up"
            ) from None

    def machine(self, host: str, auth: Mapping[str, Any] | None = None) -> Machine:
        """Another machine of the cluster, reached as the head is."""
        auth = self.config.get("auth", {}) if auth is None else auth
        key = auth.get("ssh_private_key", "")
        self.known_hosts.parent.mkdir(mode=0o700, exist_ok=True)
        return Machine(
            host, str(auth.get("ssh_user", "")),
            str(Path(key).expanduser()) if key else "", self.known_hosts,
        )  # fmt: skip


def read_cluster(path: Path) -> Cluster:
    """The cluster of a YAML file.

    Raises:
        ClusterError: the file is not there or no cluster's.
    """
    config = read_yaml(path)
    if not {"cluster_name", "provider"} <= set(config):
        raise ClusterError(f"{path} is no cluster's file: it names no cluster_name and provider")
    if not isinstance(config["provider"], dict) or "type" not in config["provider"]:
        raise ClusterError(f"{path}: its provider has no type")
    return Cluster(path, config)


def on_head(command: str) -> str:
    """A shell command for the head, in the repository there, with what a sweep needs to know."""
    return f"bash -c {shlex.quote(f'. ~/.kdgan && cd ~/kdgan && {command}')}"


def free_port(wanted: int = 0) -> int:
    """`wanted` if nothing listens there, else any free port of the loopback."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise ClusterError("this machine has no free port")


def listens(port: int) -> bool:
    """Whether something answers on the loopback's port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def last_line(text: str) -> str:
    """The last line of an output that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def use_token() -> None:
    """Makes this process's Ray show the token; before Ray is imported."""
    from cluster.auth import ensure_token

    ensure_token()
    os.environ["RAY_AUTH_MODE"] = "token"
