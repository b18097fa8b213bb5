"""The networks of CIFAR-10: the paper's sizes, the shortcuts, the running statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.players import (
    PLAYERS,
    BatchNorm,
    Block,
    LeNet,
    ResNet,
    build_player,
    parameter_groups,
)

CIFAR = TrialConfig(dataset="cifar10")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(role: str, architecture: str = "paper", seed: int = 0, **changes: object) -> nn.Module:
    config = CIFAR.replace(architecture=architecture, **changes)
    return build_player(role, config, seeded(seed))


def images(count: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=seeded(seed))


def size(player: nn.Module) -> int:
    return sum(p.numel() for p in player.parameters())


def convolutions(player: nn.Module) -> list[nn.Conv2d]:
    return [module for module in player.modules() if isinstance(module, nn.Conv2d)]


def norms(player: nn.Module) -> list[BatchNorm]:
    return [module for module in player.modules() if isinstance(module, BatchNorm)]


def test_the_papers_classifier_is_a_lenet() -> None:
    """64@5x5, pool, 128@5x5, pool, 1024, 10; padded, so that 8x8 is left for the dense layer."""
    player = built("classifier")
    assert isinstance(player, LeNet)
    first, second = 64 * (3 * 5 * 5 + 1), 128 * (64 * 5 * 5 + 1)
    dense, out = 1024 * (128 * 8 * 8 + 1), 10 * (1024 + 1)
    assert size(player) == first + second + dense + out == 8_609_674
    assert norms(player) == []


@pytest.mark.parametrize("role", ["teacher", "discriminator"])
def test_the_papers_teacher_is_a_resnet_of_32_layers(role: str) -> None:
    """16@3x3, then three stages (16, 32, 64) of five blocks of two, then the dense layer."""
    player = built(role)
    assert isinstance(player, ResNet)
    found = convolutions(player)
    linear = [module for module in player.modules() if isinstance(module, nn.Linear)]
    assert len(found) + len(linear) == 32
    assert {module.kernel_size for module in found} == {(3, 3)}  # no projection in a shortcut
    assert [module.out_channels for module in found] == [16] * 11 + [32] * 10 + [64] * 10
    strides = [module.stride[0] for module in found]
    assert [i for i, stride in enumerate(strides) if stride == 2] == [11, 21]
    weights = 9 * (3 * 16 + 10 * 16 * 16 + 16 * 32 + 9 * 32 * 32 + 32 * 64 + 9 * 64 * 64)
    assert size(player) == weights + 2 * (11 * 16 + 10 * 32 + 10 * 64) + 650 == 464_154


def test_the_teachers_architecture_is_the_discriminators_with_other_weights() -> None:
    teacher, discriminator = built("teacher"), built("discriminator", seed=1)
    shapes = [[p.shape for p in player.parameters()] for player in (teacher, discriminator)]
    assert shapes[0] == shapes[1]
    first = [convolutions(player)[0].weight for player in (teacher, discriminator)]
    assert not torch.equal(*first)


@pytest.mark.parametrize("architecture", ["paper", "small"])
@pytest.mark.parametrize("role", PLAYERS)
def test_scores_have_a_row_an_image_and_every_weight_a_gradient(
    role: str, architecture: str
) -> None:
    player = built(role, architecture)
    scores = player(images(3), seeded(1))
    assert scores.shape == (3, 10)
    assert torch.isfinite(scores).all()
    assert float(scores.detach().std()) > 0.0
    scores.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in player.parameters())


@pytest.mark.parametrize("inputs, outputs, stride", [(3, 3, 1), (3, 6, 2)])
def test_a_block_adds_the_image_itself(inputs: int, outputs: int, stride: int) -> None:
    """Where the size changes, every other pixel, and channels of zeros (option A)."""
    block = Block(inputs, outputs, stride)
    for norm in norms(block):
        norm.reset()
    x = torch.randn(2, inputs, 8, 8, generator=seeded())
    with torch.no_grad():
        for module in convolutions(block):
            module.weight.zero_()
        found = block(x, False)  # nothing but the shortcut
    assert found.shape == (2, outputs, 8 // stride, 8 // stride)
    torch.testing.assert_close(found[:, :inputs], F.relu(x[:, :, ::stride, ::stride]))
    assert not found[:, inputs:].any()


def test_a_block_is_two_normalised_convolutions() -> None:
    block = Block(3, 6, 2)
    for norm in norms(block):
        norm.reset()
    x = torch.randn(5, 3, 8, 8, generator=seeded())

    def normalised(y: Tensor) -> Tensor:
        mean = y.mean(dim=(0, 2, 3), keepdim=True)
        variance = y.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
        return (y - mean) / (variance + 1e-5).sqrt()

    y = F.conv2d(x, block.first.weight, stride=2, padding=1)
    y = F.conv2d(F.relu(normalised(y)), block.second.weight, padding=1)
    shortcut = torch.cat([x[:, :, ::2, ::2], torch.zeros(5, 3, 4, 4)], dim=1)
    expected = F.relu(normalised(y) + shortcut)
    torch.testing.assert_close(block(x, True), expected, rtol=1e-4, atol=1e-5)


def statistics(player: nn.Module) -> list[Tensor]:
    return [tensor.clone() for norm in norms(player) for tensor in (norm.mean, norm.variance)]


def unchanged(one: list[Tensor], two: list[Tensor]) -> list[bool]:
    return [torch.equal(before, after) for before, after in zip(one, two, strict=True)]


def test_running_statistics_move_in_the_learners_training_mode_alone() -> None:
    player = built("teacher", "small")
    assert len(norms(player)) == 7
    before = statistics(player)
    player(images())
    with torch.no_grad():
        player(images())
        read = player(images(), seeded(1))
    assert all(unchanged(before, statistics(player)))
    learned = player(images(), seeded(1))
    assert not any(unchanged(before, statistics(player)))
    torch.testing.assert_close(read, learned.detach())  # read by the batch's statistics too
    assert not torch.equal(read, built("teacher", "small")(images()).detach())


def test_running_statistics_approach_those_of_the_batch() -> None:
    player = built("discriminator", "small")
    assert isinstance(player, ResNet)
    x = player.first(images(8)).detach()
    for _ in range(3):
        player(images(8), seeded(1))
    kept = 0.9**3  # momentum 0.1, from the mean 0 and the variance 1
    mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3))
    torch.testing.assert_close(player.norm.mean, (1 - kept) * mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(player.norm.variance, kept + (1 - kept) * variance)
    out = player.norm(x, False)
    shape = (1, -1, 1, 1)
    expected = (x - player.norm.mean.view(shape)) / (
        player.norm.variance.view(shape) + 1e-5
    ).sqrt()
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("role", PLAYERS)
def test_eval_mode_scores_an_image_by_itself(role: str) -> None:
    player = built(role, "small")
    player(images(8), seeded(1))  # statistics that are not those of the start
    with torch.no_grad():
        both, alone = player(images(8)), player(images(8)[:1])
    torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("role", PLAYERS)
def test_the_same_seed_gives_the_same_weights(role: str) -> None:
    one, two, other = (built(role, "small", seed) for seed in (5, 5, 6))
    first = (one.state_dict(), two.state_dict(), other.state_dict())
    for name, value in first[0].items():
        assert torch.equal(value, first[1][name])
    assert not torch.equal(first[0]["out.weight"], first[2]["out.weight"])


def test_the_norms_start_as_the_identity_and_do_not_decay() -> None:
    player = built("teacher", "small")
    for norm in norms(player):
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert torch.equal(norm.variance, torch.ones_like(norm.variance))
        assert not norm.bias.any()
        assert not norm.mean.any()
    decayed, rest = parameter_groups("teacher", player, 1e-4)
    assert {p.dim() for p in decayed["params"]} == {2, 4}  # type: ignore[attr-defined]
    of_norms = {id(p) for norm in norms(player) for p in (norm.weight, norm.bias)}
    assert of_norms <= {id(p) for p in rest["params"]}  # type: ignore[attr-defined]
    assert (decayed["weight_decay"], rest["weight_decay"]) == (1e-4, 0.0)


@pytest.mark.parametrize(
    "role, off", [("classifier", "classifier_dropout"), ("teacher", "teacher_dropout")]
)
def test_dropout_is_before_the_scores(role: str, off: str) -> None:
    one, two = (built(role, "small")(images(), seeded(s)) for s in (1, 2))
    assert not torch.equal(one, two)
    plain: dict[str, Any] = {off: 0.0}
    still, again = (built(role, "small", **plain)(images(), seeded(s)) for s in (1, 2))
    assert torch.equal(still, again)
