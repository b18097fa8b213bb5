"""A published recommender in the place of a trained player: fitted once, scored as all others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdgan_core.config import TrialConfig
from kdgan_core.data import Dataset
from kdgan_core.data.post_data import PostData, PostInputs, post_data
from kdgan_core.data.posts import Posts
from kdgan_core.data.task import Detail, Scores
from kdgan_core.names import RECOMMENDERS
from kdgan_core.replica import Replica
from kdgan_core.tagging.recommender import Recommender


class Popularity:
    """Every image gets the tags in the order of their frequency in training."""

    def __init__(self, tags: NDArray[np.bool_]) -> None:
        self._counts = tags.sum(axis=0, dtype=np.int64).astype(np.float64)

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(m, K) how many training images have the tag."""
        return np.broadcast_to(self._counts, (len(features), len(self._counts)))


class _Player(nn.Module):
    """A recommender as the players are called; it looks at the images' features alone, as they
    are in the file: the cosine between two images is theirs."""

    def __init__(self, data: PostData, scores: Callable[[NDArray[np.float32]], Any]) -> None:
        super().__init__()
        self.data, self.scores = data, scores

    def forward(self, inputs: PostInputs, generator: torch.Generator | None = None) -> Tensor:
        """(B, K) scores."""
        found = np.array(self.scores(self.data.raw_features(inputs)))
        return torch.from_numpy(found).to(inputs.device)


class Fitted:
    """What `Replica` is for a trained method: one seed of a recommender.

    Its one round is the fit; before it, popularity stands in for the pretrained player. Fitting
    is deterministic, so that a checkpoint need not hold the model.
    """

    def __init__(self, config: TrialConfig, seed: int, posts: Posts, device: torch.device) -> None:
        self.config, self.seed, self.device = config, seed, device
        self.data: PostData = post_data(posts, config, seed, device)
        self.updates = {role: 0 for role in ("classifier", "teacher", "discriminator")}
        self.seconds = self.pretrain_seconds = 0.0
        self.round = self.best_step = 0
        self.best_valid_score = -1.0
        self.best_test_evaluation: dict[str, float] = {}
        popularity = Popularity(self.data.train_tags.cpu().numpy())
        self._player = _Player(self.data, popularity.scores)

    def tau(self) -> float:
        """The schedule's first temperature: a fit has none."""
        return self.config.tau_start

    def train_to(self, round_number: int) -> None:
        """Fit, unless that is done."""
        if self.round >= min(round_number, 1):
            return
        started = time.perf_counter()
        recommender, data = new_recommender(self.config), self.data
        recommender.fit(
            data.raw_features(data.train), data.train_tags.cpu().numpy(),
            data.raw_features(data.valid), data.valid_tags.cpu().numpy(),
            np.random.default_rng([self.seed, 20180502]),
        )  # fmt: skip
        self._player = _Player(data, recommender.scores)
        self.round = 1
        self.seconds += time.perf_counter() - started

    def read_notes(self) -> dict[str, float]:
        """Nothing: a fit has no losses to report."""
        return {}

    def is_finite(self) -> bool:
        """Whether every score of a validation image is a finite number."""
        few = self.data.valid.take(slice(0, 8))
        return bool(torch.isfinite(self._player(few)).all())

    def validate(self) -> Scores:
        return self.data.validate(self._player)

    def teacher_score(self) -> dict[str, float]:
        """Nothing: there is no teacher."""
        return {}

    def gradient_variance(self) -> dict[str, float]:
        """Nothing: there is no gradient."""
        return {}

    def evaluate_test(self) -> None:
        """The authors' statistic; with one evaluation it is the score."""
        self.best_test_evaluation = dict(self.data.test(self._player).metrics)

    def keep_if_best(self, valid_score: float) -> None:
        self.best_valid_score, self.best_step = valid_score, 1

    def test_best(self) -> tuple[Scores, Detail | None]:
        return self.data.test(self._player), self.data.test_detail(self._player)

    def state_dict(self) -> dict[str, Any]:
        """All but the fit itself, which is done again."""
        return {
            "round": self.round,
            "seconds": self.seconds,
            "best_valid_score": self.best_valid_score,
            "best_step": self.best_step,
            "best_test_evaluation": self.best_test_evaluation,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Fits again where the state was taken after the fit."""
        self.train_to(int(state["round"]))
        self.seconds = float(state["seconds"])
        self.best_valid_score = float(state["best_valid_score"])
        self.best_step = int(state["best_step"])
        self.best_test_evaluation = dict(state["best_test_evaluation"])


def new_recommender(config: TrialConfig) -> Recommender[Any]:
    """The recommender that the config names, with its settings."""
    match config.method:
        case "knn":
            from kdgan_core.tagging.knn import KNN

            return KNN(neighbours=config.neighbours)
        case "tagprop":
            from kdgan_core.tagging.tagprop import TagProp

            return TagProp(neighbours=config.neighbours)
        case "tagfeature":
            from kdgan_core.tagging.tagfeature import TagFeature

            return TagFeature(cost=config.svm_cost)
        case "relexample":
            from kdgan_core.tagging.relexample import RelExample

            return RelExample(cost=config.svm_cost)
        case _:
            raise ValueError(f"method={config.method!r} is not one of {', '.join(RECOMMENDERS)}")


def new_replica(
    config: TrialConfig, seed: int, dataset: Dataset | Posts, cache_dir: Path, device: torch.device
) -> Replica | Fitted:
    """One seed of a trial, ready for its first round.

    Raises:
        DataError: the word vectors cannot be read.
        OSError: the cache folder cannot be written.
    """
    if config.method in RECOMMENDERS and isinstance(dataset, Posts):
        return Fitted(config, seed, dataset, device)
    return Replica(config, seed, dataset, cache_dir, device)
