"""A thread that delivers items to a place that may be away for a while; nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Generic, TypeVar

Item = TypeVar("Item")

LONGEST_WAIT = 30.0  # seconds between two tries of a place that is away
BUSY_WAIT = 0.5  # seconds before the next try of a place that is merely busy
LOCAL_SECONDS = 120.0  # how long the courier may be at work before it gets to the place


class Busy(Exception):
    """The place cannot take anything at this very moment, but there is nothing wrong with it."""


class Courier(Generic[Item]):
    """Delivers items by key, one after the other, in a background thread.

    Any exception of `open`, `deliver` or `finish` means that it did not work: the item is kept,
    the courier waits (1, 2, 4, ... 30 seconds), opens the place again and goes on.

    Attributes:
        error: the latest problem; None once the place works again. Never None where `close` has
            returned False.
    """

    def __init__(
        self, name: str, open: Callable[[], None], deliver: Callable[[str, Item], None],
        finish: Callable[[], None], reason: Callable[[Exception], str],
    ) -> None:  # fmt: skip
        """Begins with `start`.

        Args:
            name: of the thread.
            open: makes the place ready. Called again after every failure, and before `finish` if
                there ever was one: what was given up may have arrived later.
            deliver: brings one item there. Doing it twice must be as good as once.
            finish: called last.
            reason: a line that says what an exception means.
        """
        self.error: str | None = None
        self._open, self._deliver, self._finish = open, deliver, finish
        self._reason = reason
        self._wake = threading.Condition()  # guards what follows; notified when any of it changes
        self._pending: dict[str, Item] = {}
        self._underway = 0
        self._is_open = self._ever_opened = False
        self._failures = 0  # in a row
        self._ever_failed = False
        self._closing = self._last_try = self._over = self._complete = False
        self._progress = 0
        self._local_since: float | None = None
        self._was_local = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, key: str, item: Item) -> None:
        """Queues an item; it replaces one of the same key that still waits."""
        with self._wake:
            self._pending[key] = item
            self._wake.notify_all()

    @property
    def left(self) -> int:
        """Items not delivered yet."""
        return len(self._pending) + self._underway

    def wait_until_open(self, seconds: float) -> bool:
        """True once the place has been opened; False after a failure, or that time."""
        with self._wake:
            self._wake.wait_for(lambda: self._ever_opened or self.error or self._over, seconds)
            return self._ever_opened and self.error is None

    def close(self, patience_seconds: float) -> bool:
        """Delivers what is left and finishes; True if all of that worked.

        Waits as long as items get delivered, but no longer than this time for any one of them.
        A place that has been failing gets one more try. Work before the courier gets there
        (`locally`) does not count as waiting.
        """
        with self._wake:
            self._last_try, self._failures = self._failures > 0, 0
            self._closing = True
            self._wake.notify_all()
            seen = -1
            while not self._over and (seen < self._progress or self._is_local()):
                seen = self._progress
                self._wake.wait_for(partial(self._has_moved_on, seen), patience_seconds)
            if not self._complete and self.error is None:
                self.error = f"no answer within {patience_seconds:g} s"
            self._over = True
            return self._complete

    @contextmanager
    def locally(self) -> Iterator[None]:
        """Where `open` is at work on this machine and nobody's answer is waited for."""
        self._local_since = time.monotonic()
        try:
            yield
        finally:
            with self._wake:
                self._local_since = None
                self._progress += not self._was_local  # later tries must not feed patience
                self._was_local = True
                self._wake.notify_all()

    def _has_moved_on(self, seen: int) -> bool:
        return self._over or self._progress > seen

    def _is_local(self) -> bool:
        since = self._local_since
        return since is not None and time.monotonic() - since < LOCAL_SECONDS

    def _run(self) -> None:
        try:
            while not self._over:
                try:
                    self._step()
                except Exception as error:  # whatever it is: the place may come back
                    self._failed(error)
        finally:
            with self._wake:
                self._over = True
                self._wake.notify_all()

    def _step(self) -> None:
        """Opens the place, or delivers an item, or finishes: whichever is next."""
        finished = False
        if not self._is_open:
            self._open()
            with self._wake:
                self._is_open = self._ever_opened = True
                self._wake.notify_all()
                if self._pending:
                    return  # a place that can be opened may still not take anything
        else:
            key = self._next()
            if key is not None:
                self._deliver_next(key)
            elif self._over:
                return
            elif self._ever_failed:
                self._is_open = self._ever_failed = False
                return
            else:
                self._finish()
                finished = True
        with self._wake:
            if not self._over:  # once given up, it stays so
                self.error, self._failures = None, 0
                self._over = self._complete = finished
            self._progress += 1
            self._wake.notify_all()

    def _next(self) -> str | None:
        """The next item's key; None at the end. Waits for either."""
        with self._wake:
            self._wake.wait_for(lambda: self._pending or self._closing or self._over)
            return None if self._over else next(iter(self._pending), None)

    def _deliver_next(self, key: str) -> None:
        with self._wake:
            item = self._pending.pop(key)
            self._underway = 1
        delivered = False
        try:
            self._deliver(key, item)
            delivered = True
        finally:
            with self._wake:
                self._underway = 0
                if not delivered:  # to the end of the queue: the others may fare better
                    self._pending.setdefault(key, item)

    def _failed(self, error: Exception) -> None:
        """Says what is wrong and waits before the next try; gives up if it was the last one."""
        busy = isinstance(error, Busy)
        with self._wake:
            was_open, self._is_open = self._is_open, False
            if not self._over:
                self.error = self._reason(error)
            self._ever_failed = True
            self._failures += not busy
            hopeless = not was_open or self._failures >= min(2, len(self._pending))
            if self._last_try and hopeless and not busy:
                self._over = True
            self._wake.notify_all()
            closing = self._closing
            wait = BUSY_WAIT if busy else seconds_to_wait(self._failures)
            self._wake.wait_for(lambda: self._over or self._closing != closing, wait)


def seconds_to_wait(failures: int) -> float:
    """How long to leave a place alone that has failed this often in a row: 1, 2, 4, ... 30."""
    return float(min(LONGEST_WAIT, 2 ** (failures - 1)))
