"""Losses: golden values, gradients against formulas by hand, and sampled against exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdgan_core.losses import (
    authors_discriminator_loss,
    discriminator_loss,
    expected_discriminator_loss,
    kl_distillation,
    l2_distillation,
    log_rejection,
    naive_discriminator_loss,
    sigmoid_distillation,
    supervised_loss,
)

GOLDEN = json.loads((Path(__file__).parent / "golden_losses.json").read_text())
INPUTS = {name: np.array(value) for name, value in GOLDEN["inputs"].items()}
Float = NDArray[np.float64]


def softmax(x: Float) -> Float:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(x: Float) -> Float:
    return 1.0 / (1.0 + np.exp(-x))


def picked(table: Float, labels: NDArray[np.int64]) -> Float:
    """(k, B) entries table[i, labels[j, i]] of a table (B, K)."""
    return np.array([[table[i, y] for i, y in enumerate(row)] for row in labels])


def by_hand(name: str) -> float:
    """The loss from its equation, in numpy's float64, from the golden inputs."""
    x = INPUTS
    g, h, f = x["scores"], x["classifier_logits"], x["teacher_logits"]
    alpha, t, rows = float(x["alpha"]), float(x["temperature"]), len(g)
    s, positives = float(x["label_smoothing"]), int(x["positives"])
    accept, reject = np.log(sigmoid(g)), np.log(1.0 - sigmoid(g))
    positive = picked(accept, x["labels"]).mean()
    fooled_c = picked(reject, x["classifier_labels"]).mean()
    fooled_t = picked(reject, x["teacher_labels"]).mean()
    p_u, p_c, p_t = np.eye(g.shape[1])[x["labels"][0]], softmax(h), softmax(f)
    soft_h, soft_f = softmax(h / t), softmax(f / t)

    def of_set(drawn: NDArray[np.int64]) -> float:
        """Cross-entropy of the authors' D: P times the true label, and the drawn ones."""
        pairs = [-accept[i, y] for i, y in enumerate(x["labels"][0]) for _ in range(positives)]
        pairs += [-reject[i, y] for row in drawn for i, y in enumerate(row)]
        return float(np.mean(pairs))

    values = {
        "discriminator": -(positive + alpha * fooled_c + (1 - alpha) * fooled_t),
        "naive_discriminator": -(positive + fooled_c),
        "expected_discriminator": -np.sum(
            p_u * accept + (alpha * p_c + (1 - alpha) * p_t) * reject
        )
        / rows,
        "l2_distillation": np.sum((f - h) ** 2) / (2 * rows),
        "kl_distillation": t**2 * np.sum(soft_f * np.log(soft_f / soft_h)) / rows,
        "supervised": -np.log(picked(p_c, x["labels"][:1])).mean(),
        "log_rejection": reject.mean(),
        "smoothed_discriminator": -(
            (1 - s) * positive + s * picked(reject, x["labels"]).mean()
            + alpha * fooled_c + (1 - alpha) * fooled_t
        ),
        "smoothed_expected_discriminator": -np.sum(
            (1 - s) * p_u * accept + (s * p_u + alpha * p_c + (1 - alpha) * p_t) * reject
        )
        / rows,
        "authors_discriminator": alpha * of_set(x["classifier_labels"])
        + (1 - alpha) * of_set(x["teacher_labels"]),
    }  # fmt: skip
    return float(values[name])


def tensors(dtype: torch.dtype) -> dict[str, Tensor]:
    made = {name: torch.from_numpy(np.asarray(value)) for name, value in INPUTS.items()}
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in made.items()}


def by_torch(name: str, dtype: torch.dtype) -> float:
    x = tensors(dtype)
    g, h, f, alpha = x["scores"], x["classifier_logits"], x["teacher_logits"], float(x["alpha"])
    one_hot = torch.nn.functional.one_hot(x["labels"][0], g.shape[1])
    smoothing = float(x["label_smoothing"])
    calls: dict[str, Callable[[], Tensor]] = {
        "discriminator": lambda: discriminator_loss(
            g, x["labels"], x["classifier_labels"], x["teacher_labels"], alpha
        ),
        "naive_discriminator": lambda: naive_discriminator_loss(
            g, x["labels"], x["classifier_labels"]
        ),
        "expected_discriminator": lambda: expected_discriminator_loss(
            g, one_hot, h.softmax(1), f.softmax(1), alpha
        ),
        "l2_distillation": lambda: l2_distillation(h, f),
        "kl_distillation": lambda: kl_distillation(h, f, float(x["temperature"])),
        "supervised": lambda: supervised_loss(h, x["labels"][0]),
        "log_rejection": lambda: log_rejection(g).mean(),
        "smoothed_discriminator": lambda: discriminator_loss(
            g, x["labels"], x["classifier_labels"], x["teacher_labels"], alpha, smoothing
        ),
        "smoothed_expected_discriminator": lambda: expected_discriminator_loss(
            g, one_hot, h.softmax(1), f.softmax(1), alpha, smoothing
        ),
        "authors_discriminator": lambda: authors_discriminator_loss(
            g,
            x["labels"][0],
            x["classifier_labels"],
            x["teacher_labels"],
            alpha,
            int(x["positives"]),
        ),
    }
    return float(calls[name]())


@pytest.mark.parametrize("name", GOLDEN["values"])
def test_golden_values(name: str) -> None:
    golden = GOLDEN["values"][name]
    assert by_hand(name) == pytest.approx(golden, rel=1e-12)
    assert by_torch(name, torch.float64) == pytest.approx(golden, rel=1e-12)
    assert by_torch(name, torch.float32) == pytest.approx(golden, rel=1e-5)


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    leaf = at.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.fixture
def x() -> dict[str, Tensor]:
    return tensors(torch.float64)


def test_l2_gradient(x: dict[str, Tensor]) -> None:
    h, f = x["classifier_logits"], x["teacher_logits"]
    torch.testing.assert_close(gradient(lambda h: l2_distillation(h, f), h), (h - f) / len(h))


@pytest.mark.parametrize("t", [0.5, 1.0, 3.0])
def test_kl_gradient(x: dict[str, Tensor], t: float) -> None:
    h, f = x["classifier_logits"], x["teacher_logits"]
    expected = t * ((h / t).softmax(1) - (f / t).softmax(1)) / len(h)
    torch.testing.assert_close(gradient(lambda h: kl_distillation(h, f, t), h), expected)


def test_kl_at_a_high_temperature_is_l2_of_centred_logits(x: dict[str, Tensor]) -> None:
    """Hinton et al. 2015, section 2.1: matching logits is a special case, up to 1/K."""
    h, f = (x[name] - x[name].mean(1, True) for name in ("classifier_logits", "teacher_logits"))
    limit = l2_distillation(h, f) / h.shape[1]
    torch.testing.assert_close(kl_distillation(h, f, 1e4), limit, rtol=1e-3, atol=0)


@pytest.mark.parametrize("t", [0.5, 1.0, 3.0])
def test_sigmoid_distillation_is_the_divergence_of_each_label(
    t: float, x: dict[str, Tensor]
) -> None:
    h, f = x["classifier_logits"], x["teacher_logits"]
    p, q = (f / t).sigmoid(), (h / t).sigmoid()
    by_label = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    expected = t**2 * by_label.sum(1).mean()
    torch.testing.assert_close(sigmoid_distillation(h, f, t), expected)
    found = gradient(lambda h: sigmoid_distillation(h, f, t), h)
    torch.testing.assert_close(found, t * (q - p) / len(h))
    assert float(sigmoid_distillation(f, f, t)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", ["l2", "kl"])
def test_distillation_is_zero_at_the_target_only(x: dict[str, Tensor], name: str) -> None:
    h, f = x["classifier_logits"], x["teacher_logits"]
    loss = l2_distillation if name == "l2" else lambda h, f: kl_distillation(h, f, 3.0)
    assert float(loss(f, f)) == pytest.approx(0.0, abs=1e-15)
    assert float(loss(h, f)) > 0.01


def test_supervised_gradient(x: dict[str, Tensor]) -> None:
    h, labels = x["classifier_logits"], x["labels"][0]
    expected = h.softmax(1)
    expected[range(len(h)), labels] -= 1.0
    expected /= len(h)
    torch.testing.assert_close(gradient(lambda h: supervised_loss(h, labels), h), expected)


def counts(labels: Tensor, classes: int) -> Tensor:
    """(B, K) how often each label was drawn for each image."""
    return torch.stack([(labels == y).sum(0) for y in range(classes)], dim=1).double()


def test_discriminator_gradient(x: dict[str, Tensor]) -> None:
    """d/dg_y = ( -n_u (1 - p_d) + (alpha n_c + (1 - alpha) n_t) p_d ) / (k B)."""
    g, alpha = x["scores"], float(x["alpha"])
    u, c, t = (
        counts(x[name], g.shape[1]) for name in ("labels", "classifier_labels", "teacher_labels")
    )
    drawn = x["labels"].numel()
    accept = g.sigmoid()
    expected = (-u * (1 - accept) + (alpha * c + (1 - alpha) * t) * accept) / drawn
    labels = x["labels"], x["classifier_labels"], x["teacher_labels"]
    found = gradient(lambda g: discriminator_loss(g, *labels, alpha), g)
    torch.testing.assert_close(found, expected)
    naive = gradient(lambda g: naive_discriminator_loss(g, *labels[:2]), g)
    torch.testing.assert_close(naive, (-u * (1 - accept) + c * accept) / drawn)


def test_the_kinds_of_label_may_differ_in_number(x: dict[str, Tensor]) -> None:
    """One true label an image against k pseudo labels: each kind has its own mean."""
    g, labels = x["scores"], x["labels"][:1]
    pseudo = x["classifier_labels"], x["teacher_labels"]
    repeated = discriminator_loss(g, labels.expand(5, -1), *pseudo, 0.3)
    torch.testing.assert_close(discriminator_loss(g, labels, *pseudo, 0.3), repeated)


def test_expected_discriminator_gradient(x: dict[str, Tensor]) -> None:
    g, alpha = x["scores"], float(x["alpha"])
    truth = x["teacher_logits"].flip(1).softmax(1)  # any distribution
    p_c, p_t = x["classifier_logits"].softmax(1), x["teacher_logits"].softmax(1)
    accept = g.sigmoid()
    expected = (-truth * (1 - accept) + (alpha * p_c + (1 - alpha) * p_t) * accept) / len(g)
    found = gradient(lambda g: expected_discriminator_loss(g, truth, p_c, p_t, alpha), g)
    torch.testing.assert_close(found, expected)


def test_the_sampled_loss_approaches_the_expected_one(x: dict[str, Tensor]) -> None:
    g, alpha, draws = x["scores"], float(x["alpha"]), 200_000
    p_c, p_t = x["classifier_logits"].softmax(1), x["teacher_logits"].softmax(1)
    p_u = p_c.flip(1)
    generator = torch.Generator().manual_seed(0)
    u, c, t = (
        torch.multinomial(p, draws, replacement=True, generator=generator).T
        for p in (p_u, p_c, p_t)
    )
    sampled = float(discriminator_loss(g, u, c, t, alpha))
    expected = float(expected_discriminator_loss(g, p_u, p_c, p_t, alpha))
    within = 5 / draws**0.5  # five standard errors of values that spread by less than 1
    assert sampled == pytest.approx(expected, abs=within)
    swapped = float(expected_discriminator_loss(g, p_u, p_t, p_c, alpha))
    assert abs(sampled - swapped) > 2 * within


def test_nagan_is_kdgan_without_a_teacher(x: dict[str, Tensor]) -> None:
    g, u, c, t = (x[n] for n in ("scores", "labels", "classifier_labels", "teacher_labels"))
    naive = naive_discriminator_loss(g, u, c)
    torch.testing.assert_close(discriminator_loss(g, u, c, t, 1.0), naive)


def test_large_scores_stay_finite() -> None:
    scores = torch.tensor([[-200.0, 200.0]])
    assert log_rejection(scores).tolist() == [[0.0, -200.0]]
    labels = torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([[1]])
    assert float(discriminator_loss(scores, *labels, 0.5)) == 400.0
