"""What a seed's data are to its training, whatever the task: images with labels, or posts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from kdgan_core.config import TrialConfig

T = TypeVar("T")


class Scores(NamedTuple):
    """How a player does on some rows.

    Attributes:
        metrics: name -> mean over the rows, in [0, 1].
        standard_error: of the metric that selects (`TrialConfig.score`).
    """

    metrics: Mapping[str, float]
    standard_error: float


class Example(NamedTuple):
    """One test image with what is recommended for it.

    Attributes:
        image_id: as in the user's file.
        recommended: tags, the best first.
        tags: the true ones.
        thumbnail: JPEG or PNG bytes, None where the file has none.
    """

    image_id: str
    recommended: tuple[str, ...]
    tags: tuple[str, ...]
    thumbnail: bytes | None


class Detail(NamedTuple):
    """Test scores image by image, of a task whose images are told apart.

    Attributes:
        image_ids: (M,) of the test images.
        metrics: name -> (M,) float64; NaN where an image has nothing to be judged by.
        examples: some images with their recommended and their true tags.
    """

    image_ids: NDArray[Any]
    metrics: Mapping[str, NDArray[np.float64]]
    examples: Sequence[Example]


class PlayerShape(NamedTuple):
    """What the players' sizes depend on, where the data and not the configuration say it.

    Attributes:
        features: width of an image's features.
        words: of the vocabulary, padding and the unknown word included.
        classes: K, tags.
        width: of the word embeddings.
        vectors: (words, E) float32 first word embeddings, E at most `width`; None to draw them.
    """

    features: int
    words: int
    classes: int
    width: int = 100
    vectors: Tensor | None = None


class Batches(Protocol):
    """What gives minibatches without end."""

    def next(self) -> tuple[Any, Tensor]:
        """B inputs as the players take them, and their truth: labels (B,), or p_u (B, K)."""
        ...


class Stream(Batches, Protocol):
    """An endless stream of minibatches that can be taken up again."""

    @property
    def generator(self) -> torch.Generator: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class TaskData(Protocol):
    """What one seed trains on and is judged by, resident on the device.

    `shape` is None where the configuration alone gives the players' sizes.
    """

    @property
    def checksum(self) -> str:
        """Of the whole data set, and of whatever else training reads."""
        ...

    @property
    def shape(self) -> PlayerShape | None: ...

    @property
    def device(self) -> torch.device: ...

    def stream(self, config: TrialConfig, generator: torch.Generator) -> Stream: ...

    def validate(self, player: torch.nn.Module) -> Scores: ...

    def test(self, player: torch.nn.Module) -> Scores: ...

    def test_detail(self, player: torch.nn.Module) -> Detail | None:
        """Test scores image by image; None for a task that has one label an image."""
        ...

    def with_little_validation(self: T) -> T:
        """The same with one validation row, to time training alone."""
        ...


class Rows:
    """Row numbers of endless minibatches, reshuffled at every pass.

    A pass has floor(n / batch_size) batches, as in the authors' code; a batch larger than n is n.
    """

    def __init__(self, count: int, batch_size: int, generator: torch.Generator) -> None:
        """generator: on the device of the data."""
        self.count, self.batch = count, min(batch_size, count)
        self.generator = generator
        self.order = torch.empty(0, dtype=torch.int64, device=generator.device)
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, for `load_state_dict`; its generator is kept by the owner."""
        return {"order": self.order, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.order = state["order"].to(self.generator.device)
        self.position = int(state["position"])

    def next_rows(self) -> Tensor:
        """(B,) row numbers."""
        if self.position + self.batch > len(self.order):
            device = self.generator.device
            self.order = torch.randperm(self.count, generator=self.generator, device=device)
            self.position = 0
        rows = self.order[self.position : self.position + self.batch]
        self.position += self.batch
        return rows
