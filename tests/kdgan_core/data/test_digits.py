"""scikit-learn's digits: shapes, classes, and the one fixed draw of the test images."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from kdgan_core.data import digits, load_dataset


def test_shapes_types_and_classes() -> None:
    images, labels, test_images, test_labels = digits.load()
    assert images.shape == (1297, 1, 8, 8)
    assert test_images.shape == (500, 1, 8, 8)
    assert labels.shape == (1297,)
    assert test_labels.shape == (500,)
    assert images.dtype == test_images.dtype == np.uint8
    assert labels.dtype == test_labels.dtype == np.int64
    assert images.max() == test_images.max() == 16
    assert np.bincount(labels).min() > 100
    assert np.bincount(test_labels).min() > 30


def test_the_test_draw_is_fixed() -> None:
    """Changing it would let a sweep train on what another sweep was tested on."""
    _, _, test_images, test_labels = digits.load()
    digest = hashlib.md5(test_images.tobytes() + test_labels.tobytes(), usedforsecurity=False)
    assert digest.hexdigest() == "d425f6f77d5f1313caa35928853aefb5"
    assert all(np.array_equal(a, b) for a, b in zip(digits.load(), digits.load(), strict=True))


def rows(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(y)) for image, y in zip(images, labels, strict=True)}


def test_pool_and_test_are_the_whole_set_once() -> None:
    images, labels, test_images, test_labels = digits.load()
    bunch = load_digits()
    drawn = np.concatenate([images, test_images])[:, 0]
    found = rows(drawn, np.concatenate([labels, test_labels]))
    assert found == rows(bunch.images.astype(np.uint8), bunch.target)
    assert len(drawn) == len(bunch.images)


def test_the_data_set_says_what_it_is() -> None:
    dataset = load_dataset("digits", None)
    assert (dataset.name, dataset.white, dataset.classes) == ("digits", 16.0, 10)
    assert len(dataset.checksum) == 64
    assert load_dataset("digits", None) is dataset
