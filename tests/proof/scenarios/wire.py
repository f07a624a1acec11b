"""What has gone over the lines so far, decoded, for a script to look at; and reactions to what arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from chatkit.testing.network import Line, LineEvent
from chatkit.wire import events as ev
from chatkit.wire.codec import CODECS


class Heard(msgspec.Struct, frozen=True):
    """One event that reached its other end.

    Attributes:
        place: Counts them over the whole run, so that a lower one arrived earlier.
        line: On which line.
        event: Itself.
    """

    place: int
    line: Line
    event: Any


class Wire:
    """Everything that a script may want to know of the lines.

    Attributes:
        opened: Lines that a server took, in order.
    """

    def __init__(self) -> None:
        self.opened: list[Line] = []
        self._ends: dict[tuple[int, LineEvent], int | None] = {}
        self._heard: list[Heard] = []
        self._reactions: list[tuple[type[ev.Event], Callable[[Line], None]]] = []

    def of(self, kind: type[ev.Event], **fields: Any) -> list[Heard]:
        """Events of a type that arrived with these values in these fields, in order."""
        return [
            it
            for it in self._heard
            if type(it.event) is kind
            and all(getattr(it.event, name) == value for name, value in fields.items())
        ]

    def client_end(self, line: Line) -> int | None:
        """The close code with which the client's end of a line ended; None while it is open."""
        return self._ends.get((line.number, "client ended"))

    def server_end(self, line: Line) -> int | None:
        """The close code with which the server's end of a line ended; None while it is open."""
        return self._ends.get((line.number, "server ended"))

    def when_next(self, kind: type[ev.Event], react: Callable[[Line], None]) -> None:
        """Do something to the line at the very moment when the next event of a type arrives, before it is served."""
        self._reactions.append((kind, react))

    def arrived(self, line: Line, up: bool, frame: bytes | str) -> None:
        """Told by the network of every frame."""
        codec = CODECS[line.subprotocol]
        for event in codec.client_events(frame) if up else codec.server_events(frame):
            self._heard.append(Heard(len(self._heard), line, event))
            self._react(type(event), line)

    def happened(self, line: Line, what: LineEvent, code: int | None) -> None:
        """Told by the network of the beginning and the ends of every line."""
        if what == "opened":
            self.opened.append(line)
        else:
            self._ends[line.number, what] = code

    def _react(self, kind: type[Any], line: Line) -> None:
        for reaction in [it for it in self._reactions if it[0] is kind]:
            self._reactions.remove(reaction)
            reaction[1](line)


def listed(page: ev.SyncPage) -> list[int]:
    """The seqs that a page lists."""
    return [entry.seq for entry in page.messages]
