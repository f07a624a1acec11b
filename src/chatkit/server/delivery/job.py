"""One part of what a worker took: sends what is to be said, and notes in the store what became of it.

Each push is looked at once more right before it is sent: read elsewhere, confirmed, muted or recalled meanwhile, it is
not sent. Only what is on its way already cannot be called back.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import anyio
from msgspec.structs import replace

from ...core.backoff import next_delay
from ...errors import UnavailableError
from ...ports import Ports
from ...push.base import (
    Dead,
    Delivered,
    Push,
    PushProvider,
    Refused,
    Result,
    Retry,
    Unknown,
)
from ...storage.base import (
    Claim,
    Finished,
    LaterDelivery,
    PushTarget,
    Store,
    UnregisterPush,
)
from .config import DeliveryConfig
from .notes import Notes
from .notices import Compose
from .planning import Planner, Task
from .push_report import PushReports

logger = logging.getLogger(__name__)

SENT_AT_ONCE: Final = 50
"""Pushes that are handed to a provider after one look at the log."""

SEND_TIMEOUT_S: Final = 25.0
"""For pushes that are handed to a provider at once, if the lease is long enough; its own deadlines are shorter."""

UNKNOWN_PROVIDER: Final = "?"
"""For instruments: devices may say any name, and it is no name of a figure."""

FINISH_TRIES: Final = 4
_BASE_S: Final = 2.0
_NO_TIME: Final = Retry(0.0, "there was no time left")


class Job:
    """Carries out claims.

    Args:
        store: The log and its outbox.
        providers: By the names that devices register with.
        compose: Puts notices into words.
        config: Times and bounds.
        ports: Clock and jitter.
        counts: Told what became of pushes: `pushed`, `retried`, `dead` (given up), `dropped` (tokens), `cancelled`.
        reports: Tells instruments of them.
    """

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, PushProvider],
        compose: Compose,
        config: DeliveryConfig,
        ports: Ports,
        counts: Counter[str],
        reports: PushReports,
    ) -> None:
        self._store = store
        self._providers = providers
        self._config = config
        self._clock, self._random = ports.clock, ports.random
        self._counts = counts
        self._reports = reports
        self._unknown: set[str] = set()
        self._send_s = min(SEND_TIMEOUT_S, config.lease_s * 0.3)
        self._ttl_ms = round(config.ttl_s * 1000)
        self._planner = Planner(store, compose, config, ports.clock)

    async def carry_out(self, ticket: int, claims: Sequence[Claim], end_by_s: float) -> None:
        """Push what is to be pushed, and be done with the claims; what is not sent by then comes again.

        Args:
            ticket: Of the claims.
            claims: Looked at together.
            end_by_s: Seconds of the loop, before the lease ends.

        Raises:
            UnavailableError: The store refused; the claims come again when their lease has ended.
        """
        given_up = [it for it in claims if self._is_hopeless(it)]
        tried = [it for it in claims if not self._is_hopeless(it)]
        notes = Notes()
        for it in given_up:
            notes.again(it, self._given_up(it))
        if tried:
            await self._push(tried, notes, end_by_s)
        now_ms = self._clock.now_ms()
        await self._finish(ticket, [notes.finished(it, now_ms) for it in (*given_up, *tried)], end_by_s)

    def _is_hopeless(self, claim: Claim) -> bool:
        """Whether something ends every worker that tries it: a device is tried as long as its messages may be shown."""
        if claim.user_id:
            age_ms = self._clock.now_ms() - claim.since_ms
            return age_ms > self._ttl_ms + 2_000 * (self._config.retry_max_s + self._config.lease_s)
        return claim.attempt > self._config.attempts_max

    async def _finish(self, ticket: int, finished: Sequence[Finished], end_by_s: float) -> None:
        """Note it, with some patience: else what was pushed is pushed again."""
        for turn in range(1, FINISH_TRIES + 1):
            try:
                await self._store.deliveries.finish(ticket, finished)
                return
            except UnavailableError:
                if turn == FINISH_TRIES or anyio.current_time() + turn > end_by_s:
                    raise
                await anyio.sleep(turn)

    def _given_up(self, claim: Claim) -> LaterDelivery:
        """A claim that was never finished, however often it was given out."""
        tries = claim.attempt - 1
        logger.error("deliveries of %s are given up after %d tries", claim.conversation_id, tries)
        self._counts["dead"] += 1
        reason = f"given out {tries} times and never finished"
        return LaterDelivery(claim.user_id, claim.device_id, None, reason)

    async def _push(self, claims: Sequence[Claim], notes: Notes, end_by_s: float) -> None:
        """Push, and note what became of it."""
        by_provider: dict[str, list[tuple[Task, Push]]] = {}
        for it in await self._planner.plan(await self._planner.tasks(claims)):
            if isinstance(it.push, Push):
                by_provider.setdefault(it.task.target.provider, []).append((it.task, it.push))
            else:
                await self._judge(it.task, it.push, notes)
        async with anyio.create_task_group() as sending:  # none waits for another one's provider
            for provider, todo in by_provider.items():
                sending.start_soon(self._send_all, provider, todo, notes, end_by_s)

    async def _send_all(
        self, provider: str, todo: Sequence[tuple[Task, Push]], notes: Notes, end_by_s: float
    ) -> None:
        """Send what still is to be sent, some at a time; what there is no time for comes again soon."""
        for start in range(0, len(todo), SENT_AT_ONCE):
            part = todo[start : start + SENT_AT_ONCE]
            results: Sequence[tuple[Task, Result]]
            if anyio.current_time() + self._send_s > end_by_s:
                results = [(task, _NO_TIME) for task, _ in part]
            else:
                results = await self._send_part(provider, part, notes)
            for task, result in results:
                await self._judge(task, result, notes)

    async def _send_part(
        self, provider: str, part: Sequence[tuple[Task, Push]], notes: Notes
    ) -> Sequence[tuple[Task, Result]]:
        """Send what the log still wants sent, and say what became of it; what is not wanted any more is left out."""
        began_s = self._reports.now_s()
        try:
            wanted = await self._still_wanted(part)
        except UnavailableError as error:  # the other providers' pushes go on
            return [(task, Retry(0.0, f"the log could not be read: {error}")) for task, _ in part]
        results = await self._results(provider, [push for _, push in wanted])
        sent = [(task, result) for (task, _), result in zip(wanted, results, strict=True)]
        known = provider if provider in self._providers else UNKNOWN_PROVIDER
        self._reports.sent(known, part, sent, began_s)
        if known == provider:
            now_ms = self._clock.now_ms()
            for task, result in sent:
                notes.said(task, result, now_ms)
        return sent

    async def _results(self, provider: str, pushes: Sequence[Push]) -> list[Result]:
        """One for each push, whatever the provider does."""
        service = self._providers.get(provider)
        if service is None:
            if provider not in self._unknown:
                self._unknown.add(provider)
                logger.warning(
                    "devices are registered with %r, a provider that this worker has not", provider
                )
            return [Retry(0.0, "this worker knows no such provider")] * len(pushes)
        reason = f"no answer within {self._send_s:g} s"
        try:
            with anyio.move_on_after(self._send_s):
                results = await service.send(pushes) if pushes else []
                if len(results) == len(pushes):
                    return [_checked(provider, it) for it in results]
                reason = f"{len(results)} results for {len(pushes)} pushes"
                logger.error("the provider %s gave %s", provider, reason)
        except Exception as error:  # a bug in one provider; the others' pushes are sent
            logger.exception("the provider %s failed", provider)
            reason = f"the provider failed: {type(error).__name__}"
        return [Unknown(reason)] * len(pushes)

    async def _still_wanted(self, todo: Sequence[tuple[Task, Push]]) -> list[tuple[Task, Push]]:
        """Those of which the log says the same right now. Where it says something else, that is due by itself."""
        now_ms = self._clock.now_ms()
        fresh = [(task, push) for task, push in todo if push.expires_at_ms > now_ms]
        devices = [
            replace(task.claim, user_id=task.target.user_id, device_id=task.target.device_id)
            for task, _ in fresh
        ]
        current = {it.device: it for it in await self._planner.tasks(devices)}
        wanted = [(task, push) for task, push in fresh if _is_same(task, current.get(task.device))]
        self._counts["cancelled"] += len(todo) - len(wanted)
        return wanted

    async def _judge(self, task: Task, result: Result, notes: Notes) -> None:
        """Act on what became of a push; what has to come again, or was given up, is noted."""
        failed: LaterDelivery | None = None
        match result:
            case Delivered():
                self._counts["pushed"] += 1
            case Dead(reason, since_ms):
                await self._drop(task.target, reason, since_ms)
            case Refused(reason):
                logger.warning("no push to a device of %s: %s", task.target.user_id, reason)
                self._counts["dead"] += 1
                failed = _dead(task.target, reason)
            case Retry(after_s, reason) | Unknown(reason, after_s):
                failed = self._again(task, reason, after_s)
        if failed is not None:
            notes.again(task.claim, failed)

    async def _drop(self, target: PushTarget, reason: str, since_ms: int | None) -> None:
        """Forget a token, unless it was registered again since; what the store refuses is found dead again."""
        logger.info("a device of %s has no valid push token any more: %s", target.user_id, reason)
        self._counts["dropped"] += 1
        before_ms = target.registered_ms if since_ms is None else since_ms
        command = UnregisterPush(target.user_id, target.device_id, target.token, before_ms)
        try:
            await self._store.commit([command])
        except UnavailableError as error:
            logger.warning("a dead push token of %s is kept for now: %s", target.user_id, error)

    def _again(self, task: Task, reason: str, after_s: float = 0.0) -> LaterDelivery:
        """Try a device again later; give it up once it has failed for as long as a message may be shown."""
        claim, target = task.claim, task.target
        attempt, now_ms = max(claim.attempt, 1) if claim.user_id else 1, self._clock.now_ms()
        if claim.user_id and now_ms - claim.since_ms >= self._ttl_ms:
            logger.warning("pushes to a device of %s are given up: %s", target.user_id, reason)
            self._counts["dead"] += 1
            return _dead(target, f"given up after {attempt} tries: {reason}")
        self._counts["retried"] += 1
        wait_s = next_delay(
            attempt,
            0.5 + self._random.random() / 2,
            after_s,
            base_s=_BASE_S,
            max_s=self._config.retry_max_s,
            retry_after_max_s=self._config.retry_max_s,
        )
        return LaterDelivery(target.user_id, target.device_id, now_ms + round(wait_s * 1000), reason)


def _is_same(task: Task, now: Task | None) -> bool:
    """Whether it is the same push to the same device, with no more words than the device wants now."""
    if now is None or now.choice.about != task.choice.about:
        return False
    before, after = task.target, now.target
    return (before.provider, before.token, before.hide_body) == (after.provider, after.token, after.hide_body)


def _checked(provider: str, result: object) -> Result:
    """What a provider gave for one push; what is no result says nothing of what became of it."""
    if isinstance(result, Result):
        return result
    name = type(result).__name__
    logger.error("the provider %s gave no result, but %s", provider, name)
    return Unknown(f"no result, but {name}")


def _dead(target: PushTarget, reason: str) -> LaterDelivery:
    return LaterDelivery(target.user_id, target.device_id, None, reason)
