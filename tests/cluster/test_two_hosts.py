"""`ray up` of cluster/onprem.yaml on two hosts with real sshd, and a cluster's life on them.

The tests are the steps of that life, in order: each one needs those before it.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hosts
import pytest
from mlflow import MlflowClient

from cluster.access import JOBS_PORT, MLFLOW_PORT, read_cluster
from sweeps.spool import SpoolState, read_spool

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(hosts.lacking()), reason=hosts.lacking() or "-"),
]

ROOT = Path(__file__).parents[2]
HEAD, WORKER, STRAY = f"{hosts.NETWORK}.2", f"{hosts.NETWORK}.3", f"{hosts.NETWORK}.4"
# Trials of some seconds, in which there is much to check and little to pretrain.
BRIEF = (
    "digits", "--train-size", "50", "--seeds", "2", "--set", "pretrain_steps=100",
    "--set", "teacher_pretrain_steps=100", "--set", "evaluations=10",
)  # fmt: skip
# One more than the two hosts run at a time.
SWEEP = (
    *BRIEF, "--mode", "sensitivity", "--factors", "gamma", "--levels", "gamma=1e-4,1e-3,1,100",
    "--set", "steps=400",
)  # fmt: skip
TRIALS = 5  # the levels, and the baseline
SHORT = ("digits", "--mode", "baseline", "--quick", "--train-size", "50")
LONG = (*BRIEF, "--mode", "baseline", "--set", "steps=600")
BOTH = ("head", "worker")


@dataclass
class Laptop:
    """This machine, with a home folder of its own, and the network of the cluster's hosts."""

    net: hosts.Hosts
    home: Path
    file: Path

    def environment(self) -> dict[str, str]:
        theirs = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "KDGAN_DATA", "RAY_AUTH_TOKEN_PATH")
        kept = {k: v for k, v in os.environ.items() if k not in theirs}
        return {**kept, "HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """A command of the repository; its output comes with `end`."""
        return subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env={**self.environment(), **variables}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *words: str, timeout: float = 400) -> tuple[int, str]:
        """Exit code and output."""
        return end(self.start(*words), timeout)

    def connect(self, command: str, *words: str) -> str:
        """What a command of connect.py prints that works."""
        code, output = self.run("cluster/connect.py", command, str(self.file), *words)
        assert code == 0, output
        return output

    def sweep(self, words: tuple[str, ...], timeout: float = 400) -> tuple[int, str]:
        return self.run("sweeps/run.py", *words, "--on", str(self.file), timeout=timeout)

    def trials(self) -> dict[str, SpoolState]:
        """Trial of SWEEP -> what its spool on the shared storage says."""
        spools = self.net.storage.glob("sweep_runs/*-sensitivity-*/spool/*.jsonl")
        return {path.stem: read_spool(path) for path in spools}

    def saved_on(self, host: str) -> set[str]:
        """Trials of SWEEP that the host trains and that have a checkpoint."""
        kept = self.net.storage.glob("sweep_runs/*-sensitivity-*/checkpoints/*.pt")
        names = {path.stem for path in kept}
        return {
            trial for trial, state in self.trials().items()
            if trial in names and state.result is None and state.host.get("host") == host
        }  # fmt: skip


def end(process: subprocess.Popen[str], timeout: float = 400) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"not done within {timeout} s:\n{output}") from None
    return process.returncode, output


def wait_for(what: str, true, seconds: float = 120.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def laptop() -> Iterator[Laptop]:
    """Two hosts, and cluster/onprem.yaml with their addresses."""
    stamp = Path(sys.prefix) / "kdgan-requirements"  # of setup_node.sh: this venv is the hosts'
    stamp.write_bytes(
        hashlib.sha256((ROOT / "requirements.txt").read_bytes()).hexdigest().encode() + b"\n"
    )
    with hosts.network() as net:
        net.start("head", 2)
        net.start("worker", 3)
        home = net.folder / "laptop"
        home.mkdir()
        text = (ROOT / "cluster" / "onprem.yaml").read_text()
        for old, new in (
            ("kdgan-onprem", f"kdgan-test-{os.getpid()}"),  # Ray keeps files by this name
            ("192.0.2.10", HEAD),
            ("192.0.2.11", WORKER),
            ("ssh_user: ubuntu", "ssh_user: root"),
            ("~/.ssh/id_ed25519", str(net.key)),
            ("/mnt/kdgan", hosts.STORAGE),
        ):
            assert old in text
            text = text.replace(old, new)
        file = net.folder / "onprem.yaml"
        file.write_text(text)
        yield Laptop(net, home, file)


def test_up_brings_both_machines(laptop: Laptop) -> None:
    output = laptop.connect("up")
    assert f"2 machines: {HEAD}" in output and WORKER in output
    token = laptop.home / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o077 == 0
    for address in (HEAD, WORKER):
        kept = laptop.net.ssh(address, "stat -c %a ~/.ray/auth_token; cat ~/.ray/auth_token")
        assert kept.stdout.split() == ["600", token.read_text()]
    assert "MLflow on the head: up" in laptop.connect("status")


def test_only_ssh_and_rays_own_ports_are_open_to_the_network(laptop: Laptop) -> None:
    listed = laptop.net.ssh(HEAD, "ss -H -ltnp").stdout.splitlines()
    open_to_all = {}
    for line in listed:
        _, _, _, place, _, process = line.split(None, 5)
        address, _, port = place.rpartition(":")
        if address.strip("[]").removeprefix("::ffff:") not in ("127.0.0.1", "::1"):
            open_to_all[int(port)] = process.split('"')[1]
    assert 22 in open_to_all and 6379 in open_to_all
    assert not {JOBS_PORT, MLFLOW_PORT, 5432} & set(open_to_all)
    names = set(open_to_all.values()) - {"sshd", "gcs_server", "raylet"}
    python = {name for name in names if not name.startswith("ray::")}  # Ray's helpers
    assert python <= {"python3", "python"}, open_to_all
    for line in listed:
        if '"python' in line and "127.0.0.1" not in line:
            pid = line.partition("pid=")[2].partition(",")[0]
            command = laptop.net.ssh(HEAD, f"tr '\\0' ' ' < /proc/{pid}/cmdline").stdout
            assert "/ray/" in command or " -m ray." in command, command


def test_without_the_token_nobody_gets_in(laptop: Laptop) -> None:
    head = read_cluster(laptop.file).head()
    with head.forwarded([JOBS_PORT, MLFLOW_PORT]) as ports:
        for path in ("api/jobs/", "api/v0/nodes", "api/cluster_status"):
            for extra, code in (({}, 401), ({"Authorization": "Bearer guessed"}, 403)):
                url = f"http://127.0.0.1:{ports[JOBS_PORT]}/{path}"
                with pytest.raises(urllib.error.HTTPError) as error:
                    urllib.request.urlopen(urllib.request.Request(url, headers=extra), timeout=20)
                assert error.value.code == code, path
        search = "api/2.0/mlflow/experiments/search?max_results=1"
        url = f"http://127.0.0.1:{ports[MLFLOW_PORT]}/{search}"
        assert urllib.request.urlopen(url, timeout=20).status == 200
        foreign = urllib.request.Request(url, headers={"Host": "elsewhere.example"})
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(foreign, timeout=20)
        assert error.value.code == 403
    for other in ("RAY_AUTH_MODE=disabled", "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=guessed"):
        asked = laptop.net.ssh(HEAD, f"{other} timeout 60 ray status --address {HEAD}:6379")
        assert asked.returncode != 0, asked.stdout
    asked = laptop.net.ssh(HEAD, f"RAY_AUTH_MODE=token ray status --address {HEAD}:6379")
    assert asked.returncode == 0, asked.stderr


def test_ctrl_c_detaches(laptop: Laptop) -> None:
    """The sweep goes on; the next step follows it again."""
    process = laptop.start("sweeps/run.py", *SWEEP, "--on", str(laptop.file))
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if "trials done" in line:
            break
    process.send_signal(signal.SIGINT)
    code, rest = end(process)
    assert code == 130, "".join(lines) + rest
    (name,) = [line.split()[1] for line in lines if line.startswith("submitted: ")]
    assert f"detached: {name} goes on" in rest
    assert f"connect.py stop {laptop.file} {name}" in rest
    assert f"{name} running: " in laptop.connect("status")


def test_a_sweep_ends_complete_though_a_machine_dies(laptop: Laptop) -> None:
    """Followed by the command that was left with Ctrl-C."""
    process = laptop.start("sweeps/run.py", *SWEEP, "--on", str(laptop.file))
    try:
        wait_for("a checkpoint on either host", lambda: all(map(laptop.saved_on, BOTH)))
        cut = laptop.saved_on("worker")
        laptop.net.hosts["worker"].kill()
    finally:
        code, output = end(process)
    assert code == 0, output
    assert "joined again: kdgan-" in output and f"{TRIALS}/{TRIALS} trials done" in output
    trials = laptop.trials()
    assert len(trials) == TRIALS
    for state in trials.values():
        assert state.ended == 1 and state.result is not None
        assert state.result["outcome"] in ("finished", "collapsed")
    # A trial that ran there goes on from its checkpoint, unless it ended in the moment before.
    moved = [trials[trial] for trial in cut if trials[trial].host["host"] == "head"]
    assert moved
    for state in moved:
        assert state.resumed == 1
        steps = [evaluation["step"] for evaluation in state.evaluations]
        assert steps == sorted(set(steps))


def test_a_machine_that_cannot_be_reached_is_named(laptop: Laptop) -> None:
    started = time.monotonic()
    code, output = laptop.sweep(SHORT)
    assert code == 2 and time.monotonic() - started < 120
    assert f"{WORKER} has not joined: the head cannot reach it by ssh" in output


def test_a_machine_that_is_back_joins_again(laptop: Laptop) -> None:
    laptop.net.start("worker", 3)
    started = lambda: laptop.net.ssh(WORKER, "pgrep -x raylet").returncode == 0  # noqa: E731
    wait_for("Ray runs on the worker", started, 240)

    def joined() -> bool:
        return f"{WORKER} has not joined" not in laptop.connect("status")

    wait_for("the worker is back", joined)


def test_storage_that_a_machine_does_not_see_is_refused(laptop: Laptop) -> None:
    laptop.net.start("stray", 4, shared=False)
    token = (laptop.home / ".ray" / "auth_token").read_text()
    join = (
        f"mkdir -p ~/.ray && echo -n {token} > ~/.ray/auth_token && RAY_AUTH_MODE=token"
        f" ray start --address={HEAD}:6379"
    )
    done = laptop.net.ssh(STRAY, join)
    assert done.returncode == 0, done.stderr
    code, output = laptop.sweep(SHORT)
    assert code == 2
    assert "node stray" in output and "cannot use the storage folder" in output
    assert laptop.net.ssh(STRAY, "ray stop").returncode == 0  # else Ray waits for it a while
    laptop.net.hosts.pop("stray").kill()


def test_the_runs_are_on_the_heads_server(laptop: Laptop) -> None:
    head = read_cluster(laptop.file).head()
    with head.forwarded([MLFLOW_PORT]) as ports:
        client = MlflowClient(f"http://127.0.0.1:{ports[MLFLOW_PORT]}")
        experiment = client.get_experiment_by_name("digits")
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
    sensitivity = [run for run in runs if run.data.tags.get("trial_id") in laptop.trials()]
    assert len(sensitivity) == TRIALS
    assert {run.info.status for run in sensitivity} == {"FINISHED"}


def test_fetched_runs_make_a_figure(laptop: Laptop, tmp_path: Path) -> None:
    laptop.connect("fetch", "--to", str(tmp_path))
    (sweep,) = [path.name for path in laptop.net.storage.glob("sweep_runs/*-sensitivity-*")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "analysis" / "plot.py"), "digits", "--sweep", sweep],
        cwd=tmp_path, env=laptop.environment(), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "figures").rglob("figure4*.png"))


def test_a_head_that_dies_is_told_and_the_sweep_goes_on_after_up(laptop: Laptop) -> None:
    words = ("sweeps/run.py", *LONG, "--on", str(laptop.file))
    process = laptop.start(*words, KDGAN_LOST_SECONDS="15")  # of 60
    kept = laptop.net.storage.glob
    try:
        wait_for("a checkpoint", lambda: any(kept("sweep_runs/*-baseline-*/checkpoints/*.pt")))
        laptop.net.hosts["head"].kill()
    finally:
        code, output = end(process)
    assert code == 2
    assert "the head has not answered for" in output and "`ray up`" in output
    laptop.net.start("head", 2)
    # As after a reboot, the number that supervisord had is some other process's.
    (laptop.net.folder / "head" / hosts.STATE / "supervisord.pid").write_text("1\n")
    laptop.connect("up")
    code, output = laptop.run(*words)
    assert code == 0, output
    assert "1/1 trials done" in output
    (state,) = map(read_spool, kept("sweep_runs/*-baseline-*/spool/*.jsonl"))
    assert state.resumed == 1 and state.result is not None


def test_down_leaves_nothing(laptop: Laptop) -> None:
    assert "is down: nothing of it runs any more" in laptop.connect("down")
    for name in BOTH:
        left = laptop.net.hosts[name].inside("ps -eo args --no-headers")
        foreign = [
            line for line in left.splitlines()
            if line.strip() and not line.startswith(("bash -c", "sshd:", "bash -lc", "ps -eo"))
        ]  # fmt: skip
        assert not foreign
