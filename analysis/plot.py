"""The command line: recorded runs to figures and tables."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from analysis.paper import PublishedMode
    from analysis.work import Asked

EXIT_BAD_INPUT = 2
WATCH_SECONDS = 10.0
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
    "--report",
    "has_report",
    is_flag=True,
    help="Write report.html, one page with a summary in words, and its figures: of the latest "
    "sweep of each mode, or of those named with --sweep.",
)
@click.option(
    "--log/--no-log",
    "is_logged",
    default=True,
    show_default=True,
    help="Log the report and its figures to the sweep's parent run in MLflow.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Draw again whenever trials have ended, until the sweep has.",
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
    has_report: bool,
    is_logged: bool,
    watch: bool,
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
      python analysis/plot.py mnist --report
      python analysis/plot.py mnist --report --watch
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
    if has_report and (table or figures):
        raise click.UsageError("--report has all figures and tables: leave --table and --figure")
    # Imported here so that --help answers at once.
    from analysis.frames import RunsError
    from analysis.outputs import Wanted
    from analysis.work import Asked, read, write

    wanted = Wanted(table or "", frozenset(figures), published)
    asked = Asked(experiment, tracking_uri, sweeps, wanted, has_report, is_logged, out, runs_file)
    try:
        if watch:
            _watch(asked)
        else:
            write(asked, read(asked), click.echo)
    except RunsError as error:
        _stop(str(error), error)
    except OSError as error:
        _stop(f"cannot write {error.filename}: {error.strerror}", error)
    except KeyboardInterrupt:
        click.echo("No longer watching; what was drawn last stays.")


def _watch(asked: Asked) -> None:
    """Draw whenever the store has something new, until every sweep has ended."""
    from analysis.frames import RunsError
    from analysis.work import counted, read, write

    drawn: list[tuple[str, str, bool]] = []
    waiting = ""
    while True:
        is_over = False
        try:
            several = read(asked)
            state = [(r.sweep.sweep_id, counted(r), r.sweep.has_ended) for r in several]
            is_over = all(runs.sweep.has_ended for runs in several)
            if state != drawn:
                write(asked, several, click.echo)
                drawn = state
        except RunsError as error:
            if is_over:
                raise
            # A sweep that has just begun has no trial to show yet.
            if str(error) != waiting:
                waiting = str(error)
                click.echo(f"Waiting: {waiting}")
        if is_over:
            return
        time.sleep(WATCH_SECONDS)


def _stop(message: str, cause: Exception) -> NoReturn:
    """End with one sentence and the exit code of bad input."""
    click.echo(f"error: {message}", err=True)
    raise SystemExit(EXIT_BAD_INPUT) from cause


if __name__ == "__main__":
    main()
