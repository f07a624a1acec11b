"""Hands each event of the server to the part it concerns. Called by `link` with whole frames; never waits."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..types import Message
from ..wire import events as ev
from . import receipts
from .batch import Batch
from .conversations import Conversations
from .cursors import DELIVERED_REF, READ_REF, Cursors
from .events import Typing
from .heads import Heads
from .receiver import Receiver
from .requests import Requests
from .sender import Sender

logger = logging.getLogger(__name__)

ConnectionNotice = ev.TokenExpiring | ev.GoAway
"""What concerns the connection itself."""


class Router:
    """From events to parts."""

    def __init__(
        self,
        conversations: Conversations,
        receiver: Receiver,
        heads: Heads,
        sender: Sender,
        cursors: Cursors,
        requests: Requests,
    ) -> None:
        self._conversations = conversations
        self._receiver = receiver
        self._heads = heads
        self._sender = sender
        self._cursors = cursors
        self._requests = requests

    def received(self, events: Sequence[ev.ServerEvent]) -> list[ConnectionNotice]:
        """Apply the events of one frame, in order and as one batch.

        Returns:
            Those that concern the connection.
        """
        notices: list[ConnectionNotice] = []
        decoded = [
            self._receiver.readable(event) if isinstance(event, ev.NewMsg) else None for event in events
        ]
        with self._receiver.batch() as batch:
            for event, message in zip(events, decoded, strict=True):
                if isinstance(event, ev.TokenExpiring | ev.GoAway):
                    notices.append(event)
                elif not self._requests.answered(event) or isinstance(event, ev.MsgAck):
                    self._one(batch, event, message)
        return notices

    def _one(self, batch: Batch, event: ev.ServerEvent, message: Message | None) -> None:
        match event:
            case ev.NewMsg():
                self._heads.proved_member(event.conversation_id)
                self._receiver.new_message(batch, event, message)
            case ev.MsgAck(client_msg_id=str()):
                self._receiver.acked(batch, event)
            case ev.MsgAck():  # of a recall: its own entry is to be pulled
                id_, epoch, seq = event.conversation_id, event.epoch, event.seq
                self._receiver.known_head(batch, id_, epoch, seq, proves=False)
            case ev.Behind():
                self._heads.proved_member(event.conversation_id)
                self._receiver.known_head(batch, event.conversation_id, event.epoch, event.head_seq)
            case ev.Heads():
                self._heads.page(batch, event)
            case ev.ConversationPush():
                self._heads.changed(batch, event)
            case ev.ReceiptPush():
                self._receipt(batch, event)
            case ev.TypingPush():
                batch.events.append(Typing(event.conversation_id, event.user_id))
            case ev.ErrorEvent():
                self._error(batch, event)

    def _receipt(self, batch: Batch, event: ev.ReceiptPush) -> None:
        conversation = self._conversations.get(event.conversation_id)
        if conversation is None:
            return  # the heads that are on their way carry the same fact
        told = receipts.heard(conversation, event, self._receiver.user_id)
        if told is not None:
            batch.events.append(told)

    def _error(self, batch: Batch, event: ev.ErrorEvent) -> None:
        if self._sender.refused(batch, event):
            return
        if event.ref in (DELIVERED_REF, READ_REF) and isinstance(event.conversation_id, str):
            conversation = self._conversations.get(event.conversation_id)
            held = conversation.timeline.prefix if conversation is not None else 0
            self._cursors.refused(event, event.conversation_id, held)
        else:  # typing, or a request whose caller has gone
            logger.info("the server refused something nobody waits for: %s", event.code)
