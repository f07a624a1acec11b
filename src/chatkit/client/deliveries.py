"""What the app takes: entries of the logs until it has taken them, and everything else once.

First comes what an earlier start left (`backlog`); then what arrives. An entry that is handed out counts in the local
store before the app sees it: as taken (`take`), or as one more try (`consume`, which takes it once its handler has
returned). While the store refuses for now, nothing is handed out. Of one conversation, one event is handed out at a
time, whatever the number of handlers. Called by `client`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from inspect import isasyncgenfunction, isgeneratorfunction

import anyio
from msgspec.structs import replace

from .._auto_reset_event import AutoResetEvent
from ..core.timeline import tombstone
from ..errors import ConfigurationError, TooLargeError, UnavailableError
from ..types import Message
from ._calls import call
from .backlog import Backlog
from .conversation import RECALLED_LATELY_MAX, Conversation, Conversations
from .event_queue import EventQueue
from .events import Delivery, MessageReceived, Taken
from .inbox import Batches
from .store.base import LocalStore, refused_for_now
from .taken import TakenCursors

logger = logging.getLogger(__name__)

CONCURRENCY_MAX = 1000
"""Handlers that run at once."""

STATE_BYTES_MAX = 16 * 1024
"""What an app may keep of one conversation."""

RETRY_S = 0.5
"""After so long a store that refused is asked again, unless it said when."""

_NEVER_RUNS = "whose body would never run: leave out its yield"

Handler = Callable[[Delivery], Awaitable[object] | object]
ErrorHandler = Callable[[Delivery, Exception], Awaitable[float | None]]


class Deliveries:
    """Hands events to the app, of each conversation one at a time. One caller at a time.

    Args:
        store: Says what was recalled, where memory has forgotten it.
        cursors: How far each log is taken.
        backlog: What an earlier start left.
        queue: What arrives.
        conversations: What is in memory.
        batches: Confirm to the server what was taken.
        wake: Set when there is something to send.
    """

    def __init__(
        self,
        store: LocalStore,
        cursors: TakenCursors,
        backlog: Backlog,
        queue: EventQueue,
        conversations: Conversations,
        batches: Batches,
        wake: AutoResetEvent,
    ) -> None:
        self._store = store
        self._cursors = cursors
        self._backlog = backlog
        self._queue = queue
        self._conversations = conversations
        self._batches = batches
        self._wake = wake
        self._turn = anyio.Lock(fast_acquire=True)
        self._busy: set[str] = set()
        self._stopping = anyio.Event()
        self._closed = False

    async def take(self) -> Delivery | None:
        """The next event, which counts as taken before it is returned; None once there will be none."""
        self._queue.resume()
        delivery = await self._next()
        if delivery is not None:
            self._busy.clear()
            self._cursors.took(delivery)
            await self._save()
            self._cursors.handed_out.pop(delivery.conversation_id, None)
        return delivery

    async def consume(
        self, handler: Handler, concurrency: int = 1, on_error: ErrorHandler | None = None
    ) -> None:
        """Hand out every event; each is taken once the handler has returned. Returns once there will be none, or
        after `stop`, once the handlers that run have returned.

        Raises:
            Exception: What the handler raised, or `on_error` if there is one; its event is handed out again first.
            ConfigurationError: The handler is a generator function, or returned a generator or a coroutine that nobody
                awaits; likewise.
        """
        if isasyncgenfunction(handler) or isgeneratorfunction(handler):
            raise ConfigurationError(f"handler is a generator function, {_NEVER_RUNS}")
        self._stopping = anyio.Event()
        self._queue.resume()
        try:
            if concurrency == 1:
                await self._work(handler, on_error, is_alone=True)
            else:
                await self._work_side_by_side(handler, concurrency, on_error)
        finally:
            self._save_at_end()

    def stop(self) -> None:
        """Hand nothing more out to the `consume` that runs."""
        self._stopping.set()
        self._queue.stop()

    def close(self) -> None:
        """Write what was taken, for the last time."""
        self._save_at_end()
        self._closed = True

    async def _work_side_by_side(
        self, handler: Handler, concurrency: int, on_error: ErrorHandler | None
    ) -> None:
        failures: list[Exception] = []

        async def work() -> None:
            try:
                await self._work(handler, on_error, is_alone=False)
            except Exception as error:
                failures.append(error)
                tasks.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(concurrency):
                    tasks.start_soon(work)
            first = failures.pop(0) if failures else None
        finally:
            for error in failures:  # only one can be raised, and none if the caller is cancelled
                logger.error("another handler failed, too", exc_info=error)
        if first is not None:
            raise first

    async def _work(self, handler: Handler, on_error: ErrorHandler | None, *, is_alone: bool) -> None:
        while (delivery := await (self._next() if is_alone else self._next_in_turn())) is not None:
            try:
                await self._hand_out(delivery, handler, on_error)
            finally:
                self._busy.discard(delivery.conversation_id)
                if not is_alone:
                    self._queue.release(delivery.conversation_id)

    async def _next_in_turn(self) -> Delivery | None:
        async with self._turn:
            return await self._next()

    async def _hand_out(self, delivery: Delivery, handler: Handler, on_error: ErrorHandler | None) -> None:
        if not delivery.repeats:
            del self._cursors.handed_out[delivery.conversation_id]
        given = replace(delivery, attempt=self._cursors.trying(delivery))
        await self._save()
        try:
            result = await call("the handler", handler, given)
            state = _state_of(given, result)
        except Exception as error:
            if on_error is None:
                raise
            wait_s: float | None = await call("on_error", on_error, given, error)
            _refuse_unrun("on_error", wait_s)
            if wait_s is not None:
                return await self._wait_before_next_try(wait_s)
            state = None
        else:
            _refuse_unrun("handler", result)
        self._cursors.took(delivery, state)
        self._cursors.handed_out.pop(delivery.conversation_id, None)
        return await self._save()

    async def _wait_before_next_try(self, wait_s: float) -> None:
        """Its conversation stays busy meanwhile; then what is handed out still comes first."""
        with anyio.move_on_after(wait_s):
            await self._stopping.wait()

    async def _next(self) -> Delivery | None:
        delivery = await self._take()
        if delivery is None or self._closed:
            return None
        delivery = self._as_recalled(delivery)
        self._cursors.handed_out[delivery.conversation_id] = delivery
        self._busy.add(delivery.conversation_id)
        return delivery

    def _handed_out_before(self) -> Delivery | None:
        """What was handed out and not taken, if its conversation is not busy."""
        handed_out = self._cursors.handed_out
        if not handed_out:
            return None
        return next((it for id_, it in handed_out.items() if id_ not in self._busy), None)

    async def _take(self) -> Delivery | None:
        """What an earlier start left, then what arrives; None once there will be none."""
        while not (self._closed or self._queue.stopped):
            delivery = self._handed_out_before() or self._backlog.pop(self._busy)
            if delivery is not None:
                return delivery
            if self._backlog.may_read(self._busy):
                if not await self._backlog.read(self._busy):
                    return None  # to take what arrived would be to take what is missing before it
                continue
            delivery = await self._queue.take(self._is_busy)
            if delivery is not None or self._queue.ended:
                return delivery
        return None

    def _is_busy(self, conversation_id: str) -> bool:
        """Whether what arrives of it must wait: behind what was handed out, and behind what is read back."""
        return (
            conversation_id in self._busy
            or conversation_id in self._cursors.handed_out
            or self._backlog.holds(conversation_id)
        )

    def _as_recalled(self, delivery: Delivery) -> Delivery:
        """A message that was recalled since it was queued, without its body."""
        event, conversation = delivery.event, self._conversations.get(delivery.conversation_id)
        if conversation is None or not isinstance(event, MessageReceived):
            return delivery
        if not (conversation.recalled_lately and self._cursors.is_current(delivery)):
            return delivery
        if not self._is_recalled(conversation, event.message):
            return delivery
        return replace(delivery, event=MessageReceived(tombstone(event.message)))

    def _is_recalled(self, conversation: Conversation, message: Message) -> bool:
        lately = conversation.recalled_lately
        if message.seq in lately or len(lately) < RECALLED_LATELY_MAX:
            return message.seq in lately
        stored = self._store.untaken(conversation.id, message.seq - 1, message.seq, 1)
        return bool(stored) and stored[0].type == "RECALLED"

    async def _save(self) -> None:
        """Return once the store has what was taken and tried."""
        while not self._closed:
            try:
                return self._save_now()
            except UnavailableError as error:
                if not refused_for_now(error):
                    raise
                await anyio.sleep(RETRY_S if error.retry_after_s is None else error.retry_after_s)
        return None

    def _save_at_end(self) -> None:
        try:
            if not self._closed:
                self._save_now()
        except UnavailableError as error:
            logger.warning("what the app has taken last may come again: %s", error)

    def _save_now(self) -> None:
        self._cursors.save()
        for id_ in self._cursors.moved():
            conversation = self._conversations.get(id_)
            if conversation is not None and self._batches.taken_further(conversation):
                self._wake.set()


def _state_of(delivery: Delivery, result: object) -> bytes | None:
    if not isinstance(result, Taken) or result.state is None:
        return None
    if not delivery.repeats:
        raise ConfigurationError("state is kept with entries of a log only, and this event is none")
    if len(result.state) > STATE_BYTES_MAX:
        raise TooLargeError(f"the state of a conversation is at most {STATE_BYTES_MAX} bytes")
    return result.state


def _refuse_unrun(name: str, result: object) -> None:
    """Raises ConfigurationError for what would have to be run still: its event must not count as taken."""
    if isinstance(result, AsyncGenerator | Generator):
        raise ConfigurationError(f"{name} returned a generator, {_NEVER_RUNS}")
    if isinstance(result, Coroutine):
        result.close()
        raise ConfigurationError(
            f"{name} returned a coroutine that nobody awaits: await it there; chatkit.sync takes plain functions"
        )
