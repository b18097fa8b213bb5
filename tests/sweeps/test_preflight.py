"""Preflight: each check on its own, and nodes and rehearsal once on a real Ray."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError

from kdgan_core import TrialConfig
from sweeps import preflight as module
from sweeps.execute import stop_ray
from sweeps.preflight import StoreCheck, check_nodes, check_storage, rehearse
from sweeps.resources import PreflightError
from sweeps.worker import Workers


def refused(check: Callable[..., object], *words: Any) -> str:
    with pytest.raises(PreflightError) as error:
        check(*words)
    sentence = str(error.value)
    assert len(sentence.splitlines()) == 1
    return sentence


def check_store(tracking_uri: str) -> None:
    StoreCheck(tracking_uri).wait()


def test_a_new_store_is_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mlflow.db"
    check_store(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as store:
        names = {name for (name,) in store.execute("SELECT name FROM sqlite_master")}
    assert {"experiments", "runs", "alembic_version"} <= names
    assert "preflight" not in names


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, but not listening
        uri = f"http://127.0.0.1:{held.getsockname()[1]}"
        sentence = refused(check_store, uri)
    for part in (uri, "refused", "--tracking-uri", "--skip-preflight", "sweeps/backfill.py"):
        assert part in sentence


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STORE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        sentence = refused(check_store, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "it has not answered" in sentence
    assert time.monotonic() - started < 5.0


def test_who_asks_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def opened(tracking_uri: str) -> None:
        assert release.wait(60.0)
        raise ValueError("of no use")

    monkeypatch.setattr("sweeps.store.open_store", opened)
    check = StoreCheck("http://127.0.0.1:1")
    release.set()
    assert "ValueError: of no use" in refused(check.wait)


@pytest.mark.parametrize(
    "uri", ["nonsense://x", "postgresql://", "/proc/version/mlruns", "sqlite:////proc/x/mlflow.db"]
)
def test_what_is_no_store(uri: str) -> None:
    assert uri in refused(check_store, uri)


@pytest.fixture
def copied(store: str, tmp_path: Path) -> Path:
    """A store of our own, the path of its file."""
    path = tmp_path / "mlflow.db"
    shutil.copy(store.removeprefix("sqlite:///"), path)
    return path


def test_a_file_that_is_no_store(copied: Path) -> None:
    copied.write_bytes(b"no database at all, but long enough to be looked at" * 40)
    assert "file is not a database" in refused(check_store, f"sqlite:///{copied}")


def test_a_store_of_another_version(copied: Path) -> None:
    with closing(sqlite3.connect(copied)) as store:
        store.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
        store.commit()
    sentence = refused(check_store, f"sqlite:///{copied}")
    assert "0123456789ab" in sentence or "schema" in sentence


def test_a_store_that_another_sweep_is_writing_is_fine(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STORE_SECONDS", 0.2)
    with closing(sqlite3.connect(copied)) as other:
        other.execute("BEGIN IMMEDIATE")
        check_store(f"sqlite:///{copied}")


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder that this process may read, but not write."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    user = os.geteuid()
    try:
        yield folder
    finally:
        if user == 0:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_store_that_cannot_be_written(copied: Path) -> None:
    with as_nobody() as folder:
        path = Path(shutil.copy(copied, folder / "mlflow.db"))
        path.chmod(0o444)
        folder.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)  # nothing is read-only to root
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            module._check_sqlite(f"sqlite:///{path}")


def test_a_storage_that_cannot_be_written(tmp_path: Path) -> None:
    assert str(tmp_path / "gone") in refused(check_storage, tmp_path / "gone")


def test_little_space_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, warning in ((2_000_000_000, ""), (3_000_000, "only 3 MB are left")):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, usage=usage: usage)
        assert check_storage(tmp_path).startswith(warning)
        assert bool(check_storage(tmp_path)) == bool(warning)
    assert list(tmp_path.iterdir()) == []


class FakeRay:
    """Two raylets on one machine, and one without cores; a node answers as it is told."""

    def __init__(self, answers: dict[str, Callable[[str, str], str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def nodes(self) -> list[dict[str, Any]]:
        resources = {"a": {"CPU": 2.0}, "b": {"CPU": 2.0}, "head": {"memory": 1.0}}
        return [
            {"Alive": True, "NodeID": node, "Resources": has, "NodeManagerHostname": "host",
             "NodeManagerAddress": f"10.0.0.{i}"}
            for i, (node, has) in enumerate(resources.items())
        ]  # fmt: skip

    def remote(self, function: object) -> FakeRay:
        return self

    def options(self, num_cpus: float, scheduling_strategy: str) -> SimpleNamespace:
        assert num_cpus == 0  # a busy cluster must not keep it waiting
        node = scheduling_strategy
        self.asked.append(node)
        return SimpleNamespace(remote=lambda *words: (node, words))

    def get(self, pending: tuple[str, tuple[str, str]], timeout: float) -> str:
        node, words = pending
        return self.answers[node](*words)


def away(folder: str, token: str) -> str:
    raise GetTimeoutError


@pytest.mark.parametrize(
    ("second", "part"),
    [
        (lambda folder, token: module._sees("/proc/nothing", token), "No such file"),
        (lambda folder, token: module._sees(folder, token + "x"), "No such file"),
        (away, "did not answer"),
    ],
)
@pytest.mark.parametrize("which", ["a", "b"])
def test_every_node_must_see_the_storage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    second: Callable[[str, str], str],
    part: str,
    which: str,
) -> None:
    fake = FakeRay({**dict.fromkeys("ab", module._sees), which: second})
    monkeypatch.setattr(module, "ray", fake)
    monkeypatch.setattr(module, "NodeAffinitySchedulingStrategy", lambda node, soft: node)
    sentence = refused(check_nodes, tmp_path)
    assert part in sentence and "--storage" in sentence
    assert f"node host (10.0.0.{'ab'.index(which)})" in sentence
    assert fake.asked == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


def test_a_node_with_another_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "seen-token").write_text("another's")
    assert "another folder" in module._sees(str(tmp_path), "token")
    (tmp_path / "seen-token").write_text("token")
    assert module._sees(str(tmp_path), "token") == ""


def test_a_storage_that_vanished_before_the_nodes_were_asked(tmp_path: Path) -> None:
    assert "cannot be written" in refused(check_nodes, tmp_path / "gone")


@pytest.fixture
def config(space: Any) -> TrialConfig:
    found: TrialConfig = space.base_config(50)
    return found


def workers(tmp_path: Path, cpus: float = 1.0) -> Workers:
    return Workers(cpus, 0.0, None, str(tmp_path / "cache"), str(tmp_path / "spool"),
                   str(tmp_path / "checkpoints"))  # fmt: skip


def test_the_rehearsed_trial_runs_to_a_result_and_is_timed(
    tmp_path: Path, config: TrialConfig
) -> None:
    problem, probes = module._rehearse([config.as_dict()], vars(workers(tmp_path)), True)
    assert problem == ""
    assert [len(probe) for probe in probes] == [2]
    assert len(list((tmp_path / "spool").glob("*.jsonl"))) == 1
    assert not (tmp_path / "cache").exists()


def test_without_preflight_it_is_only_timed(tmp_path: Path, config: TrialConfig) -> None:
    short = config.replace(steps=4, evaluations=1)
    plain = [config.as_dict(), short.as_dict()]
    problem, probes = module._rehearse(plain, vars(workers(tmp_path)), False)
    assert (problem, len(probes)) == ("", 2)
    assert probes[0][0] > probes[1][0] > 0.0
    assert list(tmp_path.iterdir()) == []


def test_nodes_and_rehearsal_on_a_real_ray(
    tmp_path: Path, config: TrialConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        check_nodes(tmp_path)
        (probe,) = rehearse([config], workers(tmp_path), tmp_path, True)
        assert probe.train > 0.0 < probe.pretrain
        lost = config.replace(dataset="mnist", architecture="paper")
        nowhere = Workers(**{**vars(workers(tmp_path)), "data_dir": "/proc/version"})
        sentence = refused(rehearse, [lost], nowhere, tmp_path, True)
        assert "/proc/version is a file" in sentence
        monkeypatch.setattr(module, "WORKER_SECONDS", 0.2)
        sentence = refused(rehearse, [config], workers(tmp_path, 4.0), tmp_path, True)
        assert "--skip-preflight" in sentence
    finally:
        stop_ray()
    assert list(tmp_path.iterdir()) == []
