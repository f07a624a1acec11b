"""What a server does by time: deadlines of sessions, the probe of storage, and the looks at log and devices."""

from __future__ import annotations

from typing import Final

from ..core.connection import State
from ..ports import Clock
from ..storage.base import Done, Store
from ..wire import events as ev
from .access import Access
from .background import Background
from .cluster.bridge import ClusterBridge
from .cluster.reconcile import Reconciler
from .cluster.reconcile_queue import ReconcileQueue
from .config import ServerConfig
from .devices import SEEN_EVERY_S, Devices
from .engine import Engine
from .login import Login
from .presence import RENEW_S, PresenceService
from .presence import TICK_S as PRESENCE_TICK_S
from .receipts import Receipts
from .restoration import Restoration
from .sessions import Sessions

_TICK_S: Final = 1.0

_LOG_TOKEN_S: Final = 5.0

_CHECK_WITH_BUS_S: Final = 3.0
"""How often logs are compared where other nodes write to them, unless the configuration says otherwise."""


class Watchdog:
    """The timers of a server."""

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        login: Login,
        receipts: Receipts,
        presence: PresenceService,
        reconciler: Reconciler,
        to_reconcile: ReconcileQueue,
        bridge: ClusterBridge | None,
        restoration: Restoration,
        access: Access,
        devices: Devices,
        engine: Engine,
        config: ServerConfig,
        clock: Clock,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._login = login
        self._receipts = receipts
        self._presence = presence
        self._reconciler = reconciler
        self._to_reconcile = to_reconcile
        self._bridge = bridge
        self._restoration = restoration
        self._access = access
        self._devices = devices
        self._engine = engine
        self._config = config
        self._clock = clock

    def start(self, background: Background) -> None:
        """Start all timers."""
        background.every(_TICK_S, self._check_deadlines)
        background.every(_TICK_S, self._receipts.flush_counts)
        background.every(_TICK_S, self._probe_storage)
        background.every(_TICK_S, self._reconciler.retry)
        background.every(self._heads_check_s(), self._check_heads)
        background.every(_LOG_TOKEN_S, self._restoration.refresh)
        background.every(SEEN_EVERY_S, self._see_devices)
        if self._presence.on:
            self._presence.begin()
            background.every(PRESENCE_TICK_S, self._presence.tick)
            background.every(RENEW_S, self._presence.renew)
        if self._bridge is not None:
            background.every(_TICK_S, self._bridge.check_unreadable)
            background.start(self._access.run)

    async def _check_deadlines(self) -> None:
        """Close sessions whose time is over. Never waits for storage."""
        now_s, hello_timeout_s = self._clock.now_s(), self._config.hello_timeout_s
        for session in self._sessions:
            if session.state is State.OPEN:
                self._login.watch(session)
                if now_s - session.heard_at_s > 2 * self._config.heartbeat_s:
                    session.close(ev.CloseCode.HEARTBEAT_LOST, "no sign of life")
            elif session.state is State.AWAITING_HELLO and now_s - session.opened_at_s > hello_timeout_s:
                session.close(ev.CloseCode.HELLO_MISSING, "no HELLO in time")

    async def _probe_storage(self) -> None:
        """Find out whether storage that refused takes commits again, even if nobody writes meanwhile."""
        if not self._store.healthy:
            await self._store.commit([])

    def _heads_check_s(self) -> float:
        if self._config.heads_check_s is not None:
            return self._config.heads_check_s
        return self._config.heartbeat_s if self._bridge is None else _CHECK_WITH_BUS_S

    async def _check_heads(self) -> None:
        """Have what was pushed compared with the log: pushes and cluster messages may be lost, entries may not.

        With other nodes the devices are looked at too: one may have opened a newer session there.
        """
        self._to_reconcile.all_logs()
        self._to_reconcile.changes()
        if self._bridge is not None:
            self._to_reconcile.all_devices()

    async def _see_devices(self) -> None:
        """Note that the devices of this node are online."""
        for command in self._devices.online():
            await self._engine.execute(command, Done)
