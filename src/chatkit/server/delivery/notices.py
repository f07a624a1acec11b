"""What a device is told about a conversation: which message, and in which words. No I/O is here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from ...storage.base import Claim, Entry, PushTarget
from ...types import ConversationType
from ...wire.payload import RECALLED

ENTRIES_MAX: Final = 50
"""Newest entries of a conversation among which the message to tell of is looked for."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is to be told: one message that stands for all that it missed in a conversation.

    Attributes:
        message_id: Of that message: the newest one of others that the user has not read and the device not confirmed.
        payload: As it was sent; without its words (`type` only) where they are hidden.
        count: How many such messages there are among the newest entries.
        recalled: Whether the message of an earlier push was recalled, and this one is what is left to be told.
            Then, if nothing is, it is about the recall, and `payload` is that of a recalled message.
        hide_body: Whether the words are hidden.
    """

    user_id: str
    device_id: str
    conversation_id: str
    conversation_type: ConversationType
    title: str
    sender_id: str
    message_id: str
    sent_at_ms: int
    payload: dict[str, Any]
    count: int
    recalled: bool
    hide_body: bool


class PushText(msgspec.Struct, frozen=True):
    """The words of a push; None for none. Without any the app is woken, and nothing is shown."""

    title: str | None = None
    body: str | None = None


Compose = Callable[[Notice], Awaitable[PushText]]
"""Puts a notice into words: display names, the user's language. It is given 10 seconds."""


async def plain_words(notice: Notice) -> PushText:
    """The words of a host that gives none of its own: ids for names, in English."""
    is_group = notice.conversation_type == "GROUP"
    title = (notice.title or notice.conversation_id) if is_group else notice.sender_id
    if notice.hide_body:
        return PushText(title)
    if notice.payload == {"type": "RECALLED"}:
        return PushText(title, "A message was withdrawn")
    words = notice.payload.get("text") or notice.payload.get("fallbackText") or f"[{notice.payload['type']}]"
    return PushText(title, f"{notice.sender_id}: {words}" if is_group else str(words))


def first_needed(claim: Claim) -> int:
    """The entries that a notice is made of come after this seq."""
    return max(0, claim.head_seq - ENTRIES_MAX)


def notice_of(
    claim: Claim, target: PushTarget, entries: Sequence[Entry], *, hide_body: bool = False
) -> tuple[Notice, int] | None:
    """What to tell a device, and the seq of the message that it is about; None: nothing.

    Args:
        claim: What is new.
        target: The device, and how far it has got.
        entries: The newest of the conversation, ascending, with their `client_msg_id`.
        hide_body: Whether words are hidden, whatever the device asked for.
    """
    after = _missing_after(target)
    missing = [it for it in entries if it.seq > after and it.seq not in target.exact]
    unread = [it for it in missing if _is_others(it, target.user_id) and it.payload != RECALLED]
    recalled = _recalled_before(claim, target.user_id, missing, after)
    is_news = any(it.seq > claim.after_seq for it in unread)
    if not is_news and recalled is None:
        return None
    about = unread[-1] if unread else recalled
    assert about is not None, "without a message there is a recall"
    hidden = hide_body or target.hide_body
    payload = _decode(about.payload) if unread else {"type": "RECALLED"}
    notice = Notice(
        user_id=target.user_id,
        device_id=target.device_id,
        conversation_id=claim.conversation_id,
        conversation_type=claim.type,
        title=claim.title,
        sender_id=about.sender_id,
        message_id=about.message_id,
        sent_at_ms=about.server_ts,
        payload={"type": payload["type"]} if hidden else payload,
        count=len(unread),
        recalled=recalled is not None,
        hide_body=hidden,
    )
    return notice, about.seq


def _missing_after(target: PushTarget) -> int:
    return max(target.read_seq, target.delivered_seq, target.join_seq - 1)


def _is_others(entry: Entry, user_id: str) -> bool:
    """Whether it is a message of somebody else; what the server made has no key."""
    return entry.client_msg_id is not None and entry.sender_id != user_id


def _recalled_before(claim: Claim, user_id: str, missing: Sequence[Entry], after: int) -> Entry | None:
    """The newest recall, by its author, of a message that the device may have been pushed before."""
    for entry in reversed(missing):
        if entry.seq > claim.after_seq and entry.client_msg_id is None and entry.sender_id != user_id:
            payload = _decode(entry.payload)
            if payload["type"] == "RECALL" and after < payload["seq"] <= claim.after_seq:
                return entry
    return None
