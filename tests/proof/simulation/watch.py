"""What faults really change, seen from the side that suffers them: a fault that is only announced proves nothing.

Nothing here asks the parts that make the faults. A store that never fails raises no error, a bus that never reorders
brings everything in order; then the count stays 0, and the run over many seeds fails.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio

from chatkit.bus.base import Message
from chatkit.bus.local import LocalMember
from chatkit.client.store.base import LocalStore
from chatkit.drivers.sqlite import DiskFailedError
from chatkit.errors import UnavailableError
from chatkit.server.server import ChatServer
from chatkit.storage.base import Command, Outcome, Store
from chatkit.testing.faulty_bus import FaultyBus
from chatkit.testing.faulty_local_store import FaultyLocalStore
from chatkit.testing.faulty_store import FaultyStore
from chatkit.testing.line import Line, Way
from chatkit.transport.base import Connector, Transport, TransportClosedError

Effects = Counter[str]
"""By fault, how often it changed what somebody got."""

_LATE_S: Final = 0.2
"""What hangs for so much longer than the slowest frame was held up."""


class _Behind:
    """The store behind the faults: what really became of each batch, by its address while its caller waits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.done: set[int] = set()
        self.errors: dict[int, UnavailableError] = {}

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        try:
            outcomes = await self._store.commit(commands)
        except UnavailableError as error:
            self.errors[id(commands)] = error
            raise
        self.done.add(id(commands))
        return outcomes

    def forget(self, batch: int) -> None:
        """The caller has its answer."""
        self.errors.pop(batch, None)
        self.done.discard(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class WatchedStore:
    """A node's way to the store, with what went wrong on it counted.

    Args:
        make: Puts the faults before a store.
        usual_s: What a call takes at most while storage is not slow.
        looked: Told which keys the node looks up for its moderator; None: it has none.
    """

    def __init__(
        self,
        store: Store,
        make: Callable[[Any], FaultyStore],
        effects: Effects,
        usual_s: float,
        looked: Callable[[Sequence[tuple[str, str, str]]], None] | None = None,
    ) -> None:
        self._behind = _Behind(store)
        self._faulty = make(self._behind)
        self._effects = effects
        self._usual_s = usual_s
        self._looked = looked
        self._dead = False

    @property
    def healthy(self) -> bool:
        """As the way with the faults says."""
        return self._faulty.healthy

    def die(self) -> None:
        """The node is dead; what it still sees counts for nothing."""
        self._dead = True
        self._faulty.die()

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        """As it is. A refusal is told apart by what the store behind did."""
        began_s, batch = anyio.current_time(), id(commands)
        try:
            outcomes = await self._faulty.commit(commands)
        except UnavailableError:
            self._count(self._refused(batch))
            raise
        finally:
            self._behind.forget(batch)
        self._count_slow(began_s)
        return outcomes

    async def to_moderate(self, sends: Sequence[tuple[str, str, str]]) -> list[bool]:
        """As it is; when it was asked counts, for what is answered later may be asked about twice."""
        if self._looked is not None:
            self._looked(sends)
        found: list[bool] = await self.__getattr__("to_moderate")(sends)
        return found

    def __getattr__(self, name: str) -> Any:
        """Every other method, with refusals of reads counted; a plain attribute as it is."""
        call = getattr(self._faulty, name)
        if not callable(call):
            return call

        async def watched(*args: Any, **options: Any) -> Any:
            began_s = anyio.current_time()
            try:
                found = await call(*args, **options)
            except UnavailableError:
                self._count("storage read refused")
                raise
            self._count_slow(began_s)
            return found

        return watched

    def _refused(self, batch: int) -> str:
        error = self._behind.errors.get(batch)
        if error is not None:
            return "disk broken" if isinstance(error, DiskFailedError) else "disk full"
        return "storage answer lost" if batch in self._behind.done else "storage busy"

    def _count_slow(self, began_s: float) -> None:
        if anyio.current_time() - began_s > self._usual_s + 0.001:
            self._count("storage slow")

    def _count(self, fault: str) -> None:
        if not self._dead:
            self._effects[fault] += 1


class WatchedLocalStore(FaultyLocalStore):
    """A local store whose refusals are counted, but for those of an app that was killed."""

    def __init__(self, store: LocalStore, effects: Effects) -> None:
        super().__init__(store)
        self._effects = effects

    def _writable(self) -> LocalStore:
        try:
            return super()._writable()
        except UnavailableError:
            if not self.dead:
                self._effects["local store full"] += 1
            raise


class WatchedConnector:
    """A way into the network, whose refusals are counted where a server was there to be reached."""

    def __init__(self, connector: Connector, is_up: Callable[[], bool], effects: Effects) -> None:
        self._connector = connector
        self._is_up = is_up
        self._effects = effects

    async def connect(self, subprotocol: str) -> Transport:
        """As the connector within."""
        try:
            return await self._connector.connect(subprotocol)
        except TransportClosedError as error:
            if error.reason == "connection refused" and self._is_up():
                self._effects["refused connection"] += 1
            raise


class WatchedBus(FaultyBus):
    """A bus that compares what each member was to get with what it got."""

    def __init__(self, *args: Any, effects: Effects) -> None:
        super().__init__(*args)
        self._effects = effects
        self._numbers: dict[int, int] = {}
        self._sent: list[Message] = []  # kept, so that no other gets the id of one
        self._got: dict[LocalMember, list[int]] = defaultdict(list)
        self._due: dict[LocalMember, set[int]] = defaultdict(set)

    def join(self) -> LocalMember:
        """A new place, whose arrivals are watched."""
        member = super().join()
        offer = member.offer

        def watched(message: Message) -> None:
            self._arrived(member, self._numbers[id(message)])
            offer(message)

        member.offer = watched  # type: ignore[method-assign]
        return member

    def carry(self, member: LocalMember, message: Message) -> None:
        """As the bus does it; then it is seen whether the message is there."""
        if id(message) not in self._numbers:
            self._numbers[id(message)] = len(self._sent)
            self._sent.append(message)
        self._due[member].add(self._numbers[id(message)])
        super().carry(member, message)

    def count_lost(self) -> None:
        """Count what never came and is not held back either."""
        kept = {self._numbers[id(message)] for _, message in self._held}
        self._effects["bus loss"] += sum(len(numbers - kept) for numbers in self._due.values())
        self._due = defaultdict(set, {member: numbers & kept for member, numbers in self._due.items()})

    def _arrived(self, member: LocalMember, number: int) -> None:
        got = self._got[member]
        if number not in self._due[member]:
            self._effects["bus repeat"] += 1
        elif got and number < max(got[-50:]):
            self._effects["bus reorder"] += 1
        self._due[member].discard(number)
        got.append(number)


_ROUNDING_S = 1e-6
"""Two times that were added up differ by less."""


def watch_drain(server: ChatServer, drained: Callable[[ChatServer], None]) -> None:
    """Have it told when the server has sent everybody away, and had the time to answer them before.

    A drain that lasts as long as it may wait for answers is allowed to leave some out: nothing is told of it.
    """
    drain = server.drain

    async def watched() -> None:
        began_s = anyio.current_time()
        await drain()
        if anyio.current_time() - began_s < server.config.drain_timeout_s - _ROUNDING_S:
            drained(server)

    server.drain = watched  # type: ignore[method-assign]


def held_up(lines: Sequence[Line], usual_s: float, *, up: bool = True, down: bool = True) -> int:
    """How many of these lines have something under way that must have arrived long ago."""
    return sum((up and _hangs(line.up, usual_s)) or (down and _hangs(line.down, usual_s)) for line in lines)


def _hangs(way: Way, usual_s: float) -> bool:
    oldest = way._under_way[0] if way._under_way else None
    return oldest is not None and anyio.current_time() - oldest.sent_at_s > usual_s + _LATE_S
