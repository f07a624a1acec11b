"""One server of a run: the real engine over its own way to the shared store, crashed, drained and started again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import cast

import anyio

from chatkit.bus.local import LocalMember
from chatkit.errors import UnavailableError
from chatkit.observability.instrument import Instrument, SeqViolation
from chatkit.ports import Ports
from chatkit.server.auth import Authenticator
from chatkit.server.config import ServerConfig
from chatkit.server.moderation.config import ModerationConfig
from chatkit.server.server import ChatServer
from chatkit.storage.base import Store
from chatkit.testing.faulty_bus import FaultyBus
from chatkit.testing.faulty_store import FaultyStore, StoreFaults
from chatkit.testing.network import Network
from chatkit.testing.rng import Stream

from ..held import Count, sizes, unanswered_count
from .moderation import SimulatedModerator
from .storage import SharedStore
from .watch import Effects, WatchedStore, watch_drain


class NumbersWatched(Instrument):
    """Has the server look for broken numbers (`server.seq_check`), which it logs: the run's alarm."""

    def on_seq_violation(self, found: SeqViolation) -> None:
        """It is in the log."""


class Node:
    """A server process.

    Args:
        count: Takes what was counted of a drain.

    Attributes:
        server: The engine while the process runs; None while it does not.
        fresh: How much each container of the server held before its first connection.
    """

    def __init__(
        self,
        name: str,
        *,
        storage: SharedStore,
        faults: StoreFaults,
        commits_in_flight_max: int = 1,
        bus: FaultyBus | None,
        effects: Effects,
        network: Network,
        authenticate: Authenticator,
        config: ServerConfig,
        ports: Ports,
        rng: Stream,
        count: Callable[[Count], None],
        moderator: SimulatedModerator | None = None,
        moderation: ModerationConfig | None = None,
    ) -> None:
        self.name = name
        self.server: ChatServer | None = None
        self.fresh: dict[str, int] = {}
        self._storage = storage
        self._faults = faults
        self._commits_in_flight_max = commits_in_flight_max
        self._usual_s = faults.latency_s[1]
        self._bus = bus
        self._effects = effects
        self._place: LocalMember | None = None
        self._network = network
        self._authenticate = authenticate
        self._config = config
        self._ports = ports
        self._rng = rng
        self._count = count
        self._moderator = moderator
        self._moderation = moderation
        self._port: WatchedStore | None = None
        self._scope = anyio.CancelScope()
        self._started = anyio.Event()
        self._stopped = anyio.Event()
        self._stopped.set()

    async def live(self) -> None:
        """Run from start to crash or drain."""
        async with self._storage.gate:
            self._stopped = anyio.Event()
        try:
            await self._live()
        finally:
            self._stopped.set()

    async def wait_started(self) -> None:
        """Return once it takes connections; for the first start."""
        await self._started.wait()

    async def wait_stopped(self) -> None:
        """Return once nothing of it runs."""
        await self._stopped.wait()

    async def _live(self) -> None:
        looked = None if self._moderator is None else self._moderator.looked
        self._port = WatchedStore(self._storage.store, self._faulty, self._effects, self._usual_s, looked)
        self._scope = anyio.CancelScope()
        with self._scope, suppress(UnavailableError):  # a start that storage refuses is tried again
            await self._serve(cast("Store", self._port))

    async def _serve(self, port: Store) -> None:
        self._place = None if self._bus is None else self._bus.join()
        server = ChatServer(
            store=port,
            authenticate=self._authenticate,
            config=self._config,
            ports=self._ports,
            bus=self._place,
            moderator=self._moderator,
            moderation=self._moderation,
            instruments=[NumbersWatched()],
        )
        watch_drain(server, self._drained)
        try:
            async with server:
                self.fresh = sizes(server)
                self._network.attach(self.name, server)
                self.server = server
                self._started.set()
                await anyio.sleep_forever()
        finally:
            self.server = None
            self._network.detach(self.name)

    def _faulty(self, store: Store) -> FaultyStore:
        return FaultyStore(store, self._storage.secret, self._faults, self._rng, self._commits_in_flight_max)

    def _drained(self, server: ChatServer) -> None:
        if self.server is server:  # a dead one answers nobody
            unanswered = unanswered_count(server)
            self._count(Count("drained", self.name, "commands without an answer", unanswered))

    def crash(self) -> None:
        """As SIGKILL: its ports are dead before anything of it hears of the end."""
        if self._port is not None:
            self._port.die()
        if self._place is not None:
            self._place.leave()
        self._network.detach(self.name)
        self.server = None
        self._scope.cancel()

    def drain(self) -> None:
        """As SIGTERM: what was accepted is answered, everybody is sent away, then it ends."""
        self._scope.cancel()
