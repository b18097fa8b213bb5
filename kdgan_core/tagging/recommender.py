"""What the published recommenders have in common: fitted on training images, then asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Model = TypeVar("Model")


class TaggedImages(NamedTuple):
    """Images of one split.

    Attributes:
        features: (n, F).
        tags: (n, K).
    """

    features: NDArray[np.float32]
    tags: NDArray[np.bool_]


class Recommender(ABC, Generic[Model]):
    """Ranks the tags of an image by its features alone."""

    _model: Model | None = None

    def fit(
        self,
        features: NDArray[np.float32],
        tags: NDArray[np.bool_],
        valid_features: NDArray[np.float32],
        valid_tags: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> None:
        """Fit on the training images; what is left to choose the validation images' MAP chooses.

        Args:
            features: (n, F) of the training images.
            tags: (n, K).
            valid_features: (m, F); not looked at where there is nothing to choose.
            valid_tags: (m, K).
            generator: for whatever is drawn at random.

        Raises:
            ValueError: a setting does not fit the number of training images, a feature is not
                finite, or there is something to choose but no validation image with a tag.
        """
        images = TaggedImages(features, tags)
        self._model = self._fitted(images, TaggedImages(valid_features, valid_tags), generator)

    @property
    def model(self) -> Model:
        """What `fit` found.

        Raises:
            RuntimeError: before `fit`.
        """
        if self._model is None:
            raise RuntimeError(f"{type(self).__name__} has no model yet: call fit first")
        return self._model

    @abstractmethod
    def scores(self, features: NDArray[np.float32]) -> NDArray[Any]:
        """(m, K), larger is better.

        Args:
            features: (m, F).

        Raises:
            RuntimeError: before `fit`.
            ValueError: a feature is not finite, or F is not that of the training images.
        """

    @abstractmethod
    def _fitted(
        self, images: TaggedImages, valid: TaggedImages, generator: np.random.Generator
    ) -> Model:
        """The model, fitted on the training images."""
