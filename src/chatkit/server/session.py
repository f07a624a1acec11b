"""One connected device, without I/O: frames go in, frames come out, and it says when it is to be closed.

Whoever owns the socket (a *road*: `gateway.asgi`, the memory network) calls `received` with each frame,
writes what `next_frame` returns until it returns None, and closes the socket once `close_code` is set and
nothing is left to write. `wake` is called when there is something to write again. Nothing here waits, reads a clock or
touches a socket; what an event means is decided by the `Handler`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import UNSET, UnsetType

from ..core.connection import SERVER_RECEIVES, State
from ..errors import BadRequestError, RefusedError, TooLargeError
from ..types import Identity
from ..wire import events as ev
from ..wire.codec import BadItem, Codec

_FRAME_BYTES = (
    32 * 1024
)  # a slow line must bring a whole frame within two heartbeats: that is its sign of life
_FULL_FACTOR = 4  # answers may fill this many buffers before the session counts as lost


class Handler(Protocol):
    """What a session hands its events to."""

    def handle(self, session: Session, event: ev.ClientEvent) -> None:
        """Act on one legal event. Never waits."""

    def drained(self, session: Session) -> None:
        """The buffer is empty, and pulls wait or conversations are marked behind: go on with that."""


class Session:
    """The state of one connection.

    Attributes:
        session_id: Names this connection in WELCOME and logs.
        codec: The wire form it speaks.
        state: Where the connection stands.
        identity: Who logged in; None before that.
        user_id: The user, empty before login.
        device_id: The device, empty before login.
        offered: Last seq offered to it, by conversation: what is above was missed.
        behind: Conversations whose pushes were dropped and not yet announced by BEHIND.
        resume_hash: Digest of the resume token that its login issued; the device's newest is in the store.
        refused: By conversation, the earliest send under a retryable refusal, as (order, clientMsgId): it holds
            back later ones.
        sends: SEND_MSG events so far; gives each its order.
        sync_queue: SYNC requests that wait for their turn.
        syncing: Whether a task answers them.
        refreshing: Whether an AUTH_REFRESH is under way.
        typed_at_s: When it last sent TYPING, by conversation.
        opened_at_s: When the connection was made.
        logged_in_ms: When its login was last proved.
        warned_expiry: Whether TOKEN_EXPIRING was sent for this login.
        close_code: Set once the session is to be closed.
        close_reason: Words for the close frame.
        heard_at_s: When something last arrived.
    """

    __slots__ = (
        "_buffer",
        "_buffer_bytes",
        "_buffer_bytes_max",
        "_handler",
        "_heads",
        "_wake",
        "behind",
        "close_code",
        "close_reason",
        "codec",
        "device_id",
        "heard_at_s",
        "identity",
        "logged_in_ms",
        "offered",
        "opened_at_s",
        "refreshing",
        "refused",
        "resume_hash",
        "sends",
        "session_id",
        "state",
        "sync_queue",
        "syncing",
        "typed_at_s",
        "user_id",
        "warned_expiry",
    )

    def __init__(
        self,
        session_id: str,
        codec: Codec,
        handler: Handler,
        *,
        now_s: float,
        buffer_bytes_max: int,
        wake: Callable[[], None],
    ) -> None:
        self.session_id = session_id
        self.codec = codec
        self.state = State.AWAITING_HELLO
        self.identity: Identity | None = None
        self.user_id = ""
        self.device_id = ""
        self.resume_hash = b""
        self.offered: dict[str, int] = {}
        self.behind: dict[str, None] = {}
        self.refused: dict[str, tuple[int, str]] = {}
        self.sends = 0
        self.close_code: int | None = None
        self.close_reason = ""
        self.opened_at_s = now_s
        self.heard_at_s = now_s
        self.logged_in_ms = 0
        self.warned_expiry = False
        self.refreshing = False
        self.sync_queue: deque[ev.Sync] = deque()
        self.syncing = False
        self.typed_at_s: dict[str, float] = {}
        self._handler = handler
        self._wake = wake
        self._buffer: list[bytes] = []
        self._buffer_bytes = 0
        self._buffer_bytes_max = buffer_bytes_max
        self._heads: deque[ev.Head] | None = None

    # --- in ---

    def received(self, frame: bytes | str, now_s: float) -> None:
        """Take one frame from the socket; every event in it is handled before this returns."""
        self.heard_at_s = now_s
        if (type(frame) is bytes) is not self.codec.binary:
            self.close(ev.CloseCode.PROTOCOL_ERROR, "wrong kind of frame for this subprotocol")
            return
        try:
            items = self.codec.client_events(frame)
        except TooLargeError as error:
            self.close(ev.CloseCode.TOO_BIG, str(error))
        except BadRequestError as error:
            self._bad_item(BadItem(str(error)))
        else:
            for item in items:
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
        self._handler.handle(self, item)

    def _bad_item(self, item: BadItem) -> None:
        error = BadRequestError(item.message)
        self.refuse(error, item.ref, item.conversation_id, item.client_msg_id)
        if self.state is not State.OPEN:
            self.close(ev.CloseCode.PROTOCOL_ERROR, "HELLO must come first")

    # --- out ---

    def answer(self, event: ev.ServerEvent) -> None:
        """Queue an event that may not be dropped; a session that cannot take it is closed with 4000."""
        if self.closed:
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
    ) -> None:
        """Queue an ERROR."""
        after_s = error.retry_after_s
        self.answer(
            ev.ErrorEvent(
                code=error.code,
                message=str(error),
                retryable=error.retryable,
                retry_after_ms=UNSET if after_s is None else int(after_s * 1000),
                ref=ref,
                conversation_id=conversation_id,
                client_msg_id=client_msg_id,
            )
        )

    def push(self, encoded: bytes, conversation_id: str, seq: int) -> None:
        """Offer an encoded NEW_MSG; dropped, and the conversation marked, when the buffer is full."""
        if self.closed:
            return
        if conversation_id in self.behind or self._buffer_bytes + len(encoded) > self._buffer_bytes_max:
            self.mark_behind(conversation_id)
            return
        self.offered[conversation_id] = seq
        self._append(encoded)

    def hint(self, encoded: bytes, conversation_id: str) -> None:
        """Offer an encoded RECEIPT or TYPING; dropped when the buffer is full: HEADS tells them again."""
        if self.closed:
            return
        if self._buffer_bytes + len(encoded) > self._buffer_bytes_max:
            self.mark_behind(conversation_id)
            return
        self._append(encoded)

    def mark_behind(self, conversation_id: str) -> None:
        """Have BEHIND sent for this conversation once the buffer is empty."""
        if not self.closed:
            self.behind[conversation_id] = None
            self._wake()

    def forget(self, conversation_id: str) -> None:
        """Its user is no member of this conversation any more."""
        self.offered.pop(conversation_id, None)
        self.behind.pop(conversation_id, None)
        self.typed_at_s.pop(conversation_id, None)
        self.refused.pop(conversation_id, None)

    def send_heads(self, heads: Sequence[ev.Head]) -> None:
        """Send HEADS pages as the buffer drains; a listing still under way is replaced by this newer one."""
        self._heads = deque(heads)
        self._wake()

    def next_frame(self) -> bytes | None:
        """The next frame to write, or None if there is nothing to write now."""
        if not self._buffer:
            self._refill()
        if not self._buffer:
            return None
        if len(self._buffer) <= ev.BATCH_MAX and self._buffer_bytes <= _FRAME_BYTES:
            frame = self.codec.join(self._buffer)
            self._drop_all()
            return frame
        return self._partial_frame()

    @property
    def closed(self) -> bool:
        """Whether it takes and gives nothing more, but for what is buffered."""
        return self.state is State.CLOSED

    @property
    def congested(self) -> bool:
        """Whether answers do not drain, so that the road must stop reading from the socket."""
        return self._buffer_bytes > self._buffer_bytes_max

    def close(self, code: int, reason: str) -> None:
        """End the session: nothing more is taken in; what is buffered still leaves first."""
        if self.close_code is None:
            self.close_code = code
            self.close_reason = reason
            self.state = State.CLOSED
            self._wake()

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

    def _refill(self) -> None:
        """The buffer is empty: continue a HEADS listing, else announce what was dropped."""
        if self.closed:
            return
        if self._heads is not None:
            self._heads_page(self._heads)
        elif self.behind or self.sync_queue:
            self._handler.drained(self)

    def _heads_page(self, heads: deque[ev.Head]) -> None:
        """Send the next page; conversations left since the listing was read are passed over."""
        page = [heads.popleft() for _ in range(min(ev.PAGE_MAX, len(heads)))]
        page = [head for head in page if head.conversation_id in self.offered]
        for head in page:
            self.offered[head.conversation_id] = max(head.head_seq, self.offered[head.conversation_id])
        if not heads:
            self._heads = None
        self.answer(ev.Heads(conversations=page, more=bool(heads)))
