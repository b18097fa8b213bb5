"""Estimates of a sweep's time."""

from __future__ import annotations

import pytest
import torch

from sweeps.cost import CostModel, Probe, format_seconds, probe_seconds
from sweeps.space import Space


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (45.4, "45 s"),
        (89.0, "89 s"),
        (90.0, "2 min"),
        (720.0, "12 min"),
        (5399.0, "90 min"),
        (5400.0, "1.5 h"),
        (12_600.0, "3.5 h"),
        (47.9 * 3600, "47.9 h"),
        (2.0 * 86400, "2.0 days"),
        (181_440.0, "2.1 days"),
    ],
)
def test_seconds_are_written_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_an_expectation_gives_way_to_measurements(space: Space) -> None:
    cost = CostModel({50: 10.0})
    two_seeds = space.base_config(50)
    assert cost.trial_seconds(two_seeds) == 20.0
    cost.expect(50, Probe(12.0, 3.0))
    assert cost.trial_seconds(two_seeds) == 24.0
    cost.learn(two_seeds, {"outcome": "finished", "seconds": 8.0})
    cost.learn(two_seeds.replace(seeds=(0,)), {"outcome": "collapsed", "seconds": 6.0})
    assert cost.seconds_per_seed(50) == pytest.approx((4.0 + 6.0) / 2)
    cost.expect(50, Probe(99.0, 3.0))
    assert cost.trial_seconds(two_seeds) == pytest.approx(10.0)


def test_pretraining_is_counted_apart_and_once(space: Space) -> None:
    cost = CostModel({})
    assert cost.pretrain_seconds(50) == 0.0
    cost.expect(50, Probe(12.0, 3.0))
    assert cost.pretrain_seconds(50) == 3.0
    result = {"outcome": "finished", "seconds": 8.0, "prepare_seconds": 6.0}
    cost.learn(space.base_config(50), result)
    assert cost.seconds_per_seed(50) == pytest.approx((8.0 - 6.0) / 2)
    assert cost.pretrain_seconds(50) == 0.0


@pytest.mark.parametrize(
    "result",
    [
        {"outcome": "failed", "traceback": "KeyError"},
        {"outcome": "diverged", "seconds": 0.5},
        {"outcome": "finished", "seconds": None},
    ],
)
def test_a_trial_cut_short_teaches_nothing(space: Space, result: dict[str, object]) -> None:
    cost = CostModel({})
    cost.learn(space.base_config(50), result)
    assert not cost.knows(50)


def test_sizes_are_told_apart(space: Space) -> None:
    cost = CostModel({50: 10.0})
    assert (cost.knows(50), cost.knows(200)) == (True, False)
    cost.learn(space.base_config(200), {"outcome": "finished", "seconds": 8.0})
    assert cost.knows(200)
    assert cost.seconds_per_seed(50) == 10.0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_probe_takes_time_and_leaves_the_threads(space: Space, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        probe = probe_seconds(space.base_config(50), None, "cpu")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert 0.0 < probe.pretrain < probe.train < 60.0


def test_a_probe_scales_with_the_steps_and_works_for_the_shortest_training(space: Space) -> None:
    config = space.base_config(50)
    shortest = probe_seconds(config.replace(steps=1, evaluations=1), None, "cpu")
    longer = probe_seconds(config.replace(steps=2000, pretrain_steps=0), None, "cpu")
    assert 0.0 < shortest.train < longer.train
    assert longer.pretrain == 0.0
