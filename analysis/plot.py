"""The command line: recorded runs to figures and tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from analysis.paper import PublishedMode

EXIT_BAD_INPUT = 2
# A tracking server that is away should cost seconds here, not MLflow's four minutes of retries.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


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
    "--sweep", metavar="ID", help="Sweep to read.  [default: the latest one that has trials]"
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
    help="The paper's curves (mnist only): on the equation's axes without the constants added "
    "for plotting, as printed, or not at all.",
)
def main(
    experiment: str,
    tracking_uri: str,
    sweep: str | None,
    out: Path,
    runs_file: Path,
    published: PublishedMode,
) -> None:
    """Draw Figure 4 and the table of best configurations of EXPERIMENT.

    Reads one sweep from MLflow and writes figures/EXPERIMENT/figure4.pdf, .png and .csv (the marks
    drawn), figures/EXPERIMENT/best.md, and runs.parquet. A sweep that is still running is drawn as
    far as it is, and the figure says so.

    \b
    Examples:
      python analysis/plot.py digits
      python analysis/plot.py mnist --sweep mnist-1a2b3c4d
      python analysis/plot.py mnist --published none --out paper/figures
      python analysis/plot.py mnist --tracking-uri http://head-node:5000
    """
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    # Imported here so that --help answers at once.
    from analysis.runs import RunsError, read_runs, write_runs

    try:
        runs = read_runs(experiment, tracking_uri, sweep)
    except RunsError as error:
        _stop(str(error), error)
    from analysis.figures import has_sensitivity, sensitivity_info, write_figure
    from analysis.tables import write_best

    folder = out / experiment
    click.echo(f"Sweep {runs.sweep.sweep_id}: {runs.trials['trial_id'].nunique()} trials.")
    try:
        write_runs(runs, runs_file)
        written = [runs_file, write_best(runs, folder)]
        if has_sensitivity(runs):
            written += write_figure(sensitivity_info(runs, published), folder)
        else:
            click.echo("It has no sensitivity trial, so there is no Figure 4 to draw.")
    except OSError as error:
        _stop(f"cannot write {error.filename}: {error.strerror}", error)
    for path in written:
        click.echo(f"Wrote {path}")


def _stop(message: str, cause: Exception) -> NoReturn:
    """End with one sentence and the exit code of bad input."""
    click.echo(f"error: {message}", err=True)
    raise SystemExit(EXIT_BAD_INPUT) from cause


if __name__ == "__main__":
    main()
