"""Data sets: loading with checks, per-seed splits, minibatches and augmentation on the device."""

from __future__ import annotations

from kdgan_core.data.dataset import DataError, Dataset, Split, draw_split, load_dataset

__all__ = ["DataError", "Dataset", "Split", "draw_split", "load_dataset"]
