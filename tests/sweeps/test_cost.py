"""Estimates of a sweep's time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from kdgan_core import TrialConfig, TrialResult
from kdgan_core.data import DataError, Dataset, load_dataset, seed_data
from sweeps import cost as module
from sweeps.cost import (
    FEW,
    ZERO,
    CostModel,
    Estimate,
    Probe,
    format_range,
    format_seconds,
    learn_from_storage,
    probe_seconds,
)
from sweeps.environment import processor
from sweeps.plan import Plan, Row
from sweeps.space import Space
from sweeps.spool import SpoolWriter


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.357, "0.36 s"),
        (9.4, "9.4 s"),
        (9.6, "10 s"),
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


def test_a_cost_has_its_range_beside_it() -> None:
    assert format_range(Estimate(480.0, 720.0, 1080.0)) == "12 min (8 min to 18 min)"
    assert format_range(Estimate(5.0, 5.0, 5.0)) == "5 s"


@pytest.fixture
def config(space: Space) -> TrialConfig:
    """Two seeds of 20 rounds, and 20 updates of pretraining."""
    return space.base_config(50)


def ended(seconds: float | None, prepare: float = 0.0, step: int = 20) -> dict[str, object]:
    return {
        "outcome": "finished", "seconds": seconds, "prepare_seconds": prepare, "step": step,
    }  # fmt: skip


def test_an_expectation_gives_way_to_measurements(config: TrialConfig) -> None:
    cost = CostModel()
    assert not cost.knows(config)
    cost.expect(config, Probe(12.0, 3.0))
    assert cost.knows(config)
    assert cost.trial_seconds(config) == pytest.approx(2 * 12.0)
    assert cost.learn(config, ended(8.0))
    assert cost.learn(config.replace(seeds=(0,)), ended(6.0))
    assert cost.trial_seconds(config) == pytest.approx((8.0 / 2 + 6.0) / 2 * 2)
    cost.expect(config, Probe(99.0, 3.0))
    assert cost.trial_seconds(config) == pytest.approx(10.0)


def test_trials_cost_as_many_rounds_as_they_have(config: TrialConfig) -> None:
    cost = CostModel()
    cost.learn(config, ended(8.0))
    assert cost.trial_seconds(config.replace(steps=60)) == pytest.approx(24.0)
    assert cost.trial_seconds(config.replace(seeds=(0, 1, 2, 3))) == pytest.approx(16.0)
    assert cost.trial_seconds(config.replace(train_size=200, alpha=0.1)) == pytest.approx(8.0)


def test_a_trial_cut_short_counts_with_the_rounds_it_had(config: TrialConfig) -> None:
    cost = CostModel()
    cost.learn(config, ended(4.0, step=10))
    assert cost.trial_seconds(config) == pytest.approx(8.0)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "nagan"}, {"batch_size": 10}, {"samples": 2}, {"estimator": "score"},
        {"teacher_steps": 3}, {"discriminator_steps": 0}, {"classifier_steps": 2},
        {"schedule": "fused"},
        {"matmul_precision": "highest"}, {"authors_statistic": True}, {"teacher_average": 0.9},
        {"log_gradient_variance": True},
    ],
    ids=str,
)  # fmt: skip
def test_kinds_are_told_apart(config: TrialConfig, change: dict[str, object]) -> None:
    cost = CostModel()
    cost.learn(config, ended(8.0))
    assert not cost.knows(config.replace(**change))


def test_pretraining_is_counted_apart_and_once_for_every_seed(config: TrialConfig) -> None:
    cost = CostModel()
    assert cost.pretraining([config]) == ZERO
    cost.expect(config, Probe(12.0, 3.0))
    assert cost.pretraining([config]) == pytest.approx(Estimate(6.0 / 1.5, 6.0, 6.0 * 1.5))
    cost.learn(config, ended(8.0, prepare=6.0))
    assert cost.trial_seconds(config) == pytest.approx(8.0 - 6.0)
    assert cost.pretraining([config]) == ZERO
    more = config.replace(seeds=(0, 1, 2))
    assert cost.pretraining([more]).mid == pytest.approx(3.0)  # the third seed's
    assert cost.pretraining([config.replace(train_size=200)]).mid == pytest.approx(6.0)
    longer = config.replace(pretrain_steps=40)
    assert cost.pretraining([longer]).mid == pytest.approx(12.0)


def test_c_alone_and_t_alone_are_two_kinds(config: TrialConfig) -> None:
    cost = CostModel()
    alone = config.replace(method="supervised")
    cost.learn(alone, ended(8.0))
    assert not cost.knows(alone.replace(player="teacher"))


def test_a_tuning_trial_is_taken_to_cost_what_the_tables_do_until_one_has_ended(
    config: TrialConfig,
) -> None:
    cost = CostModel()
    logged = config.replace(authors_statistic=True)
    cost.expect(logged, Probe(12.0, 3.0))
    assert cost.knows(config)
    assert cost.trial_seconds(config) == pytest.approx(2 * 12.0)
    assert cost.pretraining([config]).mid == pytest.approx(2 * 3.0)
    cost.learn(config, ended(8.0))
    assert cost.trial_seconds(config) == pytest.approx(8.0)
    assert cost.trial_seconds(logged) == pytest.approx(2 * 12.0)


def test_a_player_that_trials_share_is_pretrained_once(config: TrialConfig) -> None:
    """Of 20 updates each; a probe says 3 s for three players, 2 s for two."""
    cost = CostModel()
    mimic = config.replace(method="mimic")
    cost.expect(config, Probe(12.0, 3.0))
    cost.expect(mimic, Probe(12.0, 2.0))

    def seconds(*configs: TrialConfig) -> float:
        return cost.pretraining(configs).mid

    assert seconds(config, mimic, config.replace(alpha=0.1)) == pytest.approx(2 * 3.0)
    dropped = mimic.replace(classifier_dropout=0.4)
    assert seconds(mimic, dropped) == pytest.approx(2 * (2.0 + 1.0))  # another C
    longer = mimic.replace(teacher_pretrain_steps=60)
    assert seconds(mimic, longer) == pytest.approx(2 * (2.0 + 3.0))  # another T
    faster = mimic.replace(teacher_pretrain_learning_rate=3e-3)
    assert seconds(mimic, faster) == pytest.approx(2 * (2.0 + 1.0))  # another T, the same C
    assert seconds(config.replace(method="codis")) == 0.0
    cost.learn(config, ended(8.0, prepare=6.0))
    assert seconds(mimic, dropped) == pytest.approx(2 * 1.0)


def test_what_pretraining_took_is_known_where_its_players_came_from_the_cache(
    config: TrialConfig,
) -> None:
    cost = CostModel()
    seeds = [{"pretrain_seconds": 3.0}, {"pretrain_seconds": 5.0}]
    cost.learn(config, {**ended(8.0, prepare=0.1), "seeds": seeds})
    assert cost.pretraining([config.replace(train_size=200)]).mid == pytest.approx(8.0)
    assert cost.trial_seconds(config) == pytest.approx(8.0 - 0.1)


@pytest.mark.parametrize(
    "result",
    [
        {"outcome": "failed", "traceback": "KeyError"},
        {"outcome": "diverged", "seconds": 0.5, "step": 0},
        {"outcome": "finished", "seconds": None, "step": 20},
    ],
)
def test_a_trial_that_trained_nothing_teaches_nothing(
    config: TrialConfig, result: dict[str, object]
) -> None:
    cost = CostModel()
    assert not cost.learn(config, result)
    assert not cost.knows(config)


def test_the_range_is_the_narrower_the_more_is_known(config: TrialConfig) -> None:
    cost = CostModel()
    cost.expect(config, Probe(10.0, 0.0))
    assert cost.training(config) == pytest.approx(Estimate(20 / 1.5, 20.0, 20 * 1.5))
    for _ in range(FEW - 1):
        cost.learn(config, ended(20.0))
    assert cost.training(config) == pytest.approx(Estimate(20 / 1.25, 20.0, 20 * 1.25))
    cost.learn(config, ended(20.0))
    assert cost.training(config) == pytest.approx(Estimate(20.0, 20.0, 20.0))


def test_the_range_of_many_trials_leaves_out_a_twentieth_at_either_end(
    config: TrialConfig,
) -> None:
    cost = CostModel()
    for seconds in range(1, 101):
        cost.learn(config, ended(float(seconds)))
    assert cost.training(config) == pytest.approx(Estimate(6.0, 50.5, 95.0))


@given(seconds=st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60))
@example(seconds=[1.0] * 30 + [1000.0])
@example(seconds=[1000.0] * 30 + [1.0])
def test_low_is_never_above_mid_nor_mid_above_high(space: Space, seconds: list[float]) -> None:
    cost = CostModel()
    for one in seconds:
        cost.learn(space.base_config(50), ended(one))
    low, mid, high = cost.training(space.base_config(50))
    assert 0.0 < low <= mid <= high


class Storage:
    """Sweeps with trials that ended on this machine, or on another."""

    def __init__(self, folder: Path, space: Space) -> None:
        self.folder, self.space = folder, space
        self.here: dict[str, object] = {"device": "cpu", "threads": 1, "processor": processor()}

    def add(self, name: str, seconds: float, host: dict[str, object] | None = None) -> Path:
        """A sweep with one trial."""
        sweep = self.folder / name
        sweep.mkdir()
        config = self.space.base_config(50)
        Plan(sweep / "plan.parquet").append([Row(config, "baseline")])
        writer = SpoolWriter(sweep / "spool", config.trial_id, {**self.here, **(host or {})})
        writer.start()
        writer.result(TrialResult(config.trial_id, "finished", (), seconds, 20))
        writer.close()
        return sweep

    def learn(self, device: str = "cpu", threads: int = 1) -> tuple[int, CostModel]:
        cost, configs = CostModel(), [self.space.base_config(50)]
        return learn_from_storage(cost, self.folder, configs, device, threads), cost


@pytest.fixture
def storage(tmp_path: Path, space: Space) -> Storage:
    return Storage(tmp_path, space)


def test_finished_sweeps_of_the_storage_teach(storage: Storage, config: TrialConfig) -> None:
    assert storage.learn()[0] == 0
    storage.add("one", 6.0)
    storage.add("other", 10.0)
    learned, cost = storage.learn()
    assert learned == 2
    assert cost.trial_seconds(config) == pytest.approx(8.0)


@pytest.mark.parametrize(
    "host", [{"device": "cuda"}, {"threads": 2}, {"processor": "another"}], ids=str
)
def test_trials_of_other_workers_do_not(storage: Storage, host: dict[str, object]) -> None:
    storage.add("elsewhere", 6.0, host)
    learned, cost = storage.learn()
    assert (learned, cost.knows(storage.space.base_config(50))) == (0, False)


def test_trials_of_another_kind_do_not(storage: Storage) -> None:
    storage.add("one", 6.0)
    other = [storage.space.base_config(50).replace(method="nagan")]
    assert learn_from_storage(CostModel(), storage.folder, other, "cpu", 1) == 0


def test_failed_trials_are_not_counted(storage: Storage, config: TrialConfig) -> None:
    sweep = storage.add("one", 6.0)
    writer = SpoolWriter(sweep / "spool", config.trial_id, storage.here)
    writer.start()
    writer.failed("KeyError: 1")
    writer.close()
    assert storage.learn()[0] == 0


def test_the_newest_sweeps_come_first(
    storage: Storage, config: TrialConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENOUGH", 1)
    for age, name, seconds in ((0, "b", 6.0), (100, "a", 99.0), (200, "c", 99.0)):
        plan = storage.add(name, seconds) / "plan.parquet"
        os.utime(plan, (1e9 - age, 1e9 - age))
    learned, cost = storage.learn()
    assert learned == 1
    assert cost.trial_seconds(config) == pytest.approx(6.0)


def test_a_damaged_plan_is_passed_over(storage: Storage) -> None:
    (storage.add("damaged", 6.0) / "plan.parquet").write_bytes(b"PAR1")
    storage.add("whole", 6.0)
    assert storage.learn()[0] == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_probe_takes_time_and_leaves_the_threads(config: TrialConfig, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        probe = probe_seconds(config, None, "cpu", 3 - threads)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert 0.0 < probe.train < 60.0 and 0.0 < probe.pretrain < 60.0


def test_a_probe_scales_with_the_steps_and_works_for_the_shortest_training(space: Space) -> None:
    config = space.base_config(50)
    shortest = probe_seconds(config.replace(steps=1, evaluations=1), None, "cpu")
    longer = probe_seconds(config.replace(steps=2000, pretrain_steps=0), None, "cpu")
    assert 0.0 < shortest.train < longer.train
    assert longer.pretrain == 0.0


def test_a_probe_may_be_given_its_data(
    config: TrialConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = load_dataset("digits", None)

    def absent(config: TrialConfig, data_dir: Path | None) -> Dataset:
        raise DataError("absent")

    monkeypatch.setattr(seed_data, "load", absent)
    with pytest.raises(DataError):
        probe_seconds(config, None, "cpu")
    assert probe_seconds(config, None, "cpu", dataset=digits).train > 0.0


def test_a_probe_times_the_players_that_a_method_pretrains(config: TrialConfig) -> None:
    """Each as often as it says; a teacher's longer pretraining is not trained for the probe."""
    codis = probe_seconds(config.replace(method="codis"), None, "cpu")
    assert codis.pretrain == 0.0
    mimic = config.replace(method="mimic", pretrain_steps=0)
    assert probe_seconds(mimic, None, "cpu").pretrain == 0.0
    long = probe_seconds(mimic.replace(teacher_pretrain_steps=10**9), None, "cpu")
    assert 1e3 < long.pretrain


def test_a_probe_counts_the_gradients_that_are_logged_at_every_check(config: TrialConfig) -> None:
    logged = config.replace(log_gradient_variance=True, gradient_batches=10**6)
    assert probe_seconds(logged, None, "cpu").train > 1e3
