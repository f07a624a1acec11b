"""`DeliveryWorker`: has what no device confirmed in time go to push.

Any number of workers draw from one store, in one process or many: what one has taken nobody else is given. What a
worker does with it is in `job`. A worker that dies leaves nothing behind but leases, which end.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from ..._arguments import check_callable, check_has, check_kind
from ..._auto_reset_event import AutoResetEvent
from ...errors import ConfigurationError, UnavailableError
from ...observability.instrument import Instrument, Instruments
from ...ports import Ports
from ...push.base import PushProvider
from ...queue.base import Item, Queue
from ...storage.base import Claim, ClaimTerms, Store
from .config import DeliveryConfig
from .feed import WINDOW_MS, decode
from .job import Job
from .lag_report import LagReports
from .notices import Compose, plain_words
from .push_report import PushReports

logger = logging.getLogger(__name__)

MEMBERS_MAX: Final = 1_000
"""Members of the conversations that are looked at together."""

_NAME: Final = re.compile(r"[a-z0-9_-]{1,32}")
"""As devices may say it (`wire.http.PushProviderName`)."""

_DISCARD_EVERY_S: Final = 3600.0
_OF_LEASE: Final = 0.8
_DRAWN_AGAIN_S: Final = 1.5
_DRAWN_MAX: Final = 5
"""So often an item of the queue is drawn whose conversation somebody else works on; then it is left to the outbox."""


class DeliveryWorker:
    """Pushes to devices that did not confirm a message within `push_after_s`; run it with `run`.

    Args:
        store: Opened, and open as long as the worker runs.
        providers: Ways to devices, by the names that devices register with. A device of another provider is tried again
            later, here or at a worker that has it.
        compose: Puts a notice into words. None: ids for names, in English.
        config: Times and bounds.
        ports: Clock, random numbers, ids.
        queue: Opened; says which conversations have work. What it loses is found in the outbox after `sweep_after_s`.
            None: the outbox is all that the worker goes by.
        instruments: Told what became of pushes; see `Instrument`.

    Attributes:
        counts: What became of pushes since it was made: `pushed`, `retried`, `dead`, `dropped` (tokens), `cancelled`.

    Raises:
        ConfigurationError: An argument is of another kind, or the store has no outbox for workers.
    """

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, PushProvider],
        *,
        compose: Compose | None = None,
        config: DeliveryConfig | None = None,
        ports: Ports | None = None,
        queue: Queue | None = None,
        instruments: Iterable[Instrument] = (),
    ) -> None:
        check_has("store", store, "commit", "a Store, such as open_store('sqlite:///chat.db')")
        if not hasattr(store, "deliveries"):
            raise ConfigurationError("this store has no `deliveries`: it cannot feed delivery workers")
        check_kind("providers", providers, Mapping)
        for name, provider in providers.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ConfigurationError(f"providers: {name!r} is no name: 1-32 of a-z, 0-9, - and _")
            check_has(f"providers[{name!r}]", provider, "send", "a PushProvider")
        if compose is not None:
            check_callable("compose", compose, "an async callable that takes a Notice")
        check_kind("config", config, DeliveryConfig, optional=True)
        check_kind("ports", ports, Ports, optional=True)
        if queue is not None:
            check_has("queue", queue, "take", "a Queue, such as open_queue('jetstream://HOST')")
        self.counts: Counter[str] = Counter()
        self._store = store
        self._queue = queue
        self._config = config or DeliveryConfig()
        self._ports = ports or Ports()
        some = Instruments(instruments)
        self._lag_reports = LagReports(some, store, self._ports.clock, working=True)
        reports = PushReports(some, self._ports.clock)
        self._job = Job(
            store, providers, compose or plain_words, self._config, self._ports, self.counts, reports
        )
        self._slots = anyio.Semaphore(self._config.concurrency)
        self._discard_at_s = self._ports.clock.now_s()
        self._stopping = False
        self._wake = AutoResetEvent()
        self._beside: list[anyio.CancelScope] = []
        self._ended = anyio.Event()

    async def run(self) -> None:
        """Work until `stop` or cancellation. A store that fails is asked again; nothing it said is lost. Called once.

        What is under way when it is cancelled comes again when its lease has ended.
        """
        try:
            async with anyio.create_task_group() as tasks:
                if self._queue is not None:
                    tasks.start_soon(self._until_stopped, partial(self._draw, self._queue, tasks))
                if self._lag_reports.wanted:
                    tasks.start_soon(self._until_stopped, self._lag_reports.run)
                while not self._stopping:
                    if not await self._round(tasks):
                        await self._wake.wait(self._config.poll_s)
        finally:
            self._ended.set()

    def stop(self) -> None:
        """Take nothing more; `run` returns when what is under way is done with."""
        self._stopping = True
        self._wake.set()
        for scope in self._beside:
            scope.cancel()

    async def ended(self) -> None:
        """Return once `run` has ended."""
        await self._ended.wait()

    async def _until_stopped(self, work: Callable[[], Awaitable[None]]) -> None:
        if not self._stopping:
            with anyio.CancelScope() as scope:
                self._beside.append(scope)
                await work()

    async def run_once(self) -> int:
        """Work on what is due now; returns how many claims that were: 0 if nothing is due, or the store refuses."""
        async with anyio.create_task_group() as tasks:
            count = await self._round(tasks)
        return count

    async def _round(self, tasks: TaskGroup) -> int:
        """Take what is due and have it worked on; returns how many claims were taken."""
        after_s = self._config.push_after_s + (0.0 if self._queue is None else self._config.sweep_after_s)
        async with self._slots:
            await self._discard()
            ticket, claims, end_by_s = await self._claim(after_s)
        for chunk in _chunks(claims):
            await self._slots.acquire()
            if self._stopping:
                self._slots.release()
                break
            tasks.start_soon(self._carry_out, ticket, chunk, end_by_s)
        return len(claims)

    async def _claim(
        self, after_s: float, names: Sequence[str] | None = None
    ) -> tuple[int, list[Claim], float]:
        """A ticket, what is due, and when to be done with it; nothing while the store refuses."""
        ticket = int.from_bytes(self._ports.ids.token_bytes(6), "big") + 1
        lease_ms = round(self._config.lease_s * 1000)
        terms = ClaimTerms(self._ports.clock.now_ms(), round(after_s * 1000), lease_ms, ticket)
        end_by_s = anyio.current_time() + self._config.lease_s * _OF_LEASE
        try:
            if not self._stopping:
                claims = await self._store.deliveries.claim(terms, self._config.batch, names)
                return ticket, claims, end_by_s
        except UnavailableError as error:
            logger.warning("the outbox cannot be read: %s", error)
        except Exception:  # a bug here must not end the server that the worker runs in
            logger.exception("the outbox cannot be read")
        return ticket, [], end_by_s

    async def _carry_out(self, ticket: int, chunk: Sequence[Claim], end_by_s: float) -> None:
        try:
            await self._carry_out_chunk(ticket, chunk, end_by_s)
        finally:
            self._slots.release()

    async def _carry_out_chunk(self, ticket: int, chunk: Sequence[Claim], end_by_s: float) -> bool:
        """Whether it is done with. What is not comes again when its lease has ended, here or at another worker."""
        try:
            with anyio.move_on_at(end_by_s) as lease:
                await self._job.carry_out(ticket, chunk, end_by_s)
                return True
            if lease.cancelled_caught:
                logger.warning("%d deliveries took too long; they are tried again", len(chunk))
        except UnavailableError as error:
            logger.warning("%d deliveries are tried again: %s", len(chunk), error)
        except Exception:  # a bug in one delivery must not end all of them
            logger.exception("%d deliveries failed; they are tried again", len(chunk))
            if len(chunk) > 1:  # one of them may be at fault; the others are done with by themselves
                for claim in chunk:
                    await self._carry_out_chunk(ticket, [claim], end_by_s)
        return False

    # --- with a queue ---

    async def _draw(self, queue: Queue, tasks: TaskGroup) -> None:
        """Work on what the queue gives, each when it is due: what is put later is due later."""
        while True:
            try:
                items = await queue.take(self._config.batch)
            except Exception as error:  # its server is away, or a bug: what it holds is found in the outbox
                logger.warning("the delivery queue cannot be read: %s", error)
                await anyio.sleep(self._config.poll_s)
                continue
            latest_ms = self._ports.clock.now_ms() + WINDOW_MS + round(self._config.push_after_s * 1000)
            found = ((min(_due_ms(it, self._config), latest_ms), it) for it in items)  # clocks differ
            due = deque(sorted(found, key=lambda it: it[0]))
            while due:
                await anyio.sleep(max(0, due[0][0] - self._ports.clock.now_ms()) / 1000)
                await self._slots.acquire()
                drawn = [due.popleft()[1]]
                while due and due[0][0] <= self._ports.clock.now_ms():
                    drawn.append(due.popleft()[1])
                tasks.start_soon(self._carry_out_items, queue, drawn)

    async def _carry_out_items(self, queue: Queue, items: Sequence[Item]) -> None:
        """Claim what they name. What could not be claimed or finished, and waits all the same, is drawn again soon."""
        try:
            ticket, claims, end_by_s = await self._claim(self._config.push_after_s, [it.key for it in items])
            for chunk in _chunks(claims):
                await self._carry_out_chunk(ticket, chunk, end_by_s)
            waiting = await self._store.deliveries.waiting([it.key for it in items])
            left = [it for it in items if it.key in waiting and it.attempt < _DRAWN_MAX]
            await queue.done([it for it in items if it not in left])
            for item in left:
                await queue.retry(item, _DRAWN_AGAIN_S)
        except Exception as error:  # they come again by the queue, or are found in the outbox
            logger.warning("the delivery queue was not told of %d items: %s", len(items), error)
        finally:
            self._slots.release()

    async def _discard(self) -> None:
        """Forget old dead letters, and what providers said long ago, now and then."""
        if self._ports.clock.now_s() < self._discard_at_s:
            return
        self._discard_at_s = self._ports.clock.now_s() + _DISCARD_EVERY_S
        config, outbox = self._config, self._store.deliveries
        for discard, kept_s in (
            (outbox.discard_dead_letters, config.dead_letters_s),
            (outbox.discard_pushes, config.pushes_kept_s),
        ):
            before_ms = self._ports.clock.now_ms() - round(kept_s * 1000)
            try:
                while await discard(before_ms):
                    pass
            except Exception as error:  # nothing waits for it
                logger.warning("old rows of deliveries are kept for now: %s", error)


def _due_ms(item: Item, config: DeliveryConfig) -> int:
    """When the entries that an item stands for are old enough; at once for one that nobody here made."""
    try:
        at_ms = decode(item.data).at_ms
    except msgspec.MsgspecError:
        logger.error("an item of the delivery queue cannot be read; its conversation is looked at")
        return 0
    return at_ms + WINDOW_MS + round(config.push_after_s * 1000)


def _chunks(claims: Sequence[Claim]) -> Iterator[list[Claim]]:
    """Claims that are looked at together: of few large conversations, or of many small ones."""
    chunk: list[Claim] = []
    members = 0
    for claim in claims:
        count = 1 if claim.user_id else claim.member_count
        if chunk and members + count > MEMBERS_MAX:
            yield chunk
            chunk, members = [], 0
        chunk.append(claim)
        members += count
    if chunk:
        yield chunk
