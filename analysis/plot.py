"""The command line: recorded runs to figures and tables."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from analysis.paper import PublishedMode

EXIT_BAD_INPUT = 2
NAMED_FIGURES = ("importance", "contours", "slices", "history", "seconds", "seeds")
# A tracking server that is away should cost seconds here, not MLflow's four minutes of retries;
# and a bar for every small file of curves says nothing.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("experiment")
@click.option(
    "--tracking-uri",
    default="sqlite:///mlflow.db",
    envvar="MLFLOW_TRACKING_URI",
    show_default=True,
    show_envvar=True,
    help="MLflow store that holds the runs.",
)
@click.option(
    "--sweep",
    "sweeps",
    metavar="ID",
    multiple=True,
    help="Sweep to read; repeat it to put methods sweeps together.  "
    "[default: the latest one that has trials]",
)
@click.option(
    "--table",
    type=click.Choice(["1", "2"]),
    help="Write only this: the table of methods beside the paper's, 1 of images, 2 of tags.",
)
@click.option(
    "--figure",
    "figures",
    type=click.Choice(["3", "4", "5", "7", *NAMED_FIGURES]),
    multiple=True,
    help="Write only this (repeatable): 3 is training curves, 4 is sensitivity of images, 5 of "
    "tags, 7 is the variance of gradients; the others are below.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("figures"),
    show_default=True,
    help="Folder for figures and tables; a subfolder per experiment is made in it.",
)
@click.option(
    "--runs-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("runs.parquet"),
    show_default=True,
    help="Parquet file to write: a record per trial and seed.",
)
@click.option(
    "--published",
    type=click.Choice(["corrected", "printed", "none"]),
    default="corrected",
    show_default=True,
    help="The paper's curves of Figure 4 (mnist only) and 5: on the equation's axes without the "
    "constants added for plotting, or as printed; none leaves out all that was published.",
)
def main(
    experiment: str,
    tracking_uri: str,
    sweeps: tuple[str, ...],
    table: str | None,
    figures: tuple[str, ...],
    out: Path,
    runs_file: Path,
    published: PublishedMode,
) -> None:
    """Draw the figures and tables of EXPERIMENT from its recorded runs.

    Reads a sweep from MLflow and writes to figures/EXPERIMENT what it has runs for, and
    runs.parquet. Every figure comes with a .csv of what it shows. A sweep that is still running is
    drawn as far as it is, and the figure says so.

    \b
    sensitivity   figure4.pdf .png .csv, figure4_ranks.csv and best.md
    methods       table1.md .tex .csv, table1_differences.csv and figure3.pdf .png .csv
    of tags       figure5 and table2 in place of figure4 and table1
    search        history and slices, of every trial that was asked for
    sobol         importance: the share of the variation that each parameter accounts for
    grid          contours: two factors at once, and where training breaks
    any           seconds: score against training time; seeds: spread, and how many it takes
    with log_gradient_variance=true also figure7.pdf .png .csv

    \b
    Examples:
      python analysis/plot.py digits
      python analysis/plot.py mnist --sweep mnist-1a2b3c4d
      python analysis/plot.py mnist --published none --out paper/figures
      python analysis/plot.py mnist --table 1
      python analysis/plot.py mnist --table 1 --sweep mnist-1a2b3c4d --sweep mnist-5e6f7a8b
      python analysis/plot.py mnist --figure 3 --figure 7
      python analysis/plot.py flickr8k --table 2 --figure 3
      python analysis/plot.py mnist --figure importance --sweep mnist-sobol-1a2b3c4d
      python analysis/plot.py flickr8k --figure 5
      python analysis/plot.py mnist --tracking-uri http://head-node:5000
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    # Imported here so that --help answers at once.
    from analysis.frames import RunsError, merge, recorded_trials, write_runs
    from analysis.outputs import Readers, Wanted, write_outputs
    from analysis.runs import read_curves, read_images, read_runs

    try:
        named = dict.fromkeys(sweeps) or (None,)
        runs = merge([read_runs(experiment, tracking_uri, sweep) for sweep in named])
        click.echo(f"Sweep {runs.sweep.sweep_id}: {recorded_trials(runs)} trials.")
        write_runs(runs, runs_file)
        wanted = Wanted(table or "", frozenset(figures), published)
        read = Readers(
            partial(read_curves, runs, tracking_uri), partial(read_images, runs, tracking_uri)
        )
        done = write_outputs(runs, wanted, out / experiment, read)
    except RunsError as error:
        _stop(str(error), error)
    except OSError as error:
        _stop(f"cannot write {error.filename}: {error.strerror}", error)
    for sentence in done.said:
        click.echo(sentence)
    for path in [runs_file, *done.paths]:
        click.echo(f"Wrote {path}")


def _stop(message: str, cause: Exception) -> NoReturn:
    """End with one sentence and the exit code of bad input."""
    click.echo(f"error: {message}", err=True)
    raise SystemExit(EXIT_BAD_INPUT) from cause


if __name__ == "__main__":
    main()
