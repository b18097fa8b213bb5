"""Features of images by VGG-16, as the authors have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdgan_core.data.dataset import DataError
from kdgan_core.data.image_features import OR_FEATURES, pillow
from kdgan_core.data.optional import optional_package
from kdgan_core.data.post_table import Post

BATCH = 32  # images through the network at a time


class Fc7Features:
    """What VGG-16, trained on ImageNet, has behind its second layer of 4,096, after its ReLU.

    torchvision's weights and its preparation of an image: shorter side 256, the middle 224x224.
    """

    needs_image = True
    rows: int | None = None

    def __init__(self, device: str | None = None) -> None:
        """device: torch's name of it; None is a GPU where there is one.

        Raises:
            DataError: torchvision or Pillow is not installed, or the weights cannot be had.
        """
        models = optional_package("torchvision.models", "torchvision", "VGG-16", OR_FEATURES)
        pillow()
        weights = models.VGG16_Weights.IMAGENET1K_V1
        try:
            network = models.vgg16(weights=weights)
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self.network = fc7(network).to(self.device)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"VGG-16 cannot be had ({error}): its weights are downloaded once, to torch's"
                f" cache (TORCH_HOME){OR_FEATURES}"
            ) from error
        self.transform: Callable[[Any], Tensor] = weights.transforms()
        self.width = 4096

    def has(self, post: Post) -> bool:
        return True

    def prepare(self, post: Post, image: Any) -> NDArray[np.float32]:
        prepared: NDArray[np.float32] = self.transform(image).numpy()
        return prepared

    @torch.inference_mode()
    def finish(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        starts = range(0, len(prepared), BATCH)
        parts = [torch.from_numpy(prepared[start : start + BATCH]) for start in starts]
        found = [self.network(part.to(self.device)).float().cpu() for part in parts]
        features: NDArray[np.float32] = torch.cat(found).numpy()
        return features


def fc7(network: Any) -> nn.Module:
    """A VGG network of torchvision up to the ReLU behind its second fully connected layer."""
    # Its classifier: linear, ReLU, dropout, linear, ReLU, dropout, linear.
    layers = [network.features, network.avgpool, nn.Flatten(), *network.classifier[:5]]
    return nn.Sequential(*layers).eval()
