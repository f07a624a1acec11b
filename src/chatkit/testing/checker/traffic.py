"""The frames of a history, each decoded once, and their events by type."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from ...errors import BadRequestError, ProtocolError, TooLargeError
from ...wire import events as ev
from ...wire.codec import BadItem
from ..history import Frame

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
            decode = frame.codec.client_events if frame.up else _SERVER_EVENTS[frame.codec.name]
            known = self._known[key] = decode(frame.data)
        return known


def _strictly(decode: Callable[[bytes], Any]) -> Callable[[bytes], _Decoded]:
    """A client passes over events that it does not know; a server of this version has none to send.

    Fields that the contract does not have are passed over here, too.
    """

    def events(data: bytes) -> _Decoded:
        try:
            decoded = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"event cannot be decoded: {error}") from None
        return decoded if type(decoded) is list else (decoded,)

    return events


_SERVER_EVENTS: dict[str, Callable[[bytes], _Decoded]] = {
    "json": _strictly(msgspec.json.Decoder(list[ev.ServerEvent] | ev.ServerEvent).decode),
    "msgpack": _strictly(msgspec.msgpack.Decoder(list[ev.ServerEvent] | ev.ServerEvent).decode),
}
