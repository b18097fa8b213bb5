"""Variance of C's gradients: against torch's own, of the right losses, and without a trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdgan_core.data.batches import Minibatches, make_generator
from kdgan_core.gradients import Moments, gradient_variance
from kdgan_core.names import METHODS
from kdgan_core.replica import Replica
from kdgan_core.trial import Evaluation, Trial, TrialResult

MakeReplica = Callable[..., Replica]
MakeTrial = Callable[..., Trial]
TAU = 0.5
WHATS = ("adversarial", "distillation", "mixture")
CPU = torch.device("cpu")


def names(*whats: str) -> set[str]:
    return {f"gradient_{kind}_{what}" for kind in ("variance", "mean_square") for what in whats}


@pytest.mark.parametrize("count", [2, 7])
def test_moments_are_those_of_torch(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = 3.0 + torch.randn(count, 50, generator=generator)
    moments = Moments()
    for gradient in gradients:
        moments.add(gradient)
    expected = gradients.double().var(dim=0).mean()
    assert moments.variance() == pytest.approx(float(expected), rel=1e-9)
    square = gradients.double().mean(dim=0).square().mean()
    assert moments.mean_square() == pytest.approx(float(square), rel=1e-9)


def test_equal_gradients_have_no_variance() -> None:
    """Nor a negative one, by rounding."""
    moments = Moments()
    for _ in range(16):
        moments.add(torch.full((9,), 0.1))
    assert 0.0 <= moments.variance() < 1e-16
    assert moments.mean_square() == pytest.approx(0.01, rel=1e-6)


def stacked(replica: Replica, round_number: int) -> tuple[Tensor, Tensor]:
    """(M, P) gradients of L_AD and of L_DS for C, minibatch by minibatch, by their formulas."""
    config, data = replica.config, replica.data
    batches, dropout = (
        make_generator(0, f"gradient variance {round_number} {what}", CPU)
        for what in ("batches", "dropout")
    )
    stream = Minibatches(data.train_images, data.train_labels, data.pixels, config, batches)
    classifier, teacher = replica.players["classifier"], replica.players["teacher"]
    weights = list(classifier.parameters())
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for _ in range(config.gradient_batches):
        images, _ = stream.next()
        h = classifier(images, dropout)
        with torch.no_grad():
            reject = (1.0 - replica.players["discriminator"](images).sigmoid()).log()
            f = teacher(images)
        losses = ((h.softmax(1) * reject).sum(1).mean(), 0.5 * (h - f).square().sum() / len(h))
        for kind, loss in zip(found, losses, strict=True):
            gradient = torch.autograd.grad(loss, weights, retain_graph=True)
            kind.append(torch.cat([g.flatten() for g in gradient]).double())
    return torch.stack(found[0]), torch.stack(found[1])


def test_it_is_the_variance_of_the_unweighted_losses(make_replica: MakeReplica) -> None:
    """And of lambda L_AD + (1 - lambda) L_DS with lambda = alpha / (alpha + beta)."""
    replica = make_replica(estimator="expectation", alpha=0.3, beta=0.9, gradient_batches=5)
    replica.round = 7
    found = gradient_variance(replica, TAU)
    of_ad, of_ds = stacked(replica, 7)
    both = 0.25 * of_ad + 0.75 * of_ds
    assert set(found) == names(*WHATS)
    for what, gradients in zip(WHATS, (of_ad, of_ds, both), strict=True):
        variance = float(gradients.var(dim=0).mean())
        square = float(gradients.mean(dim=0).square().mean())
        assert found[f"gradient_variance_{what}"] == pytest.approx(variance, rel=1e-4)
        assert found[f"gradient_mean_square_{what}"] == pytest.approx(square, rel=1e-4)


@pytest.mark.parametrize(
    "changes", [{"beta": 5.0}, {"gamma": 5.0}, {"classifier_label_weight": 1}]
)
def test_the_terms_are_without_their_weights(
    changes: dict[str, object], make_replica: MakeReplica
) -> None:
    one, two = (
        gradient_variance(make_replica(gradient_batches=2, **c), TAU) for c in ({}, changes)
    )
    for name in names("adversarial", "distillation"):
        assert one[name] == two[name] > 0.0


@pytest.mark.parametrize("alpha, is_all_distillation", [(0.0, True), (0.5, False)])
def test_the_mixture_without_alpha_is_the_distillation(
    alpha: float, is_all_distillation: bool, make_replica: MakeReplica
) -> None:
    found = gradient_variance(make_replica(alpha=alpha, gradient_batches=2), TAU)
    mixture, distilled = (found[f"gradient_variance_{what}"] for what in WHATS[:0:-1])
    assert (mixture == distilled) == is_all_distillation


def test_a_low_temperature_raises_the_variance_of_the_adversarial_part_alone(
    make_replica: MakeReplica,
) -> None:
    replica = make_replica(estimator="concrete", samples=1)
    hot, cold = (gradient_variance(replica, tau) for tau in (1.0, 0.1))
    assert cold["gradient_variance_adversarial"] > 2 * hot["gradient_variance_adversarial"]
    assert cold["gradient_variance_distillation"] == hot["gradient_variance_distillation"]


def test_the_target_is_the_teachers_mean_where_there_is_one(make_replica: MakeReplica) -> None:
    replica = make_replica(teacher_average=0.9, gradient_batches=2)
    before = gradient_variance(replica, TAU)
    with torch.no_grad():
        for p in replica.players["teacher"].parameters():
            p.mul_(2.0)
    assert gradient_variance(replica, TAU) == before
    with torch.no_grad():
        for p in replica.averages["teacher"].parameters():
            p.mul_(2.0)
    after = gradient_variance(replica, TAU)
    assert after["gradient_variance_distillation"] != before["gradient_variance_distillation"]
    assert after["gradient_variance_adversarial"] == before["gradient_variance_adversarial"]


@pytest.mark.parametrize("estimator", ["straight_through", "authors"])
@pytest.mark.parametrize("method", ["kdgan", "nagan"])
def test_it_draws_from_streams_of_its_own_and_leaves_no_gradient(
    method: str, estimator: str, make_replica: MakeReplica
) -> None:
    replica = make_replica(method=method, estimator=estimator, gradient_batches=2)
    for player in replica.players.values():
        player.zero_grad()
    generators = replica.generators()
    assert len(generators) == 2 * len(replica.players) + 1
    before = {name: g.get_state().clone() for name, g in generators.items()}
    torch.manual_seed(0)
    everywhere = torch.get_rng_state()
    one, two = gradient_variance(replica, TAU), gradient_variance(replica, TAU)
    assert one == two
    assert all(torch.equal(g.get_state(), before[name]) for name, g in generators.items())
    assert torch.equal(torch.get_rng_state(), everywhere)
    for player in replica.players.values():
        assert all(p.grad is None for p in player.parameters())
    replica.round += 1
    assert gradient_variance(replica, TAU) != one


def test_nagan_has_the_adversarial_part_alone_and_the_others_have_none(
    make_replica: MakeReplica,
) -> None:
    expected = {"kdgan": names(*WHATS), "nagan": names("adversarial")}
    for method in METHODS:
        replica = make_replica(method=method, gradient_batches=2)
        assert set(replica.gradient_variance()) == expected.get(method, set()), method


def finish(trial: Trial) -> tuple[list[Evaluation], TrialResult]:
    checks = []
    while not trial.done:
        checks.append(trial.advance())
    return checks, trial.result()


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "kdgan"}, {"method": "kdgan", "estimator": "authors", "teacher_average": 0.9},
        {"method": "nagan"}, {"method": "mimic"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)  # fmt: skip
def test_logging_it_does_not_change_the_training(
    changes: dict[str, object], make_trial: MakeTrial
) -> None:
    """To the bit: every weight, score and note."""
    short = {**changes, "seeds": (0, 1), "steps": 4, "evaluations": 2}
    plain = make_trial(**short)
    logged = make_trial(**short, log_gradient_variance=True, gradient_batches=2)
    (checks, result), (with_log, result_with) = finish(plain), finish(logged)
    assert result.seeds == result_with.seeds
    for mine, theirs in zip(plain.replicas, logged.replicas, strict=True):
        for role, player in mine.players.items():
            for p, q in zip(player.parameters(), theirs.players[role].parameters(), strict=True):
                assert torch.equal(p, q)
    whats = {"kdgan": WHATS, "nagan": WHATS[:1]}.get(str(changes["method"]), ())
    assert [check.step for check in with_log] == [0, 2, 4]  # logged at the pretrained one too
    for one, two in zip(checks, with_log, strict=True):
        for seed in (0, 1):
            extra = set(two.metrics[seed]) - set(one.metrics[seed])
            assert extra == names(*whats)
            rest = {k: v for k, v in two.metrics[seed].items() if k not in extra}
            assert rest == one.metrics[seed]
    assert dataclasses.replace(plain.config, log_gradient_variance=True, gradient_batches=2) == (
        logged.config
    )
