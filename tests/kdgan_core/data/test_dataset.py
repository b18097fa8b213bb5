"""Loading by name, and the images that a seed draws."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from kdgan_core.config import TrialConfig
from kdgan_core.data import Dataset, draw_split, load_dataset

MakeConfig = Callable[..., TrialConfig]
SIZES = (10, 40, 100, 300)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("digits", None)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="dataset='cifar' is not one of digits, mnist"):
        load_dataset("cifar", None)


def test_the_checksum_covers_all_four_arrays(dataset: Dataset) -> None:
    digest = hashlib.sha256()
    for name in ("images", "labels", "test_images", "test_labels"):
        digest.update(getattr(dataset, name).tobytes())
    assert dataset.checksum == digest.hexdigest()


@pytest.mark.parametrize("seed", [0, 1, 17])
@pytest.mark.parametrize("n", SIZES)
def test_training_images_are_balanced_and_apart_from_validation(
    dataset: Dataset, make_config: MakeConfig, n: int, seed: int
) -> None:
    split = draw_split(dataset, make_config(train_size=n), seed)
    assert split.train.shape == (n,)
    assert split.valid.shape == (200,)
    rows = np.concatenate([split.train, split.valid])
    assert len(np.unique(rows)) == n + 200
    assert rows.min() >= 0
    assert rows.max() < len(dataset.labels)
    assert set(np.bincount(dataset.labels[split.train], minlength=10)) == {n // 10}


def test_an_odd_size_is_balanced_within_one(dataset: Dataset, make_config: MakeConfig) -> None:
    counts = np.bincount(
        dataset.labels[draw_split(dataset, make_config(train_size=57), 0).train], minlength=10
    )
    assert counts.sum() == 57
    assert set(counts) == {5, 6}


def test_the_whole_rest_can_be_drawn(dataset: Dataset, make_config: MakeConfig) -> None:
    """Not balanced then: as far as the pool allows."""
    split = draw_split(dataset, make_config(train_size=1097), 0)
    assert len(np.union1d(split.train, split.valid)) == 1297


@pytest.mark.parametrize("seed", [0, 3])
def test_sizes_are_nested_and_share_their_validation_images(
    dataset: Dataset, make_config: MakeConfig, seed: int
) -> None:
    splits = [draw_split(dataset, make_config(train_size=n), seed) for n in SIZES]
    for small, large in pairwise(splits):
        assert set(small.train) < set(large.train)
        assert np.array_equal(small.valid, large.valid)


def test_seeds_draw_other_images(dataset: Dataset, make_config: MakeConfig) -> None:
    one, two = (draw_split(dataset, make_config(), seed) for seed in (0, 1))
    assert len(np.intersect1d(one.train, two.train)) < 50
    assert len(np.intersect1d(one.valid, two.valid)) < 100
    again = draw_split(dataset, make_config(), 0)
    assert np.array_equal(one.train, again.train)
    assert np.array_equal(one.valid, again.valid)


@pytest.mark.parametrize(
    "changes", [{"method": "nagan"}, {"alpha": 0.1}, {"steps": 40}, {"batch_size": 7}]
)
def test_the_split_is_the_same_for_every_cell(
    dataset: Dataset, make_config: MakeConfig, changes: dict[str, object]
) -> None:
    one = draw_split(dataset, make_config(), 0)
    two = draw_split(dataset, make_config(**changes), 0)
    assert np.array_equal(one.train, two.train)
    assert np.array_equal(one.valid, two.valid)


def test_the_last_images_of_the_file(dataset: Dataset, make_config: MakeConfig) -> None:
    one, two = (draw_split(dataset, make_config(draw="last"), seed) for seed in (0, 1))
    assert np.array_equal(one.train, np.arange(1197, 1297))
    assert np.array_equal(one.train, two.train)
    assert one.valid.shape == (200,)
    assert len(np.unique(one.valid)) == 200
    assert one.valid.max() < 1197
    assert not np.array_equal(one.valid, two.valid)


@pytest.mark.parametrize("draw", ["balanced", "last"])
def test_more_than_the_pool_is_refused(
    dataset: Dataset, make_config: MakeConfig, draw: str
) -> None:
    small = dataclasses.replace(dataset, labels=dataset.labels[:299])
    with pytest.raises(ValueError, match="train_size=100 plus valid_size=200 is more than 299"):
        draw_split(small, make_config(draw=draw), 0)


def test_validation_images_are_representative(dataset: Dataset, make_config: MakeConfig) -> None:
    """Drawn over the whole pool: every class is there for every seed."""
    for seed in range(5):
        valid = draw_split(dataset, make_config(), seed).valid
        assert np.bincount(dataset.labels[valid], minlength=10).min() >= 5
