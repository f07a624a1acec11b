"""`ChatClient`: what an app holds. A facade: each method checks its arguments and hands them to one part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import anyio

from ..errors import (
    BadRequestError,
    ClientError,
    ClosedError,
    ProtocolError,
)
from ..ports import Ports
from ..transport.base import Connector
from ..types import Message, MessageStatus, Payload, Sent
from ..wire import events as ev
from . import receipts
from .api_types import Status
from .base import LocalStore
from .checks import (
    canonical_of,
    check_client_msg_id,
    check_conversation_id,
    check_device_id,
    check_message_id,
    check_seq,
)
from .config import ClientConfig
from .defaults import api_of, codec_named, connector_of, store_of
from .events import ChatEvent
from .parts import Parts
from .running import Running
from .session import Session
from .tokens import Token, TokenSource

TYPING_EVERY_S = 3.0


class EventStream:
    """The events of one client, for `async for`. Ends once the client is closed or has stopped for good."""

    def __init__(self, client: ChatClient) -> None:
        self._client = client

    def __aiter__(self) -> AsyncIterator[ChatEvent]:
        return self

    async def __anext__(self) -> ChatEvent:
        event = await self._client._next_event()
        if event is None:
            raise StopAsyncIteration
        return event


class ChatClient:
    """One device of one user, connected for as long as `async with` lasts.

    Reconnects by itself. Messages are in the local store before they are told or confirmed. Only for use inside
    `async with`, by any number of tasks. The end of `async with` raises ClosedError if the client had stopped for good
    before (banned, replaced, a login that is refused), unless the app had closed it with `aclose` or raises an
    error of its own; `stopped` tells too.

    A client is a task group: leave it in the task that entered it, and of several entered in one task the last one
    first, as nested `async with` blocks (or an `AsyncExitStack`) do by themselves. Any other order raises RuntimeError.

    Args:
        url: The server: `ws://`, `wss://`, `http://` or `https://`, with the prefix it is mounted under.
        token: The login, or an async callable that makes a fresh one whenever needed.
        device_id: Stable name of this installation; it owns the delivered cursor.
        store: A path keeps everything in a SQLite file that outlives the process; None keeps it in memory; a store of
            one's own is closed at the end.
        codec: `json` or `msgpack`.
        connector: Another road than WebSockets to `url`.
        config: Deadlines and bounds.
        ports: Clock, chance and ids; the system's by default.

    Raises:
        ConfigurationError: An argument can never work, or the store is another program's or user's.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token,
        device_id: str,
        store: LocalStore | str | None = None,
        codec: str = "json",
        connector: Connector | None = None,
        config: ClientConfig | None = None,
        ports: Ports | None = None,
    ) -> None:
        check_device_id(device_id)
        self._url = url
        self._token = token
        self._device_id = device_id
        self._config = config or ClientConfig()
        self._ports = ports or Ports()
        self._store = store
        self._codec = codec_named(codec)
        self._tokens = TokenSource(token, self._config.token_timeout_s)
        self._connector = connector_of(connector, url, self._config)
        self._running: Running | None = None
        self._entered = False
        self._pending_count = 0
        self._stopped: Exception | None = None

    def __repr__(self) -> str:
        return f"<ChatClient {self._url} device {self._device_id}>"

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ClosedError("a ChatClient can be entered once only; make another one")
        self._entered = True
        store = store_of(self._store)
        try:
            parts = Parts(self._config, self._ports, self._codec, store)
            session = Session(parts, self._connector, self._tokens, self._device_id)
            self._running = Running(parts, session)
            await self._running.start()
        except BaseException:
            store.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running = self._running
        assert running is not None, "entered before it is left"
        told = running.closing or running.session.stopped is None
        try:
            if error is None and not running.closing:
                await self.aclose()
        finally:
            self._running = None
            self._pending_count = running.parts.sender.pending_count
            await running.stop()
            self._stopped = running.session.stopped
        if error is None and running.session.failure is not None:
            raise running.session.failure
        if error is None and not told:
            running.session.check_running()

    async def aclose(self, timeout: float | None = None) -> int:
        """Take no more calls, and wait until every message is acknowledged. `async with` does this at its end.

        Whoever waits for something else than a message (`recall`, `history`, `status`, `wait_connected`) gets
        ClosedError at once; whoever still waits for a message at the end gets SendOutcomeUnknownError.

        Args:
            timeout: Seconds to wait; `close_timeout_s` by default.

        Returns:
            How many messages are still pending. A file store keeps them for the next start.
        """
        running = self._live()
        running.close()
        with anyio.move_on_after(self._config.close_timeout_s if timeout is None else timeout):
            await running.drain()
        running.parts.sender.release(ClosedError("the client was closed"))
        running.parts.mailbox.close()
        return running.parts.sender.pending_count

    def events(self) -> EventStream:
        """Everything that happens, for `async for`. One consumer at a time.

        Each log entry comes once per local store, after it is stored, and in order of its conversation's seq; only an
        own `MessageSent` comes with its answer, maybe ahead of entries with a lower seq. What an app did not consume
        before it ended is in `history`. When too many wait, the client stops receiving until the app has caught up;
        nothing is lost.
        """
        self._live()
        return EventStream(self)

    async def send(
        self,
        conversation_id: str,
        content: str | Payload,
        *,
        client_msg_id: str | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Send a message; returns once it is durable on the server. Works offline too, up to its deadline.

        A call that is cancelled or passes its deadline leaves the message queued, and it is sent all the same. Give a
        `client_msg_id` of your own to be able to ask again: the same call then waits for the same message.

        Args:
            conversation_id: Where to.
            content: A text, or a payload (docs/protocol.md#payloads).
            client_msg_id: Its key for ever; made here by default. The same call again gives the same answer.
            timeout: Seconds to wait; `send_timeout_s` by default.

        Raises:
            BadRequestError, TooLargeError: The server would refuse it; nothing was queued.
            QueueFullError: Too many messages wait; nothing was queued.
            UnavailableError: The local store refuses for now (disk full); nothing was queued.
            SendOutcomeUnknownError: No answer yet; it stays queued under its clientMsgId.
            RefusedError: The server refused it for good; it is no longer queued.

        Source: docs/protocol.md#send_msg
        """
        running = self._open()
        running.session.check_running()
        running.parts.check_in_step()
        check_conversation_id(conversation_id)
        payload = canonical_of(content)
        key = self._new_key() if client_msg_id is None else client_msg_id
        check_client_msg_id(key)
        running.parts.sender.submit(conversation_id, key, payload)
        wait_s = self._config.send_timeout_s if timeout is None else timeout
        return await running.parts.sender.outcome(conversation_id, key, wait_s)

    async def history(
        self, conversation_id: str, *, before_seq: int | None = None, limit: int = 50
    ) -> list[Message]:
        """The newest entries below `before_seq`, ascending: from the local store, completed from the server.

        While connected, that is up to the head also while the client is catching up or its events are not consumed;
        while not connected, up to what this device has placed.

        Args:
            conversation_id: Which one.
            before_seq: Where to end, not included; None for the newest.
            limit: At most so many, 1 to 200.

        Raises:
            BadRequestError: An argument is out of range.
            NotFoundError: No such conversation, or no member of it.
            DeadlineExceededError: Older entries are needed and could not be fetched in time; a retry is safe.
            UnavailableError: The local store cannot keep them for now; a retry is safe.
        """
        running = self._open()
        check_conversation_id(conversation_id)
        if not 1 <= limit <= ev.PAGE_MAX:
            raise BadRequestError(f"limit must be 1 to {ev.PAGE_MAX}")
        if before_seq is not None:
            check_seq(before_seq)
        with running.call(self._config.request_timeout_s):
            return await running.history.read(conversation_id, before_seq, limit)

    async def mark_read(self, conversation_id: str, up_to_seq: int) -> None:
        """Everything up to here was read, by this user. Returns once it is kept locally; it is sent by itself.

        `conversations` shows it at once.

        A lower value than before changes nothing. Survives reconnects, and restarts with a file store.

        Raises:
            BadRequestError: Above the head of the conversation.
            UnavailableError: The local store refuses for now; a retry is safe.
        """
        running = self._open()
        check_conversation_id(conversation_id)
        check_seq(up_to_seq)
        conversation = running.parts.conversations.get(conversation_id)
        if conversation is not None and up_to_seq > conversation.timeline.head:
            raise BadRequestError("up_to_seq is above the head of the conversation")
        running.parts.cursors.want_read(conversation_id, up_to_seq)
        running.parts.wake.set()

    async def recall(self, message_id: str, *, timeout: float | None = None) -> Sent:
        """Withdraw one's own message. Safe to repeat; waits for a connection up to its deadline.

        Returns:
            The recall's own entry; its `client_msg_id` is empty.

        Raises:
            ForbiddenError: Not the author.
            RecallWindowPassedError: Too late.
            NotFoundError: No such message.
            DeadlineExceededError: No answer in time; whether it took effect is unknown, a retry is safe.

        Source: docs/protocol.md#recall
        """
        running = self._open()
        check_message_id(message_id)
        wait_s = self._config.request_timeout_s if timeout is None else timeout
        with running.call(wait_s):
            answer = await running.ask(ev.Recall(message_id=message_id), wait_s)
        if not isinstance(answer, ev.MsgAck):
            raise ProtocolError("RECALL was answered by another event")
        return Sent(answer.conversation_id, "", answer.message_id, answer.seq, answer.server_ts, answer.epoch)

    async def typing(self, conversation_id: str) -> None:
        """Tell the other members that the user is writing; at most every 3 s per conversation, never queued."""
        running = self._open()
        check_conversation_id(conversation_id)
        now_s = self._ports.clock.now_s()
        if now_s - running.typed_at_s.get(conversation_id, -TYPING_EVERY_S) >= TYPING_EVERY_S:
            running.typed_at_s[conversation_id] = now_s
            running.parts.outgoing.typing(conversation_id)

    async def status(self, message_id: str) -> Status:
        """How far one's own message has got, per user and device; asked over HTTP.

        Raises:
            NotFoundError: No such message, or another's.
            ConnectionLostError, DeadlineExceededError: The server cannot be reached; a retry is safe.
        """
        running = self._open()
        check_message_id(message_id)
        if running.api is None:
            running.api = api_of(self._url, self._token, self._device_id, self._config, self._ports)
        with running.call(self._config.request_timeout_s):
            return await running.api.status(message_id)

    def message_state(self, conversation_id: str, seq: int) -> MessageStatus:
        """SENT, DELIVERED or READ of one's own message, from what this device has heard; asks nobody.

        Exact in a SINGLE conversation. In a GROUP it follows the heads of the last connect (and the counts, in groups
        over 100), so it may lag; `status` is exact.
        """
        return receipts.state(self._live().parts.conversations.get(conversation_id), seq)

    @property
    def conversations(self) -> dict[str, ev.Head]:
        """Where each of the user's conversations stands, by id.

        `delivered_seq` is what this device holds; `read_seq` counts what was marked read here, also offline.
        """
        parts = self._live().parts
        return parts.conversations.snapshot(parts.cursors.wanted_reads)

    @property
    def user_id(self) -> str:
        """The user, as the server named him; "" before the first login."""
        return self._live().parts.receiver.user_id

    @property
    def device_id(self) -> str:
        """This device."""
        return self._device_id

    @property
    def stopped(self) -> Exception | None:
        """Why the client has stopped for good (a refused login, a ban, another session of this device, a fault).

        None while it runs or tries to, and when it was merely closed; readable after the end too. Once it is set,
        nothing is sent or received any more and the events end.
        """
        running = self._running
        return self._stopped if running is None else running.session.stopped

    @property
    def pending_count(self) -> int:
        """Messages without a final answer; readable after the end too."""
        running = self._running
        return self._pending_count if running is None else running.parts.sender.pending_count

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Return once a login holds.

        Raises:
            DeadlineExceededError: Not in time.
            ClosedError: The client is closed, or has stopped for good; then its cause says why.
        """
        running = self._open()
        with running.call(self._config.request_timeout_s if timeout is None else timeout):
            await running.session.wait_connected()

    async def _next_event(self) -> ChatEvent | None:
        running = self._running
        if running is None:
            return None
        if running.consuming:
            raise ClientError("another task is consuming the events; there can be one at a time")
        running.consuming = True
        try:
            return await running.parts.mailbox.take()
        finally:
            running.consuming = False

    def _new_key(self) -> str:
        return self._ports.ids.token_bytes(16).hex()

    def _open(self) -> Running:
        running = self._live()
        running.check_open()
        return running

    def _live(self) -> Running:
        if self._running is None:
            raise ClosedError("use the client inside `async with`")
        return self._running
