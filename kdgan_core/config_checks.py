"""Which values of a trial's configuration do not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdgan_core.names import (
    DATASET_ARCHITECTURES,
    DATASET_SIDE,
    DATASET_SIZES,
    RECOMMENDERS,
    TAG_DATASETS,
)

if TYPE_CHECKING:
    from kdgan_core.config import TrialConfig


def check_together(config: TrialConfig) -> None:
    """Checks what no field shows by itself.

    Raises:
        ValueError: fields contradict each other, or their data set.
    """
    if not config.seeds:
        raise ValueError("seeds=() is empty: give at least one seed")
    if len(set(config.seeds)) < len(config.seeds):
        raise ValueError(f"seeds={config.seeds} names a seed twice")
    if not config.has_tags:
        _check_images(config)
    exist = DATASET_ARCHITECTURES[config.dataset]
    if config.architecture not in exist:
        side = DATASET_SIDE[config.dataset]  # those of tags exist for every data set
        raise ValueError(
            f"architecture={config.architecture!r} does not exist for the {side}x{side} images"
            f" of {config.dataset}: use {' or '.join(exist)}"
        )
    if config.tags_file and config.dataset != "tags":
        raise ValueError(
            f"tags_file={config.tags_file!r} goes with dataset='tags' alone, not with"
            f" {config.dataset!r}"
        )
    if config.method in RECOMMENDERS:
        _check_recommender(config)
    if config.player == "teacher" and config.method != "supervised":
        raise ValueError(
            f"player='teacher' goes with method='supervised' alone, not with {config.method!r}"
        )
    if config.schedule == "fused":
        _check_fused(config)
    if config.evaluations > config.rounds:
        raise ValueError(
            f"evaluations={config.evaluations} is more than the {config.rounds} rounds of"
            f" training: lower it or raise steps={config.steps}"
        )


def _check_fused(config: TrialConfig) -> None:
    names = {"kdgan": ("discriminator_steps", "teacher_steps"), "nagan": ("discriminator_steps",)}
    for name in names.get(config.method, ()):
        if getattr(config, name) == 0:
            raise ValueError(
                f"{name}=0 does not go with schedule='fused', which updates every player in every"
                " round: give at least 1, or use schedule='alternating'"
            )


def _check_images(config: TrialConfig) -> None:
    pool, _, classes = DATASET_SIZES[config.dataset]
    if config.train_size < classes:
        raise ValueError(
            f"train_size={config.train_size} is less than the {classes} classes of"
            f" {config.dataset}: give at least one image a class"
        )
    if config.train_size + config.valid_size > pool:
        raise ValueError(
            f"train_size={config.train_size} plus valid_size={config.valid_size} is more than the"
            f" {pool:,} images of {config.dataset} that may be drawn: lower one of them"
        )


def _check_recommender(config: TrialConfig) -> None:
    if not config.has_tags:
        raise ValueError(
            f"method={config.method!r} recommends tags, which {config.dataset} has none of: use"
            f" it with {', '.join(TAG_DATASETS)}"
        )
    if config.rounds != 1:
        raise ValueError(
            f"method={config.method!r} is fitted at once, not in steps={config.steps}: set steps"
            " and evaluations to 1"
        )
