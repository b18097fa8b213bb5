"""Images with one label each, as a seed trains on them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.data.batches import Minibatches, Pixels, accuracy, mean_image
from kdgan_core.data.dataset import Dataset, draw_split
from kdgan_core.data.task import Scores

CENTRED = ("cifar10",)  # data sets whose mean training image is subtracted (paper, Appendix)


class ImageData(NamedTuple):
    """What one seed trains on, resident on the device; images uint8, labels int64."""

    train_images: Tensor  # (n, C, S, S)
    train_labels: Tensor  # (n,)
    valid_images: Tensor  # (v, C, S, S)
    valid_labels: Tensor  # (v,)
    pixels: Pixels
    dataset: Dataset  # whose test images are looked at once

    @property
    def checksum(self) -> str:
        return self.dataset.checksum

    @property
    def shape(self) -> None:
        """None: the configuration gives the players' sizes."""
        return None

    @property
    def device(self) -> torch.device:
        return self.train_labels.device

    def stream(self, config: TrialConfig, generator: torch.Generator) -> Minibatches:
        return Minibatches(self.train_images, self.train_labels, self.pixels, config, generator)

    def validate(self, player: nn.Module) -> Scores:
        """Accuracy on the validation images."""
        return self._scores(player, self.valid_images, self.valid_labels)

    def test(self, player: nn.Module) -> Scores:
        """Accuracy on the test images."""
        images = torch.from_numpy(self.dataset.test_images).to(self.device)
        labels = torch.from_numpy(self.dataset.test_labels).to(self.device)
        return self._scores(player, images, labels)

    def test_detail(self, player: nn.Module) -> None:
        """None: an image with one label is right or wrong, and the accuracy says how many are."""
        return None

    def with_little_validation(self) -> ImageData:
        return self._replace(
            valid_images=self.valid_images[:1], valid_labels=self.valid_labels[:1]
        )

    def _scores(self, player: nn.Module, images: Tensor, labels: Tensor) -> Scores:
        return accuracy_scores(accuracy(player, images, labels, self.pixels), len(labels))


def accuracy_scores(found: float, count: int) -> Scores:
    """The scores of a player whose accuracy on `count` images was found."""
    return Scores({"accuracy": found}, standard_error(found, count))


def standard_error(proportion: float, count: int) -> float:
    """Of a proportion estimated on `count` images; at least one image, also at 0 and 1."""
    return max(math.sqrt(proportion * (1.0 - proportion) / count), 1.0 / count)


def image_data(
    dataset: Dataset, config: TrialConfig, seed: int, device: torch.device
) -> ImageData:
    """The images that a seed draws, on the device."""
    split = draw_split(dataset, config, seed)
    images, labels = dataset.images, dataset.labels
    train_images = torch.from_numpy(images[split.train]).to(device)
    mean = mean_image(train_images, dataset.white) if dataset.name in CENTRED else None
    return ImageData(
        train_images,
        torch.from_numpy(labels[split.train]).to(device),
        torch.from_numpy(images[split.valid]).to(device),
        torch.from_numpy(labels[split.valid]).to(device),
        Pixels(dataset.white, mean),
        dataset,
    )
