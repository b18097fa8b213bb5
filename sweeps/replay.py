"""The command line that runs one recorded trial again and compares."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from kdgan_core.config import FIELDS, TrialConfig, parse_value
from sweeps.spool import SpoolState, read_spool
from sweeps.words import UsageProblem

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.worker import Workers

# Another machine, device, thread count or version rounds differently, and training amplifies it.
ELSEWHERE_TOLERANCE = 0.02
VALID_SCORES = ("valid_accuracy", "valid_map")
NOT_COMPARED = ("seconds", "train_seconds", "pretrain_seconds")  # also of a seed

Metrics = dict[tuple[str, int], float]  # (name, step) -> value


class ReplayError(Exception):
    """The run cannot be replayed here; the message says why and what to do."""


class RecordedTrial(NamedTuple):
    """A trial as the store has it.

    Attributes:
        config: what was trained.
        tags: of the trial's run.
        sweep: tags of its parent run.
        metrics: every value with its step.
    """

    config: TrialConfig
    tags: Mapping[str, str]
    sweep: Mapping[str, str]
    metrics: Metrics


class Check(NamedTuple):
    """A circumstance as recorded and as it is here."""

    what: str
    recorded: str
    here: str

    @property
    def agrees(self) -> bool:
        return self.recorded == self.here


def read_trial(run_id: str, tracking_uri: str) -> RecordedTrial:
    """A trial's run and what its parent says.

    Raises:
        ReplayError: there is no such run, or it is not a trial's.
    """
    from sweeps.store import open_store, quiet_mlflow

    quiet_mlflow()
    path = Path(tracking_uri.removeprefix("sqlite:///"))
    if tracking_uri.startswith("sqlite:///") and not path.is_file():
        raise ReplayError(f"there is no store at {path}: name another with --tracking-uri")
    try:
        client = open_store(tracking_uri)
        run = client.get_run(run_id)
        tags = dict(run.data.tags)
        if tags.get("kdgan.kind") != "trial":
            raise ReplayError(
                f"run {run_id} is not a trial's: choose one of those nested below a sweep's"
            )
        parent = client.get_run(tags["mlflow.parentRunId"])
        metrics = {
            (point.key, point.step): point.value
            for name in run.data.metrics
            for point in client.get_metric_history(run_id, name)
        }
    except ReplayError:
        raise
    except Exception as error:  # MLflow raises many kinds; all of them end here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise ReplayError(f"run {run_id} cannot be read from {tracking_uri}: {reason}") from None
    return RecordedTrial(config_of(run.data.params), tags, dict(parent.data.tags), metrics)


def config_of(params: Mapping[str, str]) -> TrialConfig:
    """The configuration that a run's params hold; a field they lack is at its default.

    Raises:
        ReplayError: a param is not a value of its field.
    """
    values: dict[str, object] = {}
    for field in FIELDS:
        if field.name not in params:
            continue
        text = params[field.name]
        try:
            values[field.name] = (
                json.loads(text) if text.startswith("[") else parse_value(field.name, text)
            )
        except ValueError as error:
            raise ReplayError(f"the run's params cannot be read: {error}") from None
    try:
        return TrialConfig.from_dict(values)
    except ValueError as error:
        raise ReplayError(f"the run's params are of another version: {error}") from None


def circumstances(trial: RecordedTrial, workers: Workers) -> Iterator[Check]:
    """Code, packages, data and hardware: recorded, and here."""
    from kdgan_core.data.seed_data import load
    from sweeps import environment
    from sweeps.manifest import code_hash

    data_dir = Path(workers.data_dir) if workers.data_dir else None
    yield Check("trial_id", trial.tags["trial_id"], trial.config.trial_id)
    yield Check("training code", trial.sweep.get("code", "unknown"), code_hash())
    yield Check("commit", trial.sweep.get("commit", "unknown"), environment.code_version()[0])
    recorded = json.loads(trial.sweep.get("versions", "{}"))
    here = environment.package_versions()
    for name in ("torch", "numpy"):
        yield Check(name, recorded.get(name, "unknown"), here[name])
    checksum = load(trial.config, data_dir).checksum
    yield Check("data", trial.sweep.get("data_checksum", "unknown"), checksum)
    yield Check("device", trial.tags.get("device", "unknown"), workers.device)
    yield Check(
        "processor", trial.tags.get("processor", "unknown"),
        environment.processor(workers.device),
    )  # fmt: skip
    yield Check("threads", trial.tags.get("threads", "unknown"), str(workers.threads))


def run_again(trial: RecordedTrial, workers: Workers, console: Console) -> SpoolState:
    """Trains the trial as a worker would, players pretrained anew; a stopped one is stopped at
    the same check.

    Raises:
        DataError: the data are absent or damaged.
    """
    import torch

    from sweeps.cost import format_seconds
    from sweeps.spool import SpoolWriter
    from sweeps.worker import Training

    torch.set_num_threads(workers.threads)
    until = math.inf
    if trial.tags["outcome"] == "stopped":
        until = max(step for name, step in trial.metrics if name in VALID_SCORES)
    training = Training(trial.config, workers)
    training.begin()
    started = time.monotonic()
    with console.status("pretraining") as status:
        while not training.trial.done:
            evaluation = training.advance()
            if until <= evaluation.step < evaluation.steps:
                break
            share = evaluation.step / evaluation.steps
            if share:
                left = (time.monotonic() - started) * (1.0 - share) / share
                status.update(f"{100 * share:.0f} %, about {format_seconds(left)} left")
    training.close()
    state = read_spool(training.spool.path)
    if state.result is None:
        spool = SpoolWriter(Path(workers.spool), trial.config.trial_id)
        spool.stopped(state, trial.config.seeds)
        spool.close()
    return read_spool(training.spool.path)


def replayed_metrics(state: SpoolState) -> Metrics:
    """What the recorder would write for this spool, by name and step."""
    from sweeps.run_facts import trial_metrics

    return {(point.name, point.step): point.value for point in trial_metrics(state)}


def differences(recorded: Metrics, replayed: Metrics) -> dict[tuple[str, int], float]:
    """(name, step) -> absolute difference, relative where a value is above 1; infinite where one
    side has no value."""
    found = {}
    for key in sorted(recorded.keys() | replayed.keys()):
        if key[0].partition("/")[0] in NOT_COMPARED:
            continue
        if key not in recorded or key not in replayed:
            found[key] = math.inf
        else:
            scale = max(1.0, abs(recorded[key]))
            found[key] = abs(recorded[key] - replayed[key]) / scale
    return found


def print_comparison(
    recorded: Metrics, replayed: Metrics, found: Mapping[tuple[str, int], float], console: Console
) -> None:
    """A line for every final metric, one for all of the histories."""
    from rich.table import Table

    last = max((step for _, step in recorded), default=0)
    steps: dict[str, int] = {}
    for name, _ in found:
        steps[name] = steps.get(name, 0) + 1
    table = Table("metric", "recorded", "replayed", "difference", box=None)
    histories = [value for key, value in found.items() if steps[key[0]] > 1]
    for (name, step), difference in found.items():
        if steps[name] == 1 or (step == last and name in VALID_SCORES):
            values = (f"{m.get((name, step), math.nan):.6f}" for m in (recorded, replayed))
            table.add_row(name, *values, f"{difference:.3g}")
    console.print(table)
    if histories:
        console.print(
            f"histories: {len(histories)} values, largest difference {max(histories):.3g}"
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run_id")
@click.option(
    "--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True,
    default="sqlite:///mlflow.db", show_default=True, help="MLflow store or server.",
)  # fmt: skip
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="KDGAN_DATA", show_envvar=True,
    help="Data folder. Default: the user's cache directory.",
)  # fmt: skip
@click.option("--device", type=click.Choice(("cpu", "cuda")), help="Default: the recorded one.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0),
    help="Largest difference that is none; relative for values above 1. Default: 0 where device,"
    f" processor, threads, packages and code are the recorded ones, else {ELSEWHERE_TOLERANCE}.",
)  # fmt: skip
def main(
    run_id: str, tracking_uri: str, data_dir: Path | None, device: str | None,
    tolerance: float | None,
) -> None:  # fmt: skip
    """Train the trial of MLflow run RUN_ID again and compare.

    Same configuration, seeds, device and threads; players are pretrained anew. Exit code: 0 if
    every metric agrees within the tolerance, 1 if one does not, 2 if the run cannot be replayed.
    On the CPU it was recorded on, with the same packages, a replay is equal to the bit.
    """
    from rich.console import Console

    from kdgan_core.data import DataError

    console = Console(highlight=False, soft_wrap=True)
    try:
        trial = read_trial(run_id, tracking_uri)
        with tempfile.TemporaryDirectory() as folder:
            workers = _workers(trial, Path(folder), data_dir, device)
            sys.exit(_replay(trial, workers, tolerance, console))
    except (DataError, ReplayError) as error:
        raise UsageProblem(str(error)) from None
    except KeyboardInterrupt:
        console.print("interrupted: nothing was compared")
        sys.exit(130)


def _replay(
    trial: RecordedTrial, workers: Workers, tolerance: float | None, console: Console
) -> int:
    checks = list(circumstances(trial, workers))
    for check in checks:
        said = "as recorded" if check.agrees else f"{check.recorded} recorded, {check.here} here"
        console.print(f"{check.what:>13}: {check.here if check.agrees else ''} {said}")
    by_name = {check.what: check for check in checks}
    if not by_name["data"].agrees:
        raise ReplayError("the data are not those it was trained on: name theirs with --data-dir")
    if not by_name["trial_id"].agrees:
        raise ReplayError(
            "this version of the code has other fields than the run's: check out the commit above"
        )
    if tolerance is None:
        same = all(check.agrees for check in checks if check.what != "commit")
        tolerance = 0.0 if same and workers.device == "cpu" else ELSEWHERE_TOLERANCE
    if trial.tags["outcome"] == "failed":
        return _replay_failure(trial, workers, console)
    state = run_again(trial, workers, console)
    replayed = replayed_metrics(state)
    found = differences(trial.metrics, replayed)
    print_comparison(trial.metrics, replayed, found, console)
    outcome = state.outcome or "failed"
    if outcome != trial.tags["outcome"]:
        console.print(f"outcome: {trial.tags['outcome']} recorded, {outcome} replayed")
        return 1
    worst = max(found.values(), default=0.0)
    verdict = "agree" if worst <= tolerance else "DIFFER"
    console.print(f"recorded and replayed {verdict}: {worst:.3g}, tolerance {tolerance:g}")
    return 0 if worst <= tolerance else 1


def _replay_failure(trial: RecordedTrial, workers: Workers, console: Console) -> int:
    """A failed trial agrees if it fails again in the same words."""
    try:
        run_again(trial, workers, console)
        here = "it does not fail"
    except Exception as error:  # the very thing that is compared
        here = f"{type(error).__name__}: {error}".splitlines()[0]
    console.print(f"recorded: {trial.tags.get('error', 'no error')}\nreplayed: {here}")
    return 0 if here in trial.tags.get("error", "") else 1


def _workers(
    trial: RecordedTrial, folder: Path, data_dir: Path | None, device: str | None
) -> Workers:
    from sweeps.worker import Workers

    wanted = device or trial.tags.get("device", "cpu")
    if wanted == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ReplayError("it was trained on a GPU, and there is none here: add --device cpu")
    return Workers(
        cpus=float(trial.tags.get("threads", "1")), gpus=1.0 if wanted == "cuda" else 0.0,
        data_dir=str(data_dir) if data_dir else None, cache_dir=str(folder / "cache"),
        spool=str(folder / "spool"), checkpoints=str(folder / "checkpoints"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
