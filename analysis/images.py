"""Test scores image by image: what of a difference is the test images' luck."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from analysis import columns as c
from analysis.frames import Runs
from analysis.methods import Arm, arms_of
from analysis.stats import Interval, bootstrap_interval

BOOTSTRAP_SEED: Final = 0  # of every comparison, so that one more arm changes no other


class ImageDifference(NamedTuple):
    """Mean difference over test images with its bootstrap interval; `n` of it counts images.

    `seeds` are those that both arms have image by image; the training runs are held fixed.
    """

    difference: Interval
    seeds: tuple[int, ...]


def image_trials(runs: Runs) -> set[str]:
    """Return the trials of the arms' scored seeds, whose images a table compares.

    Raises:
        RunsError: If there is no arm, or an arm has two configurations at a training size.
    """
    return {seed.trial_id for arm in arms_of(runs) for seed in arm.seeds if seed.is_scored}


def image_difference(
    arm: Arm, other: Arm, images: pd.DataFrame, metric: str = c.MAP
) -> ImageDifference:
    """Return the difference of two arms, paired by image.

    For each image the difference is averaged over the seeds first; then images are resampled.
    One without a tag has no score and is left out.

    Args:
        arm: The first arm.
        other: The one whose scores are taken away.
        images: trial_id and `columns.IMAGE_COLUMNS` of their trials.
        metric: One of `columns.TAG_METRICS`.
    """
    key = [c.SEED, c.IMAGE_ID]
    ours, theirs = (_scores(one, images, metric) for one in (arm, other))
    pairs = ours.merge(theirs, on=key, suffixes=("", "_other"))
    pairs = pairs.assign(difference=pairs[metric] - pairs[f"{metric}_other"])
    means = pairs.groupby(c.IMAGE_ID, sort=True)["difference"].mean()
    interval = bootstrap_interval(
        means.to_numpy(dtype=np.float64), np.random.default_rng(BOOTSTRAP_SEED)
    )
    return ImageDifference(interval, tuple(sorted({int(seed) for seed in pairs[c.SEED]})))


def _scores(arm: Arm, images: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return seed, image and score, of each scored seed in the trial that counts for it."""
    counting = pd.DataFrame(
        [(seed.trial_id, seed.seed) for seed in arm.seeds if seed.is_scored],
        columns=[c.TRIAL_ID, c.SEED],
    ).astype({c.TRIAL_ID: "object", c.SEED: "int64"})
    mine = images.merge(counting, on=[c.TRIAL_ID, c.SEED])
    return mine[[c.SEED, c.IMAGE_ID, metric]].dropna(subset=[metric])
