"""What a trial wants against what the machines have."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.options import Options
from sweeps.resources import PreflightError, check_resources, parallel_trials

OPTIONS = Options(
    mode="study", quick=False, data_dir=None, storage=Path("sweep_runs"), tracking_uri="x",
    cpus_per_trial=1.0, gpus_per_trial=None, seed=0, command="python sweeps/run.py toy",
)  # fmt: skip
SMALL, BIG = {"CPU": 4.0, "GPU": 0.0}, {"CPU": 16.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("wanted", "nodes", "at_a_time"),
    [
        ({"CPU": 1, "GPU": 0}, [SMALL], 4),
        ({"CPU": 3, "GPU": 0}, [SMALL, SMALL], 2),  # two threes do not fit into a four and a four
        ({"CPU": 0.5, "GPU": 0}, [SMALL], 8),
        ({"CPU": 0.1, "GPU": 0}, [{"CPU": 1.0}], 10),  # in spite of binary fractions
        ({"CPU": 1, "GPU": 0.25}, [SMALL, BIG], 8),
        ({"CPU": 4, "GPU": 0.25}, [BIG], 4),
        ({"CPU": 1, "GPU": 0.6}, [{"CPU": 16.0, "GPU": 3.0}], 3),  # not 3 / 0.6: none is cut
        ({"CPU": 1, "GPU": 2}, [BIG, BIG], 2),
    ],
)
def test_trials_at_a_time(
    wanted: dict[str, float], nodes: list[dict[str, float]], at_a_time: int
) -> None:
    assert check_resources(wanted, nodes) == at_a_time


@pytest.mark.parametrize(
    ("wanted", "nodes", "parts"),
    [
        ({"CPU": 5, "GPU": 0}, [SMALL, SMALL], ["5 CPUs", "largest of Ray's 2 has 4 and 0",
                                                "lower --cpus-per-trial"]),
        ({"CPU": 1, "GPU": 0.5}, [SMALL], ["0.5 GPUs", "lower --gpus-per-trial"]),
        ({"CPU": 32, "GPU": 4}, [BIG], ["lower --cpus-per-trial or --gpus-per-trial"]),
        ({"CPU": 16, "GPU": 1}, [{"CPU": 32.0}, {"CPU": 8.0, "GPU": 1.0}],
         ["none of Ray's 2 has both", "lower --cpus-per-trial or --gpus-per-trial"]),
        ({"CPU": 1, "GPU": 0}, [], ["Ray's 0", "--cpus-per-trial"]),
    ],
)  # fmt: skip
def test_a_trial_that_would_wait_for_ever_is_refused(
    wanted: dict[str, float], nodes: list[dict[str, float]], parts: list[str]
) -> None:
    with pytest.raises(PreflightError) as refused:
        check_resources(wanted, nodes)
    assert all(part in str(refused.value) for part in parts), refused.value


def test_a_trial_gets_a_quarter_of_a_gpu_where_there_is_one() -> None:
    assert parallel_trials(OPTIONS, [SMALL]) == (0.0, 4)
    assert parallel_trials(OPTIONS, [SMALL, BIG]) == (0.25, 8)
    assert parallel_trials(replace(OPTIONS, gpus_per_trial=0.0), [SMALL, BIG]) == (0.0, 20)
    assert parallel_trials(replace(OPTIONS, gpus_per_trial=1.0), [SMALL, BIG]) == (1.0, 2)


def test_without_preflight_nodes_may_be_yet_to_come() -> None:
    options = replace(OPTIONS, cpus_per_trial=8.0)
    with pytest.raises(PreflightError):
        parallel_trials(options, [SMALL])
    assert parallel_trials(replace(options, preflight=False), [SMALL]) == (0.0, 1)


@pytest.mark.parametrize("preflight", [True, False])
@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"gpus_per_trial": 1.5}, "--gpus-per-trial 1.5"),
        ({"gpus_per_trial": 0.00001}, "--gpus-per-trial 1e-05"),
        ({"gpus_per_trial": math.inf}, "--gpus-per-trial inf"),
        ({"cpus_per_trial": math.nan}, "--cpus-per-trial nan"),
        ({"cpus_per_trial": 0.33333}, "--cpus-per-trial 0.33333"),
    ],
)
def test_what_ray_cannot_share_out_is_refused(
    changes: dict[str, float], part: str, preflight: bool
) -> None:
    with pytest.raises(PreflightError, match=part):
        parallel_trials(replace(OPTIONS, preflight=preflight, **changes), [BIG])  # type: ignore[arg-type]
