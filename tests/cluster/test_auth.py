"""The token's file: made once, whole, and for its owner alone."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.auth import ensure_token, headers
from cluster.errors import ClusterError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_made_where_ray_looks_and_private(home: Path) -> None:
    old = os.umask(0)  # permissions must not hang on it
    try:
        path = ensure_token()
    finally:
        os.umask(old)
    assert path == home / ".ray" / "auth_token"
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert len(path.read_text()) == 64
    assert list(path.parent.iterdir()) == [path]  # no draft is left


def test_kept_once_it_is_there() -> None:
    first = ensure_token().read_text()
    assert ensure_token().read_text() == first


def test_made_where_the_environment_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "elsewhere" / "token"))
    assert ensure_token() == home / "elsewhere" / "token"
    assert not (home / ".ray").exists()


@pytest.mark.parametrize("wide", [0o644, 0o640, 0o666, 0o604])
def test_what_others_can_read_is_tightened(home: Path, wide: int) -> None:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("f00\n")  # as Ray's own command leaves it
    path.chmod(wide)
    assert ensure_token().read_text() == "f00\n"
    assert mode(path) == 0o600
    assert headers() == {"Authorization": "Bearer f00"}


def test_many_at_once_agree_on_one_token() -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: ensure_token().read_text(), range(16)))
    assert len(set(paths)) == 1 and paths[0]


def test_an_empty_file_is_refused(home: Path) -> None:
    ensure_token().write_text("\n")
    with pytest.raises(ClusterError, match="is empty"):
        ensure_token()


def test_another_token_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    with pytest.raises(ClusterError, match="unset it"):
        ensure_token()
