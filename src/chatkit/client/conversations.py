"""The conversations this device knows: timelines, cursors and membership, as the store and the server told.

State and its snapshot only; what to do about it is in `receiver`, `heads` and `syncer`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from ..core.timeline import Timeline
from ..types import ConversationType, Message
from ..wire.events import Head, MsgAck
from .base import Change, Record

RECALLED_LATELY_MAX = 1000
"""Recalls remembered per conversation, for pages of history that were made before them."""


class Conversation:
    """One conversation of this user, seen by this device."""

    __slots__ = (
        "acked_seq",
        "epoch_doubted",
        "first_seq",
        "id",
        "left",
        "others_delivered_seq",
        "others_read_seq",
        "read_seq",
        "recalled_lately",
        "timeline",
        "type",
    )

    def __init__(self, id_: str, type_: ConversationType, timeline: Timeline) -> None:
        self.id = id_
        self.type = type_
        self.timeline = timeline
        self.left = False
        self.epoch_doubted = False  # the server says that our epoch is not its own
        self.acked_seq = 0
        self.first_seq = 1
        self.read_seq = 0
        self.recalled_lately: deque[int] = deque(maxlen=RECALLED_LATELY_MAX)
        self.others_delivered_seq = 0
        self.others_read_seq = 0

    def change(self) -> Change:
        """The stored form of what this conversation is now; entries are added by the caller."""
        return Change(self.id, self.type, self.timeline.epoch, self.timeline.prefix, self.left)

    def renew(self, epoch: str) -> None:
        """Start afresh with another log: nothing said of the old one counts."""
        self.timeline.reset(epoch)
        self.epoch_doubted = False
        self.acked_seq = self.read_seq = 0
        self.others_delivered_seq = self.others_read_seq = 0
        self.first_seq = 1
        self.recalled_lately.clear()

    def head(self, wanted_read_seq: int = 0) -> Head:
        """A snapshot for the app; `delivered_seq` is what this device holds, `read_seq` what its user has read."""
        return Head(
            self.id,
            self.type,
            self.timeline.epoch,
            self.timeline.head,
            self.first_seq,
            self.timeline.prefix,
            max(self.read_seq, wanted_read_seq),
            self.others_delivered_seq,
            self.others_read_seq,
        )


class Unplaced:
    """A conversation that was heard of before the heads said where this device stands in it.

    Attributes:
        proved: The user is a member: more than an answer to an old request was heard.
        acks: Answers to sends; they settle once the place is known, so that a crash before cannot tell them twice.
        own: Own messages that were answered and told while it was unknown.
    """

    __slots__ = ("acks", "epoch", "head_seq", "own", "proved", "type")

    def __init__(self) -> None:
        self.type: ConversationType = "GROUP"
        self.epoch = ""
        self.head_seq = 0
        self.proved = False
        self.acks: dict[str, MsgAck] = {}  # by clientMsgId, so no more than are pending
        self.own: list[Message] = []


class Conversations:
    """All of them, by id.

    Args:
        held_max: Bound of entries held above a gap, per conversation.
    """

    def __init__(self, held_max: int) -> None:
        self._held_max = held_max
        self._by_id: dict[str, Conversation] = {}
        self.unplaced: dict[str, Unplaced] = {}

    def __iter__(self) -> Iterator[Conversation]:
        return iter(self._by_id.values())

    def get(self, conversation_id: str) -> Conversation | None:
        """The conversation, if its place is known."""
        return self._by_id.get(conversation_id)

    def reload(self, records: Iterable[Record]) -> None:
        """Forget what is in memory for what is stored; what has no place yet was never stored and stays."""
        self._by_id.clear()
        for record in records:
            self.load(record)

    def load(self, record: Record) -> None:
        """Take up a conversation from the local store."""
        timeline = Timeline(
            record.epoch,
            record.prefix,
            held=record.held,
            recalled_seqs=record.recalled_seqs,
            held_max=self._held_max,
        )
        conversation = Conversation(record.conversation_id, record.type, timeline)
        conversation.left = record.left
        self._by_id[record.conversation_id] = conversation

    def place(self, conversation_id: str, type_: ConversationType, epoch: str, prefix: int) -> Conversation:
        """Take up a conversation that this device sees for the first time."""
        earlier = self.unplaced.pop(conversation_id, None)
        own = earlier.own if earlier is not None else []
        timeline = Timeline(epoch, prefix, held=own, held_max=self._held_max)
        if earlier is not None:
            timeline.rise(earlier.head_seq)
        conversation = self._by_id[conversation_id] = Conversation(conversation_id, type_, timeline)
        return conversation

    def not_placed(self, conversation_id: str) -> Unplaced:
        """What is remembered of a conversation until its place is known."""
        return self.unplaced.setdefault(conversation_id, Unplaced())

    def connected(self) -> None:
        """Answers of the connection before come again."""
        for earlier in self.unplaced.values():
            earlier.acks.clear()

    def snapshot(self, wanted_reads: Mapping[str, int]) -> dict[str, Head]:
        """Where each conversation stands now, by id; without those that were left.

        Args:
            wanted_reads: What the user has read on this device, where the server may not know yet.
        """
        return {
            conversation.id: conversation.head(wanted_reads.get(conversation.id, 0))
            for conversation in self
            if not conversation.left
        }
