"""Hosts of a network on one machine: namespaces with an sshd each, and a folder that they share.

Needs root, and the packages openssh-server, iproute2, rsync and postgresql. Every host has a
network, mounts, processes, a name and an /etc of its own; `ray stop` in one sees nothing of the
others. This machine is the laptop: it has the network's first address.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NETWORK = "10.77.0"
BRIDGE = "kdgan-hosts"
SHM_BYTES = 2 << 30
START_SECONDS = 30.0
TOOLS = ("ip", "unshare", "nsenter", "ssh", "ssh-keygen", "sshd", "rsync", "mount", "runuser")
HOME = "/root"
STORAGE = "/tmp/storage"  # as the hosts see it
STATE = "state"  # in the folder of a host: the head's database and logs
SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

# In a host's own namespaces: what it sees, then sshd. Folders that must be seen are bound aside
# first, since /tmp and the home folder are about to be hidden. The shell stays as process number 1
# and reaps what has lost its parent, as a machine's own does: `ray stop` waits for zombies too.
BOOT = r"""
set -eu
mount --make-rprivate /
hostname "$NAME"
number=0
for pair in $SEEN; do
    mkdir -p "$ASIDE/$number"
    mount --rbind "${pair%%=*}" "$ASIDE/$number"
    number=$((number + 1))
done
mount --bind "$ASIDE/etc" /etc
mount --bind "$ASIDE/home" "$HOME"
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777,size=$SHM tmpfs /dev/shm
number=0
for pair in $SEEN; do
    mkdir -p "${pair#*=}"
    mount --rbind "$ASIDE/$number" "${pair#*=}"
    number=$((number + 1))
done
mkdir -p /run/sshd
cp "$ASIDE/profile" "$HOME/.profile"
cp "$ASIDE/profile" "$HOME/.bashrc"
ln -sfn "$VENV" "$HOME/kdgan-venv"
"$SSHD" -D -e -f "$ASIDE/sshd_config" &
wait
"""


def lacking() -> str:
    """Why hosts cannot be made here, "" if they can."""
    if os.geteuid() != 0:
        return "it makes network namespaces, which needs root"
    absent = [tool for tool in TOOLS if shutil.which(tool, path=SYSTEM_PATH) is None]
    if absent:
        return f"{', '.join(absent)} not installed (openssh-server, iproute2, rsync)"
    if not Path("/usr/lib/postgresql").is_dir():
        return "PostgreSQL is not installed (Debian's package postgresql)"
    probe = subprocess.run(["unshare", "-n", "-m", "-p", "-f", "true"], capture_output=True)
    return "" if probe.returncode == 0 else "this machine makes no namespaces"


@dataclass
class Host:
    """A host that runs.

    Attributes:
        name: of the host and of its network namespace.
        address: in the network.
        process: holds its namespaces; when it ends, all in them ends.
    """

    name: str
    address: str
    process: subprocess.Popen[bytes]

    def inside(self, command: str, timeout: float = 60.0) -> str:
        """What a command prints in the host's namespaces, ssh left aside."""
        words = [
            "nsenter",
            "-t",
            str(self._first()),
            "-m",
            "-n",
            "-p",
            "-u",
            "bash",
            "-lc",
            command,
        ]
        return subprocess.run(
            words, check=True, capture_output=True, text=True, timeout=timeout
        ).stdout

    def kill(self) -> None:
        """As when its power fails."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, IndexError):
            os.kill(self._first(), signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def _first(self) -> int:
        """The host's process number 1, as this machine numbers it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])


@dataclass
class Hosts:
    """A network of hosts.

    Attributes:
        folder: of everything the hosts keep; what they share is in `folder / "storage"`.
        hosts: name -> host, those that run.
    """

    folder: Path
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def key(self) -> Path:
        """The private key that every host lets in as root."""
        return self.folder / "key"

    @property
    def storage(self) -> Path:
        """What the hosts see as STORAGE."""
        return self.folder / "storage"

    def start(self, name: str, number: int, cpus: str = "", shared: bool = True) -> Host:
        """A host with the address NETWORK.number; or the one again that was killed, whose disk
        (home folder, /etc, the head's state) is as it was.

        Args:
            name: of it.
            number: last part of its address, from 2.
            cpus: cores that it may use, as taskset names them; "" for all.
            shared: whether it sees the storage that the others share, or an empty folder.
        """
        space, address = f"kdgan-{name}", f"{NETWORK}.{number}"
        _network(space, address, number)
        aside = self.folder / name
        if not (aside / "etc").exists():
            shutil.copytree("/etc", aside / "etc", symlinks=True)
            _name_files(aside / "etc", name, address)
        own = aside / "own-storage"
        for kept in (own, aside / "home"):
            kept.mkdir(exist_ok=True)
        storage = self.storage if shared else own
        _ssh_files(aside, self.key, address)
        venv, python = Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()
        (aside / "profile").write_text(
            f"export PATH={venv}/bin:$PATH KDGAN_STATE={aside}/{STATE} PYTHONPATH={HOME}/kdgan\n"
            "export OMP_NUM_THREADS=1\n"
        )
        seen = [f"{folder}={folder}" for folder in dict.fromkeys((venv, python))]
        environment = {
            "PATH": SYSTEM_PATH, "HOME": HOME, "NAME": name, "ASIDE": str(aside),
            "SHM": str(SHM_BYTES), "VENV": str(venv),
            "SEEN": " ".join([*seen, f"{storage}={STORAGE}"]),
            "SSHD": str(shutil.which("sshd", path=SYSTEM_PATH)),
        }  # fmt: skip
        pinned = ["taskset", "-c", cpus] if cpus else []
        command = [
            "ip", "netns", "exec", space, *pinned, "unshare", "-m", "-p", "-f", "-u",
            "--mount-proc", "--kill-child", "bash", "-c", BOOT,
        ]  # fmt: skip
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,
            )  # fmt: skip
        host = self.hosts[name] = Host(name, address, process)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / f"{name}.log").read_text()
                raise RuntimeError(f"host {name} does not start: {log[-2000:]}")
            time.sleep(0.2)
        return host

    def ssh(self, address: str, command: str) -> subprocess.CompletedProcess[str]:
        """A command over ssh, from this machine."""
        words = [
            "ssh", "-i", str(self.key), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=3",
            f"root@{address}", command,
        ]  # fmt: skip
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def _answers(self, address: str) -> bool:
        return self.ssh(address, "true").returncode == 0


@contextlib.contextmanager
def network() -> Iterator[Hosts]:
    """A network without a host yet; all is ended and removed after the block."""
    folder = Path(tempfile.mkdtemp(prefix="kdgan-hosts-", dir="/var/tmp"))
    hosts = Hosts(folder)
    hosts.storage.mkdir()
    folder.chmod(0o755)
    _do(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(hosts.key)])
    _forget()
    try:
        _do(["ip", "link", "add", BRIDGE, "type", "bridge"])
        _do(["ip", "address", "add", f"{NETWORK}.1/24", "dev", BRIDGE])
        _do(["ip", "link", "set", BRIDGE, "up"])
        yield hosts
    finally:
        for host in hosts.hosts.values():
            host.kill()
        _forget()
        shutil.rmtree(folder, ignore_errors=True)


def _network(space: str, address: str, number: int) -> None:
    """A network namespace with the address, on the bridge; an older one of that name goes."""
    outer, inner = f"kdgan-o{number}", f"kdgan-i{number}"
    subprocess.run(["ip", "netns", "del", space], capture_output=True)
    subprocess.run(["ip", "link", "del", outer], capture_output=True)
    _do(["ip", "netns", "add", space])
    # Always the same card, else the others go on asking the one before for a while.
    card = ["peer", "name", inner, "address", f"02:4b:44:00:00:{number:02x}"]
    _do(["ip", "link", "add", outer, "type", "veth", *card])
    _do(["ip", "link", "set", outer, "master", BRIDGE, "up"])
    _do(["ip", "link", "set", inner, "netns", space])
    within = ["ip", "-n", space]
    _do([*within, "address", "add", f"{address}/24", "dev", inner])
    _do([*within, "link", "set", "lo", "up"])
    _do([*within, "link", "set", inner, "up"])
    _do([*within, "route", "add", "default", "via", f"{NETWORK}.1"])  # else Ray takes 127.0.0.1


def _name_files(etc: Path, name: str, address: str) -> None:
    """Names by /etc/hosts alone, the host's own among them: to ask for one, as Ray does at every
    start, a name server that no host reaches would take ten seconds."""
    hosts, switch = etc / "hosts", etc / "nsswitch.conf"
    for file in (hosts, switch):
        file.unlink(missing_ok=True)  # it may be a link to this machine's
    hosts.write_text(f"127.0.0.1 localhost\n{address} {name}\n")
    switch.write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files\n")


def _ssh_files(aside: Path, key: Path, address: str) -> None:
    host_key = aside / "host_key"
    if not host_key.exists():
        _do(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host_key)])
    shutil.copy(key.with_suffix(".pub"), aside / "authorized_keys")
    (aside / "sshd_config").write_text(
        f"ListenAddress {address}\nHostKey {aside}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {aside}/authorized_keys\nPermitRootLogin prohibit-password\n"
        "UsePAM no\nStrictModes no\nMaxStartups 100\nMaxSessions 100\n"
    )


def _forget() -> None:
    """Removes what an earlier run has left of the network."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    for line in listed.splitlines():
        if line.startswith("kdgan-"):
            subprocess.run(["ip", "netns", "del", line.split()[0]], capture_output=True)
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


def _do(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
