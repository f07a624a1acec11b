"""One part of what a worker took: looks whom to tell what, sends it, and says in the store what became of it.

What a push says is read from the log, and looked at once more right before it is sent: read elsewhere, confirmed, muted
or recalled meanwhile, it is not sent. Only what is on its way already cannot be called back.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

import anyio
import msgspec

from ...core.backoff import next_delay
from ...errors import RefusedError
from ...ports import Ports
from ...push.base import Dead, Delivered, Push, PushProvider, Refused, Result, Retry, Unknown
from ...storage.base import (
    Claim,
    EntryMark,
    Finished,
    LaterDelivery,
    PushTarget,
    Store,
    UnregisterPush,
)
from ...wire.payload import RECALLED
from .config import DeliveryConfig
from .notices import ENTRIES_MAX, Choice, Compose, choose, notice_of

logger = logging.getLogger(__name__)

SENT_AT_ONCE: Final = 50
"""Pushes that are handed to a provider after one look at the log."""

COMPOSE_TIMEOUT_S: Final = 10.0
COMPOSED_AT_ONCE: Final = 100
_BASE_S: Final = 2.0

Place = tuple[int, str, str]
"""(conversation key, user, device); of a claim of all members without the two."""


class Task(msgspec.Struct, frozen=True):
    """Something to be told to a device."""

    claim: Claim
    target: PushTarget
    choice: Choice


class Planned(msgspec.Struct, frozen=True):
    """A push that is to be sent, or why none can be."""

    task: Task
    push: Push | None
    error: LaterDelivery | None = None


class Job:
    """Carries out claims.

    Args:
        store: The log and its outbox.
        providers: By the names that devices register with.
        compose: Puts notices into words.
        config: Times and bounds.
        ports: Clock and jitter.
        counts: Told what became of pushes: `pushed`, `retried`, `dead`, `dropped` (tokens), `cancelled`.
    """

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, PushProvider],
        compose: Compose,
        config: DeliveryConfig,
        ports: Ports,
        counts: Counter[str],
    ) -> None:
        self._store = store
        self._providers = providers
        self._compose = compose
        self._config = config
        self._clock, self._random = ports.clock, ports.random
        self._counts = counts
        self._composing = anyio.Semaphore(COMPOSED_AT_ONCE)

    async def carry_out(self, ticket: int, claims: Sequence[Claim]) -> None:
        """Push what is to be pushed, and be done with the claims. Raises UnavailableError; then they come again."""
        given_up = [it for it in claims if it.attempt > self._config.attempts_max]
        tried = [it for it in claims if it.attempt <= self._config.attempts_max]
        later = await self._pushed(tried)
        finished = [self._finished(it, (self._given_up(it),)) for it in given_up]
        finished += [self._finished(it, tuple(later.get(_place(it), ()))) for it in tried]
        await self._store.deliveries.finish(ticket, finished)

    def _finished(self, claim: Claim, later: tuple[LaterDelivery, ...]) -> Finished:
        return Finished(claim, self._clock.now_ms(), later)

    def _given_up(self, claim: Claim) -> LaterDelivery:
        """A claim that was never finished, however often it was given out."""
        tries = claim.attempt - 1
        logger.error("deliveries of %s are given up after %d tries", claim.conversation_id, tries)
        self._counts["dead"] += 1
        reason = f"given out {tries} times and never finished"
        return LaterDelivery(claim.user_id, claim.device_id, None, reason)

    async def _pushed(self, claims: Sequence[Claim]) -> dict[Place, list[LaterDelivery]]:
        """Push; what has to come again, by the place of its claim."""
        planned = await self._plan(await self._tasks(claims))
        later: dict[Place, list[LaterDelivery]] = {}
        for it in planned:
            if it.error is not None:
                later.setdefault(_place(it.task.claim), []).append(it.error)
        ready = sorted((it for it in planned if it.push is not None), key=lambda it: it.task.target.provider)
        for provider, of_provider in groupby(ready, key=lambda it: it.task.target.provider):
            todo = list(of_provider)
            for start in range(0, len(todo), SENT_AT_ONCE):
                for it, failed in await self._send(provider, todo[start : start + SENT_AT_ONCE]):
                    later.setdefault(_place(it.task.claim), []).append(failed)
        return later

    # --- what to say ---

    async def _tasks(self, claims: Sequence[Claim]) -> list[Task]:
        """Whom to tell what, as the log is now; by conversation, user and device."""
        outbox, now_ms = self._store.deliveries, self._clock.now_ms()
        targets = await outbox.targets(claims, now_ms) if claims else []
        if not targets:
            return []
        keys = {it.conversation_key for it in targets}
        marks: dict[int, list[EntryMark]] = {key: [] for key in keys}
        for mark in await outbox.newest([it for it in claims if it.conversation_key in keys], ENTRIES_MAX):
            marks[mark.conversation_key].append(mark)
        by_place = {_place(it): it for it in claims}
        after_ms = round(self._config.push_after_s * 1000)
        tasks = []
        for target in targets:
            key = target.conversation_key
            claim = by_place.get((key, target.user_id, target.device_id)) or by_place.get((key, "", ""))
            choice = choose(claim, target, marks[key], after_ms) if claim is not None else None
            if claim is not None and choice is not None:
                tasks.append(Task(claim, target, choice))
        return tasks

    async def _plan(self, tasks: Sequence[Task]) -> list[Planned]:
        """Put everything into words."""
        if not tasks:
            return []
        outbox = self._store.deliveries
        bodies = await outbox.payloads(
            [(it.target.conversation_key, it.choice.about.seq) for it in tasks if not it.choice.is_withdrawal]
        )
        badges = await outbox.unread([it.target.user_id for it in tasks], self._clock.now_ms())
        planned: list[Planned] = []
        async with anyio.create_task_group() as composing:
            for it in tasks:
                place = (it.target.conversation_key, it.choice.about.seq)
                body = RECALLED if it.choice.is_withdrawal else bodies.get(place)
                if body is not None:  # else it was recalled just now, which is due as an entry of its own
                    badge = badges.get(it.target.user_id, 0)
                    composing.start_soon(self._put_into_words, planned, it, body, badge)
        return sorted(planned, key=lambda it: _device(it.task))

    async def _put_into_words(self, planned: list[Planned], task: Task, body: bytes, badge: int) -> None:
        async with self._composing:
            planned.append(await self._planned(task, body, badge))

    async def _planned(self, task: Task, body: bytes, badge: int) -> Planned:
        claim, target = task.claim, task.target
        try:
            notice = notice_of(claim, target, task.choice, body, hide_body=self._config.hide_body)
            with anyio.fail_after(COMPOSE_TIMEOUT_S):
                text = await self._compose(notice)
            push = Push(
                token=target.token,
                collapse_id=claim.conversation_id,
                conversation_id=claim.conversation_id,
                message_id=notice.message_id,
                expires_at_ms=notice.sent_at_ms + round(self._config.ttl_s * 1000),
                title=text.title,
                body=text.body,
                badge=badge,
            )
        except TimeoutError:
            return Planned(task, None, self._again(claim, target, "the words took too long"))
        except Exception as error:  # one device's words; the others get theirs
            logger.exception("no words for a push to a device of %s", target.user_id)
            self._counts["dead"] += 1
            return Planned(task, None, _dead(target, f"its words failed: {type(error).__name__}"))
        return Planned(task, push)

    # --- sending ---

    async def _send(self, provider: str, planned: Sequence[Planned]) -> list[tuple[Planned, LaterDelivery]]:
        """Send what still is to be sent; returns what has to come again."""
        ready = await self._still_wanted(planned)
        if len(ready) < len(planned):
            self._counts["cancelled"] += len(planned) - len(ready)
        service = self._providers.get(provider)
        if service is None:
            reason = "this worker knows no such provider"
            return [(it, self._again(it.task.claim, it.task.target, reason)) for it in ready]
        pushes = [it.push for it in ready if it.push is not None]
        results = await service.send(pushes) if pushes else []
        found = [(it, await self._judged(it.task, result)) for it, result in zip(ready, results, strict=True)]
        return [(it, later) for it, later in found if later is not None]

    async def _still_wanted(self, planned: Sequence[Planned]) -> list[Planned]:
        """Those of which the log says the same right now. Where it says something else, that is due by itself."""
        claims = {_place(it.task.claim): it.task.claim for it in planned}
        current = {_device(it): it for it in await self._tasks([*claims.values()])}
        return [it for it in planned if _is_same(it.task, current.get(_device(it.task)))]

    async def _judged(self, it: Task, result: Result) -> LaterDelivery | None:
        """What has to come again of a push; None for nothing."""
        match result:
            case Delivered():
                self._counts["pushed"] += 1
            case Dead(reason, since_ms):
                await self._drop(it.target, reason, since_ms)
            case Refused(reason):
                logger.warning("a push to a device of %s was refused: %s", it.target.user_id, reason)
                self._counts["dead"] += 1
                return _dead(it.target, reason)
            case Retry(after_s, reason) | Unknown(reason, after_s):
                return self._again(it.claim, it.target, reason, after_s)
        return None

    async def _drop(self, target: PushTarget, reason: str, since_ms: int | None) -> None:
        logger.info("a device of %s has no valid push token any more: %s", target.user_id, reason)
        self._counts["dropped"] += 1
        command = UnregisterPush(target.user_id, target.device_id, target.token, since_ms)
        for outcome in await self._store.commit([command]):
            if isinstance(error := getattr(outcome, "error", None), RefusedError):
                raise error

    def _again(self, claim: Claim, target: PushTarget, reason: str, after_s: float = 0.0) -> LaterDelivery:
        """Try a device again later, or give it up."""
        attempt = claim.attempt if claim.user_id else 1
        if attempt >= self._config.attempts_max:
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
        ready_ms = self._clock.now_ms() + round(wait_s * 1000)
        return LaterDelivery(target.user_id, target.device_id, ready_ms, reason)


def _place(claim: Claim) -> Place:
    return claim.conversation_key, claim.user_id, claim.device_id


def _device(task: Task) -> Place:
    return task.target.conversation_key, task.target.user_id, task.target.device_id


def _is_same(task: Task, now: Task | None) -> bool:
    return now is not None and now.target.token == task.target.token and now.choice.about == task.choice.about


def _dead(target: PushTarget, reason: str) -> LaterDelivery:
    return LaterDelivery(target.user_id, target.device_id, None, reason)
