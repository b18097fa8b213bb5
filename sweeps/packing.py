"""How many trials share a GPU, from what one of them takes of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, RayError

from kdgan_core.config import TrialConfig
from sweeps.resources import FINEST
from sweeps.worker import Workers

if TYPE_CHECKING:
    from kdgan_core.stacked.packs import Group

MOST_TRIALS = 16  # on one GPU: from here on their launches wait for each other
FULL = 0.95  # of a GPU's time: more trials would only make each other slower
SPARE_MEMORY = 1.25  # what was reserved in a few rounds, and a little more
ROUNDS = 20  # that are watched
WARM_UP_ROUNDS = 5  # a stack of seeds has captured its graph by then
MEASURE_SECONDS = 300.0


class PackingError(Exception):
    """What a trial takes of a GPU could not be measured; the message says why."""


class GpuUse(NamedTuple):
    """What one trial takes of a GPU.

    Attributes:
        memory: bytes, what CUDA itself takes for a process included.
        total: bytes of the GPU.
        busy: share of the time in which it computes, in [0, 1].
    """

    memory: float
    total: float
    busy: float


def trials_a_gpu(use: GpuUse, cpus_a_gpu: float) -> int:
    """How many trials like this one share a GPU.

    As many as find memory, as keep it busy together, and as have the cores that they want.

    Args:
        use: of one trial.
        cpus_a_gpu: trials' worth of cores that a machine has for each of its GPUs.
    """
    by_memory = use.total / (SPARE_MEMORY * use.memory)
    by_time = FULL / max(use.busy, FULL / MOST_TRIALS)
    most = min(by_memory, max(1.0, by_time), cpus_a_gpu, MOST_TRIALS)
    return max(1, math.floor(most + 1e-9))


def measured_share(
    config: TrialConfig, workers: Workers, nodes: Sequence[Mapping[str, float]]
) -> float:
    """GPUs of a trial, 1/k, from a few rounds of `config` on one that is free.

    Args:
        config: of the trials; the largest where they differ.
        workers: where a trial finds its data.
        nodes: CPU and GPU of each; one has a GPU at least.

    Raises:
        PackingError: the rounds failed there, or no GPU came free.
    """
    task = ray.remote(_measure).options(num_cpus=0, num_gpus=1)
    try:
        use = ray.get(task.remote(config.as_dict(), vars(workers)), timeout=MEASURE_SECONDS)
    except (GetTimeoutError, RayError) as error:
        raise PackingError(str(error).strip().splitlines()[-1]) from error
    cores = min(node["CPU"] / workers.cpus / node["GPU"] for node in nodes if node["GPU"])
    return round(1.0 / trials_a_gpu(use, cores), FINEST)


def _measure(config: dict[str, Any], workers: dict[str, Any]) -> GpuUse:
    """On a worker that has a GPU to itself."""
    from pathlib import Path

    import torch

    from kdgan_core.data.seed_data import load
    from kdgan_core.precision import matmul_precision
    from kdgan_core.stacked.packs import Packs, parse_pack
    from sweeps.cost import untrained_replica

    typed, given = TrialConfig.from_dict(config), Workers(**workers)
    free, total = torch.cuda.mem_get_info()
    data = load(typed, Path(given.data_dir) if given.data_dir else None)
    replicas = [
        untrained_replica(typed.replace(seeds=(seed,)), data, "cuda") for seed in typed.seeds
    ]
    device = torch.device("cuda")
    group = Packs(typed, device, parse_pack(given.pack)).of(replicas)[0]
    with matmul_precision(typed.matmul_precision, device):
        group.train_to(WARM_UP_ROUNDS)
        busy = busy_share(group, ROUNDS)
        group.validate()
    left, _ = torch.cuda.mem_get_info()
    return GpuUse(max(1.0, free - left), total, busy)


def busy_share(group: Group, rounds: int) -> float:
    """Share of the time of some rounds in which the GPU computes, by torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    last = group.replicas[0].round + rounds
    started = time.perf_counter()
    group.train_to(last)  # unwatched: the profiler itself takes time
    seconds = time.perf_counter() - started
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
        group.train_to(last + rounds)
    kernels = sum(float(event.self_device_time_total) for event in watched.key_averages())
    return min(1.0, kernels * 1e-6 / seconds)
