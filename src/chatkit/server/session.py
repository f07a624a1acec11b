"""A connection and who is at its other end: the user, the device, and how far each conversation was pushed to it.

What a service needs to remember of a session it keeps itself and lets go of when the session ends (`Services.ended`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec import UNSET, UnsetType

from ..core.connection import State
from ..errors import RefusedError
from ..types import Identity
from ..wire import events as ev
from ..wire.codec import BadItem, Codec
from .connection import Connection
from .login_request import LoginRequest
from .refusal_log import log_refusal

_CLOSED: Final = State.CLOSED


class Services(Protocol):
    """What a session hands its events to."""

    def handle(self, session: Session, event: ev.ClientEvent) -> None:
        """Act on one legal event. Never waits."""

    def unreadable(self, session: Session) -> None:
        """An event of an open session could not be read, and was answered so."""

    def drained(self, session: Session) -> None:
        """The buffer is empty, and somebody asked to know (`call_when_drained`)."""

    def refused(self, error: RefusedError) -> None:
        """A session was told that something it asked for is refused."""

    def dropped(self) -> None:
        """A push of an entry was dropped, for the buffer was full."""

    def ended(self, session: Session) -> None:
        """The connection has ended. Called once."""


class Session(Connection):
    """One connected device.

    Attributes:
        session_id: Names this connection in WELCOME and logs.
        identity: Who logged in; None before that.
        user_id: The user, empty before login.
        device_id: The device, empty before login.
        request: What the login came with.
        resume_hash: Digest of the resume token that its login issued; the device's newest is in the store.
        token_hash: Digest of the token that its login came by, be it some resumes ago.
        last_pushed_seq: By conversation, the seq up to which everything was pushed to it; it belongs to these
            conversations.
        behind: Conversations whose pushes were dropped and not yet announced by BEHIND.
        leaving: Whether it was told to leave (GOAWAY): no command of it is taken any more.
    """

    __slots__ = (
        "_services",
        "behind",
        "device_id",
        "identity",
        "last_pushed_seq",
        "leaving",
        "request",
        "resume_hash",
        "session_id",
        "token_hash",
        "user_id",
    )

    def __init__(
        self,
        session_id: str,
        codec: Codec,
        services: Services,
        *,
        now_s: float,
        buffer_bytes_max: int,
        wake: Callable[[], None],
    ) -> None:
        super().__init__(codec, now_s=now_s, buffer_bytes_max=buffer_bytes_max, wake=wake)
        self.session_id = session_id
        self.identity: Identity | None = None
        self.user_id = ""
        self.device_id = ""
        self.request = LoginRequest()
        self.resume_hash = b""
        self.token_hash = b""
        self.last_pushed_seq: dict[str, int] = {}
        self.behind: dict[str, None] = {}
        self.leaving = False
        self._services = services

    def refuse(
        self,
        error: RefusedError,
        ref: str | UnsetType = UNSET,
        conversation_id: str | UnsetType = UNSET,
        client_msg_id: str | UnsetType = UNSET,
        server_ts: int | UnsetType = UNSET,
    ) -> None:
        """Queue an ERROR."""
        log_refusal(error, f"user {self.user_id or '(not logged in)'}, device {self.device_id or '-'}")
        self._services.refused(error)
        super().refuse(error, ref, conversation_id, client_msg_id, server_ts)

    def push(self, encoded: bytes, conversation_id: str, seq: int) -> None:
        """Offer an encoded NEW_MSG; dropped, and the conversation marked, when the buffer is full."""
        size = self._buffer_bytes + len(encoded)
        if size > self._buffer_bytes_max or self.state is _CLOSED or conversation_id in self.behind:
            self.mark_behind(conversation_id)
            self._services.dropped()
            return
        self._buffer.append(encoded)  # as `offer`, whose call would be made for each delivery
        self._buffer_bytes = size
        self.last_pushed_seq[conversation_id] = seq
        if len(self._buffer) == 1:
            self._wake()

    def push_run(self, encoded: Sequence[bytes], size: int, conversation_id: str, first_seq: int) -> None:
        """As `push` of each, for entries that follow each other and have this size together."""
        size += self._buffer_bytes
        if size > self._buffer_bytes_max or self.state is _CLOSED or conversation_id in self.behind:
            for seq, push in enumerate(encoded, first_seq):
                self.push(push, conversation_id, seq)
            return
        slept = not self._buffer
        self._buffer += encoded
        self._buffer_bytes = size
        self.last_pushed_seq[conversation_id] = first_seq + len(encoded) - 1
        if slept:
            self._wake()

    def push_volatile(self, encoded: bytes, conversation_id: str) -> None:
        """Offer an encoded event that is no entry; dropped, and the conversation marked, when the buffer is full.

        A HEADS listing says a receipt again, a page what a stream says so far. That its sender types is lost.
        """
        if not self.offer(encoded):
            self.mark_behind(conversation_id)

    def mark_behind(self, conversation_id: str) -> None:
        """Have BEHIND sent for this conversation once the buffer is empty."""
        if not self.closed:
            self.behind[conversation_id] = None
            self.call_when_drained()

    def leave_conversation(self, conversation_id: str) -> None:
        """Its user is no member of this conversation any more."""
        self.last_pushed_seq.pop(conversation_id, None)
        self.behind.pop(conversation_id, None)

    def end(self) -> None:
        """The connection has ended: it takes and gives nothing more. Called once."""
        super().end()
        self._services.ended(self)

    def _handle(self, event: ev.ClientEvent) -> None:
        self._services.handle(self, event)

    def _bad_item(self, item: BadItem) -> None:
        super()._bad_item(item)
        if self.state is State.OPEN:
            self._services.unreadable(self)

    def _drained(self) -> None:
        self._services.drained(self)
