"""A labelled image data set in memory, and the images a seed draws from it."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdgan_core.config import TrialConfig
from kdgan_core.names import DATASET_SIZES


class DataError(Exception):
    """Data that are absent or not what they should be; the message says what to do."""


@dataclass(frozen=True)
class Dataset:
    """Images as they are stored: uint8, divided by `white` on use.

    Attributes:
        name: of the data set.
        images: (N, C, S, S) uint8, the pool that training and validation images are drawn from.
        labels: (N,) int64.
        test_images: (M, C, S, S) uint8.
        test_labels: (M,) int64.
        white: the pixel value that becomes 1.0 (255, or 16 for digits).
        classes: K.
        checksum: sha256 over all four arrays, hexadecimal.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    white: float
    classes: int
    checksum: str


class Split(NamedTuple):
    """Row numbers in the pool: (n,) training and (valid_size,) validation images of a seed."""

    train: NDArray[np.int64]
    valid: NDArray[np.int64]


@functools.lru_cache(maxsize=2)
def load_dataset(name: str, data_dir: Path | None) -> Dataset:
    """The data set, read once per process.

    Args:
        name: "digits" (needs no file), "mnist" or "cifar10".
        data_dir: the data folder; None is `default_data_dir()`.

    Raises:
        DataError: files are absent and cannot be downloaded, or are damaged.
        ValueError: an unknown name.
    """
    from kdgan_core.data import cifar10, digits, mnist

    match name:
        case "digits":
            arrays, white = digits.load(), 16.0
        case "mnist":
            arrays, white = mnist.load(data_dir), 255.0
        case "cifar10":
            arrays, white = cifar10.load(data_dir), 255.0
        case _:
            raise ValueError(f"dataset={name!r} is not one of {', '.join(DATASET_SIZES)}")
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    classes = DATASET_SIZES[name][2]
    return Dataset(name, *arrays, white=white, classes=classes, checksum=digest.hexdigest())


def draw_split(dataset: Dataset, config: TrialConfig, seed: int) -> Split:
    """The training and validation rows of `seed`; the same for every method and device.

    With draw='balanced' the validation rows are drawn first, so a seed has the same ones at every
    n, and the n training rows are nested: those of n=100 are among those of n=1,000. They are
    balanced over the classes as far as the pool allows. With draw='last' the training rows are the
    last n of the training file (authors' code, not balanced).

    Raises:
        ValueError: n plus valid_size is more than the pool holds.
    """
    rng = np.random.default_rng([seed, 20180501])
    order = rng.permutation(len(dataset.labels))
    n, valid_size = config.train_size, config.valid_size
    if n + valid_size > len(order):
        raise ValueError(
            f"train_size={n} plus valid_size={valid_size} is more than {len(order)} images"
        )
    if config.draw == "last":
        train = np.arange(len(order) - n, len(order))
        return Split(train, order[order < len(order) - n][:valid_size])
    valid, rest = order[:valid_size], order[valid_size:]
    rank = np.empty(len(rest), dtype=np.int64)  # how many of its class come before each row
    for label in range(dataset.classes):
        rows = np.flatnonzero(dataset.labels[rest] == label)
        rank[rows] = np.arange(len(rows))
    return Split(rest[np.argsort(rank, kind="stable")[:n]], valid)
