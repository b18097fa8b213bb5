"""A large file of posts: reading it, ours against pandas in the same run, and training on it.

Writes a Parquet file of generated posts, row group by row group, and reads it twice, each time in
a process of its own: by `read_posts`, which checks every value, and by `pandas.read_parquet` with
`numpy.stack`, which checks nothing and leaves text and tags as pandas has them. Prints rows per
second, the peak of each process's memory, less what it held before it read, and the ratios. Then a
trial of KDGAN with the paper's players pretrains, trains a little, validates and tests on the file
in a third process: posts a second in updates and in evaluation, and that process's peak.

    python benchmarks/posts.py [--rows 100000] [--check]

With --check the exit code is 1 unless the peak of reading is below 1.5 GiB and that of the trial
below 6 GiB, imports included.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweeps.environment import hardware, package_versions

ROWS_AT_ONCE = 10_000
WORDS = 12  # of a text
MOST_TAGS = 8  # of a post
MOST_BYTES = 1.5 * 2**30
MOST_TRIAL_BYTES = 6 * 2**30
UPDATES = 40  # of C in the trial; half as many of pretraining


def write_file(path: Path, rows: int, features: int = 512, tags: int = 200, seed: int = 0) -> None:
    """A file of posts, four fifths of them to train on; memory does not grow with `rows`.

    The tags follow from the features, by a fixed linear map: a network can learn them.
    """
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((features, tags)).astype(np.float32)
    names = pa.array([f"tag{number}" for number in range(tags)])
    words = np.array([f"word{number}" for number in range(5000)])
    splits = np.array(["train"] * 8 + ["validation", "test"])
    with pq.ParquetWriter(path, _schema(features)) as file:
        for start in range(0, rows, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, rows - start)
            values = rng.standard_normal((count, features)).astype(np.float32)
            best = np.argpartition(-(values @ directions), MOST_TAGS, axis=1)[:, :MOST_TAGS]
            kept = np.arange(MOST_TAGS) < rng.integers(1, MOST_TAGS + 1, count)[:, None]
            offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
            texts = [" ".join(row) for row in rng.choice(words, (count, WORDS))]
            columns = [
                pa.array([f"image{row}" for row in range(start, start + count)]),
                pa.array(splits[np.arange(start, start + count) % len(splits)]),
                pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), features),
                pa.array(texts),
                pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(best[kept]))),
            ]
            file.write_table(pa.Table.from_arrays(columns, schema=_schema(features)))


def _schema(features: int) -> pa.Schema:
    text, tags = pa.string(), pa.list_(pa.string())
    floats = pa.list_(pa.float32(), features)
    names = ("image_id", "split", "image_feature", "text", "tags")
    return pa.schema(list(zip(names, (text, text, floats, text, tags), strict=True)))


def ours(path: Path) -> int:
    """Rows of the file, read and checked."""
    from kdgan_core.data.posts import read_posts

    return len(read_posts(path, "tags"))


def with_pandas(path: Path) -> int:
    """Rows of the file, read by pandas; the features as one array."""
    import pandas

    frame = pandas.read_parquet(path)
    features = np.stack(frame.pop("image_feature").to_numpy())
    return len(features)


def measured(read: Callable[[Path], int], warm: Path, path: Path) -> dict[str, float]:
    """Rows, seconds, and peak memory of this process in bytes: in all, and above the start.

    `warm` is a small file, read first so that imports and pools are there. The peak is of this
    process only if the one that started it was smaller: Linux hands a parent's peak down.
    """
    read(warm)
    before = peak_bytes()
    started = time.perf_counter()
    rows = read(path)
    seconds = time.perf_counter() - started
    peak = peak_bytes()
    return {"rows": rows, "seconds": seconds, "peak_bytes": peak, "grown_bytes": peak - before}


def trial(path: Path) -> dict[str, float]:
    """Posts a second in updates (all players') and in evaluation, and this process's peak."""
    import torch

    from kdgan_core import Trial, TrialConfig

    torch.set_num_threads(1)
    config = TrialConfig(
        dataset="tags", tags_file=str(path), train_size=0, seeds=(0,), batch_size=64,
        steps=UPDATES, pretrain_steps=UPDATES // 2, evaluations=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as cache:
        one = Trial(config, data_dir=None, cache_dir=Path(cache), device="cpu")
        one.advance()
        trained = one.advance()
        started = time.perf_counter()
        result = one.result()
        seconds = time.perf_counter() - started
    (seed,) = result.seeds
    updates = 3 * UPDATES
    return {
        "posts_a_second_training": updates * config.batch_size / trained.seed_seconds[0],
        # The test posts are scored twice: for the means, and image by image.
        "posts_a_second_evaluation": 2 * len(result.details[0].image_ids) / seconds,
        "test_map": float(seed.test_score or 0.0),
        "peak_bytes": peak_bytes(),
    }


def peak_bytes() -> int:
    """Most memory that this process has held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def apart(call: Callable[..., object], *arguments: object) -> object:
    """What the call returns in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(call, *arguments).result()


@click.command(help=__doc__)
@click.option("--rows", default=100_000, show_default=True, type=click.IntRange(10))
@click.option("--features", default=512, show_default=True)
@click.option("--tags", default=200, show_default=True)
@click.option("--check", is_flag=True, help="Exit 1 where the aim is missed.")
def main(rows: int, features: int, tags: int, check: bool) -> None:
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        warm, path = Path(name) / "warm.parquet", Path(name) / "posts.parquet"
        apart(write_file, warm, 20, features, tags)
        apart(write_file, path, rows, features, tags)  # apart: a parent's peak is handed down
        size = path.stat().st_size
        for title, read in (("pandas", with_pandas), ("ours", ours)):
            found[title] = one = apart(measured, read, warm, path)  # type: ignore[assignment]
            click.echo(
                f"{title:7} {one['rows'] / one['seconds']:9,.0f} rows a second,"
                f" {one['grown_bytes'] / 2**20:6,.0f} MiB grown,"
                f" {one['peak_bytes'] / 2**20:6,.0f} MiB in all"
            )
        learned: dict[str, float] = apart(trial, path)  # type: ignore[assignment]
        click.echo(
            f"trial   {learned['posts_a_second_training']:9,.0f} posts a second in updates,"
            f" {learned['posts_a_second_evaluation']:,.0f} in evaluation,"
            f" {learned['peak_bytes'] / 2**20:6,.0f} MiB in all;"
            f" aim: below {MOST_TRIAL_BYTES / 2**30:g} GiB"
        )
    base, own = found["pandas"], found["ours"]
    ratios = {
        "rows_per_second": base["seconds"] / own["seconds"],
        "memory": own["grown_bytes"] / max(1.0, base["grown_bytes"]),
    }
    click.echo(
        f"ours against pandas: {ratios['rows_per_second']:.2f} times the rows a second,"
        f" {ratios['memory']:.2f} of the memory; aim: below {MOST_BYTES / 2**30:g} GiB in all"
    )
    facts = {
        "rows": rows, "features": features, "tags": tags, "file_bytes": size, **found,
        "ratios": ratios, "trial": learned, "hardware": hardware(), "versions": package_versions(),
    }  # fmt: skip
    click.echo(json.dumps(facts))
    missed = own["peak_bytes"] >= MOST_BYTES or learned["peak_bytes"] >= MOST_TRIAL_BYTES
    if check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
