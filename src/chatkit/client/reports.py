"""What instruments are told of a client: once for each frame or page that is stored, and only if any listens."""

from __future__ import annotations

from ..core.resend import Key
from ..errors import ChatkitError
from ..observability.instrument import ClientAnswer, ClientBatch, Instruments
from ..ports import Clock
from ..types import Sent
from .conversation import Effects
from .events import MessageReceived


class ClientReports:
    """Tells instruments what a client does. Called by `outbox`, `inbox` and `_reconnect`.

    Args:
        instruments: Whom to tell.
        clock: Times messages from `send` to their answer.
    """

    def __init__(self, instruments: Instruments, clock: Clock) -> None:
        self._on_queued = instruments.on_client_queued
        self._on_batch = instruments.on_client_batch
        self._on_connected = instruments.on_client_connected
        self._on_disconnected = instruments.on_client_disconnected
        self._on_connect_failed = instruments.on_client_connect_failed
        self._clock = clock
        self._queued_s: dict[Key, float] = {}

    def queued(self, key: Key) -> None:
        """A message waits to be sent. Its bound: the messages that may be pending."""
        if self._on_batch is not None:
            self._queued_s[key] = self._clock.now_s()
        if self._on_queued is not None:
            self._on_queued(*key)

    def taken_back(self, key: Key) -> None:
        """A message was taken back before it was sent."""
        self._queued_s.pop(key, None)

    def stored(self, effects: Effects) -> None:
        """A batch is in the local store."""
        if self._on_batch is None:
            return
        events = [it.event for it in effects.deliveries]
        received = [event.message for event in events if isinstance(event, MessageReceived)]
        answered = [self._answer(key, outcome) for key, outcome in effects.outcomes]
        if received or answered or effects.duplicates or effects.gaps:
            now_s, now_ms = self._clock.now_s(), self._clock.now_ms()
            found = ClientBatch(received, answered, effects.duplicates, effects.gaps, now_s, now_ms)
            self._on_batch(found)

    def connected(self, *, resumed: bool) -> None:
        """A connection is logged in."""
        if self._on_connected is not None:
            self._on_connected(resumed=resumed)

    def disconnected(self, code: int) -> None:
        """A connection that was logged in has ended."""
        if self._on_disconnected is not None:
            self._on_disconnected(code)

    def connect_failed(self, error: Exception) -> None:
        """There is no connection after this try."""
        if self._on_connect_failed is not None:
            self._on_connect_failed(error)

    def _answer(self, key: Key, outcome: Sent | ChatkitError) -> ClientAnswer:
        return ClientAnswer(*key, outcome, self._queued_s.pop(key, None))
