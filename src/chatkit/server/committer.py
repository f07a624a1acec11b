"""Group commit: what arrives while a transaction runs goes together into the next one.

One storage call per batch, one batch at a time, strictly in the order of arrival. The queue is bounded in items
and bytes; whoever does not fit is refused at once, hints first. A failing item never fails its neighbours; when
storage refuses a whole batch, every item of it is refused as UNAVAILABLE. Called by `engine`; hands each batch
and its outcomes forwards to the `Settler`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

import anyio
import anyio.lowlevel

from ..errors import OverloadedError, RefusedError, UnavailableError
from ..storage.base import Append, CommandStore, Entry, Outcome, Refused
from .config import ServerConfig
from .draft import Draft
from .session import Session

logger = logging.getLogger(__name__)

NOT_RUNNING = "chatkit is not running: enter `async with server:` in the host's lifespan"
"""What is answered before a server was entered and after it was left."""


class Settler(Protocol):
    """What batches are handed to."""

    def settle(self, drafts: Sequence[Draft], outcomes: Sequence[Outcome]) -> bool:
        """Answer and publish one batch. Returns whether a send was refused in a way that holds later ones back."""

    def refuse_held_back(self, draft: Draft) -> None:
        """Refuse a send because an earlier one of its session and conversation was refused."""

    def doubt(self, drafts: Sequence[Draft]) -> None:
        """Storage refused these, and may have stored them all the same: find out, and publish what it did."""


class _Waiting:
    """The queue: drafts in order of arrival, with what they add to its two bounds."""

    def __init__(self) -> None:
        self._drafts: deque[Draft] = deque()
        self.cost = 0
        self.payload_bytes = 0

    def __len__(self) -> int:
        return len(self._drafts)

    def append(self, draft: Draft) -> None:
        self._drafts.append(draft)
        self.cost += draft.cost
        self.payload_bytes += draft.payload_bytes

    def take(self, cost_max: float) -> list[Draft]:
        """The next drafts, at least one, up to a cost."""
        taken: list[Draft] = []
        cost = 0
        while self._drafts:
            following = self._drafts[0].cost
            if taken and cost + following > cost_max:
                break
            taken.append(self._drafts.popleft())
            cost += following
        self._left(taken, cost)
        return taken

    def remove(self, unwanted: Callable[[Draft], bool]) -> list[Draft]:
        """Take certain drafts out, in order."""
        removed = [draft for draft in self._drafts if unwanted(draft)]
        if removed:
            self._drafts = deque(draft for draft in self._drafts if not unwanted(draft))
            self._left(removed, sum(draft.cost for draft in removed))
        return removed

    def _left(self, drafts: Sequence[Draft], cost: int) -> None:
        self.cost -= cost
        self.payload_bytes -= sum(draft.payload_bytes for draft in drafts)


class Committer:
    """The one road to a change in the store. Refuses everything until `open`."""

    def __init__(self, store: CommandStore, settler: Settler, config: ServerConfig) -> None:
        self._store = store
        self._settler = settler
        self._config = config
        self._waiting = _Waiting()
        self._batch: Sequence[Draft] = ()
        self._urgent = False
        self._wake = anyio.Event()
        self._submitted = 0
        self._settled = 0
        self._progress = anyio.Event()
        self._closed_because: str | None = NOT_RUNNING

    @property
    def load(self) -> float:
        """How full the queue is, from 0 to 1."""
        return max(
            self._waiting.cost / self._config.commit_queue_max,
            self._waiting.payload_bytes / self._config.commit_queue_bytes_max,
        )

    def open(self) -> None:
        """Take commands from here on."""
        self._closed_because = None

    def close(self, reason: str) -> None:
        """Refuse new commands with UNAVAILABLE from here on; what is queued is still committed."""
        self._closed_because = reason

    def abandon(self) -> None:
        """Refuse what is still queued: there will be no further batch."""
        drafts = self._waiting.take(inf)
        self._settle(drafts, [Refused(self._unavailable(NOT_RUNNING))] * len(drafts))

    def submit(self, draft: Draft, *, urgent: bool = True, share: float = 1.0) -> None:
        """Queue a command; its outcome arrives at the settler.

        Args:
            draft: The command and who waits for it.
            urgent: Whether a transaction starts for it at once; receipts wait a little for company.
            share: The part of the queue that this kind of command may fill.

        Raises:
            OverloadedError: That part is full; nothing was queued. A retry is safe.
            UnavailableError: The server drains or is not running; nothing was queued. A retry is safe.
        """
        if self._closed_because is not None:
            raise self._unavailable(self._closed_because)
        if self.load >= share:
            raise OverloadedError("the commit queue is full", retry_after_s=self._config.overload_retry_s)
        self._waiting.append(draft)
        self._submitted += 1
        if urgent and not self._urgent:
            self._urgent = True
            self._wake.set()
        elif len(self._waiting) == 1:
            self._wake.set()

    def origin(self, entry: Entry) -> Session | None:
        """The session that sent an entry which is stored and not settled yet; None for anybody else's.

        Looks through the batch under way: for the rare entry that is read from the log before its own answer is out.
        """
        key = (entry.conversation_id, entry.sender_id, entry.client_msg_id)
        for draft in self._batch:
            it = draft.command
            if type(it) is Append and key == (it.conversation_id, it.sender_id, it.client_msg_id):
                return draft.session
        return None

    async def run(self) -> None:
        """Commit batches until cancelled; a batch under way is always settled."""
        while True:
            await anyio.lowlevel.checkpoint_if_cancelled()
            await self._work()
            with anyio.CancelScope(shield=True):
                await self._commit()

    async def flush(self) -> None:
        """Return once everything queued so far has been settled."""
        target = self._submitted
        while self._settled < target:
            self._urgent = True
            self._wake.set()
            await self._progress.wait()

    async def _work(self) -> None:
        """Return when a batch is due: at once for an urgent item, after a moment for receipts alone."""
        while not self._waiting:
            self._wake = anyio.Event()
            await self._wake.wait()
        if not self._urgent:
            self._wake = anyio.Event()
            with anyio.move_on_after(self._config.receipt_delay_s):
                await self._wake.wait()

    async def _commit(self) -> None:
        batch = self._batch = self._waiting.take(self._config.commit_batch_max)
        self._urgent = bool(self._waiting)
        try:
            outcomes: Sequence[Outcome] = await self._store.commit([draft.command for draft in batch])
        except RefusedError as error:
            logger.warning("storage refused a batch of %d: %s", len(batch), error)
            self._refuse_all(batch, error)
        except Exception:
            logger.exception("storage failed on a batch of %d", len(batch))
            self._refuse_all(batch, self._unavailable("storage failed"))
        else:
            self._settle(batch, outcomes)
        self._batch = ()

    def _refuse_all(self, batch: list[Draft], error: RefusedError) -> None:
        """Storage refuses: nobody waits in the queue for a second refusal."""
        self._settler.doubt(batch)
        drafts = batch + self._waiting.take(inf)
        self._urgent = False
        self._settle(drafts, [Refused(error)] * len(drafts))

    def _settle(self, batch: Sequence[Draft], outcomes: Sequence[Outcome]) -> None:
        if self._settler.settle(batch, outcomes):
            self._drop_held_back()
        self._settled += len(batch)
        progress, self._progress = self._progress, anyio.Event()
        progress.set()

    def _drop_held_back(self) -> None:
        """Refuse what already waits behind a refused send, before the client can send that one again."""
        for draft in self._waiting.remove(_held_back):
            self._settled += 1
            self._settler.refuse_held_back(draft)

    def _unavailable(self, reason: str) -> UnavailableError:
        return UnavailableError(reason, retry_after_s=self._config.overload_retry_s)


def _held_back(draft: Draft) -> bool:
    """Whether an earlier send of the same session to the same conversation was refused."""
    session, command = draft.session, draft.command
    if session is None or not session.refused or type(command) is not Append:
        return False
    earliest = session.refused.get(command.conversation_id)
    return earliest is not None and earliest[0] < draft.order
