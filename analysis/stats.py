"""Statistics over seeds: a point estimate and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL: Final = 0.95


class Interval(NamedTuple):
    """Mean of `n` values, their sample standard deviation (ddof=1) and a two-sided interval."""

    mean: float
    std: float
    n: int
    low: float
    high: float


def t_interval(values: Sequence[float] | NDArray[np.float64], level: float = LEVEL) -> Interval:
    """Return the mean of `values` with its Student-t interval.

    Bootstrap intervals are too narrow below some 20 seeds; with n = 5 a nominal 95 % bootstrap
    covers about 83 %, the t interval 94.5 %.

    Args:
        values: Finite scores, one a seed; shape (seeds,).
        level: Coverage of the interval, in (0, 1).

    Returns:
        The interval. With one value std, low and high are NaN; with none the mean is too.

    Raises:
        ValueError: If `level` is outside (0, 1), or `values` is not one-dimensional and finite.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; give a fraction between 0 and 1, such as 0.95")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(
            f"values have shape {array.shape} and {np.count_nonzero(~np.isfinite(array))} "
            "non-finite entries; give one finite score a seed"
        )
    n = int(array.size)
    if n == 0:
        return Interval(math.nan, math.nan, 0, math.nan, math.nan)
    mean = float(array.mean())
    if n == 1:
        return Interval(mean, math.nan, 1, math.nan, math.nan)
    std = float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * std / math.sqrt(n)
    return Interval(mean, std, n, mean - half, mean + half)
