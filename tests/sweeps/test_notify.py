"""The webhook: a real server on loopback that takes the message, refuses it, or never answers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from sweeps import notify as module
from sweeps.notify import notify

Answer = Callable[[BaseHTTPRequestHandler], None]


class Hook(HTTPServer):
    """Keeps what is posted to it and answers as it is told."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.posted: list[tuple[str, str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?token=1"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posted.append((self.path, self.headers["Content-Type"], body))
        with suppress(OSError):  # the sender may have gone
            self.server.answer(self)

    def log_message(self, format: str, *words: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Hook]]:
    """A function that starts a webhook."""
    hooks: list[Hook] = []

    def start(answer: Answer) -> Hook:
        hook = Hook(answer)
        hooks.append(hook)
        threading.Thread(target=hook.serve_forever, args=(0.05,), daemon=True).start()
        return hook

    yield start
    for hook in hooks:
        hook.shutdown()
        hook.server_close()


def status(code: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.end_headers()

    return answer


def test_the_message_is_json_with_the_facts(serve: Callable[[Answer], Hook]) -> None:
    hook = serve(status(204))
    assert notify(hook.url, "ended", "sweep α is complete", {"exit_code": 0, "sweep": "α"}) == ""
    message = {"text": "sweep α is complete", "event": "ended", "exit_code": 0, "sweep": "α"}
    assert hook.posted == [("/hook?token=1", "application/json", message)]


@pytest.mark.parametrize("code", [404, 500])
def test_a_server_that_refuses(serve: Callable[[Answer], Hook], code: int) -> None:
    hook = serve(status(code))
    assert str(code) in notify(hook.url, "ended", "text", {})
    assert len(hook.posted) == 1


def never(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.5)


def drop_by_drop(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(15):
        handler.wfile.write(b"H")
        handler.wfile.flush()
        time.sleep(0.1)


@pytest.mark.parametrize("answer", [never, drop_by_drop])
def test_a_server_that_hangs_costs_the_timeout(
    serve: Callable[[Answer], Hook], monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    hook = serve(answer)
    started = time.monotonic()
    assert notify(hook.url, "ended", "text", {})
    assert time.monotonic() - started < 1.0


def test_nobody_listens() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, but not listening
        problem = notify(f"http://127.0.0.1:{held.getsockname()[1]}/", "ended", "text", {})
    assert "refused" in problem


def garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"what?\r\n\r\n")


def test_a_server_that_does_not_speak_http(serve: Callable[[Answer], Hook]) -> None:
    assert "BadStatusLine" in notify(serve(garbage).url, "ended", "text", {})


@pytest.mark.parametrize("url", ["hook", "http://127.0.0.1:port/", "http://a b/", "http://[x"])
def test_what_is_no_address(url: str) -> None:
    assert notify(url, "ended", "text", {})
