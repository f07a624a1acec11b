"""HEADS and CONVERSATION: where this device stands in each conversation, what was joined and what was left."""

from __future__ import annotations

from ..wire import events as ev
from . import receipts
from .batch import Batch
from .conversations import Conversation, Conversations
from .cursors import Cursors
from .events import ConversationChanged
from .pulls import Pulls
from .receiver import Receiver


class Heads:
    """Follows the pages of HEADS, and single changes of the set."""

    def __init__(
        self, conversations: Conversations, receiver: Receiver, pulls: Pulls, cursors: Cursors
    ) -> None:
        self._conversations = conversations
        self._receiver = receiver
        self._pulls = pulls
        self._cursors = cursors
        self._seen: set[str] = set()

    def connected(self) -> None:
        """A new connection: its heads begin from nothing."""
        self._seen.clear()
        self._conversations.connected()
        self._receiver.heads_complete = False

    def proved_member(self, conversation_id: str) -> None:
        """A live event proves membership, whatever a snapshot from before says."""
        self._seen.add(conversation_id)

    def page(self, batch: Batch, event: ev.Heads) -> None:
        """One page of heads; the last one settles what was left."""
        for head in event.conversations:
            self._seen.add(head.conversation_id)
            self._head(batch, head)
        if not event.more:
            self._complete(batch)

    def changed(self, batch: Batch, event: ev.ConversationPush) -> None:
        """The set of conversations changed just now."""
        batch.events.append(ConversationChanged(event.conversation_id, event.type, event.change))
        conversation = self._conversations.get(event.conversation_id)
        if event.change == "LEFT":
            self._seen.discard(event.conversation_id)
            self._conversations.unplaced.pop(event.conversation_id, None)
            if conversation is not None:
                self._leave(batch, conversation)
            return
        self.proved_member(event.conversation_id)
        if conversation is None:
            conversation = self._joined(batch, event)
        if conversation is not None:
            conversation.type = event.type
            conversation.left = False
            batch.change(conversation)
            self._cursors.rejoined(conversation.id)
            if event.change != "UPDATED":
                self._pulls.add(conversation)

    def gone(self, batch: Batch, conversation: Conversation) -> None:
        """The server says NOT_FOUND: it was left. The app is told once."""
        if not conversation.left:
            self._leave(batch, conversation)
            batch.events.append(ConversationChanged(conversation.id, conversation.type, "LEFT"))

    def _joined(self, batch: Batch, event: ev.ConversationPush) -> Conversation | None:
        earlier = self._conversations.not_placed(event.conversation_id)
        earlier.type, earlier.proved = event.type, True
        if not self._receiver.heads_complete:
            return None
        return self._receiver.place(batch, event.conversation_id, "", 0)

    def _head(self, batch: Batch, head: ev.Head) -> None:
        conversation = self._conversations.get(head.conversation_id)
        if conversation is None:
            self._conversations.not_placed(head.conversation_id).type = head.type
            conversation = self._receiver.place(batch, head.conversation_id, head.epoch, head.delivered_seq)
        elif conversation.left:
            conversation.left = False
            batch.change(conversation)
            batch.events.append(ConversationChanged(head.conversation_id, head.type, "JOINED"))
        if conversation.timeline.epoch != head.epoch:
            self._receiver.renew(batch, conversation, head.epoch)
        self._stand(batch, conversation, head)

    def _stand(self, batch: Batch, conversation: Conversation, head: ev.Head) -> None:
        conversation.type, conversation.first_seq = head.type, max(head.first_seq, 1)
        conversation.acked_seq = head.delivered_seq
        conversation.read_seq = max(conversation.read_seq, head.read_seq)
        batch.stands(conversation)
        self._cursors.reconcile_read(conversation.id, head.read_seq)
        risen = receipts.rise(conversation, head.others_delivered_seq, head.others_read_seq)
        if risen is not None:
            batch.events.append(risen)
        if conversation.timeline.rise(head.head_seq):
            self._pulls.add(conversation)

    def _complete(self, batch: Batch) -> None:
        for conversation in self._conversations:
            if conversation.id not in self._seen:
                self.gone(batch, conversation)
        self._receiver.heads_complete = True
        for id_, earlier in list(self._conversations.unplaced.items()):
            if earlier.proved:
                self._pulls.add(self._receiver.place(batch, id_, earlier.epoch, 0))
            else:
                self._receiver.settle_early(batch, earlier)
        self._seen.clear()
        self._pulls.changed.set()

    def _leave(self, batch: Batch, conversation: Conversation) -> None:
        conversation.left = True
        batch.change(conversation)
