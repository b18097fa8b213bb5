"""KDGAN's three steps: whom each one moves, by what loss, and what it takes as a constant."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from kdgan_core.methods import kdgan
from kdgan_core.names import ESTIMATORS
from kdgan_core.players import PLAYERS
from kdgan_core.replica import Replica

MakeReplica = Callable[..., Replica]
Step = Callable[[Replica], None]
TAU = 0.5
STEPS: dict[str, Step] = {
    "discriminator": kdgan.discriminator_step,
    "teacher": lambda replica: kdgan.teacher_step(replica, TAU),
    "classifier": lambda replica: kdgan.classifier_step(replica, TAU),
}
LEARNERS = ("teacher", "classifier")
# Neither dropout nor augmentation, so that a loss can be written down by hand.
PLAIN: dict[str, object] = {
    "classifier_dropout": 0, "teacher_dropout": 0, "rotation_degrees": 0, "shift": 0, "zoom": 0,
}  # fmt: skip


def weights(player: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in player.parameters()])


def moved_by(step: Step, replica: Replica) -> set[str]:
    before = {role: weights(player) for role, player in replica.players.items()}
    step(replica)
    after = {role: weights(player) for role, player in replica.players.items()}
    return {role for role in before if not torch.equal(before[role], after[role])}


def loss_of(step: Step, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> tuple[str, float]:
    """The role and the loss that the step descends."""
    seen: list[tuple[str, float]] = []
    monkeypatch.setattr(
        Replica, "descend", lambda self, role, loss: seen.append((role, loss.item()))
    )
    step(replica)
    (one,) = seen
    return one


class Batch:
    """Fixes the minibatch of a role, and scores it by every player in eval mode."""

    def __init__(self, replica: Replica, role: str) -> None:
        self.images, self.labels = replica.streams[role].next()
        replica.streams[role].next = lambda: (self.images, self.labels)  # type: ignore[method-assign]
        with torch.no_grad():
            scores = {name: p(self.images).double() for name, p in replica.players.items()}
        self.h, self.f = scores["classifier"], scores["teacher"]
        self.accept = scores["discriminator"].sigmoid()

    def expected_rejection(self, logits: Tensor) -> float:
        """Mean over the images of E_p[log(1 - p_d)]."""
        return float((logits.softmax(1) * (1.0 - self.accept).log()).sum(1).mean())

    def half_squared_distance(self) -> float:
        return float(0.5 * (self.h - self.f).square().sum() / len(self.labels))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("role", PLAYERS)
def test_a_step_moves_its_player_and_no_other(
    role: str, estimator: str, make_replica: MakeReplica
) -> None:
    replica = make_replica(estimator=estimator, alpha=0.5)
    for player in replica.players.values():
        player.zero_grad()  # what pretraining may have left
    assert moved_by(STEPS[role], replica) == {role}
    for other in set(PLAYERS) - {role}:
        assert all(p.grad is None for p in replica.players[other].parameters())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("role", LEARNERS)
def test_a_learner_descends_its_part_of_the_value_function(
    role: str, alpha: float, make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eq. 4: alpha and beta belong to the classifier, 1 - alpha and gamma to the teacher."""
    replica = make_replica(estimator="expectation", alpha=alpha, beta=0.7, gamma=0.2, **PLAIN)
    batch = Batch(replica, role)
    found = loss_of(STEPS[role], replica, monkeypatch)
    if role == "classifier":
        expected = alpha * batch.expected_rejection(batch.h) + 0.7 * batch.half_squared_distance()
    else:
        adversarial = (1 - alpha) * batch.expected_rejection(batch.f)
        expected = adversarial + 0.2 * batch.half_squared_distance()
    assert found == (role, pytest.approx(expected, rel=1e-5))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_discriminator_ascends_its_objective(
    alpha: float, make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = make_replica(estimator="expectation", alpha=alpha, **PLAIN)
    batch = Batch(replica, "discriminator")
    positive = batch.accept.log()[range(20), batch.labels].mean()
    expected = (
        float(positive)
        + alpha * batch.expected_rejection(batch.h)
        + (1 - alpha) * batch.expected_rejection(batch.f)
    )
    found = loss_of(kdgan.discriminator_step, replica, monkeypatch)
    assert found == ("discriminator", pytest.approx(-expected, rel=1e-5))


def test_sampled_and_expected_discriminator_losses_agree(
    make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    for estimator in ("expectation", "score"):
        replica = make_replica(estimator=estimator, alpha=0.3, samples=20_000, **PLAIN)
        Batch(replica, "discriminator")
        losses.append(loss_of(kdgan.discriminator_step, replica, monkeypatch)[1])
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


def test_the_gradient_of_a_step_is_that_of_its_loss(make_replica: MakeReplica) -> None:
    """One Adam step from the formula's gradient lands where the step lands."""
    replica, copy = (
        make_replica(estimator="expectation", alpha=0.3, beta=0.7, **PLAIN) for _ in range(2)
    )
    Batch(replica, "classifier")
    batch = Batch(copy, "classifier")
    player = copy.players["classifier"]
    logits = player(batch.images)
    p = logits.detach().softmax(1)
    rewards = (1.0 - batch.accept).log()
    adversarial = p * (rewards - (p * rewards).sum(1, keepdim=True))
    logits.backward((0.3 * adversarial + 0.7 * (batch.h - batch.f)) / len(p))
    copy.optimizers["classifier"].step()
    kdgan.classifier_step(replica, TAU)
    torch.testing.assert_close(
        weights(replica.players["classifier"]), weights(player), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("role, off", [("classifier", 0.0), ("teacher", 1.0)])
@pytest.mark.parametrize("estimator", ["concrete", "density", "straight_through", "score"])
def test_alpha_at_its_end_removes_the_adversarial_part(
    role: str, off: float, estimator: str, make_replica: MakeReplica
) -> None:
    """Without it the sampled labels do not matter; with it they do."""

    def after(alpha: float, seed: int) -> Tensor:
        replica = make_replica(alpha=alpha, estimator=estimator)
        replica.noise.manual_seed(seed)
        STEPS[role](replica)
        return weights(replica.players[role])

    assert torch.equal(after(off, 1), after(off, 2))
    assert not torch.equal(after(0.5, 1), after(0.5, 2))


@pytest.mark.parametrize("alpha, silent", [(0.0, "classifier"), (1.0, "teacher")])
@pytest.mark.parametrize("estimator", ["score", "expectation"])
def test_alpha_weights_the_pseudo_labels_of_the_discriminator(
    alpha: float, silent: str, estimator: str, make_replica: MakeReplica
) -> None:
    """At an end of alpha D does not see what one of the two would have answered."""

    def after(alpha: float, changed: str | None) -> Tensor:
        replica = make_replica(alpha=alpha, estimator=estimator)
        if changed:
            with torch.no_grad():
                for p in replica.players[changed].parameters():
                    p.mul_(-1.0)
        kdgan.discriminator_step(replica)
        return weights(replica.players["discriminator"])

    assert torch.equal(after(alpha, silent), after(alpha, None))
    assert not torch.equal(after(0.5, silent), after(0.5, None))


@pytest.mark.parametrize("role", PLAYERS)
def test_only_the_learner_is_in_training_mode(role: str, make_replica: MakeReplica) -> None:
    replica = make_replica()
    modes: dict[str, list[object]] = {name: [] for name in PLAYERS}
    for name, player in replica.players.items():

        def recorded(
            images: Tensor, generator: torch.Generator | None = None, *, name: str = name,
            forward: Callable[..., Tensor] = player.forward,
        ) -> Tensor:  # fmt: skip
            modes[name].append(generator)
            return forward(images, generator)

        player.forward = recorded  # type: ignore[method-assign]
    STEPS[role](replica)
    assert modes.pop(role) == [replica.dropout[role]]
    assert all(generators == [None] for generators in modes.values())


@pytest.mark.parametrize("role", PLAYERS)
def test_a_step_draws_from_its_own_streams(role: str, make_replica: MakeReplica) -> None:
    replica = make_replica()

    def states() -> dict[str, Tensor]:
        found = {f"batches {name}": replica.streams[name].generator for name in PLAYERS}
        found |= {f"dropout {name}": replica.dropout[name] for name in PLAYERS}
        found["labels"] = replica.noise
        return {name: generator.get_state() for name, generator in found.items()}

    torch.manual_seed(0)
    everywhere = torch.get_rng_state()
    before = states()
    STEPS[role](replica)
    after = states()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"batches {role}", f"dropout {role}", "labels"}
    assert torch.equal(torch.get_rng_state(), everywhere)


@pytest.mark.parametrize("role", LEARNERS)
def test_the_configured_distillation_is_used(
    role: str, make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T^2 KL(softmax(target / T) || softmax(own / T)), the target being the other player."""
    replica = make_replica(
        estimator="expectation", distillation="kl", distillation_temperature=2.0,
        alpha=0.0 if role == "classifier" else 1.0, beta=1, gamma=1, **PLAIN,
    )  # fmt: skip
    batch = Batch(replica, role)
    own, other = (batch.h, batch.f) if role == "classifier" else (batch.f, batch.h)
    q, p = (own / 2).softmax(1), (other / 2).softmax(1)
    expected = 4.0 * float((p * (p / q).log()).sum(1).mean())
    assert loss_of(STEPS[role], replica, monkeypatch) == (role, pytest.approx(expected, rel=1e-4))


@pytest.mark.parametrize("name", ["concrete", "straight_through"])
@pytest.mark.parametrize("role", LEARNERS)
def test_the_temperature_reaches_the_learners(
    role: str, name: str, make_replica: MakeReplica
) -> None:
    step = kdgan.teacher_step if role == "teacher" else kdgan.classifier_step
    found = []
    for tau in (1.0, 0.9):
        replica = make_replica(estimator=name)
        step(replica, tau)
        found.append(weights(replica.players[role]))
    assert not torch.equal(*found)


def test_a_round_has_the_configured_steps_in_order(
    make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = make_replica(discriminator_steps=2, teacher_steps=1, classifier_steps=3)
    order: list[str] = []
    monkeypatch.setattr(Replica, "descend", lambda self, role, loss: order.append(role))
    kdgan.play_round(replica, TAU)
    assert order == ["discriminator"] * 2 + ["teacher"] + ["classifier"] * 3


def test_what_a_round_notes(make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means since the last reading, of the unweighted terms."""
    replica = make_replica(estimator="expectation", **PLAIN)
    batch = Batch(replica, "classifier")
    kdgan.classifier_step(replica, TAU)
    notes = replica.read_notes()
    assert notes == {
        "rejection_classifier": pytest.approx(batch.expected_rejection(batch.h), rel=1e-5),
        "distillation_classifier": pytest.approx(batch.half_squared_distance(), rel=1e-5),
    }
    kdgan.play_round(replica, TAU)
    assert set(replica.read_notes()) == {
        "loss_discriminator", "rejection_teacher", "distillation_teacher",
        "rejection_classifier", "distillation_classifier",
    }  # fmt: skip
    assert replica.read_notes() == {}
