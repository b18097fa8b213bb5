"""Minibatches and affine augmentation, drawn and made on the device the images live on."""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgan_core.config import TrialConfig
from kdgan_core.data.task import Rows

# Images validated at a time. On a CPU what a layer leaves should stay in the cache: 5,000 images
# of MNIST take T 0.15 s by 100 and 0.29 s by 1,000 (one core of an AMD EPYC).
CHECK_BATCH = {"cpu": 100}
LARGE_CHECK_BATCH = 1000  # elsewhere


def make_generator(seed: int, purpose: str, device: torch.device) -> torch.Generator:
    """A generator whose stream depends on `seed` and on the words of `purpose` only.

    torch's CPU generator uses the low 32 bits of its seed alone: both are hashed into every bit.
    """
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    generator = torch.Generator(device=device)
    return generator.manual_seed(int.from_bytes(digest[:8], "little"))


def to_unit(images: Tensor, white: float) -> Tensor:
    """uint8 pixels as float32 in [0, 1]; `white` becomes 1."""
    return images.to(torch.float32).div_(white)


def affine(
    images: Tensor,
    generator: torch.Generator,
    rotation_degrees: float,
    shift: float,
    zoom: float,
) -> Tensor:
    """Each image rotated, shifted and zoomed by its own random amount; outside repeats the edge.

    Uniform in +-rotation_degrees, +-shift of the side along each axis, and [1-zoom, 1+zoom] for
    each axis: the authors' augmentation (Keras' ImageDataGenerator, nearest fill), bilinear.

    Args:
        images: (B, C, S, S) float.
        generator: on the device of the images.
        rotation_degrees: largest rotation.
        shift: largest shift, fraction of the side.
        zoom: largest zoom, fraction.
    """
    if rotation_degrees == shift == zoom == 0.0:
        return images
    count = len(images)
    draws = torch.rand((5, count), generator=generator, device=images.device) * 2.0 - 1.0
    angle = draws[0] * math.radians(rotation_degrees)
    shift_x, shift_y = draws[1] * (2.0 * shift), draws[2] * (2.0 * shift)
    zoom_x, zoom_y = 1.0 + draws[3] * zoom, 1.0 + draws[4] * zoom
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [cos * zoom_x, -sin * zoom_y, shift_x, sin * zoom_x, cos * zoom_y, shift_y]
    theta = torch.stack(rows, dim=1).view(count, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


class Pixels(NamedTuple):
    """How stored pixels become what a player sees.

    Attributes:
        white: the pixel value that becomes 1.
        mean: (C, S, S) subtracted per pixel afterwards (CIFAR-10, paper, Appendix); None for none.
    """

    white: float
    mean: Tensor | None = None

    def to_input(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 as float32."""
        unit = to_unit(images, self.white)
        return unit if self.mean is None else unit.sub_(self.mean)


def mean_image(images: Tensor, white: float) -> Tensor:
    """(C, S, S) mean over the images, in [0, 1]. images: (n, C, S, S) uint8."""
    return images.double().mean(dim=0).div_(white).float()


def mirror(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right with probability one half. images: (B, C, S, S)."""
    draws = torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device)
    return torch.where(draws < 0.5, images.flip(3), images)


def cut_out(images: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """A square of `share` of the side set to 0 at a random place of each image, perhaps partly
    outside (DeVries and Taylor 2017). images: (B, C, S, S), S x S."""
    side = images.shape[3]
    half = 0.5 * share * side
    centres = torch.rand((2, len(images), 1), generator=generator, device=images.device) * side
    places = torch.arange(side, device=images.device) + 0.5
    rows, columns = (places - centres).abs() < half
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


class Minibatches(Rows):
    """An endless stream of augmented minibatches of images."""

    def __init__(
        self, images: Tensor, labels: Tensor, pixels: Pixels, config: TrialConfig,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        """images: (n, C, S, S) uint8; labels: (n,); both and the generator on one device."""
        super().__init__(len(labels), config.batch_size, generator)
        self.images, self.labels, self.pixels = images, labels, pixels
        self.config = config

    def next(self) -> tuple[Tensor, Tensor]:
        """(B, C, S, S) float images and (B,) labels."""
        rows, config = self.next_rows(), self.config
        images = affine(
            self.pixels.to_input(self.images[rows]), self.generator,
            config.rotation_degrees, config.shift, config.zoom,
        )  # fmt: skip
        if config.mirroring:
            images = mirror(images, self.generator)
        if config.cutout > 0.0:
            images = cut_out(images, self.generator, config.cutout)
        return images, self.labels[rows]


@torch.no_grad()
def accuracy(
    player: torch.nn.Module, images: Tensor, labels: Tensor, pixels: Pixels, batch: int = 0
) -> float:
    """Fraction of images whose largest score is the true label, in eval mode.

    Args:
        player: scores (B, K) for images (B, C, S, S).
        images: (N, C, S, S) uint8.
        labels: (N,).
        pixels: as in training.
        batch: images at a time, 0 for what suits the device.
    """
    batch = batch or CHECK_BATCH.get(labels.device.type, LARGE_CHECK_BATCH)
    right = torch.zeros((), dtype=torch.int64, device=labels.device)
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        predicted = player(pixels.to_input(images[part])).argmax(dim=1)
        right += (predicted == labels[part]).sum()
    return int(right) / len(labels)
