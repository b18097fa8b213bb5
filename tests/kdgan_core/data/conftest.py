"""Mirrors on the loopback: one that serves a folder, one that refuses."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

Serve = Callable[..., tuple[str, list[str]]]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and keeps the paths it was asked for; `cut` promises more than it sends."""

    asked: list[str]
    cut = False

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def send_header(self, keyword: str, value: str) -> None:
        if self.cut and keyword == "Content-Length":
            value = str(int(value) + 1000)
        super().send_header(keyword, value)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A function that serves a folder on the loopback: (base address, paths asked for)."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("NO_PROXY", "*")
    servers = []

    def start(folder: Path, cut: bool = False) -> tuple[str, list[str]]:
        asked: list[str] = []
        handler = type("OneHandler", (Handler,), {"asked": asked, "cut": cut})
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(handler, directory=folder)
        )
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a mirror that refuses the connection."""
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"
