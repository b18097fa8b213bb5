"""The file of posts is made part by part, from real images; interrupted it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from kdgan_core.data.cleaning import Cleaner
from kdgan_core.data.dataset import DataError
from kdgan_core.data.post_choice import Wish
from kdgan_core.data.post_job import Job, Watcher, partial_folder, prepare
from kdgan_core.data.post_parts import Makers
from kdgan_core.data.post_table import Post, open_table
from kdgan_core.data.posts import read_posts

Image = pytest.importorskip("PIL.Image")
COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}
WISH = Wish(at_least=1, valid_share=0.2, test_share=0.2)


class ColourHistogram:
    """Four bins of each channel: what a network sees, in small. Counts the images it saw."""

    width, needs_image, rows = 12, True, None

    def __init__(self) -> None:
        self.seen: list[str] = []

    def has(self, post: Post) -> bool:
        return True

    def prepare(self, post: Post, image: Any) -> NDArray[np.float32]:
        self.seen.append(post.image_id)
        bins = np.asarray(image).reshape(-1, 3) // 64
        counts = [np.bincount(bins[:, channel], minlength=4) for channel in range(3)]
        return (np.concatenate(counts) / len(bins)).astype(np.float32)

    def finish(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        return prepared


class NeverRed(ColourHistogram):
    """Has no number for red images."""

    def finish(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        prepared[prepared[:, 3] > 0.5] = np.nan
        return prepared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """posts.csv, and 30 small photos with noise, each tagged with its colour."""
    rng = np.random.default_rng(0)
    lines = ["image_id,title,tags"]
    for row in range(30):
        name = list(COLOURS)[row % 3]
        pixels = rng.normal(COLOURS[name], 4, (20 + row, 30, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"p{row}.jpg", quality=95)
        lines.append(f'p{row},<b>The</b> {name} photo,"{name},seen"')
    (tmp_path / "posts.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def job(
    folder: Path, source: ColourHistogram | None = None, thumbnails: bool = False,
    strict: bool = False, wish: Wish = WISH, size: int = 4, overwrite: bool = False,
) -> Job:  # fmt: skip
    used = source or ColourHistogram()
    return Job(
        open_table(folder / "posts.csv", {}), wish, folder / "out.parquet",
        lambda scratch: Makers(Cleaner(), used, folder, thumbnails, strict),
        {"thumbnails": thumbnails, "strict": strict}, (), size, overwrite,
    )  # fmt: skip


def test_the_file_has_every_image_its_text_and_its_tags(folder: Path) -> None:
    facts = prepare(job(folder, thumbnails=True), Watcher())
    posts = read_posts(folder / "out.parquet", "tags")
    assert posts.ids.tolist() == [f"p{row}" for row in range(30)]
    assert posts.tag_names == ("blue", "green", "red", "seen")
    for row, colour in enumerate(COLOURS.values()):
        bins = np.array([[value // 64 == place for place in range(4)] for value in colour])
        assert np.abs(posts.features[row] - bins.ravel()).max() < 0.05
        name = list(COLOURS)[row]
        assert (posts.texts[row], posts.tags_of(row)) == (f"{name} photo", sorted([name, "seen"]))
        assert posts.thumbnails is not None
        small = posts.thumbnails[row]
        assert small is not None and small.startswith(b"\xff\xd8")
    assert posts.splits is not None
    assert np.bincount(posts.splits).tolist() == [18, 6, 6]
    assert facts["splits"] == {"train": 18, "validation": 6, "test": 6}
    assert facts["vocabulary"] == ["seen", "blue", "green", "red"]
    assert (facts["posts"], facts["total"], facts["tags_per_post"]) == (30, 30, 2)
    assert (facts["left_out"], facts["textless"], facts["unused_tags"]) == ({}, 0, [])
    assert not partial_folder(folder / "out.parquet").exists()


def test_neither_the_size_of_a_part_nor_an_interruption_shows_in_the_rows(folder: Path) -> None:
    prepare(job(folder, size=100), Watcher())
    whole = pq.read_table(folder / "out.parquet")
    (folder / "out.parquet").unlink()
    first, second = ColourHistogram(), ColourHistogram()

    def interrupt(what: str, done: int, total: int | None) -> None:
        if total == 30 and done == 12 and what == "posts made":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(job(folder, first), Watcher(interrupt))
    assert not (folder / "out.parquet").exists()
    assert len(list(partial_folder(folder / "out.parquet").glob("*/0*.parquet"))) == 3
    for name in first.seen[:12]:
        (folder / f"{name}.jpg").unlink()  # needed no more, not even to choose the same posts
    progress: list[tuple[str, int, int | None]] = []
    prepare(job(folder, second), Watcher(lambda *step: progress.append(step)))
    assert progress[0] == ("posts made", 12, 30)
    assert progress[-1] == ("posts made", 30, 30)
    assert sorted(first.seen[:12] + second.seen) == sorted(f"p{row}" for row in range(30))
    assert pq.read_table(folder / "out.parquet").equals(whole)


def test_a_file_that_is_there_is_not_made_again_nor_replaced_by_another(folder: Path) -> None:
    prepare(job(folder), Watcher())
    made = (folder / "out.parquet").read_bytes()
    source = ColourHistogram()
    said: list[str] = []
    facts = prepare(job(folder, source), Watcher(say=said.append))
    assert facts["posts"] == 30
    assert (source.seen, said) == ([], [f"{folder / 'out.parquet'} is there already"])
    other = job(folder, wish=WISH._replace(seed=1))
    with pytest.raises(DataError, match="made of another table or with other options: name anoth"):
        prepare(other, Watcher())
    assert (folder / "out.parquet").read_bytes() == made
    prepare(other._replace(overwrite=True), Watcher())
    assert (folder / "out.parquet").read_bytes() != made
    with (folder / "posts.csv").open("a") as file:
        file.write('p0,again,"red"\n')
    with pytest.raises(DataError, match="made of another table"):
        prepare(other, Watcher())


def test_images_that_cannot_be_used_are_named_left_out_and_counted(folder: Path) -> None:
    (folder / "p4.jpg").write_bytes((folder / "p4.jpg").read_bytes()[:300])
    (folder / "p7.jpg").unlink()
    said: list[str] = []
    facts = prepare(job(folder, NeverRed()), Watcher(say=said.append))
    assert facts["left_out"] == {
        "without an image file": 1,
        "with an image that cannot be read": 1,
        "with features that are not finite": 10,
    }
    assert "row 5 (p4.jpg) is left out: with an image that cannot be read" in said
    assert len(said) == 11
    assert facts["unused_tags"] == ["red"]
    kept = read_posts(folder / "out.parquet", "tags")
    assert kept.ids.tolist() == [f"p{row}" for row in range(30) if row % 3 and row not in (4, 7)]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), r"row 5 \(p4\.jpg\) is a post with an image that"),
        (lambda path: path.unlink(), r"row 5 \(p4\.jpg\) is a post without an image file: mend"),
    ],
)
def test_strict_ends_at_the_first(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder / "p4.jpg")
    with pytest.raises(DataError, match=message):
        prepare(job(folder, strict=True), Watcher())


def test_nothing_is_left(folder: Path) -> None:
    for path in folder.glob("*.jpg"):
        path.write_bytes(b"")
    no_split = WISH._replace(valid_share=0, test_share=0)
    with pytest.raises(DataError, match="no post is left: 30 with an image that cannot be read"):
        prepare(job(folder, wish=no_split), Watcher())
    with pytest.raises(DataError, match="no train post is left"):
        prepare(job(folder), Watcher())
    for path in folder.glob("*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match="no post can be kept: 30 without an image file"):
        prepare(job(folder, size=5), Watcher())
    assert not (folder / "out.parquet").exists()


def test_without_a_split_every_seed_draws_its_own(folder: Path) -> None:
    prepare(job(folder, wish=WISH._replace(valid_share=0, test_share=0)), Watcher())
    assert read_posts(folder / "out.parquet", "tags").splits is None


def test_a_damaged_part_is_named(folder: Path) -> None:
    def damage(what: str, done: int, total: int | None) -> None:
        if done == 30 and what == "posts made":
            [part] = partial_folder(folder / "out.parquet").glob("*/000002.parquet")
            part.write_bytes(part.read_bytes()[:100])

    with pytest.raises(DataError, match=r"000002\.parquet is damaged .* delete it and start aga"):
        prepare(job(folder), Watcher(damage))


def test_two_processes_do_not_make_the_same_file(folder: Path) -> None:
    partial = partial_folder(folder / "out.parquet")
    partial.mkdir()
    with (
        filelock.FileLock(partial / "lock"),
        pytest.raises(DataError, match="another process is making"),
    ):
        prepare(job(folder), Watcher())
    prepare(job(folder), Watcher())


def test_what_the_file_says_of_itself_can_be_read_by_anyone(folder: Path) -> None:
    prepare(job(folder), Watcher())
    facts = json.loads(pq.read_schema(folder / "out.parquet").metadata[b"kdgan"])
    assert facts["options"]["seed"] == 0
    assert facts["options"]["thumbnails"] is False
