"""The command that makes the file of posts, with real tables, images and processes."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from kdgan_core.data.posts import draw_posts, read_posts, training_tags
from kdgan_core.data.prepare_tags import main

COMMAND = Path(__file__).parents[3] / "kdgan_core" / "data" / "prepare_tags.py"
HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None
HAS_NLTK = importlib.util.find_spec("nltk") is not None


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """40 posts of four users and features.npy."""
    lines = ["image_id,title,description,tags,who"]
    lines += [
        f"i{row},Photo {row},A <i>sunny</i> day,sky;sea{row % 2};rare{row},u{row % 4}"
        for row in range(40)
    ]
    (tmp_path / "posts.csv").write_text("\n".join(lines) + "\n")
    np.save(tmp_path / "features.npy", np.eye(40, dtype=np.float32))
    return tmp_path / "posts.csv"


def words(table: Path, *more: str) -> list[str]:
    features = str(table.parent / "features.npy")
    out = str(table.parent / "out.parquet")
    return [str(table), out, "--features", features, "--tag-separator", "semicolon", *more]


def test_a_table_with_features_made_elsewhere(table: Path) -> None:
    done = run(*words(table, "--user", "who", "--valid-share", "8", "--test-share", "0.1"))
    assert done.exit_code == 0, done.output
    out = table.parent / "out.parquet"
    assert done.stdout == (
        f"{out}: 40 posts of 40 rows, 3 tags, 2.0 a post\n"
        "28 train, 8 validation, 4 test\n"
        "fewer than 200 tags are on 10 or more training posts\n"
        "\n"
        "To sweep it:\n"
        f"  python sweeps/run.py tags --tags-file {out}\n"
    )
    posts = read_posts(out, "tags")
    assert posts.ids.tolist() == [f"i{row}" for row in range(40)]
    assert (posts.features == np.eye(40)).all()
    assert training_tags(posts)[0] == "sky"
    assert posts.texts[7] == "photo sunny day"
    assert posts.splits is not None
    users = np.arange(40) % 4
    assert np.bincount(users[posts.splits == 2]).tolist() == [1, 1, 1, 1]
    assert np.bincount(users[posts.splits == 1]).tolist() == [2, 2, 2, 2]
    again = run(*words(table, "--user", "who", "--valid-share", "8", "--test-share", "0.1"))
    assert again.exit_code == 0
    assert again.stderr == f"{out} is there already\n"
    assert again.stdout == done.stdout


def test_a_vocabulary_of_ones_own(table: Path) -> None:
    (table.parent / "tags.txt").write_text("Sea1\n\nsea0 \nrare3\nrare3\nnowhere\n")
    done = run(*words(table, "--vocabulary", str(table.parent / "tags.txt"), "--posts", "30"))
    assert done.exit_code == 0, done.output
    assert "30 posts of 40 rows, 3 tags" in done.output
    assert "24 train, 3 validation, 3 test\nleft out: 10 beyond --posts\n" in done.output
    assert "fewer than 4 tags are on 1 or more training posts" in done.output


def test_yfcc100ms_own_file(tmp_path: Path) -> None:
    def line(row: int) -> str:
        cells = [""] * 25
        cells[1], cells[24] = str(row), str(int(row == 3))
        cells[8], cells[9] = "New+York", "%3Cb%3Eskyline%3C%2Fb%3E+at+night"
        cells[10] = "New+York,caf%C3%A9"
        return "\t".join(cells)

    (tmp_path / "yfcc100m_dataset").write_text("".join(f"{line(row)}\n" for row in range(31)))
    np.save(tmp_path / "f.npy", np.eye(31))
    out = tmp_path / "out.parquet"
    done = run(tmp_path / "yfcc100m_dataset", out, "--yfcc100m", "--features", tmp_path / "f.npy")
    assert done.exit_code == 0, done.output
    assert "30 posts of 31 rows, 2 tags" in done.output
    assert "left out: 1 videos\n" in done.output
    posts = read_posts(out, "tags")
    assert set(posts.texts) == {"new york skyline night"}
    assert posts.tag_names == ("café", "new york")
    assert posts.features[3].argmax() == 4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tags", "labels"], "has no column 'labels' (--tags): it has image_id, title, descr"),
        (["--features", "none.npy"], "none.npy cannot be read"),
        (["--vocabulary", "poplar"], "--vocabulary poplar is neither popular nor random, nor a f"),
        (["--valid-share", "1.5"], "--valid-share 1.5 is neither a share below 1 nor a number"),
        (["--split", "who"], "row 1 has the split 'u0': it must be train, validation, test"),
        (["--at-least", "41"], "no tag is on 41 training posts or more"),
        (["--test-share", "40"], "40 test posts are asked for, of 40 posts that could be: lower"),
        (["--yfcc100m"], "leave --yfcc100m out and name its columns"),
        (["--thumbnails"], "no post can be kept: 40 without an image file"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    table: Path, more: list[str], message: str
) -> None:
    done = run(*words(table, *more))
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in table.parent.iterdir()) == ["features.npy", "posts.csv"]


def test_features_of_another_table(table: Path) -> None:
    np.save(table.parent / "features.npy", np.eye(39))
    done = run(*words(table))
    assert done.exit_code == 2
    assert f"--features has 39 rows, {table} 40: row i must belong to row i" in done.stderr


def test_a_place_that_cannot_be_written(table: Path) -> None:
    done = run(table, table / "out.parquet", *words(table)[2:])
    assert done.exit_code == 2
    assert "out.parquet cannot be written" in done.stderr
    done = run(table, table.parent, *words(table)[2:])
    assert done.exit_code == 2
    assert "is a folder: name a file" in done.stderr
    done = run(table, table, *words(table)[2:])
    assert done.exit_code == 2
    assert "name another file, or give --overwrite" in done.stderr


@pytest.mark.skipif(HAS_TORCHVISION, reason="torchvision is installed")
def test_without_torchvision(table: Path) -> None:
    done = run(table, table.parent / "out.parquet")
    assert done.exit_code == 2
    assert "pip install torchvision, or give features made elsewhere" in done.stderr


@pytest.mark.skipif(HAS_NLTK, reason="nltk is installed")
@pytest.mark.parametrize("option", ["--stem", "--wordnet"])
def test_without_nltk(table: Path, option: str) -> None:
    done = run(*words(table, option))
    assert done.exit_code == 2
    assert f"{option} needs nltk" in done.stderr
    assert "pip install nltk" in done.stderr
    assert not (table.parent / "out.parquet").exists()


def test_flickr8k_as_a_user_would_have_it(tmp_path: Path) -> None:
    if "KDGAN_DATA" not in os.environ:
        pytest.skip("KDGAN_DATA does not say where the data are")
    source = Path(os.environ["KDGAN_DATA"]) / "flickr8k" / "flickr8k_tags.parquet"
    if not source.exists():
        pytest.skip(f"{source} is not there")
    rows = pq.read_table(source).select(["image_id", "split", "text", "tags"])
    joined = pa.array([" ".join(tags) for tags in rows["tags"].to_pylist()])
    pacsv.write_csv(rows.set_column(3, "tags", joined), tmp_path / "posts.csv")
    done = run(
        tmp_path / "posts.csv", tmp_path / "out.parquet", "--features", source,
        "--tag-separator", "space",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    given, made = read_posts(source, "flickr8k"), read_posts(tmp_path / "out.parquet", "tags")
    tagged = np.diff(given.tag_rows.offsets) > 0
    assert tagged.sum() == 7996
    assert (made.ids == given.ids[tagged]).all()
    assert (made.features == given.features[tagged]).all()
    assert given.splits is not None and made.splits is not None
    assert (made.splits == given.splits[tagged]).all()
    assert training_tags(made) == training_tags(given)
    assert [made.tags_of(row) for row in range(100)] == [
        given.tags_of(row) for row in np.flatnonzero(tagged)[:100]
    ]
    assert len(draw_posts(made, 1000, 0).train) == 1000


@pytest.fixture
def photos(table: Path) -> Path:
    """Images of the table's posts that take their time to decode."""
    image_module = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for number in range(4):
        noise = rng.integers(0, 255, (800, 800, 3), dtype=np.uint8)
        image_module.fromarray(noise).save(table.parent / f"i{number}.jpg")
    for row in range(4, 40):
        (table.parent / f"i{row}.jpg").hardlink_to(table.parent / f"i{row % 4}.jpg")
    return table.parent


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_killed_it_goes_on_and_makes_the_same_file(
    photos: Path, table: Path, end: signal.Signals
) -> None:
    more = words(table, "--thumbnails", "--chunk", "2")
    whole = run(table, photos / "whole.parquet", *more[2:])
    assert whole.exit_code == 0, whole.output

    process = subprocess.Popen(
        [sys.executable, str(COMMAND), *more], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    pattern = "out.parquet.partial/*/0*.parquet"
    while not list(photos.glob(pattern)) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(end)
    _, said = process.communicate(timeout=60)
    done = sorted(photos.glob(pattern))
    assert 0 < len(done) < 20
    assert not (photos / "out.parquet").exists()
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert "posts are kept, the same command goes on" in said
        assert "Traceback" not in said
    for part in done:  # what is done needs its images no more
        for image_id in pq.read_table(part)["image_id"].to_pylist():
            (photos / f"{image_id}.jpg").unlink()
    again = run(*more)
    assert again.exit_code == 0, again.output
    assert (photos / "out.parquet").read_bytes() == (photos / "whole.parquet").read_bytes()
    assert not (photos / "out.parquet.partial").exists()
