"""The receiving half: entries into timelines, and what follows from it into one batch per frame.

Nothing here waits. Payloads are decoded before anything changes. A batch is stored first; only then the app and those
who wait for a send are told, and the delivered cursors go out. If it cannot be stored the connection ends, for what is
in memory would be ahead of the store: `Parts.recover`. Called by `router` (live events) and `syncer` (pages).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec

from ..core.timeline import Step, recall_target
from ..errors import ProtocolError
from ..types import Message, Sent
from ..wire import events as ev
from ..wire.codec import Codec
from ..wire.payload import is_same
from .base import Change, LocalStore
from .batch import Batch
from .conversations import Conversation, Conversations, Unplaced
from .cursors import Cursors
from .events import ChatEvent, EpochChanged, MessageRecalled, MessageReceived, MessageSent
from .mailbox import Mailbox
from .pulls import Pulls
from .sender import Sender

logger = logging.getLogger(__name__)

Logged = ev.NewMsg | ev.LogEntry


class Receiver:
    """Applies what arrives.

    Args:
        codec: Decodes payloads.
        conversations: The timelines.
        pulls: Takes what must be fetched.
        sender: Settles own messages.
        cursors: Takes what is confirmed.
        mailbox: Where the app's events go.
        store: Where everything is kept first.

    Attributes:
        user_id: The user of the login; "" before the first.
        heads_complete: All heads of this connection have come.
        failure: What broke a batch, or None; nothing may be applied or stored before `Parts.recover`.
    """

    def __init__(
        self,
        codec: Codec,
        conversations: Conversations,
        pulls: Pulls,
        sender: Sender,
        cursors: Cursors,
        mailbox: Mailbox,
        store: LocalStore,
    ) -> None:
        self._codec = codec
        self._conversations = conversations
        self._pulls = pulls
        self._sender = sender
        self._cursors = cursors
        self._mailbox = mailbox
        self._store = store
        self.user_id = ""
        self.heads_complete = False
        self.failure: Exception | None = None

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """One frame or page: at the end it is stored in one transaction, then everybody is told.

        Raises:
            Exception: What the body or the store raised; it is kept in `failure` too.
        """
        batch = Batch()
        try:
            yield batch
            self._commit(batch)
        except Exception as error:
            self.failure = error
            raise

    def readable(self, entry: Logged) -> Message | None:
        """An entry with its payload decoded; None, and a warning, for one that nobody can read or keep."""
        try:
            message = self._message(entry)
            if self._codec.binary:
                msgspec.json.encode(message.payload)  # MessagePack can say more than a local store can keep
        except (ProtocolError, TypeError, ValueError, OverflowError, RecursionError) as error:
            logger.warning("entry %d of %s cannot be read: %s", entry.seq, entry.conversation_id, error)
            return None
        return message

    def all_readable(self, entries: Iterable[Logged]) -> list[Message]:
        """The readable ones of a page; the others are passed over like what is not visible."""
        messages = (self.readable(entry) for entry in entries)
        return [message for message in messages if message is not None]

    def new_message(self, batch: Batch, event: ev.NewMsg, message: Message | None) -> None:
        """A live entry; one that cannot be read leaves a hole, which a SYNC settles."""
        conversation = self._find(batch, event.conversation_id, event.epoch, event.seq)
        if conversation is None:
            return  # the heads lead to it, by a SYNC that settles it too
        if message is None:
            if self._same_epoch(conversation, event.epoch) and conversation.timeline.rise(event.seq):
                self._pulls.gap(conversation)
            return
        own = self._settles(batch, message, event.epoch)
        self._arrived(batch, conversation, message, event.epoch, own=own)

    def acked(self, batch: Batch, event: ev.MsgAck) -> None:
        """The answer to a send: settle it, and give the own message its place like any other.

        The answer is the same for ever, also after leaving, so it proves no membership.
        """
        if not isinstance(event.client_msg_id, str):
            return
        if not (self.heads_complete or self._conversations.get(event.conversation_id)):
            if self._sender.pending(event.conversation_id, event.client_msg_id) is not None:
                self._conversations.not_placed(event.conversation_id).acks[event.client_msg_id] = event
            return
        sent = Sent(
            event.conversation_id,
            event.client_msg_id,
            event.message_id,
            event.seq,
            event.server_ts,
            event.epoch,
        )
        send = self._sender.settle(batch, sent, answered=True)
        if send is None:
            return
        message = Message(
            sent.conversation_id,
            sent.seq,
            sent.message_id,
            self.user_id,
            sent.server_ts,
            msgspec.json.decode(send.payload),
            sent.client_msg_id,
        )
        conversation = self._find(batch, event.conversation_id, event.epoch, event.seq, proves=False)
        if conversation is None:
            self._conversations.not_placed(event.conversation_id).own.append(message)
        else:
            self._arrived(batch, conversation, message, event.epoch, own=True)

    def settle_early(self, batch: Batch, earlier: Unplaced) -> None:
        """Take the answers that waited for the heads."""
        acks, earlier.acks = earlier.acks, {}
        for ack in acks.values():
            self.acked(batch, ack)

    def known_head(
        self, batch: Batch, conversation_id: str, epoch: str, head_seq: int, *, proves: bool = True
    ) -> None:
        """The log is said to go up to `head_seq`: pull what is missing, at once.

        Args:
            proves: Only a member can hear this now.
        """
        conversation = self._find(batch, conversation_id, epoch, head_seq, proves=proves)
        if conversation is None or conversation.left:
            return
        if self._same_epoch(conversation, epoch) and conversation.timeline.rise(head_seq):
            self._pulls.add(conversation, first=True)

    def page(
        self,
        batch: Batch,
        conversation: Conversation,
        last_seq: int,
        page: ev.SyncPage,
        messages: list[Message],
    ) -> None:
        """A SYNC_PAGE that was asked with `last_seq`; `messages` are its readable entries."""
        if page.epoch != conversation.timeline.epoch:
            self.renew(batch, conversation, page.epoch)
        conversation.epoch_doubted = False
        told = {message.seq for message in messages if self._settles(batch, message, page.epoch)}
        prefix = conversation.timeline.prefix
        step = conversation.timeline.page(last_seq, page.up_to_seq, messages, told)
        conversation.timeline.rise(page.head_seq)
        self._placed(batch, conversation, step, prefix, moved=True)

    def renew(self, batch: Batch, conversation: Conversation, epoch: str) -> None:
        """The log is another one: drop the cursors and start afresh."""
        known = conversation.timeline.epoch
        if known == "":
            conversation.timeline.epoch = epoch
            return
        conversation.renew(epoch)
        self._cursors.forget(conversation.id)
        change = batch.change(conversation)
        change.fresh, change.floor = True, 0
        change.messages.clear()
        change.recalled_seqs.clear()
        batch.events.append(EpochChanged(conversation.id, epoch))

    def _commit(self, batch: Batch) -> None:
        changes = batch.changes()
        if changes or batch.settled:
            self._store.save(changes, batch.settled)
        for event in batch.events:
            self._mailbox.put(event, droppable=self._has_waiter(event))
        for key, outcome in batch.answers:
            self._sender.resolve(key, outcome)
        for conversation in batch.to_confirm():
            self._confirm(conversation)

    def _confirm(self, conversation: Conversation) -> None:
        """Tell the server what this device holds, if it does not know."""
        prefix = conversation.timeline.prefix
        if prefix > conversation.acked_seq and not conversation.left:
            conversation.acked_seq = prefix
            self._cursors.delivered(conversation.id, prefix)

    def place(self, batch: Batch, conversation_id: str, epoch: str, prefix: int) -> Conversation:
        """Take up a conversation that this device has no record of."""
        earlier = self._conversations.not_placed(conversation_id)
        own = [message for message in earlier.own if message.seq > prefix]
        conversation = self._conversations.place(conversation_id, earlier.type, epoch, prefix)
        conversation.acked_seq = prefix
        batch.change(conversation).messages.extend(own)
        self.settle_early(batch, earlier)
        return conversation

    def _arrived(
        self, batch: Batch, conversation: Conversation, message: Message, epoch: str, *, own: bool
    ) -> None:
        timeline = conversation.timeline
        if not self._same_epoch(conversation, epoch):
            return
        keep = (
            own or not self._mailbox.paused
        )  # paused, the syncer comes back to it once the app has caught up
        prefix = timeline.prefix
        self._placed(batch, conversation, timeline.push(message, told=own, keep=keep), prefix)
        if own and timeline.is_told(message.seq):
            batch.change(conversation).messages.append(message)  # told already: so it is after a crash too
        if timeline.behind:
            self._pulls.gap(conversation)

    def _find(
        self, batch: Batch, conversation_id: str, epoch: str, head_seq: int, *, proves: bool = True
    ) -> Conversation | None:
        """The conversation an event is about; None while only the coming heads can say where this device stands."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None and self.heads_complete and proves:
            conversation = self.place(batch, conversation_id, epoch, 0)
            conversation.timeline.rise(head_seq)
            self._pulls.add(conversation, first=True)
        if conversation is None:
            earlier = self._conversations.not_placed(conversation_id)
            earlier.head_seq = max(earlier.head_seq, head_seq)
            earlier.proved = earlier.proved or proves
            return None
        if conversation.left and proves:
            conversation.left = False
            batch.change(conversation)
            self._cursors.rejoined(conversation.id)
        return conversation

    def _same_epoch(self, conversation: Conversation, epoch: str) -> bool:
        """Whether an event is about the log we hold; if not, a SYNC finds out which of the two is the old one."""
        if conversation.timeline.epoch == "":
            conversation.timeline.epoch = epoch
        if conversation.timeline.epoch == epoch:
            return True
        self._pulls.add(conversation, first=True)
        return False

    def _settles(self, batch: Batch, message: Message, epoch: str) -> bool:
        """Whether an entry is a pending message of this device, which is settled by that.

        The same key with another payload settles nothing: the server has refused that, or will. A recalled entry can
        no longer be compared.
        """
        if message.sender_id != self.user_id or message.client_msg_id is None:
            return False
        pending = self._sender.pending(message.conversation_id, message.client_msg_id)
        if pending is None or not (message.type == "RECALLED" or is_same(message.payload, pending.payload)):
            return False
        sent = Sent(
            message.conversation_id,
            message.client_msg_id,
            message.message_id,
            message.seq,
            message.server_ts,
            epoch,
        )
        return self._sender.settle(batch, sent, answered=False) is not None

    def _placed(
        self, batch: Batch, conversation: Conversation, step: Step, prefix: int, *, moved: bool = False
    ) -> None:
        """Take what got its place; `prefix` is where it began."""
        if not step.placed and not step.recalled_seqs and not moved:
            return
        change = batch.change(conversation)
        if any(self._adds_us(placed.message) for placed in step.placed):
            _forget_earlier(change, prefix)
        change.messages.extend(placed.message for placed in step.placed)
        change.recalled_seqs.extend(step.recalled_seqs)
        conversation.recalled_lately.extend(step.recalled_seqs)
        batch.events.extend(_event(placed.message) for placed in step.placed if not placed.told)

    def _adds_us(self, message: Message) -> bool:
        """Whether an entry begins a membership of this user; what was recalled before it, this device was not told."""
        if message.type != "MEMBER" or message.payload.get("op") not in ("CREATED", "ADDED"):
            return False
        users = message.payload.get("userIds")
        return isinstance(users, list) and self.user_id in users

    def _has_waiter(self, event: ChatEvent) -> bool:
        if not isinstance(event, MessageSent):
            return False
        return self._sender.has_waiter((event.sent.conversation_id, event.sent.client_msg_id))

    def _message(self, entry: Logged) -> Message:
        client_msg_id = entry.client_msg_id if isinstance(entry.client_msg_id, str) else None
        return Message(
            entry.conversation_id,
            entry.seq,
            entry.message_id,
            entry.sender_id,
            entry.server_ts,
            self._codec.payload(entry.payload),
            client_msg_id,
        )


def _forget_earlier(change: Change, prefix: int) -> None:
    """Let go of what is held from before a new membership; history fetches it again, as it reads now."""
    change.forget_up_to = change.floor = prefix
    change.messages = [message for message in change.messages if message.seq > prefix]


def _event(message: Message) -> ChatEvent:
    target = recall_target(message)
    if target is None:
        return MessageReceived(message)
    message_id, by = message.payload.get("messageId", ""), message.payload.get("by", message.sender_id)
    return MessageRecalled(message.conversation_id, str(message_id), target, str(by))
