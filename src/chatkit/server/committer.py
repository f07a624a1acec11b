"""Group commit: what arrives while a transaction runs goes together into the next one.

One storage call per batch, and one batch at a time; unless the store takes several, then what waits beside one that
takes long goes into another, as far as they do not overlap (`overlap`). What a user asks for in one conversation is
done in the order of arrival; users take turns (`commit_queue`). The queue is bounded in rows and bytes, and so is the
part of it that one user may fill; whoever does not fit is refused at once, volatile things first. Cursors wait a moment
for further ones of the same device, of which only the furthest becomes a command. A failing item never
fails its neighbours; when storage refuses a whole batch, every item of it is refused as UNAVAILABLE, and what waits.
Called by `engine`; hands each outcome forwards to the `CommitListener`, and a batch is under way until that is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import Final, Protocol

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from msgspec import UnsetType

from .._auto_reset_event import AutoResetEvent
from ..errors import OverloadedError, RefusedError, UnavailableError
from ..storage.base import Append, CommandStore, Entry, Outcome, Refused
from .batch_report import BatchReports
from .commit_queue import HOST, RESUMES, CommitQueue, Cursor
from .config import ServerConfig
from .devices import Devices
from .live.fanout import DELIVERIES_PER_TURN
from .overlap import Batch
from .pending import PendingCommand
from .runs import Committed, Run, runs_of
from .session import Session

logger = logging.getLogger(__name__)

NOT_RUNNING = "chatkit is not running: enter `async with server:` in the host's lifespan"
"""What is answered before a server was entered and after it was left."""

DRAINING = "the node drains"
"""What is answered to whoever was told to leave, and at the end of a drain to everybody."""


class CommitListener(Protocol):
    """What outcomes are handed to. Nothing in it waits."""

    def on_committed(self, pending: PendingCommand, outcome: Outcome) -> int:
        """Answer and publish one outcome, which is durable or a refusal. Returns to how many sessions it went."""

    def on_stored(self, run: Sequence[Committed], deliveries_max: int) -> Sequence[int]:
        """As `on_committed` of each, for new messages of one session to one conversation, or of as many as make so
        many deliveries, but at least of the first. Returns what these would.
        """

    def on_batch_end(self) -> bool:
        """Send what was gathered while the outcomes of a batch were handed over. Returns whether some is left."""

    def refuse_held_back(self, pending: PendingCommand) -> None:
        """Refuse a send because an earlier one of its session and conversation was refused."""

    def on_outcome_unknown(self, batch: Sequence[PendingCommand]) -> None:
        """Storage refused these, and may have stored them all the same: find out, and publish what it did."""


RESTING_PER_DELAY: Final = 100
"""So many cursors that rest make all of them rest for another `receipt_delay_s`."""

DELAYS_MAX: Final = 10
"""But for no more of them than this, however large a transaction may be: a push is due after some seconds."""

SLOW_S: Final = 0.25
"""How long a batch keeps the others waiting where the store takes several: group commit is cheaper than many
transactions, and one that is as fast as usual is over by then."""


class Committer:
    """The one way to a change in the store. Refuses everything until `open`."""

    def __init__(
        self,
        store: CommandStore,
        listener: CommitListener,
        devices: Devices,
        config: ServerConfig,
        reports: BatchReports | None = None,
    ) -> None:
        self._store = store
        self._listener = listener
        self._devices = devices
        self._config = config
        self._reports = reports
        self._cost_max = config.commit_queue_max
        self._bytes_max = config.commit_queue_bytes_max
        self._share_per_user = config.limits.commit_share_per_user
        self._waiting = CommitQueue(config.limits.commit_share_per_user * config.commit_batch_max)
        self._in_flight: list[Batch] = []
        self._in_flight_max = store.commits_in_flight_max
        self._ended = AutoResetEvent()
        self._urgent = False
        self._due_s: float | None = None
        self._wake = AutoResetEvent()
        self._submitted = 0
        self._answered = 0
        self._progress = AutoResetEvent()
        self._closed_because: str | None = NOT_RUNNING

    @property
    def load(self) -> float:
        """How full the queue is, from 0 to 1."""
        return max(self._waiting.cost / self._cost_max, self._waiting.payload_bytes / self._bytes_max)

    @property
    def waiting_count(self) -> int:
        """How many commands wait for a transaction."""
        return len(self._waiting)

    def open(self) -> None:
        """Take commands from here on."""
        self._closed_because = None

    def close(self, reason: str) -> None:
        """Refuse new commands with UNAVAILABLE from here on; what is queued is still committed."""
        self._closed_because = reason

    def abandon(self) -> None:
        """Refuse what is still queued: there will be no further batch."""
        self._refuse(self._waiting.take_all(), self._unavailable(NOT_RUNNING))

    def refuse_queued(self, why: Callable[[PendingCommand], RefusedError | None]) -> None:
        """Refuse what waits in the queue and has a `why`; what is in a transaction already is not touched."""
        for pending, error in self._waiting.remove(why):
            self._refuse([pending], error)

    def check_open(self) -> None:
        """Raise UnavailableError if the server drains or is not running; a retry is safe."""
        if self._closed_because is not None:
            raise self._unavailable(self._closed_because)

    def submit(self, pending: PendingCommand, *, urgent: bool = True, share: float = 1.0) -> None:
        """Queue a command; its outcome arrives at the listener.

        Args:
            pending: The command and who waits for it.
            urgent: Whether a transaction starts for it at once; receipts wait a little for company.
            share: The part of the queue that this kind of command may fill.

        Raises:
            OverloadedError: That part is full, or that part of the user's own share; nothing was queued. A retry is
                safe.
            UnavailableError: The server drains or is not running; nothing was queued. A retry is safe.
        """
        self.accept(pending)
        self.queue(pending, urgent=urgent, share=share)

    def accept(self, pending: PendingCommand) -> None:
        """Take a command in, which `queue` is to follow.

        Raises UnavailableError if the server drains or is not running, or the session leaves; a retry is safe.
        """
        self.check_open()
        if pending.session is None:
            if self._reports is not None:
                pending.received_s = self._reports.now_s()
        elif pending.session.leaving:
            raise self._unavailable(DRAINING)

    def queue(self, pending: PendingCommand, *, urgent: bool = True, share: float = 1.0) -> None:
        """As `submit`, for what was accepted already. Raises OverloadedError."""
        self._check_room(pending.user_id, share)
        first = not self._waiting.has_lanes
        self._waiting.append(pending)
        self._submitted += 1
        if not urgent:
            self._begin_wait()
        elif first or not self._urgent:
            self._urgent = True
            self._wake.set()

    def advance(self, session: Session, cursor: Cursor, ref: str | UnsetType, share: float) -> None:
        """Queue a cursor that the store is not expected to refuse. It rests for a while, and a further one of this
        session and conversation that comes meanwhile takes its place: both have one outcome.

        Args:
            session: Whose cursor it is.
            cursor: How far it is to be.
            ref: The client's mark; one that rests under another mark is kept beside it.
            share: The part of the queue that this kind of command may fill.

        Raises:
            OverloadedError: As `submit`.
            UnavailableError: As `submit`.
        """
        taken = self._closed_because is None and not session.leaving
        if taken and self._waiting.move_resting(session, cursor, ref):
            return
        pending = PendingCommand(
            cursor, session, ref, user_id=session.user_id, received_s=session.heard_at_s, rested=True
        )
        self.accept(pending)
        self._check_room(pending.user_id, share)
        self._waiting.rest(pending)
        self._submitted += 1
        self._begin_wait()

    def _begin_wait(self) -> None:
        """Something waits that is not urgent: it is due after a moment, with what else comes meanwhile."""
        if self._due_s is None or len(self._waiting) == 1:
            self._due_s = anyio.current_time() + self._config.receipt_delay_s
            self._wake.set()
        elif self._waiting.resting == self._config.commit_batch_max:
            self._wake.set()

    def _due_in_s(self) -> float:
        """Seconds until what is not urgent is due: later the more cursors rest, for the more of them never need a row
        of their own; but at once when a whole transaction of them does.
        """
        resting = self._waiting.resting
        if self._due_s is None or resting >= self._config.commit_batch_max:
            return 0.0
        longer_s = min(resting / RESTING_PER_DELAY, DELAYS_MAX) * self._config.receipt_delay_s
        return self._due_s + longer_s - anyio.current_time()

    def _check_room(self, user_id: str, share: float) -> None:
        """Raise OverloadedError if this part of the queue is full, or this part of the user's share of it."""
        waiting, cost_max, bytes_max = self._waiting, share * self._cost_max, share * self._bytes_max
        if waiting.cost >= cost_max or waiting.payload_bytes >= bytes_max:
            raise OverloadedError("the commit queue is full", retry_after_s=self._config.overload_retry_s)
        if user_id in (HOST, RESUMES):  # nobody counts the share of the host
            return
        cost, payload_bytes = waiting.held_by(user_id)
        if cost >= self._share_per_user * cost_max or payload_bytes >= self._share_per_user * bytes_max:
            raise OverloadedError(
                "too much of this user waits for storage", retry_after_s=self._config.overload_retry_s
            )

    def origin(self, entry: Entry) -> Session | None:
        """The session that sent an entry which is stored and not published yet; None for anybody else's.

        Looks through what is under way: for the rare entry that is read from the log before its own answer is out.
        """
        key = (entry.conversation_id, entry.sender_id, entry.client_msg_id)
        for pending in (it for batch in self._in_flight for it in batch.commands):
            it = pending.command
            if isinstance(it, Append) and key == (it.conversation_id, it.sender_id, it.client_msg_id):
                return pending.session
        return None

    async def run(self) -> None:
        """Commit batches until cancelled; a batch under way is always answered."""
        if self._in_flight_max > 1:
            await self._run_several()
        while True:
            await anyio.lowlevel.checkpoint_if_cancelled()
            await self._work()
            await self._commit_next()

    async def _run_several(self) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.lowlevel.checkpoint_if_cancelled()
                await self._work()
                await self._room()
                if not self._start_next(tasks):
                    await self._something_new()

    async def _commit_next(self) -> None:
        """Commit one batch. Nothing of it is kept here afterwards: it would keep its sessions."""
        batch = self._begin()
        if batch is not None:
            await self._commit(batch)

    def _start_next(self, tasks: TaskGroup) -> bool:
        batch = self._begin()
        if batch is not None:
            tasks.start_soon(self._commit, batch)
        return batch is not None

    async def flush(self) -> None:
        """Return once everything queued so far has been answered and published."""
        target = self._submitted
        while self._answered < target:
            self._hurry()
            await self._progress.wait()

    async def answer(self, sessions: Collection[Session]) -> None:
        """Return once everything that these sessions have asked for has been answered; they ask for nothing more."""
        while self._owes(sessions):
            self._hurry()
            await self._progress.wait()

    def _hurry(self) -> None:
        self._waiting.end_rest()
        self._urgent = True
        self._wake.set()

    def _owes(self, sessions: Collection[Session]) -> bool:
        users = dict.fromkeys(it.user_id for it in sessions)
        lanes = (self._waiting.waiting_of(user_id) for user_id in users)
        under_way = (batch.commands for batch in self._in_flight)
        return any(it.session in sessions for it in chain(*under_way, *lanes))

    async def _work(self) -> None:
        """Return when a batch is due: at once for an urgent item, after a moment for receipts alone."""
        while not (self._urgent and self._waiting.has_lanes):
            left_s = self._due_in_s() if self._waiting else None
            if left_s is not None and left_s <= 0:
                return
            await self._wake.wait(left_s)

    async def _room(self) -> None:
        """Return when one more batch may begin: none is under way, or all that are take long and there may be more."""
        while len(self._in_flight) >= self._in_flight_max or not all(it.slow for it in self._in_flight):
            with anyio.move_on_after(SLOW_S) as patience:
                await self._ended.wait()
            if patience.cancelled_caught:
                for batch in self._in_flight:
                    batch.slow = True

    async def _something_new(self) -> None:
        """Return when a batch has ended or something was queued; at the latest when a receipt may have been."""
        self._urgent = False  # so that a command is told of
        await self._wake.wait(SLOW_S)
        self._urgent = True

    def _begin(self) -> Batch | None:
        """The next batch, counted as under way; None if everything that waits overlaps with those that are."""
        if self._due_in_s() <= 0:
            self._due_s = None
            self._waiting.end_rest()
        busy = frozenset[str]().union(*(it.keys for it in self._in_flight))
        commands = self._waiting.take(self._config.commit_batch_max, busy)
        self._urgent = self._waiting.has_lanes
        if not commands:
            return None
        batch = Batch(commands)
        self._in_flight.append(batch)
        return batch

    def _end(self, batch: Batch) -> None:
        self._in_flight.remove(batch)
        if self._in_flight_max > 1:
            self._ended.set()
            self._wake.set()

    async def _commit(self, batch: Batch) -> None:
        """Store a batch and hand its outcomes over, whatever is cancelled meanwhile."""
        with anyio.CancelScope(shield=True):
            try:
                await self._store_and_answer(batch.commands)
            finally:
                self._end(batch)

    async def _store_and_answer(self, batch: list[PendingCommand]) -> None:
        self._devices.spare_online(batch)
        reports = self._reports
        began_s = 0.0 if reports is None else reports.now_s()
        commands = [pending.command for pending in batch]
        try:
            outcomes: Sequence[Outcome] = await self._store.commit(commands)
        except RefusedError as error:
            logger.warning("storage refused a batch of %d: %s", len(batch), error)
            self._refuse_all(batch, error)
            if reports is not None:
                reports.failed(batch, commands, error, began_s)
        except Exception as error:
            logger.exception("storage failed on a batch of %d", len(batch))
            self._refuse_all(batch, self._unavailable("storage failed"))
            if reports is not None:
                reports.failed(batch, commands, error, began_s)
        else:
            durable_s = 0.0 if reports is None else reports.now_s()
            runs = runs_of(zip(batch, outcomes, strict=True))
            await self._publish(runs)
            self._count_answered(len(batch))
            if reports is not None:
                reports.committed(batch, commands, outcomes, runs, began_s, durable_s)

    async def _publish(self, runs: Sequence[Run]) -> None:
        """Hand the outcomes over in order; the loop gets its turn after enough deliveries.

        Refusals that invite a retry come all together, in the place of the first: a client that has read one sends
        again, and what waits behind the refused message must have been refused by then.
        """
        first = next((index for index, run in enumerate(runs) if _may_come_again(run)), len(runs))
        await self._hand_over(runs[:first])
        if first < len(runs):
            await anyio.lowlevel.cancel_shielded_checkpoint()
            for run in filter(_may_come_again, runs):
                run.offered.append(self._listener.on_committed(*run.pairs[0]))
            self._refuse_held_back()
            await self._hand_over(run for run in runs[first:] if not _may_come_again(run))
        while self._listener.on_batch_end():
            await anyio.lowlevel.cancel_shielded_checkpoint()

    async def _hand_over(self, runs: Iterable[Run]) -> None:
        deliveries = 0
        for run in runs:
            pairs = run.pairs
            while pairs:
                if len(pairs) == 1:
                    offered: Sequence[int] = (self._listener.on_committed(*pairs[0]),)
                else:
                    offered = self._listener.on_stored(pairs, DELIVERIES_PER_TURN - deliveries)
                run.offered.extend(offered)
                deliveries += len(offered) + sum(offered)
                pairs = pairs[len(offered) :]
                if deliveries >= DELIVERIES_PER_TURN:
                    deliveries = 0
                    await anyio.lowlevel.cancel_shielded_checkpoint()

    def _refuse_all(self, batch: list[PendingCommand], error: RefusedError) -> None:
        """Storage refuses: nobody waits in the queue for a second refusal."""
        self._listener.on_outcome_unknown(batch)
        if len(self._in_flight) > 1:  # storage may well take the others
            self._refuse(batch, error)
            self._refuse_held_back()
            return
        self._urgent = False
        self._refuse(batch + self._waiting.take_all(), error)

    def _refuse(self, batch: Sequence[PendingCommand], error: RefusedError) -> None:
        refused = Refused(error)
        for pending in batch:
            self._listener.on_committed(pending, refused)
        self._count_answered(len(batch))

    def _refuse_held_back(self) -> None:
        """Refuse what already waits behind a refused send, before the client can send that one again."""
        for pending, _ in self._waiting.remove(lambda pending: pending.held_back or None):
            self._listener.refuse_held_back(pending)
            self._count_answered(1)

    def _count_answered(self, count: int) -> None:
        self._answered += count
        self._progress.set()

    def _unavailable(self, reason: str) -> UnavailableError:
        return UnavailableError(reason, retry_after_s=self._config.overload_retry_s)


def _may_come_again(run: Run) -> bool:
    """Whether a command was refused with an error that invites a retry."""
    outcome = run.pairs[0][1]
    return type(outcome) is Refused and outcome.error.retryable
