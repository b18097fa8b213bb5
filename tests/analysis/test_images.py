from __future__ import annotations

import pytest
from handmade import Trial, image_frame, make_runs
from handmade_tags import tag_arm, tag_images

from analysis.images import image_difference, image_trials
from analysis.methods import Arm, arms_of

OURS = {0: 0.52, 1: 0.50}
THEIRS = {0: 0.50, 1: 0.49}


def two(ours: Trial, theirs: Trial) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms_of(make_runs([ours, theirs]))}


def pair(images: int = 40, untagged: int = 0) -> tuple[Trial, Trial]:
    return (
        tag_arm("kdgan", OURS, images=tag_images(OURS, images, 1, untagged)),
        tag_arm("mimic", THEIRS, images=tag_images(THEIRS, images, 2, untagged)),
    )


def test_the_mean_over_images_is_the_mean_over_seeds() -> None:
    trials = pair()
    arms = two(*trials)
    found = image_difference(arms["kdgan"], arms["mimic"], image_frame(*trials))
    assert found.difference.mean == pytest.approx(0.015)
    assert (found.difference.n, found.seeds) == (40, (0, 1))
    assert found.difference.low < 0.015 < found.difference.high
    back = image_difference(arms["mimic"], arms["kdgan"], image_frame(*trials))
    assert (back.difference.low, back.difference.high) == pytest.approx(
        (-found.difference.high, -found.difference.low)
    )


def test_it_is_the_same_every_time_and_whatever_else_is_in_the_frame() -> None:
    trials = pair()
    arms = two(*trials)
    other = tag_arm("nagan", {0: 0.4}, images=tag_images({0: 0.4}, 40))
    first = image_difference(arms["kdgan"], arms["mimic"], image_frame(*trials))
    frame = image_frame(other, *reversed(trials)).sample(frac=1, random_state=0)
    again = image_difference(arms["kdgan"], arms["mimic"], frame)
    assert again.difference == pytest.approx(first.difference)


def test_seeds_are_averaged_before_images_are_drawn() -> None:
    """Two seeds with opposite differences of an image cancel: nothing is left to vary."""
    plus, minus = 0.6, 0.4
    images = [
        (seed, f"i{i}", plus if (seed + i) % 2 else minus) for seed in (0, 1) for i in (0, 1)
    ]
    ours = tag_arm("kdgan", {0: 0.5, 1: 0.5}, images=tuple(images))
    flat = tuple((seed, image, 0.5) for seed, image, _ in images)
    theirs = tag_arm("mimic", {0: 0.5, 1: 0.5}, images=flat)
    arms = two(ours, theirs)
    found = image_difference(arms["kdgan"], arms["mimic"], image_frame(ours, theirs)).difference
    assert (found.mean, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_images_without_a_tag_are_left_out() -> None:
    trials = pair(images=40, untagged=4)
    arms = two(*trials)
    found = image_difference(arms["kdgan"], arms["mimic"], image_frame(*trials))
    assert found.difference.n == 36 and found.difference.mean == pytest.approx(0.015)


def test_the_trial_that_counts_for_a_seed_gives_its_images() -> None:
    old = tag_arm("kdgan", {0: 0.1}, images=tag_images({0: 0.1}, 30))
    ours, theirs = pair(images=30)
    runs = make_runs([old, ours, theirs])
    arms = {arm.name: arm for arm in arms_of(runs)}
    assert image_trials(runs) == {ours.trial_id, theirs.trial_id}
    found = image_difference(arms["kdgan"], arms["mimic"], image_frame(old, ours, theirs))
    assert found.difference.mean == pytest.approx(0.015)


def test_without_common_images_there_is_no_difference() -> None:
    ours, theirs = pair()
    arms = two(ours, theirs)
    found = image_difference(arms["kdgan"], arms["mimic"], image_frame(ours))
    assert (found.difference.n, found.seeds) == (0, ())


def test_pairing_takes_away_how_hard_the_images_are() -> None:
    """Models that differ by 0.02 on images whose precisions spread by 0.2."""
    trials = pair(images=200)
    arms = two(*trials)
    frame = image_frame(*trials)
    paired = image_difference(arms["kdgan"], arms["mimic"], frame).difference
    single = frame[frame["trial_id"] == trials[0].trial_id].groupby("image_id")["map"].mean()
    assert paired.std < 0.6 * single.std()
    assert paired.high - paired.low == pytest.approx(2 * 1.96 * paired.std / 200**0.5, rel=0.1)
