"""Minibatches of R replicas at once, each from its own images and its own random stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdgan_core.data.batches import Minibatches, augmented


class StackedBatches:
    """The next minibatch of R streams as one: images (R, B, C, S, S) and labels (R, B).

    The row numbers lie in one place on the device and may be drawn ahead of `next`, which then
    asks nothing of the host.
    """

    def __init__(self, streams: Sequence[Minibatches], images: Tensor, labels: Tensor) -> None:
        """streams: alike but for their images; images: (R, n, C, S, S) uint8; labels: (R, n)."""
        self.streams, self.images, self.labels = streams, images, labels
        self.generators = tuple(stream.generator for stream in streams)
        self.pixels, self.config = streams[0].pixels, streams[0].config
        count = len(streams)
        device = labels.device
        self.rows = torch.zeros((count, streams[0].batch), dtype=torch.int64, device=device)
        self._replica = torch.arange(count, device=device).unsqueeze(1)
        self.is_drawn = False
        self.drawn = 0

    def draw(self) -> None:
        """Draws the row numbers of the next minibatch."""
        torch.stack([stream.next_rows() for stream in self.streams], out=self.rows)
        self.is_drawn = True
        self.drawn += 1

    def next(self) -> tuple[Tensor, Tensor]:
        if not self.is_drawn:
            self.draw()
        self.is_drawn = False
        images = self.pixels.to_input(self.images[self._replica, self.rows])
        labels = self.labels[self._replica, self.rows]
        return augmented(images, self.generators, self.config), labels
