"""How far the app has taken each log, and how far entries wait for it: in memory, and in the local store.

Filled by `inbox` with what is stored, moved by `deliveries`. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..wire.events import SEQ_MAX
from .conversation import Conversation
from .events import Delivery, EpochChanged
from .store.base import Change, LocalStore, Progress, Record

_FORMER_MAX = 8
"""Former logs of a conversation of which it is known how much they share with the one now."""


class _Cursor:
    """One log: everything up to `taken_seq` is taken, nothing above `offered_seq` waits for the app in memory.

    What an earlier start left in (read_seq, left_seq] is still to be read. `tries` are of what is handed out.
    """

    __slots__ = (
        "_renewals",
        "_shared",
        "epoch",
        "left_seq",
        "offered_seq",
        "read_seq",
        "taken_seq",
        "tries",
    )

    def __init__(
        self,
        epoch: str,
        taken_seq: int,
        tries: int = 0,
        renewed_above: int | None = None,
        *,
        left_seq: int = 0,
    ) -> None:
        self.epoch = epoch
        self.taken_seq = self.offered_seq = self.read_seq = taken_seq
        self.left_seq = max(taken_seq, left_seq)
        self.tries = tries
        # those that the app has not taken yet, oldest first: as many as their events, which wait for it
        self._renewals = [] if renewed_above is None else [(epoch, renewed_above)]
        self._shared: dict[str, int] = {}  # former epochs: up to where their logs are the same as this one

    def shared_seq(self, epoch: str) -> int:
        """Up to where the log with this epoch is the one that is held now; below 0 for one that is not known."""
        return SEQ_MAX if epoch == self.epoch else self._shared.get(epoch, -1)

    def renew(self, epoch: str, kept_seq: int) -> None:
        """The log is another one above `kept_seq`: nothing above it is taken, or waits."""
        shared = {former: min(seq, kept_seq) for former, seq in self._shared.items()}
        if epoch != self.epoch:
            shared[self.epoch] = kept_seq
        shared.pop(epoch, None)
        self._shared = dict(list(shared.items())[-_FORMER_MAX:])
        self.epoch = epoch
        self.taken_seq, self.offered_seq = min(self.taken_seq, kept_seq), min(self.offered_seq, kept_seq)
        self.read_seq, self.left_seq = min(self.read_seq, kept_seq), min(self.left_seq, kept_seq)
        self.tries = 0
        self._renewals.append((epoch, kept_seq))

    def took_renewal(self, event: EpochChanged) -> None:
        """The app knows of this renewal, and of those before it. Of later ones it does not."""
        renewal = event.epoch, event.kept_seq
        if renewal in self._renewals:
            del self._renewals[: self._renewals.index(renewal) + 1]

    @property
    def renewed_above(self) -> int | None:
        """The app has not taken yet that the log is another one above here; None: it has. Nothing above is taken."""
        return min((kept_seq for _, kept_seq in self._renewals), default=None)

    @property
    def waits(self) -> bool:
        """Whether an entry waits for the app."""
        return self.read_seq < self.left_seq or self.taken_seq < self.offered_seq


class TakenCursors:
    """How far the app has taken each log. Bounded by the number of conversations.

    Args:
        store: Keeps it.
        records: What it holds at the start.

    Attributes:
        handed_out: What the app has got, or is about to get, by conversation: it comes again until it is left out
            here. Left out too once its place belongs to an entry of another log.
    """

    def __init__(self, store: LocalStore, records: Iterable[Record]) -> None:
        self._store = store
        self._unsaved: dict[str, Progress] = {}
        self._moved: dict[str, None] = {}  # in order, or a run of a seed would not be the same twice
        self.handed_out: dict[str, Delivery] = {}
        self._by_id = {
            it.conversation_id: _Cursor(
                it.epoch, it.taken_seq, it.tries, it.renewed_above, left_seq=it.prefix
            )
            for it in records
        }

    def committed(self, changes: Iterable[Change], deliveries: Iterable[Delivery]) -> None:
        """A batch is stored: its entries wait for the app from now on."""
        for change in changes:
            cursor = self._by_id.get(change.conversation_id)
            if cursor is None:
                start_seq = change.prefix if change.floor is None else change.floor
                cursor = self._by_id[change.conversation_id] = _Cursor(change.epoch, start_seq)
            if change.forget_above is not None:
                self._renew(cursor, change, change.forget_above)
            else:
                cursor.epoch = change.epoch
        for delivery in deliveries:
            if delivery.repeats:
                cursor = self._by_id[delivery.conversation_id]
                cursor.offered_seq = max(cursor.offered_seq, delivery.seq)

    def _renew(self, cursor: _Cursor, change: Change, kept_seq: int) -> None:
        cursor.renew(change.epoch, kept_seq)
        if change.conversation_id in self._unsaved:  # of the former log: the store would pass it over
            self._changed(change.conversation_id, cursor)
        held = self.handed_out.get(change.conversation_id)
        if held is not None and held.seq > kept_seq:
            del self.handed_out[change.conversation_id]

    def unread(self, conversation_id: str) -> tuple[str, int, int]:
        """What an earlier start left and is not read yet: the epoch of the log, after which seq, and up to which."""
        cursor = self._by_id[conversation_id]
        return cursor.epoch, cursor.read_seq, cursor.left_seq

    def read_back(self, conversation_id: str, last_seq: int, up_to_seq: int) -> None:
        """What an earlier start left was read up to `up_to_seq`; its last entry is `last_seq`, 0 if there is none."""
        cursor = self._by_id[conversation_id]
        cursor.read_seq = up_to_seq
        cursor.offered_seq = max(cursor.offered_seq, last_seq)
        if not cursor.waits:
            cursor.taken_seq = cursor.offered_seq = max(cursor.taken_seq, up_to_seq)
            self._changed(conversation_id, cursor)

    def is_read_back(self, delivery: Delivery) -> bool:
        """Whether what was read of an earlier start's log is of the log that is held now too."""
        return delivery.seq <= self._by_id[delivery.conversation_id].read_seq

    def taken_up_to(self, conversation: Conversation) -> int:
        """Everything visible up to here is taken: the whole prefix, if nothing waits for the app."""
        cursor = self._by_id.get(conversation.id)
        if cursor is None or not cursor.waits:
            return conversation.timeline.prefix
        return cursor.taken_seq

    def is_current(self, delivery: Delivery) -> bool:
        """Whether it is of the log that is held now, or of the part that a former one has in common with it."""
        cursor = self._by_id.get(delivery.conversation_id)
        return cursor is not None and delivery.seq <= cursor.shared_seq(delivery.epoch)

    def trying(self, delivery: Delivery) -> int:
        """It is about to be handed out. Returns which try of it that is.

        Stored are the tries of what comes first at the next start: a renewal comes before the entries.
        """
        is_renewal = isinstance(delivery.event, EpochChanged)
        if not is_renewal and (delivery.seq == 0 or not self.is_current(delivery)):
            return 1
        cursor = self._by_id[delivery.conversation_id]
        cursor.tries += 1
        if is_renewal or cursor.renewed_above is None:
            self._changed(delivery.conversation_id, cursor)
        return cursor.tries

    def took(self, delivery: Delivery, state: bytes | None = None) -> None:
        """The app has taken what is handed out. An entry of a replaced log changes nothing.

        Args:
            delivery: What it is.
            state: What the app keeps of the conversation from now on; None leaves that as it was.
        """
        if not delivery.repeats or self.handed_out.get(delivery.conversation_id) is not delivery:
            return
        cursor = self._by_id[delivery.conversation_id]
        if isinstance(delivery.event, EpochChanged):
            cursor.took_renewal(delivery.event)
        elif self.is_current(delivery):
            cursor.taken_seq = max(cursor.taken_seq, delivery.seq)
        else:
            return
        cursor.tries = 0
        self._changed(delivery.conversation_id, cursor, state)

    def save(self) -> None:
        """Write what changed since the last time.

        Raises:
            UnavailableError: Refused; it is written with the next save.
        """
        if self._unsaved:
            self._store.advance(list(self._unsaved.values()))
            self._unsaved.clear()

    def moved(self) -> list[str]:
        """The conversations that were taken further since the last time, in order, all of it saved."""
        moved, self._moved = list(self._moved), {}
        return moved

    def _changed(self, conversation_id: str, cursor: _Cursor, state: bytes | None = None) -> None:
        unsaved = self._unsaved.get(conversation_id)
        if state is None and unsaved is not None:
            state = unsaved.state
        self._unsaved[conversation_id] = Progress(
            conversation_id, cursor.epoch, cursor.taken_seq, cursor.tries, cursor.renewed_above, state
        )
        self._moved[conversation_id] = None
