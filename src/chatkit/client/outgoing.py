"""The one writer of a connection: gathers what every part wants to send and packs it into frames within the limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._auto_reset_event import AutoResetEvent
from ..core.resend import PendingSend
from ..transport.base import Transport
from ..wire import events as ev
from ..wire.codec import Codec
from .cursors import Cursors
from .requests import Requests
from .sender import Sender

FRAME_BYTES = 32 * 1024
"""A frame holds so much, but for a single event that is larger: on a slow line only whole frames are a sign of life."""

FRAME_SLACK_BYTES = 1024
"""Kept free in each frame for brackets and commas."""


class Outgoing:
    """Everything that leaves, in one place; nothing is queued here but flags, so nothing can grow."""

    def __init__(
        self, codec: Codec, sender: Sender, cursors: Cursors, requests: Requests, wake: AutoResetEvent
    ) -> None:
        self._codec = codec
        self._sender = sender
        self._cursors = cursors
        self._requests = requests
        self._wake = wake
        self._typing: set[str] = set()
        self._ping = False
        self._open = False
        self._limits = ev.Limits()
        self._writing = False
        self._flushed = AutoResetEvent()
        self.sends_held = False

    def connected(self, limits: ev.Limits) -> None:
        """A new connection with these limits."""
        self._limits = limits
        self._ping = self.sends_held = False
        self._typing.clear()
        self._open = True

    def disconnected(self) -> None:
        """Nothing can leave."""
        self._open = self._writing = False
        self._flushed.set()

    def ping(self) -> None:
        """Send a sign of life."""
        self._ping = True
        self._wake.set()

    def typing(self, conversation_id: str) -> None:
        """Tell the others; without a connection it is nothing."""
        if self._open:
            self._typing.add(conversation_id)
            self._wake.set()

    async def run(self, transport: Transport) -> None:
        """Write until the connection ends; raises what ended it."""
        while True:
            self._writing = True
            for packed in self._frames(self._take()):
                await transport.send(packed)
            self._writing = False
            self._flushed.set()
            await self._wake.wait(self._wait_s())

    async def wait_flushed(self) -> None:
        """Return once every cursor is written, or the connection is gone. One caller."""
        while self._open and (self._writing or not self._cursors.idle):
            self._wake.set()
            await self._flushed.wait()

    def _take(self) -> list[ev.ClientEvent]:
        taken: list[ev.ClientEvent] = [*self._requests.take(), *self._cursors.take()]
        taken += [ev.TypingCommand(conversation_id=id_) for id_ in sorted(self._typing)]
        self._typing.clear()
        if self._ping:
            self._ping = False
            taken.append(ev.Ping())
        if not self.sends_held:
            taken += [self._send_msg(send) for send in self._sender.take()]
        return taken

    def _send_msg(self, send: PendingSend) -> ev.SendMsg:
        payload: Any = self._codec.raw(send.payload)  # encoded already; the event only carries it
        return ev.SendMsg(send.conversation_id, send.client_msg_id, payload)

    def _frames(self, events: list[ev.ClientEvent]) -> Iterator[bytes | str]:
        items: list[bytes] = []
        size_bytes = 0
        for event in events:
            encoded = self._codec.encode(event)
            full = size_bytes + len(encoded) > min(self._limits.frame_bytes - FRAME_SLACK_BYTES, FRAME_BYTES)
            if items and (full or len(items) >= self._limits.batch):
                yield frame(self._codec, items)
                items, size_bytes = [], 0
            items.append(encoded)
            size_bytes += len(encoded) + 1
        if items:
            yield frame(self._codec, items)

    def _wait_s(self) -> float | None:
        sends_s = None if self.sends_held else self._sender.wait_s()
        waits = [wait_s for wait_s in (sends_s, self._cursors.wait_s()) if wait_s is not None]
        return min(waits, default=None)


def frame(codec: Codec, items: list[bytes]) -> bytes | str:
    """One frame in the kind that the codec's subprotocol wants."""
    joined = codec.join(items)
    return joined if codec.binary else joined.decode()
