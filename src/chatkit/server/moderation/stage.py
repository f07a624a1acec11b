"""The stage before the commit queue where a moderator is set: messages wait here for their verdicts, in batches.

A message leaves it for the committer as a `ModeratedAppend`, in the order in which its sender sent to its conversation;
what a verdict does is decided in the transaction (`core.log.moderation`), after what the key says already. Which keys
are new, and whether the sender may write at all, is asked of the store first, so that nothing is moderated twice and
nothing of a stranger's at all. Nothing here keeps anything else waiting: what does not fit is refused at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import asdict

from ..._auto_reset_event import AutoResetEvent
from ...errors import OverloadedError, RefusedError, UnavailableError
from ...observability.instrument import Instruments, ModeratedBatch
from ...ports import Clock
from ...storage.base import Append, ModeratedAppend, ModerationReader, Outcome, Refused, Verdict
from ..commit_queue import HOST
from ..committer import DRAINING, NOT_RUNNING, CommitListener, Committer
from ..config import ServerConfig
from ..pending import PendingCommand
from ..runs import Committed
from ..session import Session
from .asking import Asking
from .config import ModerationConfig
from .lanes import Lanes, Waiting

logger = logging.getLogger(__name__)


class HoldsBack:
    """A `CommitListener` before the one that answers: it keeps the order of sends under refusal for what the stage has.

    A client that has read a refusal sends again: what waits behind the refused message must have been refused by then.
    """

    def __init__(self, listener: CommitListener, lanes: Lanes) -> None:
        self._listener = listener
        self._lanes = lanes

    def on_committed(self, pending: PendingCommand, outcome: Outcome) -> int:
        """Answer one outcome, and refuse what it holds back here."""
        offered = self._listener.on_committed(pending, outcome)
        if type(outcome) is Refused and outcome.error.retryable and isinstance(pending.command, Append):
            for behind in self._lanes.remove_held_back(pending.user_id, pending.command.conversation_id):
                self._listener.refuse_held_back(behind)
        return offered

    def on_stored(self, run: Sequence[Committed], deliveries_max: int) -> Sequence[int]:
        """As of the other one."""
        return self._listener.on_stored(run, deliveries_max)

    def on_batch_end(self) -> bool:
        """As of the other one."""
        return self._listener.on_batch_end()

    def refuse_held_back(self, pending: PendingCommand) -> None:
        """As of the other one."""
        self._listener.refuse_held_back(pending)

    def on_outcome_unknown(self, batch: Sequence[PendingCommand]) -> None:
        """As of the other one."""
        self._listener.on_outcome_unknown(batch)


class Moderation:
    """Takes messages, asks the moderator, and hands them to the committer."""

    def __init__(
        self,
        asking: Asking,
        store: ModerationReader,
        lanes: Lanes,
        committer: Committer,
        listener: CommitListener,
        config: ModerationConfig,
        server: ServerConfig,
        clock: Clock,
        instruments: Instruments,
    ) -> None:
        self._asking = asking
        self._store = store
        self._lanes = lanes
        self._committer = committer
        self._listener = listener
        self._config = config
        self._of_user_max = max(1, round(server.limits.commit_share_per_user * config.queue_max))
        self._retry_s = server.overload_retry_s
        self._clock = clock
        self._on_moderated = instruments.on_moderated
        self._under_way = 0
        self._wake = AutoResetEvent()
        self._progress = AutoResetEvent()

    def submit(self, pending: PendingCommand) -> None:
        """Take a message; its outcome arrives where the committer's do.

        Raises:
            OverloadedError: Too many wait for the moderator, or too many of this user. A retry is safe.
            UnavailableError: The server drains or is not running. A retry is safe.
        """
        self._committer.accept(pending)
        lanes, config = self._lanes, self._config
        if len(lanes) >= config.queue_max or lanes.size_bytes >= config.queue_bytes_max:
            raise OverloadedError("too many messages wait for the moderator", retry_after_s=self._retry_s)
        if pending.user_id != HOST and lanes.count_of(pending.user_id) >= self._of_user_max:
            raise OverloadedError(
                "too much of this user waits for the moderator", retry_after_s=self._retry_s
            )
        lanes.append(pending)
        self._wake.set()

    async def run(self) -> None:
        """Ask the moderator until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                while self._under_way < self._config.batches_max and (
                    batch := self._lanes.take(self._config.batch_max)
                ):
                    self._under_way += 1
                    tasks.start_soon(self._moderate, tasks, batch)
                await self._wake.wait()

    def refuse_queued(
        self, why: Callable[[PendingCommand], RefusedError | None], *, also_asked: bool = True
    ) -> None:
        """Refuse what is here, or only what waits for the moderator, and has a `why`."""
        for pending, error in self._lanes.remove(why, also_asked=also_asked):
            self._listener.on_committed(pending, Refused(error))
        self._progress.set()

    def abandon(self) -> None:
        """Refuse all that is here: there will be no further verdict."""
        error = self._unavailable(NOT_RUNNING)
        self.refuse_queued(lambda _: error)

    async def flush(self) -> None:
        """The server drains: refuse what waits, and return once nothing is with the moderator any more."""
        error = self._unavailable(DRAINING)
        self.refuse_queued(lambda _: error, also_asked=False)
        while len(self._lanes):
            await self._progress.wait()

    async def answer(self, sessions: Collection[Session]) -> None:
        """These sessions leave: likewise for what is theirs; they ask for nothing more."""
        error = self._unavailable(DRAINING)
        self.refuse_queued(lambda it: error if it.session in sessions else None, also_asked=False)
        while any(it.pending.session in sessions for it in self._lanes if not it.gone):
            await self._progress.wait()

    def _unavailable(self, reason: str) -> UnavailableError:
        return UnavailableError(reason, retry_after_s=self._retry_s)

    async def _moderate(self, tasks: TaskGroup, batch: list[Waiting]) -> None:
        try:
            for it, verdict in zip(batch, await self._verdicts(tasks, batch), strict=True):
                if not it.gone:
                    self._hand_over(it.pending, verdict)
        finally:
            self._under_way -= 1
            self._lanes.release(batch)
            self._wake.set()
            self._progress.set()

    async def _verdicts(self, tasks: TaskGroup, batch: list[Waiting]) -> list[Verdict]:
        """A verdict for each; UNASKED for those that the moderator need not see."""
        try:
            new = await self._store.to_moderate(
                [(it.command.conversation_id, it.command.sender_id, it.command.client_msg_id) for it in batch]
            )
        except RefusedError as error:
            logger.warning("storage does not say which messages are new: %s", error)
            new = [False] * len(batch)
        except Exception:
            logger.exception("storage does not say which messages are new")
            new = [False] * len(batch)
        to_ask = [it for it, is_new in zip(batch, new, strict=True) if is_new and not it.gone]
        verdict_of = dict.fromkeys(map(id, batch), self._asking.unasked)
        if to_ask:
            verdict_of.update(zip(map(id, to_ask), await self._ask(tasks, to_ask), strict=True))
        return [verdict_of[id(it)] for it in batch]

    async def _ask(self, tasks: TaskGroup, to_ask: list[Waiting]) -> list[Verdict]:
        began_s = self._clock.now_s()
        commands = [it.command for it in to_ask]
        verdicts, failure = await self._asking.ask(tasks, commands)
        if self._on_moderated is not None:
            self._on_moderated(ModeratedBatch(commands, verdicts, failure, began_s, self._clock.now_s()))
        return verdicts

    def _hand_over(self, pending: PendingCommand, verdict: Verdict) -> None:
        if pending.held_back:
            self._listener.refuse_held_back(pending)
            return
        assert isinstance(pending.command, Append)
        pending.command = ModeratedAppend(**asdict(pending.command), verdict=verdict)
        try:
            self._committer.queue(pending)
        except OverloadedError as error:
            self._listener.on_committed(pending, Refused(error))
