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

from .._arguments import check_callable, check_has, check_kind
from ..bus.base import Bus
from ..errors import ConfigurationError, RefusedError
from ..ports import Ports
from ..storage.base import Store
from ..wire.codec import Codec
from .access import Access
from .allowance import Allowance
from .asking import Asking, ResumeAuthorizer
from .auth import Authenticator
from .background import Background
from .cluster.bridge import ClusterBridge
from .cluster.reconcile import Reconciler
from .cluster.reconcile_queue import ReconcileQueue
from .committer import Committer
from .config import ServerConfig
from .devices import Devices
from .dispatch import Dispatch
from .engine import Engine
from .live.hub import Hub
from .login import Login
from .login_verbs import LoginVerbs
from .publisher import Publisher
from .read_gate import ReadGate
from .receipts import Receipts
from .restoration import Restoration
from .session import Session
from .sessions import Sessions
from .sync import Sync
from .typing import Typing
from .watchdog import Watchdog


class ChatServer(LoginVerbs):
    """A chat server to embed: `async with ChatServer(...) as server`, and `asgi_app(server)` to reach it by.

    Inside the `async with` it takes sessions and requests; leaving it drains. It may be entered once.

    Args:
        store: Where the log lives; opened on entering, closed on leaving.
        authenticate: Who a token proves its bearer to be.
        authorize_resume: Asked when a client comes back by a resume token: whether that login still holds. None: it
            holds until it ends, was revoked, or is `login_max_s` old.
        config: Bounds and times.
        ports: Clock, random numbers, ids.
        bus: Where the other servers on the same log hear of what happens here; None: there is no other.

    Attributes:
        engine: For endpoints such as `asgi_app`, not for hosts: the verbs of users.
        sync: For endpoints, not for hosts: pages of the log.
        login: For endpoints, not for hosts: tokens to identities.
        allowance: For endpoints, not for hosts: what a user may still ask for.
        reads: For endpoints, not for hosts: whose turn it is to read.
    """

    def __init__(
        self,
        *,
        store: Store,
        authenticate: Authenticator,
        authorize_resume: ResumeAuthorizer | None = None,
        config: ServerConfig | None = None,
        ports: Ports | None = None,
        bus: Bus | None = None,
    ) -> None:
        check_has("store", store, "commit", "a Store, such as open_store('sqlite:///chat.db')")
        check_callable("authenticate", authenticate, "an async callable, such as jwt_authenticator(secret)")
        check_kind("config", config, ServerConfig, optional=True)
        check_kind("ports", ports, Ports, optional=True)
        config, ports = config or ServerConfig(), ports or Ports()
        self.config, self.ports = config, ports
        self._bus = bus
        self._background = Background()
        spawn = self._background.spawn
        to_reconcile = ReconcileQueue()
        hub = Hub(to_reconcile, bus)
        receipts = Receipts(hub, to_reconcile, store)
        clustered = bus is not None
        self._access = Access(store, hub, self._refuse_queued, ports.clock, clustered=clustered)
        bridge = (
            None
            if bus is None
            else ClusterBridge(bus, hub, receipts, to_reconcile, ports.random, self._access.look)
        )
        publisher = Publisher(hub, receipts, to_reconcile, bridge, self._access, config)
        self._committer = Committer(store, publisher, config)
        devices = Devices(hub.presence, config.limits, ports.clock, clustered=clustered)
        self.allowance = Allowance(config.limits, config.typing_interval_s, ports.clock)
        self.reads = ReadGate(config.limits)
        engine = Engine(store, self._committer, publisher, devices, self.allowance, config, ports)
        super().__init__(engine, store)
        self._hub, self._bridge = hub, bridge
        asking = Asking(authenticate, authorize_resume, config.hello_timeout_s)
        self.login = Login(engine, asking, self._access, devices, self.allowance, config, ports, spawn)
        self.sync = Sync(store, hub, to_reconcile, self.allowance, self.reads, config, spawn)
        typing = Typing(store, hub, bridge, self._committer, self.allowance, config)
        self._restoration = Restoration(store, self.engine)
        dispatch = Dispatch(
            self.engine,
            self.login,
            self.sync,
            typing,
            self.allowance,
            hub,
            self._restoration,
            ports.clock,
            spawn,
        )
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
            self._restoration,
            self._access,
            devices,
            self.engine,
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
            secret = await self.store.migrate()
            self.engine.start(secret)
            await self._reconciler.begin()
            await self._access.begin()
            self._group = await undo.enter_async_context(anyio.create_task_group())
            with anyio.CancelScope(shield=True):  # it takes no time, and must not be left half begun
                await self._group.start(self._background.run, self._begin)
            self._committer.open()
            try:
                await self._restoration.start(secret)
            except BaseException:
                self._background.cancel()
                raise
            undo.pop_all()
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

    def connect(self, codec: Codec, wake: Callable[[], None]) -> Session:
        """A session for a connection that was just opened. The caller must call `disconnected` when it ends."""
        return self._sessions.open(codec, wake)

    def disconnected(self, session: Session) -> None:
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

    def _refuse_queued(self, session: Session, error: RefusedError) -> None:
        self._committer.refuse_of(session, error)

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
