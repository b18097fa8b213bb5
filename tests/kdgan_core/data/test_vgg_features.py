"""VGG-16's features: the right layer, and what to do without torchvision."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdgan_core.data.dataset import DataError
from kdgan_core.data.vgg_features import Fc7Features, fc7

HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None


def test_fc7_is_behind_the_second_relu_and_drops_nothing() -> None:
    torch.manual_seed(0)
    network = SimpleNamespace(
        features=nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()),
        avgpool=nn.AdaptiveAvgPool2d(2),
        classifier=nn.Sequential(
            nn.Linear(8, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 5), nn.ReLU(), nn.Dropout(),
            nn.Linear(5, 3),
        ),
    )  # fmt: skip
    images = torch.randn(4, 3, 8, 8)
    found = fc7(network)(images)
    pooled = network.avgpool(network.features(images)).flatten(1)
    hidden = network.classifier[0](pooled).relu()
    assert torch.equal(found, network.classifier[3](hidden).relu())
    assert found.shape == (4, 5)


@pytest.mark.skipif(HAS_TORCHVISION, reason="torchvision is installed")
def test_without_torchvision_the_message_says_what_to_do() -> None:
    message = (
        r"VGG-16 needs torchvision .*: pip install torchvision, or give features made elsewhere"
        " with --features FILE"
    )
    with pytest.raises(DataError, match=message):
        Fc7Features()
