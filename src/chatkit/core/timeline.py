"""The client's view of one conversation's log: order, dedup, gaps and recalls that come early.

Values in, steps out; no store, no events for the app, no timers. `client.conversation` feeds it what arrives and acts
on what it returns. Its one promise: whatever the order, and however often entries and pages arrive, each visible entry
is placed exactly once and in order of seq.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from ..types import Message
from .sizes import size_of

HELD_BYTES_MAX = 16 * 1024 * 1024
"""Most bytes that are kept above gaps, in all conversations of a client together."""

RECALL_BYTES = 100
"""What an early recall counts."""

HELD_MAX = 1000
"""Most entries kept above a gap, and most early recalls; beyond it entries are dropped and come again by SYNC.

Own sends that were answered are kept beyond it, up to `HELD_BYTES_MAX`: the app knows of them, so the prefix must pass
them without being told again. Beyond that too one number is remembered for each.
"""


class Placed(msgspec.Struct, frozen=True):
    """An entry that got its place. `notified`: the app knows of it already (its own send was answered)."""

    message: Message
    notified: bool


class Step(msgspec.Struct):
    """What one arrival changed.

    Attributes:
        placed: Entries that are now in order, ascending; recalled bodies are already gone.
        recalled_seqs: Slots that a RECALL entry named; their bodies must leave every store at once.
        repeated: Entries that had come before.
    """

    placed: list[Placed]
    recalled_seqs: list[int]
    repeated: int = 0


def recalled_seqs(message: Message) -> tuple[int, ...]:
    """What a RECALL entry withdraws: its target, and the edits of that; nothing for any other entry."""
    target = recall_target(message)
    if target is None:
        return ()
    edits = message.payload.get("edits")
    named = edits if isinstance(edits, list) else ()
    return (target, *(seq for seq in named if type(seq) is int and target < seq < message.seq))


def recall_target(message: Message) -> int | None:
    """The seq that a RECALL entry withdraws; None for any other entry, and for one that names no earlier seq."""
    if message.payload.get("type") != "RECALL":
        return None
    seq = message.payload.get("seq")
    return seq if type(seq) is int and 0 < seq < message.seq else None


def tombstone(message: Message) -> Message:
    """The entry as it reads once it is recalled; nothing of its body is left, in whatever form it was carried."""
    return Message(
        message.conversation_id,
        message.seq,
        message.message_id,
        message.sender_id,
        message.server_ts,
        {"type": "RECALLED"},
        message.client_msg_id,
    )


class HeldBytes:
    """What several timelines hold above their gaps, counted together.

    Attributes:
        used: Bytes that are held now.
    """

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self.used = 0

    @property
    def full(self) -> bool:
        """Whether nothing more may be held."""
        return self.used >= self._bytes_max


class Timeline:
    """One conversation's contiguous prefix, and what is held above it.

    Args:
        epoch: Identity of the log; "" while it is not known.
        prefix: Everything visible up to here has been placed.
        held: Entries above the prefix that the app knows of already (own sends that were answered).
        recalled_seqs: Recalls of entries not held yet.
        held_max: Bound of what is held above a gap.
        held_bytes: Bound of it in bytes, shared with other timelines.
    """

    def __init__(
        self,
        epoch: str = "",
        prefix: int = 0,
        *,
        held: Iterable[Message] = (),
        recalled_seqs: Iterable[int] = (),
        held_max: int = HELD_MAX,
        held_bytes: HeldBytes | None = None,
    ) -> None:
        self.epoch = epoch
        self.prefix = prefix
        self.head = prefix
        self._held_max = held_max
        self._bytes = held_bytes or HeldBytes()
        self._sizes: dict[int, int] = {}  # of what is held above the gap, by seq
        self._early = set[int]()
        for seq in recalled_seqs:
            if seq > prefix:
                self._note_early(seq)
        self._held: dict[int, Message] = {}
        self._notified = set[int]()
        for message in held:
            if message.seq > prefix:
                self._notified.add(message.seq)
                self._hold_above(message)
        self.head = max([prefix, *self._notified])

    @property
    def behind(self) -> bool:
        """Whether the log is known to go on beyond the prefix."""
        return self.head > self.prefix

    @property
    def held_count(self) -> int:
        """Entries waiting above a gap."""
        return len(self._held)

    def holds(self, seq: int) -> bool:
        """Whether the entry at `seq` waits above a gap."""
        return seq in self._held

    def is_notified(self, seq: int) -> bool:
        """Whether the app knows of the entry at `seq`, which has no place yet."""
        return seq in self._notified

    def rise(self, head_seq: int) -> bool:
        """Take note of a head (heads only rise). Returns whether something is missing now."""
        self.head = max(self.head, head_seq)
        return self.behind

    def push(self, message: Message, *, notified: bool = False, keep: bool = True) -> Step:
        """Take one entry that arrived by itself.

        A repeat changes nothing. With `held_max` entries above the gap (but for what the app was notified of), without
        `keep`, and where its bytes have no room, it is dropped, and its seq is only remembered as head, and that the
        app was notified, so that a SYNC brings it and the app is not notified again; a recall that it carries counts
        all the same.
        """
        step = Step([], [])
        self.rise(message.seq)
        if notified and message.seq > self.prefix:
            self._notified.add(message.seq)
        if message.seq <= self.prefix or message.seq in self._held:
            step.repeated = 1
            return step
        self._note_recall(message, step)
        if message.seq == self.prefix + 1 and keep:
            self._hold(message)
            self._drain(step)
        elif keep and (notified or len(self._held) < self._held_max):
            self._hold_above(message)
        return step

    def page(
        self, last_seq: int, up_to_seq: int, messages: Sequence[Message], notified: Collection[int] = ()
    ) -> Step:
        """Take a page that covers (last_seq, up_to_seq].

        A seq in that range that is not listed is not visible: the prefix moves over it. A page is made after the
        recalls it shows: its tombstone wins over a body that is held already, also where the RECALL entry itself is
        not visible.

        Args:
            last_seq: What was asked; a page that starts above the prefix is passed over, for it would hide a gap.
            up_to_seq: End of the page, included.
            messages: The visible entries, ascending; those outside the range are passed over.
            notified: Seqs of entries the app knows of already.
        """
        step = Step([], [])
        if last_seq > self.prefix:
            return step
        for message in messages:
            if not self.prefix < message.seq <= up_to_seq:
                step.repeated += 1
                continue
            if message.seq in notified:
                self._notified.add(message.seq)
            if message.seq not in self._held:
                self._note_recall(message, step)
                self._hold(message)
            elif message.type == "RECALLED":
                self._blank(message.seq)
                step.recalled_seqs.append(message.seq)
        for seq in sorted(seq for seq in self._held if seq <= up_to_seq):
            self._place(seq, step)
        self.prefix = max(self.prefix, up_to_seq)
        self._drain(step)
        self._forget_early([seq for seq in self._early if seq <= self.prefix])
        self._notified = {seq for seq in self._notified if seq > self.prefix}
        self.rise(self.prefix)
        return step

    def reset(self, epoch: str, prefix: int = 0) -> None:
        """Go on with another log, which is the same up to `prefix`: what was held or known above that is gone."""
        self.epoch, self.prefix, self.head = epoch, prefix, prefix
        self._held.clear()
        self._notified.clear()
        self._forget_early(list(self._early))
        for seq in list(self._sizes):
            self._uncount(seq)

    def _hold_above(self, message: Message) -> None:
        """Keep an entry above the gap, if its bytes have room."""
        if not self._bytes.full:
            self._hold(message)
            self._sizes[message.seq] = size_of(message)
            self._bytes.used += self._sizes[message.seq]

    def _hold(self, message: Message) -> None:
        if message.seq in self._early:
            self._forget_early([message.seq])
            message = tombstone(message)
        self._held[message.seq] = message

    def _drain(self, step: Step) -> None:
        while self.prefix + 1 in self._held:
            self._place(self.prefix + 1, step)

    def _place(self, seq: int, step: Step) -> None:
        step.placed.append(Placed(self._held.pop(seq), seq in self._notified))
        self._uncount(seq)
        self._notified.discard(seq)
        self.prefix = seq

    def _note_recall(self, message: Message, step: Step) -> None:
        for seq in recalled_seqs(message):
            step.recalled_seqs.append(seq)
            if seq in self._held:
                self._blank(seq)
            elif seq > self.prefix and len(self._early) < self._held_max and not self._bytes.full:
                self._note_early(seq)

    def _note_early(self, seq: int) -> None:
        if seq not in self._early:
            self._early.add(seq)
            self._bytes.used += RECALL_BYTES

    def _forget_early(self, seqs: Iterable[int]) -> None:
        for seq in seqs:
            self._early.discard(seq)
            self._bytes.used -= RECALL_BYTES

    def _uncount(self, seq: int) -> None:
        self._bytes.used -= self._sizes.pop(seq, 0)

    def _blank(self, seq: int) -> None:
        self._held[seq] = tombstone(self._held[seq])
