"""Real Flickr photos with their tags, where KDGAN_DATA has them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from kdgan_core.tagging.neighbours import mean_average_precision

Table = tuple[NDArray[np.float32], NDArray[np.bool_]]


class Scorer(Protocol):
    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]: ...


@pytest.fixture(scope="session")
def flickr8k() -> dict[str, Table]:
    """(n, 512) features and (n, 200) tags of each split."""
    path = Path(os.environ.get("KDGAN_DATA") or "nowhere") / "flickr8k" / "flickr8k_tags.parquet"
    if not path.is_file():
        pytest.skip(f"KDGAN_DATA names no folder with {path.parent.name}/{path.name}")
    table = pq.read_table(path, columns=["split", "image_feature", "tags"])
    features = np.stack(table["image_feature"].to_numpy())
    splits, lists = np.array(table["split"].to_pylist()), table["tags"].to_pylist()
    numbers = {tag: at for at, tag in enumerate(sorted({tag for one in lists for tag in one}))}
    tags = np.zeros((len(lists), len(numbers)), dtype=bool)
    for row, one in enumerate(lists):
        tags[row, [numbers[tag] for tag in one]] = True
    return {
        split: (features[splits == split], tags[splits == split])
        for split in ("train", "validation", "test")
    }


@pytest.fixture(scope="session")
def popularity(flickr8k: dict[str, Table]) -> float:
    """Test MAP of ranking every image's tags by their training frequency."""
    tags = flickr8k["test"][1]
    counts = flickr8k["train"][1].sum(axis=0).astype(np.float64)
    return mean_average_precision(np.tile(counts, (len(tags), 1)), tags)


@pytest.fixture(scope="session")
def map_on_test(flickr8k: dict[str, Table]) -> Callable[[Scorer], float]:
    """A function that returns a fitted recommender's MAP on the test images."""
    features, tags = flickr8k["test"]
    return lambda model: mean_average_precision(model.scores(features), tags)
