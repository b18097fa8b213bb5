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
from kdgan_core.draws import Generators, uniform

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
    generator: Generators,
    rotation_degrees: float,
    shift: float,
    zoom: float,
) -> Tensor:
    """Each image rotated, shifted and zoomed by its own random amount; outside repeats the edge.

    Uniform in +-rotation_degrees, +-shift of the side along each axis, and [1-zoom, 1+zoom] for
    each axis: the authors' augmentation (Keras' ImageDataGenerator, nearest fill), bilinear.

    Args:
        images: (B, C, S, S) float, (R, B, C, S, S) with R generators.
        generator: on the device of the images.
        rotation_degrees: largest rotation.
        shift: largest shift, fraction of the side.
        zoom: largest zoom, fraction.
    """
    if rotation_degrees == shift == zoom == 0.0:
        return images
    drawn = uniform((5, images.shape[-4]), generator, images.device)
    draws = drawn.movedim(-2, 0).flatten(1) * 2.0 - 1.0  # (5, B) or (5, R B)
    angle = draws[0] * math.radians(rotation_degrees)
    shift_x, shift_y = draws[1] * (2.0 * shift), draws[2] * (2.0 * shift)
    zoom_x, zoom_y = 1.0 + draws[3] * zoom, 1.0 + draws[4] * zoom
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [cos * zoom_x, -sin * zoom_y, shift_x, sin * zoom_x, cos * zoom_y, shift_y]
    theta = torch.stack(rows, dim=1).view(-1, 2, 3)
    flat = images.flatten(0, -4)
    grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    return moved.view(images.shape)


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


def mirror(images: Tensor, generator: Generators) -> Tensor:
    """Each image mirrored left to right with probability one half. images: as of `affine`."""
    draws = uniform((images.shape[-4], 1, 1, 1), generator, images.device)
    return torch.where(draws < 0.5, images.flip(-1), images)


def cut_out(images: Tensor, generator: Generators, share: float) -> Tensor:
    """A square of `share` of the side set to 0 at a random place of each image, perhaps partly
    outside (DeVries and Taylor 2017). images: as of `affine`."""
    side = images.shape[-1]
    half = 0.5 * share * side
    centres = uniform((2, images.shape[-4], 1), generator, images.device) * side
    places = torch.arange(side, device=images.device) + 0.5
    rows, columns = ((places - centres).abs() < half).unbind(-3)
    inside = rows.unsqueeze(-1) & columns.unsqueeze(-2)
    return images.masked_fill(inside.unsqueeze(-3), 0.0)


def jitter_colors(images: Tensor, generator: Generators, most: float) -> Tensor:
    """Each image under its own random contrast and saturation, factors uniform in
    [1 - most, 1 + most], and brightness, added to all its pixels, uniform in +-most / 2.

    Contrast is that of the input, a difference from the mean image where one is subtracted;
    saturation scales the distance of a pixel's channels from their mean, and is nothing to a grey
    image. images: as of `affine`.
    """
    draws = uniform((3, images.shape[-4], 1, 1, 1), generator, images.device) * 2.0 - 1.0
    contrast, saturation, brightness = (most * draws).unbind(-5)
    grey = images.mean(dim=-3, keepdim=True)
    changed = torch.lerp(grey, images, 1.0 + saturation)
    return changed.mul_(1.0 + contrast).add_(0.5 * brightness)


def augmented(images: Tensor, generator: Generators, config: TrialConfig) -> Tensor:
    """Images under the random changes of a config. images: as of `affine`."""
    images = affine(images, generator, config.rotation_degrees, config.shift, config.zoom)
    if config.mirroring:
        images = mirror(images, generator)
    if config.color_jitter > 0.0:
        images = jitter_colors(images, generator, config.color_jitter)
    if config.cutout > 0.0:
        images = cut_out(images, generator, config.cutout)
    return images


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
        rows = self.next_rows()
        images = self.pixels.to_input(self.images[rows])
        return augmented(images, self.generator, self.config), self.labels[rows]


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
