"""Catching up: which conversations must be pulled with SYNC, in which order, and the pulling, of several side by side.

Newest first: what the heads name comes in their order, what is live and has a hole goes to the front. The queue is
bounded by the number of conversations, and filled by `inbox`. `Sync.next` says which is to be pulled, `Sync.pull` asks
for its page; the connection hands that on to the inbox, and then to `Sync.applied`, which pulls on where the page was
not the last. Of one conversation one page is under way at a time.
"""

from __future__ import annotations

from collections.abc import Container

import anyio
import msgspec
from msgspec import UNSET

from .._auto_reset_event import AutoResetEvent
from ..errors import ConflictError, ConnectionLostError, NotFoundError, ProtocolError, RefusedError
from ..ports import Clock
from ..wire import events as ev
from ._retry import Backoff
from .config import ClientConfig
from .conversation import Conversation, Conversations
from .event_queue import EventQueue
from .events import CaughtUp
from .requests import Requests

QUICK_S = 2.0
"""A page that came within this time leaves room for more of them under way."""

GROWTH = 3
"""So many more: four times as many with each round trip. Where a round took up to `QUICK_S`, the next one is still far
from the deadline of a request."""

PAGE_BYTES = 64 * 1024
"""What a page is expected to bring at most: servers fill them about so far."""

FETCHES_MAX = 16
"""Pages for history under way at once."""


class SyncQueue:
    """The conversations that wait to be pulled.

    Args:
        gap_wait_s: How long a hole may last.
        clock: Times the waits.

    Attributes:
        changed: Set when there may be something to pull.
    """

    def __init__(self, gap_wait_s: float, clock: Clock) -> None:
        self._gap_wait_s = gap_wait_s
        self._clock = clock
        self._front: dict[str, Conversation] = {}
        self._queue: dict[str, Conversation] = {}
        self._later: dict[str, tuple[float, Conversation]] = {}
        self._refused: set[str] = set()  # of those later: due whatever the timeline says then
        self.changed = AutoResetEvent()

    @property
    def empty(self) -> bool:
        """Whether nothing waits, not even for a hole to close."""
        return not (self._front or self._queue or self._later)

    def add(self, conversation: Conversation, *, first: bool = False) -> None:
        """Pull a conversation as soon as its turn comes, and not before a server that refused it for now said."""
        if conversation.id in self._refused:
            return
        self._later.pop(conversation.id, None)
        if first:
            self._queue.pop(conversation.id, None)
            self._front[conversation.id] = conversation
        elif conversation.id not in self._front:
            self._queue.setdefault(conversation.id, conversation)
        self.changed.set()

    def gap(self, conversation: Conversation) -> None:
        """Pull a conversation if its hole has not closed after the gap wait."""
        if conversation.id not in self._front and conversation.id not in self._queue:
            self.later(conversation, self._gap_wait_s)

    def later(self, conversation: Conversation, delay_s: float) -> None:
        """Pull a conversation after a while, if it is still behind; a wait that runs already stays."""
        self._later.setdefault(conversation.id, (self._clock.now_s() + delay_s, conversation))
        self.changed.set()

    def again(self, conversation: Conversation, delay_s: float) -> None:
        """A pull was refused for now: pull after a while in any case, for its reason may be known to nobody else."""
        self._later[conversation.id] = (self._clock.now_s() + delay_s, conversation)
        self._refused.add(conversation.id)
        self.changed.set()

    def take(self, passed_over: Container[str] = ()) -> Conversation | None:
        """The next to pull now that is not to be passed over; None if there is none."""
        self._due()
        for waiting in (self._front, self._queue):
            for id_ in waiting:
                if id_ not in passed_over:
                    return waiting.pop(id_)
        return None

    def wait_s(self) -> float | None:
        """Seconds until the next hole must be pulled; None if there is none."""
        if not self._later:
            return None
        return max(0.0, min(at_s for at_s, _ in self._later.values()) - self._clock.now_s())

    def clear(self) -> None:
        """Forget everything; the next heads say it again."""
        self._front.clear()
        self._queue.clear()
        self._later.clear()
        self._refused.clear()

    def _forget_later(self, conversation_id: str) -> bool:
        """Whether it was due in any case."""
        self._later.pop(conversation_id, None)
        was_refused = conversation_id in self._refused
        self._refused.discard(conversation_id)
        return was_refused

    def _due(self) -> None:
        now_s = self._clock.now_s()
        for id_, (at_s, conversation) in list(self._later.items()):
            if at_s > now_s:
                continue
            due = self._forget_later(id_) or conversation.behind
            if due and not conversation.left:
                self._front[id_] = conversation


class Pulled(msgspec.Struct, frozen=True):
    """What one pull brought.

    Attributes:
        conversation: Which one.
        page: Its page; None if the server says that the user is no member.
        last_seq: Where the page was asked to begin.
        epoch: The log that was asked for.
        progress: How far we had got when the page came.
    """

    conversation: Conversation
    page: ev.SyncPage | None
    last_seq: int
    epoch: str
    progress: object


class PullWindow:
    """How many SYNCs may be under way at once.

    It begins at one for each connection, is four times as large after each round of pages that came quickly, and is
    halved by each page that took long: on a line that is full, more requests only make each of them late.

    Args:
        window_max: Its bound.

    Attributes:
        size: So many now.
    """

    def __init__(self, window_max: int) -> None:
        self._window_max = window_max
        self.size = 1

    def reset(self) -> None:
        """Nothing is known of the line, or the server has too much to do."""
        self.size = 1

    def answered(self, took_s: float) -> None:
        """A page came after so long."""
        if took_s <= QUICK_S:
            self.size = min(self._window_max, self.size + GROWTH)
        else:
            self.size = max(1, self.size // 2)


class Sync:
    """Brings every conversation that is behind up to its head, several at once, each by one page after the other.

    Args:
        config: Page size, window and deadline.
        clock: Times the pages.
        backoff: Waits after a refusal, and where pages lead nowhere.
        conversations: Those that may be behind.
        queue: Those that wait.
        requests: Carries SYNC and its answer.
        events: Stops the pulling while it is paused, and bounds what is under way by its room; takes CaughtUp.
    """

    def __init__(
        self,
        config: ClientConfig,
        clock: Clock,
        backoff: Backoff,
        conversations: Conversations,
        queue: SyncQueue,
        requests: Requests,
        events: EventQueue,
    ) -> None:
        self._config = config
        self._clock = clock
        self._backoff = backoff
        self._conversations = conversations
        self._queue = queue
        self._requests = requests
        self._events = events
        self._window = PullWindow(config.sync_window)
        self._under_way: set[str] = set()
        self._fetches = anyio.Semaphore(FETCHES_MAX)
        self._refusals = 0
        self._renewals: dict[str, int] = {}  # by conversation: pages in a row that were of another log
        self._caught_up = False

    def connected(self) -> None:
        """A new connection has everything still to catch up with."""
        self._caught_up = False
        self._refusals = 0
        self._renewals.clear()
        self._window.reset()

    def disconnected(self) -> None:
        """What was to be pulled is named again by the next heads."""
        self._queue.clear()

    async def next(self) -> Conversation:
        """What to pull next, as soon as there is something and room for its page; then `finished` must be called."""
        while True:
            await self._wait_for_room()
            if len(self._under_way) >= self._under_way_max():
                await self._queue.changed.wait()
                continue
            conversation = self._queue.take(self._under_way)
            if conversation is not None:
                self._under_way.add(conversation.id)
                return conversation
            self._notify_caught_up()
            await self._queue.changed.wait(self._queue.wait_s())

    def finished(self, conversation: Conversation) -> None:
        """Its pull is over, whatever it brought."""
        self._under_way.discard(conversation.id)
        self._queue.changed.set()

    def applied(self, pulled: Pulled) -> None:
        """The inbox has taken what was pulled: pull on where more is missing."""
        conversation, page = pulled.conversation, pulled.page
        if page is None:
            return
        renewals = self._renewed(conversation, pulled.epoch)
        if not (page.more or conversation.behind):
            return
        if pulled.progress == conversation.progress:
            self._queue.later(conversation, self._delay_s())  # the page brought nothing: no hot loop
        elif renewals > 1:
            self._queue.later(conversation, self._delay_s(renewals))  # no log is replaced that often
        else:
            self._queue.add(conversation, first=True)

    async def fetch(
        self, conversation_id: str, last_seq: int, limit: int, *, history: bool = False
    ) -> ev.SyncPage:
        """One page on demand; a few at a time, the others wait. Raises what `Requests.ask` raises.

        Args:
            conversation_id: Of which log.
            last_seq: Where it begins, not included.
            limit: Most entries.
            history: Whether it shows what may be read of the time before the user joined.
        """
        sync = ev.Sync(
            conversation_id=conversation_id,
            last_seq=last_seq,
            limit=limit,
            history=True if history else UNSET,
        )
        async with self._fetches:
            return await self._ask(sync)

    async def _wait_for_room(self) -> None:
        if not self._events.paused:
            return
        await self._events.wait_drained()
        for conversation in self._conversations:
            if conversation.behind and not conversation.left and conversation.id not in self._under_way:
                self._queue.add(conversation)

    def _under_way_max(self) -> int:
        """As the window says, but no more than the app has room for, in events and in bytes."""
        for_events = self._events.room // self._config.page_limit
        for_bytes = self._events.room_bytes // PAGE_BYTES
        return max(1, min(self._window.size, for_events, for_bytes))

    async def pull(self, conversation: Conversation) -> Pulled | None:
        """What the next page brought, for `applied`; None where it must be asked for again.

        Raises:
            ConnectionLostError: The connection broke, or the server refuses to be asked.
            DeadlineExceededError: No answer in time.
            ProtocolError: The answer makes no sense.
        """
        earlier_refusals = self._refusals
        try:
            return await self._pull(conversation)
        except ConflictError:
            self._conflict(conversation)
        except RefusedError as error:
            self._refused(conversation, error, earlier_refusals)
        return None

    async def _pull(self, conversation: Conversation) -> Pulled | None:
        """The page after what is held, or one to compare; None if it may be of a log that is gone."""
        asked_at_s, known = self._clock.now_s(), conversation.epoch
        sync = self._question(conversation)
        try:
            page = await self._ask(sync)
        except NotFoundError:
            return Pulled(conversation, None, sync.last_seq, conversation.epoch, conversation.progress)
        self._refusals = 0
        self._window.answered(self._clock.now_s() - asked_at_s)
        if conversation.epoch == known or (not known and page.epoch == conversation.epoch):
            return Pulled(conversation, page, sync.last_seq, conversation.epoch, conversation.progress)
        self._queue.add(conversation, first=True)
        return None

    def _question(self, conversation: Conversation) -> ev.Sync:
        """The next page to ask for: of what is missing, or of a new log to compare with."""
        renewal, refused = conversation.renewal, conversation.epoch_refused
        last_seq = conversation.timeline.prefix if renewal is None else renewal.last_seq
        return ev.Sync(
            conversation_id=conversation.id,
            last_seq=0 if refused and renewal is None else last_seq,
            limit=self._config.page_limit,
            epoch=UNSET if refused or not conversation.epoch else conversation.epoch,
        )

    async def _ask(self, sync: ev.Sync) -> ev.SyncPage:
        answer = await self._requests.ask(sync, self._config.request_timeout_s)
        if not isinstance(answer, ev.SyncPage):
            raise ProtocolError("SYNC was answered by another event")
        _check_asked(sync, answer)
        return answer

    def _renewed(self, conversation: Conversation, known: str) -> int:
        """How many pages in a row were of another log than the one before."""
        if known in ("", conversation.epoch):
            self._renewals.pop(conversation.id, None)
            return 0
        self._renewals[conversation.id] = self._renewals.get(conversation.id, 0) + 1
        return self._renewals[conversation.id]

    def _conflict(self, conversation: Conversation) -> None:
        if conversation.epoch_refused:
            raise ProtocolError("SYNC without an epoch was refused with CONFLICT")
        conversation.epoch_refused = True
        self._queue.add(conversation, first=True)

    def _refused(self, conversation: Conversation, error: RefusedError, earlier_refusals: int) -> None:
        if not error.retryable:
            raise ConnectionLostError(f"SYNC was refused: {error.code}") from error
        self._refusals = max(self._refusals, earlier_refusals + 1)  # those asked side by side count as one
        self._window.reset()
        self._queue.again(conversation, self._delay_s(retry_after_s=error.retry_after_s))

    def _delay_s(self, attempt: int = 1, *, retry_after_s: float | None = None) -> float:
        return self._backoff.delay_s(max(attempt, self._refusals), retry_after_s)

    def _notify_caught_up(self) -> None:
        idle = self._queue.empty and not self._under_way
        if self._conversations.complete and not self._caught_up and idle:
            self._caught_up = True
            self._events.put(CaughtUp())


def _check_asked(sync: ev.Sync, page: ev.SyncPage) -> None:
    """Raises ProtocolError if a page is of another log than was asked for, or holds entries of another one."""
    named = {page.conversation_id, *(entry.conversation_id for entry in page.messages)}
    if named != {sync.conversation_id} or sync.epoch not in (UNSET, page.epoch):
        raise ProtocolError("a SYNC was answered with a page of another log")
