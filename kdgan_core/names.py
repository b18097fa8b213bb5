"""Names that a configuration may hold, and what is fixed about each data set."""

from __future__ import annotations

# Tag recommendation: an image has features, a text and several tags.
TAG_DATASETS = ("tags", "flickr8k", "yfcc-popular", "yfcc-random")
DATASETS = ("digits", "mnist", "cifar10", *TAG_DATASETS)
METHODS = ("kdgan", "nagan", "distn", "mimic", "noisy", "codis", "supervised")
# Published tag recommenders, fitted rather than trained.
RECOMMENDERS = ("knn", "tagprop", "tagfeature", "relexample")
ESTIMATORS = (
    "concrete", "density", "straight_through", "score", "expectation", "authors",
)  # fmt: skip
SCHEDULES = ("alternating", "fused")
TAU_KINDS = ("exponential", "linear", "cosine", "constant")
ARCHITECTURES = ("paper", "authors", "small")

# Rows of each data set: (pool that training and validation images are drawn from, test, classes).
DATASET_SIZES = {
    "digits": (1297, 500, 10), "mnist": (60_000, 10_000, 10), "cifar10": (50_000, 10_000, 10),
}  # fmt: skip
DATASET_SIDE = {"digits": 8, "mnist": 28, "cifar10": 32}
DATASET_CHANNELS = {"digits": 1, "mnist": 1, "cifar10": 3}
# Architectures that exist for each data set.
DATASET_ARCHITECTURES = {
    "digits": ("small",), "mnist": ("paper", "authors", "small"), "cifar10": ("paper", "small"),
    **dict.fromkeys(TAG_DATASETS, ("paper", "authors", "small")),
}  # fmt: skip
