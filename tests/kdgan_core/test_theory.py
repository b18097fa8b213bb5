"""The paper's theory (section 3.3) on tabular games, where every expectation is exact."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdgan_core.estimators import expectation
from kdgan_core.losses import (
    adversarial_value,
    expected_discriminator_loss,
    l2_distillation,
    log_rejection,
    optimal_discriminator,
)

EQUILIBRIUM = -math.log(4.0)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """p_u, p_a and D: (images, labels), every entry above 0."""
    rows, classes = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    weights = st.lists(st.floats(0.01, 1.0), min_size=classes, max_size=classes)
    table = st.lists(weights, min_size=rows, max_size=rows)
    one, two, three = (torch.tensor(draw(table), dtype=torch.float64) for _ in range(3))
    return one / one.sum(1, keepdim=True), two / two.sum(1, keepdim=True), three * 0.98 + 0.01


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """(rows,) JSD by its definition, in nats."""
    middle = 0.5 * (p + q)
    return 0.5 * ((p * (p / middle).log()).sum(1) + (q * (q / middle).log()).sum(1))


def softmax_table(seed: int, rows: int, classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, classes, generator=generator, dtype=torch.float64).softmax(dim=1)


@settings(deadline=None)
@given(tables())
def test_the_inner_maximum_is_a_jensen_shannon_divergence(
    table: tuple[Tensor, Tensor, Tensor],
) -> None:
    truth, pseudo, _ = table
    value = adversarial_value(truth, pseudo, optimal_discriminator(truth, pseudo))
    expected = EQUILIBRIUM + 2.0 * jensen_shannon(truth, pseudo)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(tables())
def test_no_other_discriminator_reaches_more(table: tuple[Tensor, Tensor, Tensor]) -> None:
    truth, pseudo, acceptance = table
    best = adversarial_value(truth, pseudo, optimal_discriminator(truth, pseudo))
    assert (adversarial_value(truth, pseudo, acceptance) <= best + 1e-12).all()


@settings(deadline=None)
@given(tables(), st.floats(0.0, 1.0))
def test_the_equilibrium_has_the_papers_value(
    table: tuple[Tensor, Tensor, Tensor], alpha: float
) -> None:
    truth = table[0]
    pseudo = alpha * truth + (1 - alpha) * truth
    acceptance = optimal_discriminator(truth, pseudo)
    torch.testing.assert_close(acceptance, torch.full_like(truth, 0.5))
    value = adversarial_value(truth, pseudo, acceptance)
    torch.testing.assert_close(value, torch.full_like(value, EQUILIBRIUM))


def test_labels_without_mass_add_nothing() -> None:
    """p_u is one-hot on MNIST, and D may then be exactly 0 or 1."""
    truth, pseudo = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.5, 0.5]])
    acceptance = optimal_discriminator(truth, pseudo)
    assert acceptance.tolist() == [[1.0, 0.0, 0.0]]
    assert adversarial_value(truth, pseudo, acceptance).tolist() == [0.0]


@settings(deadline=None)
@given(tables(), st.floats(0.0, 1.0))
def test_the_expected_loss_is_minus_the_value(
    table: tuple[Tensor, Tensor, Tensor], alpha: float
) -> None:
    truth, classifier, acceptance = table
    teacher = classifier.flip(1)
    loss = expected_discriminator_loss(acceptance.logit(), truth, classifier, teacher, alpha)
    value = adversarial_value(truth, alpha * classifier + (1 - alpha) * teacher, acceptance)
    torch.testing.assert_close(loss, -value.mean(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 1.0])
def test_gradient_ascent_finds_the_optimal_discriminator(alpha: float) -> None:
    truth, classifier, teacher = (softmax_table(seed, 3, 4) for seed in (1, 2, 3))
    scores = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([scores], lr=10.0)
    for _ in range(2000):
        optimizer.zero_grad()
        expected_discriminator_loss(scores, truth, classifier, teacher, alpha).backward()
        optimizer.step()
    best = optimal_discriminator(truth, alpha * classifier + (1 - alpha) * teacher)
    torch.testing.assert_close(scores.detach().sigmoid(), best, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "alpha, beta, gamma", [(0.5, 1.0, 0.01), (0.2, 0.1, 1.0), (0.9, 0.01, 0.01)]
)
def test_the_tabular_game_ends_at_the_equilibrium(alpha: float, beta: float, gamma: float) -> None:
    """Free logits of C, T and D, updated in turn by gradient steps as in Algorithm 1."""
    truth = softmax_table(4, 2, 3)
    classifier, teacher, scores = (
        softmax_table(seed, 2, 3).log().requires_grad_() for seed in (5, 6, 7)
    )
    step = {
        id(player): torch.optim.SGD([player], lr=rate)
        for player, rate in ((classifier, 0.5), (teacher, 0.5), (scores, 2.0))
    }

    def descend(player: Tensor, loss: Tensor) -> None:
        step[id(player)].zero_grad()
        loss.backward()
        step[id(player)].step()

    def learner_loss(player: Tensor, target: Tensor, weight: float, distilled: float) -> Tensor:
        rewards = log_rejection(scores.detach())
        generator = torch.Generator()  # not used: the expectation is exact
        adversarial = expectation(player, rewards, 1.0, 1, False, generator)
        return weight * adversarial + distilled * l2_distillation(player, target.detach())

    for _ in range(3000):
        p_c, p_t = (player.detach().softmax(dim=1) for player in (classifier, teacher))
        descend(scores, expected_discriminator_loss(scores, truth, p_c, p_t, alpha))
        descend(teacher, learner_loss(teacher, classifier, 1 - alpha, gamma))
        descend(classifier, learner_loss(classifier, teacher, alpha, beta))

    p_c, p_t = (player.detach().softmax(dim=1) for player in (classifier, teacher))
    torch.testing.assert_close(p_c, truth, rtol=0, atol=1e-3)
    torch.testing.assert_close(p_t, truth, rtol=0, atol=1e-3)
    pseudo = alpha * p_c + (1 - alpha) * p_t
    value = adversarial_value(truth, pseudo, scores.detach().sigmoid()).mean()
    assert float(value) == pytest.approx(EQUILIBRIUM, abs=1e-4)
