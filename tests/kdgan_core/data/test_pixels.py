"""What a player sees: the mean image, mirroring, colors, cutout; and nothing drawn for what is
off."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdgan_core.config import TrialConfig
from kdgan_core.data import Dataset, load_dataset
from kdgan_core.data.batches import (
    Minibatches,
    Pixels,
    accuracy,
    cut_out,
    jitter_colors,
    mean_image,
    mirror,
)
from kdgan_core.data.image_data import CENTRED, image_data

CPU = torch.device("cpu")
SIDE = 12
MakeConfig = Callable[..., TrialConfig]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bytes_of(count: int, channels: int = 3, side: int = SIDE, seed: int = 0) -> Tensor:
    """(count, C, S, S) uint8 images, darker to the left and different in each channel."""
    shape = (count, channels, side, side)
    noise = torch.randint(0, 128, shape, generator=seeded(seed), dtype=torch.uint8)
    shade = torch.arange(side, dtype=torch.uint8) + 30 * torch.arange(
        channels, dtype=torch.uint8
    ).view(-1, 1, 1)
    return noise + shade


def test_the_mean_over_the_training_images_becomes_zero() -> None:
    images = bytes_of(50)
    pixels = Pixels(255.0, mean_image(images, 255.0))
    seen = pixels.to_input(images)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(3, SIDE, SIDE), rtol=0, atol=1e-6)
    expected = images[7].float() / 255.0 - images.float().mean(dim=0) / 255.0
    torch.testing.assert_close(seen[7], expected, rtol=0, atol=1e-6)
    assert float(seen.min()) < -0.1
    assert images.dtype == torch.uint8


def test_the_mean_is_of_each_pixel_and_channel() -> None:
    images = bytes_of(50)
    mean = mean_image(images, 255.0)
    assert mean.shape == (3, SIDE, SIDE)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean[1, 2, 3], images[:, 1, 2, 3].float().mean() / 255.0)
    assert float(mean.std()) > 0.03


def test_reading_images_changes_neither_them_nor_the_mean() -> None:
    images = bytes_of(5)
    mean = mean_image(images, 255.0)
    pixels, kept = Pixels(255.0, mean.clone()), images.clone()
    first = pixels.to_input(images)
    assert torch.equal(first, pixels.to_input(images))
    assert torch.equal(images, kept)
    assert pixels.mean is not None
    assert torch.equal(pixels.mean, mean)


def test_without_a_mean_pixels_stay_in_the_unit_interval() -> None:
    seen = Pixels(255.0).to_input(bytes_of(5))
    assert float(seen.min()) >= 0.0
    assert torch.equal(seen, bytes_of(5).float() / 255.0)


def test_cifar10_is_centred_by_its_own_training_images(make_config: MakeConfig) -> None:
    """The mean is that of the seed's n images, also where it validates and tests."""
    assert CENTRED == ("cifar10",)
    images = bytes_of(60, side=32).numpy()
    labels = torch.arange(60).remainder(10).numpy()
    noise = Dataset("cifar10", images, labels, images, labels, 255.0, 10, "noise")
    config = TrialConfig(dataset="cifar10", train_size=20, valid_size=20)
    means = []
    for seed in (0, 1):
        data = image_data(noise, config, seed, CPU)
        assert data.pixels.white == 255.0
        assert data.pixels.mean is not None
        means.append(data.pixels.mean)
        torch.testing.assert_close(means[-1], mean_image(data.train_images, 255.0))
    assert not torch.equal(*means)
    digits = image_data(load_dataset("digits", None), make_config(), 0, CPU)
    assert digits.pixels == Pixels(16.0, None)


def test_minibatches_and_accuracy_see_the_centred_images(make_config: MakeConfig) -> None:
    images, labels = bytes_of(5), torch.arange(5)
    pixels = Pixels(255.0, mean_image(images, 255.0))
    plain = make_config(rotation_degrees=0, shift=0, zoom=0, batch_size=5)
    seen, order = Minibatches(images, labels, pixels, plain, seeded()).next()
    torch.testing.assert_close(seen, pixels.to_input(images)[order])

    class Recorded(torch.nn.Module):
        def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
            torch.testing.assert_close(x, pixels.to_input(images))
            return torch.eye(5)

    assert accuracy(Recorded(), images, labels, pixels) == 1.0


def test_half_of_the_images_are_mirrored_and_each_as_a_whole() -> None:
    images = bytes_of(2000).float()
    seen = mirror(images, seeded())
    flipped = images.flip(3)
    is_same = (seen == images).flatten(1).all(dim=1)
    is_flipped = (seen == flipped).flatten(1).all(dim=1)
    assert torch.equal(is_same, ~is_flipped)
    assert float(is_flipped.double().mean()) == pytest.approx(0.5, abs=0.04)
    again, other = mirror(images, seeded()), mirror(images, seeded(1))
    assert torch.equal(seen, again)
    assert not torch.equal(seen, other)


def holes(share: float, count: int = 3000) -> list[tuple[int, int]]:
    """Height and width of the zeroed part of many images of ones; it is checked to be whole."""
    images = torch.ones(count, 3, SIDE, SIDE)
    seen = cut_out(images, seeded(), share)
    assert images.all()  # the original is left alone
    assert ((seen == 0.0) | (seen == 1.0)).all()
    empty = seen == 0.0
    assert torch.equal(empty[:, 0], empty[:, 1])
    assert torch.equal(empty[:, 0], empty[:, 2])
    rows, columns = empty[:, 0].any(dim=2), empty[:, 0].any(dim=1)
    assert torch.equal(empty[:, 0], rows[:, :, None] & columns[:, None, :])  # a full rectangle
    for lines in (rows, columns):  # without a gap
        steps = (lines[:, 1:] != lines[:, :-1]).sum(dim=1) + lines[:, 0] + lines[:, -1]
        assert int(steps.max()) <= 2
    return list(zip(rows.sum(dim=1).tolist(), columns.sum(dim=1).tolist(), strict=True))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.3, 1.0])
def test_a_square_of_the_right_size_is_cut_out(share: float) -> None:
    """Whole inside the image, up to half of a side less where its centre is near the edge."""
    width = share * SIDE
    sizes = holes(share)
    lines = [line for size in sizes for line in size]
    assert max(lines) <= math.ceil(width)
    assert min(lines) >= math.floor(width / 2)
    whole = [size for size in sizes if min(size) >= math.floor(width)]
    inside = (SIDE - 2 * math.floor(width) + 1 + width) / SIDE  # share of the centres, by axis
    assert len(whole) == pytest.approx(3000 * inside**2, abs=120)
    area = sum(one * two for one, two in sizes) / 3000 / SIDE**2
    assert area == pytest.approx((share * (1 - share / 4)) ** 2, abs=0.01)


def test_every_place_may_be_cut_out_and_about_equally_inside() -> None:
    seen = cut_out(torch.ones(4000, 1, SIDE, SIDE), seeded(), 0.25)
    share = (seen == 0.0).double().mean(dim=0)[0]
    inner = share[2:-2, 2:-2]
    assert float(inner.min()) > 0.045
    assert float(inner.max()) < 0.08
    assert float(share.min()) > 0.01


def test_colors_change_image_by_image_within_their_bounds() -> None:
    """The three factors of every image are found again by least squares from its pixels."""
    most, count = 0.4, 4000
    images = torch.rand((count, 3, 4, 4), generator=seeded())
    seen = jitter_colors(images, seeded(1), most).double()
    images = images.double()
    grey = images.mean(dim=1, keepdim=True)
    parts = [grey.expand_as(images), images - grey, torch.ones_like(images)]
    design = torch.stack([part.flatten(1) for part in parts], dim=2)
    found = torch.linalg.lstsq(design, seen.flatten(1).unsqueeze(2)).solution.squeeze(2)
    assert torch.allclose((design @ found.unsqueeze(2)).squeeze(2), seen.flatten(1), atol=1e-5)
    contrast, brightness = found[:, 0], found[:, 2]
    saturation = found[:, 1] / contrast
    for factor, middle, width in (
        (contrast, 1.0, most), (saturation, 1.0, most), (brightness, 0.0, most / 2),
    ):  # fmt: skip
        drawn = (factor - middle) / width
        assert drawn.abs().max() < 1.0 + 1e-4
        assert drawn.abs().max() > 0.99
        assert drawn.mean() == pytest.approx(0.0, abs=0.04)  # 4 standard errors
        assert drawn.var() == pytest.approx(1 / 3, abs=0.02)
    correlations = torch.corrcoef(torch.stack([contrast, saturation, brightness]))
    assert (correlations - torch.eye(3)).abs().max() < 0.07


def test_colors_of_grey_images_only_change_in_contrast_and_brightness() -> None:
    images = torch.rand((6, 1, 4, 4), generator=seeded())
    seen = jitter_colors(images, seeded(1), 0.5).flatten(1)
    first, last = images.flatten(1)[:, :1], images.flatten(1)[:, -1:]
    slope = (seen[:, -1:] - seen[:, :1]) / (last - first)
    assert torch.allclose(seen, seen[:, :1] + slope * (images.flatten(1) - first), atol=1e-5)
    assert len(slope.unique()) == 6


@pytest.mark.parametrize(
    "changes, drawn",
    [
        ({"rotation_degrees": 0, "shift": 0, "zoom": 0}, []),
        ({}, ["affine"]),
        ({"mirroring": True}, ["affine", "mirror"]),
        ({"color_jitter": 0.25}, ["affine", "colors"]),
        ({"cutout": 0.25}, ["affine", "cut"]),
        (
            {"mirroring": True, "color_jitter": 0.4, "cutout": 0.25},
            ["affine", "mirror", "colors", "cut"],
        ),
    ],
)
def test_only_what_is_on_draws(
    changes: dict[str, object], drawn: list[str], make_config: MakeConfig
) -> None:
    """So that the stream of MNIST is what it was before there were any other changes."""
    config = make_config(batch_size=5, **changes)
    stream = Minibatches(bytes_of(12, 1, 8), torch.arange(12), Pixels(255.0), config, seeded())
    shapes = {
        "affine": (5, 5), "mirror": (5, 1, 1, 1), "colors": (3, 5, 1, 1, 1), "cut": (2, 5, 1),
    }  # fmt: skip
    by_hand = seeded()
    for _ in range(3):  # a pass has two batches
        if stream.position + 5 > len(stream.order):
            torch.randperm(12, generator=by_hand)
        stream.next()
        for name in drawn:
            torch.rand(shapes[name], generator=by_hand)
        assert torch.equal(stream.generator.get_state(), by_hand.get_state())


@pytest.mark.parametrize("changes", [{"mirroring": True}, {"cutout": 0.5}])
def test_minibatches_are_mirrored_and_cut_where_the_config_says_so(
    changes: dict[str, object], make_config: MakeConfig
) -> None:
    plain = make_config(rotation_degrees=0, shift=0, zoom=0, batch_size=12)
    images = bytes_of(12, 1, 8) | 1  # no black pixel
    still, moved = (
        Minibatches(images, torch.arange(12), Pixels(255.0), config, seeded()).next()
        for config in (plain, plain.replace(**changes))
    )
    assert torch.equal(still[1], moved[1])
    if "cutout" in changes:
        kept = moved[0] != 0.0
        assert not kept.all()
        assert torch.equal(moved[0][kept], still[0][kept])
    else:
        choices = torch.stack([still[0], still[0].flip(3)])
        whole = (moved[0] == choices).flatten(2).all(dim=2)
        assert whole.any(dim=1).all()
        assert (whole.sum(dim=0) == 1).all()


def test_a_cut_is_the_mean_where_there_is_one(make_config: MakeConfig) -> None:
    """0 after the mean has been subtracted."""
    images = bytes_of(6, 1, 8)
    pixels = Pixels(255.0, mean_image(images, 255.0))
    config = make_config(rotation_degrees=0, shift=0, zoom=0, batch_size=6, cutout=0.5)
    seen, order = Minibatches(images, torch.arange(6), pixels, config, seeded()).next()
    cut = seen != pixels.to_input(images)[order]
    assert cut.any()
    assert not seen[cut].any()
