"""One part of what a worker took: looks whom to tell what, sends it, and says in the store what became of it.

What a push says is read from the log, and looked at once more right before it is sent: read elsewhere, confirmed, muted
or recalled meanwhile, it is not sent. Only what is on its way already cannot be called back.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from traceback import extract_tb
from typing import Final

import anyio
import msgspec
from msgspec.structs import replace

from ...core.backoff import next_delay
from ...errors import UnavailableError
from ...ports import Ports
from ...push.base import (
    TEXT_CHARS_MAX,
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
SEND_TIMEOUT_S: Final = 25.0
"""For pushes that are handed to a provider at once, if the lease is long enough; its own deadlines are shorter."""

FINISH_TRIES: Final = 4
_BASE_S: Final = 2.0

Place = tuple[int, str, str]
"""(conversation key, user, device); of a claim of all members without the two."""

Later = dict[Place, list[LaterDelivery]]
"""What has to come again, by the place of its claim."""


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
        counts: Told what became of pushes: `pushed`, `retried`, `dead` (given up), `dropped` (tokens), `cancelled`.
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
        self._unknown: set[str] = set()
        self._send_s = min(SEND_TIMEOUT_S, config.lease_s * 0.3)
        self._compose_s = min(COMPOSE_TIMEOUT_S, config.lease_s * 0.1)

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
        later: Later = {}
        if tried:
            await self._push(tried, later, end_by_s)
        finished = [self._finished(it, (self._given_up(it),)) for it in given_up]
        finished += [self._finished(it, tuple(later.get(_place(it), ()))) for it in tried]
        await self._finish(ticket, finished, end_by_s)

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

    def _finished(self, claim: Claim, later: tuple[LaterDelivery, ...]) -> Finished:
        return Finished(claim, self._clock.now_ms(), later)

    def _given_up(self, claim: Claim) -> LaterDelivery:
        """A claim that was never finished, however often it was given out."""
        tries = claim.attempt - 1
        logger.error("deliveries of %s are given up after %d tries", claim.conversation_id, tries)
        self._counts["dead"] += 1
        reason = f"given out {tries} times and never finished"
        return LaterDelivery(claim.user_id, claim.device_id, None, reason)

    async def _push(self, claims: Sequence[Claim], later: Later, end_by_s: float) -> None:
        """Push; what has to come again is put into `later`, by the place of its claim."""
        planned = await self._plan(await self._tasks(claims))
        by_provider: dict[str, list[Planned]] = {}
        for it in planned:
            if it.error is not None:
                _put(later, it.task, it.error)
            else:
                by_provider.setdefault(it.task.target.provider, []).append(it)
        async with anyio.create_task_group() as sending:  # none waits for another one's provider
            for provider, todo in by_provider.items():
                sending.start_soon(self._send_all, provider, todo, later, end_by_s)

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
        """Put everything into words. Those that take too long are tried again."""
        if not tasks:
            return []
        outbox = self._store.deliveries
        bodies = await outbox.payloads(
            [(it.target.conversation_key, it.choice.about.seq) for it in tasks if not it.choice.is_withdrawal]
        )
        badges = await outbox.unread([it.target.user_id for it in tasks], self._clock.now_ms())
        told: list[tuple[Task, bytes, int]] = []
        for it in tasks:
            place = (it.target.conversation_key, it.choice.about.seq)
            body = RECALLED if it.choice.is_withdrawal else bodies.get(place)
            if body is not None:  # else it was recalled just now, which is due as an entry of its own
                told.append((it, body, badges.get(it.target.user_id, 0)))
        planned: dict[Place, Planned] = {}
        with anyio.move_on_after(self._compose_s * 2):
            async with anyio.create_task_group() as composing:
                for it, body, badge in told:
                    composing.start_soon(self._put_into_words, planned, it, body, badge)
        for it, _, _ in told:
            if _device(it) not in planned:
                planned[_device(it)] = Planned(it, None, self._again(it, "there was no time for its words"))
        return [planned[place] for place in sorted(planned)]

    async def _put_into_words(
        self, planned: dict[Place, Planned], task: Task, body: bytes, badge: int
    ) -> None:
        async with self._composing:
            found = await self._planned(task, body, badge)
        if found is not None:
            planned[_device(task)] = found

    async def _planned(self, task: Task, body: bytes, badge: int) -> Planned:
        claim, target = task.claim, task.target
        try:
            notice = notice_of(claim, target, task.choice, body, hide_body=self._config.hide_body)
            with anyio.fail_after(self._compose_s):
                text = await self._compose(notice)
            push = Push(
                token=target.token,
                collapse_id=claim.conversation_id,
                conversation_id=claim.conversation_id,
                message_id=notice.message_id,
                expires_at_ms=notice.sent_at_ms + self._ttl_ms,
                title=_cut(text.title),
                body=_cut(text.body),
                badge=badge,
                revision=task.choice.recalled_by,
            )
        except TimeoutError:
            return Planned(task, None, self._again(task, "the words took too long"))
        except (
            Exception
        ) as error:  # one device's words; the others get theirs. The error's may hold a message's
            where = extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            logger.error(
                "no words for a push to a device of %s: %s at %s", target.user_id, type(error).__name__, place
            )
            self._counts["dead"] += 1
            return Planned(task, None, _dead(target, f"its words failed: {type(error).__name__}"))
        return Planned(task, push)

    @property
    def _ttl_ms(self) -> int:
        return round(self._config.ttl_s * 1000)

    # --- sending ---

    async def _send_all(
        self, provider: str, planned: Sequence[Planned], later: Later, end_by_s: float
    ) -> None:
        """Send what still is to be sent, some at a time; what there is no time for comes again soon."""
        for start in range(0, len(planned), SENT_AT_ONCE):
            part = planned[start : start + SENT_AT_ONCE]
            if anyio.current_time() + self._send_s > end_by_s:
                for it in part:
                    _put(later, it.task, self._again(it.task, "there was no time left"))
                continue
            ready = await self._still_wanted(part)
            if len(ready) < len(part):
                self._counts["cancelled"] += len(part) - len(ready)
            for it, result in zip(ready, await self._results(provider, ready), strict=True):
                failed = await self._judged(it.task, result)
                if failed is not None:
                    _put(later, it.task, failed)

    async def _results(self, provider: str, ready: Sequence[Planned]) -> list[Result]:
        """One for each push, whatever the provider does."""
        service = self._providers.get(provider)
        if service is None:
            if provider not in self._unknown:
                self._unknown.add(provider)
                logger.warning(
                    "devices are registered with %r, a provider that this worker has not", provider
                )
            return [Retry(0.0, "this worker knows no such provider")] * len(ready)
        pushes = [it.push for it in ready if it.push is not None]
        reason = f"no answer within {self._send_s:g} s"
        try:
            with anyio.move_on_after(self._send_s):
                results = await service.send(pushes) if pushes else []
                if len(results) == len(pushes):
                    return results
                reason = f"{len(results)} results for {len(pushes)} pushes"
                logger.error("the provider %s gave %s", provider, reason)
        except Exception as error:  # a bug in one provider; the others' pushes are sent
            logger.exception("the provider %s failed", provider)
            reason = f"the provider failed: {type(error).__name__}"
        return [Unknown(reason)] * len(ready)

    async def _still_wanted(self, planned: Sequence[Planned]) -> list[Planned]:
        """Those of which the log says the same right now. Where it says something else, that is due by itself."""
        now_ms = self._clock.now_ms()
        fresh = [it for it in planned if it.push is not None and it.push.expires_at_ms > now_ms]
        devices = [
            replace(it.task.claim, user_id=it.task.target.user_id, device_id=it.task.target.device_id)
            for it in fresh
        ]
        current = {_device(it): it for it in await self._tasks(devices)}
        return [it for it in fresh if _is_same(it.task, current.get(_device(it.task)))]

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
                return self._again(it, reason, after_s)
        return None

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


def _cut(text: str | None) -> str | None:
    """Words as long as a push may have them; providers cut further."""
    return text if text is None or len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "\u2026"


def _put(later: Later, task: Task, failed: LaterDelivery) -> None:
    later.setdefault(_place(task.claim), []).append(failed)


def _place(claim: Claim) -> Place:
    return claim.conversation_key, claim.user_id, claim.device_id


def _device(task: Task) -> Place:
    return task.target.conversation_key, task.target.user_id, task.target.device_id


def _is_same(task: Task, now: Task | None) -> bool:
    """Whether it is the same push to the same device, with no more words than the device wants now."""
    if now is None or now.choice.about != task.choice.about:
        return False
    before, after = task.target, now.target
    return (before.provider, before.token, before.hide_body) == (after.provider, after.token, after.hide_body)


def _dead(target: PushTarget, reason: str) -> LaterDelivery:
    return LaterDelivery(target.user_id, target.device_id, None, reason)
