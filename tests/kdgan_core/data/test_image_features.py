"""Features come from a file or a network, and what cannot be used is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdgan_core.data.dataset import DataError
from kdgan_core.data.image_features import (
    Unusable,
    read_image,
    stored_features,
    thumbnail,
)
from kdgan_core.data.post_table import Post


def post(row: int, image_id: str = "") -> Post:
    return Post(row, image_id, "", (), (), "", "", False)


def test_row_i_of_an_array_belongs_to_row_i(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float64).reshape(4, 3)
    np.save(tmp_path / "f.npy", values)
    source = stored_features(tmp_path / "f.npy", tmp_path)
    assert (source.width, source.rows, source.needs_image) == (3, 4, False)
    found = source.finish(np.stack([source.prepare(post(row), None) for row in (3, 1)]))
    assert found.dtype == np.float32
    assert found.tolist() == values[[3, 1]].tolist()
    assert not source.has(post(4))
    with pytest.raises(Unusable, match="without features"):
        source.prepare(post(4), None)


@pytest.mark.parametrize("fixed", [False, True])
def test_features_by_image_id_in_any_order(tmp_path: Path, fixed: bool) -> None:
    values = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    cells: list[list[float] | None] = values.tolist()
    if not fixed:  # with a null, pyarrow cannot read its own file of fixed-size lists
        cells[1500] = None
    lists = pa.array(cells, pa.list_(pa.float32(), 4 if fixed else -1))
    ids = [f"i{row}" for row in range(3000)]
    pq.write_table(pa.table({"image_id": ids, "image_feature": lists}), tmp_path / "f.parquet")
    source = stored_features(tmp_path / "f.parquet", tmp_path)
    assert (source.width, source.rows) == (4, None)
    for row in (2999, 0, 1024):
        assert source.prepare(post(7, f"i{row}"), None).tolist() == values[row].tolist()
    assert np.isnan(source.prepare(post(7, "i1500"), None)).all() != fixed
    assert source.has(post(9, "i5")) and not source.has(post(5, "x5"))
    assert [path.name for path in tmp_path.iterdir()] == ["f.parquet"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_id": ["a"], "feature": [[1.0]]}, "no column image_feature: it has image_id, fea"),
        ({"image_id": ["a", "a"], "image_feature": [[1.0], [2.0]]}, "has image_id 'a' twice"),
        ({"image_id": ["a", "b"], "image_feature": [[1.0], [1.0, 2.0]]}, "not as wide in every"),
        ({"image_id": ["a"], "image_feature": [[]]}, "it must be a list of floats"),
        ({"image_id": ["a"], "image_feature": ["x"]}, "is string, it must be a list of floats"),
    ],
)
def test_parquet_that_holds_no_features(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "f.parquet")
    with pytest.raises(DataError, match=message):
        stored_features(tmp_path / "f.parquet", tmp_path)


def test_arrays_that_are_no_features(tmp_path: Path) -> None:
    path = tmp_path / "f.npy"
    with pytest.raises(DataError, match="there are no features"):
        stored_features(path, tmp_path)
    np.save(path, np.zeros(3))
    with pytest.raises(DataError, match=r"holds float64 of shape \(3,\)"):
        stored_features(path, tmp_path)
    np.save(path, np.zeros((3, 3), dtype=int))
    with pytest.raises(DataError, match="holds int64 of shape"):
        stored_features(path, tmp_path)
    path.write_text("0.1 0.2")
    with pytest.raises(DataError, match="cannot be read as features"):
        stored_features(path, tmp_path)


def test_images_are_read_in_rgb_and_made_small(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    image_module.new("LA", (300, 150), (200, 10)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (300, 150), (200, 200, 200))
    (tmp_path / "small.jpg").write_bytes(thumbnail(image))
    small = image_module.open(tmp_path / "small.jpg")
    assert (small.format, small.size) == ("JPEG", (96, 48))
    assert image.size == (300, 150)


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    with pytest.raises(Unusable, match="without an image file"):
        read_image(tmp_path / "none.jpg")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    image_module.fromarray(noise).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    for name, damaged in {
        "cut.png": content[: len(content) // 2], "no.png": b"no image", "empty.png": b"",
        "header.png": content[:20] + b"\xff" * 20 + content[40:],
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(Unusable, match="with an image that cannot be read"):
            read_image(tmp_path / name)
