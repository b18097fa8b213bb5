"""Gradient estimators: exact samples, gradients by their formulas, bias and variance.

Estimates of one image are made many at a time: B equal rows, whose gradients times B are B
independent estimates.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdgan_core import names
from kdgan_core.estimators import (
    ESTIMATORS,
    advantages,
    concrete_sample,
    expectation,
    gumbel,
    sample_labels,
    straight_through,
)

TAUS = [0.05, 0.1, 1.0, 5.0]
LOGITS = torch.tensor([1.0, 0.5, -1.0, 0.0], dtype=torch.float64)
REWARDS = torch.tensor([-0.2, -1.5, -0.7, -3.0], dtype=torch.float64)
STANDARD_ERRORS = 5.0


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch() -> tuple[Tensor, Tensor]:
    """Logits and rewards, (3, 4), of three different images."""
    generator = seeded(11)
    logits = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    return logits, -torch.rand(3, 4, generator=generator, dtype=torch.float64) * 3.0


def gradient(
    name: str, logits: Tensor, rewards: Tensor, tau: float, samples: int = 6,
    control_variate: bool = True, seed: int = 0,
) -> Tensor:  # fmt: skip
    leaf = logits.clone().requires_grad_()
    ESTIMATORS[name](leaf, rewards, tau, samples, control_variate, seeded(seed)).backward()
    assert leaf.grad is not None
    return leaf.grad


def estimates(
    name: str, count: int, tau: float = 1.0, samples: int = 1, control_variate: bool = False,
    rewards: Tensor = REWARDS,
) -> Tensor:  # fmt: skip
    """(count, K) independent estimates for the one image of LOGITS."""
    rows = LOGITS.expand(count, -1), rewards.expand(count, -1)
    return gradient(name, *rows, tau, samples, control_variate) * count


def assert_mean(found: Tensor, expected: Tensor) -> None:
    """The mean of (count, K) estimates is `expected` within its Monte Carlo error."""
    error = found.std(dim=0) / len(found) ** 0.5
    assert ((found.mean(dim=0) - expected).abs() < STANDARD_ERRORS * error + 1e-9).all()


def exact() -> Tensor:
    """(K,) gradient of E_p[reward], p * (r - E r)."""
    p = LOGITS.softmax(dim=0)
    return p * (REWARDS - (p * REWARDS).sum())


def noise(logits: Tensor, samples: int, seed: int = 0) -> Tensor:
    """(k, B, K) the Gumbel noise that an estimator draws from an equally seeded generator."""
    drawn = torch.rand((samples, *logits.shape), dtype=logits.dtype, generator=seeded(seed))
    return -(-(1.0 - drawn).log()).log()


def baseline_by_hand(rewards: Tensor, labels: Tensor) -> Tensor:
    """(k, B) advantages, with the leave-one-out mean as a loop."""
    out = torch.empty(labels.shape, dtype=rewards.dtype)
    for i in range(labels.shape[1]):
        drawn = [float(rewards[i, y]) for y in labels[:, i]]
        for j, reward in enumerate(drawn):
            others = drawn[:j] + drawn[j + 1 :]
            out[j, i] = reward - sum(others) / len(others)
    return out


def test_every_configured_estimator_exists() -> None:
    assert tuple(ESTIMATORS) == names.ESTIMATORS


def test_gumbel_noise_has_its_mean_and_variance() -> None:
    drawn = gumbel((200_000,), seeded(), LOGITS)
    assert float(drawn.mean()) == pytest.approx(0.57722, abs=0.02)
    assert float(drawn.var()) == pytest.approx(torch.pi**2 / 6, abs=0.04)


def test_gumbel_noise_is_finite_at_a_draw_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "uniform_", lambda self, generator: self.zero_())
    assert torch.isfinite(gumbel((3,), seeded(), torch.zeros(1))).all()


@pytest.mark.parametrize("tau", TAUS)
def test_the_discrete_label_is_exact_at_every_temperature(tau: float) -> None:
    count = 40_000
    draw = concrete_sample(LOGITS.expand(2, -1), tau, count, seeded())
    assert draw.scaled.shape == (count, 2, 4)
    assert draw.labels.shape == (count, 2)
    assert torch.equal(draw.scaled.argmax(dim=2), draw.labels)
    p = LOGITS.softmax(dim=0)
    bound = STANDARD_ERRORS * (p * (1 - p) / count).sqrt()
    for i in range(2):
        found = torch.bincount(draw.labels[:, i], minlength=4) / count
        assert ((found - p).abs() < bound).all()


def test_the_temperature_scales_the_sample_and_not_the_label() -> None:
    logits, _ = batch()
    hot, cold = (concrete_sample(logits, tau, 50, seeded()) for tau in (2.0, 0.5))
    assert torch.equal(hot.labels, cold.labels)
    torch.testing.assert_close(hot.scaled * 2.0, cold.scaled * 0.5)
    perturbed = logits.log_softmax(dim=1) + noise(logits, 50)
    torch.testing.assert_close(hot.scaled, perturbed / 2.0)


def test_sampled_labels_are_drawn_from_p() -> None:
    count = 40_000
    labels = sample_labels(LOGITS.expand(2, -1), count, seeded(1))
    assert labels.shape == (count, 2)
    p = LOGITS.softmax(dim=0)
    bound = STANDARD_ERRORS * (p * (1 - p) / count).sqrt()
    for i in range(2):
        assert ((torch.bincount(labels[:, i], minlength=4) / count - p).abs() < bound).all()
    assert not torch.equal(labels[:, 0], labels[:, 1])


def test_advantages_leave_one_out() -> None:
    _, rewards = batch()
    labels = torch.tensor([[0, 1, 2], [3, 1, 0], [0, 2, 2], [1, 1, 3]])
    drawn = torch.stack([rewards[i, labels[:, i]] for i in range(3)], dim=1)
    assert torch.equal(advantages(rewards, labels, False), drawn)
    torch.testing.assert_close(
        advantages(rewards, labels, True), baseline_by_hand(rewards, labels)
    )


def test_one_sample_has_no_baseline() -> None:
    _, rewards = batch()
    labels = torch.tensor([[0, 1, 2]])
    assert torch.equal(advantages(rewards, labels, True), advantages(rewards, labels, False))


@pytest.mark.parametrize("control_variate", [True, False])
@pytest.mark.parametrize("tau", TAUS)
def test_concrete_gradient(tau: float, control_variate: bool) -> None:
    """(1/tau) (onehot(z) - y) * advantage, mean over the k samples and the batch."""
    logits, rewards = batch()
    scaled = (logits.log_softmax(dim=1) + noise(logits, 6)) / tau
    labels, y = scaled.argmax(dim=2), scaled.softmax(dim=2)
    advantage = advantages(rewards, labels, control_variate).unsqueeze(2)
    one_hot = torch.eye(4, dtype=torch.float64)[labels]
    expected = ((one_hot - y) / tau * advantage).mean(dim=0) / len(logits)
    found = gradient("concrete", logits, rewards, tau, control_variate=control_variate)
    torch.testing.assert_close(found, expected)


def density_by_hand(logits: Tensor, rewards: Tensor, tau: float, control_variate: bool) -> Tensor:
    """d/dlog pi_k = 1 - K pi_k y_k^-tau / sum_j pi_j y_j^-tau, mapped to the logits."""
    log_p = logits.log_softmax(dim=1)
    scaled = (log_p + noise(logits, 6)) / tau
    y, p = scaled.softmax(dim=2), log_p.exp()
    terms = p * y**-tau
    by_log_p = 1.0 - logits.shape[1] * terms / terms.sum(dim=2, keepdim=True)
    by_logit = by_log_p - p * by_log_p.sum(dim=2, keepdim=True)
    advantage = advantages(rewards, scaled.argmax(dim=2), control_variate).unsqueeze(2)
    return (by_logit * advantage).mean(dim=0) / len(logits)


@pytest.mark.parametrize("control_variate", [True, False])
@pytest.mark.parametrize("tau", TAUS)
def test_density_gradient(tau: float, control_variate: bool) -> None:
    logits, rewards = batch()
    expected = density_by_hand(logits, rewards, tau, control_variate)
    found = gradient("density", logits, rewards, tau, control_variate=control_variate)
    torch.testing.assert_close(found, expected)


def test_density_is_the_gradient_of_the_log_density() -> None:
    """Against the density of Maddison et al. 2017, Eq. 10, written out and differentiated."""
    logits, tau = LOGITS.unsqueeze(0), 0.7
    y = ((logits.log_softmax(dim=1) + noise(logits, 1)) / tau).softmax(dim=2)[0, 0]
    leaf = logits[0].clone().requires_grad_()
    pi = leaf.softmax(dim=0)
    log_q = (pi * y ** (-tau - 1)).log().sum() - 4 * (pi * y**-tau).sum().log()
    log_q.backward()
    found = gradient("density", logits, torch.ones(1, 4, dtype=torch.float64), tau, samples=1)
    torch.testing.assert_close(found[0], leaf.grad)


@pytest.mark.parametrize("tau", TAUS)
def test_the_density_score_has_mean_zero(tau: float) -> None:
    constant = torch.ones_like(REWARDS)
    assert_mean(estimates("density", 40_000, tau, rewards=constant), torch.zeros(4).double())


@pytest.mark.parametrize("tau", TAUS)
def test_straight_through_gradient(tau: float) -> None:
    """(1/tau) (diag(y) - y y^T) rewards, mean over the k samples and the batch."""
    logits, rewards = batch()
    y = ((logits.log_softmax(dim=1) + noise(logits, 6)) / tau).softmax(dim=2)
    expected = y * (rewards - (y * rewards).sum(dim=2, keepdim=True)) / tau
    found = gradient("straight_through", logits, rewards, tau)
    torch.testing.assert_close(found, expected.mean(dim=0) / len(logits))


def test_straight_through_has_the_discrete_label_forward() -> None:
    logits, rewards = batch()
    labels = concrete_sample(logits, 0.5, 6, seeded()).labels
    value = straight_through(logits, rewards, 0.5, 6, True, seeded())
    torch.testing.assert_close(value, advantages(rewards, labels, False).mean())


@pytest.mark.parametrize("tau", TAUS)
def test_straight_through_ignores_a_constant_reward(tau: float) -> None:
    logits, rewards = batch()
    nothing = gradient("straight_through", logits, torch.full_like(rewards, -2.0), tau)
    torch.testing.assert_close(nothing, torch.zeros_like(nothing), rtol=0, atol=1e-12)
    one, two = (
        gradient("straight_through", logits, rewards, tau, control_variate=on)
        for on in (True, False)
    )
    assert torch.equal(one, two)


@pytest.mark.parametrize("control_variate", [True, False])
def test_score_gradient(control_variate: bool) -> None:
    """(onehot(z) - p) * advantage, mean over the k samples and the batch."""
    logits, rewards = batch()
    labels = (logits + noise(logits, 6)).argmax(dim=2)
    advantage = advantages(rewards, labels, control_variate).unsqueeze(2)
    one_hot = torch.eye(4, dtype=torch.float64)[labels]
    expected = ((one_hot - logits.softmax(dim=1)) * advantage).mean(dim=0) / len(logits)
    found = gradient("score", logits, rewards, 1.0, control_variate=control_variate)
    torch.testing.assert_close(found, expected)


def test_expectation_gradient_and_value() -> None:
    logits, rewards = batch()
    p = logits.softmax(dim=1)
    mean = (p * rewards).sum(dim=1, keepdim=True)
    found = gradient("expectation", logits, rewards, 1.0)
    torch.testing.assert_close(found, p * (rewards - mean) / len(logits))
    torch.testing.assert_close(expectation(logits, rewards, 1.0, 1, True, seeded()), mean.mean())


@pytest.mark.parametrize("samples, control_variate", [(1, False), (4, False), (4, True)])
@pytest.mark.parametrize("name", ["score", "density"])
def test_unbiased_estimators(name: str, samples: int, control_variate: bool) -> None:
    found = estimates(name, 40_000, 0.5, samples, control_variate)
    assert_mean(found, exact())
    assert float(exact().abs().max()) > 10 * float(found.std(dim=0).max()) / 40_000**0.5


def test_leave_one_out_lowers_the_variance_of_score() -> None:
    """Rewards that share a large constant, as log(1 - p_d) does when D is sure of every label."""
    skewed = REWARDS - 10.0
    plain, less = (
        estimates("score", 4000, samples=8, control_variate=on, rewards=skewed).var(dim=0).sum()
        for on in (False, True)
    )
    assert float(less) < 0.1 * float(plain)


def test_concrete_is_biased_and_leave_one_out_removes_the_part_of_a_constant() -> None:
    constant = torch.ones_like(REWARDS)
    plain = estimates("concrete", 40_000, 1.0, 4, False, rewards=constant)
    error = plain.std(dim=0) / 40_000**0.5
    assert float((plain.mean(dim=0).abs() / error).max()) > 20
    less = estimates("concrete", 40_000, 1.0, 4, True, rewards=constant)
    torch.testing.assert_close(less, torch.zeros_like(less))


def test_straight_through_loses_its_bias_as_the_temperature_falls() -> None:
    hot, cold = (
        (estimates("straight_through", 200_000, tau).mean(dim=0) - exact()).abs().max()
        for tau in (5.0, 0.05)
    )
    assert float(cold) < 0.1 * float(hot)


@pytest.mark.parametrize("name", ["concrete", "straight_through"])
def test_at_a_low_temperature_the_gradient_lives_on_the_near_ties(name: str) -> None:
    shares, largest = [], []
    for tau in (5.0, 0.01):
        size = estimates(name, 20_000, tau).norm(dim=1)
        shares.append(float((size > 1e-3).double().mean()))
        largest.append(float(size.max()))
    assert shares[0] > 0.99
    assert shares[1] < 0.25
    assert largest[1] > 20 * largest[0]


@pytest.mark.parametrize("name", ["concrete", "straight_through"])
def test_the_temperature_changes_the_gradient(name: str) -> None:
    logits, rewards = batch()
    grads = [gradient(name, logits, rewards, tau) for tau in (1.0, 0.9, 0.1)]
    for one, two in ((0, 1), (1, 2), (0, 2)):
        assert float((grads[one] - grads[two]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["score", "expectation", "authors"])
def test_the_temperature_has_no_effect_without_a_relaxed_sample(name: str) -> None:
    logits, rewards = batch()
    one, two = (gradient(name, logits, rewards, tau) for tau in (1.0, 0.1))
    assert torch.equal(one, two)


def test_the_temperature_cancels_in_the_density() -> None:
    """pi_k y_k^-tau is proportional to exp(-g_k), so the score depends on the noise alone."""
    logits, rewards = batch()
    one, two = (gradient("density", logits, rewards, tau) for tau in (1.0, 0.1))
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_noise_comes_from_the_generator_alone(name: str) -> None:
    logits, rewards = batch()
    torch.manual_seed(1)
    one = gradient(name, logits, rewards, 1.0)
    torch.manual_seed(2)
    assert torch.equal(one, gradient(name, logits, rewards, 1.0))
    changed = gradient(name, logits, rewards, 1.0, seed=1)
    assert torch.equal(one, changed) == (name == "expectation")


@pytest.mark.parametrize("tau", [0.01, 0.1, 10.0])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_gradients_are_finite_in_single_precision(name: str, tau: float) -> None:
    """Sure players and a sure D, as late in training."""
    logits = torch.tensor([[60.0, -60.0, 0.0], [0.0, 0.0, 0.0]])
    rewards = torch.tensor([[-90.0, 0.0, -1e-6], [-90.0, -90.0, 0.0]])
    assert torch.isfinite(gradient(name, logits, rewards, tau, samples=50)).all()
