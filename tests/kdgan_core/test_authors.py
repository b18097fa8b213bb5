"""The authors' code and the noise on a teacher: what the pure functions descend to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdgan_core.estimators import authors
from kdgan_core.losses import (
    authors_discriminator_loss,
    authors_naive_discriminator_loss,
    log_rejection,
    noisy_logits,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    leaf = at.clone().requires_grad_()
    loss(leaf).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return leaf.grad


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


# The learners' loss: D's acceptance as the target of the own logits.


def own_gradient(logits: Tensor, scores: Tensor, samples: int, seed: int = 0) -> Tensor:
    rewards = log_rejection(scores)
    return gradient(lambda h: authors(h, rewards, 0.3, samples, True, seeded(seed)), logits)


def test_the_gradient_regresses_the_drawn_logits_on_ds() -> None:
    """d/dh_y = (sigmoid(h_y) - sigmoid(g_y)) / (B k) for every draw of y."""
    h, g, samples = random(3, 4), random(3, 4, seed=1), 6
    uniform = torch.rand(samples, 3, 4, dtype=torch.float64, generator=seeded())
    drawn = (h - (-(1.0 - uniform).log()).log()).argmax(dim=2)
    expected = torch.zeros_like(h)
    for row in drawn.tolist():
        for i, y in enumerate(row):
            expected[i, y] += (h[i, y].sigmoid() - g[i, y].sigmoid()) / (3 * samples)
    torch.testing.assert_close(own_gradient(h, g, samples), expected)


def test_its_fixed_point_is_ds_logit() -> None:
    """And not a maximum of p_d: the gradient is zero at h = g, and points there from elsewhere."""
    g = random(3, 4)
    nothing = torch.zeros_like(g)
    torch.testing.assert_close(own_gradient(g, g, 50), nothing, rtol=0, atol=1e-12)
    assert (own_gradient(g + 0.1, g, 50) >= 0).all()
    assert (own_gradient(g - 0.1, g, 50) <= 0).all()
    assert own_gradient(g + 0.1, g, 50).any(dim=1).all()
    assert own_gradient(g - 0.1, g, 50).any(dim=1).all()


def test_labels_are_drawn_from_the_learners_own_softmax() -> None:
    """So that a label it never gives is never regressed."""
    h = torch.tensor([[0.0, 0.0, -60.0]], dtype=torch.float64)
    found = own_gradient(h, torch.full_like(h, 3.0), 4000)
    assert found[0, 2] == 0.0
    assert float(found[0, 0] / found[0, 1]) == pytest.approx(1.0, abs=0.15)


def test_rewards_near_the_ends_stay_acceptances() -> None:
    """1 - exp(log(1 - p_d)) loses nothing that matters where D is sure."""
    scores = torch.tensor([[-40.0, 0.0, 40.0]])
    logits = torch.zeros(1, 3)
    value = float(authors(logits, log_rejection(scores), 1.0, 4000, True, seeded()))
    assert value == pytest.approx(0.6931, abs=1e-4)  # every target against the logit 0
    assert torch.isfinite(own_gradient(logits, scores, 10)).all()


# D's loss in KDGAN.


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_optimal_discriminator_counts_positives_and_negatives(alpha: float) -> None:
    """D* = P p_u / (P p_u + N p_a) with p_a = alpha p_c + (1 - alpha) p_t.

    The draws of one image are given in their exact shares: N = 10 from each player.
    """
    positives, labels = 5, torch.tensor([0])
    of_classifier = torch.tensor([0] * 6 + [1] * 3 + [2] * 1).unsqueeze(1)
    of_teacher = torch.tensor([0] * 2 + [1] * 2 + [2] * 6).unsqueeze(1)
    p_c = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    p_t = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    p_a = alpha * p_c + (1 - alpha) * p_t
    p_u = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    expected = 5 * p_u / (5 * p_u + 10 * p_a)

    def slopes(acceptance: float) -> Tensor:
        scores = torch.full((1, 3), acceptance, dtype=torch.float64).logit()
        drawn = (of_classifier, of_teacher)
        return gradient(
            lambda g: authors_discriminator_loss(g, labels, *drawn, alpha, positives), scores
        )[0]

    best = float(expected[0])
    assert abs(float(slopes(best)[0])) < 1e-12
    assert float(slopes(best - 0.01)[0]) < 0 < float(slopes(best + 0.01)[0])
    assert (slopes(1e-6)[1:] > 0).all()  # the minimum of the other labels is at D = 0
    papers = p_u / (p_u + p_a)
    assert abs(best - float(papers[0])) > 0.05


def test_its_mean_runs_over_all_pairs_of_a_set() -> None:
    """At score 0 every pair costs log 2, whatever P, N and alpha."""
    scores, labels = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
    drawn = torch.zeros(6, 4, dtype=torch.int64)
    for positives, alpha in ((1, 0.0), (5, 0.4), (20, 1.0)):
        value = authors_discriminator_loss(scores, labels, drawn, drawn, alpha, positives)
        assert float(value) == pytest.approx(0.693147, rel=1e-5)


def test_its_gradient_by_counts() -> None:
    """(sigmoid(g) (n_c or n_t) - (1 - sigmoid(g)) P at the label) / (B (P + N)), weighted."""
    g, labels = random(3, 4), torch.tensor([1, 0, 3])
    of_c, of_t = (torch.randint(0, 4, (6, 3), generator=seeded(s)) for s in (1, 2))
    alpha, positives = 0.3, 2
    expected = torch.zeros_like(g)
    for i in range(3):
        for y in range(4):
            negative = alpha * int((of_c[:, i] == y).sum())
            negative += (1 - alpha) * int((of_t[:, i] == y).sum())
            accept = float(g[i, y].sigmoid())
            expected[i, y] = negative * accept - positives * (y == int(labels[i])) * (1 - accept)
    found = gradient(
        lambda g: authors_discriminator_loss(g, labels, of_c, of_t, alpha, positives), g
    )
    torch.testing.assert_close(found, expected / (3 * (positives + 6)))


# D's loss in NaGAN.


def naive_gradient(
    g: Tensor, labels: Tensor, drawn: Tensor, positives: int = 1, seed: int = 0
) -> Tensor:
    return gradient(
        lambda g: authors_naive_discriminator_loss(g, labels, drawn, positives, seeded(seed)), g
    )


def test_naive_targets_are_smoothed() -> None:
    """At score 0 the gradient is (1/2 - target) / pairs: U(.7, 1) and U(0, .3)."""
    count = 3000
    g, labels = torch.zeros(count, 3, dtype=torch.float64), torch.zeros(count, dtype=torch.int64)
    drawn = torch.ones(2, count, dtype=torch.int64)  # label 1 of the first image, once of twice
    found = 0.5 - naive_gradient(g, labels, drawn) * (count + 1)
    positive, negative = found[:, 0], float(found[0, 1])
    assert 0.7 <= float(positive.min()) < 0.705
    assert 0.995 < float(positive.max()) <= 1.0
    assert float(positive.mean()) == pytest.approx(0.85, abs=0.01)
    seen = [
        0.5 - float(naive_gradient(g[:1], labels[:1], drawn[:, :1], seed=s)[0, 1]) * 2
        for s in range(300)
    ]
    assert 0.0 <= min(*seen, negative) < 0.01
    assert 0.29 < max(*seen, negative) <= 0.3
    assert sum(seen) / 300 == pytest.approx(0.15, abs=0.02)


def test_naive_negatives_are_the_first_images_without_its_true_label() -> None:
    """Of 2N = 8 draws, the first 4 that miss; the loss is a mean over the pairs there are."""
    g = torch.zeros(3, 6, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2])
    drawn = torch.tensor([[0, 1, 0, 2, 3, 4, 5, 5]]).T.repeat(1, 3)
    found = naive_gradient(g, labels, drawn, positives=2)
    expected = torch.zeros_like(g, dtype=torch.bool)
    expected[0, [0, 1, 2, 3, 4]] = True  # the fifth that misses is one too many
    expected[1, 1] = expected[2, 2] = True
    assert torch.equal(found != 0, expected)
    assert (found[:, :3].diagonal() < 0).all()
    assert (found[0, 1:5] > 0).all()
    value = authors_naive_discriminator_loss(g, labels, drawn, 2, seeded())
    assert float(value) == pytest.approx(0.693147, rel=1e-5)  # not less: 10 pairs, not 14


def test_a_sure_classifier_gives_no_negatives() -> None:
    """Every draw is the true label: only positives are left, and the loss is finite."""
    g, labels = random(2, 3), torch.tensor([1, 0])
    drawn = labels.expand(8, 2)
    found = naive_gradient(g, labels, drawn)
    assert (found != 0).tolist() == [[False, True, False], [True, False, False]]
    assert torch.isfinite(found).all()


# NOISY's logits.


def test_a_share_of_the_images_is_scaled() -> None:
    """f' = (1 + xi) f with xi ~ N(0, sigma^2) of every logit, for `ratio` of the images."""
    f = 1.0 + random(20_000, 4).abs()
    factors = noisy_logits(f, "original", 0.3, 0.2, seeded()) / f
    chosen = (factors != 1.0).any(dim=1)
    assert float(chosen.double().mean()) == pytest.approx(0.3, abs=0.015)
    assert (factors[chosen] != 1.0).all()  # whole images
    xi = factors[chosen] - 1.0
    assert float(xi.mean()) == pytest.approx(0.0, abs=0.006)
    assert float(xi.std()) == pytest.approx(0.2, abs=0.004)
    assert abs(float(torch.corrcoef(xi.T)[0, 1])) < 0.05  # each logit its own


def test_every_logit_is_dropped_and_shaken() -> None:
    """f' = f (mask / (1 - ratio) + xi): unbiased, each logit on its own."""
    f = 1.0 + random(20_000, 4).abs()
    factors = noisy_logits(f, "authors", 0.25, 0.05, seeded()) / f
    dropped = factors < 0.5
    assert float(dropped.double().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(dropped.all(dim=1).double().mean()) == pytest.approx(0.25**4, abs=0.003)
    assert float(factors.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(factors[dropped].mean()) == pytest.approx(0.0, abs=0.005)
    assert float(factors[~dropped].mean()) == pytest.approx(4 / 3, abs=0.005)
    for part in (factors[dropped], factors[~dropped]):
        assert float(part.std()) == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize("form", ["original", "authors"])
def test_noise_follows_its_generator(form: str) -> None:
    f = random(6, 4)
    torch.manual_seed(1)
    one = noisy_logits(f, form, 0.5, 0.2, seeded(3))
    torch.manual_seed(2)
    assert torch.equal(one, noisy_logits(f, form, 0.5, 0.2, seeded(3)))
    assert not torch.equal(one, noisy_logits(f, form, 0.5, 0.2, seeded(4)))
    assert torch.equal(noisy_logits(f, form, 0.0, 0.0, seeded()), f)
