"""How far the app has taken each log, and how far entries wait for it: in memory, and in the local store.

Filled by `inbox` with what is stored, moved by `deliveries`. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Iterable

from .conversation import Conversation
from .events import Delivery
from .store.base import Change, LocalStore, Progress, Record


class _Cursor:
    """One log: everything up to `taken_seq` is taken, nothing above `offered_seq` waits for the app."""

    __slots__ = ("epoch", "offered_seq", "taken_seq", "tries", "unread")

    def __init__(self, epoch: str, taken_seq: int, tries: int = 0, *, unread: bool = False) -> None:
        self.epoch = epoch
        self.taken_seq = self.offered_seq = taken_seq
        self.tries = tries
        self.unread = unread  # more of an earlier start waits in the store

    @property
    def waits(self) -> bool:
        """Whether an entry waits for the app."""
        return self.unread or self.taken_seq < self.offered_seq


class TakenCursors:
    """How far the app has taken each log. Bounded by the number of conversations.

    Args:
        store: Keeps it.
        records: What it holds at the start.
    """

    def __init__(self, store: LocalStore, records: Iterable[Record]) -> None:
        self._store = store
        self._unsaved: dict[str, Progress] = {}
        self._moved: set[str] = set()
        self._by_id = {
            it.conversation_id: _Cursor(it.epoch, it.taken_seq, it.tries, unread=it.taken_seq < it.prefix)
            for it in records
        }

    def committed(self, changes: Iterable[Change], deliveries: Iterable[Delivery]) -> None:
        """A batch is stored: its entries wait for the app from now on."""
        for change in changes:
            cursor = self._by_id.get(change.conversation_id)
            if cursor is None or change.fresh:
                start_seq = change.prefix if change.floor is None else change.floor
                self._by_id[change.conversation_id] = _Cursor(change.epoch, start_seq)
                self._unsaved.pop(change.conversation_id, None)
            else:
                cursor.epoch = change.epoch
        for delivery in deliveries:
            if delivery.repeats:
                cursor = self._by_id[delivery.conversation_id]
                cursor.offered_seq = max(cursor.offered_seq, delivery.seq)

    def read_back(
        self, conversation_id: str, epoch: str, last_seq: int, up_to_seq: int, end_seq: int
    ) -> None:
        """A page of what an earlier start left was read: `last_seq` is its last entry, 0 if it has none.

        Args:
            conversation_id: Which log.
            epoch: Its identity; nothing of a log that was replaced counts.
            last_seq: The last entry of the page.
            up_to_seq: Where the page ends.
            end_seq: Where that start had ended.
        """
        cursor = self._by_id.get(conversation_id)
        if cursor is None or cursor.epoch != epoch:
            return
        cursor.offered_seq = max(cursor.offered_seq, last_seq)
        cursor.unread = up_to_seq < end_seq
        if not cursor.waits:
            cursor.taken_seq = cursor.offered_seq = max(cursor.taken_seq, end_seq)
            self._changed(conversation_id, cursor)

    def taken_up_to(self, conversation: Conversation) -> int:
        """Everything visible up to here is taken: the whole prefix, if nothing waits for the app."""
        cursor = self._by_id.get(conversation.id)
        if cursor is None or not cursor.waits:
            return conversation.timeline.prefix
        return cursor.taken_seq

    def is_current(self, delivery: Delivery) -> bool:
        """Whether it is of the log that is held now."""
        cursor = self._by_id.get(delivery.conversation_id)
        return cursor is not None and cursor.epoch == delivery.epoch

    def trying(self, delivery: Delivery) -> int:
        """It is about to be handed out. Returns which try of it that is."""
        if delivery.seq == 0 or not self.is_current(delivery):
            return 1
        cursor = self._by_id[delivery.conversation_id]
        cursor.tries += 1
        self._changed(delivery.conversation_id, cursor)
        return cursor.tries

    def took(self, delivery: Delivery) -> None:
        """The app has taken it. What is of a replaced log changes nothing."""
        if not delivery.repeats or not self.is_current(delivery):
            return
        cursor = self._by_id[delivery.conversation_id]
        cursor.taken_seq, cursor.tries = max(cursor.taken_seq, delivery.seq), 0
        self._changed(delivery.conversation_id, cursor)

    def save(self) -> None:
        """Write what changed since the last time.

        Raises:
            UnavailableError: Refused; it is written with the next save.
        """
        if self._unsaved:
            self._store.advance(list(self._unsaved.values()))
            self._unsaved.clear()

    def moved(self) -> set[str]:
        """The conversations that were taken further since the last time, all of it saved."""
        moved, self._moved = self._moved, set()
        return moved

    def _changed(self, conversation_id: str, cursor: _Cursor) -> None:
        self._unsaved[conversation_id] = Progress(
            conversation_id, cursor.epoch, cursor.taken_seq, cursor.tries
        )
        self._moved.add(conversation_id)
