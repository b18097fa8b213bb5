"""The networks: the published sizes, dropout by generator, weight decay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from kdgan_core.config import TrialConfig
from kdgan_core.names import ARCHITECTURES
from kdgan_core.players import PLAYERS, build_player, drop, parameter_groups

CPU = torch.device("cpu")
MNIST = TrialConfig()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(role: str, seed: int = 0, **changes: object) -> nn.Module:
    return build_player(role, MNIST.replace(**changes), seeded(seed))


def size(player: nn.Module) -> int:
    return sum(p.numel() for p in player.parameters())


def test_the_papers_mlp() -> None:
    """784-800-800-10, the same in the authors' code."""
    assert size(built("classifier")) == 1_276_810
    assert size(built("classifier", architecture="authors")) == 1_276_810
    shapes = [tuple(p.shape) for p in built("classifier").parameters() if p.dim() == 2]
    assert shapes == [(800, 784), (800, 800), (10, 800)]


@pytest.mark.parametrize("role", ["teacher", "discriminator"])
def test_the_lenets(role: str) -> None:
    assert size(built(role, architecture="authors")) == 3_274_634
    # conv 20@5x5, pool, conv 20@5x5, pool, 500, 10, no padding: 4x4 is left for the dense layer
    paper = (25 * 20 + 20) + (20 * 25 * 20 + 20) + (320 * 500 + 500) + (500 * 10 + 10)
    assert size(built(role)) == paper


@pytest.mark.parametrize(
    "architecture, dataset, side",
    [("small", "digits", 8), *((name, "mnist", 28) for name in ARCHITECTURES)],
)
@pytest.mark.parametrize("role", PLAYERS)
def test_scores_have_a_row_an_image(role: str, architecture: str, dataset: str, side: int) -> None:
    config = TrialConfig(dataset=dataset, architecture=architecture, train_size=10, valid_size=10)
    player = build_player(role, config, seeded())
    scores = player(torch.rand(3, 1, side, side))
    assert scores.shape == (3, 10)
    assert torch.isfinite(scores).all()
    assert float(scores.detach().std()) > 0.0


def test_pooling_before_the_relu_is_the_same_function() -> None:
    player, images = built("teacher"), torch.rand(4, 1, 28, 28, generator=seeded())
    relu, pool = nn.functional.relu, nn.functional.max_pool2d
    x = pool(relu(player.first(images)), 2)
    x = pool(relu(player.second(x)), 2)
    expected = player.out(relu(player.dense(x.flatten(1))))
    torch.testing.assert_close(player(images), expected)


@pytest.mark.parametrize("architecture", ["small", "authors"])
@pytest.mark.parametrize("role", PLAYERS)
def test_the_same_seed_gives_the_same_weights(role: str, architecture: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, two, three = (built(role, seed, architecture=architecture) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)  # no global random state is used
    for (name, p), q, r in zip(
        one.named_parameters(), two.parameters(), three.parameters(), strict=True
    ):
        assert torch.equal(p, q)
        assert torch.equal(p, r) == name.endswith("bias")


@pytest.mark.parametrize("role", PLAYERS)
def test_biases_start_at_zero_and_weights_in_their_bounds(role: str) -> None:
    for name, p in built(role).named_parameters():
        if name.endswith("bias"):
            assert not p.any()
        else:
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(p)
            bound = (6.0 / (fan_in + fan_out)) ** 0.5  # Glorot and Bengio 2010
            assert 0.9 * bound < float(p.detach().abs().max()) <= bound


def test_the_authors_teacher_starts_from_a_truncated_normal() -> None:
    player = built("teacher", architecture="authors")
    dense = player.dense.weight.detach()
    assert float(dense.abs().max()) <= 0.2
    # A normal cut at two standard deviations keeps 0.88 of its spread.
    assert float(dense.std()) == pytest.approx(0.088, abs=0.002)
    assert float(player.second.weight.detach().abs().max()) > 0.15


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="role='student' is not one of classifier, teacher"):
        built("student")


def test_dropout_zeroes_the_rate_and_keeps_the_mean() -> None:
    x = torch.ones(100_000)
    dropped = drop(x, 0.3, seeded())
    assert float((dropped == 0).double().mean()) == pytest.approx(0.3, abs=0.01)
    kept = dropped[dropped > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.7))
    assert torch.equal(drop(x, 0.3, None), x)
    assert torch.equal(drop(x, 0.0, seeded()), x)


@pytest.mark.parametrize("role", PLAYERS)
def test_eval_mode_is_deterministic_and_training_mode_follows_the_generator(role: str) -> None:
    player, images = built(role), torch.rand(4, 1, 28, 28, generator=seeded())
    with torch.no_grad():
        first = player(images)
        torch.manual_seed(3)
        one = player(images, seeded(1))
        torch.manual_seed(4)
        two = player(images, seeded(1))
        other = player(images, seeded(2))
        assert torch.equal(player(images), first)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert not torch.equal(one, first)


@pytest.mark.parametrize(
    "role, off", [("classifier", "classifier_dropout"), ("teacher", "teacher_dropout")]
)
def test_without_dropout_training_mode_is_eval_mode(role: str, off: str) -> None:
    images = torch.rand(4, 1, 28, 28, generator=seeded())
    player = built(role, **{off: 0.0})
    assert torch.equal(player(images, seeded(1)), player(images))


@pytest.mark.parametrize("role", PLAYERS)
def test_parameter_groups_cover_every_parameter_once(role: str) -> None:
    player = built(role)
    groups = parameter_groups(role, player, 4e-5)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(list(player.parameters()))
    for p in player.parameters():
        undecayed = p.dim() == 1 and role != "classifier"
        assert decay[id(p)] == (0.0 if undecayed else 4e-5)


@pytest.mark.parametrize("role", ["classifier", "discriminator"])
def test_weight_decay_adds_its_multiple_of_the_weights_to_the_gradient(
    role: str, make_config: Callable[..., TrialConfig]
) -> None:
    """Adam on a zero loss gradient moves as Adam without decay on the gradient wd * w."""
    decay = 0.1
    decayed, plain = (build_player(role, make_config(), seeded()) for _ in range(2))
    with torch.no_grad():
        for p, q in zip(decayed.parameters(), plain.parameters(), strict=True):
            p += 0.5  # biases start at zero, where decay would not show
            q += 0.5
    for p in decayed.parameters():
        p.grad = torch.zeros_like(p)
    for q in plain.parameters():
        undecayed = q.dim() == 1 and role != "classifier"
        q.grad = torch.zeros_like(q) if undecayed else decay * q.detach()
    one = torch.optim.Adam(parameter_groups(role, decayed, decay), lr=1e-2)
    two = torch.optim.Adam(plain.parameters(), lr=1e-2)
    one.step()
    two.step()
    for p, q in zip(decayed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q)
        assert torch.equal(p, torch.full_like(p, 0.5)) == (p.dim() == 1 and role != "classifier")
