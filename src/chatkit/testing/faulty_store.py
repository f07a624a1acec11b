"""A store that is slow, refuses, or commits and loses the answer; and that a dead node cannot reach.

`FaultyStore` is one node's way to a store that outlives it, as a database server would: `die` cuts that way off at
once, which is what a crash is (a cancellation is none: `finally` blocks still run). `StoreFaults` says what
goes wrong; all ways share it, and it may be changed while they are used. Faults inside a SQLite transaction are in
`faulty_sqlite`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import anyio
import msgspec

from ..errors import UnavailableError
from ..storage.base import Command, DeliveryStore, Outcome, Store
from ..storage.cold import Archivable, ColdStore
from ..storage.search import Searchable, SearchIndex
from .rng import Stream

_RETRY_AFTER_S = 0.5


class StoreFaults(msgspec.Struct, kw_only=True):
    """How a store behaves; probabilities are from 0 to 1 and drawn for each call.

    Attributes:
        latency_s: Least and most seconds that a call takes, half before and half after its effect.
        busy_probability: A commit is refused before anything happens.
        lost_answer_probability: A commit takes effect, and the caller is told UNAVAILABLE all the same.
        read_probability: A read is refused.
    """

    latency_s: tuple[float, float] = (0.0, 0.0)
    busy_probability: float = 0.0
    lost_answer_probability: float = 0.0
    read_probability: float = 0.0


class FaultyStore:
    """`storage.base.Store`, as one node reaches it through these faults.

    Args:
        store: The store itself; it is never opened or closed from here.
        secret: What its `migrate` returned.
        faults: What goes wrong, and how often.
        rng: Where faults and latencies are drawn from.
        commits_in_flight_max: How many commits may be on their way at the same time; the store itself need not take
            more than one.
    """

    def __init__(
        self,
        store: Store,
        secret: bytes,
        faults: StoreFaults,
        rng: Stream,
        commits_in_flight_max: int = 1,
    ) -> None:
        self._store = store
        self._secret = secret
        self._faults = faults
        self._rng = rng
        self._commits_in_flight_max = commits_in_flight_max
        self._refused = False
        self._dead = False

    def die(self) -> None:
        """From here on nothing that the node does reaches the store, and nothing comes back."""
        self._dead = True

    @property
    def commits_in_flight_max(self) -> int:
        """As it was made."""
        return self._commits_in_flight_max

    @property
    def restored(self) -> bool:
        """As the store itself."""
        return self._store.restored

    @property
    def healthy(self) -> bool:
        """Whether the last commit through here was answered."""
        return not self._dead and not self._refused and self._store.healthy

    @property
    def deliveries(self) -> DeliveryStore:
        """The outbox of the store itself, without faults."""
        return self._store.deliveries

    @property
    def cold(self) -> ColdStore:
        """What the store itself knows of its archive, without faults; AttributeError if it knows nothing of one."""
        return cast("Archivable", self._store).cold

    @property
    def search(self) -> SearchIndex:
        """The index of the store itself, without faults; AttributeError if it has none."""
        return cast("Searchable", self._store).search

    async def migrate(self) -> bytes:
        """The store is open already; its secret."""
        return self._secret

    async def aclose(self) -> None:
        """The store outlives its users."""

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        """As the store does it, with faults before and after."""
        try:
            outcomes = await self._commit(commands)
        except BaseException:
            self._refused = True
            raise
        self._refused = False
        return outcomes

    async def _commit(self, commands: Sequence[Command]) -> list[Outcome]:
        await self._pass_time()
        if self._happens(self._faults.busy_probability):
            raise UnavailableError("storage is busy", retry_after_s=_RETRY_AFTER_S)
        outcomes = await self._store.commit(commands)
        await self._pass_time()
        if self._happens(self._faults.lost_answer_probability):
            raise UnavailableError("the answer of storage was lost", retry_after_s=_RETRY_AFTER_S)
        return outcomes

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Every read of the port, with faults."""
        read = getattr(self._store, name)

        async def faulty(*args: Any, **options: Any) -> Any:
            await self._pass_time()
            if self._happens(self._faults.read_probability):
                raise UnavailableError("storage cannot be read", retry_after_s=_RETRY_AFTER_S)
            found = await read(*args, **options)
            await self._pass_time()
            return found

        return faulty

    async def _pass_time(self) -> None:
        """Half of the latency; a node that died meanwhile gets no further."""
        least_s, most_s = self._faults.latency_s
        if most_s > 0:
            await anyio.sleep(self._rng.uniform(least_s, most_s) / 2)
        if self._dead:
            raise UnavailableError("this node is dead", retry_after_s=_RETRY_AFTER_S)

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._rng.random() < probability
