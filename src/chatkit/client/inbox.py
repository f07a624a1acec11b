"""What arrives: each event goes to the conversation it is about, and what follows from a frame is one batch.

Nothing here waits. Payloads are decoded before anything changes. A batch is stored first; only then the app and those
who wait for a send are notified, and the delivered cursors go out. If it cannot be stored the connection ends, for
what is in memory would be ahead of the store: `Batches.recover`. Called by `connection`, with frames and pulled pages.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from ..core.backoff import retry_after_of
from ..core.resend import PendingSend
from ..errors import HeldError, RateLimitedError, TooLargeError, UnavailableError, refusal
from ..types import Message, Payload, Sent
from ..wire import events as ev
from ..wire.codec import Codec
from ..wire.payload import encode, is_same
from .config import DeliveredWhen
from .conversation import Conversation, Conversations, Effects, UnknownConversation
from .event_queue import EventQueue
from .events import ChatEvent, ConversationChanged, MessageSent, PresenceChanged, StreamGrew, Typing
from .open_streams import OpenStreams
from .outbox import DELIVERED_REF, READ_REF, Cursors, Outbox
from .reports import ClientReports
from .store.base import EncodedMessage, LocalStore, refused_for_now
from .sync import Pulled, SyncQueue
from .taken import TakenCursors
from .validate import all_readable, readable, stored_payload

logger = logging.getLogger(__name__)


class Batches:
    """What arrives, frame by frame, into the store: each in one transaction, and only then is anybody notified.

    Args:
        store: Where everything is kept first.
        conversations: What is in memory of it.
        outbox: Those who wait for a send.
        cursors: Takes what is confirmed.
        events: Where the app's events go.
        taken: How far the app has taken them.
        delivered_when: Whether what is confirmed is `stored` or `taken`.
        streams: Which streamed messages are open.
        reports: Tells instruments of each batch.

    Attributes:
        failure: What broke a batch, or None; nothing may be applied or stored before `recover`.
    """

    def __init__(
        self,
        store: LocalStore,
        conversations: Conversations,
        outbox: Outbox,
        cursors: Cursors,
        events: EventQueue,
        taken: TakenCursors,
        delivered_when: DeliveredWhen,
        streams: OpenStreams,
        reports: ClientReports,
    ) -> None:
        self._store = store
        self._conversations = conversations
        self._outbox = outbox
        self._cursors = cursors
        self._events = events
        self._taken = taken
        self._delivered_when = delivered_when
        self._streams = streams
        self._reports = reports
        self.failure: Exception | None = None

    def bind(self, user_id: str, device_id: str) -> None:
        """The login's user must be the one that the store began with.

        Raises:
            ConfigurationError: It is another one.
            UnavailableError: The store refuses for now.
        """
        self._store.bind(user_id, device_id)

    def recover(self) -> UnavailableError | None:
        """After a batch broke, by the store or the server: make memory what the store holds. Only while not connected.

        Returns:
            Why that is not possible yet, or None.
        """
        if self.failure is None:
            return None
        try:
            self._conversations.reload(self._store.records())
            self._outbox.reload()
            self._cursors.reload()
        except UnavailableError as error:
            if not refused_for_now(error):
                raise
            return error
        self.failure = None
        return None

    def check_in_step(self) -> None:
        """Raises UnavailableError while memory and store differ, for the store refused to take what came."""
        if isinstance(self.failure, UnavailableError):
            raise self.failure.fresh()

    @contextmanager
    def batch(self) -> Iterator[Effects]:
        """One frame or page: at the end it is stored in one transaction, then everybody is notified.

        Raises:
            Exception: What the body or the store raised; it is kept in `failure` too.
        """
        effects = Effects()
        try:
            yield effects
            self._commit(effects)
        except Exception as error:
            self.failure = error
            raise

    def held_ids(self, conversation_id: str, after_seq: int, up_to_seq: int) -> dict[int, str]:
        """Ids of the stored entries in (after_seq, up_to_seq], by seq."""
        return self._store.message_ids(conversation_id, after_seq, up_to_seq)

    def floor(self, conversation_id: str) -> int:
        """Up to where nothing is stored."""
        return self._store.floor(conversation_id)

    def keep(self, conversation: Conversation, start: int, end: int, messages: list[Message]) -> None:
        """Store (start, end] of history where it touches what is stored already; elsewhere it would leave a hole."""
        if self.failure is not None or self._store.floor(conversation.id) != end:
            return
        change = conversation.change()
        change.floor = start
        change.messages = messages
        self._store.save([change])

    def describe(self, conversations: Sequence[Conversation]) -> None:
        """Store what a list shows of them, and have the app look again. Nothing while memory and store differ."""
        if conversations and self.failure is None:
            self._store.save([conversation.change() for conversation in conversations])
            self._events.list_changed()

    def taken_further(self, conversation: Conversation) -> bool:
        """The app has taken more of it. Returns whether there is something to confirm."""
        return self.failure is None and self._confirm(conversation)

    def _commit(self, effects: Effects) -> None:
        changes = effects.changes()
        if changes or effects.resolved:
            self._store.save(changes, effects.resolved)
        for conversation, message_ids in effects.placed:
            conversation.sent_ids -= message_ids
        for change in changes:
            if change.forget_above is not None:
                self._events.forget_above(change.conversation_id, change.forget_above)
        self._taken.committed(changes, effects.deliveries)
        for delivery in effects.deliveries:
            self._streams.note(delivery.event)
            self._events.put(delivery, droppable=self._has_waiter(delivery.event))
        for key, outcome in (*effects.outcomes, *effects.held_sends):
            self._outbox.on_committed(key, outcome)
        if changes:
            self._events.list_changed()
        self._reports.stored(effects)
        for conversation in effects.to_confirm():
            self._confirm(conversation)

    def _has_waiter(self, event: ChatEvent) -> bool:
        if not isinstance(event, MessageSent):
            return False
        return self._outbox.has_waiter((event.sent.conversation_id, event.sent.client_msg_id))

    def _confirm(self, conversation: Conversation) -> bool:
        """Confirm to the server what this device holds, or its app has taken, if it does not know.

        Returns:
            Whether there is something to send.
        """
        up_to_seq = self.confirmable(conversation)
        if conversation.left or conversation.renewal is not None or up_to_seq <= conversation.acked_seq:
            return False
        conversation.acked_seq = up_to_seq
        self._cursors.delivered(conversation.id, up_to_seq)
        return True

    def confirmable(self, conversation: Conversation) -> int:
        """How far this device holds it, or its app has taken it."""
        if self._delivered_when == "taken":
            return self._taken.taken_up_to(conversation)
        return conversation.timeline.prefix


class Inbox:
    """Applies what arrives.

    Args:
        codec: Decodes payloads.
        conversations: The timelines and the memberships.
        sync_queue: Takes what must be pulled.
        outbox: Own messages, which are resolved here.
        cursors: How far this device has received and read.
        events: Says whether the app has room.
        batches: Stores what each frame leads to.
        streams: Takes parts of streamed messages.
    """

    def __init__(
        self,
        codec: Codec,
        conversations: Conversations,
        sync_queue: SyncQueue,
        outbox: Outbox,
        cursors: Cursors,
        events: EventQueue,
        batches: Batches,
        streams: OpenStreams,
    ) -> None:
        self._streams = streams
        self._codec = codec
        self._conversations = conversations
        self._sync_queue = sync_queue
        self._outbox = outbox
        self._cursors = cursors
        self._events = events
        self._batches = batches

    def connected(self, user_id: str) -> None:
        """A new connection: its heads begin from nothing."""
        self._conversations.connected(user_id)

    def received(self, events: Sequence[ev.ServerEvent]) -> None:
        """Apply the events of one frame, in order and as one batch; those that concern nothing here are passed over."""
        decoded = [readable(self._codec, event) if isinstance(event, ev.NewMsg) else None for event in events]
        with self._batches.batch() as effects:
            for event, message in zip(events, decoded, strict=True):
                self._apply(effects, event, message)
        for event in events:  # the messages that they are of may have come in this very frame
            if isinstance(event, ev.StreamPartPush):
                self._grew(self._streams.part(event))

    def shown(self, page: ev.SyncPage) -> None:
        """A page that was asked for to see how far a stream has come."""
        for message in all_readable(self._codec, page):
            self._grew(self._streams.see(message))

    def _grew(self, event: StreamGrew | None) -> None:
        if event is not None:
            self._events.put(event)

    def too_large(self, send: PendingSend) -> None:
        """A message that the server's host does not let through: refused for good, as one batch."""
        cause = TooLargeError(f"the server's host takes no frame with a message of {len(send.payload)} bytes")
        with self._batches.batch() as effects:
            if self._outbox.resolve(*send.key) is not None:
                effects.failed(send.key, cause)

    def pulled(self, pulled: Pulled) -> None:
        """Apply what a pull brought: a page, or that the conversation is gone."""
        if pulled.page is None:
            with self._batches.batch() as effects:
                self._gone(effects, pulled.conversation)
            return
        messages = all_readable(self._codec, pulled.page)
        with self._batches.batch() as effects:
            self._page(effects, pulled.conversation, pulled.last_seq, pulled.page, messages)

    # --- entries --------------------------------------------------------------------------------------

    def _apply(self, effects: Effects, event: ev.ServerEvent, message: Message | None) -> None:
        match event:
            case ev.NewMsg():
                self._conversations.see(event.conversation_id)
                self._new_message(effects, event, message)
            case ev.MsgAck(client_msg_id=str()):
                self._acked(effects, event)
            case ev.MsgAck():  # of a recall: its own entry is to be pulled
                self._recall_acked(effects, event)
            case ev.Behind():
                self._conversations.see(event.conversation_id)
                self._known_head(effects, event.conversation_id, event.epoch, event.head_seq)
                self._streams.dropped(event.conversation_id)
            case ev.Heads():
                self._heads(effects, event)
            case ev.ConversationPush():
                self._changed(effects, event)
            case ev.ReceiptPush():
                self._receipt(effects, event)
            case ev.TypingPush():
                effects.notify(Typing(event.conversation_id, event.user_id))
            case ev.PresencePush():
                seen_ts = event.last_seen_ts if isinstance(event.last_seen_ts, int) else None
                effects.notify(PresenceChanged(event.user_id, event.state, seen_ts))
            case ev.ErrorEvent():
                self._refused(effects, event)

    def _new_message(self, effects: Effects, event: ev.NewMsg, message: Message | None) -> None:
        """A live entry; one that cannot be read leaves a hole, which a SYNC closes."""
        conversation = self._find(effects, event.conversation_id, event.epoch, event.seq)
        if conversation is None:
            return  # the heads lead to it, by a SYNC that brings it too
        if message is None:
            if self._is_same_log(conversation, event.epoch) and conversation.timeline.rise(event.seq):
                self._sync_queue.gap(conversation)
            return
        own = self._shows_own(effects, message, event.epoch)
        self._arrived(effects, conversation, message, event.epoch, own=own)

    def _acked(self, effects: Effects, event: ev.MsgAck) -> None:
        """The answer to a send: resolve it, and give the own message its place like any other.

        The answer is the same for ever, also after leaving, so it proves no membership.
        """
        if not isinstance(event.client_msg_id, str):
            return
        if not (self._conversations.complete or self._conversations.get(event.conversation_id)):
            if self._outbox.find(event.conversation_id, event.client_msg_id) is not None:
                self._conversations.heard_of(event.conversation_id).acks[event.client_msg_id] = event
            return
        key = event.conversation_id, event.client_msg_id
        is_told = self._outbox.was_received(*key, event.message_id)
        send = self._outbox.resolve(*key)
        if send is None:
            return
        stored = stored_payload(self._codec, event)
        message = _own_message(event, self._conversations.user_id, send, stored)
        self._streams.sent(message)
        conversation = self._find(effects, event.conversation_id, event.epoch, event.seq, proves=False)
        sent = _sent(event, event.client_msg_id, event.epoch, stored)
        if is_told:
            effects.resolve(sent)
        else:
            effects.sent(sent, conversation if _is_elsewhere(conversation, event.epoch) else None)
        if conversation is None:
            self._conversations.heard_of(event.conversation_id).own[message.seq] = message
        else:
            self._arrived(effects, conversation, message, event.epoch, own=not is_told)

    def _recall_acked(self, effects: Effects, event: ev.MsgAck) -> None:
        """The answer to a recall. Of a conversation that the heads did not name, nothing is remembered."""
        id_ = event.conversation_id
        if self._conversations.get(id_) is not None or not self._conversations.complete:
            self._known_head(effects, id_, event.epoch, event.seq, proves=False)

    def _shows_own(self, effects: Effects, message: Message, epoch: str) -> bool:
        """Whether an entry is a pending message of this device, which is resolved by that.

        The same key with another payload resolves nothing: the server has refused that, or will. But a message that is
        held may come rewritten. A recalled entry can no longer be compared.
        """
        if message.sender_id != self._conversations.user_id or message.client_msg_id is None:
            return False
        pending = self._outbox.find(message.conversation_id, message.client_msg_id)
        if pending is None:
            return False
        is_stored = message.type == "RECALLED" or is_same(message.payload, pending.payload)
        if not is_stored and not self._outbox.is_held(pending):
            self._outbox.received(pending, message.message_id)
            return False
        if self._outbox.resolve(message.conversation_id, message.client_msg_id, answered=False) is None:
            return False
        self._streams.sent(message)
        instead = None if is_stored else message.payload
        effects.sent(_sent(message, message.client_msg_id, epoch, instead))
        return True

    def _arrived(
        self, effects: Effects, conversation: Conversation, message: Message, epoch: str, *, own: bool
    ) -> None:
        if not self._is_same_log(conversation, epoch):
            if own:
                conversation.sent_ids.add(message.message_id)
            return
        own = own or message.message_id in conversation.sent_ids
        # with the queue paused, the sync comes back to it once the app has caught up
        keep = own or not self._events.paused
        was_behind = conversation.timeline.behind
        conversation.push(effects, message, self._conversations.user_id, own=own, keep=keep)
        if conversation.timeline.behind:
            effects.gaps += not was_behind
            self._sync_queue.gap(conversation)

    def _known_head(
        self, effects: Effects, conversation_id: str, epoch: str, head_seq: int, *, proves: bool = True
    ) -> None:
        """The log is said to go up to `head_seq`: pull what is missing, at once.

        Args:
            effects: What follows from it.
            conversation_id: Which log.
            epoch: Its identity.
            head_seq: Its highest seq.
            proves: Only a member can hear this now.
        """
        conversation = self._find(effects, conversation_id, epoch, head_seq, proves=proves)
        if conversation is None or conversation.left:
            return
        if self._is_same_log(conversation, epoch) and conversation.timeline.rise(head_seq):
            self._sync_queue.add(conversation, first=True)

    def _page(
        self,
        effects: Effects,
        conversation: Conversation,
        last_seq: int,
        page: ev.SyncPage,
        messages: list[Message],
    ) -> None:
        """A SYNC_PAGE that was asked with `last_seq`; `messages` are its readable entries."""
        rolled_back = conversation.renewal is None and page.head_seq < last_seq
        if page.epoch != conversation.epoch or rolled_back:
            confirmed = conversation.acked_seq if conversation.acked_seq <= page.head_seq else 0
            self._renew(conversation, page.epoch, page.head_seq, confirmed)
        conversation.epoch_refused = False
        if conversation.renewal is not None and not self._compare(effects, conversation, last_seq, page):
            return
        effects.sent_elsewhere(conversation)
        notified = {
            message.seq
            for message in messages
            if self._shows_own(effects, message, page.epoch) or message.message_id in conversation.sent_ids
        }
        if conversation.sent_ids:
            effects.placed.append((conversation, {message.message_id for message in messages}))
        conversation.page(effects, last_seq, page, messages, notified, self._conversations.user_id)

    def _find(
        self, effects: Effects, conversation_id: str, epoch: str, head_seq: int, *, proves: bool = True
    ) -> Conversation | None:
        """The conversation an event is about; None while only the coming heads can say how far this device is in it."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None and self._conversations.complete and proves:
            conversation = self._adopt(effects, conversation_id, epoch, 0)
            conversation.timeline.rise(head_seq)
            self._sync_queue.add(conversation, first=True)
        if conversation is None:
            earlier = self._conversations.heard_of(conversation_id)
            earlier.head_seq = max(earlier.head_seq, head_seq)
            earlier.proved = earlier.proved or proves
            return None
        if conversation.left and proves:
            conversation.left = False
            effects.change(conversation)
            self._cursors.rejoined(conversation.id)
        return conversation

    def _is_same_log(self, conversation: Conversation, epoch: str) -> bool:
        """Whether an event is about the log we hold; if not, a SYNC finds out which of the two is the old one."""
        if conversation.is_same_log(epoch):
            return True
        self._sync_queue.add(conversation, first=True)
        return False

    def _renew(self, conversation: Conversation, epoch: str, head_seq: int, delivered_seq: int) -> None:
        """The log is another one, or an older state of ours: find out how much of what is held is the same."""
        if conversation.timeline.epoch == "":
            conversation.timeline.epoch = epoch
            return
        logger.info("the log of %s was replaced or put back", conversation.id)
        held = self._batches.held_ids(conversation.id, conversation.timeline.prefix, ev.SEQ_MAX)
        conversation.sent_ids.update(held.values())
        read_seq = self._cursors.wanted_reads.get(conversation.id, 0)
        floor = self._batches.floor(conversation.id)
        conversation.begin_renewal(
            epoch, head_seq, floor=floor, delivered_seq=delivered_seq, read_seq=read_seq
        )
        self._cursors.forget(conversation.id)

    def _compare(
        self, effects: Effects, conversation: Conversation, last_seq: int, page: ev.SyncPage
    ) -> bool:
        """Compare what is held with a page of the new log; once it is known what both have, go on from there.

        Returns whether it is known.
        """
        renewal = conversation.renewal
        assert renewal is not None
        held = self._batches.held_ids(conversation.id, last_seq, renewal.kept_seq)
        listed = {message.seq: message.message_id for message in page.messages}
        if not renewal.compare(last_seq, page.up_to_seq, held, listed):
            return False
        conversation.renewed(effects, page.head_seq)
        read_seq = min(renewal.read_seq, renewal.kept_seq)
        if read_seq > conversation.read_seq:
            self._cursors.want_read(conversation.id, read_seq)
        return True

    def _adopt(self, effects: Effects, conversation_id: str, epoch: str, prefix: int) -> Conversation:
        """Take up a conversation that this device has no record of."""
        earlier = self._conversations.heard_of(conversation_id)
        own = [message for seq, message in earlier.own.items() if seq > prefix]
        conversation = self._conversations.adopt(conversation_id, earlier.type, epoch, prefix)
        conversation.acked_seq = prefix
        change = effects.change(conversation)
        change.floor = prefix
        for message in own:
            change.add_own(message)
        self._take_early_acks(effects, earlier)
        return conversation

    def _take_early_acks(self, effects: Effects, earlier: UnknownConversation) -> None:
        """Take the answers that waited for the heads."""
        acks, earlier.acks = earlier.acks, {}
        for ack in acks.values():
            self._acked(effects, ack)

    # --- conversations and their heads ----------------------------------------------------------------

    def _heads(self, effects: Effects, event: ev.Heads) -> None:
        """One page of heads; what the last one has not named was left."""
        for head in event.conversations:
            self._conversations.see(head.conversation_id)
            self._head(effects, head)
            if self._conversations.complete:  # it is instead of many BEHIND
                self._streams.dropped(head.conversation_id)
        if not event.more:
            self._complete(effects)

    def _head(self, effects: Effects, head: ev.Head) -> None:
        conversation = self._conversations.get(head.conversation_id)
        if conversation is None:
            self._conversations.heard_of(head.conversation_id).type = head.type
            conversation = self._adopt(effects, head.conversation_id, head.epoch, head.delivered_seq)
        elif conversation.left:
            conversation.left = False
            effects.change(conversation)
            effects.notify(ConversationChanged(head.conversation_id, head.type, "JOINED"))
        if conversation.epoch != head.epoch or head.head_seq < conversation.held_at_connect:
            self._renew(conversation, head.epoch, head.head_seq, head.delivered_seq)
        if conversation.renewal is not None:  # also one that the connection before did not bring to its end
            self._sync_queue.add(conversation)
        self._take_head(effects, conversation, head)

    def _take_head(self, effects: Effects, conversation: Conversation, head: ev.Head) -> None:
        conversation.type, conversation.first_seq = head.type, max(head.first_seq, 1)
        conversation.acked_seq = head.delivered_seq
        if head.read_seq > conversation.read_seq:
            conversation.read_seq = head.read_seq
            effects.change(conversation)
        if not head.last_activity_ts:  # a server from before lists
            conversation.title_is_known = False
        elif conversation.listed(head):
            effects.change(conversation)
        effects.needs_ack(conversation)
        self._cursors.reconcile_read(conversation.id, head.read_seq)
        risen = conversation.others_rise(head.others_delivered_seq, head.others_read_seq)
        if risen is not None:
            effects.notify(risen)
        if conversation.renewal is None and conversation.timeline.rise(head.head_seq):
            self._sync_queue.add(conversation)

    def _complete(self, effects: Effects) -> None:
        for conversation in self._conversations:
            if not self._conversations.is_seen(conversation.id):
                self._gone(effects, conversation)
        self._conversations.completed()
        for id_, earlier in list(self._conversations.unknown.items()):
            if earlier.proved:
                self._sync_queue.add(self._adopt(effects, id_, earlier.epoch, 0))
            else:
                self._take_early_acks(effects, earlier)
        self._cursors.forget_reads_but(self._conversations)
        self._sync_queue.changed.set()

    def _changed(self, effects: Effects, event: ev.ConversationPush) -> None:
        """The set of conversations changed just now."""
        conversation = self._conversations.get(event.conversation_id)
        if (
            event.change == "LEFT"
            and conversation is None
            and not self._conversations.is_unknown(event.conversation_id)
        ):
            return  # nothing was heard of it before
        effects.notify(ConversationChanged(event.conversation_id, event.type, event.change))
        if event.change == "LEFT":
            earlier = self._conversations.unsee(event.conversation_id)
            for key, ack in earlier.acks.items() if earlier is not None else ():
                if self._outbox.resolve(ack.conversation_id, key) is not None:
                    effects.sent(
                        _sent(ack, key, ack.epoch, stored_payload(self._codec, ack))
                    )  # an answer counts, also then
            if conversation is not None:
                _leave(effects, conversation)
            return
        self._conversations.see(event.conversation_id)
        if conversation is None:
            conversation = self._joined(effects, event)
        if conversation is not None:
            conversation.type = event.type
            conversation.left = False
            conversation.news_count += 1
            conversation.title_is_known = isinstance(event.title, str)
            if isinstance(event.title, str):
                conversation.title = event.title
            effects.change(conversation)
            self._cursors.rejoined(conversation.id)
            if event.change != "UPDATED":
                self._sync_queue.add(conversation)

    def _joined(self, effects: Effects, event: ev.ConversationPush) -> Conversation | None:
        earlier = self._conversations.heard_of(event.conversation_id)
        earlier.type, earlier.proved = event.type, True
        if not self._conversations.complete:
            return None
        return self._adopt(effects, event.conversation_id, "", 0)

    def _gone(self, effects: Effects, conversation: Conversation) -> None:
        """The server does not name it, or says NOT_FOUND: it was left. The app is notified once."""
        if not conversation.left:
            _leave(effects, conversation)
            effects.notify(ConversationChanged(conversation.id, conversation.type, "LEFT"))

    # --- receipts and refusals ------------------------------------------------------------------------

    def _receipt(self, effects: Effects, event: ev.ReceiptPush) -> None:
        conversation = self._conversations.get(event.conversation_id)
        if conversation is None:
            return  # the heads that are on their way carry the same fact
        before = conversation.read_seq
        risen = conversation.receipt(event, self._conversations.user_id)
        if conversation.read_seq > before:
            effects.change(conversation)
        if risen is not None:
            effects.notify(risen)

    def _refused(self, effects: Effects, event: ev.ErrorEvent) -> None:
        if self._refused_send(effects, event):
            return
        if event.ref in (DELIVERED_REF, READ_REF) and isinstance(event.conversation_id, str):
            conversation = self._conversations.get(event.conversation_id)
            up_to_seq = self._batches.confirmable(conversation) if conversation is not None else 0
            self._cursors.refused(event, event.conversation_id, up_to_seq)
        else:  # typing, presence, or a request whose caller has gone
            logger.info("the server refused something nobody waits for: %s", event.code)

    def _refused_send(self, effects: Effects, event: ev.ErrorEvent) -> bool:
        """An ERROR that names a message. Returns whether it was one of ours."""
        conversation_id, client_msg_id = event.conversation_id, event.client_msg_id
        if not isinstance(conversation_id, str) or not isinstance(client_msg_id, str):
            return False
        if self._outbox.find(conversation_id, client_msg_id) is None:
            return False
        if event.code == HeldError.code:
            if self._outbox.hold(conversation_id, client_msg_id, retry_after_of(event.retry_after_ms)):
                effects.held((conversation_id, client_msg_id), HeldError(event.message))
        elif event.retryable:
            too_fast = event.code == RateLimitedError.code
            retry_after_s = retry_after_of(event.retry_after_ms)
            self._outbox.put_back(conversation_id, client_msg_id, retry_after_s, too_fast=too_fast)
        else:
            answered = event.reason != ev.REVIEWED
            if self._outbox.resolve(conversation_id, client_msg_id, answered=answered) is not None:
                cause = refusal(event.code, event.message, retryable=event.retryable, reason=event.reason)
                effects.failed((conversation_id, client_msg_id), cause)
        return True


def _leave(effects: Effects, conversation: Conversation) -> None:
    conversation.left = True
    effects.change(conversation)
    effects.sent_elsewhere(conversation)


def _is_elsewhere(conversation: Conversation | None, epoch: str) -> bool:
    """Whether an entry is in another log than is held; then a page is on its way that says which one counts."""
    return conversation is not None and not conversation.left and not conversation.is_same_log(epoch)


def _sent(entry: ev.MsgAck | Message, client_msg_id: str, epoch: str, instead: Payload | None = None) -> Sent:
    place = (entry.message_id, entry.seq, entry.server_ts)
    return Sent(entry.conversation_id, client_msg_id, *place, epoch, instead)


def _own_message(ack: ev.MsgAck, user_id: str, send: PendingSend, instead: Payload | None) -> Message:
    """The message as the log has it, with its bytes for the store: what was sent, or what was stored instead."""
    return EncodedMessage(
        send.conversation_id,
        ack.seq,
        ack.message_id,
        user_id,
        ack.server_ts,
        msgspec.json.decode(send.payload) if instead is None else instead,
        send.client_msg_id,
        encoded=send.payload if instead is None else encode(instead),
    )
