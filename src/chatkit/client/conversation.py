"""The conversations this device knows: timelines, cursors and membership, and what each arrival changes in them.

Pure: values in, and what follows from them into `Effects`. Nothing here stores, sends or waits; `inbox` does that with
the effects of a whole frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import UnsetType

from ..core.cursors import RECEIPT_MEMBERS_MAX
from ..core.marks import named_seq, stream_end
from ..core.renewal import Renewal
from ..core.resend import Key
from ..core.timeline import HELD_BYTES_MAX, HeldBytes, Step, Timeline, recall_target
from ..errors import ChatkitError, HeldError, NotFoundError, ProtocolError
from ..types import ConversationType, Edit, Message, MessageStatus, Notify, Receipt, Sent
from ..wire import events as ev
from ..wire import http as wire
from ..wire.payload import NO_ACTIVITY
from .events import (
    ChatEvent,
    Delivery,
    EpochChanged,
    MessageEdited,
    MessageHeld,
    MessageRecalled,
    MessageReceived,
    MessageSent,
    ReactionChanged,
    ReceiptChanged,
    ReceiptCounts,
    SendFailed,
)
from .store.base import Change, Record
from .validate import notify_of

CONVERSATIONS_MAX = 20_000
"""Conversations of one device, with those that were left."""

RECALLED_LATELY_MAX = 1000
"""Recalls remembered per conversation, for pages of history that were made before them."""


class Conversation:
    """One conversation of this user, seen by this device.

    Attributes:
        held_at_connect: The prefix when this connection began: no log that is still whole can end below it.
        renewal: The log is another one now, and how much of it is the same is being found out; None else.
        sent_elsewhere: Answers to sends that are in another log than is held; the app is notified once that one counts.
        sent_ids: After a renewal, own entries without a place of whose answers the app was notified.
        title: What it is called, as last heard.
        titled_seq: The title is what the log says up to here at least.
        title_is_known: False where it was said to have changed, and not to what.
        activity_ms: When its newest message or change of members was stored, as far as was heard.
        muted_until_ms: Until when the user is not woken for it; 0: they are.
        notify: What of it wakes them, as last heard.
        news_count: How often something came that an answer asked for before may not know of.
        preview: What the server said of a part of its log that this device does not hold; None where that is not known.
    """

    __slots__ = (
        "acked_seq",
        "activity_ms",
        "epoch_refused",
        "expired_seq",
        "first_seq",
        "held_at_connect",
        "id",
        "left",
        "muted_until_ms",
        "news_count",
        "notify",
        "others_delivered_seq",
        "others_read_seq",
        "others_seqs",
        "preview",
        "read_seq",
        "recalled_lately",
        "renewal",
        "sent_elsewhere",
        "sent_ids",
        "timeline",
        "title",
        "title_is_known",
        "titled_seq",
        "type",
    )

    def __init__(self, id_: str, type_: ConversationType, timeline: Timeline) -> None:
        self.id = id_
        self.type = type_
        self.timeline = timeline
        self.title = ""
        self.title_is_known = False
        self.titled_seq = 0
        self.activity_ms = 0
        self.muted_until_ms = 0
        self.notify: Notify = "ALL"
        self.news_count = 0
        self.preview: Preview | None = None
        self.left = False
        self.epoch_refused = False  # the server says that our epoch is not its own
        self.acked_seq = 0
        self.first_seq = 1
        self.expired_seq = 0
        self.read_seq = 0
        self.recalled_lately: deque[int] = deque(maxlen=RECALLED_LATELY_MAX)
        self.others_delivered_seq = 0
        self.others_read_seq = 0
        self.held_at_connect = 0
        self.renewal: Renewal | None = None
        self.sent_elsewhere: list[Sent] = []
        self.sent_ids: set[str] = set()
        self.others_seqs: dict[
            str, tuple[int, int]
        ] = {}  # in a group: delivered and read, of whom receipts named

    @property
    def behind(self) -> bool:
        """Whether something is missing, or what is held must be compared with another log."""
        return self.renewal is not None or self.timeline.behind

    @property
    def epoch(self) -> str:
        """Identity of the log, as last heard; what is held may be of another one still."""
        return self.timeline.epoch if self.renewal is None else self.renewal.epoch

    @property
    def progress(self) -> tuple[object, ...]:
        """How far this device has got; the same twice means that what came between changed nothing."""
        renewal, timeline = self.renewal, self.timeline
        search = None if renewal is None else (renewal.epoch, renewal.last_seq, renewal.kept_seq)
        return timeline.epoch, timeline.prefix, search

    def change(self) -> Change:
        """The stored form of what this conversation is now; entries are added by the caller."""
        change = Change(self.id, self.type, self.timeline.epoch, self.timeline.prefix, self.left)
        self.describe(change)
        return change

    def describe(self, change: Change) -> None:
        """Have what a list shows of it stored as it is now."""
        change.title, change.activity_ms = self.title, self.activity_ms
        change.muted_until_ms, change.notify = self.muted_until_ms, self.notify
        change.read_seq = self.read_seq

    def listed(self, row: ev.Head | wire.ConversationRow) -> bool:
        """Take note of what the server says for a list. Returns whether something is new."""
        before = (self.title, self.activity_ms, self.muted_until_ms, self.notify)
        if row.head_seq >= self.titled_seq:
            self.title, self.title_is_known, self.titled_seq = row.title, True, row.head_seq
        self.activity_ms = max(self.activity_ms, row.last_activity_ts)
        self.muted(row.muted_until, notify_of(row))
        return before != (self.title, self.activity_ms, self.muted_until_ms, self.notify)

    def muted(self, until_ms: int, level: Notify) -> None:
        """Take note of until when the user is not woken for it, but by what `level` says; 0: they are."""
        self.muted_until_ms, self.notify = until_ms, level if until_ms > 0 else "ALL"

    def head(self, wanted_read_seq: int = 0) -> ev.Head:
        """A snapshot for the app; `delivered_seq` is what this device holds, `read_seq` what its user has read."""
        return ev.Head(
            self.id,
            self.type,
            self.timeline.epoch,
            self.timeline.head,
            self.first_seq,
            self.timeline.prefix,
            max(self.read_seq, wanted_read_seq),
            self.others_delivered_seq,
            self.others_read_seq,
            self.title,
            self.activity_ms,
            self.muted_until_ms,
            self.notify,
        )

    def is_same_log(self, epoch: str) -> bool:
        """Whether an event with this epoch is about the log we hold; the first epoch heard of becomes ours."""
        if self.timeline.epoch == "":
            self.timeline.epoch = epoch
        return self.renewal is None and self.timeline.epoch == epoch

    # --- entries --------------------------------------------------------------------------------------

    def push(self, effects: Effects, message: Message, user_id: str, *, own: bool, keep: bool) -> None:
        """Take an entry that arrived by itself.

        Args:
            effects: What follows from it.
            message: The entry.
            user_id: This user.
            own: The answer to a send of this device: the app is notified of that instead.
            keep: Whether it may be held above a gap.
        """
        prefix = self.timeline.prefix
        self._placed(effects, self.timeline.push(message, notified=own, keep=keep), prefix, user_id)
        if own and self.timeline.is_notified(message.seq):
            effects.change(self).add_own(message)  # the app knows of it: so it is after a crash too

    def page(
        self,
        effects: Effects,
        last_seq: int,
        page: ev.SyncPage,
        messages: Sequence[Message],
        notified: Collection[int],
        user_id: str,
    ) -> None:
        """Take a page of this log that was asked with `last_seq`; the app knows of the seqs in `notified` already."""
        prefix = self.timeline.prefix
        step = self.timeline.page(last_seq, page.up_to_seq, messages, notified)
        self.timeline.rise(page.head_seq)
        self._placed(effects, step, prefix, user_id, moved=True)
        if not isinstance(page.floor_seq, UnsetType) and page.floor_seq > self.expired_seq:
            effects.change(self).expired_up_to = self.expired_seq = page.floor_seq

    def begin_renewal(
        self, epoch: str, head_seq: int, *, floor: int, delivered_seq: int, read_seq: int
    ) -> None:
        """The log is another one. What is held stays until it is known how much of it is the same.

        Args:
            epoch: Its identity.
            head_seq: Its end.
            floor: Nothing is held of the old one up to here.
            delivered_seq: What this device has confirmed of it.
            read_seq: How far the user has read in the old one, as far as the server does not know.
        """
        former_read_seq = self.renewal.read_seq if self.renewal is not None else 0
        read_seq = max(self.read_seq, read_seq, former_read_seq)
        self.renewal = Renewal(epoch, min(self.timeline.prefix, head_seq), floor, delivered_seq, read_seq)
        self.epoch_refused = False
        self.acked_seq = self.read_seq = 0
        self.others_delivered_seq = self.others_read_seq = 0
        self.first_seq = 1
        self.recalled_lately.clear()
        self.others_seqs.clear()
        self.preview = None
        self.titled_seq = 0
        self.news_count += 1

    def renewed(self, effects: Effects, head_seq: int) -> None:
        """Go on with the new log: nothing stored or said of the old one above `renewal.kept_seq` counts."""
        renewal = self.renewal
        assert renewal is not None
        kept_seq = self.held_at_connect = renewal.kept_seq
        change = effects.change(self)
        change.forget_above = kept_seq
        self.timeline.reset(renewal.epoch, kept_seq)
        self.timeline.rise(head_seq)
        self.renewal = None
        event = EpochChanged(self.id, renewal.epoch, kept_seq)
        effects.deliveries.append(Delivery(event, 1, self.id, renewal.epoch))

    def _placed(
        self, effects: Effects, step: Step, prefix: int, user_id: str, *, moved: bool = False
    ) -> None:
        """Take what got its place; `prefix` is where it began."""
        effects.duplicates += step.repeated
        if not step.placed and not step.recalled_seqs and not moved:
            return
        for placed in step.placed:
            self._forget_leavers(placed.message)
        for placed in step.placed:
            if placed.message.type not in NO_ACTIVITY:
                self.activity_ms = max(self.activity_ms, placed.message.server_ts)
            if placed.message.type == "TITLE":
                self._titled(placed.message)
        if step.recalled_seqs:
            self.preview = None  # it may be of a message that was recalled
            self.news_count += 1
        change = effects.change(self)
        if any(_adds(placed.message, user_id) for placed in step.placed):
            first = step.placed[0].message  # of a log that is new here: what is before it may be open to read
            is_new = prefix == 0 and _adds(first, user_id)
            _forget_earlier(change, first.seq - 1 if is_new else prefix)
            if is_new:
                self.read_seq = max(self.read_seq, first.seq - 1)  # nothing from before is unread
        change.messages.extend(placed.message for placed in step.placed)
        change.own_seqs.update(placed.message.seq for placed in step.placed if placed.notified)
        change.recalled_seqs.extend(step.recalled_seqs)
        self.recalled_lately.extend(step.recalled_seqs)
        effects.deliveries.extend(
            delivery_of(placed.message, self.timeline.epoch) for placed in step.placed if not placed.notified
        )

    def _titled(self, message: Message) -> None:
        """A TITLE entry got its place: the log says what it is called, whether or not anything else does."""
        title = message.payload.get("title")
        if isinstance(title, str) and message.seq > self.titled_seq:
            self.title, self.title_is_known, self.titled_seq = title, True, message.seq

    # --- receipts -------------------------------------------------------------------------------------

    def receipt(self, event: ev.ReceiptPush, user_id: str) -> ChatEvent | None:
        """Take note of a RECEIPT. Returns the event for the app; None for one that says nothing."""
        if isinstance(event.user_id, str):
            return self._receipt_of_one(event, user_id)
        return self._receipt_counts(event)

    def others_rise(self, delivered_seq: int, read_seq: int) -> ReceiptChanged | None:
        """Take note of how far the least of all other members has got. Returns the event for the app, if it rose."""
        delivered_seq = max(delivered_seq, read_seq)
        known = (self.others_delivered_seq, self.others_read_seq)
        self.others_delivered_seq = max(known[0], delivered_seq)
        self.others_read_seq = max(known[1], read_seq)
        if known == (self.others_delivered_seq, self.others_read_seq):
            return None
        return ReceiptChanged(Receipt(self.id, "", self.others_delivered_seq, self.others_read_seq))

    def message_state(self, seq: int) -> MessageStatus:
        """SENT, DELIVERED or READ of one's own message, as far as this device has heard."""
        if self.others_read_seq >= seq:
            return "READ"
        return "DELIVERED" if self.others_delivered_seq >= seq else "SENT"

    def _receipt_of_one(self, event: ev.ReceiptPush, own_id: str) -> ChatEvent:
        delivered_seq = event.delivered_seq if isinstance(event.delivered_seq, int) else 0
        read_seq = event.read_seq if isinstance(event.read_seq, int) else 0
        if event.user_id == own_id:
            self.read_seq = max(self.read_seq, read_seq)
        elif self.type == "SINGLE":
            self.others_rise(delivered_seq, read_seq)  # the one other member is the least of them
        else:
            self._member_rises(str(event.user_id), delivered_seq, read_seq, event.member_count)
        return ReceiptChanged(Receipt(self.id, str(event.user_id), delivered_seq, read_seq))

    def _member_rises(
        self, user_id: str, delivered_seq: int, read_seq: int, others_count: int | UnsetType
    ) -> None:
        """One of the others in a group has got further; once all of them were named, so has the least of them."""
        known = self.others_seqs.get(user_id, (0, 0))
        if not isinstance(others_count, int) or (user_id not in self.others_seqs and self._all_named):
            return
        self.others_seqs[user_id] = (max(known[0], delivered_seq), max(known[1], read_seq))
        if len(self.others_seqs) == others_count:
            delivered, read = zip(*self.others_seqs.values(), strict=True)
            self.others_rise(min(delivered), min(read))

    @property
    def _all_named(self) -> bool:
        """Whether a group has as many members as receipts name."""
        return len(self.others_seqs) >= RECEIPT_MEMBERS_MAX

    def _forget_leavers(self, message: Message) -> None:
        """Members who left count no more, and those who come are not heard of yet."""
        users = message.payload.get("userIds") if message.type == "MEMBER" else None
        for user_id in users if isinstance(users, list) else ():
            self.others_seqs.pop(str(user_id), None)

    def _receipt_counts(self, event: ev.ReceiptPush) -> ChatEvent | None:
        seq, delivered, read = event.seq, event.delivered_count, event.read_count
        members = event.member_count
        if not (isinstance(seq, int) and isinstance(delivered, int) and isinstance(read, int)):
            return None
        if not isinstance(members, int):
            return None
        if members and delivered >= members:
            self.others_rise(seq, seq if read >= members else 0)
        return ReceiptCounts(self.id, seq, delivered, read, members)


class Preview(msgspec.Struct, frozen=True):
    """What the server said of a log up to its head, by which a list shows what this device does not hold.

    Attributes:
        head_seq: How far that reaches.
        read_seq: From where on it counted.
        unread: How many messages of others are in between.
        last_message: The newest message of all.
        unread_mentions: How many of these, and of edits, mention the user.
    """

    head_seq: int
    read_seq: int
    unread: int
    last_message: Message | None
    unread_mentions: int = 0


class UnknownConversation:
    """A conversation that was heard of before the heads said how far this device is in it.

    Attributes:
        proved: The user is a member: more than an answer to an old request was heard.
        acks: Answers to sends; they count once the conversation is adopted, so that a crash before that cannot make
            the app hear of them twice.
        own: Own messages that were answered, and of which the app was notified, while it was unknown.
    """

    __slots__ = ("acks", "epoch", "head_seq", "own", "proved", "type")

    def __init__(self) -> None:
        self.type: ConversationType = "GROUP"
        self.epoch = ""
        self.head_seq = 0
        self.proved = False
        self.acks: dict[str, ev.MsgAck] = {}  # by clientMsgId, so no more than are pending
        self.own: dict[int, Message] = {}  # by seq


class Conversations:
    """All conversations of one user, by id, and what the heads of this connection have said of them.

    Args:
        held_max: Bound of entries held above a gap, per conversation.
        wake: Called when a conversation was adopted, and when all heads have come.
        held_bytes_max: Bound of what is held above gaps in all of them together.
        conversations_max: Bound of the conversations, known and unknown.

    Attributes:
        user_id: The user of the login; "" before the first.
        complete: All heads of this connection have come.
        unknown: Heard of, but not adopted yet.
    """

    def __init__(
        self,
        held_max: int,
        wake: Callable[[], None],
        *,
        held_bytes_max: int = HELD_BYTES_MAX,
        conversations_max: int = CONVERSATIONS_MAX,
    ) -> None:
        self._held_max = held_max
        self._held_bytes_max = held_bytes_max
        self._held_bytes = HeldBytes(held_bytes_max)
        self._conversations_max = conversations_max
        self._wake = wake
        self._by_id: dict[str, Conversation] = {}
        self._seen: set[str] = set()
        self.user_id = ""
        self.complete = False
        self.unknown: dict[str, UnknownConversation] = {}

    def __iter__(self) -> Iterator[Conversation]:
        return iter(self._by_id.values())

    def get(self, conversation_id: str) -> Conversation | None:
        """The conversation, if it is known how far this device is in it."""
        return self._by_id.get(conversation_id)

    def head_of(self, conversation_id: str) -> int | None:
        """The highest seq of a conversation; None while nobody can say whether there is one.

        Raises:
            NotFoundError: There is none.
        """
        conversation = self.get(conversation_id)
        if conversation is not None:
            return conversation.timeline.head
        if self.complete and not self.is_unknown(conversation_id):
            raise NotFoundError("no such conversation")
        return None

    def reload(self, records: Iterable[Record]) -> None:
        """Forget what is in memory for what is stored; what is unknown was never stored and stays."""
        before, self._by_id = self._by_id, {}
        self._held_bytes = HeldBytes(self._held_bytes_max)
        for record in records:
            conversation = self._load(record)
            earlier = before.get(record.conversation_id)
            if earlier is None:
                continue
            conversation.sent_ids = earlier.sent_ids  # the app knows of these, wherever they come to stand
            if earlier.timeline.epoch == record.epoch:
                conversation.recalled_lately = earlier.recalled_lately

    def adopt(self, conversation_id: str, type_: ConversationType, epoch: str, prefix: int) -> Conversation:
        """Take up a conversation that this device sees for the first time; it is no longer unknown.

        Raises:
            ProtocolError: There are too many.
        """
        self._check_room(conversation_id)
        earlier = self.unknown.pop(conversation_id, None)
        own = earlier.own.values() if earlier is not None else ()
        timeline = Timeline(epoch, prefix, held=own, held_max=self._held_max, held_bytes=self._held_bytes)
        if earlier is not None:
            timeline.rise(earlier.head_seq)
        conversation = self._by_id[conversation_id] = Conversation(conversation_id, type_, timeline)
        self._wake()
        return conversation

    def heard_of(self, conversation_id: str) -> UnknownConversation:
        """What is remembered of a conversation until it is adopted.

        Raises:
            ProtocolError: There are too many.
        """
        self._check_room(conversation_id)
        return self.unknown.setdefault(conversation_id, UnknownConversation())

    def _check_room(self, conversation_id: str) -> None:
        known = conversation_id in self._by_id or conversation_id in self.unknown
        if known or len(self._by_id) + len(self.unknown) < self._conversations_max:
            return
        spare = next((id_ for id_, it in self.unknown.items() if not it.proved and not it.acks), None)
        if spare is None:
            raise ProtocolError(f"the server names more than {self._conversations_max} conversations")
        del self.unknown[spare]  # answers alone do not make the user a member

    def connected(self, user_id: str) -> None:
        """A new connection: its heads begin from nothing, and answers of the one before come again."""
        self.user_id = user_id
        self.complete = False
        self._seen.clear()
        for conversation in self:
            conversation.held_at_connect = conversation.timeline.prefix
        for earlier in self.unknown.values():
            earlier.acks.clear()
        for conversation in self:
            conversation.others_seqs.clear()  # who left meanwhile is not known

    def see(self, conversation_id: str) -> None:
        """The user is a member now, whatever a snapshot from before says: the heads, or a live event, say so."""
        self._seen.add(conversation_id)

    def unsee(self, conversation_id: str) -> UnknownConversation | None:
        """The user has left it just now. Returns what was remembered of it while it was unknown."""
        self._seen.discard(conversation_id)
        return self.unknown.pop(conversation_id, None)

    def is_unknown(self, conversation_id: str) -> bool:
        """Whether it was heard of, but not adopted yet."""
        return conversation_id in self.unknown

    def is_seen(self, conversation_id: str) -> bool:
        """Whether this connection has shown that the user is a member."""
        return conversation_id in self._seen

    def completed(self) -> None:
        """All heads of this connection have come."""
        self.complete = True
        self._seen.clear()
        self._wake()

    def snapshot(self, wanted_reads: Mapping[str, int]) -> dict[str, ev.Head]:
        """Where each conversation stands now, by id; without those that were left.

        Args:
            wanted_reads: What the user has read on this device, where the server may not know yet.
        """
        return {
            conversation.id: conversation.head(wanted_reads.get(conversation.id, 0))
            for conversation in self
            if not conversation.left
        }

    def _load(self, record: Record) -> Conversation:
        timeline = Timeline(
            record.epoch,
            record.prefix,
            held=record.held,
            recalled_seqs=record.recalled_seqs,
            held_max=self._held_max,
            held_bytes=self._held_bytes,
        )
        conversation = Conversation(record.conversation_id, record.type, timeline)
        conversation.left = record.left
        conversation.title, conversation.title_is_known, conversation.titled_seq = (
            record.title,
            True,
            record.prefix,
        )
        conversation.activity_ms, conversation.read_seq = record.activity_ms, record.read_seq
        conversation.muted(record.muted_until_ms, record.notify)
        self._by_id[record.conversation_id] = conversation
        return conversation


class Effects:
    """What one received frame, or one page, leads to: gathered first, then stored in one transaction, then notified.

    Attributes:
        resolved: Sends to forget.
        outcomes: Their outcomes, for those who wait for them.
        held_sends: Sends that are kept for review, for those who wait for them.
        deliveries: For the app, in order.
        placed: Of a conversation's `sent_ids`, those that have their place once this is stored.
        duplicates: Entries that had come before.
        gaps: Conversations that miss something from here on.
    """

    def __init__(self) -> None:
        self._changes: dict[str, Change] = {}
        self._changed: dict[str, Conversation] = {}
        self._needs_ack: dict[str, Conversation] = {}
        self.resolved: list[Key] = []
        self.outcomes: list[tuple[Key, Sent | ChatkitError]] = []
        self.held_sends: list[tuple[Key, HeldError]] = []
        self.deliveries: list[Delivery] = []
        self.placed: list[tuple[Conversation, set[str]]] = []
        self.duplicates = 0
        self.gaps = 0

    def change(self, conversation: Conversation) -> Change:
        """The change of this conversation, to be added to."""
        self._changed[conversation.id] = conversation
        change = self._changes.get(conversation.id)
        if change is None:
            change = self._changes[conversation.id] = conversation.change()
        return change

    def notify(self, event: ChatEvent) -> None:
        """Tell the app of something that is no entry of a log."""
        self.deliveries.append(Delivery(event))

    def resolve(self, sent: Sent) -> None:
        """A pending message is durable on the server, and the app knows it."""
        key = (sent.conversation_id, sent.client_msg_id)
        self.resolved.append(key)
        self.outcomes.append((key, sent))

    def sent(self, sent: Sent, later: Conversation | None = None) -> None:
        """A pending message is durable on the server.

        Args:
            sent: The answer.
            later: The conversation, if the message is in another log of it than is held: the app is notified once it is
                known which log counts (`sent_elsewhere`), since what `EpochChanged` takes back is shown before it.
        """
        self.resolve(sent)
        if later is None:
            self.notify(MessageSent(sent))
        else:
            later.sent_elsewhere.append(sent)

    def sent_elsewhere(self, conversation: Conversation) -> None:
        """It is known which log counts: notify the app of the messages that waited for that."""
        waiting, conversation.sent_elsewhere = conversation.sent_elsewhere, []
        for sent in waiting:
            self.notify(MessageSent(sent))

    def held(self, key: Key, error: HeldError) -> None:
        """A pending message is kept for review."""
        self.held_sends.append((key, error))
        self.notify(MessageHeld(*key))

    def failed(self, key: Key, error: ChatkitError) -> None:
        """A pending message was refused for good."""
        self.resolved.append(key)
        self.outcomes.append((key, error))
        self.notify(SendFailed(*key, error))

    def needs_ack(self, conversation: Conversation) -> None:
        """The server said how much it knows of what this device holds: the rest is confirmed once all is stored."""
        self._needs_ack[conversation.id] = conversation

    def to_confirm(self) -> list[Conversation]:
        """Every conversation that changed, or of which the server said how much it knows."""
        return list((self._changed | self._needs_ack).values())

    def changes(self) -> list[Change]:
        """What to store, brought up to the conversations' present state."""
        for id_, conversation in self._changed.items():
            change, timeline = self._changes[id_], conversation.timeline
            change.type, change.left = conversation.type, conversation.left
            change.epoch, change.prefix = timeline.epoch, timeline.prefix
            conversation.describe(change)
        return list(self._changes.values())


def _adds(message: Message, user_id: str) -> bool:
    """Whether an entry begins a membership of this user, who did not hear of the recalls before it."""
    if message.type != "MEMBER" or message.payload.get("op") not in ("CREATED", "ADDED"):
        return False
    users = message.payload.get("userIds")
    return isinstance(users, list) and user_id in users


def _forget_earlier(change: Change, prefix: int) -> None:
    """Let go of what is held from before a new membership; history fetches it again, as it reads now."""
    change.forget_up_to = change.floor = prefix
    change.messages = [message for message in change.messages if message.seq > prefix]


def delivery_of(message: Message, epoch: str) -> Delivery:
    """An entry of a log as the app is to take it."""
    return Delivery(_event(message), 1, message.conversation_id, epoch, message.seq)


def _event(message: Message) -> ChatEvent:
    target = named_seq(message)
    if target is not None:
        return _said(message, target)
    target = recall_target(message)
    if target is None:
        return MessageReceived(message)
    message_id, by = message.payload.get("messageId", ""), message.payload.get("by", message.sender_id)
    return MessageRecalled(message.conversation_id, str(message_id), target, str(by))


def _said(message: Message, target: int) -> ChatEvent:
    """What an EDIT or REACTION entry says; one that says nothing readable comes as it is."""
    payload, message_id = message.payload, str(message.payload.get("messageId", ""))
    place = (message.conversation_id, message_id, target, message.sender_id)
    content, reaction = payload.get("payload"), payload.get("reaction")
    if message.type == "EDIT" and isinstance(content, dict):
        ends = stream_end(payload.get("ends"))
        return MessageEdited(*place, Edit(message.seq, message.server_ts, content, ends))
    if message.type == "REACTION" and isinstance(reaction, str):
        return ReactionChanged(*place, reaction, payload.get("removed") is True, message.seq)
    return MessageReceived(message)
