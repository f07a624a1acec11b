"""What is to be said to whom: reads the log as it is now, and puts it into words. Sending it is `job`'s."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from traceback import extract_tb
from typing import Final

import anyio
import msgspec

from ...ports import Clock
from ...push.base import TEXT_CHARS_MAX, Push, Refused, Retry
from ...storage.base import Claim, EntryMark, PushTarget, Store
from ...wire.payload import RECALLED
from .config import DeliveryConfig
from .notices import ENTRIES_MAX, Choice, Compose, choose, notice_of

logger = logging.getLogger(__name__)

COMPOSE_TIMEOUT_S: Final = 10.0
COMPOSED_AT_ONCE: Final = 100

Place = tuple[int, str, str]
"""(conversation key, user, device); of a claim of all members without the two."""


class Task(msgspec.Struct, frozen=True):
    """Something that a device is to be told."""

    claim: Claim
    target: PushTarget
    choice: Choice

    @property
    def device(self) -> Place:
        """The place of a claim of this device alone."""
        return self.target.conversation_key, self.target.user_id, self.target.device_id


class Planned(msgspec.Struct, frozen=True):
    """A push that is to be sent, or why there is none: its words failed, or took too long."""

    task: Task
    push: Push | Refused | Retry


class Planner:
    """Looks whom to tell what.

    Args:
        store: The log and its outbox.
        compose: Puts notices into words.
        config: Times and bounds.
        clock: Says what is expired, and which mutes have ended.
    """

    def __init__(self, store: Store, compose: Compose, config: DeliveryConfig, clock: Clock) -> None:
        self._store, self._compose, self._config, self._clock = store, compose, config, clock
        self._composing = anyio.Semaphore(COMPOSED_AT_ONCE)
        self._compose_s = min(COMPOSE_TIMEOUT_S, config.lease_s * 0.1)
        self._ttl_ms = round(config.ttl_s * 1000)

    async def tasks(self, claims: Sequence[Claim]) -> list[Task]:
        """Whom to tell what, as the log is now; by conversation, user and device."""
        outbox, now_ms = self._store.deliveries, self._clock.now_ms()
        targets = await outbox.targets(claims, now_ms) if claims else []
        if not targets:
            return []
        keys = {it.conversation_key for it in targets}
        marks: dict[int, list[EntryMark]] = {key: [] for key in keys}
        for mark in await outbox.newest([it for it in claims if it.conversation_key in keys], ENTRIES_MAX):
            marks[mark.conversation_key].append(mark)
        mentions = await self._mentions(targets)
        by_place = {place_of(it): it for it in claims}
        after_ms = round(self._config.push_after_s * 1000)
        tasks = []
        for target in targets:
            key = target.conversation_key
            claim = by_place.get((key, target.user_id, target.device_id)) or by_place.get((key, "", ""))
            if claim is None:
                continue
            found = marks[key]
            if target.only_mentions:
                seqs = [it for it in target.mentioned if it <= claim.head_seq]
                found = [mentions[key, it] for it in seqs if (key, it) in mentions]
            choice = choose(claim, target, found, after_ms)
            if choice is not None:
                tasks.append(Task(claim, target, choice))
        return tasks

    async def _mentions(self, targets: Sequence[PushTarget]) -> dict[tuple[int, int], EntryMark]:
        """What mentions those whom only that wakes: others may have written any number of messages since."""
        places = {(it.conversation_key, seq) for it in targets if it.only_mentions for seq in it.mentioned}
        found = await self._store.deliveries.marks(places) if places else []
        return {(it.conversation_key, it.seq): it for it in found}

    async def plan(self, tasks: Sequence[Task]) -> list[Planned]:
        """Put everything into words. Those that take too long are tried again."""
        if not tasks:
            return []
        outbox = self._store.deliveries
        bodies = await outbox.payloads(
            [(it.target.conversation_key, it.choice.about.seq) for it in tasks if not it.choice.is_withdrawal]
        )
        badges = await outbox.unread([it.target.user_id for it in tasks], self._clock.now_ms())
        sayable: list[tuple[Task, bytes, int]] = []
        for it in tasks:
            place = (it.target.conversation_key, it.choice.about.seq)
            body = RECALLED if it.choice.is_withdrawal else bodies.get(place)
            if body is not None:  # else it was recalled just now, which is due as an entry of its own
                sayable.append((it, body, badges.get(it.target.user_id, 0)))
        planned: dict[Place, Planned] = {}
        with anyio.move_on_after(self._compose_s * 2):
            async with anyio.create_task_group() as composing:
                for it, body, badge in sayable:
                    composing.start_soon(self._put_into_words, planned, it, body, badge)
        for it, _, _ in sayable:
            planned.setdefault(it.device, Planned(it, Retry(0.0, "there was no time for its words")))
        return [planned[place] for place in sorted(planned)]

    async def _put_into_words(
        self, planned: dict[Place, Planned], task: Task, body: bytes, badge: int
    ) -> None:
        async with self._composing:
            planned[task.device] = Planned(task, await self._words(task, body, badge))

    async def _words(self, task: Task, body: bytes, badge: int) -> Push | Refused | Retry:
        claim, target = task.claim, task.target
        try:
            notice = notice_of(claim, target, task.choice, body, hide_body=self._config.hide_body)
            with anyio.fail_after(self._compose_s):
                text = await self._compose(notice)
            return Push(
                token=target.token,
                collapse_id=claim.conversation_id,
                conversation_id=claim.conversation_id,
                message_id=notice.message_id,
                expires_at_ms=notice.sent_at_ms + self._ttl_ms,
                title=_cut(text.title),
                body=_cut(text.body),
                badge=badge,
                revision=task.choice.recalled_by,
                mentioned=task.choice.mentioned,
            )
        except TimeoutError:
            return Retry(0.0, "its words took too long")
        except Exception as error:  # of one device; the error's own text may hold a message's words
            where = extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            logger.error("a notice could not be put into words: %s at %s", type(error).__name__, place)
            return Refused(f"its words failed: {type(error).__name__}")


def place_of(claim: Claim) -> Place:
    """What is done with when the claim is."""
    return claim.conversation_key, claim.user_id, claim.device_id


def _cut(text: str | None) -> str | None:
    """Words as long as a push may have them; providers cut further."""
    return text if text is None or len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "\u2026"
