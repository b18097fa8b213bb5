"""One label an image, or several: the same losses run over both."""

from __future__ import annotations

import pytest
import torch

from kdgan_core.losses import label_loss, sigmoid_loss, supervised_loss
from kdgan_core.truth import label_pairs, label_probs, true_labels

LABELS = torch.tensor([2, 0, 1, 2])
SEVERAL = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_label_is_a_distribution_too() -> None:
    assert label_probs(LABELS, 3).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert label_probs(SEVERAL, 3) is SEVERAL


def test_one_label_needs_no_draw() -> None:
    generator = seeded()
    before = generator.get_state()
    assert true_labels(LABELS, 7, generator).tolist() == [LABELS.tolist()]
    assert torch.equal(generator.get_state(), before)


def test_labels_are_drawn_from_p_u() -> None:
    drawn = true_labels(SEVERAL, 30_000, seeded())
    assert drawn.shape == (30_000, 3)
    for row, probs in enumerate(SEVERAL):
        shares = torch.bincount(drawn[:, row], minlength=3) / 30_000
        torch.testing.assert_close(shares, probs, atol=0.012, rtol=0.0)
        assert (shares[probs == 0.0] == 0.0).all()


def test_the_pairs_are_every_image_with_each_of_its_labels() -> None:
    rows, labels = label_pairs(SEVERAL)
    assert isinstance(rows, torch.Tensor)
    pairs = list(zip(rows.tolist(), labels.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 2), (1, 1), (2, 0), (2, 1), (2, 2)]
    rows, labels = label_pairs(LABELS)
    assert LABELS[rows].tolist() == labels.tolist() == LABELS.tolist()


def test_cross_entropy_of_several_labels_is_the_mean_over_them() -> None:
    logits = torch.randn((3, 3), generator=seeded())
    log_p = logits.log_softmax(dim=1)
    by_hand = -(
        (log_p[0, 0] + log_p[0, 2]) / 2 + log_p[1, 1] + log_p[2].mean()
    ) / 3  # fmt: skip
    assert float(supervised_loss(logits, SEVERAL)) == pytest.approx(float(by_hand))
    assert torch.equal(
        supervised_loss(logits, torch.tensor([1, 1, 0])),
        supervised_loss(logits, label_probs(torch.tensor([1, 1, 0]), 3).float()),
    )


def test_labels_by_themselves_are_present_or_absent() -> None:
    """However much of p_u each of them has."""
    logits = torch.randn((3, 3), generator=seeded())
    present = [[0, 2], [1], [0, 1, 2]]
    total = 0.0
    for row, labels in enumerate(present):
        for label in range(3):
            sign = 1.0 if label in labels else -1.0
            total -= float(torch.nn.functional.logsigmoid(sign * logits[row, label]))
    assert float(sigmoid_loss(logits, SEVERAL)) == pytest.approx(total / 3)
    one = torch.tensor([1, 1, 0])
    assert torch.equal(
        sigmoid_loss(logits, one), sigmoid_loss(logits, label_probs(one, 3).float())
    )
    assert torch.equal(label_loss("sigmoid", logits, one), sigmoid_loss(logits, one))
    assert torch.equal(label_loss("softmax", logits, one), supervised_loss(logits, one))
