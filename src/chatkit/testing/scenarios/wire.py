"""What has gone over the lines so far, decoded, for a script to look at; and reactions to what arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ...wire import events as ev
from ...wire.codec import CODECS
from ..network import Line, LineEvent
from ..simulation.device import Device


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


class LineEnd(msgspec.Struct, frozen=True):
    """The end of one end of a line.

    Attributes:
        whose: Which end.
        code: The close code that it gave or saw.
    """

    line: Line
    whose: LineEvent
    code: int | None


class Wire:
    """Everything that a script may want to know of the lines.

    Attributes:
        opened: Lines that a server took, in order.
        ends: Ends of lines that have ended, in order.
    """

    def __init__(self) -> None:
        self.opened: list[Line] = []
        self.ends: list[LineEnd] = []
        self._heard: list[Heard] = []
        self._reactions: list[tuple[type[ev.Event], Callable[[Line], None]]] = []

    def of(
        self, kind: type[ev.Event], device: Device | None = None, *, line: Line | None = None, **fields: Any
    ) -> list[Heard]:
        """Events of a type that arrived, in order.

        Args:
            device: Only from or to this device.
            line: Only on this line.
            fields: Only with these values in these fields.
        """
        return [
            it
            for it in self._heard
            if type(it.event) is kind
            and (device is None or self.is_of(it.line, device))
            and (line is None or it.line is line)
            and all(getattr(it.event, name) == value for name, value in fields.items())
        ]

    def lines_of(self, device: Device) -> list[Line]:
        """Every line of a device that a server took, in order."""
        return [line for line in self.opened if self.is_of(line, device)]

    def is_of(self, line: Line, device: Device) -> bool:
        """Whether a line is a device's."""
        return (line.user_id, line.device_id) == (device.user_id, device.device_id)

    def codes(self, line: Line, whose: LineEvent) -> list[int | None]:
        """How an end of a line ended: one code at most."""
        return [it.code for it in self.ends if it.line is line and it.whose == whose]

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
            self.ends.append(LineEnd(line, what, code))

    def _react(self, kind: type[Any], line: Line) -> None:
        for reaction in [it for it in self._reactions if it[0] is kind]:
            self._reactions.remove(reaction)
            reaction[1](line)


def shown(page: ev.SyncPage) -> list[int]:
    """The seqs that a page lists."""
    return [entry.seq for entry in page.messages]
