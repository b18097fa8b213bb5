"""What a trial wants and what the machines have. Importable without Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeps.options import Options

DEFAULT_GPUS_PER_TRIAL = 0.25  # small players: several trials keep one GPU busy
FINEST = 4  # digits after the point that Ray counts
OPTIONS = {"CPU": "--cpus-per-trial", "GPU": "--gpus-per-trial"}


class PreflightError(Exception):
    """The sweep could not run to its end; the message says why and what to do."""


def check_resources(wanted: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> int:
    """How many trials run at the same time.

    Args:
        wanted: a trial's CPU and GPU.
        nodes: each node's CPU and GPU.

    Raises:
        PreflightError: no single node has what a trial wants, so that it would wait for ever.
    """
    fits = 0
    for node in nodes:
        places = (_places(k, node.get(k, 0.0), want) for k, want in wanted.items() if want)
        fits += min(places)
    if fits:
        return fits
    have = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in OPTIONS}
    lacking = [option for name, option in OPTIONS.items() if wanted.get(name, 0.0) > have[name]]
    machines = f"of Ray's {len(nodes)}"
    raise PreflightError(
        f"no trial could ever start: each wants {wanted.get('CPU', 0):g} CPUs and"
        f" {wanted.get('GPU', 0):g} GPUs on one machine, and "
        + (
            f"the largest {machines} has {have['CPU']:g} and {have['GPU']:g}"
            if lacking
            else f"none {machines} has both"
        )
        + f"; lower {' or '.join(lacking or OPTIONS.values())}"
    )


def parallel_trials(options: Options, nodes: Sequence[Mapping[str, float]]) -> tuple[float, int]:
    """GPUs of a trial, and how many trials run at the same time on these nodes.

    Without preflight at least one, on nodes that may be yet to come.

    Raises:
        PreflightError: no single node has what a trial wants, or Ray cannot share it out so.
    """
    gpus = options.gpus_per_trial
    if gpus is None:
        has_gpu = any(node.get("GPU", 0.0) > 0 for node in nodes)
        gpus = DEFAULT_GPUS_PER_TRIAL if has_gpu else 0.0
    wanted = {"CPU": options.cpus_per_trial, "GPU": gpus}
    for name, number in wanted.items():
        if number != round(number, FINEST):
            raise PreflightError(f"{OPTIONS[name]} {number:g}: Ray counts in steps of 0.0001")
    if gpus > 1 and gpus % 1:  # infinity too
        raise PreflightError(f"--gpus-per-trial {gpus:g}: more than one must be whole ones")
    try:
        return gpus, check_resources(wanted, nodes)
    except PreflightError:
        if options.preflight:
            raise
        return gpus, 1


def _places(name: str, has: float, want: float) -> int:
    """How many trials find what they want of a node; Ray gives a trial no pieces of two GPUs."""
    if name == "GPU" and want < 1:
        return int(has) * int(1 / want + 1e-9)
    return int(has / want + 1e-9)
