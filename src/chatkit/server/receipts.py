"""Receipts on their way out: coalesced per batch, named in small groups, counted once a second in large ones.

Fed by `publisher` with every cursor that moved; sent to the user's other devices and to the authors of what was newly
covered. A receipt may be lost: HEADS and `GET .../receipts` carry the same facts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio.lowlevel
import msgspec
from msgspec import UNSET, UnsetType

from ..core.cursors import RECEIPT_MEMBERS_MAX
from ..storage.base import Advanced, CursorReader, ReadCounts
from ..types import ConversationType
from ..wire import events as ev
from .cluster.reconcile_queue import ReconcileQueue
from .live.audience import Audience
from .live.fanout import DELIVERIES_PER_TURN, push_volatile
from .live.hub import Hub
from .session import Session

logger = logging.getLogger(__name__)

_EARLY_MAX = 1000
"""Receipts that wait for entries which are not applied here yet; further ones are dropped."""

_COUNTED_ENTRIES = 200
"""In large groups the counts go to the authors of this many newest covered entries."""


class _Moved(msgspec.Struct):
    """A cursor that moved, of which nobody was notified yet.

    Attributes:
        authors: Who is notified.
        origin: The session that moved it, which is not notified.
        epoch: Epoch that the log had here: under another one its seqs mean nothing.
    """

    advanced: Advanced
    authors: set[str]
    origin: Session | None
    epoch: str

    @property
    def place(self) -> tuple[int, int]:
        return self.advanced.delivered_seq, self.advanced.read_seq

    def is_early(self, audience: Audience) -> bool:
        """Whether it is of an entry that this node has not applied yet."""
        position, advanced = audience.position, self.advanced
        return advanced.delivered_seq > position or advanced.read_seq > position


class Receipts:
    """Collects moved cursors and turns them into RECEIPT events."""

    def __init__(self, hub: Hub, to_reconcile: ReconcileQueue, cursors: CursorReader) -> None:
        self._hub = hub
        self._to_reconcile = to_reconcile
        self._cursors = cursors
        self._moved: dict[tuple[str, str], _Moved] = {}
        self._large: dict[str, int] = {}

    def note(self, advanced: Advanced, origin: Session | None) -> None:
        """Remember a cursor that moved, until `flush`; nothing if nobody of its conversation is online.

        The log is asked once about entries that are not applied here yet; what is missed then, the next check finds.
        """
        audience = self._hub.audience(advanced.conversation_id)
        if audience is None:
            return
        key = (advanced.conversation_id, advanced.user_id)
        moved = _Moved(advanced, set(advanced.authors), origin, audience.epoch)
        known = self._moved.get(key)
        self._moved[key] = moved if known is None or known.epoch != moved.epoch else _both(known, moved)
        if moved.is_early(audience):
            self._to_reconcile.log(advanced.conversation_id)

    def flush(self) -> bool:
        """Send what was noted, one RECEIPT per user and conversation, as much as fits one turn of the event loop.

        One about entries that this node has not applied yet waits for them: they may remove whom it would reach. It is
        dropped when nobody of its conversation is online any more, and when the log has got another epoch. A fault in
        one costs that one.

        Returns:
            Whether some are left for the next call.
        """
        if not self._moved:
            return False
        noted, self._moved = list(self._moved.items()), {}
        deliveries = 0
        for index, (key, moved) in enumerate(noted):
            if deliveries >= DELIVERIES_PER_TURN:
                self._moved = dict(noted[index:]) | self._moved
                return True
            audience = self._hub.audience(moved.advanced.conversation_id)
            if audience is None or audience.epoch != moved.epoch:
                continue
            if not moved.is_early(audience):
                deliveries += self._try_send(audience, moved)
            elif len(self._moved) < _EARLY_MAX:
                self._moved[key] = moved
        return False

    async def flush_all(self) -> None:
        """Send all that was noted; the event loop gets its turns meanwhile."""
        while self.flush():
            await anyio.lowlevel.checkpoint()

    async def flush_counts(self) -> None:
        """Send what is left, and the counts of large groups to the authors who are online; called once a second.

        A group whose counts could not be read is tried again by the next call, after the others.
        """
        await self.flush_all()
        for conversation_id in list(self._large):
            seq = self._large.pop(conversation_id)
            try:
                rows = await self._read_counts(conversation_id, seq)
            except Exception:
                self._large[conversation_id] = max(seq, self._large.get(conversation_id, 0))
                raise
            self._send_counts(conversation_id, rows)

    async def _read_counts(self, conversation_id: str, seq: int) -> Sequence[ReadCounts]:
        authors = self._hub.online(conversation_id)
        return await self._cursors.read_counts(conversation_id, max(0, seq - _COUNTED_ENTRIES), seq, authors)

    def _try_send(self, audience: Audience, moved: _Moved) -> int:
        try:
            return self._send(audience, moved)
        except Exception:
            logger.exception("publishing a receipt failed")
            return 0

    def _send(self, audience: Audience, moved: _Moved) -> int:
        """Send one receipt; returns to how many sessions."""
        advanced = moved.advanced
        conversation_id, user_id = advanced.conversation_id, advanced.user_id
        if advanced.member_count > RECEIPT_MEMBERS_MAX:
            covered_seq = max(advanced.delivered_seq, self._large.get(conversation_id, 0))
            self._large[conversation_id] = covered_seq
        authors = sorted(moved.authors - {user_id}) if moved.authors else ()
        sessions = self._hub.in_conversation(conversation_id, (user_id, *authors), but=moved.origin)
        delivered_seq, read_seq = audience.raise_cursors(user_id, advanced.delivered_seq, advanced.read_seq)
        if sessions:
            push = ev.ReceiptPush(
                conversation_id=conversation_id,
                user_id=user_id,
                delivered_seq=delivered_seq,
                read_seq=read_seq,
                member_count=_others_in_group(audience.type, advanced.member_count),
            )
            push_volatile(push, sessions)
        return len(sessions)

    def _send_counts(self, conversation_id: str, rows: Sequence[ReadCounts]) -> None:
        for row in rows:
            sessions = self._hub.in_conversation(conversation_id, (row.user_id,))
            push = ev.ReceiptPush(
                conversation_id=conversation_id,
                seq=row.seq,
                delivered_count=row.delivered_count,
                read_count=row.read_count,
                member_count=row.member_count,
            )
            push_volatile(push, sessions)


def _others_in_group(kind: ConversationType, member_count: int) -> int | UnsetType:
    """How many other members there are, where each of them is named in receipts and nobody else could count them."""
    is_counted = kind == "GROUP" and 1 < member_count <= RECEIPT_MEMBERS_MAX
    return member_count - 1 if is_counted else UNSET


def _both(earlier: _Moved, later: _Moved) -> _Moved:
    """Two moves of one cursor as one."""
    furthest = max(earlier, later, key=lambda it: it.place).advanced
    origin = later.origin if later.origin is earlier.origin else None
    return _Moved(furthest, earlier.authors | later.authors, origin, later.epoch)
