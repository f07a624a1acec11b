"""Now and then, how far the delivery workers of the store are behind; only while an instrument wants to know."""

from __future__ import annotations

import logging
from typing import Final

import anyio

from ...errors import RefusedError
from ...observability.instrument import Instruments, QueueLag
from ...ports import Clock
from ...storage.base import Store

logger = logging.getLogger(__name__)

EVERY_S: Final = 10.0
"""How often the store is asked, however often somebody looks at the figures."""


class LagReports:
    """Asks the store, and tells instruments. Called by `worker`, or by a server that runs none.

    Args:
        instruments: Whom to tell.
        store: What is asked.
        clock: Says how long ago something was due.
        working: Whether a worker runs in this process.
    """

    def __init__(self, instruments: Instruments, store: Store, clock: Clock, *, working: bool) -> None:
        self._working = working
        self._on_queue_lag = instruments.on_queue_lag
        self._store = store
        self._clock = clock

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._on_queue_lag is not None

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self.once()
            await anyio.sleep(EVERY_S)

    async def once(self) -> None:
        """Report once; not if the store refuses: the figures stay as they were."""
        assert self._on_queue_lag is not None
        try:
            lag = await self._store.deliveries.lag()
        except RefusedError as error:
            logger.warning("storage does not say how far the delivery workers are: %s", error)
            return
        except Exception:  # a bug there must not end the server
            logger.exception("asking how far the delivery workers are failed")
            return
        due_s = 0.0 if lag.oldest_ms is None else (self._clock.now_ms() - lag.oldest_ms) / 1000
        self._on_queue_lag(QueueLag(lag.waiting, max(0.0, due_s), lag.dead, self._working))
