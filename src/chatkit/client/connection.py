"""One connection from HELLO to its end: reader, writer, sync, watch and login renewal, which all end together.

`log_in` says HELLO and waits for WELCOME; `Connection.run` returns only by raising what ended the connection. What to
do then is decided in `_reconnect`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
from anyio.abc import TaskGroup
from msgspec import UNSET
from tenacity import RetryCallState

from .._auto_reset_event import AutoResetEvent
from ..core.backoff import retry_after_of
from ..core.connection import CLIENT_RECEIVES, State
from ..core.resend import PendingSend
from ..errors import (
    ChatkitError,
    ConnectionLostError,
    ProtocolError,
    RefusedError,
    UnauthenticatedError,
)
from ..ports import Clock
from ..transport.base import Transport, TransportClosedError
from ..wire import events as ev
from ..wire.codec import Codec
from ._retry import Backoff, retrying
from ._sleep import LOOK_EVERY_S, SleepDetector
from ._token import TokenSource
from .config import ClientConfig
from .conversation import Conversation
from .event_queue import EventQueue
from .events import Connected
from .inbox import Inbox
from .open_streams import OpenStreams
from .outbox import Cursors, Outbox
from .own_presence import OwnPresence
from .requests import ConnectionStatus, Requests, error_of
from .sync import Sync
from .validate import check_numbers

logger = logging.getLogger(__name__)

CLIENT = ev.ClientInfo(name="chatkit-python", version=version("chatkit-engine"))

HEARTBEAT_MIN_S = 0.05
"""Whatever a server says, the watch does not run hot."""

TOO_LARGE = 1009
"""The close code of RFC 6455 for a frame above a limit; of the host's server or of a proxy, mostly."""

RENEW_EVERY_S = 10.0
"""A login is not renewed sooner than this after the last time, as long as half of what is left of it has not passed."""

TIMER_SLACK_S = 0.01
"""A timer may fire so much early, or so much late by the sum of its parts."""

FRAME_BYTES = 32 * 1024
"""A frame holds so much, but for a single event that is larger: on a slow line only whole frames are a sign of life."""

FRAME_SLACK_BYTES = 1024
"""Kept free in each frame for brackets and commas."""


class LoginFailedError(ConnectionLostError):
    """The connection ended before WELCOME.

    Attributes:
        close_code: The WebSocket close code; `ABNORMAL` if there was none.
        refused: The refusal that the server sent before, if any.
        retry_after_s: What the server asked to wait: by a GOAWAY, the refusal or the refused upgrade.
        server_ms: The server's time as it came with the refusal; None from one that does not say it.
    """

    def __init__(
        self,
        closed: TransportClosedError,
        refused: ChatkitError | None,
        goaway: ev.GoAway | None,
        server_ms: int | None = None,
    ) -> None:
        retry_after_s = closed.retry_after_s
        if refused is not None and refused.retry_after_s is not None:
            retry_after_s = refused.retry_after_s
        if goaway is not None:
            retry_after_s = retry_after_of(goaway.reconnect_after_ms)
        why = "" if refused is None else f" ({refused.code}: {refused})"
        super().__init__(f"login failed: {closed}{why}", retry_after_s=retry_after_s)
        self.close_code = closed.close_code
        self.reason = closed.reason
        self.refused = refused
        self.server_ms = server_ms


async def log_in(
    transport: Transport, codec: Codec, hello: ev.Hello
) -> tuple[ev.Welcome, Sequence[ev.ServerEvent]]:
    """Send HELLO and wait for WELCOME.

    Returns:
        The WELCOME, and the events that are to be served: a GOAWAY from before it, and those that came with it in
        the same frame.

    Raises:
        LoginFailedError: The connection ended instead.
        ProtocolError: The server sent what only a logged-in client may get.
    """
    refused: ChatkitError | None = None
    goaway: ev.GoAway | None = None
    server_ms: int | None = None
    try:
        with suppress(
            TransportClosedError
        ):  # turned away before HELLO: what the server said is still to be read
            await transport.send(_frame(codec, [codec.encode(hello)]))
        while True:
            events = codec.server_events(await transport.receive())
            for place, event in enumerate(events):
                check_numbers(event)
                _check_legal(State.LOGGING_IN, event)
                if isinstance(event, ev.Welcome):
                    rest = events[place + 1 :]
                    return event, rest if goaway is None else [goaway, *rest]
                if isinstance(event, ev.GoAway):
                    goaway = event
                elif isinstance(event, ev.ErrorEvent):
                    refused = error_of(event)
                    server_ms = None if event.server_ts is UNSET else event.server_ts
    except TransportClosedError as closed:
        raise LoginFailedError(closed, refused, goaway, server_ms) from closed


def hello(
    device_id: str, log_token: str | None, *, token: str | None = None, resume_token: str | None = None
) -> ev.Hello:
    """The first event, with one of the two proofs, and how far the server's log had got when last heard."""
    return ev.Hello(
        device_id=device_id,
        token=UNSET if token is None else token,
        resume_token=UNSET if resume_token is None else resume_token,
        client=CLIENT,
        log_token=UNSET if log_token is None else log_token,
    )


class Connection:
    """An open connection, and the one place that begins and ends it for everybody who lives longer.

    Args:
        transport: The open line.
        welcome: What the login gave.
        codec: Frames to events and back.
        config: Deadlines.
        clock: Times signs of life.
        backoff: Waits between renewals of the login that failed.
        tokens: Where a fresh login comes from.
        inbox: Takes what arrives.
        outbox: Own messages to send.
        cursors: Cursors to send.
        requests: Requests to send; takes their answers.
        sync: Pulls what is missing.
        events: Where the app learns of the connection.
        status: Where everybody else does.
        wake: Set when there is something to send.

    Attributes:
        reconnect_after_s: What a draining server asked for; None if it did not.
    """

    def __init__(
        self,
        transport: Transport,
        welcome: ev.Welcome,
        *,
        codec: Codec,
        config: ClientConfig,
        clock: Clock,
        backoff: Backoff,
        tokens: TokenSource,
        inbox: Inbox,
        outbox: Outbox,
        cursors: Cursors,
        requests: Requests,
        own_presence: OwnPresence,
        sync: Sync,
        streams: OpenStreams,
        events: EventQueue,
        status: ConnectionStatus,
        wake: AutoResetEvent,
    ) -> None:
        self._transport = transport
        self._welcome = welcome
        self._codec = codec
        self._config = config
        self._clock = clock
        self._backoff = backoff
        self._tokens = tokens
        self._inbox = inbox
        self._outbox = outbox
        self._cursors = cursors
        self._requests = requests
        self._sync = sync
        self._streams = streams
        self._events = events
        self._status = status
        self._wake = wake
        self._own_presence = own_presence
        self._writer = Writer(codec, welcome.limits, outbox, cursors, requests, own_presence, wake)
        self._heartbeat_s = max(welcome.heartbeat_ms / 1000, HEARTBEAT_MIN_S)
        self._received_at_s = self._pinged_at_s = self._clock.now_s()
        self._received_count = 0
        self._heard = AutoResetEvent()
        self._ended = False
        self._probing = False
        self._lost = AutoResetEvent()
        self._leave_by_s: float | None = None
        self._cause: Exception | None = None
        self._expiring = AutoResetEvent()
        self._began_at_s = self._ends_at_s = self._received_at_s
        self.reconnect_after_s: float | None = None
        self.log_token: str | None = None

    async def run(self, first: Sequence[ev.ServerEvent]) -> None:
        """Serve the connection until it ends, beginning with the events that came with WELCOME.

        Raises:
            TransportClosedError: The connection ended, by whichever side.
            ConnectionLostError: No sign of life, or no answer to a message for too long.
            ProtocolError: The server sent what the contract does not allow.
        """
        self._begin()
        try:
            self._apply(first)
            async with anyio.create_task_group() as group:
                follow = partial(group.start_soon, self._part, self._follow, group.cancel_scope)
                self._streams.connected(follow)
                pull = partial(self._pull, group)
                watch = partial(self._watch, group)
                for part in (self._read, self._write, pull, watch, self._refresh, self._lose):
                    group.start_soon(self._part, part, group.cancel_scope)
            self._find_too_large()
        finally:
            self._end()
        assert self._cause is not None, "parts end only by raising"
        raise self._cause

    def typing(self, conversation_id: str) -> None:
        """Send that the user is writing."""
        self._writer.typing(conversation_id)

    async def wait_flushed(self) -> None:
        """Return once every cursor is written, or the connection has ended. Several may wait."""
        await self._writer.wait_flushed()

    def drop(self) -> None:
        """End the connection: the app wants another one."""
        self._lost.set()

    async def answers(self, timeout_s: float) -> bool:
        """Ask for a sign of life; whether one came in time. False at once when the connection ends meanwhile."""
        before = self._received_count
        self._ping()
        with anyio.move_on_after(timeout_s):
            while self._received_count == before and not self._ended:
                await self._heard.wait()
        return self._received_count != before and not self._ended

    def _begin(self) -> None:
        self._inbox.connected(self._welcome.user_id)
        self._requests.connected()
        self._own_presence.connected()
        self._outbox.connected()
        self._sync.connected()
        self._status.change(connected=True)
        self._events.put(Connected(self._welcome.session_id, self._welcome.resumed))

    def _end(self) -> None:
        """What was under way goes back, what was waited for fails."""
        self._ended = True
        self._heard.set()
        self._status.change(connected=False)
        self._writer.close()
        self._requests.disconnected()
        self._streams.disconnected()
        self._outbox.disconnected()
        self._cursors.disconnected()
        self._sync.disconnected()

    def _find_too_large(self) -> None:
        """The other side took a frame of ours for too large: find out which message it was."""
        cause = self._cause
        if isinstance(cause, TransportClosedError) and cause.close_code == TOO_LARGE and cause.by_peer:
            send = self._outbox.too_large()
            if send is not None:
                self._inbox.too_large(send)

    async def _part(self, part: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        try:
            await part()
        except Exception as error:
            self._cause = self._cause or error
            scope.cancel()

    async def _follow(self) -> None:
        """Ask for open streams of which parts are missing, one after the other; refused for now, after a wait."""
        refusals = 0
        while (place := self._streams.take()) is not None:
            conversation_id, seq = place
            try:
                page = await self._sync.fetch(conversation_id, seq - 1, 1, history=True)
            except RefusedError as error:
                if not error.retryable:
                    self._streams.gone(place)
                    continue
                self._streams.again(place)
                refusals += 1
                await anyio.sleep(self._backoff.delay_s(refusals, error.retry_after_s))
            else:
                refusals = 0
                self._inbox.shown(page)

    async def _read(self) -> None:
        while True:
            received = await self._transport.receive()
            self._received_at_s = self._clock.now_s()
            self._received_count += 1
            self._heard.set()
            self._apply(self._codec.server_events(received))

    def _apply(self, events: Sequence[ev.ServerEvent]) -> None:
        for event in events:
            check_numbers(event)
            _check_legal(State.OPEN, event)
        self._inbox.received([event for event in events if not self._is_answered(event)])
        for event in events:
            if isinstance(event, ev.GoAway):
                self._draining(event)
            elif isinstance(event, ev.TokenExpiring):
                self._ends_at_s = self._local_s(event.expires_ts)
                self._expiring.set()
            elif isinstance(event, ev.Pong) and isinstance(event.log_token, str):
                self.log_token = event.log_token[: ev.LOG_TOKEN_MAX]
        self._wake.set()

    def _is_answered(self, event: ev.ServerEvent) -> bool:
        """Whether an event was for one who asked, and for nobody else; the answer to a recall names a new entry."""
        return self._requests.answered(event) and not isinstance(event, ev.MsgAck)

    def _draining(self, event: ev.GoAway) -> None:
        self.reconnect_after_s = retry_after_of(event.reconnect_after_ms)
        self._leave_by_s = self._clock.now_s() + self._config.goaway_wait_s
        self._writer.sends_held = True

    async def _write(self) -> None:
        await self._writer.run(self._transport)

    async def _pull(self, group: TaskGroup) -> None:
        while True:
            conversation = await self._sync.next()
            group.start_soon(self._part, partial(self._pull_page, conversation), group.cancel_scope)

    async def _pull_page(self, conversation: Conversation) -> None:
        try:
            pulled = await self._sync.pull(conversation)
            if pulled is not None:
                self._inbox.pulled(pulled)
                self._wake.set()
                self._sync.applied(pulled)
        finally:
            self._sync.finished(conversation)

    async def _watch(self, group: TaskGroup) -> None:
        detector, ping_every_s = SleepDetector(self._clock), self._heartbeat_s / 3
        while True:
            await anyio.sleep(min(ping_every_s, LOOK_EVERY_S))
            self._check()
            if detector.slept() and not self._probing:
                self._probing = True
                group.start_soon(self._part, self._probe, group.cancel_scope)
            elif self._clock.now_s() - self._pinged_at_s >= ping_every_s - TIMER_SLACK_S:
                self._ping()

    def _check(self) -> None:
        now_s = self._clock.now_s()
        if now_s - self._received_at_s > 2 * self._heartbeat_s:
            raise ConnectionLostError("the server gave no sign of life")
        oldest_s = self._outbox.oldest_sent_at_s
        if oldest_s is not None and now_s - oldest_s > self._config.ack_wait_s:
            raise ConnectionLostError("a message had no answer for too long")
        if self._leave_by_s is not None and now_s >= self._leave_by_s:
            raise ConnectionLostError("the server drains")

    def _ping(self) -> None:
        self._pinged_at_s = self._clock.now_s()
        self._writer.ping()

    async def _probe(self) -> None:
        if not await self.answers(self._config.probe_timeout_s):
            raise ConnectionLostError("the machine slept, and the server did not answer since")
        self._probing = False

    async def _lose(self) -> None:
        await self._lost.wait()
        raise ConnectionLostError("the app asked for another connection")

    async def _refresh(self) -> None:
        """Renew the login when the server says that it ends; a fixed token cannot be renewed."""
        renewing = retrying(_old_login_holds, wait=self._backoff, before_sleep=_log_failed_renewal)
        renewed_at_s = self._clock.now_s()
        while True:
            await self._expiring.wait()
            if self._tokens.renewable:
                await anyio.sleep(self._renewal_wait_s(renewed_at_s))
                await renewing(self._renew)
                renewed_at_s = self._clock.now_s()

    def _renewal_wait_s(self, renewed_at_s: float) -> float:
        """A short login is warned of its end as soon as it begins: it is not renewed without a pause."""
        now_s = self._clock.now_s()
        return max(0.0, min(renewed_at_s + RENEW_EVERY_S - now_s, (self._ends_at_s - now_s) / 2))

    def _local_s(self, server_ms: int) -> float:
        """A time of the server's clock by ours."""
        return self._began_at_s + (server_ms - self._welcome.server_ts) / 1000

    async def _renew(self) -> None:
        token = await self._tokens.successor()
        try:
            await self._requests.ask(ev.AuthRefresh(token=token), self._config.request_timeout_s)
        except UnauthenticatedError:
            self._tokens.refused(token)
            raise
        self._tokens.presented = token


class Writer:
    """The one writer of a connection: gathers what is to be sent and packs it into frames within the limits.

    Nothing is queued here but flags, so nothing can grow.

    Attributes:
        sends_held: The server drains: no more messages, but everything else.
    """

    def __init__(
        self,
        codec: Codec,
        limits: ev.Limits,
        outbox: Outbox,
        cursors: Cursors,
        requests: Requests,
        own_presence: OwnPresence,
        wake: AutoResetEvent,
    ) -> None:
        self._codec = codec
        self._limits = limits
        self._outbox = outbox
        self._cursors = cursors
        self._requests = requests
        self._wake = wake
        self._own_presence = own_presence
        self._typing: set[str] = set()
        self._ping = False
        self._open = True
        self._writing = False
        self._flushed = AutoResetEvent()
        self.sends_held = False

    def close(self) -> None:
        """Nothing can leave any more."""
        self._open = self._writing = False
        self._flushed.set()

    def ping(self) -> None:
        """Send a sign of life."""
        self._ping = True
        self._wake.set()

    def typing(self, conversation_id: str) -> None:
        """Send that the user is writing."""
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
        """Return once every cursor is written, or the connection has ended. Several may wait."""
        while self._open and (self._writing or not self._cursors.idle):
            self._cursors.hurry()
            self._wake.set()
            await self._flushed.wait()

    def _take(self) -> list[ev.ClientEvent]:
        asked = self._requests.take()
        taken: list[ev.ClientEvent] = [ev.TypingCommand(conversation_id=id_) for id_ in sorted(self._typing)]
        self._typing.clear()
        taken += self._own_presence.take()
        if self._ping:
            self._ping = False
            taken.append(ev.Ping())
        if not self.sends_held:
            taken += [self._send_msg(send) for send in self._outbox.take()]
        return [*self._cursors.take(leaving=bool(asked or taken)), *asked, *taken]

    def _send_msg(self, send: PendingSend) -> ev.SendMsg:
        payload: Any = self._codec.raw(send.payload)  # encoded already; the event only carries it
        return ev.SendMsg(send.conversation_id, send.client_msg_id, payload)

    def _frames(self, events: list[ev.ClientEvent]) -> Iterator[bytes | str]:
        items: list[bytes] = []
        size_bytes = 0
        for event in events:
            encoded = self._codec.encode(event)
            full = size_bytes + len(encoded) > min(self._limits.frame_bytes - FRAME_SLACK_BYTES, FRAME_BYTES)
            if items and (full or len(items) >= self._limits.batch or self._outbox.one_by_one):
                yield _frame(self._codec, items)
                items, size_bytes = [], 0
            items.append(encoded)
            size_bytes += len(encoded) + 1
        if items:
            yield _frame(self._codec, items)

    def _wait_s(self) -> float | None:
        sends_s = None if self.sends_held else self._outbox.wait_s()
        waits = [wait_s for wait_s in (sends_s, self._cursors.wait_s()) if wait_s is not None]
        return min(waits, default=None)


def _check_legal(state: State, event: ev.ServerEvent) -> None:
    if type(event) not in CLIENT_RECEIVES[state]:
        raise ProtocolError(f"the server sent {type(event).__name__} where it may not")


def _frame(codec: Codec, items: list[bytes]) -> bytes | str:
    """One frame in the kind that the codec's subprotocol wants."""
    joined = codec.join(items)
    return joined if codec.binary else joined.decode()


def _old_login_holds(error: BaseException) -> bool:
    """The app's callable may raise anything, and the connection goes on; only a lost one ends it."""
    return not isinstance(error, ConnectionLostError)


def _log_failed_renewal(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    logger.warning("the login could not be renewed (try %d): %r", state.attempt_number, error)
