"""Group commit: what arrives while a transaction runs goes together into the next one.

One storage call per batch, one batch at a time, strictly in the order of arrival. The queue is bounded in items
and bytes; whoever does not fit is refused at once, hints first. A failing item never fails its neighbours; when
storage refuses a whole batch, every item of it is refused as UNAVAILABLE. Called by `engine`; hands each batch
and its outcomes to `settle`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import anyio

from ..errors import OverloadedError, RefusedError, UnavailableError
from ..storage.base import Append, Committing, Outcome, Refused
from .config import ServerConfig
from .draft import Draft

logger = logging.getLogger(__name__)

Settle = Callable[[Sequence[Draft], Sequence[Outcome]], None]


class Committer:
    """The one road to a change in the store."""

    def __init__(self, store: Committing, settle: Settle, config: ServerConfig) -> None:
        self._store = store
        self._settle = settle
        self._config = config
        self._queue: deque[Draft] = deque()
        self._queue_bytes = 0
        self._urgent = False
        self._wake = anyio.Event()
        self._submitted = 0
        self._settled = 0
        self._progress = anyio.Event()

    @property
    def load(self) -> float:
        """How full the queue is, from 0 to 1."""
        return max(
            len(self._queue) / self._config.commit_queue_max,
            self._queue_bytes / self._config.commit_queue_bytes_max,
        )

    def submit(self, draft: Draft, *, urgent: bool = True, share: float = 1.0) -> None:
        """Queue a command; its outcome arrives by `settle`.

        Args:
            draft: The command and who waits for it.
            urgent: Whether a transaction starts for it at once; receipts wait a little for company.
            share: The part of the queue that this kind of command may fill.

        Raises:
            OverloadedError: That part is full; nothing was queued. A retry is safe.
        """
        if self.load >= share:
            raise OverloadedError("the commit queue is full", retry_after_s=self._config.overload_retry_s)
        self._queue.append(draft)
        self._queue_bytes += draft.payload_bytes
        self._submitted += 1
        if urgent and not self._urgent:
            self._urgent = True
            self._wake.set()
        elif len(self._queue) == 1:
            self._wake.set()

    def withdraw_after(self, refused: Draft) -> list[Draft]:
        """Take what a session sent to the same conversation after a refused send out again, in order."""
        withdrawn = [draft for draft in self._queue if _follows(draft, refused)]
        if withdrawn:
            self._queue = deque(draft for draft in self._queue if not _follows(draft, refused))
            self._queue_bytes -= sum(draft.payload_bytes for draft in withdrawn)
            self._settled += len(withdrawn)
        return withdrawn

    async def run(self) -> None:
        """Commit batches until cancelled; a batch under way is always settled."""
        while True:
            await self._work()
            with anyio.CancelScope(shield=True):
                await self._commit(self._take())

    async def flush(self) -> None:
        """Return once everything queued so far has been settled."""
        target = self._submitted
        while self._settled < target:
            self._urgent = True
            self._wake.set()
            self._progress = anyio.Event()
            await self._progress.wait()

    async def _work(self) -> None:
        """Return when a batch is due: at once for an urgent item, after a moment for receipts alone."""
        while not self._queue:
            self._wake = anyio.Event()
            await self._wake.wait()
        if not self._urgent:
            self._wake = anyio.Event()
            with anyio.move_on_after(self._config.receipt_delay_s):
                await self._wake.wait()

    def _take(self) -> list[Draft]:
        count = min(len(self._queue), self._config.commit_batch_max)
        batch = [self._queue.popleft() for _ in range(count)]
        self._queue_bytes -= sum(draft.payload_bytes for draft in batch)
        self._urgent = bool(self._queue)
        return batch

    async def _commit(self, batch: list[Draft]) -> None:
        outcomes = await self._outcomes(batch)
        self._settle(batch, outcomes)
        self._settled += len(batch)
        self._progress.set()

    async def _outcomes(self, batch: list[Draft]) -> Sequence[Outcome]:
        try:
            return await self._store.commit([draft.command for draft in batch])
        except RefusedError as error:
            logger.warning("storage refused a batch of %d: %s", len(batch), error)
            return [Refused(error)] * len(batch)
        except Exception:
            logger.exception("storage failed on a batch of %d", len(batch))
            failure = UnavailableError("storage failed", retry_after_s=self._config.overload_retry_s)
            return [Refused(failure)] * len(batch)


def _follows(draft: Draft, refused: Draft) -> bool:
    """Whether a draft is a later send of the same session to the same conversation."""
    command, earlier = draft.command, refused.command
    return (
        draft.session is refused.session
        and draft.order > refused.order
        and type(command) is Append
        and type(earlier) is Append
        and command.conversation_id == earlier.conversation_id
    )
