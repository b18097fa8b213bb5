"""The Parquet file of posts, made part by part so that nothing done is done again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kdgan_core.data.cleaning import Cleaner
from kdgan_core.data.dataset import DataError
from kdgan_core.data.image_features import FeatureSource, Unusable, read_image, thumbnail
from kdgan_core.data.post_choice import Choice, check_splits, describe
from kdgan_core.data.post_scan import SPLITS
from kdgan_core.data.post_table import Post, PostTable
from kdgan_core.files import atomic_write

FACTS = b"kdgan"  # key of what is known of a file, in its metadata
THREADS = 8  # that decode images; Pillow lets them run at the same time
Say = Callable[[str], None]


class Makers(NamedTuple):
    """What turns a row of the table into a row of the file.

    Attributes:
        cleaner: of texts.
        source: of features.
        images: folder that the paths of images start from.
        thumbnails: whether there is to be a small picture of each post.
        strict: whether an image or features that cannot be used are an error.
    """

    cleaner: Cleaner
    source: FeatureSource
    images: Path
    thumbnails: bool = False
    strict: bool = False

    @property
    def needs_image(self) -> bool:
        return self.thumbnails or self.source.needs_image

    def why_not(self, post: Post) -> str:
        """Why a post cannot be kept, as far as can be told at once; "" if it can.

        Where that is to be an error, it is one once the post has been chosen.
        """
        if self.strict:
            return ""
        if self.needs_image and not (self.images / post.image).is_file():
            return "without an image file"
        return "" if self.source.has(post) else "without features"

    def prepare(self, post: Post) -> tuple[NDArray[np.float32], bytes | None]:
        """What `source.finish` needs of the post, and its thumbnail.

        Raises:
            Unusable: it has no image or no features.
        """
        image = read_image(self.images / post.image) if self.needs_image else None
        return (
            self.source.prepare(post, image),
            thumbnail(image) if self.thumbnails else None,
        )


def make_parts(
    folder: Path, table: PostTable, choice: Choice, makers: Makers, size: int,
    on_done: Callable[[int], None], say: Say,
) -> None:  # fmt: skip
    """Writes the parts that are not there yet, `size` posts each.

    Args:
        folder: of the parts; it belongs to this choice and these makers alone.
        table: of the posts.
        choice: of its rows.
        makers: of the file's rows.
        size: posts of a part, some of which may be left out.
        on_done: called with how many posts are done.
        say: called with a sentence on each post that is left out.

    Raises:
        DataError: the table is damaged, or, if strict, an image or features cannot be used.
        OSError: a part cannot be written.
    """
    starts = range(0, len(choice.rows), size)
    missing = [start for start in starts if not part_path(folder, start // size).exists()]
    done = len(choice.rows) - sum(min(size, len(choice.rows) - start) for start in missing)
    on_done(done)
    if not missing:
        return
    rows = np.concatenate([np.arange(s, min(s + size, len(choice.rows))) for s in missing])
    posts = table.posts(choice.rows[rows])
    vocabulary = set(choice.vocabulary)
    with ThreadPoolExecutor(THREADS) as pool:
        for start in missing:
            chunk = list(islice(posts, min(size, len(choice.rows) - start)))
            splits = None if choice.splits is None else choice.splits[start : start + len(chunk)]
            part = _make_part(chunk, splits, vocabulary, makers, pool, say)
            with atomic_write(part_path(folder, start // size)) as file:
                pq.write_table(part, file)
            done += len(chunk)
            on_done(done)


def part_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.parquet"


def _make_part(
    posts: Sequence[Post], splits: NDArray[np.int8] | None, vocabulary: set[str], makers: Makers,
    pool: ThreadPoolExecutor, say: Say,
) -> Any:  # fmt: skip
    """A table of these posts, without those that cannot be used."""
    left_out: Counter[str] = Counter()

    def leave_out(post: Post, reason: str) -> None:
        where = f"row {post.row + 1} ({post.image if makers.needs_image else post.image_id})"
        if makers.strict:
            raise DataError(f"{where} is a post {reason}: mend it, or leave --strict out")
        left_out[reason] += 1
        say(f"{where} is left out: {reason}")

    kept, features, thumbnails = _usable(posts, makers, pool, leave_out)
    columns = {"image_id": pa.array([posts[place].image_id for place in kept], pa.string())}
    if splits is not None:
        columns["split"] = pa.array([SPLITS[splits[place]] for place in kept], pa.string())
    columns["image_feature"] = pa.FixedSizeListArray.from_arrays(
        pa.array(features.ravel()), makers.source.width
    )
    columns["text"] = pa.array(
        [makers.cleaner.clean(posts[place].texts) for place in kept], pa.string()
    )
    columns["tags"] = pa.array(
        [[tag for tag in posts[place].tags if tag in vocabulary] for place in kept],
        pa.list_(pa.string()),
    )
    if makers.thumbnails:
        columns["thumbnail"] = pa.array(thumbnails, pa.binary())
    return pa.table(columns).replace_schema_metadata({FACTS: json.dumps({"left_out": left_out})})


def _usable(
    posts: Sequence[Post], makers: Makers, pool: ThreadPoolExecutor,
    leave_out: Callable[[Post, str], None],
) -> tuple[list[int], NDArray[np.float32], list[bytes | None]]:  # fmt: skip
    """Places of the posts that can be used, their (n, F) features and their thumbnails."""

    def attempt(post: Post) -> tuple[NDArray[np.float32], bytes | None] | Unusable:
        try:
            return makers.prepare(post)
        except Unusable as error:
            return error

    made = []
    for place, one in enumerate(pool.map(attempt, posts)):
        if isinstance(one, Unusable):
            leave_out(posts[place], str(one))
        else:
            made.append((place, *one))
    if not made:
        return [], np.zeros((0, makers.source.width), dtype=np.float32), []
    features = makers.source.finish(np.stack([prepared for _, prepared, _ in made]))
    finite = np.asarray(np.isfinite(features).all(axis=1))
    for number in np.flatnonzero(~finite):
        leave_out(posts[made[number][0]], "with features that are not finite")
    fine = [one for one, is_fine in zip(made, finite, strict=True) if is_fine]
    return [place for place, _, _ in fine], features[finite], [small for _, _, small in fine]


def assemble(folder: Path, parts: int, out: Path, choice: Choice, facts: dict[str, Any]) -> None:
    """Puts the parts together in `out`, each a row group, and what is known of it in its metadata.

    Args:
        folder: of the parts.
        parts: how many.
        out: the file.
        choice: of the posts.
        facts: that the file is to have besides what is counted here.

    Raises:
        DataError: a part is damaged, or no post of a split is left.
        OSError: the file cannot be written.
    """
    facts = {**facts, **_count(folder, parts, choice)}
    schema = pq.read_schema(part_path(folder, 0)).with_metadata({FACTS: json.dumps(facts)})
    with atomic_write(out) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for part in _read_parts(folder, parts, None):
            if part.num_rows:
                writer.write_table(part.replace_schema_metadata(schema.metadata))


def _count(folder: Path, parts: int, choice: Choice) -> dict[str, Any]:
    """What is counted for the report: see `read_facts`."""
    left_out = Counter(choice.left_out)
    by_split: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    posts = textless = 0
    columns = ["text", "tags", *(() if choice.splits is None else ("split",))]
    for part in _read_parts(folder, parts, columns):
        left_out.update(json.loads(part.schema.metadata[FACTS])["left_out"])
        posts += part.num_rows
        textless += part["text"].to_pylist().count("")
        tags.update(tag for row in part["tags"].to_pylist() for tag in row)
        if choice.splits is not None:
            by_split.update(part["split"].to_pylist())
    if choice.splits is not None:
        check_splits(by_split)
    if not posts:
        raise DataError(f"no post is left: {describe(left_out)}")
    return {
        "total": choice.total,
        "posts": posts,
        "splits": {name: by_split[name] for name in SPLITS if choice.splits is not None},
        "left_out": left_out,
        "textless": textless,
        "vocabulary": choice.vocabulary,
        "tags_per_post": tags.total() / max(1, posts),
        "unused_tags": [tag for tag in choice.vocabulary if not tags[tag]],
    }


def _read_parts(folder: Path, parts: int, columns: list[str] | None) -> Iterator[Any]:
    for number in range(parts):
        path = part_path(folder, number)
        try:
            with pq.ParquetFile(path) as file:
                part = file.read(columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} is damaged ({error}): delete it and start again") from error
        yield part


def read_facts(path: Path) -> dict[str, Any] | None:
    """What a file made here says of itself, or None if it was not made here.

    "total" rows of the table, "posts" kept, "textless" among them, by "splits"; "left_out": why ->
    posts; "vocabulary", "unused_tags" among it, "tags_per_post"; and what `assemble` was given.
    """
    try:
        content = (pq.read_schema(path).metadata or {}).get(FACTS)
    except (pa.ArrowInvalid, OSError):
        return None
    return None if content is None else json.loads(content)
