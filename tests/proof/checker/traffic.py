"""The frames of a history, each decoded once, and their events by type."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec

from chatkit.errors import BadRequestError, ProtocolError, TooLargeError
from chatkit.testing.history import Frame
from chatkit.wire import events as ev
from chatkit.wire.codec import BadItem

EventT = TypeVar("EventT", bound=ev.Event)
_Decoded = Sequence[Any]


class Arrived(msgspec.Struct, Generic[EventT], frozen=True, gc=False):
    """One event that reached its other end.

    Attributes:
        position: The place of its frame in the history.
        place: Its own place in the frame.
    """

    position: int
    place: int
    frame: Frame
    event: EventT


class Traffic:
    """Everything that went over the wire.

    Attributes:
        undecodable: Frames that are none of the contract, with the reason. What a client sends may be bad, so of
            its frames only those above the size limit.
        counts: Events of each frame that could be decoded, in order of frames.
        hellos: The HELLO of each connection.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.undecodable: list[tuple[Frame, str]] = []
        self.counts: list[tuple[Frame, int]] = []
        self._events: dict[type[ev.Event], list[Arrived[Any]]] = defaultdict(list)
        self._known: dict[tuple[bool, bool, bytes], _Decoded] = {}
        for position, frame in enumerate(frames):
            self._take(position, frame)
        self.hellos = {it.frame.connection: it for it in reversed(self.of(ev.Hello))}
        marked = (it for it in self.of(ev.Sync) if isinstance(it.event.ref, str))
        self._syncs = {(it.frame.connection, it.event.ref): it for it in marked}

    def of(self, kind: type[EventT]) -> list[Arrived[EventT]]:
        """All events of one type, in order of arrival."""
        return self._events[kind]

    def asked(self, page: Arrived[ev.SyncPage]) -> Arrived[ev.Sync] | None:
        """The SYNC that a page answers; None if they carry no mark, or nobody asked."""
        return self._syncs.get((page.frame.connection, page.event.ref))

    def last_heard_s(self, connection: int, *, up: bool, before_s: float) -> float:
        """When the last frame in this direction arrived on a connection before a moment."""
        times = self._heard_s[connection, up]
        return times[bisect_right(times, before_s) - 1]

    @cached_property
    def _heard_s(self) -> dict[tuple[int, bool], list[float]]:
        found: dict[tuple[int, bool], list[float]] = defaultdict(list)
        for frame, _ in self.counts:
            found[frame.connection, frame.up].append(frame.at_s)
        return found

    def _take(self, position: int, frame: Frame) -> None:
        try:
            events = self._decode(frame)
        except (TooLargeError, ProtocolError) as error:
            self.undecodable.append((frame, str(error)))
            return
        except BadRequestError:
            return  # a client may send what it likes: the server refuses it
        self.counts.append((frame, len(events)))
        for place, event in enumerate(events):
            if type(event) is not BadItem:
                self._events[type(event)].append(Arrived(position, place, frame, event))

    def _decode(self, frame: Frame) -> _Decoded:
        """The events of a frame; most pushes are the same bytes for many devices."""
        key = (frame.up, frame.codec.binary, frame.data)
        known = self._known.get(key)
        if known is None:
            decode = frame.codec.client_events if frame.up else frame.codec.own_server_events
            known = self._known[key] = decode(frame.data)
        return known
