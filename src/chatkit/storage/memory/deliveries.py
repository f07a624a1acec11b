"""The outbox as delivery workers see it, in memory: claims, whom to push to, and what is finished."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import anyio.lowlevel
import msgspec
from msgspec.structs import replace

from ...core.log.marks import reading
from ...core.log.state import MessageRow
from ...errors import UnavailableError
from ...wire.payload import EVERYBODY
from ..base import (
    LAG_MAX,
    MARKED_ENTRIES_MAX,
    MENTIONED_MAX,
    PUSHES_PER_DEVICE_MAX,
    Claim,
    ClaimTerms,
    DeadLetter,
    DeliveryLag,
    EntryMark,
    Finished,
    PushRecord,
    PushTarget,
)
from ..later import later_rows
from ..pushes import push_rows
from .tables import Conversation, Device, Later, MemoryState, Work
from .unread import unread_of


class MemoryDeliveries:
    """`storage.base.DeliveryStore` over dictionaries.

    Args:
        tables: Of the store.
        is_open: Whether the store takes anything.
    """

    def __init__(self, tables: MemoryState, is_open: Callable[[], bool]) -> None:
        self._tables = tables
        self._is_open = is_open

    async def claim(
        self, terms: ClaimTerms, limit: int, conversation_ids: Sequence[str] | None = None
    ) -> list[Claim]:
        """Take what is due."""
        await self._check()
        claims = [self._take(it, work, terms) for it, work in self._due(terms, limit, conversation_ids)]
        if conversation_ids is None:
            claims += [self._take_device(*it, terms) for it in self._due_devices(terms.now_ms)[:limit]]
        return claims

    def _due(
        self, terms: ClaimTerms, limit: int, conversation_ids: Sequence[str] | None
    ) -> list[tuple[Conversation, Work]]:
        waiting = sorted(
            (it.work.ready_ms, it.key)
            for it in self._tables.by_key.values()
            if it.work is not None and it.work.ready_ms is not None
            if it.work.ready_ms <= terms.ready_before_ms
            if conversation_ids is None or it.conversation_id in conversation_ids
        )
        if len(waiting) > limit and conversation_ids is None:
            waiting = [*waiting[: limit // 2], *waiting[limit // 2 - limit :]]
        found = (self._tables.by_key[key] for _, key in waiting)
        return [(it, it.work) for it in found if it.work is not None]

    def _take(self, it: Conversation, work: Work, terms: ClaimTerms) -> Claim:
        assert it.outbox is not None, "work is beside an outbox"
        work.ready_ms = terms.now_ms + terms.lease_ms
        work.ticket = terms.ticket
        work.attempt += 1
        return _claim(it, terms, max(work.handled_seq, it.outbox[0] - 1), work.attempt)

    def _due_devices(self, now_ms: int) -> list[tuple[Conversation, tuple[str, str], Later]]:
        found = [
            (later.ready_ms, it.key, place)
            for it in self._tables.by_key.values()
            for place, later in it.later.items()
            if later.ready_ms is not None and later.ready_ms <= now_ms
        ]
        return [
            (self._tables.by_key[key], place, self._tables.by_key[key].later[place])
            for _, key, place in sorted(found)
        ]

    def _take_device(
        self, it: Conversation, place: tuple[str, str], later: Later, terms: ClaimTerms
    ) -> Claim:
        later.ready_ms = terms.now_ms + terms.lease_ms
        later.ticket = terms.ticket
        later.attempt += 1
        return _claim(it, terms, later.after_seq, later.attempt, *place, later.since_ms)

    async def targets(self, claims: Sequence[Claim], now_ms: int) -> list[PushTarget]:
        """Whom to push to."""
        await self._check()
        found = [target for claim in claims for target in self._targets(claim, now_ms)]
        return sorted(found, key=lambda it: (it.conversation_key, it.user_id, it.device_id))

    def _targets(self, claim: Claim, now_ms: int) -> Iterator[PushTarget]:
        it = self._tables.by_key[claim.conversation_key]
        for (user_id, device_id), row in self._tables.push_tokens.items():
            if claim.user_id and (claim.user_id, claim.device_id) != (user_id, device_id):
                continue
            only_mentions = it.muted.get(user_id, 0) > now_ms
            if not it.is_member(user_id) or (only_mentions and user_id not in it.but_mentions):
                continue
            later = it.later.get((user_id, device_id))
            if not claim.user_id and later is not None and later.ready_ms is not None:
                continue
            cursors = it.cursors[user_id]
            device = it.devices.get(user_id, {}).get(device_id) or Device(cursors.device_seq, 0)
            if max(cursors.read_seq, device.delivered_seq) < it.head_seq:
                yield PushTarget(
                    it.key,
                    user_id,
                    device_id,
                    row.provider,
                    row.token,
                    row.hide_body,
                    row.at_ms,
                    it.members[user_id][-1].join_seq,
                    cursors.read_seq,
                    device.delivered_seq,
                    tuple(sorted(device.exact)),
                    only_mentions,
                    _mentioned(it, user_id, cursors.read_seq),
                )

    async def waiting(self, conversation_ids: Sequence[str]) -> set[str]:
        """Those of which the workers have more to do."""
        await self._check()
        found = (self._tables.by_id.get(it) for it in conversation_ids)
        return {it.conversation_id for it in found if it and it.work and it.work.ready_ms is not None}

    async def newest(self, claims: Sequence[Claim], count: int) -> list[EntryMark]:
        """The newest messages and recalls of conversations, without their words."""
        await self._check()
        heads = {it.conversation_key: it.head_seq for it in claims}
        found = []
        for key, head_seq in sorted(heads.items()):
            log = self._tables.by_key[key]
            rows = log.rows[max(0, head_seq - MARKED_ENTRIES_MAX) : head_seq]
            found += [_mark(log, it) for it in rows if it.kind in ("USER", "RECALL")][-count:]
        return found

    async def marks(self, places: Collection[tuple[int, int]]) -> list[EntryMark]:
        """Entries, without their words."""
        await self._check()
        logs = self._tables.by_key
        return [_mark(logs[key], row) for key, seq in {*places} if (row := logs[key].row(seq)) is not None]

    async def payloads(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """The payloads of entries that were not recalled and have not expired, as they read now."""
        await self._check()
        logs = self._tables.by_key
        return {
            (key, seq): _reading(logs[key], seq, payload)
            for key, seq in places
            if seq not in logs[key].recalled
            and seq > logs[key].floor_seq
            and (payload := logs[key].rows[seq - 1].payload)
        }

    async def unread(self, user_ids: Sequence[str], now_ms: int) -> dict[str, int]:
        """How many unread messages each user has."""
        await self._check()
        return {
            user_id: sum(_unread(it, user_id, now_ms) for it in self._tables.of_user(user_id))
            for user_id in user_ids
        }

    async def finish(self, ticket: int, finished: Sequence[Finished]) -> int:
        """Be done with claims."""
        await self._check()
        return sum(self._finish(ticket, it) for it in finished)

    def _finish(self, ticket: int, done: Finished) -> bool:
        it = self._tables.by_key[done.claim.conversation_key]
        is_ours = (
            self._finish_device(it, done, ticket)
            if done.claim.user_id
            else self._finish_conversation(it, done.claim.head_seq, ticket)
        )
        if is_ours:
            is_waiting = bool(done.claim.user_id) and (done.claim.user_id, done.claim.device_id) in it.later
            for row in later_rows(done, is_waiting=is_waiting):
                it.later[row.user_id, row.device_id] = Later(*row[3:])
        for push in push_rows(done):
            _note_push(it, PushRecord(*push[1:]))
        return is_ours

    def _finish_device(self, it: Conversation, done: Finished, ticket: int) -> bool:
        place = (done.claim.user_id, done.claim.device_id)
        later = it.later.get(place)
        if later is None or later.ticket != ticket:
            return False
        following = it.row(done.claim.head_seq + 1)
        if following is None:
            del it.later[place]
        else:  # what came meanwhile was left to this row by whoever looked at all members
            ready_ms = following.server_ts + done.claim.after_ms
            it.later[place] = Later(done.claim.head_seq, ready_ms, 0, done.at_ms, later.reason)
        return True

    def _finish_conversation(self, it: Conversation, up_to_seq: int, ticket: int) -> bool:
        work = it.work
        if work is None or work.ticket != ticket or work.ready_ms is None:
            return False
        following = it.row(up_to_seq + 1)
        work.handled_seq, work.attempt = max(work.handled_seq, up_to_seq), 0
        work.ready_ms = None if following is None else following.server_ts
        return True

    async def lag(self) -> DeliveryLag:
        """How far the workers are behind."""
        await self._check()
        conversations = self._tables.by_key.values()
        later = [row for it in conversations for row in it.later.values()]
        waits = [it.work.ready_ms for it in conversations if it.work is not None]
        ready = [it for it in (*waits, *(row.ready_ms for row in later)) if it is not None]
        dead = sum(row.ready_ms is None for row in later)
        return DeliveryLag(min(len(ready), LAG_MAX), min(ready, default=None), min(dead, LAG_MAX))

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Those given up, the oldest first."""
        await self._check()
        found = [
            DeadLetter(it.conversation_id, *place, row.after_seq, row.attempt, row.since_ms, row.reason)
            for it in self._tables.by_key.values()
            for place, row in sorted(it.later.items())
            if row.ready_ms is None
        ]
        return sorted(found, key=lambda it: it.since_ms)[:limit]

    async def discard_dead_letters(self, before_ms: int) -> int:
        """Forget those that began to fail before then."""
        await self._check()
        count = 0
        for it in self._tables.by_key.values():
            old = [
                place for place, row in it.later.items() if row.ready_ms is None and row.since_ms < before_ms
            ]
            count += len(old)
            for place in old:
                del it.later[place]
        return count

    async def discard_pushes(self, before_ms: int) -> int:
        """Forget those that were last answered before then."""
        await self._check()
        count = 0
        for it in self._tables.by_key.values():
            old = [place for place, row in it.pushes.items() if row.at_ms < before_ms]
            count += len(old)
            for place in old:
                del it.pushes[place]
        return count

    async def _check(self) -> None:
        await anyio.lowlevel.checkpoint()
        if not self._is_open():
            raise UnavailableError("the store is not open", retry_after_s=1.0)


def _note_push(it: Conversation, push: PushRecord) -> None:
    """Note a try, and keep the newest of this device."""
    place = (push.user_id, push.device_id, push.seq)
    known = it.pushes.get(place)
    if known is not None:
        push = replace(push, tries=known.tries + push.tries, first_ms=known.first_ms)
    it.pushes[place] = push
    of_device = sorted(other for other in it.pushes if other[:2] == place[:2])
    for other in of_device[:-PUSHES_PER_DEVICE_MAX]:
        del it.pushes[other]


def _mark(it: Conversation, row: MessageRow) -> EntryMark:
    recalls = msgspec.json.decode(row.payload)["seq"] if row.kind == "RECALL" else None
    return EntryMark(
        it.key, row.seq, row.epoch, row.kind, row.sender_id, row.server_ts, row.seq in it.recalled, recalls
    )


def _mentioned(it: Conversation, user_id: str, read_seq: int) -> tuple[int, ...]:
    unread = [(name, seq) for name, seq in it.mentions if seq > read_seq]
    by_name, with_all = (
        sorted(seq for name, seq in unread if name == wanted)[-MENTIONED_MAX:]
        for wanted in (user_id, EVERYBODY)
    )
    return tuple(sorted(by_name + with_all))


def _unread(it: Conversation, user_id: str, now_ms: int) -> int:
    count, mentions = unread_of(it, user_id)
    if it.muted.get(user_id, 0) <= now_ms:
        return count
    return mentions if user_id in it.but_mentions else 0


def _claim(
    it: Conversation,
    terms: ClaimTerms,
    after_seq: int,
    attempt: int,
    user_id: str = "",
    device_id: str = "",
    since_ms: int = 0,
) -> Claim:
    """What a worker is told of a conversation."""
    old = (row.seq for row in reversed(it.rows) if row.server_ts <= terms.ready_before_ms)
    return Claim(
        it.key,
        it.conversation_id,
        it.type,
        it.title,
        it.member_count,
        after_seq,
        next(old, it.head_seq),
        attempt,
        user_id,
        device_id,
        since_ms,
        terms.after_ms,
    )


def _reading(log: Conversation, seq: int, payload: bytes) -> bytes:
    edits = log.edits.get(seq)
    edit = log.rows[edits[-1] - 1].payload if edits else None
    streamed = "".join(log.streams[seq][1]) if seq in log.streams else None
    return reading(payload, edit, streamed)
