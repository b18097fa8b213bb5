"""scikit-learn's 8x8 digits: real handwriting (UCI), shipped with the package, no download."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdgan_core.names import DATASET_SIZES

Arrays = tuple[
    NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]
]  # images, labels, test images, test labels


def load() -> Arrays:
    """Pool and test arrays: images (N, 1, 8, 8) uint8 in 0..16, labels (N,) int64.

    The data set has no official test half, so 500 of its 1,797 images are set aside by one fixed
    draw; no seed of a trial changes it.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    pool, test, _ = DATASET_SIZES["digits"]
    order = np.random.default_rng(8).permutation(pool + test)
    kept, held = np.sort(order[:pool]), np.sort(order[pool:])
    return images[kept], labels[kept], images[held], labels[held]
