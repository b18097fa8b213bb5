"""Bringing a cluster's runs home, and taking the cluster down."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cluster.access import Cluster, last_line
from cluster.errors import ClusterError

FETCH_SECONDS = 3600.0
DOWN_SECONDS = 600.0
LEFT_OUT = ("tune", "checkpoints", "cache", "lock", "rehearsal-*")


def fetch(cluster: Cluster, folder: Path, console: Console) -> None:
    """Copies the sweeps to `folder` and records them in a store there.

    The store is made from the sweeps' spools, which have every trial, also where the tracking
    server was away. A second call copies what is new.

    Args:
        cluster: whose.
        folder: gets sweep_runs/ and mlflow.db, which `mlflow ui` and analysis/plot.py read there.
        console: for what is said.

    Raises:
        ClusterError: the head is not reached, has no sweep, or a sweep could not be recorded.
    """
    head = cluster.head()
    storage = head.run(". ~/.kdgan && echo $KDGAN_STORAGE").strip()
    if not head.run(f"ls {storage}/sweep_runs 2> /dev/null || true").strip():
        raise ClusterError(f"cluster {cluster.name} has no sweep yet in {storage}/sweep_runs")
    folder = folder.resolve()
    (folder / "sweep_runs").mkdir(parents=True, exist_ok=True)
    target = f"{head.user}@{head.host}" if head.user else head.host
    command = [
        "rsync", "-a", "--partial", *(f"--exclude={name}" for name in LEFT_OUT),
        "-e", " ".join(head.ssh()[:-1]), f"{target}:{storage}/sweep_runs/",
        str(folder / "sweep_runs"),
    ]  # fmt: skip
    _run(command, "the sweeps could not be copied", FETCH_SECONDS)
    backfill = Path(__file__).resolve().parent.parent / "sweeps" / "backfill.py"
    record = [
        sys.executable, str(backfill), "--storage", "sweep_runs",
        "--tracking-uri", "sqlite:///mlflow.db",
    ]  # fmt: skip
    _run(record, "the sweeps could not be recorded", FETCH_SECONDS, folder)
    console.print(
        f"{folder} has the runs: there `mlflow ui` shows them and `python"
        f" {backfill.parent.parent / 'analysis' / 'plot.py'} EXPERIMENT` draws them"
    )


def tear_down(cluster: Cluster, console: Console, delete_storage: bool = False) -> None:
    """Takes every machine of the cluster out of service and shows that nothing is left.

    Raises:
        ClusterError: something is left, or the machines could not be taken down.
    """
    left = (
        _own_down(cluster, console) if cluster.is_local else _cloud_down(cluster, delete_storage)
    )
    if left:
        raise ClusterError(f"cluster {cluster.name} is not all down: {'; '.join(left)}")
    cluster.known_hosts.unlink(missing_ok=True)
    console.print(f"cluster {cluster.name} is down: nothing of it runs any more")


def _own_down(cluster: Cluster, console: Console) -> list[str]:
    """What still runs on the user's own machines after all was stopped."""
    _stop_service(cluster, console)
    _ray_down(cluster)
    left = []
    for host in (*cluster.wanted_workers, str(cluster.config["provider"]["head_ip"])):
        # Ray's local provider marks its workers as gone, and leaves them running.
        with contextlib.suppress(ClusterError):  # a machine that is off runs nothing
            cluster.machine(host).run("~/kdgan-venv/bin/ray stop", timeout=120.0)
        left += _left_on(cluster, host)
    return left


def _cloud_down(cluster: Cluster, delete_storage: bool) -> list[str]:
    """What a cloud still has of the cluster; kept storage is meant to be there."""
    from cluster.aws import close_all, leftovers, running_machines

    config = dict(cluster.config)
    if running_machines(config):  # Ray would first make what it then takes down
        _ray_down(cluster)
    close_all(config, delete_storage)
    return [str(one) for one in leftovers(config) if delete_storage or one.kind != "file system"]


def _ray_down(cluster: Cluster) -> None:
    ray = str(Path(sys.executable).parent / "ray")
    _run([ray, "down", "-y", str(cluster.path)], "`ray down` failed", DOWN_SECONDS)


def _stop_service(cluster: Cluster, console: Console) -> None:
    """Ends the head's tracking service; a head that is gone has none."""
    try:
        head = cluster.head()
        head.run("test ! -e ~/.kdgan || (. ~/.kdgan && bash ~/kdgan/cluster/setup_head.sh stop)")
    except ClusterError as error:
        console.print(f"warning: the head's tracking service was not stopped: {error}")


def _left_on(cluster: Cluster, host: str) -> list[str]:
    """What of Ray and of the tracking service still runs on one of the user's own machines."""
    words = "raylet|gcs_server|supervisord|mlflow server|postgres -D"
    try:
        found = cluster.machine(host).run(f"pgrep -af '[ /]({words})' | grep -v pgrep || true")
    except ClusterError:
        return []  # a machine that is off runs nothing
    return [f"{host} runs {last_line(found)}"] if found.strip() else []


def _run(command: Sequence[str], problem: str, timeout: float, folder: Path | None = None) -> None:
    """Runs a command here and shows its output only where it fails.

    Raises:
        ClusterError: it fails or takes too long.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
            cwd=folder,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{problem}: it took more than {timeout:.0f} s") from None
    except OSError as error:
        raise ClusterError(f"{problem}: {command[0]} cannot be run ({error.strerror})") from None
    if done.returncode:
        raise ClusterError(f"{problem}: {last_line(done.stderr or done.stdout)}")
