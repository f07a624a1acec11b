"""`DeliveryWorker`: has what no device confirmed in time go to push.

Any number of workers draw from one store, in one process or many: what one has taken nobody else is given. What a
worker does with it is in `job`. A worker that dies leaves nothing behind but leases, which end.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import anyio

from ..._arguments import check_callable, check_has, check_kind
from ..._auto_reset_event import AutoResetEvent
from ...errors import ConfigurationError, UnavailableError
from ...ports import Ports
from ...push.base import PushProvider
from ...storage.base import Claim, ClaimTerms, Store
from .config import DeliveryConfig
from .job import Job
from .notices import Compose, plain_words

logger = logging.getLogger(__name__)

MEMBERS_MAX: Final = 1_000
"""Members of the conversations that are looked at together."""

_DISCARD_EVERY_S: Final = 3600.0


class DeliveryWorker:
    """Pushes to devices that did not confirm a message within `push_after_s`; run it with `run`.

    Args:
        store: Opened, and open as long as the worker runs.
        providers: Ways to devices, by the names that devices register with; none: nothing is pushed, and the outbox is
            drained.
        compose: Puts a notice into words. None: ids for names, in English.
        config: Times and bounds.
        ports: Clock, random numbers, ids.

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
    ) -> None:
        check_has("store", store, "commit", "a Store, such as open_store('sqlite:///chat.db')")
        if not hasattr(store, "deliveries"):
            raise ConfigurationError("this store has no `deliveries`: it cannot feed delivery workers")
        check_kind("providers", providers, Mapping)
        for name, provider in providers.items():
            check_has(f"providers[{name!r}]", provider, "send", "a PushProvider")
        if compose is not None:
            check_callable("compose", compose, "an async callable that takes a Notice")
        check_kind("config", config, DeliveryConfig, optional=True)
        check_kind("ports", ports, Ports, optional=True)
        self.counts: Counter[str] = Counter()
        self._store = store
        self._config = config or DeliveryConfig()
        self._ports = ports or Ports()
        self._job = Job(store, providers, compose or plain_words, self._config, self._ports, self.counts)
        self._slots = anyio.Semaphore(self._config.concurrency)
        self._discard_at_s = self._ports.clock.now_s()
        self._stopping = False
        self._wake = AutoResetEvent()

    async def run(self) -> None:
        """Work until `stop` or cancellation. A store that fails is asked again; nothing it said is lost.

        What is under way when it is cancelled comes again when its lease has ended.
        """
        async with anyio.create_task_group() as tasks:
            while not self._stopping:
                if not await self._round(tasks):
                    await self._wake.wait(self._config.poll_s)

    def stop(self) -> None:
        """Take nothing more; `run` returns when what is under way is done with."""
        self._stopping = True
        self._wake.set()

    async def run_once(self) -> int:
        """Work on what is due now, and return how many claims that were; 0 if nothing is due."""
        async with anyio.create_task_group() as tasks:
            count = await self._round(tasks)
        return count

    async def _round(self, tasks: anyio.abc.TaskGroup) -> int:
        """Take what is due and have it worked on; returns how many claims were taken."""
        async with self._slots:
            try:
                await self._discard()
                ticket = int.from_bytes(self._ports.ids.token_bytes(6)) + 1
                claims = await self._store.deliveries.claim(self._terms(ticket), self._config.batch)
            except UnavailableError as error:
                logger.warning("the outbox cannot be read: %s", error)
                return 0
            except Exception:  # a bug here must not end the server that the worker runs in
                logger.exception("the outbox cannot be read")
                return 0
        for chunk in _chunks(claims):
            await self._slots.acquire()
            tasks.start_soon(self._carry_out, ticket, chunk)
        return len(claims)

    async def _carry_out(self, ticket: int, chunk: Sequence[Claim]) -> None:
        """What is not finished comes again when its lease has ended, here or at another worker."""
        try:
            with anyio.move_on_after(self._config.lease_s * 0.8) as lease:
                await self._job.carry_out(ticket, chunk)
            if lease.cancelled_caught:
                logger.warning("%d deliveries took too long; they are tried again", len(chunk))
        except UnavailableError as error:
            logger.warning("%d deliveries are tried again: %s", len(chunk), error)
        except Exception:  # a bug in one delivery must not end all of them
            logger.exception("%d deliveries failed; they are tried again", len(chunk))
        finally:
            self._slots.release()

    async def _discard(self) -> None:
        """Forget old dead letters, now and then."""
        if self._ports.clock.now_s() < self._discard_at_s:
            return
        self._discard_at_s = self._ports.clock.now_s() + _DISCARD_EVERY_S
        before_ms = self._ports.clock.now_ms() - round(self._config.dead_letters_s * 1000)
        await self._store.deliveries.discard_dead_letters(before_ms)

    def _terms(self, ticket: int) -> ClaimTerms:
        return ClaimTerms(
            self._ports.clock.now_ms(),
            round(self._config.push_after_s * 1000),
            round(self._config.lease_s * 1000),
            ticket,
        )


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
