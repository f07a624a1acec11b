"""A streamed message that this device writes: `ChatClient.stream`.

It begins as a message that is sent, and ends as an edit that is sent: both are queued, resent and stored once like any
other. In between one part is under way at a time, and what is written meanwhile is joined to the next one. A part is
kept here until it is acknowledged, so a connection that breaks loses none. Where parts find no way any more (the server
cut the message off, a moderator sees the whole first, it is too long for parts) the message still comes with its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from types import TracebackType
from typing import Final, Self

import anyio

from .._auto_reset_event import AutoResetEvent
from .._event_loop import OwnerTask
from ..errors import (
    ChatkitError,
    ClientError,
    ClosedError,
    DeadlineExceededError,
    ForbiddenError,
    ProtocolError,
    QueueFullError,
    RefusedError,
    SendCancelledError,
    SendOutcomeUnknownError,
    StreamEndedError,
    TooLargeError,
)
from ..types import Payload, Sent
from ..wire import events as ev
from ..wire.payload import text_bytes
from ._retry import Backoff
from .open_streams import OpenStreams
from .outbox import Outbox
from .requests import ConnectionStatus, Requests
from .validate import end_payload

logger = logging.getLogger(__name__)

HELD_BYTES_MAX: Final = ev.STREAM_PART_BYTES_MAX
"""Of what is written and not acknowledged yet; with more `write` waits."""

ALIVE_S: Final = 20.0
"""After so long without a part the server is told that the author is still there; it waits 60 s by default."""

_PART_CHARACTERS: Final = ev.STREAM_PART_BYTES_MAX // 6
"""So many fit a part, whatever they are: one takes six bytes at most, as JSON."""

RECALLED: Final = "RECALLED"
"""`reason` of STREAM_ENDED where the message was recalled."""


class _State(Enum):
    """Where a stream is. From ENDING on an end is queued; LEFT it was without one of the author's."""

    NEW = 1
    OPEN = 2
    ENDING = 3
    LEFT = 4


class MessageStream:
    """A message that grows while it is written: made by `ChatClient.stream`, used with `async with`.

    Leaving the block ends it, and waits until the end is durable; with an exception it ends as cut off, and nobody
    waits. An `end` that was queued is the end, also where its answer did not come. Only for the task that entered it,
    and only once.

    Attributes:
        acked_parts: So many parts are durable at the server.
    """

    def __init__(
        self,
        conversation_id: str,
        key: str,
        payload: Payload,
        queue: Callable[[str, Payload], None],
        *,
        known: bool,
        wait_s: float,
        outbox: Outbox,
        requests: Requests,
        status: ConnectionStatus,
        streams: OpenStreams,
        backoff: Backoff,
        request_timeout_s: float,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._conversation_id = conversation_id
        self._key = key
        self._payload = payload
        self._queue = queue
        self._known = known
        self._wait_s = wait_s
        self._outbox = outbox
        self._requests = requests
        self._status = status
        self._streams = streams
        self._backoff = backoff
        self._request_timeout_s = request_timeout_s
        self._waiting = waiting
        self._texts: list[str] = [payload["text"]]
        self._size = text_bytes(payload["text"], ev.STREAM_BYTES_MAX)
        self._held: list[str] = []
        self._held_bytes = 0
        self.acked_parts = 0
        self._state = _State.NEW
        self._sent: Sent | None = None
        self._end: Payload | None = None
        self._ended: Sent | None = None
        self._takes_parts = self._is_heard = True
        self._failure: ChatkitError | None = None
        self._wake = AutoResetEvent()
        self._room = AutoResetEvent()
        self._sender = OwnerTask()

    async def __aenter__(self) -> Self:
        if self._state is not _State.NEW:
            raise ClientError("a stream is entered once; make another one")
        sent = self._sent = await self._begun()
        instead = None if sent.payload is None else sent.payload.get("text")
        if isinstance(instead, str):  # a moderator had it begin in other words
            self._texts, self._size = [instead], text_bytes(instead, ev.STREAM_BYTES_MAX)
        self._streams.grew((sent.conversation_id, sent.seq), sent.message_id, 0, self.text)
        self._state = _State.OPEN
        self._sender.start(self._send)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc_type is None and self._state is _State.OPEN:
                await self.end()
        finally:
            self._leave()
            with anyio.CancelScope(shield=True):  # it has been told to end
                await self._sender.wait()

    @property
    def sent(self) -> Sent:
        """The answer to its beginning: its id and its place. Raises ClientError before it was entered."""
        if self._sent is None:
            raise ClientError("use the stream inside `async with`")
        return self._sent

    @property
    def text(self) -> str:
        """All that was written so far."""
        if len(self._texts) > 1:
            self._texts = ["".join(self._texts)]
        return self._texts[0]

    async def write(self, text: str) -> None:
        """Add to the message. Returns at once, or once there is room: at most 8 KiB are not acknowledged.

        What was given is part of the message, also if the wait is cancelled. Without a connection it waits for one.

        Raises:
            BadRequestError: What no payload may hold; nothing was added.
            TooLargeError: All of it would be above 60 KiB; nothing was added.
            StreamEndedError: The message was recalled.
            ClientError: It was ended or left, or not begun. ClosedError: the client was closed.
        """
        self._check_open()
        size = text_bytes(text, ev.STREAM_BYTES_MAX)
        if self._size + size > ev.STREAM_BYTES_MAX:
            raise TooLargeError(f"a streamed message has at most {ev.STREAM_BYTES_MAX} bytes")
        if not text:
            return
        self._texts.append(text)
        self._size += size
        if not self._takes_parts:
            return  # it comes with the end
        self._held.append(text)
        self._held_bytes += size
        self._wake.set()
        with self._waiting():
            while self._held_bytes > HELD_BYTES_MAX and self._takes_parts:
                await self._room.wait()
        self._check_open()

    async def end(self, content: str | Payload | None = None) -> Sent:
        """End it as finished, and wait until that is durable; the end of the block does nothing then.

        Safe to repeat: called again, also after the block, it waits for the same end.

        Args:
            content: What the message says in the end; by default what was written.

        Raises:
            BadRequestError, TooLargeError, QueueFullError, UnavailableError: As `ChatClient.send`. Nothing was queued,
                and the stream goes on.
            StreamEndedError: It was recalled.
            ClientError: It was not begun, or left without an end.
            ChatkitError: As `ChatClient.send`. With SendOutcomeUnknownError the end stays queued, and is sent.
        """
        if self._ended is None:
            if self._state is not _State.ENDING:
                self._check_open()
            self._queue_end(self._end_of(content))
            self._ended = await self._outcome(self._end_key)
        return self._ended

    # --- how it begins and ends ---

    @property
    def _end_key(self) -> str:
        return f"{self._key}-end"

    async def _begun(self) -> Sent:
        """Send the beginning. Where the block will not run, it is taken back if it never left."""
        self._queue(self._key, self._payload)
        try:
            return await self._outcome(self._key)
        except BaseException as error:
            if self._taken_back() and isinstance(error, SendOutcomeUnknownError):
                raise SendCancelledError("the stream could not begin in time, and was taken back") from error
            raise

    def _taken_back(self) -> bool:
        try:
            return self._outbox.cancel(self._conversation_id, self._key) == "CANCELLED"
        except ChatkitError as error:
            logger.warning("a stream in %s was not taken back: %s", self._conversation_id, error)
            return False

    async def _outcome(self, key: str) -> Sent:
        return await self._outbox.outcome(self._conversation_id, key, self._wait_s)

    def _end_of(self, content: str | Payload | None) -> Payload:
        if content is None and self._end is not None:
            return self._end
        return end_payload(self.sent, self.text if content is None else content, "WHOLE")

    def _queue_end(self, end: Payload) -> None:
        """Where it is refused nothing has changed; else it has everything, and no part follows."""
        self._queue(self._end_key, end)
        self._end, self._state = end, _State.ENDING
        self._takes_parts = self._is_heard = False
        self._wake.set()
        self._room.set()

    def _leave(self) -> None:
        """Nothing is written any more. Where no end was queued, it ends as it is."""
        if self._state is _State.OPEN:
            self._state = _State.LEFT
            if self._failure is None:
                self._give_up()
        self._takes_parts = self._is_heard = False
        self._sender.cancel()
        self._room.set()

    def _give_up(self) -> None:
        """Queue the end as it is. Where that cannot be, the server ends it by itself, a while later."""
        try:
            self._queue(f"{self._key}-cut", end_payload(self.sent, self.text, "CUT_OFF"))
        except ChatkitError as error:
            logger.warning("the end of a stream in %s was not queued: %s", self._conversation_id, error)

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._state is not _State.OPEN:
            raise ClientError("write into the stream inside `async with`, and before its end")

    # --- parts, one at a time ---

    async def _send(self) -> None:
        """Send what is held, and say now and then that somebody is there, for as long as it is open at the server."""
        if self._known:  # from an earlier try, which may have written something else
            self._takes_parts = await self._asked(0, "") == 0
            self._room.set()
        while self._is_heard:
            with anyio.move_on_after(ALIVE_S) as silence:
                await self._wait_for_more()
            if silence.cancelled_caught:
                await self._asked(0, "")
            elif self._is_heard:
                await self._send_part()
            self._room.set()

    async def _wait_for_more(self) -> None:
        """Return once there is a part to send, or nothing is to be said any more."""
        while self._is_heard and not (self._held and self._takes_parts):
            await self._wake.wait()

    async def _send_part(self) -> None:
        text = "".join(self._held)
        part = text if self._held_bytes <= ev.STREAM_PART_BYTES_MAX else text[:_PART_CHARACTERS]
        rest = text[len(part) :]
        self._held = [rest] if rest else []
        number = self.acked_parts + 1
        parts = await self._asked(number, part)
        self._held_bytes = sum(text_bytes(it, ev.STREAM_BYTES_MAX) for it in self._held)
        if parts is None:
            return
        self.acked_parts = number
        sent = self.sent
        self._streams.part(
            ev.StreamPartPush(sent.conversation_id, sent.epoch, sent.message_id, sent.seq, number, part)
        )

    async def _asked(self, number: int, text: str) -> int | None:
        """How many parts the server has after this one; None if it takes none. Asked again until there is an answer."""
        sent = self.sent
        part = ev.StreamPartCommand(sent.conversation_id, sent.message_id, number, text)
        attempt = 0
        while self._is_heard:
            try:
                answer = await self._status.over_connections(
                    lambda: self._requests.ask(part, self._request_timeout_s)
                )
                if not isinstance(answer, ev.StreamAck):
                    raise ProtocolError("STREAM_PART was answered by another event")
                return answer.part
            except (DeadlineExceededError, QueueFullError) as error:
                retry_after_s = error.retry_after_s
            except RefusedError as error:
                if not error.retryable:
                    self._no_parts(error)
                    return None
                retry_after_s = error.retry_after_s
            except (ClosedError, ProtocolError) as error:
                self._no_parts(error)
                return None
            attempt += 1
            await anyio.sleep(self._backoff.delay_s(attempt, retry_after_s))
        return None

    def _no_parts(self, error: ChatkitError) -> None:
        """No part is taken any more. After a recall, or the end of the client, nothing is."""
        if self._takes_parts:
            logger.info("a stream goes on without parts: %s", error)
        self._takes_parts = False
        self._is_heard = self._is_heard and isinstance(error, ForbiddenError | TooLargeError)
        if isinstance(error, ClosedError) or (
            isinstance(error, StreamEndedError) and error.reason == RECALLED
        ):
            self._failure = error
        self._room.set()
