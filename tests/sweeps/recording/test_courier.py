"""The courier, with a place that fails as a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from sweeps.courier import Busy, Courier, seconds_to_wait

SECONDS = 20.0


class Place:
    """Takes items unless told otherwise, and keeps a diary."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.away = False
        self.refused: set[str] = set()
        self.busy = 0
        self.hangs = threading.Event()
        self.hangs.set()
        self.courier: Courier[int] = Courier(
            "test", self.open, self.deliver, lambda: self.visit("finish"), str
        )

    def open(self) -> None:
        self.visit("open")

    def deliver(self, key: str, item: int) -> None:
        if key in self.refused:
            raise ValueError(f"{key} is refused")
        self.visit(f"{key}={item}")

    def visit(self, what: str) -> None:
        self.hangs.wait()
        if self.busy:
            self.busy -= 1
            raise Busy("busy")
        if self.away:
            self.diary.append("away")
            raise ConnectionError("nobody there")
        self.diary.append(what)


@pytest.fixture
def place() -> Place:
    return Place()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_items_arrive_in_order_and_the_end_last(place: Place) -> None:
    for number, key in enumerate("abca"):
        place.courier.put(key, number)
    assert place.courier.left == 3
    place.courier.start()
    assert place.courier.close(SECONDS)
    assert place.diary == ["open", "a=3", "b=1", "c=2", "finish"]
    assert (place.courier.left, place.courier.error) == (0, None)


def test_a_place_that_comes_back_gets_everything_once(place: Place) -> None:
    place.away = True
    place.courier.start()
    place.courier.put("a", 1)
    assert not place.courier.wait_until_open(SECONDS)
    assert (place.courier.left, place.courier.error) == (1, "nobody there")
    place.away = False
    wait_for(lambda: place.courier.left == 0 and place.courier.error is None)
    place.away = True
    place.courier.put("b", 2)
    wait_for(lambda: place.courier.error)
    place.away = False
    assert place.courier.close(SECONDS)
    deliveries = [line for line in place.diary if "=" in line]
    assert deliveries == ["a=1", "b=2"]
    assert place.diary[-3:] == ["b=2", "open", "finish"]  # looked again before the end


def test_the_waits_double_up_to_the_longest() -> None:
    assert [seconds_to_wait(failures) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_the_end_gives_a_place_that_was_away_one_more_try_at_once(place: Place) -> None:
    place.away = True
    place.courier.start()
    place.courier.put("a", 1)
    wait_for(lambda: place.diary.count("away") == 3)  # the next try would be 4 seconds later
    started = time.monotonic()
    assert not place.courier.close(SECONDS)
    assert time.monotonic() - started < 1.0
    assert place.diary.count("away") == 4
    assert place.courier.error == "nobody there"


def test_the_end_of_a_place_that_was_away_and_is_back_is_complete(place: Place) -> None:
    place.away = True
    place.courier.start()
    place.courier.put("a", 1)
    wait_for(lambda: place.diary.count("away") == 2)
    place.away = False
    started = time.monotonic()
    assert place.courier.close(SECONDS)
    assert time.monotonic() - started < 1.0
    assert place.courier.error is None


def test_a_place_that_hangs_costs_the_end_its_patience(place: Place) -> None:
    place.courier.start()
    assert place.courier.wait_until_open(SECONDS)
    place.hangs.clear()
    place.courier.put("a", 1)
    started = time.monotonic()
    assert not place.courier.close(0.5)
    assert 0.5 <= time.monotonic() - started < 1.5
    assert place.courier.error == "no answer within 0.5 s"
    place.hangs.set()


def test_the_end_waits_as_long_as_items_arrive(place: Place) -> None:
    slow = Courier[int]("test", place.open, lambda *_: time.sleep(0.2), lambda: None, str)
    for number in range(10):
        slow.put(str(number), number)
    slow.start()
    assert slow.close(0.5)


def test_work_before_it_gets_there_is_no_waiting(place: Place) -> None:
    def open() -> None:
        with slow.locally():
            time.sleep(1.0)

    slow = Courier[int]("test", open, place.deliver, lambda: None, str)
    slow.start()
    assert slow.close(0.3)


def test_trying_again_is_no_progress(place: Place) -> None:
    def open() -> None:
        with away.locally():
            pass
        raise ConnectionError("nobody there")

    away = Courier[int]("test", open, place.deliver, lambda: None, str)
    started = time.monotonic()
    away.start()
    assert not away.close(1.0)
    assert time.monotonic() - started < 2.5


def test_an_item_that_is_refused_does_not_hold_up_the_others(place: Place) -> None:
    place.refused = {"a"}
    for key in "abc":
        place.courier.put(key, 0)
    place.courier.start()
    wait_for(lambda: place.courier.left == 1)
    assert [line for line in place.diary if "=" in line] == ["b=0", "c=0"]
    wait_for(lambda: place.courier.error == "a is refused")
    assert not place.courier.close(SECONDS)
    assert place.courier.left == 1
    assert "finish" not in place.diary


def test_busy_is_not_away(place: Place) -> None:
    place.courier.start()
    assert place.courier.wait_until_open(SECONDS)
    place.busy = 3
    place.courier.put("a", 1)
    wait_for(lambda: place.courier.error == "busy")
    assert place.courier.close(2.0)  # one more try would not have been enough
    assert place.courier.error is None
