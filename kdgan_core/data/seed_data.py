"""From a data set to what one seed trains on."""

from __future__ import annotations

from pathlib import Path

import torch

from kdgan_core.config import TrialConfig
from kdgan_core.data.dataset import Dataset, load_dataset
from kdgan_core.data.image_data import image_data
from kdgan_core.data.posts import Posts, load_posts
from kdgan_core.data.task import TaskData
from kdgan_core.names import TAG_DATASETS


def load(config: TrialConfig, data_dir: Path | None) -> Dataset | Posts:
    """The data set of a config; see `load_named`."""
    return load_named(config.dataset, config.tags_file, data_dir)


def load_named(dataset: str, tags_file: str, data_dir: Path | None) -> Dataset | Posts:
    """A data set, read once per process.

    Args:
        dataset: its name.
        tags_file: of the data set tags, "" for the generated posts.
        data_dir: the data folder; None is KDGAN_DATA or the user's cache directory.

    Raises:
        DataError: files are absent and cannot be downloaded, or are damaged.
    """
    if dataset in TAG_DATASETS:
        return load_posts(dataset, tags_file, data_dir)
    return load_dataset(dataset, data_dir)


def seed_data(
    dataset: Dataset | Posts, config: TrialConfig, seed: int, device: torch.device
) -> TaskData:
    """What a seed trains on and is judged by, on the device.

    Raises:
        DataError: the word vectors cannot be read.
        ValueError: n is more than the data set holds.
    """
    if isinstance(dataset, Dataset):
        return image_data(dataset, config, seed, device)
    from kdgan_core.data.post_data import post_data

    return post_data(dataset, config, seed, device)
