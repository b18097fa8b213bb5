"""Which machines of a cluster have joined, and why one has not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cluster.access import Cluster, ClusterError, Machine, last_line
from cluster.auth import headers

JOIN_SECONDS = 75.0  # for the machines that have to be there
ASK_SECONDS = 3.0
REACH_SECONDS = 15.0


def joined(dashboard: str) -> dict[str, dict[str, Any]]:
    """Address -> Ray's facts of every machine that has joined and lives.

    Args:
        dashboard: its address here, http://127.0.0.1:PORT.

    Raises:
        ClusterError: Ray does not answer, or not without another token.
    """
    import requests

    try:
        answer = requests.get(
            f"{dashboard}/api/v0/nodes", params={"detail": "1", "limit": "10000"},
            headers=headers(), timeout=20,
        )  # fmt: skip
    except requests.RequestException as error:
        raise ClusterError(f"Ray does not answer on the head ({type(error).__name__})") from None
    if answer.status_code in (401, 403):
        raise ClusterError(
            "Ray refuses the token: the cluster was brought up with another one; `ray up` again"
            " mounts the one of this machine"
        )
    if not answer.ok:
        raise ClusterError(f"Ray on the head answers {answer.status_code} to who has joined")
    nodes = answer.json()["data"]["result"]["result"]
    return {str(node["node_ip"]): node for node in nodes if node["state"] == "ALIVE"}


def await_nodes(
    cluster: Cluster,
    head: Machine,
    dashboard: str,
    say: Callable[[str], None],
    seconds: float = JOIN_SECONDS,
) -> dict[str, dict[str, Any]]:
    """The machines, once all that have to be there are.

    Args:
        cluster: whose.
        head: for asking how the others are reached from there.
        dashboard: as `joined`.
        say: told once whom it waits for.
        seconds: to wait.

    Raises:
        ClusterError: one has not joined, with what ssh says of it; or Ray does not answer.
    """
    deadline = time.monotonic() + seconds
    told = False
    while True:
        there = joined(dashboard)
        absent = [host for host in cluster.wanted_workers if host not in there]
        if not absent:
            return there
        if time.monotonic() > deadline:
            raise ClusterError("; ".join(why_absent(host, head, cluster) for host in absent))
        if not told:
            say(f"waiting for {', '.join(absent)} to join, {seconds:.0f} s at most")
            told = True
        time.sleep(ASK_SECONDS)


def why_absent(host: str, head: Machine, cluster: Cluster) -> str:
    """A clause on a machine that has not joined: whether the head reaches it by ssh."""
    user = f"{head.user}@" if head.user else ""
    tries = (
        "ssh -i ~/ray_bootstrap_key.pem -o BatchMode=yes -o StrictHostKeyChecking=no"
        f" -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        f" -o ConnectTimeout={REACH_SECONDS:.0f} {user}{host} true"
    )
    try:
        head.run(tries, timeout=REACH_SECONDS + 15.0)
    except ClusterError as error:
        reason = last_line(str(error)).rpartition("(")[2].removesuffix(")")
        return f"{host} has not joined: the head cannot reach it by ssh ({reason})"
    return (
        f"{host} has not joined, though the head reaches it by ssh: `ray monitor {cluster.path}`"
        " shows what its set-up said"
    )
