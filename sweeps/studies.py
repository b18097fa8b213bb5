"""The command line that shows the searches of a storage folder in optuna-dashboard."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeps.words import UsageProblem

if TYPE_CHECKING:
    from optuna.storages import InMemoryStorage


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--storage", type=click.Path(path_type=Path), default=Path("sweep_runs"), show_default=True,
    help="Folder that holds the sweeps.",
)  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--until-eof", is_flag=True, help="End when standard input does.")
def main(storage: Path, port: int, until_eof: bool) -> None:
    """Show the searches of all sweeps in optuna-dashboard, on this machine's loopback.

    What is shown is a copy from when the command was given, so nothing that is clicked there can
    change a sweep; give the command again for what has come since.
    """
    studies = read_studies(storage)
    names = [study.study_name for study in studies.get_all_studies()]
    if not names:
        raise UsageProblem(f"there is no search in {storage}: name its folder with --storage")
    from optuna_dashboard import run_server

    click.echo(f"{len(names)} searches: http://127.0.0.1:{port}")
    serve = threading.Thread(target=run_server, args=(studies, "127.0.0.1", port), daemon=True)
    serve.start()
    try:
        if until_eof:
            sys.stdin.read()
        else:
            serve.join()
    except KeyboardInterrupt:
        sys.exit(130)


def read_studies(storage: Path) -> InMemoryStorage:
    """A copy of every study of every sweep in the folder; a damaged journal is passed over."""
    import optuna
    from optuna.storages import InMemoryStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    copies = InMemoryStorage()
    for journal in sorted(storage.glob("*/optuna.journal")):
        try:
            kept = JournalStorage(JournalFileBackend(str(journal)))
            for name in optuna.get_all_study_names(kept):
                optuna.copy_study(
                    from_study_name=name, from_storage=kept, to_storage=copies,
                    to_study_name=f"{journal.parent.name}: {name}",
                )  # fmt: skip
        except Exception as error:  # whatever a damaged file leads to
            click.echo(f"passed over {journal}: {type(error).__name__}: {error}", err=True)
    return copies


if __name__ == "__main__":
    main()
