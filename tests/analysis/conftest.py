"""Fixtures: a real MLflow store, made once, and a working folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tracking URI of an MLflow store with an empty experiment `empty`; made once."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    MlflowClient(tracking_uri=uri).create_experiment("empty")
    return uri


@pytest.fixture
def experiment(store: str, tmp_path: Path) -> Callable[[str], tuple[MlflowClient, str]]:
    """A function that makes a new experiment and returns a client and the experiment's id."""

    def make(name: str) -> tuple[MlflowClient, str]:
        client = MlflowClient(tracking_uri=store)
        return client, client.create_experiment(name, (tmp_path / "artifacts").as_uri())

    return make


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
