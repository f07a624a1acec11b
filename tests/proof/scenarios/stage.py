"""Where a scenario is played: real servers and devices on one store and one network.

The parts are those of the simulator, but nothing here draws what happens next: that is the script's. What it does is
noted in the history like everything else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import anyio
from anyio.abc import TaskGroup

from chatkit.bus.base import Message
from chatkit.bus.local import LocalMember
from chatkit.errors import ChatkitError
from chatkit.ports import Ids
from chatkit.server.server import ChatServer
from chatkit.storage.base import Store
from chatkit.testing.faulty_bus import BusFaults, FaultyBus
from chatkit.testing.faulty_store import StoreFaults
from chatkit.testing.network import Line, Network
from chatkit.testing.recording import by_name, frames_into
from chatkit.testing.rng import Rng

from ..checker import check
from ..dumps import CompleteHistory, dump_store
from ..simulation.node import Node
from ..simulation.plan import Storage
from ..simulation.storage import SharedStore
from ..simulation.watch import Effects
from .actor import Actor
from .demands import PATIENCE_S, holds, require, until
from .host import Host
from .scenario import Outcome, Scenario
from .stops import StoppableStore
from .wire import Wire

MakeStore = Callable[[Ids], Store]
"""Makes an empty store, not yet migrated."""

_LOOK_EVERY_S = 0.25
_PEACE_S = 20.0
"""So long nothing may go wrong any more before the end is written down: several heartbeats."""


class Stage:
    """The parts of one scenario while it lasts: `async with Stage(...) as stage`.

    Args:
        scenario: Says what there is.
        seed: Draws delays, jitter, ids and, with the loop's own, the order of tasks.
        store: Which store the servers share, or what makes it.
        folder: An empty one, for files.

    Attributes:
        history: All that happened.
        wire: What went over the lines.
        network: The lines.
        store: The servers' store, to be stopped.
        bus_faults: What the bus between several servers does to their frames.
        host: The host's verbs, and the log.
        nodes: The servers.
        alarms: Errors that nobody foresaw, and clients that stopped for good.
    """

    def __init__(self, scenario: Scenario, seed: int, store: Storage | MakeStore, folder: Path) -> None:
        self._scenario = scenario
        self._rng = Rng(seed)
        self._folder = folder
        self.history = CompleteHistory(anyio.current_time)
        self.wire = Wire()
        self.network = Network(
            self._rng.stream("network"),
            observe=self._arrived,
            observe_line=self.wire.happened,
            window_bytes=scenario.window_bytes,
        )
        self._note_frame = frames_into(self.history)
        self._shared = self._shared_store(store)
        self._log = self._shared.store
        self.store = StoppableStore(self._log)
        self._shared.store = cast("Store", self.store)
        self.bus_faults = BusFaults()
        self._bus = _Bus(self.bus_faults, self._rng.stream("bus")) if scenario.nodes > 1 else None
        self.host = Host(self.history, self._log, self._server)
        self.nodes = [self._node(f"n-{number}") for number in range(1, scenario.nodes + 1)]
        self.alarms: list[str] = []
        self._actors: list[Actor] = []
        self._watch = _Alarms(self.alarms)
        self._tasks: TaskGroup | None = None

    def lose_bus(self) -> None:
        """From here on nothing that a server gives to the bus arrives."""
        self.bus_faults.loss_probability = 1.0
        self.history.happened("bus loss")

    async def __aenter__(self) -> Self:
        logging.getLogger("chatkit").addHandler(self._watch)
        await self._shared.open()
        await self.network.__aenter__()
        self._tasks = await anyio.create_task_group().__aenter__()
        for node in self.nodes:
            await self.start(node)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        try:
            self.store.let_all_go()
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)
            await self.network.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._log.aclose()
            logging.getLogger("chatkit").removeHandler(self._watch)

    async def played(self) -> Outcome:
        """Play the scenario, let everything come to rest, and judge it.

        Raises:
            TrapNotSetOffError: The scenario itself is wrong.
            PromiseBrokenError: One of its own demands is not met, or not everybody has everything in the end.
        """
        await self._scenario.play(self)
        await self._come_to_rest()
        self.history.store = await dump_store(self._log, self.host.conversation_ids)
        self.history.devices += [actor.left_behind() for actor in self._actors]
        window_ms = int(self._scenario.server.recall_window_s * 1000)
        return Outcome(self.history, check(self.history, recall_window_ms=window_ms), self.alarms)

    # --- servers ---

    @property
    def frames_between_nodes(self) -> int:
        """How many frames the servers have given to the bus, for any of the others."""
        return 0 if self._bus is None else self._bus.frames

    async def start(self, node: Node) -> None:
        """Start a server, which does not run; it takes connections when this returns."""
        self._spawn(node.live)
        await until(lambda: node.server is not None, f"{node.name} runs")

    def crash(self, node: Node) -> None:
        """Kill a server as SIGKILL would. A call that is stopped in the store is still the script's to end."""
        self.history.happened("server crash", node.name)
        node.crash()

    def _server(self) -> ChatServer:
        """The first one that runs."""
        running = [node.server for node in self.nodes if node.server is not None]
        require(running, "a server runs")
        return running[0]

    # --- devices ---

    async def device(
        self, user_id: str, device_id: str = "phone", *, in_file: bool = False, node: str | None = "n-1"
    ) -> Actor:
        """Install an app and start it; returns once it has caught up.

        Args:
            user_id: Whose.
            device_id: On what.
            in_file: Keep its local store in a file instead of in memory.
            node: Where its connections go; None: it has no network yet, and this returns at once.
        """
        actor = self.install(user_id, device_id, in_file=in_file)
        actor.node = node
        actor.begin()
        if node is not None:
            await actor.caught_up()
        return actor

    def install(self, user_id: str, device_id: str = "phone", *, in_file: bool = False) -> Actor:
        """Install an app without starting it."""
        name = f"{user_id}-{device_id}-{len(self._actors)}"
        actor = Actor(
            user_id,
            device_id,
            name=name,
            path=self._folder / f"{name}.db" if in_file else None,
            network=self.network,
            wire=self.wire,
            history=self.history,
            rng=self._rng,
            ports=self._rng.ports(name),
            config=self._scenario.client,
            spawn=self._spawn,
            alarm=self.alarms.append,
        )
        self._actors.append(actor)
        return actor

    # --- the end ---

    async def _come_to_rest(self) -> None:
        """Everybody who runs gets everything, and after a while of peace still has it."""
        for _ in range(int(PATIENCE_S / _LOOK_EVERY_S)):
            if await self._lacking() is None:
                await anyio.sleep(_PEACE_S)
                break
            await anyio.sleep(_LOOK_EVERY_S)
        lacking = await self._lacking()
        holds(lacking is None, f"in the end everybody has everything; {lacking}")

    async def _lacking(self) -> str | None:
        """The first thing that is not as it should be in the end."""
        for call in self.history.calls:
            if call.result is None:
                return f"{call.op} of {call.user_id}/{call.device_id}, call {call.number}, has not returned"
        heads = await self._log.head_seqs(self.host.conversation_ids)
        for actor in self._actors:
            lacking = await self._lacking_on(actor, heads) if actor.running else None
            if lacking is not None:
                return f"{actor.name} {lacking}"
        return None

    async def _lacking_on(self, actor: Actor, heads: dict[str, tuple[str, int]]) -> str | None:
        if actor.pending_count != 0:
            return f"has {actor.pending_count} messages without an answer"
        placed = actor.placed_heads()
        for head in await self._log.heads(actor.user_id, actor.device_id):
            epoch, head_seq = heads[head.conversation_id]
            has = placed.get(head.conversation_id)
            if has is None or (has.epoch, has.delivered_seq) != (epoch, head_seq):
                return f"lacks {head.conversation_id} up to seq {head_seq}"
            if head.delivered_seq < head_seq:
                return f"has not confirmed {head.conversation_id} up to seq {head_seq}"
        return None

    # --- making the parts ---

    def _shared_store(self, store: Storage | MakeStore) -> SharedStore:
        ids = self._rng.ports("storage").ids
        kind: Storage = "memory" if callable(store) else store
        shared = SharedStore(kind, self._folder / "server.db", ids, self._rng.stream("disk"))
        if callable(store):
            shared.store = store(ids)
        return shared

    def _node(self, name: str) -> Node:
        return Node(
            name,
            storage=self._shared,
            bus=self._bus,
            faults=StoreFaults(),
            effects=Effects(),
            network=self.network,
            authenticate=by_name,
            config=self._scenario.server,
            ports=self._rng.ports(name),
            rng=self._rng.stream(f"{name} store"),
            count=self.history.counts.append,
        )

    def _spawn(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(act)

    def _arrived(self, line: Line, up: bool, frame: bytes | str) -> None:
        self._note_frame(line, up, frame)
        self.wire.arrived(line, up, frame)


class _Bus(FaultyBus):
    """Counts what it is given."""

    frames = 0

    def carry(self, member: LocalMember, message: Message) -> None:
        self.frames += 1
        super().carry(member, message)


class _Alarms(logging.Handler):
    """Turns what chatkit logs of faults that it did not foresee into alarms."""

    def __init__(self, alarms: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._alarms = alarms

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, ChatkitError):
            self._alarms.append(f"{record.getMessage()}: {error!r}")
