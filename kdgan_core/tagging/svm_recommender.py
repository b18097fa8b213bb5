"""A recommender of one calibrated linear SVM a tag: what TagFeature and RelExample share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from kdgan_core.tagging.linear_svm import fit_with_cost, unit_rows
from kdgan_core.tagging.recommender import Recommender, TaggedImages


class Calibrated(Protocol):
    """What says how likely each tag is."""

    def probabilities(self, rows: NDArray[np.float32], /) -> NDArray[np.float64]:
        """(m, K) of (m, F) rows of unit length."""
        ...


Svms = TypeVar("Svms", bound=Calibrated)


class AtCost(NamedTuple, Generic[Svms]):
    """SVMs and the C that they were fitted with."""

    cost: float
    svms: Svms


class SvmRecommender(Recommender[AtCost[Svms]]):
    """Scores are the probabilities of SVMs on features of unit length.

    Args:
        cost: C; 0 tries COSTS of `linear_svm` and keeps the one with the best MAP on the
            validation images, which takes four times as long.
        numbers: name -> value and the least it may be.

    Raises:
        ValueError: a number is outside its range.
    """

    def __init__(self, cost: float, **numbers: tuple[int, int]) -> None:
        if cost < 0.0:
            raise ValueError(f"cost={cost!r} is negative; 0 chooses")
        for name, (value, least) in numbers.items():
            if value < least:
                raise ValueError(f"{name}={value!r} is below {least}")
        self.cost = cost

    @property
    def chosen_cost(self) -> float:
        """The C in use after `fit`."""
        return self.model.cost

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return self.model.svms.probabilities(unit_rows(features))

    @abstractmethod
    def _fitter(
        self, rows: NDArray[np.float32], tags: NDArray[np.bool_]
    ) -> Callable[[float, np.random.Generator], Svms]:
        """(C, generator) -> SVMs fitted on (n, F) rows of unit length and their (n, K) tags.

        What no C changes is done once, before.
        """

    def _fitted(
        self, images: TaggedImages, valid: TaggedImages, generator: np.random.Generator
    ) -> AtCost[Svms]:
        found = fit_with_cost(
            self.cost,
            self._fitter(unit_rows(images.features), images.tags),
            lambda svms: svms.probabilities(unit_rows(valid.features)),
            valid.tags,
            generator,
        )
        return AtCost(*found)
