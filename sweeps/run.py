"""The command line of a sweep: space -> plan -> cost -> execute -> record."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from kdgan_core.config import FIELDS, describe_range, parse_value
from sweeps.plan import MODES
from sweeps.space import Space, SpaceError, experiments, load_space

if TYPE_CHECKING:
    from sweeps.sweep import Options


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
      python sweeps/run.py mnist --dry-run            what it would run, and how long it takes
      python sweeps/run.py mnist --mode sensitivity --train-size 100 --seeds 10
      python sweeps/run.py mnist --mode baseline --set gamma=0.001 --set steps=5000
      python sweeps/run.py mnist --set method=nagan --mode search --trials 50
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


class UsageProblem(click.ClickException):
    """Printed as one sentence."""

    exit_code = 2


def fail(message: str) -> NoReturn:
    """Ends the program with exit code 2 and one sentence."""
    raise UsageProblem(message)


def parse_changes(words: tuple[str, ...]) -> Mapping[str, object]:
    """The --set words as typed config fields.

    Raises:
        SpaceError: a word without '=', an unknown field, or a value not of its type.
    """
    changes: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise SpaceError(f"--set {word} has no value: write --set name=value")
        try:
            changes[name.strip()] = parse_value(name.strip(), text.strip())
        except ValueError as error:
            raise SpaceError(f"--set {word}: {error} (--help lists the fields)") from None
    return changes


@click.command(
    help=_help(), epilog=_fields(), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("experiment")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="study",
    show_default=True,
    help="What to run; baseline is the one cell the cuts stand on.",
)
@click.option("--trials", type=int, help="Search trials per training size.")
@click.option("--seeds", type=int, help="Seeds of every cell around the baseline.")
@click.option(
    "--train-size",
    "train_sizes",
    type=int,
    multiple=True,
    help="Training images n; repeat it for several. Default: the experiment's.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Fix a field of the trial's configuration (listed below); repeatable. A factor "
    "fixed so is neither searched nor varied.",
)
@click.option("--quick", is_flag=True, help="Fewer levels, seeds and steps: a rehearsal.")
@click.option("--dry-run", is_flag=True, help="Print size and cost, run and write nothing.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="KDGAN_DATA",
    show_envvar=True,
    help="Data folder. Default: the user's cache directory.",
)
@click.option(
    "--storage",
    type=click.Path(path_type=Path),
    default=Path("sweep_runs"),
    show_default=True,
    help="Folder for plans, spools and pretrained players.",
)
@click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    default="sqlite:///mlflow.db",
    show_default=True,
    help="MLflow store or server.",
)
@click.option(
    "--cpus-per-trial",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Cores, and torch threads, of a trial.",
)
@click.option(
    "--gpus-per-trial",
    type=click.FloatRange(min=0),
    help="GPUs of a trial; a fraction shares one. Default: 0.25 if Ray sees any, else 0.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Seed of the search.")  # fmt: skip
def main(
    experiment: str, mode: str, trials: int | None, seeds: int | None,
    train_sizes: tuple[int, ...], changes: tuple[str, ...], quick: bool, dry_run: bool,
    data_dir: Path | None, storage: Path, tracking_uri: str, cpus_per_trial: float,
    gpus_per_trial: float | None, seed: int,
) -> None:  # fmt: skip
    try:
        space = load_space(
            experiment, quick=quick, train_sizes=train_sizes, seeds=seeds, trials=trials,
            changes=parse_changes(changes),
        )  # fmt: skip
    except SpaceError as error:
        fail(str(error))
    from sweeps.sweep import Options

    options = Options(
        mode=mode, quick=quick, data_dir=data_dir, storage=storage, tracking_uri=tracking_uri,
        cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial, seed=seed,
        command=shlex.join(["python", *sys.argv]),
    )  # fmt: skip
    sys.exit(_run(space, options, dry_run))


def _run(space: Space, options: Options, dry_run: bool) -> int:
    from filelock import Timeout
    from rich.console import Console

    from kdgan_core.data import DataError
    from sweeps.closing import print_plan
    from sweeps.plan import PlanError
    from sweeps.sweep import StorageError, run_sweep

    console = Console(highlight=False, soft_wrap=True)
    try:
        if dry_run:
            print_plan(space, options, console)
            return 0
        return run_sweep(space, options, console)
    except (DataError, PlanError, SpaceError, StorageError) as error:
        fail(str(error))
    except Timeout:
        fail("another process is running this very sweep in the same storage folder: wait for it")
    except KeyboardInterrupt:
        console.print("interrupted: what has finished is kept, the same command goes on")
        return 130
    except ConnectionError as error:
        fail(f"the Ray cluster does not answer ({error}): check RAY_ADDRESS, or unset it")


if __name__ == "__main__":
    main()
