"""Which machines of a cluster have joined, and why one has not."""

from __future__ import annotations

import json
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from cluster.access import Cluster, Machine, last_line, on_head
from cluster.auth import headers
from cluster.errors import ClusterError

JOIN_SECONDS = 75.0  # for the machines that have to be there
UNREACHED = "the head cannot reach it by ssh"
OFF_SECONDS = 10.0  # after which one that ssh does not reach either is waited for no longer
ASK_SECONDS = 3.0
REACH_SECONDS = 15.0
ANSWER_SECONDS = 20.0
WORKER_SECONDS = 1800.0  # for a cloud's first worker: the machine, and torch on it
# What a first trial wants: a worker comes for it, and brings more when more trials wait.
ASK = """
import ray, sys
from ray.autoscaler.sdk import request_resources
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
request_resources(bundles=[{"CPU": 1}] * int(sys.argv[1]))
"""


def joined(dashboard: str) -> dict[str, dict[str, Any]]:
    """Address -> Ray's facts of every machine that has joined and lives.

    Args:
        dashboard: its address here, http://127.0.0.1:PORT.

    Raises:
        ClusterError: Ray does not answer, or not without another token.
    """
    query = "api/v0/nodes?detail=1&limit=10000"
    request = urllib.request.Request(f"{dashboard}/{query}", headers=headers())
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise ClusterError(
                "Ray refuses the token: the cluster was brought up with another one;"
                " `connect.py up FILE --restart` mounts the one of this machine"
            ) from None
        raise ClusterError(f"Ray on the head answers {error.code} to who has joined") from None
    except OSError as error:
        raise ClusterError(f"Ray does not answer on the head ({last_line(str(error))})") from None
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
    started = time.monotonic()
    told = asked = False
    while True:
        there = joined(dashboard)
        absent = [host for host in cluster.wanted_workers if host not in there]
        if not absent:
            return there
        waited = time.monotonic() - started
        if waited > seconds:
            raise ClusterError("; ".join(why_absent(host, head, cluster) for host in absent))
        if waited > OFF_SECONDS and not asked:
            asked = True
            reasons = [why_absent(host, head, cluster) for host in absent]
            if off := [reason for reason in reasons if UNREACHED in reason]:
                raise ClusterError("; ".join(off))
        if not told:
            say(f"waiting for {', '.join(absent)} to join, {seconds:.0f} s at most")
            told = True
        time.sleep(ASK_SECONDS)


def await_worker(
    cluster: Cluster,
    head: Machine,
    dashboard: str,
    say: Callable[[str], None],
    seconds: float = WORKER_SECONDS,
) -> dict[str, dict[str, Any]]:
    """The machines, once one of them can run a trial: a cloud's workers come when asked for.

    Args:
        cluster: whose.
        head: where a worker is asked for.
        dashboard: as `joined`.
        say: told once that it waits.
        seconds: to wait.

    Raises:
        ClusterError: none has come; or Ray does not answer.
    """
    there = joined(dashboard)
    if _can_train(there):
        return there
    say(f"asking for a first worker, {seconds / 60:.0f} minutes at most")
    deadline = time.monotonic() + seconds
    ask = f"python -c {shlex.quote(ASK)}"
    head.run(on_head(f"{ask} 1"), timeout=120.0)
    try:
        while not _can_train(there):
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"no worker has come within {seconds / 60:.0f} minutes: `ray monitor"
                    f" {cluster.path}` says why; a quota of 0 for such machines and no spot"
                    " capacity are the usual reasons (cluster/README.md)"
                )
            time.sleep(ASK_SECONDS)
            there = joined(dashboard)
    finally:
        head.run(on_head(f"{ask} 0"), timeout=120.0)  # from now on the sweep's trials ask
    return there


def _can_train(nodes: dict[str, dict[str, Any]]) -> bool:
    return any((node.get("resources_total") or {}).get("CPU", 0) >= 1 for node in nodes.values())


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
        return f"{host} has not joined: {UNREACHED} ({reason})"
    return (
        f"{host} has not joined, though the head reaches it by ssh: `ray monitor {cluster.path}`"
        f" shows what its set-up said; Ray does not try again, `connect.py up {cluster.path}"
        " --restart` does"
    )
