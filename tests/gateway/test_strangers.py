"""Strangers by turns, in so many places: without sockets, on a loop that the test turns by hand."""

from __future__ import annotations

from typing import Any

import pytest

from chatkit.gateway.strangers import PLACES_MAX, REST_FROM_S, REST_MAX_S, Strangers, places_of, reader_of


class Loop:
    """Of an event loop: time, and what is to be called."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.soon: list[Any] = []
        self.later: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Any) -> None:
        self.soon.append(callback)

    def call_later(self, delay_s: float, callback: Any) -> None:
        self.later.append((delay_s, callback))

    def turn(self) -> None:
        due, self.soon = self.soon, []
        for callback in due:
            callback()


class Line:
    """A stranger, and its transport."""

    def __init__(self, loop: Loop, cost_s: float = 0.0) -> None:
        self.transport: Any = self
        self.taken: list[bytes] = []
        self.reading = True
        self.aborted = False
        self._loop = loop
        self._cost_s = cost_s

    def take_turn(self, data: bytes) -> None:
        assert self.reading
        self._loop.now_s += self._cost_s
        self.taken.append(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def test_one_slice_of_one_stranger_a_turn_in_the_order_of_their_coming() -> None:
    loop = Loop()
    strangers, lines = Strangers(loop, 10), [Line(loop) for _ in range(3)]
    for line in lines:
        strangers.read(line, b"a")
    assert not any(line.reading for line in lines)

    for count in range(1, 4):
        loop.turn()
        assert [line.taken for line in lines] == [[b"a"]] * count + [[]] * (3 - count)
    assert all(line.reading for line in lines)
    assert loop.soon == []


def test_after_an_expensive_slice_the_rest_wait_for_as_long() -> None:
    loop = Loop()
    strangers, dear, cheap = Strangers(loop, 10), Line(loop, 10 * REST_FROM_S), Line(loop)
    strangers.read(dear, b"a")
    strangers.read(cheap, b"b")
    loop.turn()
    loop.turn()
    assert (dear.taken, cheap.taken) == ([b"a"], [])
    ((delay_s, callback),) = loop.later
    assert delay_s == pytest.approx(10 * REST_FROM_S)
    callback()
    assert cheap.taken == [b"b"]


def test_while_others_keep_the_loop_busy_strangers_rest_but_not_for_ever() -> None:
    loop = Loop()
    strangers, line = Strangers(loop, 10), Line(loop)
    strangers.read(line, b"a")
    loop.now_s += 7.0
    loop.turn()
    ((delay_s, callback),) = loop.later
    assert delay_s == REST_MAX_S
    callback()
    assert line.taken == [b"a"]


def test_one_that_fails_or_is_gone_holds_nobody_up() -> None:
    loop = Loop()
    strangers, gone, next_one = Strangers(loop, 10), Line(loop), Line(loop)
    strangers.read(gone, b"a")
    strangers.read(next_one, b"b")
    gone.aborted = True
    loop.turn()
    loop.turn()
    assert (gone.taken, next_one.taken) == ([], [b"b"])


def test_a_new_stranger_takes_the_place_of_the_one_that_waited_longest() -> None:
    loop = Loop()
    strangers, lines = Strangers(loop, 2), [Line(loop) for _ in range(4)]
    strangers.enter(lines[0])
    strangers.enter(lines[1])
    strangers.enter(lines[0])  # an answer has left: it begins to wait anew
    strangers.enter(lines[2])
    assert [line.aborted for line in lines] == [False, True, False, False]

    strangers.leave(lines[2])
    strangers.leave(lines[2])
    strangers.enter(lines[3])
    assert [line.aborted for line in lines] == [False, True, False, False]
    assert len(strangers) == 2


def test_places_follow_the_descriptors_that_there_are() -> None:
    assert [places_of(count) for count in (1, 300, 1_024, 10**6)] == [1, 75, 256, PLACES_MAX]


def test_an_asgi_server_that_cannot_be_spoken_to_is_left_alone() -> None:
    for scope in ({}, {"state": {}}):
        reader = reader_of(scope)
        reader.await_login()
        reader.logged_in()
