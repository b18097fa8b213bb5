"""`run.py --on FILE`: a sweep on a cluster, followed from here."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cluster.access import JOBS_PORT, Cluster, Machine, last_line, on_head, read_cluster, use_token
from cluster.auth import headers
from cluster.errors import ClusterError
from cluster.nodes import await_nodes, await_worker

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

POLL_SECONDS = 2.0
LOST_SECONDS = 60.0  # without an answer: then the head is given up
LOST_VARIABLE = "KDGAN_LOST_SECONDS"  # of the environment: another number of seconds
PREFIX = "kdgan"
INTERRUPTED = 130
CODE = "import json; from sweeps.manifest import code_files; print(json.dumps(code_files()))"


def run_on(path: Path, words: Sequence[str], console: Console, down_when_done: bool) -> int:
    """Runs `python sweeps/run.py words` on the cluster's head and follows it to its end.

    The same words find a sweep that runs already and follow it on. Ctrl-C ends the following, not
    the sweep.

    Args:
        path: the cluster's YAML file.
        words: the command line without --on and --down-when-done.
        console: for what is said here; what the sweep says is passed through.
        down_when_done: fetch the runs and tear the cluster down after the sweep's end.

    Returns:
        The sweep's exit code, 130 after Ctrl-C or where somebody has stopped it.

    Raises:
        ClusterError: the cluster is not up, not complete, or was lost.
    """
    use_token()
    lost_seconds()  # what is wrong with it is said before anything runs
    cluster = read_cluster(path)
    job = None
    try:
        head = cluster.head()
        check_head(head, cluster)
        check_code(head, cluster)
        with head.forwarded([JOBS_PORT]) as ports:
            dashboard = f"http://127.0.0.1:{ports[JOBS_PORT]}"
            await_nodes(cluster, head, dashboard, console.print)
            nodes = await_worker(cluster, head, dashboard, console.print)
            console.print(machines(nodes))
            client = jobs_client(dashboard)
            job, is_new = find_or_submit(client, words)
            console.print(f"{'submitted' if is_new else 'joined again'}: {job}")
        code = follow(head, job, console)
    except KeyboardInterrupt:
        if job is None:
            console.print("interrupted: nothing was started")
        else:
            _print_detached(cluster, words, job, console)
        return INTERRUPTED
    if down_when_done:
        from cluster.teardown import fetch, tear_down

        fetch(cluster, Path(f"{cluster.name}-runs"), console)
        tear_down(cluster, console)
    else:
        _print_next(cluster, nodes, console)
    return code


def without_own(words: Sequence[str]) -> list[str]:
    """A command line of run.py without what is for this machine: --on and --down-when-done."""
    left = []
    rest = iter(words)
    for word in rest:
        if word == "--on":
            next(rest, None)
        elif word != "--down-when-done" and not word.startswith("--on="):
            left.append(word)
    return left


def check_head(head: Machine, cluster: Cluster) -> None:
    """The head answers and has been set up.

    Raises:
        ClusterError: it does not, or has not.
    """
    if "ready" not in head.run("test -e ~/.kdgan && echo ready || echo no"):
        raise ClusterError(
            f"{head.host} answers, but is not set up as a head: `ray up {cluster.path}` does that"
        )


def check_code(head: Machine, cluster: Cluster) -> None:
    """The head would train with the code of this machine.

    Raises:
        ClusterError: it has other code.
    """
    from sweeps.manifest import code_files

    there = json.loads(head.run(on_head(f"python -c {shlex.quote(CODE)}")))
    here = code_files()
    if there != here:
        names = sorted(k for k in there.keys() | here.keys() if there.get(k) != here.get(k))
        raise ClusterError(
            f"the cluster has other training code ({', '.join(names[:3])}"
            f"{' ...' if len(names) > 3 else ''}): `connect.py up {cluster.path} --restart` brings"
            " it this one, and ends what runs there"
        )


def machines(nodes: Mapping[str, Mapping[str, Any]]) -> str:
    """A line on the machines of a cluster."""
    parts = []
    for host, node in sorted(nodes.items()):
        has = node.get("resources_total") or {}
        gpus = f", {has['GPU']:g} GPUs" if has.get("GPU") else ""
        parts.append(f"{host} ({has.get('CPU', 0):g} CPUs{gpus})")
    return f"{len(parts)} machines: {', '.join(parts)}"


def job_prefix(words: Sequence[str]) -> str:
    """What the names of all jobs of one command line begin with."""
    digest = hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:10]
    return f"{PREFIX}-{digest}"


def find_or_submit(client: JobSubmissionClient, words: Sequence[str]) -> tuple[str, bool]:
    """The job of the command line that runs, or a new one, and whether it is new.

    Raises:
        ClusterError: the cluster does not take it.
    """
    prefix = job_prefix(words)
    try:
        names = {
            str(job.submission_id): job.status
            for job in client.list_jobs()
            if str(job.submission_id).startswith(f"{prefix}-")
        }
        for name, status in names.items():
            if not status.is_terminal():
                return name, False
        command = (
            f"exec python sweeps/run.py --storage $KDGAN_STORAGE/sweep_runs {shlex.join(words)}"
        )
        name = f"{prefix}-{len(names) + 1}"
        client.submit_job(
            entrypoint=on_head(command),
            submission_id=name,
            metadata={"command": shlex.join(words)},
        )
    except RuntimeError as error:
        raise ClusterError(
            f"the cluster does not take the sweep: {last_line(str(error))}"
        ) from None
    return name, True


def follow(head: Machine, job: str, console: Console) -> int:
    """Passes the job's output through until it ends; a lost connection is taken up again.

    Returns:
        The job's exit code.

    Raises:
        ClusterError: the head has not answered for `lost_seconds()`.
    """
    patience = lost_seconds()
    shown = 0
    answered = time.monotonic()
    while True:
        try:
            with head.forwarded([JOBS_PORT]) as ports:
                client = jobs_client(f"http://127.0.0.1:{ports[JOBS_PORT]}")
                while True:
                    details = client.get_job_info(job)
                    text = client.get_job_logs(job)
                    answered = time.monotonic()
                    sys.stdout.write(text[shown:])
                    sys.stdout.flush()
                    shown = max(shown, len(text))
                    if details.status.is_terminal():
                        return exit_code(str(details.status.value), details.driver_exit_code)
                    time.sleep(POLL_SECONDS)
        except (ClusterError, OSError, RuntimeError) as error:
            silent = time.monotonic() - answered
            if silent >= patience:
                raise ClusterError(
                    f"the head has not answered for {silent:.0f} s ({last_line(str(error))}). What"
                    " has finished is on the shared storage: bring the cluster up again with `ray"
                    " up`, then the same command goes on"
                ) from None
            console.print(f"the connection is lost ({last_line(str(error))}); trying again")
            time.sleep(POLL_SECONDS)


def lost_seconds() -> float:
    """How long a head may be silent before it is given up.

    Raises:
        ClusterError: KDGAN_LOST_SECONDS is not a number of seconds.
    """
    given = os.environ.get(LOST_VARIABLE, "")
    try:
        seconds = float(given) if given else LOST_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise ClusterError(f"{LOST_VARIABLE} is {given!r}; give it seconds, 0 or more")
    return seconds


def exit_code(status: str, driver: int | None) -> int:
    """Of a job that has ended: the sweep's own where it had one."""
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        return INTERRUPTED
    return driver or 1


def jobs_client(dashboard: str) -> JobSubmissionClient:
    """Ray's client of the Jobs API.

    Raises:
        ClusterError: nothing answers there.
    """
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(dashboard, headers=headers())
    except (ConnectionError, RuntimeError) as error:
        raise ClusterError(f"Ray's Jobs API does not answer: {last_line(str(error))}") from None


def _print_detached(cluster: Cluster, words: Sequence[str], job: str, console: Console) -> None:
    console.print(
        f"detached: {job} goes on. To follow it again, stop it or take the machines down:\n"
        f"  python sweeps/run.py {shlex.join(words)} --on {cluster.path}\n"
        f"  python cluster/connect.py stop {cluster.path} {job}\n"
        f"  python cluster/connect.py down {cluster.path}"
    )


def _print_next(
    cluster: Cluster, nodes: Mapping[str, Mapping[str, Any]], console: Console
) -> None:
    console.print(
        f"MLflow here: python cluster/connect.py ui {cluster.path}\n"
        f"runs home:   python cluster/connect.py fetch {cluster.path}\n"
        f"The {len(nodes)} machines run on{_cost(cluster)}. All down: python cluster/connect.py"
        f" down {cluster.path}"
    )


def _cost(cluster: Cluster) -> str:
    """What a cloud's machines cost as long as they run."""
    if cluster.is_local:
        return ""
    from cluster.aws import running_machines
    from cluster.prices import cost_per_hour

    config = dict(cluster.config)
    machines = [(one.instance_type, one.spot) for one in running_machines(config)]
    cost = cost_per_hour(machines, config["provider"]["region"])
    more = f", and {', '.join(cost.unpriced)}" if cost.unpriced else ""
    return f", at about ${cost.usd:.2f} an hour{more}"
