"""All parts of one run, put together from its plan: servers over one store, devices, the network, the history."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from chatkit.errors import ChatkitError, UnauthenticatedError
from chatkit.server.server import ChatServer
from chatkit.testing.faulty_bus import BusFaults
from chatkit.testing.faulty_store import StoreFaults
from chatkit.testing.network import Conditions, Line, LineEvent, Network
from chatkit.testing.rng import Rng
from chatkit.testing.virtual_time import START_MS, VirtualClock
from chatkit.transport.base import ABNORMAL
from chatkit.types import Identity
from chatkit.wire.codec import CODECS

from ..dumps import CompleteHistory
from ..held import Peaks, client_peaks, server_peaks
from .bot import Bot, HandlerCrashError
from .device import Device
from .moderation import Reviewer, SimulatedModerator
from .node import Node
from .plan import Plan
from .storage import SharedStore
from .watch import Effects, WatchedBus, WatchedConnector

_RESTART_S = (0.1, 3.0)

_FORESEEN = (ChatkitError, HandlerCrashError)  # of handlers that crash at once, one is raised

BROKEN = "line broken"
"""In `World.effects`: an end of a line that saw a break."""


class World:
    """A run while it lasts: `async with World(plan, folder) as world`.

    Args:
        plan: What it is made of.
        folder: An empty one, for files.

    Attributes:
        folder: Where the files are.
        history: All that happened.
        alarms: What must never happen and did: an error that nobody foresaw, a client that stopped for good.
        calm: Set in the second phase: whatever died is started at once, and nothing is made to fail.
        over: Set at the end: whatever ends is not started again.
        peaks: The most that was held of everything that has a bound.
        reviewer: Decides about what is held.
        effects: What faults changed, as it was seen where it was suffered.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.rng = Rng(plan.seed)
        self.history = CompleteHistory(anyio.current_time)
        self.alarms: list[str] = []
        self.calm = False
        self.over = False
        self.peaks = Peaks()
        self.store_faults = StoreFaults(latency_s=plan.storage_s)
        self.bus_faults = BusFaults(loss_probability=1.0 if plan.dead_bus else 0.0)
        self.effects = Effects()
        several = plan.nodes > 1
        self.bus = (
            WatchedBus(self.bus_faults, self.rng.stream("bus"), effects=self.effects) if several else None
        )
        self.network = Network(
            self.rng.stream("network"),
            conditions=Conditions(latency_s=plan.latency_s),
            observe=self._observe,
            observe_line=self._observe_line,
        )
        self.storage = SharedStore(
            plan.storage,
            folder / "server.db",
            self.rng.ports("storage").ids,
            self.rng.stream("disk"),
        )
        self.reviewer = Reviewer(self.rng.stream("reviewer"), self.history)
        self._routes = self.rng.stream("routes")
        self._restarts = self.rng.stream("restarts")
        self.clocks: dict[str, VirtualClock] = {}
        self.nodes = [self._node(f"n-{number}") for number in range(plan.nodes)]
        self.devices = [
            self._device(f"u-{user}", f"d-{device}", folder)
            for user in range(plan.users)
            for device in range(plan.devices)
        ]
        self._by_name = {(device.user_id, device.device_id): device for device in self.devices}
        self._log = _Alarms(self.alarms)
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        logging.getLogger("chatkit").addHandler(self._log)
        self._rehearse_alarms()
        if self.plan.dead_bus:
            self.history.happened("bus loss", "everything, for good")
        await self.storage.open()
        await self.network.__aenter__()
        self._tasks = await anyio.create_task_group().__aenter__()
        for node in self.nodes:
            self._tasks.start_soon(self._keep_running, node.live)
        for node in self.nodes:
            await node.wait_started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        try:
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(kind, error, trace)
            return await self.network.__aexit__(kind, error, trace)
        finally:
            with anyio.CancelScope(shield=True):
                await self.storage.store.aclose()
            logging.getLogger("chatkit").removeHandler(self._log)

    def start_devices(self) -> None:
        """Start every app; from here on one that ends is started again."""
        assert self._tasks is not None
        for device in self.devices:
            self._tasks.start_soon(self._keep_running, device.live)

    def servers(self) -> list[ChatServer]:
        """Servers that run now."""
        return [node.server for node in self.nodes if node.server is not None]

    def kill(self, device: Device) -> None:
        """Kill an app; its connections break."""
        device.kill()
        for line in self.lines_of(device):
            line.cut()

    def lines_of(self, device: Device) -> list[Line]:
        """The open connections of a device; more than one if an older one is half open."""
        return [
            line
            for line in self.network.lines
            if (line.user_id, line.device_id) == (device.user_id, device.device_id)
        ]

    def _rehearse_alarms(self) -> None:
        """An error that nobody foresaw must become an alarm; this one is taken back."""
        logging.getLogger("chatkit.rehearsal").error("a rehearsal")
        if not self.alarms:
            raise AssertionError("the alarms are silent: an error was logged, and there is none")
        self.alarms.clear()

    async def _keep_running(self, live: Callable[[], Awaitable[None]]) -> None:
        while not self.over:
            await live()
            await anyio.sleep(0.05 if self.calm else self._restarts.uniform(*_RESTART_S))

    # --- making the parts ---

    def _clock(self, name: str) -> VirtualClock:
        return self.clocks.setdefault(name, VirtualClock())

    def _node(self, name: str) -> Node:
        return Node(
            name,
            storage=self.storage,
            faults=self.store_faults,
            commits_in_flight_max=self.plan.commits_in_flight_max,
            bus=self.bus,
            effects=self.effects,
            network=self.network,
            authenticate=self._authenticate,
            config=self.plan.server,
            ports=self.rng.ports(name, self._clock(name)),
            rng=self.rng.stream(f"{name} store"),
            count=self.history.counts.append,
            moderator=self._moderator(name),
            moderation=None if self.plan.moderation is None else self.plan.moderation.config,
        )

    def _moderator(self, name: str) -> SimulatedModerator | None:
        plan = self.plan.moderation
        if plan is None:
            return None
        return SimulatedModerator(plan, self.rng.stream(f"{name} moderator"), self.history, lambda: self.calm)

    def _device(self, user_id: str, device_id: str, folder: Path) -> Device:
        name = f"{user_id}-{device_id}"
        rng = self.rng.stream(f"{name} made")
        in_file = rng.random() < self.plan.sqlite_devices_share

        def choose() -> str | None:
            return None if device.killed else self._route()

        device = Device(
            user_id,
            device_id,
            path=folder / f"{name}.db" if in_file else None,
            token=self._token_maker(user_id),
            connector=WatchedConnector(
                self.network.connector(
                    user_id, device_id, choose, sliced=rng.random() < self.plan.sliced_share
                ),
                lambda: bool(self.servers()),
                self.effects,
            ),
            codec=rng.choice(("json", "msgpack")),
            config=self.plan.client,
            ports=self.rng.ports(name, self._clock(name)),
            history=self.history,
            rng=self.rng.stream(f"{name} app"),
            slow_consumer_s=rng.choice((0.0, 0.0, 0.05)),
            effects=self.effects,
            bot=self._bot(f"{user_id}/{device_id}"),
            alarm=self.alarms.append,
        )
        return device

    def _bot(self, name: str) -> Bot | None:
        """A bot for some of the devices; with streams of their own, so that nothing else of the run changes."""
        rng = self.rng.stream(f"{name} bot")
        if rng.random() >= self.plan.bots_share:
            return None
        concurrency = self.rng.stream(f"{name} concurrency").choice((1, 3, 8))
        return Bot(name, rng, self.plan.handler_crash_share, self.alarms.append, concurrency)

    def _route(self) -> str | None:
        running = [node.name for node in self.nodes if node.server is not None]
        return self._routes.choice(running) if running else None

    def _token_maker(self, user_id: str) -> Callable[[], Awaitable[str]]:
        async def token() -> str:
            if self.plan.token_s is None:
                return user_id
            return f"{user_id} {int((anyio.current_time() + self.plan.token_s) * 1000)}"

        return token

    async def _authenticate(self, token: str) -> Identity:
        user_id, _, expires = token.partition(" ")
        if not user_id.startswith("u-"):
            raise UnauthenticatedError("no such user")
        return Identity(user_id, None, START_MS + int(expires) if expires else None)

    def _observe(self, line: Line, up: bool, frame: bytes | str) -> None:
        self._look(line)
        self.history.frame(
            line.user_id,
            line.device_id,
            frame,
            CODECS[line.subprotocol],
            up=up,
            connection=line.number,
            node=line.node,
        )

    def _observe_line(self, line: Line, event: LineEvent, code: int | None) -> None:
        if event != "opened":
            self.history.connections_ended_s.setdefault(line.number, anyio.current_time())
        if code == ABNORMAL:
            self.effects[BROKEN] += 1

    def _look(self, line: Line) -> None:
        """Hold what is held at both ends against its bounds."""
        server = next((node.server for node in self.nodes if node.name == line.node), None)
        if server is not None:
            self.peaks.look("servers", server_peaks(server))
        device = self._by_name[line.user_id, line.device_id]
        if device.client is not None:
            self.peaks.look("clients", client_peaks(device.client))


class _Alarms(logging.Handler):
    """Turns what chatkit logs of faults that it did not foresee into alarms."""

    def __init__(self, alarms: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._alarms = alarms

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "chatkit.server.moderation.asking":
            return  # that a moderator failed is foreseen
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, _FORESEEN):
            self._alarms.append(f"{record.getMessage()}: {error!r}")
