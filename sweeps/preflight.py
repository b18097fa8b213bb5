"""Checks before anything costs: every reason that would end a sweep later ends it now."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kdgan_core.config import TrialConfig, score_of
from sweeps.cost import Probe, probe_seconds
from sweeps.courier import LOCAL_SECONDS
from sweeps.resources import PreflightError
from sweeps.spool import read_spool, spool_path
from sweeps.worker import Training, Workers

STORE_SECONDS = 30.0  # for the tracking store to answer
NODE_SECONDS = 60.0  # for a node to say whether it sees the storage
WORKER_SECONDS = 300.0  # for a first worker to start, pretrain nothing and train a few rounds
PROBE_SECONDS = 60.0  # more for every further kind of trial that is timed
REHEARSAL_ROUNDS = 2
LITTLE_SPACE = 1_000_000_000  # bytes: below, the user is warned


class StoreCheck:
    """That the tracking store answers, can be written and has today's tables; a new one is made.

    Asked in a thread, so that Ray can start meanwhile; MLflow's import alone takes a second.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self._is_sqlite = tracking_uri.startswith("sqlite:///")
        self._problem = "it has not answered"
        self._asking = threading.Thread(target=self._ask, daemon=True)  # a hung server must not
        self._asking.start()  # hang the sweep

    def _ask(self) -> None:
        from sweeps.store import open_store, quiet_mlflow

        try:
            quiet_mlflow()
            open_store(self._uri).search_experiments(max_results=1)
            if self._is_sqlite:
                _check_sqlite(self._uri)
            self._problem = ""
        except Exception as error:  # whatever it is, the store is of no use
            self._problem = f"{type(error).__name__}: {_first_line(error)}"

    def wait(self) -> None:
        """Waits for the answer.

        Raises:
            PreflightError: the store cannot be used.
        """
        # Eight sweeps that start at once make a new file one after the other.
        self._asking.join(LOCAL_SECONDS if self._is_sqlite else STORE_SECONDS)
        if self._problem:
            raise PreflightError(
                f"the tracking store {self._uri} cannot be used ({self._problem}): start it, or"
                " choose another with --tracking-uri, or train without it (--skip-preflight) and"
                " send the runs later with sweeps/backfill.py"
            )


def _check_sqlite(tracking_uri: str) -> None:
    """Writes something, and takes it back.

    Raises:
        sqlite3.OperationalError: the file cannot be written.
    """
    path = Path(tracking_uri.removeprefix("sqlite:///").partition("?")[0])
    with contextlib.closing(sqlite3.connect(path, timeout=STORE_SECONDS)) as store:
        try:
            store.execute("BEGIN IMMEDIATE")  # of no effect in a file that is read-only
            store.execute("CREATE TABLE preflight (x)")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):  # by another sweep, which so shows that it can be
                raise
        store.rollback()


def check_storage(folder: Path) -> str:
    """A warning where little space is left, else "".

    Raises:
        PreflightError: the folder cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise PreflightError(f"the storage folder {folder} cannot be written ({error})") from None
    if free < LITTLE_SPACE:
        return f"only {free / 1e6:.0f} MB are left on the storage folder's disk"
    return ""


def check_nodes(folder: Path) -> None:
    """Every node of the cluster must see the storage folder.

    Raises:
        PreflightError: one does not, or cannot write there, or does not answer.
    """
    token = uuid.uuid4().hex
    try:
        (folder / f"seen-{token}").write_text(token)
        answers = []
        for node in ray.nodes():  # type: ignore[no-untyped-call]
            if not node["Alive"] or not node["Resources"].get("CPU"):
                continue
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(_sees).options(num_cpus=0, scheduling_strategy=here)
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            answers.append((name, task.remote(str(folder.resolve()), token)))
        deadline = time.monotonic() + NODE_SECONDS
        for name, answer in answers:
            try:
                problem = ray.get(answer, timeout=max(0.1, deadline - time.monotonic()))
            except (GetTimeoutError, RayError) as error:
                problem = f"it did not answer ({type(error).__name__})"
            if problem:
                raise PreflightError(
                    f"node {name} cannot use the storage folder {folder.resolve()}: {problem};"
                    " --storage must be a folder that every machine of the cluster sees"
                )
    except OSError as error:
        raise PreflightError(f"the storage folder {folder} cannot be written ({error})") from None
    finally:
        for path in folder.glob(f"seen-{token}*"):
            path.unlink(missing_ok=True)


def _sees(folder: str, token: str) -> str:
    """On a node: "" if the folder is the driver's and can be written, else why not."""
    try:
        if (Path(folder) / f"seen-{token}").read_text() != token:
            return "it sees another folder there"
        (Path(folder) / f"seen-{token}-{os.getpid()}-{uuid.uuid4().hex}").touch()
    except OSError as error:
        return str(error)
    return ""


def rehearse(
    configs: Sequence[TrialConfig], workers: Workers, folder: Path, end_to_end: bool
) -> list[Probe]:
    """Runs the first config, shortened, on a worker from end to end, and times all of them there.

    Args:
        configs: one of every kind whose cost is not known; the first is the cheapest row.
        workers: what a trial gets.
        folder: the sweep's; a folder of the rehearsal's own is made there and removed.
        end_to_end: whether to run the first one to its result; else only to time.

    Raises:
        PreflightError: no worker starts, or the trial fails.
    """
    own = folder / f"rehearsal-{uuid.uuid4().hex[:8]}"
    moved = {"spool": str(own.resolve() / "spool"), "checkpoints": str(own.resolve() / "kept")}
    task = ray.remote(_rehearse).options(num_cpus=workers.cpus, num_gpus=workers.gpus)
    plain = [config.as_dict() for config in configs]
    limit = WORKER_SECONDS + PROBE_SECONDS * (len(configs) - 1)
    try:
        pending = task.remote(plain, {**vars(workers), **moved}, end_to_end)
        problem, probes = ray.get(pending, timeout=limit)
    except GetTimeoutError:
        raise PreflightError(
            f"no worker has run a trial's first steps within {limit:.0f} s: is the"
            " cluster busy with something else? --skip-preflight goes on without this check"
        ) from None
    except RayError as error:
        raise PreflightError(f"the rehearsal failed on a worker: {_last_line(error)}") from None
    finally:
        shutil.rmtree(own, ignore_errors=True)
    if problem:
        raise PreflightError(f"the rehearsal of the cheapest trial failed: {problem}")
    return list(probes)


def _rehearse(
    configs: list[dict[str, Any]], workers: dict[str, Any], end_to_end: bool
) -> tuple[str, list[Probe]]:
    """On a worker: why the shortened trial failed ("" if it did not), and each config's Probe."""
    import torch

    given = Workers(**workers)
    torch.set_num_threads(given.threads)
    typed = [TrialConfig.from_dict(config) for config in configs]
    data_dir = Path(given.data_dir) if given.data_dir else None
    probes = [probe_seconds(config, data_dir, given.device, given.threads) for config in typed]
    if not end_to_end:
        return "", probes
    rounds = min(REHEARSAL_ROUNDS, typed[0].rounds)
    short = typed[0].replace(
        steps=rounds * typed[0].classifier_steps, evaluations=rounds,
        pretrain_steps=0, teacher_pretrain_steps=0, seeds=typed[0].seeds[:1],
    )  # fmt: skip
    training = Training(short, Workers(**{**workers, "cache_dir": workers["spool"]}))
    training.begin()
    while not training.trial.done:
        training.advance()
    training.close()
    result = read_spool(spool_path(Path(given.spool), short.trial_id)).result
    if result is None:
        return "it left no result in its spool", []
    if any(score_of(seed, "pretrained_valid_") is None for seed in result["seeds"]):
        return "its untrained players give no number", []
    return "", probes


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
