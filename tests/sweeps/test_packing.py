"""How many trials share a GPU; what is measured there needs one, and is skipped without."""

from __future__ import annotations

import pytest
import torch

from kdgan_core import TrialConfig
from kdgan_core.data.seed_data import load
from kdgan_core.stacked.packs import Packs
from sweeps.cost import untrained_replica
from sweeps.packing import MOST_TRIALS, GpuUse, _measure, busy_share, trials_a_gpu

GIB = float(1 << 30)
SMALL = TrialConfig(
    dataset="digits", architecture="small", train_size=50, valid_size=400, steps=400, seeds=(0,)
)


@pytest.mark.parametrize(
    "memory, busy, cores, trials",
    [
        (1 * GIB, 0.10, 100, 9),  # 95 % of its time
        (10 * GIB, 0.01, 100, 1),  # 24 / (1.25 x 10) GiB
        (2 * GIB, 0.01, 100, 9),  # 24 / (1.25 x 2) GiB
        (1 * GIB, 0.10, 4, 4),  # cores
        (0.1 * GIB, 0.001, 100, MOST_TRIALS),
        (0.1 * GIB, 0.0, 100, MOST_TRIALS),
        (1 * GIB, 1.0, 100, 1),
        (40 * GIB, 0.1, 100, 1),  # too large even for one: training says so, not this
        (1 * GIB, 0.1, 0.5, 1),
    ],
)
def test_memory_time_and_cores_each_may_be_what_is_scarce(
    memory: float, busy: float, cores: float, trials: int
) -> None:
    assert trials_a_gpu(GpuUse(memory, 24 * GIB, busy), cores) == trials


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_trial_is_measured_on_a_gpu() -> None:
    workers = {"cpus": 1.0, "gpus": 1.0, "data_dir": None, "cache_dir": "", "spool": "",
               "checkpoints": ""}  # fmt: skip
    use = _measure(SMALL.as_dict(), workers)
    assert 0.0 < use.busy <= 1.0
    assert 1e6 < use.memory < use.total


def test_without_a_gpu_nothing_computes_on_one() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    replica = untrained_replica(SMALL, load(SMALL, None), "cpu")
    (group,) = Packs(SMALL, torch.device("cpu"), "auto").of([replica])
    assert busy_share(group, 2) == 0.0
    assert replica.round == 4
