"""What `ChatApi` returns: the bodies of the contract, and pages with their payloads decoded."""

from __future__ import annotations

import msgspec

from ..types import Message
from ..wire.http import (
    ConversationResult,
    ConversationRow,
    ConversationsResult,
    DeliveryRow,
    MembersChangedResult,
    MembersResult,
    ReceiptRow,
    ReceiptsResult,
    StatusResult,
)

Conversation = ConversationResult
ConversationPage = ConversationsResult
Delivery = DeliveryRow
MemberPage = MembersResult
MembersChanged = MembersChangedResult
ReceiptPage = ReceiptsResult
Status = StatusResult

__all__ = [
    "Conversation",
    "ConversationPage",
    "ConversationRow",
    "Delivery",
    "MemberPage",
    "MembersChanged",
    "MessagePage",
    "ReceiptPage",
    "ReceiptRow",
    "Status",
]


class MessagePage(msgspec.Struct, frozen=True):
    """Entries of a log that are visible to the caller, ascending.

    Attributes:
        conversation_id: The conversation.
        epoch: Identity of the log.
        head_seq: Its highest seq when the page was made.
        messages: The entries; a seq up to `up_to_seq` that is missing is not visible.
        up_to_seq: End of the page; the next one starts after it.
        more: Whether the log goes on.
    """

    conversation_id: str
    epoch: str
    head_seq: int
    messages: list[Message]
    up_to_seq: int
    more: bool
