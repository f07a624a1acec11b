"""Several nodes on one store, joined by a bus that loses, repeats and delays as told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import anyio
from anyio.abc import TaskGroup

from chatkit.bus.base import Bus, Message
from chatkit.bus.local import LocalBus, LocalMember
from chatkit.errors import UnavailableError
from chatkit.observability.instrument import Instrument
from chatkit.ports import Ports, SystemIds
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.server.moderation.verdicts import Moderator
from chatkit.storage.base import Entry, Store
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.virtual_time import VirtualClock

from .harness import HarnessServer, Peer, by_name

Fate = Callable[[LocalMember, Message], Sequence[float]]
"""After how many seconds a member gets a message, once for each number given."""


def at_once(member: LocalMember, message: Message) -> Sequence[float]:
    return (0.0,)


def never(member: LocalMember, message: Message) -> Sequence[float]:
    return ()


class FatefulBus(LocalBus):
    """A bus whose messages have a fate."""

    def __init__(self, tasks: TaskGroup, queue_max: int = 10_000) -> None:
        super().__init__(queue_max)
        self.fate: Fate = at_once
        self.members: list[LocalMember] = []
        self.carried = 0
        self._tasks = tasks

    def join(self) -> LocalMember:
        self.members.append(super().join())
        return self.members[-1]

    def carry(self, member: LocalMember, message: Message) -> None:
        self.carried += 1
        for delay_s in self.fate(member, message):
            if delay_s:
                self._tasks.start_soon(self._later, member, message, delay_s)
            else:
                member.offer(message)

    async def _later(self, member: LocalMember, message: Message, delay_s: float) -> None:
        await anyio.sleep(delay_s)
        member.offer(message)


def wild(seed: int, *, lost: float = 0.3, doubled: float = 0.3, delay_s: float = 0.2) -> Fate:
    """Lost, doubled and late at random."""
    rng = Random(seed)

    def fate(member: LocalMember, message: Message) -> Sequence[float]:
        copies = 0 if rng.random() < lost else 2 if rng.random() < doubled else 1
        return [rng.random() * delay_s for _ in range(copies)]

    return fate


class SharedStore:
    """One store for several servers: the first one opens it, whoever made it closes it."""

    def __init__(self, store: Store) -> None:
        self.inner = store
        self.refused_reads = 0
        self._secret = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def migrate(self) -> bytes:
        self._secret = self._secret or await self.inner.migrate()
        return self._secret

    async def aclose(self) -> None:
        """The other servers go on."""

    async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[Entry]:
        if self.refused_reads:
            self.refused_reads -= 1
            raise UnavailableError("the disk refuses", retry_after_s=0.5)
        return await self.inner.entries(conversation_id, after_seq, limit)


class Cluster:
    """Nodes, and what they share."""

    def __init__(self, store: SharedStore, bus: FatefulBus, nodes: list[HarnessServer]) -> None:
        self.store = store
        self.bus = bus
        self.nodes = nodes


def make_store(kind: str) -> Store:
    """An empty store that needs no threads."""
    if kind == "memory":
        return MemoryStore(ids=SystemIds())
    return SqliteStore(":memory:", ids=SystemIds(), threads=False)


def node(
    store: SharedStore,
    bus: Bus,
    *,
    instruments: Sequence[Instrument] = (),
    moderator: Moderator | None = None,
    **config: Any,
) -> HarnessServer:
    """A server to be entered."""
    return HarnessServer(
        store=store,
        authenticate=by_name,
        config=ServerConfig(**{"limits": Limits.unlimited(), **config}),
        ports=Ports(VirtualClock()),
        bus=bus,
        instruments=instruments,
        moderator=moderator,
    )


@asynccontextmanager
async def cluster(
    kind: str,
    count: int = 2,
    *,
    queue_max: int = 10_000,
    instruments: Sequence[Sequence[Instrument]] = ((), (), ()),
    **config: Any,
) -> AsyncIterator[Cluster]:
    """Entered servers on one fresh store and one bus, each with its instruments."""
    store = SharedStore(make_store(kind))
    async with anyio.create_task_group() as tasks:
        bus = FatefulBus(tasks, queue_max)
        async with AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(node(store, bus.join(), instruments=given, **config))
                for given in instruments[:count]
            ]
            yield Cluster(store, bus, nodes)
        tasks.cancel_scope.cancel()
    await store.inner.aclose()


def seqs(events: Sequence[dict[str, Any]], conversation_id: str) -> list[int]:
    """Seqs of the pushes of one conversation, in the order they came."""
    return [
        it["seq"] for it in events if it["event"] == "NEW_MSG" and it["conversationId"] == conversation_id
    ]


async def after(seconds: float, peer: Peer) -> list[dict[str, Any]]:
    """What a peer has been sent, a while later."""
    await anyio.sleep(seconds)
    return peer.read()
