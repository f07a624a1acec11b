"""One connection without I/O: frames go in, frames come out, and it says when it is to be closed.

Whoever owns the socket (`websocket_session`, `websocket_asgi` and `memory` of `gateway`) calls `received` with each
frame, writes what `next_frame` returns until it returns None, and closes the socket once `close_code` is set and
nothing is left to write. `wake` is called when there is something to write again. Nothing here waits, reads a clock or
touches a socket. Who is at the other end is known to `session`, which says what an event means.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import UNSET, UnsetType

from ..core.connection import SERVER_RECEIVES, State
from ..errors import BadRequestError, PartOutOfOrderError, RefusedError, TooLargeError
from ..wire import events as ev
from ..wire.codec import BadItem, Codec

_FRAME_BYTES = 32 * 1024
"""A slow line must bring a whole frame within two heartbeats: that is the client's sign that the server is alive."""

_IN_SESSION: Final = SERVER_RECEIVES[State.OPEN]
_OPEN: Final = State.OPEN
_CLOSED: Final = State.CLOSED

_FULL_FACTOR = 4
"""Answers may fill this many buffers before the connection counts as lost."""


class Connection(ABC):
    """Frames of one connection, in both directions.

    Attributes:
        codec: The wire form it speaks.
        state: Which events are legal now.
        close_code: Set once the connection is to be closed.
        close_reason: Words for the close frame.
        opened_at_s: When the connection was made.
        heard_at_s: When something last arrived.
    """

    __slots__ = (
        "_buffer",
        "_buffer_bytes",
        "_buffer_bytes_max",
        "_drain_wanted",
        "_wake",
        "close_code",
        "close_reason",
        "codec",
        "heard_at_s",
        "opened_at_s",
        "state",
    )

    def __init__(
        self, codec: Codec, *, now_s: float, buffer_bytes_max: int, wake: Callable[[], None]
    ) -> None:
        self.codec = codec
        self.state = State.AWAITING_HELLO
        self.close_code: int | None = None
        self.close_reason = ""
        self.opened_at_s = now_s
        self.heard_at_s = now_s
        self._wake = wake
        self._buffer: list[bytes] = []
        self._buffer_bytes = 0
        self._buffer_bytes_max = buffer_bytes_max
        self._drain_wanted = False

    @abstractmethod
    def _handle(self, event: ev.ClientEvent) -> None:
        """Act on one legal event. Never waits."""

    @abstractmethod
    def _drained(self) -> None:
        """The buffer is empty, as `call_when_drained` asked for."""

    # --- in ---

    def received(self, frame: bytes | str, now_s: float, *, is_text: bool | None = None) -> None:
        """Take one frame from the socket; every event in it is handled before this returns.

        Before WELCOME only a small HELLO is decoded: a stranger must not be able to make the server work.

        Args:
            frame: A message of the WebSocket.
            now_s: Monotonic.
            is_text: Whether it came as text, whose bytes are UTF-8; None: a `str` did, and bytes did not.
        """
        state = self.state
        if state is _CLOSED:
            return
        self.heard_at_s = now_s
        if is_text is None:
            is_text = type(frame) is str
        if is_text is self.codec.binary:
            self.close(ev.CloseCode.PROTOCOL_ERROR, "wrong kind of frame for this subprotocol")
            return
        if state is State.LOGGING_IN:
            self.close(ev.CloseCode.PROTOCOL_ERROR, "nothing may follow HELLO before WELCOME")
            return
        items: Sequence[ev.ClientEvent | BadItem]
        try:
            items = self.codec.client_events(frame) if state is _OPEN else self.codec.hello_events(frame)
        except TooLargeError as error:
            self.close(ev.CloseCode.TOO_BIG, str(error))
        except BadRequestError as error:
            self._bad_item(BadItem(str(error)))
        else:
            self._take_all(items)

    def _take_all(self, items: Sequence[ev.ClientEvent | BadItem]) -> None:
        for item in items:
            if self.state is _OPEN and type(item) in _IN_SESSION:  # nearly all are
                self._handle(item)  # type: ignore[arg-type]  # nothing else is in the table
            elif self.state is _CLOSED:
                return
            else:
                self._take(item)

    def _take(self, item: ev.ClientEvent | BadItem) -> None:
        if isinstance(item, BadItem):
            self._bad_item(item)
            return
        after = SERVER_RECEIVES[self.state].get(type(item))
        if after is None:
            self.close(ev.CloseCode.PROTOCOL_ERROR, "this event is not allowed now")
            return
        self.state = after
        self._handle(item)

    def _bad_item(self, item: BadItem) -> None:
        error = BadRequestError(item.message)
        self.refuse(error, item.ref, item.conversation_id, item.client_msg_id)
        if self.state is not State.OPEN:
            self.close(ev.CloseCode.PROTOCOL_ERROR, "HELLO must come first")

    # --- out ---

    def answer(self, event: ev.ServerEvent) -> None:
        """Queue an event that may not be dropped; a connection that cannot take it is closed with 4000."""
        if self.state is _CLOSED:
            return
        encoded = self.codec.encode(event)
        if self._buffer and self._buffer_bytes + len(encoded) > _FULL_FACTOR * self._buffer_bytes_max:
            self._drop_all()
            self.close(ev.CloseCode.SLOW_CONSUMER, "answers are not being read")
            return
        self._append(encoded)

    def refuse(
        self,
        error: RefusedError,
        ref: str | UnsetType = UNSET,
        conversation_id: str | UnsetType = UNSET,
        client_msg_id: str | UnsetType = UNSET,
        server_ts: int | UnsetType = UNSET,
    ) -> None:
        """Queue an ERROR."""
        after_ms = error.retry_after_ms
        self.answer(
            ev.ErrorEvent(
                code=error.code,
                message=str(error),
                retryable=error.retryable,
                reason=UNSET if error.reason is None else error.reason,
                retry_after_ms=UNSET if after_ms is None else after_ms,
                ref=ref,
                conversation_id=conversation_id,
                client_msg_id=client_msg_id,
                server_ts=server_ts,
                expected_part=error.expected_part if isinstance(error, PartOutOfOrderError) else UNSET,
            )
        )

    def offer(self, encoded: bytes) -> bool:
        """Queue an encoded event that may be dropped. Returns whether it was taken: not when full or closed."""
        size = self._buffer_bytes + len(encoded)
        if size > self._buffer_bytes_max or self.state is _CLOSED:
            return False
        self._buffer.append(encoded)  # as `_append`, whose call would be made for each delivery
        self._buffer_bytes = size
        if len(self._buffer) == 1:
            self._wake()
        return True

    def call_when_drained(self) -> None:
        """Have `_drained` called once, by the first `next_frame` that finds the buffer empty. The writer is woken."""
        self._drain_wanted = True
        self._wake()

    def next_frame(self) -> bytes | None:
        """The next frame to write, or None if there is nothing to write now."""
        if not self._buffer and self._drain_wanted and not self.closed:
            self._drain_wanted = False
            self._drained()
        if not self._buffer:
            return None
        if len(self._buffer) <= ev.BATCH_MAX and self._buffer_bytes <= _FRAME_BYTES:
            frame = self.codec.join(self._buffer)
            self._drop_all()
            return frame
        return self._partial_frame()

    @property
    def buffered_bytes(self) -> int:
        """What waits to be written."""
        return self._buffer_bytes

    @property
    def congested(self) -> bool:
        """Whether answers do not drain, so that nothing more may be read from the socket."""
        return self._buffer_bytes > self._buffer_bytes_max

    def _append(self, encoded: bytes) -> None:
        self._buffer.append(encoded)
        self._buffer_bytes += len(encoded)
        if len(self._buffer) == 1:
            self._wake()

    def _drop_all(self) -> None:
        self._buffer = []
        self._buffer_bytes = 0

    def _partial_frame(self) -> bytes:
        """The longest run of events from the front that fits one frame."""
        count, size = 0, 0
        for encoded in self._buffer[: ev.BATCH_MAX]:
            size += len(encoded) + 1
            if count and size > _FRAME_BYTES:
                break
            count += 1
        events, self._buffer = self._buffer[:count], self._buffer[count:]
        self._buffer_bytes -= sum(map(len, events))
        return self.codec.join(events)

    # --- the end ---

    def end(self) -> None:
        """The socket is gone: it takes and gives nothing more, and nobody is woken.

        Letting go of `wake`, which belongs to whoever holds this connection, leaves no cycle: both are freed at once.
        """
        self.state = State.CLOSED
        self._wake = _nobody

    @property
    def closed(self) -> bool:
        """Whether it takes and gives nothing more, but for what is buffered."""
        return self.state is _CLOSED

    def close(self, code: int, reason: str) -> None:
        """End the connection: nothing more is taken in; what is buffered still leaves first."""
        if self.close_code is None:
            self.close_code = code
            self.close_reason = reason
            self.state = State.CLOSED
            self._wake()

    def cut(self, code: int, reason: str) -> None:
        """End the connection at once: what is buffered does not leave any more."""
        self._drop_all()
        self.close(code, reason)


def _nobody() -> None:
    """There is nobody to be woken."""
