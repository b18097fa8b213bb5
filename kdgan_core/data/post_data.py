"""Posts (images with text and tags), as a seed trains on them."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.data.posts import Posts, draw_posts, tag_matrix, training_tags
from kdgan_core.data.task import Detail, Example, PlayerShape, Rows, Scores
from kdgan_core.data.word_association import association_vectors
from kdgan_core.data.words import Vocabulary, read_vectors
from kdgan_core.metrics import means, per_image

EXAMPLES = 20  # test images whose recommended tags are shown
RECOMMENDED = 5  # tags shown for each
ROWS_AT_ONCE = 2000  # in evaluation


class PostInputs(NamedTuple):
    """What the players are called on; C looks at the features alone."""

    features: Tensor  # (B, F) float32, standardised
    tokens: Tensor  # (B, L) int32 word numbers, 0 behind the last
    lengths: Tensor  # (B,) int64 on the CPU, at least 1

    def take(self, rows: Tensor | slice) -> PostInputs:
        """Some of the rows; the words as many as the longest of them has."""
        lengths = self.lengths[rows if isinstance(rows, slice) else rows.cpu()]
        longest = int(lengths.max()) if len(lengths) else 1
        return PostInputs(self.features[rows], self.tokens[rows][:, :longest], lengths)

    @property
    def device(self) -> torch.device:
        return self.features.device


class PostMinibatches(Rows):
    """An endless stream of minibatches of posts."""

    def __init__(
        self, inputs: PostInputs, tags: Tensor, batch_size: int, generator: torch.Generator
    ) -> None:
        """tags: (n, K) bool, at least one a row; inputs, tags and generator on one device."""
        super().__init__(len(tags), batch_size, generator)
        self.inputs, self.tags = inputs, tags

    def next(self) -> tuple[PostInputs, Tensor]:
        """B posts and their (B, K) p_u, uniform over a post's tags (paper, section 4.2)."""
        rows = self.next_rows()
        tags = self.tags[rows].float()
        return self.inputs.take(rows), tags / tags.sum(dim=1, keepdim=True)


class PostData(NamedTuple):
    """What one seed trains on, resident on the device."""

    train: PostInputs  # n rows
    train_tags: Tensor  # (n, K) bool
    valid: PostInputs
    valid_tags: Tensor
    test_rows: PostInputs
    test_tags: Tensor
    test_numbers: NDArray[np.int64]  # of the test rows in `posts`
    tag_names: tuple[str, ...]  # K
    shape: PlayerShape
    posts: Posts
    checksum: str
    mean: NDArray[np.float32]  # (F,) of the training posts' features
    spread: NDArray[np.float32]  # (F,) what the features less their mean were divided by

    def raw_features(self, inputs: PostInputs) -> NDArray[np.float32]:
        """(B, F) features as they are in the file, up to rounding."""
        return inputs.features.cpu().numpy() * self.spread + self.mean

    @property
    def device(self) -> torch.device:
        return self.train_tags.device

    def stream(self, config: TrialConfig, generator: torch.Generator) -> PostMinibatches:
        return PostMinibatches(self.train, self.train_tags, config.batch_size, generator)

    def validate(self, player: nn.Module) -> Scores:
        """Mean metrics over the validation posts that have a tag."""
        return _scores(per_image(recommend(player, self.valid), self.valid_tags))

    def test(self, player: nn.Module) -> Scores:
        """Mean metrics over the test posts that have a tag."""
        return _scores(per_image(recommend(player, self.test_rows), self.test_tags))

    def test_detail(self, player: nn.Module) -> Detail:
        """Metrics of every test post, and the first of them with what is recommended for it."""
        scores = recommend(player, self.test_rows)
        metrics = {
            name: values.double().cpu().numpy()
            for name, values in per_image(scores, self.test_tags).items()
        }
        return Detail(self.posts.ids[self.test_numbers], metrics, self._examples(scores))

    def with_little_validation(self) -> PostData:
        one = slice(0, 1)
        return self._replace(valid=self.valid.take(one), valid_tags=self.valid_tags[one])

    def _examples(self, scores: Tensor) -> list[Example]:
        best = scores.argsort(dim=1, descending=True, stable=True)[:EXAMPLES, :RECOMMENDED]
        thumbnails = self.posts.thumbnails
        found = []
        for place, tags in enumerate(best.tolist()):
            row = int(self.test_numbers[place])
            found.append(
                Example(
                    image_id=str(self.posts.ids[row]),
                    recommended=tuple(self.tag_names[tag] for tag in tags),
                    tags=tuple(self.posts.tags_of(row)),
                    thumbnail=None if thumbnails is None else thumbnails[row],
                )
            )
        return found


@torch.no_grad()
def recommend(player: nn.Module, inputs: PostInputs) -> Tensor:
    """(N, K) scores of the player in eval mode."""
    count = len(inputs.features)
    parts = [
        player(inputs.take(slice(start, start + ROWS_AT_ONCE)))
        for start in range(0, count, ROWS_AT_ONCE)
    ]
    return torch.cat(parts)


def _scores(by_image: dict[str, Tensor]) -> Scores:
    judged = by_image["map"][~by_image["map"].isnan()]
    count = max(1, len(judged))
    error = float(judged.double().std()) / math.sqrt(count) if count > 1 else 1.0
    return Scores(means(by_image), max(error, 1.0 / count))


def post_data(posts: Posts, config: TrialConfig, seed: int, device: torch.device) -> PostData:
    """The posts of a seed on the device; validation and test posts shape nothing.

    The vocabulary, the mean and spread of each feature and the list of tags are the training
    posts'.

    Raises:
        DataError: the word vectors cannot be read.
        ValueError: n is more than there are training posts.
    """
    split = draw_posts(posts, config.train_size, seed)
    names = training_tags(posts)
    vocabulary = Vocabulary.of(posts.texts[row] for row in split.train)
    drawn = posts.features[split.train]
    mean = drawn.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = drawn.std(axis=0, dtype=np.float64).astype(np.float32)
    spread[spread < 1e-6] = 1.0  # a feature that never changes says nothing: it becomes 0

    def inputs(rows: NDArray[np.int64]) -> PostInputs:
        features = posts.features[rows]
        features -= mean
        features /= spread
        tokens, lengths = vocabulary.encode([posts.texts[row] for row in rows])
        return PostInputs(
            torch.from_numpy(features).to(device), torch.from_numpy(tokens).to(device),
            torch.from_numpy(lengths),
        )  # fmt: skip

    def tags(rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(tag_matrix(posts, rows, names)).to(device)

    train, train_tags = inputs(split.train), tags(split.train)
    checksum, vectors, width = posts.checksum, None, config.embedding_size
    if config.word_vectors:
        found, _ = read_vectors(Path(config.word_vectors), vocabulary)
        vectors, width = torch.from_numpy(found), found.shape[1]
        checksum = hashlib.sha256(checksum.encode() + found.tobytes()).hexdigest()
    elif config.word_start == "tags":
        arrays = train.tokens.cpu().numpy(), train_tags.cpu().numpy()
        vectors = torch.from_numpy(association_vectors(*arrays, len(vocabulary), width))
    return PostData(
        train, train_tags, inputs(split.valid), tags(split.valid),
        inputs(split.test), tags(split.test), split.test, names,
        PlayerShape(posts.features.shape[1], len(vocabulary), len(names), width, vectors),
        posts, checksum, mean, spread,
    )  # fmt: skip
