"""Whence ssh is let in."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from typing import Any

import pytest

from cluster import addresses
from cluster.addresses import VARIABLE, ssh_addresses
from cluster.errors import ClusterError


def answer(monkeypatch: pytest.MonkeyPatch, body: bytes | Exception) -> None:
    def open_url(url: str, timeout: float) -> Any:
        assert url == addresses.LOOKUP and timeout > 0
        if isinstance(body, Exception):
            raise body
        return io.BytesIO(body)

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", open_url)


@pytest.mark.parametrize(
    ("given", "networks"),
    [
        ("198.51.100.7/32", ["198.51.100.7/32"]),
        ("198.51.100.7", ["198.51.100.7/32"]),
        ("198.51.100.7/24", ["198.51.100.0/24"]),
        ("203.0.113.9, 198.51.100.7/32", ["198.51.100.7/32", "203.0.113.9/32"]),
        ("2001:db8::1", ["2001:db8::1/128"]),
    ],
)
def test_what_the_user_says_counts(
    monkeypatch: pytest.MonkeyPatch, given: str, networks: list[str]
) -> None:
    answer(monkeypatch, AssertionError("nobody is asked"))
    monkeypatch.setenv(VARIABLE, given)
    assert ssh_addresses() == networks


@pytest.mark.parametrize("given", ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "2000::/3"])
def test_everybody_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(VARIABLE, f"198.51.100.7/32,{given}")
    with pytest.raises(ClusterError, match="would open ssh to much of the internet"):
        ssh_addresses()


def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "home")
    with pytest.raises(ClusterError, match="'home' is no address"):
        ssh_addresses()


def test_else_the_address_that_one_is_seen_at(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, b"198.51.100.7\n")
    assert ssh_addresses() == ["198.51.100.7/32"]


@pytest.mark.parametrize(
    "body", [b"<html>sign in to the network</html>", b"", urllib.error.URLError("no route")]
)
def test_without_an_answer_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, body: bytes | Exception
) -> None:
    answer(monkeypatch, body)
    with pytest.raises(ClusterError, match=f"set {VARIABLE}"):
        ssh_addresses()
