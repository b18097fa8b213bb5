"""The networks of tag recommendation (paper, Appendix; the authors' code's for `authors`).

C sees an image's features. T and D also see its text, the privileged provision: they take the
element-wise product of projected features and of what an LSTM makes of the words. Calling them is
as in `kdgan_core.players`, on `PostInputs` instead of images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.data.task import PlayerShape
from kdgan_core.layers import drop

if TYPE_CHECKING:
    from kdgan_core.data.post_data import PostInputs

EMBEDDING_RANGE = 0.1  # of first word embeddings, uniform in +- this (authors' code)
USUAL_LENGTH = 16  # words of a text: the sum of as many states is scaled to the size of one
AUTHORS_EMBEDDING = 10  # their width there
AUTHORS_DROPOUT = 0.5  # of the features there


class Sizes(NamedTuple):
    """Width of C's hidden layers, of T's and D's, and of the LSTM's states."""

    classifier: int
    teacher: int
    text: int


SIZES = {"paper": Sizes(800, 1200, 100), "small": Sizes(64, 128, 32)}


class Hidden(nn.Module):
    """Two hidden layers with ReLU and dropout, then K scores."""

    def __init__(self, inputs: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, classes)
        self.dropout = dropout

    def forward(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        x = drop(F.relu(self.first(x)), self.dropout, generator)
        x = drop(F.relu(self.second(x)), self.dropout, generator)
        return self.out(x).float()  # type: ignore[no-any-return]


class FeatureMLP(nn.Module):
    """C: an MLP on the features of the image (paper: 800-800)."""

    def __init__(self, shape: PlayerShape, hidden: int, dropout: float, noise: float) -> None:
        super().__init__()
        self.hidden = Hidden(shape.features, hidden, shape.classes, dropout)
        self.noise = noise

    def forward(self, inputs: PostInputs, generator: torch.Generator | None = None) -> Tensor:
        """(B, K) scores."""
        return self.hidden(drop(inputs.features, self.noise, generator), generator)  # type: ignore[no-any-return]


class TextFeatures(nn.Module):
    """(B, H) of a text: its words through an LSTM, the states pooled over the words.

    The words a text has are all that is seen of it: padding stands behind the last one, where an
    LSTM that reads forwards has not been yet, and its states are left out. (Packed sequences give
    the same numbers in twice the time on a CPU.)
    """

    def __init__(
        self, words: int, width: int, hidden: int, pooling: str, word_dropout: float
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.pooling, self.word_dropout = pooling, word_dropout

    def forward(self, inputs: PostInputs, generator: torch.Generator | None) -> Tensor:
        embedded = self.words(inputs.tokens)
        shown = embedded.new_ones(embedded.shape[:2])
        embedded = embedded * drop(shown, self.word_dropout, generator).unsqueeze(2)
        states, _ = self.lstm(embedded)
        lengths = inputs.lengths.to(states.device)
        if self.pooling == "last":
            return states[torch.arange(len(states), device=states.device), lengths - 1]  # type: ignore[no-any-return]
        places = torch.arange(states.shape[1], device=states.device)
        is_word = (places < lengths.unsqueeze(1)).unsqueeze(2)
        if self.pooling == "max":
            return states.masked_fill(~is_word, -torch.inf).amax(dim=1)  # type: ignore[no-any-return]
        return (states * is_word).sum(dim=1) / USUAL_LENGTH**0.5  # type: ignore[no-any-return]


class ProductMLP(nn.Module):
    """T and D: an MLP (paper: 1200-1200) on projected features times text features.

    The projection starts near 1 for every image, so that the product starts as the text's
    features, which say more, and learns how the image changes them.
    """

    def __init__(self, shape: PlayerShape, sizes: Sizes, config: TrialConfig) -> None:
        super().__init__()
        self.text = TextFeatures(
            shape.words, shape.width, sizes.text, config.text_pooling, config.word_dropout
        )
        self.projection = nn.Linear(shape.features, sizes.text)
        self.hidden = Hidden(sizes.text, sizes.teacher, shape.classes, config.teacher_dropout)
        self.noise = config.feature_dropout

    def forward(self, inputs: PostInputs, generator: torch.Generator | None = None) -> Tensor:
        """(B, K) scores."""
        image = self.projection(drop(inputs.features, self.noise, generator))
        return self.hidden(image * self.text(inputs, generator), generator)  # type: ignore[no-any-return]


class FeatureLinear(nn.Module):
    """C and D of the authors' code: dropout and one linear layer on the features."""

    def __init__(self, shape: PlayerShape) -> None:
        super().__init__()
        self.out = nn.Linear(shape.features, shape.classes)

    def forward(self, inputs: PostInputs, generator: torch.Generator | None = None) -> Tensor:
        """(B, K) scores."""
        return self.out(drop(inputs.features, AUTHORS_DROPOUT, generator)).float()  # type: ignore[no-any-return]


class MeanWordsLinear(nn.Module):
    """T of the authors' code: a linear layer on the features and the mean word embedding."""

    def __init__(self, shape: PlayerShape) -> None:
        super().__init__()
        width = AUTHORS_EMBEDDING
        self.words = nn.Embedding(shape.words, width)
        self.out = nn.Linear(shape.features + width, shape.classes)

    def forward(self, inputs: PostInputs, generator: torch.Generator | None = None) -> Tensor:
        """(B, K) scores."""
        is_word = (inputs.tokens > 0).unsqueeze(2)
        mean = (self.words(inputs.tokens) * is_word).sum(dim=1) / is_word.sum(dim=1)
        features = drop(inputs.features, AUTHORS_DROPOUT, generator)
        return self.out(torch.cat([features, mean], dim=1)).float()  # type: ignore[no-any-return]


def build_tag_player(
    role: str, config: TrialConfig, generator: torch.Generator, shape: PlayerShape
) -> nn.Module:
    """A freshly initialised player on the CPU; weights are drawn from `generator`.

    Args:
        role: classifier, teacher or discriminator.
        config: architecture, dropout and what concerns the text are read.
        generator: on the CPU.
        shape: of the data.
    """
    with torch.device("meta"):
        player = _network(role, config, shape)
    player = player.to_empty(device="cpu")
    for module in player.modules():
        if isinstance(module, nn.Embedding):
            nn.init.uniform_(module.weight, -EMBEDDING_RANGE, EMBEDDING_RANGE, generator=generator)
            if shape.vectors is not None:
                _take_vectors(module, shape.vectors)
        elif isinstance(module, nn.LSTM | nn.Linear):
            for parameter in module.parameters():
                if parameter.dim() == 1:
                    nn.init.zeros_(parameter)
                else:
                    nn.init.xavier_uniform_(parameter, generator=generator)
    if isinstance(player, ProductMLP):
        with torch.no_grad():
            player.projection.bias.fill_(1.0)
            player.projection.weight.mul_(PROJECTION_SCALE)
    return player


PROJECTION_SCALE = 0.3  # of the features' first weights: the text comes first


@torch.no_grad()
def _take_vectors(embedding: nn.Embedding, vectors: Tensor) -> None:
    """Start from the vectors; a word without one (all zeros) keeps what was drawn, as do the
    places that vectors narrower than the embedding leave."""
    known = vectors.abs().sum(dim=1) > 0
    width = min(vectors.shape[1], embedding.weight.shape[1])
    embedding.weight[known, :width] = vectors[known, :width]


def _network(role: str, config: TrialConfig, shape: PlayerShape) -> nn.Module:
    if config.architecture == "authors":
        return MeanWordsLinear(shape) if role == "teacher" else FeatureLinear(shape)
    sizes = SIZES[config.architecture]
    if role == "classifier":
        return FeatureMLP(
            shape, sizes.classifier, config.classifier_dropout, config.feature_dropout
        )
    return ProductMLP(shape, sizes, config)
