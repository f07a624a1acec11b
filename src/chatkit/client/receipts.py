"""How far the others have got, from RECEIPT events and heads; and what that says of one's own messages."""

from __future__ import annotations

from ..types import MessageStatus, Receipt
from ..wire import events as ev
from .conversations import Conversation
from .events import ChatEvent, ReceiptChanged, ReceiptCounts


def heard(conversation: Conversation, event: ev.ReceiptPush, user_id: str) -> ChatEvent | None:
    """Take note of a RECEIPT. Returns what the app is told."""
    if isinstance(event.user_id, str):
        return _one(conversation, event, user_id)
    return _counted(conversation, event)


def rise(conversation: Conversation, delivered_seq: int, read_seq: int) -> ReceiptChanged | None:
    """Take note of how far the least of all other members has got. Returns what the app is told, if it rose."""
    delivered_seq, read_seq = max(delivered_seq, read_seq), read_seq
    known = (conversation.others_delivered_seq, conversation.others_read_seq)
    conversation.others_delivered_seq = max(known[0], delivered_seq)
    conversation.others_read_seq = max(known[1], read_seq)
    if known == (conversation.others_delivered_seq, conversation.others_read_seq):
        return None
    least = Receipt(conversation.id, "", conversation.others_delivered_seq, conversation.others_read_seq)
    return ReceiptChanged(least)


def state(conversation: Conversation | None, seq: int) -> MessageStatus:
    """SENT, DELIVERED or READ of one's own message, as far as this device has heard."""
    if conversation is None:
        return "SENT"
    if conversation.others_read_seq >= seq:
        return "READ"
    return "DELIVERED" if conversation.others_delivered_seq >= seq else "SENT"


def _one(conversation: Conversation, event: ev.ReceiptPush, own_id: str) -> ChatEvent:
    delivered_seq = event.delivered_seq if isinstance(event.delivered_seq, int) else 0
    read_seq = event.read_seq if isinstance(event.read_seq, int) else 0
    if event.user_id == own_id:
        conversation.read_seq = max(conversation.read_seq, read_seq)
    elif conversation.type == "SINGLE":
        rise(conversation, delivered_seq, read_seq)  # the one other member is the least of them
    return ReceiptChanged(Receipt(conversation.id, str(event.user_id), delivered_seq, read_seq))


def _counted(conversation: Conversation, event: ev.ReceiptPush) -> ChatEvent | None:
    seq, delivered, read, members = event.seq, event.delivered_count, event.read_count, event.member_count
    if not (isinstance(seq, int) and isinstance(delivered, int) and isinstance(read, int)):
        return None
    if not isinstance(members, int):
        return None
    if members and delivered >= members:
        rise(conversation, seq, seq if read >= members else 0)
    return ReceiptCounts(conversation.id, seq, delivered, read, members)
