"""The command line for a cluster beside `ray up`: bring it up, look at it, fetch, take down."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click

from cluster.access import (
    JOBS_PORT,
    MLFLOW_PORT,
    STUDIES_PORT,
    Machine,
    on_head,
    read_cluster,
    use_token,
)
from cluster.auth import token_path
from cluster.errors import ClusterError
from sweeps.words import UsageProblem

FILE = click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
# It ends with its standard input, so with this program.
STUDIES = (
    f"exec python sweeps/studies.py --storage $KDGAN_STORAGE/sweep_runs --port {STUDIES_PORT}"
    " --until-eof"
)
UI = {JOBS_PORT: "Ray's dashboard", MLFLOW_PORT: "MLflow", STUDIES_PORT: "optuna-dashboard"}


class Commands(click.Group):
    """Commands in the order of a cluster's life; an error is one sentence and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ClusterError as error:
            raise UsageProblem(str(error)) from None
        except KeyboardInterrupt:
            sys.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Bring up the cluster of a YAML FILE, look at it, fetch its runs, take it down.

    \b
    python cluster/connect.py up cluster/gpu.yaml
    python sweeps/run.py mnist --on cluster/gpu.yaml
    python cluster/connect.py ui cluster/gpu.yaml
    python cluster/connect.py fetch cluster/gpu.yaml
    python cluster/connect.py down cluster/gpu.yaml

    Everything goes through ssh: no port of the machines is open but ssh, and Ray's among
    themselves.
    """


@main.command()
@FILE
@click.option(
    "--with", "overlays", multiple=True, metavar="NAME",
    help="A variant of cluster/overlays/, or a file like those, laid over FILE; repeatable. The"
    " file that comes of it is printed: it is the FILE of all further commands.",
)  # fmt: skip
@click.option("--restart", is_flag=True, help="Also restart Ray where it runs: ends its sweeps.")
def up(file: Path, overlays: tuple[str, ...], restart: bool) -> None:
    """Check FILE, make the token, run `ray up`, and say who has joined."""
    from cluster.check import check_cluster
    from cluster.nodes import await_nodes
    from cluster.overlay import write
    from cluster.remote import check_head, machines

    read_cluster(file)
    use_token()
    file = write(file, overlays)
    cluster = read_cluster(file)
    if problems := check_cluster(dict(cluster.config)):
        raise ClusterError(f"{file}: {'; '.join(problems)}")
    if overlays:
        click.echo(f"the cluster's file: {file}")
    ray_up(file, restart)
    head = cluster.head()
    if not restart and not ray_runs(head):
        click.echo("Ray does not run on the head, as after a crash or a reboot: starting it")
        ray_up(file, restart=True)
    check_head(head, cluster)
    with head.forwarded([JOBS_PORT]) as ports:
        there = await_nodes(cluster, head, f"http://127.0.0.1:{ports[JOBS_PORT]}", click.echo, 180)
    click.echo(machines(there))
    click.echo(f"a sweep: python sweeps/run.py digits --on {file}")


def ray_up(file: Path, restart: bool) -> None:
    """`ray up`, its output as it comes.

    Args:
        file: of the cluster.
        restart: also restart Ray on a head that is there already, whether it runs or not.

    Raises:
        ClusterError: it failed.
    """
    ray = str(Path(sys.executable).parent / "ray")
    words = [ray, "up", "-y", "--no-config-cache", *([] if restart else ["--no-restart"])]
    code = subprocess.run([*words, str(file)]).returncode
    if code:
        raise ClusterError(f"`ray up {file}` failed (exit code {code}): its last lines say why")


def ray_runs(head: Machine) -> bool:
    """Whether anything answers where Ray's dashboard is on the head, a refusal too."""
    asked = f"curl -s -o /dev/null -m 20 http://127.0.0.1:{JOBS_PORT}/ && echo yes || echo no"
    return head.run(asked, timeout=60.0).strip() == "yes"


@main.command()
@FILE
def status(file: Path) -> None:
    """Show the machines, the tracking service and the sweeps that run."""
    from cluster.nodes import joined
    from cluster.remote import PREFIX, check_head, jobs_client, machines

    use_token()
    cluster = read_cluster(file)
    head = cluster.head()
    check_head(head, cluster)
    with head.forwarded([JOBS_PORT]) as ports:
        dashboard = f"http://127.0.0.1:{ports[JOBS_PORT]}"
        there = joined(dashboard)
        click.echo(machines(there))
        for host in cluster.wanted_workers:
            if host not in there:
                click.echo(f"{host} has not joined")
        for job in jobs_client(dashboard).list_jobs():
            if str(job.submission_id).startswith(PREFIX):
                command = (job.metadata or {}).get("command", "")
                click.echo(f"{job.submission_id} {str(job.status.value).lower()}: {command}")
    state = (
        "if curl -sf http://127.0.0.1:5000/health > /dev/null; then echo up; else echo down; fi"
    )
    click.echo(f"MLflow on the head: {head.run(on_head(state)).strip()}")


@main.command()
@FILE
def ui(file: Path) -> None:
    """Bring MLflow, Ray's dashboard and optuna-dashboard to this machine, until Ctrl-C."""
    use_token()
    head = read_cluster(file).head()
    studies = subprocess.Popen(
        [*head.ssh(), on_head(STUDIES)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        with head.forwarded(list(UI), fixed=True) as ports:
            for there, name in UI.items():
                click.echo(f"{name:>16}: http://127.0.0.1:{ports[there]}")
            click.echo(f"{' ':>16}  Ray's asks for a token: {token_path()}")
            click.echo("open until Ctrl-C", err=True)
            while True:
                time.sleep(3600)
    finally:
        studies.terminate()


@main.command()
@FILE
@click.option("--to", type=click.Path(path_type=Path), help="Folder. Default: CLUSTER-runs, here.")
def fetch(file: Path, to: Path | None) -> None:
    """Copy the sweeps here and record them in a store of their own."""
    from rich.console import Console

    from cluster.teardown import fetch as bring

    cluster = read_cluster(file)
    bring(cluster, to or Path(f"{cluster.name}-runs"), Console(highlight=False, soft_wrap=True))


@main.command()
@FILE
@click.argument("job")
def stop(file: Path, job: str) -> None:
    """End the sweep JOB as Ctrl-C would; the same command goes on with it later."""
    from cluster.remote import jobs_client

    use_token()
    with read_cluster(file).head().forwarded([JOBS_PORT]) as ports:
        try:
            jobs_client(f"http://127.0.0.1:{ports[JOBS_PORT]}").stop_job(job)
        except RuntimeError:
            raise ClusterError(f"there is no job {job}: `status` lists them") from None
    click.echo(f"{job} ends; what has finished is kept")


@main.command()
@FILE
@click.option(
    "--delete-storage", is_flag=True, help="Also the shared storage of a cloud: all runs are gone."
)
def down(file: Path, delete_storage: bool) -> None:
    """Take all machines down, and show that nothing is left."""
    from rich.console import Console

    from cluster.teardown import tear_down

    use_token()
    tear_down(read_cluster(file), Console(highlight=False, soft_wrap=True), delete_storage)


if __name__ == "__main__":
    main()
