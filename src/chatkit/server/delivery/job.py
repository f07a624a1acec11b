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
from ...storage.base import Claim, Entry, Finished, LaterDelivery, PushTarget, Store, UnregisterPush
from .config import DeliveryConfig
from .notices import Compose, Notice, first_needed, notice_of

logger = logging.getLogger(__name__)

SENT_AT_ONCE: Final = 50
"""Pushes that are handed to a provider after one look at the log."""

CONVERSATIONS_COUNTED_MAX: Final = 1_000
"""Conversations of a user whose unread messages make the badge."""

COMPOSE_TIMEOUT_S: Final = 10.0
COMPOSED_AT_ONCE: Final = 100
_PAGE: Final = 200
_BASE_S: Final = 2.0


class Planned(msgspec.Struct, frozen=True):
    """A push that is to be sent, or why none can be."""

    claim: Claim
    target: PushTarget
    seq: int
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

    async def _pushed(self, claims: Sequence[Claim]) -> dict[tuple[int, str, str], list[LaterDelivery]]:
        """Push; what has to come again, by the place of its claim."""
        planned = await self._plan(claims)
        later: dict[tuple[int, str, str], list[LaterDelivery]] = {}
        for it in planned:
            if it.error is not None:
                later.setdefault(_place(it.claim), []).append(it.error)
        ready = sorted((it for it in planned if it.push is not None), key=lambda it: it.target.provider)
        for provider, of_provider in groupby(ready, key=lambda it: it.target.provider):
            todo = list(of_provider)
            for start in range(0, len(todo), SENT_AT_ONCE):
                for it, failed in await self._send(provider, todo[start : start + SENT_AT_ONCE]):
                    later.setdefault(_place(it.claim), []).append(failed)
        return later

    # --- what to say ---

    async def _plan(self, claims: Sequence[Claim]) -> list[Planned]:
        targets = await self._store.deliveries.targets(claims, self._clock.now_ms())
        by_key: dict[int, list[PushTarget]] = {}
        for target in targets:
            by_key.setdefault(target.conversation_key, []).append(target)
        noticed: list[tuple[Claim, PushTarget, Notice, int]] = []
        for claim in claims:
            mine = [it for it in by_key.get(claim.conversation_key, ()) if _is_meant(claim, it)]
            entries = await self._entries(claim) if mine else []
            for target in mine:
                found = notice_of(claim, target, entries, hide_body=self._config.hide_body)
                if found is not None:
                    noticed.append((claim, target, *found))
        badges = {it: await self._badge(it) for it in {target.user_id for _, target, _, _ in noticed}}
        planned: list[Planned] = []
        async with anyio.create_task_group() as tasks:
            for claim, target, notice, seq in noticed:
                tasks.start_soon(
                    self._put_into_words, planned, claim, target, notice, seq, badges[target.user_id]
                )
        return sorted(
            planned, key=lambda it: (it.claim.conversation_key, it.target.user_id, it.target.device_id)
        )

    async def _entries(self, claim: Claim) -> list[Entry]:
        after_seq = first_needed(claim)
        found = await self._store.entries(claim.conversation_id, after_seq, claim.head_seq - after_seq)
        return found

    async def _badge(self, user_id: str) -> int:
        """How many unread messages a user has in all, but for conversations that they muted."""
        total, after, now_ms = 0, None, self._clock.now_ms()
        for _ in range(0, CONVERSATIONS_COUNTED_MAX, _PAGE):
            rows = await self._store.conversations(user_id, None, after, _PAGE)
            total += sum(it.unread for it in rows if it.muted_until_ms <= now_ms)
            if len(rows) < _PAGE:
                break
            after = rows[-1].head.conversation_id
        return total

    async def _put_into_words(
        self, planned: list[Planned], claim: Claim, target: PushTarget, notice: Notice, seq: int, badge: int
    ) -> None:
        async with self._composing:
            planned.append(await self._planned(claim, target, notice, seq, badge))

    async def _planned(
        self, claim: Claim, target: PushTarget, notice: Notice, seq: int, badge: int
    ) -> Planned:
        try:
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
            return Planned(claim, target, seq, None, self._again(claim, target, "the words took too long"))
        except Exception as error:  # one device's words; the others get theirs
            logger.exception("no words for a push to a device of %s", target.user_id)
            self._counts["dead"] += 1
            reason = f"its words failed: {type(error).__name__}"
            return Planned(claim, target, seq, None, _dead(target, reason))
        return Planned(claim, target, seq, push)

    # --- sending ---

    async def _send(self, provider: str, planned: Sequence[Planned]) -> list[tuple[Planned, LaterDelivery]]:
        """Send what still is to be sent; returns what has to come again."""
        ready = await self._still_wanted(planned)
        if len(ready) < len(planned):
            self._counts["cancelled"] += len(planned) - len(ready)
        service = self._providers.get(provider)
        if service is None:
            reason = "this worker knows no such provider"
            return [(it, self._again(it.claim, it.target, reason)) for it in ready]
        pushes = [it.push for it in ready if it.push is not None]
        results = await service.send(pushes) if pushes else []
        found = [(it, await self._judged(it, result)) for it, result in zip(ready, results, strict=True)]
        return [(it, later) for it, later in found if later is not None]

    async def _still_wanted(self, planned: Sequence[Planned]) -> list[Planned]:
        claims = list({_place(it.claim): it.claim for it in planned}.values())
        targets = await self._store.deliveries.targets(claims, self._clock.now_ms())
        current = {(it.conversation_key, it.user_id, it.device_id): it for it in targets}
        wanted = []
        for claim in claims:
            entries = await self._entries(claim)
            for it in planned:
                place = (claim.conversation_key, it.target.user_id, it.target.device_id)
                if it.claim is claim and self._is_wanted(it, current.get(place), entries):
                    wanted.append(it)
        return wanted

    def _is_wanted(self, it: Planned, target: PushTarget | None, entries: Sequence[Entry]) -> bool:
        """Whether a look at the log right now says the same. If it says something else, that is due as a new entry."""
        if target is None or target.token != it.target.token:
            return False
        found = notice_of(it.claim, target, entries, hide_body=self._config.hide_body)
        return found is not None and found[1] == it.seq

    async def _judged(self, it: Planned, result: Result) -> LaterDelivery | None:
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


def _place(claim: Claim) -> tuple[int, str, str]:
    return claim.conversation_key, claim.user_id, claim.device_id


def _is_meant(claim: Claim, target: PushTarget) -> bool:
    return not claim.user_id or (claim.user_id, claim.device_id) == (target.user_id, target.device_id)


def _dead(target: PushTarget, reason: str) -> LaterDelivery:
    return LaterDelivery(target.user_id, target.device_id, None, reason)
