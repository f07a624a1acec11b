"""ChatServer: holds the parts and runs them.

The parts, in the order of a message: `gateway` -> `session` -> `dispatch` -> `engine` -> `committer` -> store ->
`publisher` -> `live.hub` -> `session` -> `gateway`. Beside them: `cluster`, for other servers on the same log, and
`watchdog`, for what is done by time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from ..bus.base import Bus
from ..errors import ConfigurationError
from ..ports import Ports
from ..storage.base import Store
from ..wire.codec import Codec
from .auth import Authenticator
from .background import Background
from .cluster.bridge import ClusterBridge
from .cluster.reconcile import Reconciler
from .cluster.reconcile_queue import ReconcileQueue
from .committer import Committer
from .config import ServerConfig
from .dispatch import Dispatch
from .engine import Engine
from .host import HostVerbs
from .live.hub import Hub
from .login import Login
from .login_request import LoginRequest
from .publisher import Publisher
from .receipts import Receipts
from .session import Session
from .sessions import Sessions
from .sync import Sync
from .typing import Typing
from .watchdog import Watchdog


class ChatServer(HostVerbs):
    """A chat server to embed: `async with ChatServer(...) as server`, and `asgi_app(server)` to reach it by.

    Inside the `async with` it takes sessions and requests; leaving it drains. It may be entered once.

    Args:
        store: Where the log lives; opened on entering, closed on leaving.
        authenticate: Who a token proves its bearer to be.
        config: Bounds and times.
        ports: Clock, random numbers, ids.
        bus: Where the other servers on the same log hear of what happens here; None: there is no other.

    Attributes:
        engine: For endpoints such as `asgi_app`, not for hosts: the verbs of users.
        sync: For endpoints, not for hosts: pages of the log.
        login: For endpoints, not for hosts: tokens to identities.
    """

    def __init__(
        self,
        *,
        store: Store,
        authenticate: Authenticator,
        config: ServerConfig | None = None,
        ports: Ports | None = None,
        bus: Bus | None = None,
    ) -> None:
        config, ports = config or ServerConfig(), ports or Ports()
        self.config, self.ports = config, ports
        self._bus = bus
        self._background = Background()
        spawn = self._background.spawn
        to_reconcile = ReconcileQueue()
        hub = Hub(to_reconcile, bus)
        receipts = Receipts(hub, to_reconcile, store)
        bridge = None if bus is None else ClusterBridge(bus, hub, receipts, to_reconcile, ports.random)
        publisher = Publisher(hub, receipts, to_reconcile, bridge, config)
        self._committer = Committer(store, publisher, config)
        super().__init__(Engine(store, self._committer, publisher, config, ports), store)
        self._hub, self._bridge = hub, bridge
        self.login = Login(self.engine, authenticate, config, ports, spawn)
        self.sync = Sync(store, hub, to_reconcile, config, spawn)
        typing = Typing(store, hub, bridge, self._committer, config, ports.clock)
        dispatch = Dispatch(self.engine, self.login, self.sync, typing, hub, ports.clock, spawn)
        self._sessions = Sessions(dispatch, config, ports)
        self._reconciler = Reconciler(store, hub, receipts, self._committer, to_reconcile, config.gap_wait_s)
        self._watchdog = Watchdog(
            store,
            self._sessions,
            self.login,
            receipts,
            self._reconciler,
            to_reconcile,
            bridge,
            config,
            ports.clock,
        )
        self._group: TaskGroup | None = None
        self._entered = False

    @property
    def running(self) -> bool:
        """Whether it was entered and not left."""
        return self._background.running

    @property
    def ready(self) -> bool:
        """Whether it can take messages now."""
        return self.running and not self._sessions.draining and self.store.healthy

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("a ChatServer can be entered once")
        self._entered = True
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._leave)
            self.engine.start(await self.store.migrate())
            await self._reconciler.begin()
            self._group = await undo.enter_async_context(anyio.create_task_group())
            with anyio.CancelScope(shield=True):  # it takes no time, and must not be left half begun
                await self._group.start(self._background.run, self._begin)
            undo.pop_all()
        self._committer.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._group is not None
        try:
            with anyio.CancelScope(shield=True):
                await self.drain()
            self._committer.abandon()
            self._background.cancel()
            return await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions != (error,):
                raise
            return None  # the host's own error goes on as it is
        finally:
            self._background.cancel()
            await self._leave()

    def connect(self, codec: Codec, wake: Callable[[], None], request: LoginRequest | None = None) -> Session:
        """A session for a connection that was just opened. The caller must call `disconnect` when it ends.

        Args:
            codec: The wire form it speaks.
            wake: Called when there is something to write.
            request: What came with the handshake; None: nothing, and no address to count it under.
        """
        return self._sessions.open(codec, wake, request or LoginRequest())

    def disconnect(self, session: Session) -> None:
        """The connection has ended; nothing is sent to the session any more."""
        self._sessions.end(session)

    async def drain(self) -> None:
        """Refuse new work, answer what was accepted, and send everybody away. Safe to repeat.

        Afterwards every accepted message is durable and answered, as far as `drain_timeout_s` allowed.
        """
        self._committer.close("the node drains")
        self._sessions.announce_drain()
        with anyio.move_on_after(self.config.drain_timeout_s):
            await self._committer.flush()
        with anyio.move_on_after(self.config.drain_timeout_s):
            await self._sessions.send_away()

    def _begin(self) -> None:
        self._background.start(self._committer.run)
        self._background.start(self._reconciler.run)
        if self._bridge is not None:
            self._background.start(self._bridge.run)
        self._watchdog.start(self._background)

    async def _leave(self) -> None:
        """Leave the bus, and close the store in any case, also when cancelled."""
        with anyio.CancelScope(shield=True):
            try:
                if self._bus is not None:
                    await self._bus.aclose()
            finally:
                await self.store.aclose()
