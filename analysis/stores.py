"""SQLite stores as files: whether there is one, and what lies beside it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from analysis.frames import RunsError

SQLITE: Final = "sqlite:///"
TABLES: Final = {"experiments", "runs"}


def store_file(tracking_uri: str) -> Path | None:
    """Return the file of a SQLite store, None for any other store."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return Path(unquote(tracking_uri.removeprefix(SQLITE).partition("?")[0]))


def require_store(experiment: str, tracking_uri: str) -> None:
    """Raise RunsError if a SQLite store is absent or is another tool's: MLflow would make its
    tables in it."""
    path = store_file(tracking_uri)
    if path is None:
        return
    if not path.is_file() or path.stat().st_size == 0:
        raise RunsError(f"no runs at {path}; run: python sweeps/run.py {experiment} first")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as store:
            rows = store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {str(name) for (name,) in rows}
    except sqlite3.DatabaseError as error:
        raise RunsError(f"{path} cannot be read as a SQLite store: {error}") from error
    if not tables >= TABLES:
        raise RunsError(f"{path} is no MLflow store: it has no runs; name one with --tracking-uri")


def beside(tracking_uri: str, experiment_id: str, run_id: str, name: str) -> Path | None:
    """Return an artifact that lies beside a SQLite store, None if there is none.

    A store that was fetched from another machine names the places where its artifacts were there.
    """
    store = store_file(tracking_uri)
    if store is None:
        return None
    path = store.parent / "mlruns" / experiment_id / run_id / "artifacts" / name
    return path if path.is_file() else None
