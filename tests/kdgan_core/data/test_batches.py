"""Minibatches, augmentation and accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.data.batches import Minibatches, Pixels, accuracy, affine, make_generator, to_unit

CPU = torch.device("cpu")
SIDE = 20


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(seed: int, purpose: str) -> list[float]:
    return torch.rand(4, generator=make_generator(seed, purpose, CPU)).tolist()


@pytest.mark.parametrize("seed, purpose", [(1, "labels"), (2, "labels"), (0, "batches teacher")])
def test_a_stream_depends_on_the_seed_and_on_the_purpose(seed: int, purpose: str) -> None:
    assert drawn(0, "labels") == drawn(0, "labels")
    assert drawn(seed, purpose) != drawn(0, "labels")


def test_no_two_streams_of_a_sweep_are_equal() -> None:
    purposes = ["labels", "init teacher", "init discriminator", "dropout teacher"]
    streams = {tuple(drawn(seed, purpose)) for seed in range(50) for purpose in purposes}
    assert len(streams) == 50 * len(purposes)


def test_every_seed_that_the_config_takes_makes_a_stream() -> None:
    seed = 2**40 + 1
    assert TrialConfig(seeds=(seed,)).seeds == (seed,)
    assert drawn(seed, "labels") not in (drawn(0, "labels"), drawn(1, "labels"))


def test_to_unit_makes_white_one() -> None:
    images = torch.tensor([[0, 8, 16]], dtype=torch.uint8)
    assert to_unit(images, 16.0).tolist() == [[0.0, 0.5, 1.0]]
    assert to_unit(images, 16.0).dtype == torch.float32
    assert images.tolist() == [[0, 8, 16]]


def ramp(axis: int, count: int = 200) -> Tensor:
    """(count, 1, SIDE, SIDE) images whose value is the pixel's own place along an axis."""
    line = torch.arange(SIDE, dtype=torch.float32)
    square = line.view(-1, 1).expand(SIDE, SIDE) if axis == 2 else line.expand(SIDE, SIDE)
    return square.expand(count, 1, SIDE, SIDE)


def test_no_strength_is_the_identity() -> None:
    images = torch.rand(3, 1, SIDE, SIDE, generator=seeded())
    assert affine(images, seeded(), 0.0, 0.0, 0.0) is images
    tiny = affine(images, seeded(), 1e-6, 1e-7, 1e-7)
    torch.testing.assert_close(tiny, images, rtol=0, atol=1e-4)


def test_augmentation_follows_the_generator() -> None:
    images = torch.rand(3, 1, SIDE, SIDE, generator=seeded())
    one, two, other = (affine(images, seeded(s), 15.0, 0.1, 0.1) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("axis", [2, 3])
def test_a_shift_moves_the_image_and_repeats_its_edge(axis: int) -> None:
    """A ramp shows by its values where each pixel came from: one amount an image and axis."""
    moved = affine(ramp(axis), seeded(), 0.0, 0.1, 0.0)
    lines = moved[:, 0].mean(dim=2 if axis == 2 else 1)  # (count, SIDE)
    middle = SIDE // 2
    amounts = lines[:, middle] - middle
    bound = 0.1 * SIDE
    assert float(amounts.abs().max()) <= bound + 1e-4
    assert float(amounts.max()) > 0.9 * bound
    assert float(amounts.min()) < -0.9 * bound
    places = torch.arange(SIDE) + amounts.unsqueeze(1)
    torch.testing.assert_close(lines, places.clamp(0, SIDE - 1), rtol=0, atol=1e-3)


def test_a_dot_moves_no_further_than_the_shift() -> None:
    images = torch.zeros(300, 1, SIDE, SIDE)
    images[:, :, 10, 10] = 1.0
    moved = affine(images, seeded(), 0.0, 0.15, 0.0)[:, 0]
    total = moved.sum(dim=(1, 2))
    torch.testing.assert_close(total, torch.ones(300))  # bilinear: a shifted dot keeps its mass
    line = torch.arange(SIDE, dtype=torch.float32)
    rows, columns = (moved.sum(2) @ line - 10, moved.sum(1) @ line - 10)
    bound = 0.15 * SIDE
    for amounts in (rows, columns):
        assert float(amounts.abs().max()) <= bound + 1e-3
        assert float(amounts.abs().max()) > 0.9 * bound
    assert abs(float(np.corrcoef(rows, columns)[0, 1])) < 0.2  # the axes have their own amounts


@pytest.mark.parametrize("axis", [2, 3])
def test_a_zoom_stays_within_its_bounds(axis: int) -> None:
    zoomed = affine(ramp(axis), seeded(), 0.0, 0.0, 0.2)
    lines = zoomed[:, 0].mean(dim=2 if axis == 2 else 1)
    factors = (lines[:, 13] - lines[:, 6]) / 7
    assert float(factors.min()) >= 0.8 - 1e-4
    assert float(factors.max()) <= 1.2 + 1e-4
    assert float(factors.max() - factors.min()) > 0.36
    torch.testing.assert_close(lines[:, 9:11].mean(1), torch.full((200,), 9.5))  # centre stays


def test_a_rotation_stays_within_its_bounds() -> None:
    turned = affine(ramp(3), seeded(), 30.0, 0.0, 0.0)[:, 0]
    right = turned[:, 9:11, 13].mean(1) - turned[:, 9:11, 6].mean(1)  # 7 cos(angle)
    down = turned[:, 13, 9:11].mean(1) - turned[:, 6, 9:11].mean(1)  # -7 sin(angle)
    angles = torch.rad2deg(torch.atan2(-down, right))
    assert float(angles.abs().max()) <= 30.0 + 1e-2
    assert float(angles.max()) > 27.0
    assert float(angles.min()) < -27.0
    torch.testing.assert_close(torch.hypot(right, down), torch.full((200,), 7.0))


def test_an_even_image_stays_even_under_everything() -> None:
    """Filling with zeros would darken the edges."""
    images = torch.full((50, 1, SIDE, SIDE), 0.7)
    torch.testing.assert_close(affine(images, seeded(), 90.0, 0.4, 0.4), images)


def numbered(count: int) -> tuple[Tensor, Tensor]:
    """Images whose pixels and label are their own number."""
    labels = torch.arange(count)
    return labels.to(torch.uint8).view(-1, 1, 1, 1).expand(count, 1, 8, 8), labels


@pytest.fixture
def plain(make_config: Callable[..., TrialConfig]) -> TrialConfig:
    return make_config(rotation_degrees=0, shift=0, zoom=0, batch_size=5)


@pytest.mark.parametrize("count, batches", [(23, 4), (25, 5), (5, 1)])
def test_a_pass_has_whole_batches_of_distinct_images(
    plain: TrialConfig, count: int, batches: int
) -> None:
    stream = Minibatches(*numbered(count), Pixels(255.0), plain, seeded())
    passes = []
    for _ in range(6):
        rows = torch.cat([stream.next()[1] for _ in range(batches)]).tolist()
        assert len(set(rows)) == len(rows) == batches * 5
        passes.append(rows)
    assert all(one != two for one, two in pairwise(passes))
    seen = {row for rows in passes for row in rows}
    assert len(seen) == count  # what one pass leaves out, another has


def test_images_go_with_their_labels(plain: TrialConfig) -> None:
    stream = Minibatches(*numbered(23), Pixels(255.0), plain, seeded())
    images, labels = stream.next()
    assert images.shape == (5, 1, 8, 8)
    expected = (labels / 255.0).view(-1, 1, 1, 1).expand(5, 1, 8, 8)
    torch.testing.assert_close(images, expected)


def test_a_batch_larger_than_the_data_is_all_of_them(plain: TrialConfig) -> None:
    stream = Minibatches(*numbered(3), Pixels(255.0), plain, seeded())
    orders = [stream.next()[1].tolist() for _ in range(8)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_a_stream_follows_its_generator(make_config: Callable[..., TrialConfig]) -> None:
    images = torch.randint(0, 17, (23, 1, 8, 8), generator=seeded(), dtype=torch.uint8)
    labels, config = torch.arange(23), make_config(batch_size=5)
    one, two, other = (
        Minibatches(images, labels, Pixels(16.0), config, seeded(s)) for s in (1, 1, 2)
    )
    for _ in range(7):
        (x, y), (x_again, y_again), (_, y_other) = one.next(), two.next(), other.next()
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)
    assert not torch.equal(y, y_other)


@pytest.mark.parametrize("knob", ["rotation_degrees", "shift", "zoom"])
def test_every_augmentation_of_the_config_is_made(plain: TrialConfig, knob: str) -> None:
    images = torch.randint(0, 17, (5, 1, 8, 8), generator=seeded(), dtype=torch.uint8)
    still, moved = (
        Minibatches(images, torch.arange(5), Pixels(16.0), config, seeded()).next()[0]
        for config in (plain, plain.replace(**{knob: 0.5}))
    )
    assert not torch.equal(still, moved)


class Fixed(nn.Module):
    """Scores that only depend on the image's brightness, and a record of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        assert generator is None
        self.sizes.append(len(images))
        bright = images.mean(dim=(1, 2, 3)) * 3.0
        return -(bright.unsqueeze(1) - torch.arange(3.0)).abs()


@pytest.mark.parametrize("batch", [1, 7, 50, 1000])
def test_accuracy_is_the_share_of_right_answers(batch: int) -> None:
    images, _ = numbered(50)
    labels = torch.randint(0, 3, (50,), generator=seeded())
    right = sum(
        min(range(3), key=lambda k: abs(3.0 * i / 64.0 - k)) == y
        for i, y in enumerate(labels.tolist())
    )
    player = Fixed()
    assert accuracy(player, images, labels, Pixels(64.0), batch) == right / 50
    assert 0 < right < 50
    assert len(player.sizes) == math.ceil(50 / batch)
    assert sum(player.sizes) == 50
