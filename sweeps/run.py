"""The command line of a sweep: space -> plan -> cost -> execute -> record."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import NoReturn

import click

from kdgan_core.config import FIELDS, describe_range
from sweeps.caps import CapError, Caps
from sweeps.factors import SpaceError
from sweeps.loading import experiments, load_space
from sweeps.options import Options
from sweeps.parsing import (
    check_pack,
    check_url,
    parse_baseline,
    parse_changes,
    split_names,
    with_tags_file,
)
from sweeps.space import Space
from sweeps.words import MODES, RETRY, RULES, SAMPLERS, UsageProblem


def _help() -> str:
    return f"""Sweep KDGAN's hyper-parameters on EXPERIMENT: {", ".join(experiments())}.

    The default mode, study, searches alpha, beta, gamma and the temperature schedule with Optuna,
    then varies one factor at a time around the best configuration found, for every training size.
    Every trial becomes an MLflow run. The same command again goes on where the sweep was left and
    trains only what is missing.

    \b
    Examples:
      python sweeps/run.py digits                     a whole study in minutes, no download
      python sweeps/run.py mnist --quick              a rehearsal on real MNIST
      python sweeps/run.py mnist --dry-run            what it would run, and what that costs
      python sweeps/run.py mnist --max-hours 2        as much as fits into two hours, then resume
      python sweeps/run.py mnist --mode sensitivity --train-size 100 --seeds 10
      python sweeps/run.py mnist --mode baseline --set gamma=0.001 --set steps=5000
      python sweeps/run.py mnist --set method=nagan --mode search --trials 50
      python sweeps/run.py mnist --mode grid --factors beta,gamma --train-size 100

    \b
    The table of methods: every arm is tuned with the same few trials, on validation and on seeds
    of its own, then its best configuration is trained under the table's seeds.
      python sweeps/run.py mnist --mode methods                    Table 1's rows
      python sweeps/run.py mnist --mode methods --trials 0         the space's recipes as they are
      python sweeps/run.py mnist --mode methods --arms kdgan,mimic --train-size 100
      python sweeps/run.py mnist --mode methods --set matched=steps    as much compute for each

    \b
    Image tag recommendation: the same modes on posts, images with text and tags.
      python sweeps/run.py tags                                   generated posts, no file
      python sweeps/run.py tags --tags-file mine.parquet --mode methods    Table 2 on your posts

    \b
    On a cluster (cluster/README.md): `ray up cluster/gpu.yaml`, then
      python sweeps/run.py mnist --on cluster/gpu.yaml

    \b
    Exit code: 0 all trials have an outcome and none failed; 1 some failed, or the storage is
    full; 2 the command or its surroundings are at fault; 3 a cap ended it; 130 interrupted.
    """


def _fields() -> str:
    """The fields for --set, a line each, from the configuration itself."""
    lines = [
        "\b",
        "Fields for --set (default, unless the experiment has its own; range): what it is",
    ]
    for field in FIELDS:
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        limits = describe_range(field.metadata)
        lines.append(f"  {field.name} ({default}; {limits}): {field.metadata['help']}")
    return "\n".join(lines)


def fail(message: str) -> NoReturn:
    """Ends the program with exit code 2 and one sentence."""
    raise UsageProblem(message)


class Grouped(click.Command):
    """A command whose help lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        left = {p.name: p for p in self.get_params(ctx) if isinstance(p, click.Option)}
        for heading, names in HEADINGS.items():
            chosen = [left.pop(name) for name in names]
            records = [r for r in (param.get_help_record(ctx) for param in chosen) if r]
            with formatter.section(heading):
                formatter.write_dl(records)
        rest = [r for r in (param.get_help_record(ctx) for param in left.values()) if r]
        with formatter.section("Other"):
            formatter.write_dl(rest)


HEADINGS = {
    "What to train": (
        "mode", "arms", "train_sizes", "seeds", "trials", "changes", "quick",
    ),
    "Search and levels": (
        "sampler", "early_stopping", "seed", "baseline", "factors", "levels",
    ),
    "Size, cost and caps": (
        "dry_run", "as_json", "usd_per_hour", "max_hours", "max_gpu_hours", "max_usd",
        "max_trials", "max_failures",
    ),
    "Going on": ("status", "retry", "accept_changes"),
    "Where and with what": (
        "data_dir", "tags_file", "storage", "tracking_uri", "cpus_per_trial", "gpus_per_trial",
        "pack", "skip_preflight", "notify", "cluster", "down_when_done",
    ),
}  # fmt: skip
POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command(
    cls=Grouped, help=_help(), epilog=_fields(),
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@click.argument("experiment")
@click.option(
    "--mode", type=click.Choice(MODES), default="study", show_default=True,
    help="study: search, then one factor at a time around the best. search, sensitivity: one half"
    " of it. grid: two factors at once. sobol: a design for importances. baseline: the one cell."
    " methods: the table of methods.",
)  # fmt: skip
@click.option(
    "--arms", callback=split_names, metavar="A,B",
    help="Lines of the table of methods. Default: all but the optional ones. More can be added"
    " later.",
)  # fmt: skip
@click.option(
    "--train-size",
    "train_sizes",
    type=int,
    multiple=True,
    help="Training images n; repeatable. Default: the experiment's.",
)
@click.option(
    "--seeds", type=int,
    help="Seeds of every cell around the baseline, or of every arm; more can be added later.",
)  # fmt: skip
@click.option(
    "--trials", type=int,
    help="Search or Sobol trials per training size, in a table tuning trials per arm, where 0 is"
    " none; more can be added later.",
)  # fmt: skip
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE",
    help="Fix a field of the trial's configuration (listed below); repeatable. A factor fixed so"
    " is neither searched nor varied.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="Fewer levels, seeds and steps: a rehearsal.")
@click.option(
    "--sampler",
    type=click.Choice(SAMPLERS),
    default="tpe",
    show_default=True,
    help="Optuna's, of the search.",
)
@click.option(
    "--early-stopping", type=click.Choice(RULES), default="asha", show_default=True,
    help="End search trials that lag, from a third of their budget on. Never a cell of a curve.",
)  # fmt: skip
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the search and of the Sobol design.",
)
@click.option(
    "--baseline", multiple=True, metavar="best|paper|NAME=VALUE",
    help="Where the levels are varied around: the best found (default of study; elsewhere of the"
    " storage's searches), the paper's (default elsewhere), or the paper's with these fields.",
)  # fmt: skip
@click.option(
    "--factors",
    callback=split_names,
    metavar="A,B",
    help="Vary these only, of alpha, beta, gamma, tau; a grid has two. Default: all,"
    " in a grid beta,gamma.",
)
@click.option(
    "--levels", multiple=True, metavar="printed|authors|FACTOR=L,L",
    help="The paper's axes as printed (default), what its authors ran, or a factor's own levels"
    " (tau's: kind:start:end); repeatable. More can be added later.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, help="Print the plan with its cost; run and write nothing."
)
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: as JSON.")
@click.option("--usd-per-hour", type=POSITIVE, help="Price of all machines together.")
@click.option(
    "--max-hours",
    type=POSITIVE,
    help="No trial starts that would end later. All caps count from this command's start.",
)
@click.option("--max-gpu-hours", type=POSITIVE, help="GPUs times hours of all trials.")
@click.option("--max-usd", type=POSITIVE, help="Hours times --usd-per-hour.")
@click.option("--max-trials", type=click.IntRange(min=1), help="Trials started.")
@click.option(
    "--max-failures", type=click.IntRange(min=1), help="Start no more after so many failed."
)
@click.option("--status", is_flag=True, help="Show how the sweep stands; from any terminal.")
@click.option(
    "--retry", type=click.Choice(tuple(RETRY)), default="failed", show_default=True,
    help="Ended trials to run again: failed, also collapsed and diverged, or all.",
)  # fmt: skip
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Go on with a half-done sweep although code or plan have changed.",
)
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="KDGAN_DATA", show_envvar=True,
    help="Data folder. Default: the user's cache directory.",
)  # fmt: skip
@click.option(
    "--tags-file", type=click.Path(path_type=Path), metavar="PARQUET",
    help="Posts for the experiment tags: columns image_id, image_feature, text, tags and perhaps"
    " split; python kdgan_core/data/prepare_tags.py makes one. Default: generated posts.",
)  # fmt: skip
@click.option(
    "--storage",
    type=click.Path(path_type=Path),
    default=Path("sweep_runs"),
    show_default=True,
    help="Folder for plans, spools, checkpoints, pretrained players.",
)
@click.option(
    "--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True,
    default="sqlite:///mlflow.db", show_default=True, help="MLflow store or server.",
)  # fmt: skip
@click.option(
    "--cpus-per-trial",
    type=POSITIVE,
    default=1.0,
    show_default=True,
    help="Cores, and torch threads, of a trial.",
)
@click.option(
    "--gpus-per-trial", type=click.FloatRange(min=0),
    help="GPUs of a trial; a fraction shares one. Default: if Ray sees any, what one trial is"
    " measured to take of it.",
)  # fmt: skip
@click.option(
    "--pack", metavar="auto|none|N", default="auto", show_default=True, callback=check_pack,
    help="Seeds of a trial trained as one, on stacked tensors: as many as find memory on a GPU and"
    " one by one on a CPU (auto), one by one (none), or so many.",
)  # fmt: skip
@click.option(
    "--skip-preflight",
    is_flag=True,
    help="Start without the checks of data, storage, store, nodes and one short trial.",
)
@click.option(
    "--notify",
    metavar="URL",
    callback=check_url,
    help="Post a JSON message there at the end (also by a cap) and at the first failure.",
)
@click.option(
    "--on", "cluster", type=click.Path(path_type=Path), metavar="FILE",
    help="Run on the cluster of this YAML file, which `ray up` has brought up, and follow it from"
    " here; Ctrl-C detaches, the same command follows it again. Folders are then the cluster's.",
)  # fmt: skip
@click.option(
    "--down-when-done", is_flag=True,
    help="With --on: after the end fetch the runs and take the machines down.",
)  # fmt: skip
def main(
    experiment: str, mode: str, arms: tuple[str, ...], trials: int | None, seeds: int | None,
    train_sizes: tuple[int, ...], changes: tuple[str, ...], quick: bool, sampler: str,
    early_stopping: str, seed: int, baseline: tuple[str, ...], factors: tuple[str, ...],
    levels: tuple[str, ...], dry_run: bool, as_json: bool, usd_per_hour: float | None,
    max_hours: float | None, max_gpu_hours: float | None, max_usd: float | None,
    max_trials: int | None, max_failures: int | None, status: bool, retry: str,
    accept_changes: bool, data_dir: Path | None, tags_file: Path | None, storage: Path,
    tracking_uri: str, cpus_per_trial: float, gpus_per_trial: float | None, pack: str,
    skip_preflight: bool, notify: str | None, cluster: Path | None, down_when_done: bool,
) -> None:  # fmt: skip
    caps = Caps(max_hours, max_gpu_hours, max_usd, max_trials, max_failures, usd_per_hour)
    options = Options(
        mode=mode, quick=quick, data_dir=data_dir, storage=storage, tracking_uri=tracking_uri,
        cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial, seed=seed,
        command=shlex.join(["python", *sys.argv]), sampler=sampler,
        early_stopping=early_stopping, retry=retry, accept_changes=accept_changes,
        preflight=not skip_preflight, notify=notify, caps=caps, pack=pack,
    )  # fmt: skip
    try:
        if as_json and not dry_run:
            raise SpaceError("--json goes with --dry-run")
        if dry_run and status:
            raise SpaceError("--dry-run and --status are two commands: give one of them")
        if down_when_done and cluster is None:
            raise SpaceError("--down-when-done goes with --on")
        caps.check(gpus_per_trial)
        named = with_tags_file(parse_changes(changes), tags_file)
        space = load_space(
            experiment, mode, quick=quick, train_sizes=train_sizes, seeds=seeds, trials=trials,
            changes=named, factors=factors, levels=levels, baseline=parse_baseline(baseline),
            arms=arms,
        )  # fmt: skip
    except (CapError, SpaceError) as error:
        fail(str(error))
    if cluster is not None:
        sys.exit(_run_on(cluster, down_when_done))
    action = "dry_run" if dry_run else "status" if status else "run"
    sys.exit(_act(action, space, options, as_json))


def _run_on(cluster: Path, down_when_done: bool) -> int:
    """The exit code of this command line, run on a cluster."""
    from rich.console import Console

    from cluster.errors import ClusterError
    from cluster.remote import run_on, without_own

    console = Console(highlight=False, soft_wrap=True)
    try:
        return run_on(cluster, without_own(sys.argv[1:]), console, down_when_done)
    except ClusterError as error:
        fail(str(error))


def _act(action: str, space: Space, options: Options, as_json: bool) -> int:
    from rich.console import Console

    from kdgan_core.data import DataError
    from sweeps.folder import StorageError, sweep_folder
    from sweeps.manifest import ManifestError
    from sweeps.plan import PlanError
    from sweeps.resources import PreflightError

    console = Console(highlight=False, soft_wrap=True)
    try:
        if action == "status":
            from sweeps.status import print_status

            print_status(sweep_folder(space, options), console)
            return 0
        if action == "dry_run":
            from sweeps.dry_run import describe_plan, print_plan

            facts = describe_plan(space, options, sweep_folder(space, options))
            print_plan(facts, as_json, console)
            return 0
        from sweeps.sweep import run_sweep

        return run_sweep(space, options, console)
    except (
        CapError, DataError, ManifestError, PlanError, PreflightError, SpaceError, StorageError,
    ) as error:  # fmt: skip
        fail(str(error))
    except KeyboardInterrupt:
        console.print("interrupted: what has finished is kept, the same command goes on")
        return 130
    except ConnectionError as error:
        fail(f"the Ray cluster does not answer ({error}): check RAY_ADDRESS, or unset it")


if __name__ == "__main__":
    main()
