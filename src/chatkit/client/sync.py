"""Catching up: which conversations must be pulled with SYNC, in which order, and the pulling, one page at a time.

Newest first: what the heads name comes in their order, what is live and has a hole goes to the front. The queue is
bounded by the number of conversations, and filled by `inbox`. `Sync.next` asks for a page and returns it; the
connection hands that on to the inbox, and then to `Sync.applied`, which pulls on where the page was not the last.
"""

from __future__ import annotations

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
        """Pull a conversation as soon as its turn comes."""
        self._forget_later(conversation.id)
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

    def take(self) -> Conversation | None:
        """The next to pull now; None if there is none."""
        self._due()
        waiting = self._front or self._queue
        if not waiting:
            return None
        id_ = next(iter(waiting))
        return waiting.pop(id_)

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
            due = self._forget_later(id_) or conversation.timeline.behind
            if due and not conversation.left:
                self._front[id_] = conversation


class Pulled(msgspec.Struct, frozen=True):
    """What one pull brought.

    Attributes:
        conversation: Which one.
        page: Its page; None if the server says that the user is no member.
        last_seq: Where the page was asked to begin.
        epoch: The log we held when the page came.
        prefix: How far we held it then.
    """

    conversation: Conversation
    page: ev.SyncPage | None
    last_seq: int
    epoch: str
    prefix: int


class Sync:
    """Brings every conversation that is behind up to its head.

    Args:
        config: Page size and deadline.
        backoff: Waits after a refusal, and where pages lead nowhere.
        conversations: Those that may be behind.
        queue: Those that wait.
        requests: Carries SYNC and its answer.
        events: Stops the pulling while it is paused; takes CaughtUp.
    """

    def __init__(
        self,
        config: ClientConfig,
        backoff: Backoff,
        conversations: Conversations,
        queue: SyncQueue,
        requests: Requests,
        events: EventQueue,
    ) -> None:
        self._config = config
        self._backoff = backoff
        self._conversations = conversations
        self._queue = queue
        self._requests = requests
        self._events = events
        self._slot = anyio.Lock()
        self._refusals = 0
        self._renewals: dict[str, int] = {}  # by conversation: pages in a row that were of another log
        self._caught_up = False

    def connected(self) -> None:
        """A new connection has everything still to catch up with."""
        self._caught_up = False
        self._refusals = 0
        self._renewals.clear()

    def disconnected(self) -> None:
        """What was to be pulled is named again by the next heads."""
        self._queue.clear()

    async def next(self) -> Pulled:
        """Pull what is next, as soon as there is something and the app has room; then `applied` must be called.

        Raises:
            ConnectionLostError: The connection broke, or the server refuses to be asked.
            DeadlineExceededError: No answer in time.
            ProtocolError: The answer makes no sense.
        """
        while True:
            await self._wait_for_room()
            conversation = self._queue.take()
            if conversation is None:
                self._notify_caught_up()
                await self._queue.changed.wait(self._queue.wait_s())
                continue
            pulled = await self._pull(conversation)
            if pulled is not None:
                return pulled

    def applied(self, pulled: Pulled) -> None:
        """The inbox has taken what was pulled: pull on where more is missing."""
        conversation, page = pulled.conversation, pulled.page
        if page is None:
            return
        renewals = self._renewed(conversation, pulled.epoch)
        if not (page.more or conversation.timeline.behind):
            return
        if (pulled.epoch, pulled.prefix) == (conversation.timeline.epoch, conversation.timeline.prefix):
            self._queue.later(conversation, self._delay_s())  # the page brought nothing: no hot loop
        elif renewals > 1:
            self._queue.later(conversation, self._delay_s(renewals))  # no log is replaced that often
        else:
            self._queue.add(conversation, first=True)

    async def fetch(self, conversation_id: str, last_seq: int, limit: int) -> ev.SyncPage:
        """One page for history, in its turn. Raises what `Requests.ask` raises."""
        return await self._ask(ev.Sync(conversation_id=conversation_id, last_seq=last_seq, limit=limit))

    async def _wait_for_room(self) -> None:
        if not self._events.paused:
            return
        await self._events.wait_drained()
        for conversation in self._conversations:
            if conversation.timeline.behind and not conversation.left:
                self._queue.add(conversation)

    async def _pull(self, conversation: Conversation) -> Pulled | None:
        """What the next page brought; None where it must be asked for again."""
        refused, timeline = conversation.epoch_refused, conversation.timeline
        last_seq, known = (0 if refused else timeline.prefix), timeline.epoch
        sync = ev.Sync(
            conversation_id=conversation.id,
            last_seq=last_seq,
            limit=self._config.page_limit,
            epoch=UNSET if refused or not known else known,
        )
        try:
            page = await self._ask(sync)
        except NotFoundError:
            return Pulled(conversation, None, last_seq, timeline.epoch, timeline.prefix)
        except ConflictError:
            self._conflict(conversation)
        except RefusedError as error:
            self._refused(conversation, error)
        else:
            self._refusals = 0
            if timeline.epoch == known or (not known and page.epoch == timeline.epoch):
                return Pulled(conversation, page, last_seq, timeline.epoch, timeline.prefix)
            self._queue.add(conversation, first=True)  # it may be of a log that is gone
        return None

    async def _ask(self, sync: ev.Sync) -> ev.SyncPage:
        async with self._slot:
            answer = await self._requests.ask(sync, self._config.request_timeout_s)
        if not isinstance(answer, ev.SyncPage):
            raise ProtocolError("SYNC was answered by another event")
        _check_asked(sync, answer)
        return answer

    def _renewed(self, conversation: Conversation, known: str) -> int:
        """How many pages in a row were of another log than the one before."""
        if known in ("", conversation.timeline.epoch):
            self._renewals.pop(conversation.id, None)
            return 0
        self._renewals[conversation.id] = self._renewals.get(conversation.id, 0) + 1
        return self._renewals[conversation.id]

    def _conflict(self, conversation: Conversation) -> None:
        if conversation.epoch_refused:
            raise ProtocolError("SYNC without an epoch was refused with CONFLICT")
        conversation.epoch_refused = True
        self._queue.add(conversation, first=True)

    def _refused(self, conversation: Conversation, error: RefusedError) -> None:
        if not error.retryable:
            raise ConnectionLostError(f"SYNC was refused: {error.code}") from error
        self._refusals += 1
        self._queue.again(conversation, self._delay_s(retry_after_s=error.retry_after_s))

    def _delay_s(self, attempt: int = 1, *, retry_after_s: float | None = None) -> float:
        return self._backoff.delay_s(max(attempt, self._refusals), retry_after_s)

    def _notify_caught_up(self) -> None:
        if self._conversations.complete and not self._caught_up and self._queue.empty:
            self._caught_up = True
            self._events.put(CaughtUp())


def _check_asked(sync: ev.Sync, page: ev.SyncPage) -> None:
    """Raises ProtocolError if a page is of another log than was asked for, or holds entries of another one."""
    named = {page.conversation_id, *(entry.conversation_id for entry in page.messages)}
    if named != {sync.conversation_id} or sync.epoch not in (UNSET, page.epoch):
        raise ProtocolError("a SYNC was answered with a page of another log")
