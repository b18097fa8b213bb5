"""Images of posts: reading them, and what a network trained on other images sees in them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kdgan_core.data.dataset import DataError
from kdgan_core.data.optional import optional_package
from kdgan_core.data.post_table import Post

THUMBNAIL_SIDE = 96  # pixels
OR_FEATURES = ", or give features made elsewhere with --features FILE"


class Unusable(Exception):
    """A post has no image or no features to use; the message says why."""


class FeatureSource(Protocol):
    """Where features come from. `prepare` is called from several threads at a time.

    Attributes:
        width: F.
        needs_image: whether `prepare` is to be given the decoded image.
        rows: that the table must have; None is any number.
    """

    width: int
    needs_image: bool
    rows: int | None

    def has(self, post: Post) -> bool:
        """Whether there are features of the post, as far as can be told at once."""

    def prepare(self, post: Post, image: Any) -> NDArray[np.float32]:
        """What `finish` needs of one post; an array of the same shape for all.

        Raises:
            Unusable: there is nothing.
        """

    def finish(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, F) of n posts at once."""


class StoredFeatures:
    """Features of a file: (rows, F), of which each post has one."""

    needs_image = False

    def __init__(
        self,
        values: NDArray[np.floating[Any]],
        place_of: Callable[[Post], int | None],
        rows: int | None = None,
    ) -> None:
        """rows: as `FeatureSource`'s."""
        self.values, self.place_of = values, place_of
        self.width, self.rows = values.shape[1], rows

    def has(self, post: Post) -> bool:
        return self.place_of(post) is not None

    def prepare(self, post: Post, image: Any) -> NDArray[np.float32]:
        place = self.place_of(post)
        if place is None:
            raise Unusable("without features")
        return np.asarray(self.values[place], dtype=np.float32)

    def finish(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        return prepared


def stored_features(path: Path, scratch: Path) -> StoredFeatures:
    """The features of a file.

    Args:
        path: .npy, an array whose row i belongs to row i of the table; or Parquet with the columns
            image_id and image_feature.
        scratch: folder for a copy of a Parquet file's features that can be read at any place; it
            has no name and goes with the process.

    Raises:
        DataError: it is absent or damaged, or holds no features.
    """
    if not path.is_file():
        raise DataError(f"there are no features {path}: give a .npy or Parquet file (--features)")
    try:
        return _of_array(path) if path.suffix == ".npy" else _of_parquet(path, scratch)
    except (pa.ArrowInvalid, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as features ({error})") from error


def _of_array(path: Path) -> StoredFeatures:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.ndim != 2 or values.dtype.kind != "f" or not values.shape[1]:
        raise DataError(
            f"{path} holds {values.dtype} of shape {values.shape}: features are floats of shape"
            " (rows of the table, width)"
        )
    count = len(values)
    return StoredFeatures(values, lambda post: post.row if post.row < count else None, count)


def _of_parquet(path: Path, scratch: Path) -> StoredFeatures:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        for name in ("image_id", "image_feature"):
            if name not in names:
                raise DataError(f"{path} has no column {name}: it has {', '.join(names)}")
        places: dict[str, int] = {}
        width = 0
        copy = tempfile.TemporaryFile(dir=scratch)  # open for as long as the array is
        for batch in file.iter_batches(1024, columns=["image_id", "image_feature"]):
            for image_id in batch["image_id"].to_pylist():
                if str(image_id) in places:
                    raise DataError(f"{path} has image_id {image_id!r} twice: leave one")
                places[str(image_id)] = len(places)
            values = _matrix(path, batch["image_feature"], width)
            width = values.shape[1]
            copy.write(values.tobytes())
    if not places:
        raise DataError(f"{path} has no features")
    copy.flush()
    stored = np.memmap(copy, dtype=np.float32, mode="r", shape=(len(places), width))
    return StoredFeatures(stored, lambda post: places.get(post.image_id))


def _matrix(path: Path, column: Any, width: int) -> NDArray[np.float32]:
    """(rows, F); NaN where a row or value is null.

    Args:
        path: for messages.
        column: lists.
        width: F, or 0 if it is not known yet.

    Raises:
        DataError: these are no lists of floats, or of different lengths.
    """
    kind = column.type
    is_list = any(
        check(kind)
        for check in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    )
    if not is_list or not pa.types.is_floating(kind.value_type):
        raise DataError(f"{path}: image_feature is {kind}, it must be a list of floats")
    present = column.is_valid().to_numpy(zero_copy_only=False)
    lists = column.drop_null()
    widths = set(pc.list_value_length(lists).to_pylist()) | ({width} if width else set())
    if len(widths) != 1 or 0 in widths:
        raise DataError(f"{path}: image_feature is empty, or not as wide in every row")
    values = np.full((len(column), widths.pop()), np.nan, dtype=np.float32)
    flat = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    values[present] = flat.reshape(-1, values.shape[1])
    return values


def pillow() -> Any:
    """Pillow's module Image.

    Raises:
        DataError: it is not installed.
    """
    return optional_package("PIL.Image", "pillow", "reading images", OR_FEATURES)


def read_image(path: Path) -> Any:
    """The image in RGB, all of it decoded.

    Raises:
        Unusable: it is absent or cannot be read.
    """
    image_module = pillow()
    try:
        with image_module.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise Unusable("without an image file") from error
    # Decoders raise the latter two for what they cannot make sense of.
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        raise Unusable("with an image that cannot be read") from error


def thumbnail(image: Any) -> bytes:
    """A JPEG of the image, its longer side 96 pixels or what it is."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=85)
    return content.getvalue()
