"""Once a second, how the server stands; only while an instrument wants to know. Called by `server`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import anyio

from .._abilities import offers
from ..core.connection import State
from ..observability.instrument import Instruments, ServerSample
from ..storage.base import Store
from .committer import Committer
from .live.hub import Hub
from .searching import Searching
from .sessions import Sessions

TICK_S: Final = 0.1
"""How often it is looked whether the event loop is late."""

TICKS: Final = 10
"""After so many there is a sample."""


class HasLog(Protocol):
    """A store with a write-ahead log of its own."""

    @property
    def wal_bytes(self) -> int:
        """The size of it."""


class Sampler:
    """Takes samples.

    Args:
        instruments: Who wants them.
        store: Says how its log and its health are.
        hub: Knows who is online.
        sessions: Knows who is connected.
        committer: Knows what waits.
        searching: Knows how far its index is behind.
    """

    def __init__(
        self,
        instruments: Instruments,
        store: Store,
        hub: Hub,
        sessions: Sessions,
        committer: Committer,
        searching: Searching,
    ) -> None:
        self._on_sampled = instruments.on_sampled
        self._store = store
        self._log = store if offers(store, HasLog) else None
        self._hub = hub
        self._sessions = sessions
        self._committer = committer
        self._searching = searching

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._on_sampled is not None

    async def run(self) -> None:
        """Take samples until cancelled."""
        assert self._on_sampled is not None
        while True:
            await self.once(self._on_sampled)

    async def once(self, take: Callable[[ServerSample], None]) -> None:
        """Take the next sample."""
        lag_s = 0.0
        for _ in range(TICKS):
            due_s = anyio.current_time() + TICK_S
            await anyio.sleep(TICK_S)
            lag_s = max(lag_s, anyio.current_time() - due_s)
        take(self._sample(lag_s))

    def _sample(self, lag_s: float) -> ServerSample:
        return ServerSample(
            sum(session.state is State.OPEN for session in self._sessions),
            len(self._hub),
            self._committer.waiting_count,
            self._committer.load,
            self._hub.offered,
            lag_s,
            None if self._log is None else self._log.wal_bytes,
            self._store.healthy,
            self._searching.lag_s,
        )
