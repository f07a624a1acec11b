"""What exists between `__aenter__` and `__aexit__` of a client: its objects, its background task, its waiting calls.

The composition root: here each object is made, and given exactly what it needs. The one module of the client that knows
the implementations behind plain arguments (which store, codec, transport). Called by `client` alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import anyio

from .._arguments import check_has
from .._auto_reset_event import AutoResetEvent
from .._event_loop import LoopGuard, OwnerTask
from ..errors import ClosedError, ConfigurationError, DeadlineExceededError
from ..observability.instrument import Instruments
from ..ports import Ports
from ..transport.base import Connector
from ..transport.network import Network
from ..transport.websocket import WebSocketConnector
from ..wire.codec import JSON, MSGPACK, Codec
from ._reconnect import ReconnectLoop
from ._retry import Backoff
from ._token import TokenSource
from .api import ChatApi
from .backlog import Backlog
from .config import ClientConfig
from .connection import Connection
from .conversation import Conversations
from .conversation_list import ConversationList
from .deliveries import Deliveries
from .event_queue import EventQueue
from .history import History
from .inbox import Batches, Inbox
from .open_streams import OpenStreams
from .outbox import Cursors, Outbox
from .own_presence import OwnPresence
from .reports import ClientReports
from .requests import ConnectionStatus, Requests
from .store.base import LocalStore
from .store.memory import MESSAGES_MAX, MemoryStore
from .store.sqlite import SqliteStore
from .sync import Sync, SyncQueue
from .taken import TakenCursors

_CODECS = {"json": JSON, "msgpack": MSGPACK}


class ClientRuntime:
    """An entered client.

    Args:
        store: Closed at the end.
        connector: Opens connections.
        codec: Frames to events and back.
        tokens: Where the login comes from.
        device_id: This device.
        config: Deadlines and bounds.
        ports: Clock and jitter.
        instruments: Told what happens.

    Attributes:
        api: The HTTP side, once somebody has used it; closed at the end.
        closing: No more calls are taken.
    """

    def __init__(
        self,
        *,
        store: LocalStore,
        connector: Connector,
        codec: Codec,
        tokens: TokenSource,
        device_id: str,
        config: ClientConfig,
        ports: Ports,
        instruments: Instruments,
    ) -> None:
        backoff = Backoff(ports.random, config.backoff_base_s, config.backoff_max_s)
        sync_queue = SyncQueue(config.gap_wait_s, ports.clock)
        reports = ClientReports(instruments, ports.clock)
        self.store = store
        self.wake = AutoResetEvent()
        self.status = ConnectionStatus()
        self.events = EventQueue(config.events_max, config.events_low, config.events_bytes_max)
        self.conversations = Conversations(
            config.held_max,
            self.status.wake,
            held_bytes_max=config.held_bytes_max,
            conversations_max=config.conversations_max,
        )
        records = store.records()
        self.conversations.reload(records)
        self.conversations.user_id = store.owner()
        taken = TakenCursors(store, records)
        self.outbox = Outbox(
            store, config, ports.clock, backoff, self.status, self.wake, self.events, reports
        )
        self.cursors = Cursors(store, ports.clock, backoff, config.confirm_wait_s)
        self.requests = Requests(config.requests_max, self.wake)
        self.own_presence = OwnPresence(self.wake)
        self.streams = OpenStreams()
        self.backoff = backoff
        self.batches = Batches(
            store,
            self.conversations,
            self.outbox,
            self.cursors,
            self.events,
            taken,
            config.delivered_when,
            self.streams,
            reports,
        )
        self.list = ConversationList(
            store, self.conversations, self.cursors, self.batches, ports.clock, self.streams
        )
        inbox = Inbox(
            codec,
            self.conversations,
            sync_queue,
            self.outbox,
            self.cursors,
            self.events,
            self.batches,
            self.streams,
        )
        sync = Sync(config, ports.clock, backoff, self.conversations, sync_queue, self.requests, self.events)
        self.history = History(
            codec, store, self.conversations, self.batches, sync, self.status, backoff, self.streams
        )
        backlog = Backlog(records, store, self.conversations, taken, self.history, self.events, backoff)
        self.deliveries = Deliveries(
            store, taken, backlog, self.events, self.conversations, self.batches, self.wake
        )
        serve = partial(
            Connection,
            codec=codec,
            config=config,
            clock=ports.clock,
            backoff=backoff,
            tokens=tokens,
            inbox=inbox,
            outbox=self.outbox,
            cursors=self.cursors,
            requests=self.requests,
            own_presence=self.own_presence,
            sync=sync,
            streams=self.streams,
            events=self.events,
            status=self.status,
            wake=self.wake,
        )
        self._reconnect = ReconnectLoop(
            connector=connector,
            serve=serve,
            tokens=tokens,
            device_id=device_id,
            codec=codec,
            config=config,
            clock=ports.clock,
            backoff=backoff,
            batches=self.batches,
            outbox=self.outbox,
            events=self.events,
            status=self.status,
            reports=reports,
        )
        self.api: ChatApi | None = None
        self.closing = False
        self._calls: set[anyio.CancelScope] = set()
        self._connector = connector
        self._guard = LoopGuard("ChatClient")
        self._owner = OwnerTask()

    @property
    def connection(self) -> Connection | None:
        """The connection that is served now."""
        return self._reconnect.connection

    def hurry(self) -> None:
        """No wait before the next try, if there is no connection. A try under way goes on."""
        self._reconnect.hurry()

    def reconnect(self) -> None:
        """Another connection than there is or is being made, at once."""
        self._reconnect.reconnect()

    async def start(self) -> None:
        """Connect in the background. Raises ConfigurationError if WebSockets do not work in this event loop."""
        if isinstance(self._connector, WebSocketConnector):
            self._connector.check_loop()
        self._owner.start(self._reconnect.run)

    @contextmanager
    def call(self, timeout_s: float) -> Iterator[None]:
        """One waiting call of the app.

        Raises:
            DeadlineExceededError: The body took longer.
            ClosedError: The client is closing, or closed while the call waited.
        """
        self.check_open()
        with anyio.move_on_after(timeout_s) as scope:
            self._calls.add(scope)
            try:
                yield
            finally:
                self._calls.discard(scope)
        if scope.cancelled_caught:
            self.check_open()
            why = self.status
            raise DeadlineExceededError(
                f"no result within {timeout_s:g} s ({why.explanation})"
            ) from why.last_failure

    async def wait_heads(self) -> None:
        """Return once all heads of this connection have come, or it has ended. The caller sets the deadline."""
        while self.status.connected and not self.conversations.complete:
            await self.status.wait_changed()

    def check_loop(self) -> None:
        """Raises ConfigurationError in another event loop than the one it was entered in."""
        self._guard.check()

    def check_open(self) -> None:
        """Raises ClosedError once the client is closing, ConfigurationError in another event loop than its own."""
        self.check_loop()
        if self.closing:
            raise ClosedError("the client is closing")

    def close(self) -> None:
        """Take no more calls, and end those that wait."""
        self.closing = True
        for scope in list(self._calls):
            scope.cancel()

    async def drain(self) -> None:
        """Return once every message is answered and every cursor written, or the client has stopped."""
        await self.outbox.wait_emptied()
        if self.connection is not None:
            await self.connection.wait_flushed()

    async def stop(self) -> None:
        """End the background task and release everything, also when the caller is being cancelled."""
        self.close()
        self._owner.cancel()
        try:
            with anyio.CancelScope(shield=True):  # closing a connection has a bound of its own
                await self._owner.wait()
        finally:
            self.outbox.stopped(ClosedError("the client was closed"))
            self.events.close()
            self.deliveries.close()
            self.store.close()
            await self._close_api()

    async def _close_api(self) -> None:
        if self.api is not None:
            with anyio.CancelScope(shield=True):
                await self.api.aclose()


def codec_named(name: str) -> Codec:
    """The codec. Raises ConfigurationError for another name."""
    codec = _CODECS.get(name) if isinstance(name, str) else None
    if codec is None:
        raise ConfigurationError("codec must be json or msgpack")
    return codec


def check_store(store: object) -> None:
    """Raises ConfigurationError for what is no place to keep messages."""
    if isinstance(store, str | os.PathLike):
        if not os.fspath(store) or "://" in str(store):
            raise ConfigurationError(f"store must be the path of a file, not {str(store)!r:.200}")
    elif store is not None:
        check_has("store", store, "add_pending", "a path, a LocalStore or None")


def store_of(store: LocalStore | str | os.PathLike[str] | None, config: ClientConfig) -> LocalStore:
    """A store as itself, a path as a SQLite file, None as memory."""
    if store is None:
        return MemoryStore(config.keep_messages_max or MESSAGES_MAX)
    return SqliteStore(store, config.keep_messages_max) if isinstance(store, str | os.PathLike) else store


def connector_of(connector: Connector | None, url: str, config: ClientConfig, network: Network) -> Connector:
    """A connector as itself, None as WebSockets to `url`. Raises ConfigurationError."""
    if connector is None:
        return WebSocketConnector(
            url,
            connect_timeout_s=config.connect_timeout_s,
            close_timeout_s=config.close_timeout_s,
            network=network,
        )
    check_has("connector", connector, "connect", "a Connector, such as MemoryConnector(server)")
    return connector
