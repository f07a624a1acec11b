"""The one task that pulls: SYNC pages one at a time, newest conversations first, and pages of history between them."""

from __future__ import annotations

import anyio
from msgspec import UNSET

from .._auto_reset_event import AutoResetEvent
from ..core.backoff import next_delay
from ..errors import ConflictError, ConnectionLostError, NotFoundError, ProtocolError, RefusedError
from ..ports import Ports
from ..wire import events as ev
from .config import ClientConfig
from .conversations import Conversation, Conversations
from .events import CaughtUp
from .heads import Heads
from .mailbox import Mailbox
from .pulls import Pulls
from .receiver import Receiver
from .requests import Requests


class Syncer:
    """Brings every conversation that is behind up to its head."""

    def __init__(
        self,
        config: ClientConfig,
        ports: Ports,
        conversations: Conversations,
        pulls: Pulls,
        receiver: Receiver,
        heads: Heads,
        requests: Requests,
        mailbox: Mailbox,
        wake: AutoResetEvent,
    ) -> None:
        self._config = config
        self._ports = ports
        self._conversations = conversations
        self._pulls = pulls
        self._receiver = receiver
        self._heads = heads
        self._requests = requests
        self._mailbox = mailbox
        self._wake = wake
        self._slot = anyio.Lock()
        self._refusals = 0
        self._renewals: dict[str, int] = {}  # by conversation: pages in a row that were of another log
        self._caught_up = False

    async def run(self) -> None:
        """Pull until the connection ends; raises what ended it."""
        self._caught_up = False
        self._refusals = 0
        self._renewals.clear()
        while True:
            await self._wait_for_room()
            conversation = self._pulls.take()
            if conversation is not None:
                await self._pull(conversation)
            else:
                self._tell_caught_up()
                await self._pulls.changed.wait(self._pulls.wait_s())

    async def fetch(self, conversation_id: str, last_seq: int, limit: int) -> ev.SyncPage:
        """One page for history, in its turn. Raises what `Requests.ask` raises."""
        return await self._ask(ev.Sync(conversation_id=conversation_id, last_seq=last_seq, limit=limit))

    async def _wait_for_room(self) -> None:
        if not self._mailbox.paused:
            return
        await self._mailbox.wait_drained()
        for conversation in self._conversations:
            if conversation.timeline.behind and not conversation.left:
                self._pulls.add(conversation)

    async def _pull(self, conversation: Conversation) -> None:
        doubted, timeline = conversation.epoch_doubted, conversation.timeline
        last_seq, known = (0 if doubted else timeline.prefix), timeline.epoch
        sync = ev.Sync(
            conversation_id=conversation.id,
            last_seq=last_seq,
            limit=self._config.page_limit,
            epoch=UNSET if doubted or not known else known,
        )
        try:
            page = await self._ask(sync)
        except NotFoundError:
            self._gone(conversation)
        except ConflictError:
            self._conflict(conversation)
        except RefusedError as error:
            self._refused(conversation, error)
        else:
            self._refusals = 0
            self._answered(conversation, known, last_seq, page)

    async def _ask(self, sync: ev.Sync) -> ev.SyncPage:
        async with self._slot:
            answer = await self._requests.ask(sync, self._config.request_timeout_s)
        if not isinstance(answer, ev.SyncPage):
            raise ProtocolError("SYNC was answered by another event")
        return answer

    def _answered(self, conversation: Conversation, known: str, last_seq: int, page: ev.SyncPage) -> None:
        """A page came; `known` is the epoch that was known when it was asked for."""
        current = conversation.timeline.epoch
        if current != known and (known or page.epoch != current):
            self._pulls.add(conversation, first=True)  # it may be of a log that is gone
        else:
            self._apply(conversation, last_seq, page)

    def _apply(self, conversation: Conversation, last_seq: int, page: ev.SyncPage) -> None:
        before = (conversation.timeline.epoch, conversation.timeline.prefix)
        messages = self._receiver.all_readable(page.messages)
        with self._receiver.batch() as batch:
            self._receiver.page(batch, conversation, last_seq, page, messages)
        self._wake.set()
        renewals = self._renewed(conversation, before[0])
        if not (page.more or conversation.timeline.behind):
            return
        if before == (conversation.timeline.epoch, conversation.timeline.prefix):
            self._pulls.later(conversation, self._backoff_s(None))  # the page brought nothing: no hot loop
        elif renewals > 1:
            self._pulls.later(conversation, self._backoff_s(None, renewals))  # no log is replaced that often
        else:
            self._pulls.add(conversation, first=True)

    def _renewed(self, conversation: Conversation, known: str) -> int:
        """How many pages in a row were of another log than the one before."""
        if known in ("", conversation.timeline.epoch):
            self._renewals.pop(conversation.id, None)
            return 0
        self._renewals[conversation.id] = self._renewals.get(conversation.id, 0) + 1
        return self._renewals[conversation.id]

    def _gone(self, conversation: Conversation) -> None:
        with self._receiver.batch() as batch:
            self._heads.gone(batch, conversation)

    def _conflict(self, conversation: Conversation) -> None:
        if conversation.epoch_doubted:
            raise ProtocolError("SYNC without an epoch was refused with CONFLICT")
        conversation.epoch_doubted = True
        self._pulls.add(conversation, first=True)

    def _refused(self, conversation: Conversation, error: RefusedError) -> None:
        if not error.retryable:
            raise ConnectionLostError(f"SYNC was refused: {error.code}") from error
        self._refusals += 1
        self._pulls.again(conversation, self._backoff_s(error.retry_after_s))

    def _backoff_s(self, hint_s: float | None, attempt: int = 1) -> float:
        return next_delay(
            max(attempt, self._refusals),
            self._ports.random.random(),
            hint_s,
            base_s=self._config.backoff_base_s,
            max_s=self._config.backoff_max_s,
        )

    def _tell_caught_up(self) -> None:
        if self._receiver.heads_complete and not self._caught_up and self._pulls.empty:
            self._caught_up = True
            self._mailbox.put(CaughtUp())
