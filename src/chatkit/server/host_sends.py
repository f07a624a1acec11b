"""Messages that hosts send inside transactions of their own, and what is published of them.

Nobody says when such a transaction is committed, so the store is asked, while there are any. Only the log is
believed: what a host rolled back to a savepoint is not in it. Whatever is missed here (the process ends, storage
fails) the looks at the log find, on every node. Called by `engine`.
"""

from __future__ import annotations

import logging
from typing import Final

import anyio
import anyio.lowlevel
import msgspec
from msgspec.structs import replace

from .._abilities import offers
from .._auto_reset_event import AutoResetEvent
from ..errors import ConfigurationError, RefusedError
from ..storage.base import Append, Appended, AppendsWithin, Entry, Store
from .cluster.reconcile_queue import ReconcileQueue
from .commit_queue import HOST
from .pending import PendingCommand
from .publisher import Publisher

logger = logging.getLogger(__name__)

_LOOK_S: Final = 0.02
"""Between two looks, at first; it grows by half each time until another message comes."""

_LOOK_MAX_S: Final = 0.25

_RETRY_S: Final = 1.0
"""After storage refused."""

_OPEN_MAX: Final = 10_000
"""Messages in open transactions that are asked about; further ones are found by the looks at the log."""


class _Unpublished(msgspec.Struct, frozen=True):
    """A message in a transaction that was open when it was looked at last; `place` is its entry without the payload."""

    place: Entry
    transaction: str


class HostSends:
    """Sends inside transactions of the host, and publishes what was committed."""

    def __init__(self, store: Store, publisher: Publisher, to_reconcile: ReconcileQueue) -> None:
        self._log = store
        self._store: AppendsWithin | None = store if offers(store, AppendsWithin) else None
        self._publisher = publisher
        self._to_reconcile = to_reconcile
        self._open: list[_Unpublished] = []
        self._look_s = _LOOK_S
        self._noted = AutoResetEvent()

    async def append(self, connection: object, command: Append) -> Appended:
        """Append a message in the host's transaction. Raises as `AppendsWithin.append_within` does."""
        if self._store is None:
            raise ConfigurationError("connection=... needs the store on PostgreSQL")
        outcome, transaction = await self._store.append_within(connection, command)
        if not outcome.repeat and len(self._open) < _OPEN_MAX:
            self._open.append(_Unpublished(replace(outcome.entry, payload=b""), transaction))
            self._look_s = _LOOK_S
            self._noted.set()
        return outcome

    async def run(self) -> None:
        """Publish what is committed until cancelled."""
        while True:
            while not self._open:
                await self._noted.wait()
            await anyio.sleep(self._look_s)
            self._look_s = min(self._look_s * 1.5, _LOOK_MAX_S)
            try:
                await self._look()
            except RefusedError as error:
                logger.warning("storage refused to say what hosts committed: %s", error)
                self._look_s = _RETRY_S
            except Exception:
                logger.exception("asking what hosts committed failed")
                self._leave_to_the_log(self._open)
                self._open = []

    async def _look(self) -> None:
        """Ask which transactions have ended, and publish what is in the log of those that were committed."""
        assert self._store is not None, "nothing is open otherwise"
        committed = await self._store.ended({it.transaction for it in self._open})
        ended = [it for it in self._open if it.transaction in committed]
        self._open = [it for it in self._open if it.transaction not in committed]
        try:
            for it in ended:
                if committed[it.transaction]:
                    await self._publish(it.place)
        except BaseException:
            self._leave_to_the_log(ended)
            raise
        while self._publisher.on_batch_end():
            await anyio.lowlevel.checkpoint()

    async def _publish(self, place: Entry) -> None:
        """Push a message if it is in the log: the host may have taken it back by a savepoint of its own."""
        for entry in await self._log.entries(place.conversation_id, place.seq - 1, 1):
            if entry.message_id == place.message_id and entry.client_msg_id == place.client_msg_id:
                command = Append(
                    place.conversation_id, place.sender_id, entry.client_msg_id or "", b"", b"", 0
                )
                self._publisher.on_committed(PendingCommand(command, user_id=HOST), Appended(entry, False))

    def _leave_to_the_log(self, sent: list[_Unpublished]) -> None:
        for it in sent:
            self._to_reconcile.log(it.place.conversation_id)
