"""From a user's table to the Parquet file of posts; interrupted, it goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdgan_core.data.dataset import DataError
from kdgan_core.data.post_choice import Choice, Wish, choose
from kdgan_core.data.post_parts import FACTS, Makers, assemble, make_parts, read_facts
from kdgan_core.data.post_scan import scan
from kdgan_core.data.post_table import PostTable
from kdgan_core.files import atomic_write

VERSION = 1  # of what is made of the same options
SCANNING, MAKING = "posts read", "posts made"
ROWS_BETWEEN = 1000  # calls of `on_progress` while reading


class Job(NamedTuple):
    """What is to be made.

    Attributes:
        table: to read.
        wish: which posts.
        out: file to write; what is done lies in out.partial until it is.
        makers: given a folder for scratch, what makes a row of the file.
        options: all that `makers` depends on, for JSON.
        inputs: files that it depends on besides the table.
        size: posts of a part.
        overwrite: whether another file at `out` may be replaced.
    """

    table: PostTable
    wish: Wish
    out: Path
    makers: Callable[[Path], Makers]
    options: Mapping[str, object]
    inputs: tuple[Path, ...] = ()
    size: int = 256
    overwrite: bool = False


class Watcher(NamedTuple):
    """Who is told how it goes.

    Attributes:
        on_progress: called with what is going on, how many of them are done, and of how many
            (None: not known).
        say: called with a sentence.
    """

    on_progress: Callable[[str, int, int | None], None] = lambda what, done, total: None
    say: Callable[[str], None] = lambda sentence: None


def partial_folder(out: Path) -> Path:
    """Where what is done lies until all is."""
    return out.with_name(f"{out.name}.partial")


def prepare(job: Job, watcher: Watcher) -> Mapping[str, Any]:
    """Makes the file and returns its facts (`read_facts`); at once if it is there already.

    Raises:
        DataError: the table or what goes with it cannot be used, no post is left, another process
            makes this file, or there is another file at `out`.
        OSError: nothing, or nothing more, can be written.
    """
    if job.out.is_dir():
        raise DataError(f"{job.out} is a folder: name a file")
    key = _key(job)
    if job.out.exists() and not job.overwrite:
        facts = read_facts(job.out)
        if facts is None or facts.get("key") != key:
            raise DataError(
                f"{job.out} is there, made of another table or with other options: name another"
                " file, or give --overwrite"
            )
        watcher.say(f"{job.out} is there already")
        return facts
    partial = partial_folder(job.out)
    folder = partial / key[:12]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(partial / "lock", timeout=0):
            try:
                _make(job, folder, key, watcher)
            except BaseException:
                if not any(partial.glob("*/*.parquet")):
                    shutil.rmtree(partial)
                raise
            shutil.rmtree(partial)  # with what other options may have left
    except filelock.Timeout as error:
        raise DataError(f"another process is making {job.out}: wait for it") from error
    return read_facts(job.out) or {}


def _make(job: Job, folder: Path, key: str, watcher: Watcher) -> None:
    """Writes `job.out`, the lock held."""
    makers = job.makers(folder)
    choice = _choice(job, makers, folder / "choice.parquet", watcher)
    count = len(choice.rows)
    make_parts(
        folder, job.table, choice, makers, job.size,
        lambda done: watcher.on_progress(MAKING, done, count), watcher.say,
    )  # fmt: skip
    made = folder / "made"
    options = {**job.wish._asdict(), **job.options}
    parts = -(-count // job.size)
    assemble(folder, parts, made, choice, {"key": key, "options": options})
    made.replace(job.out)


def _key(job: Job) -> str:
    """A checksum of all that the file depends on, but for the images.

    Raises:
        DataError: the table or an input cannot be read.
    """
    checksums = []
    for path in (job.table.path, *job.inputs):
        try:
            with path.open("rb") as file:
                checksums.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error})") from error
    depends = {
        "version": VERSION,
        "columns": dict(job.table.columns),
        "yfcc100m": job.table.yfcc100m,
        "url_encoded": job.table.url_encoded,
        "separator": job.table.separator,
        "wish": job.wish._asdict(),
        "options": dict(job.options),
        "size": job.size,
        "checksums": checksums,
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def _choice(job: Job, makers: Makers, path: Path, watcher: Watcher) -> Choice:
    """The choice that was kept at `path`, or one made now and kept there.

    Images that come or go after the choice do not change it, so that parts made before and after
    an interruption go together.
    """
    if path.exists():
        return _read_choice(path)

    def on_row(row: int) -> None:
        if row % ROWS_BETWEEN == 0:
            watcher.on_progress(SCANNING, row, None)

    found = scan(
        job.table.posts(texts=False), makers.why_not, "split" in job.table.columns,
        "user" in job.table.columns, on_row,
    )  # fmt: skip
    watcher.on_progress(SCANNING, found.total, found.total)
    rows = makers.source.rows
    if rows is not None and rows != found.total:
        raise DataError(
            f"--features has {rows:,} rows, {job.table.path} {found.total:,}: row i must belong"
            " to row i; or give a Parquet file with image_id and image_feature"
        )
    choice = choose(found, job.wish)
    columns = {"row": pa.array(choice.rows)}
    if choice.splits is not None:
        columns["split"] = pa.array(choice.splits)
    facts = {
        "vocabulary": choice.vocabulary, "left_out": choice.left_out, "total": choice.total,
    }  # fmt: skip
    table = pa.table(columns).replace_schema_metadata({FACTS: json.dumps(facts)})
    with atomic_write(path) as file:
        pq.write_table(table, file)
    return choice


def _read_choice(path: Path) -> Choice:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it and start again") from error
    facts = json.loads(table.schema.metadata[FACTS])
    splits = table["split"].to_numpy().astype(np.int8) if "split" in table.column_names else None
    return Choice(
        table["row"].to_numpy().astype(np.int64),
        splits,
        tuple(facts["vocabulary"]),
        facts["left_out"],
        facts["total"],
    )
