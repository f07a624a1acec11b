"""What a device is told about a conversation: which message, and in which words. No I/O is here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ...storage.base import Claim, EntryMark, PushTarget
from ...types import ConversationType

ENTRIES_MAX: Final = 50
"""Newest messages and recalls of a conversation among which the one to tell of is looked for."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is to be told: one message that stands for all that it missed in a conversation.

    Attributes:
        message_id: Of that message: the newest one of others that the user has not read and the device not confirmed.
        payload: As it reads now: the newest edit, and of a streamed message the text so far; without its words (`type`
            only) where they are hidden.
        count: How many such messages there are among the newest ones.
        recalled: Whether the message of an earlier push was recalled, and this one is what is left to be told.
            Then, if nothing is, it is about the recall, and `payload` is that of a recalled message.
        hide_body: Whether the words are hidden.
        mentioned: Whether one of these messages mentions the user.
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
    mentioned: bool = False


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
    if notice.payload["type"] == "RECALLED":
        return PushText(title, "A message was withdrawn")
    kind = notice.payload["type"]
    untold = "…" if kind == "STREAM" else f"[{kind}]"  # a stream that has no text yet
    words = notice.payload.get("text") or notice.payload.get("fallbackText") or untold
    return PushText(title, f"{notice.sender_id}: {words}" if is_group else str(words))


class Choice(msgspec.Struct, frozen=True):
    """What a device is to be told.

    Attributes:
        about: The message; or, where nothing is left to be told of, the entry that recalled one.
        count: As in `Notice`.
        recalled_by: The newest entry that recalled a message of an earlier push; 0 for none.
        mentioned: As in `Notice`.
    """

    about: EntryMark
    count: int
    recalled_by: int
    mentioned: bool = False

    @property
    def is_withdrawal(self) -> bool:
        """Whether all there is to tell is that a message was recalled."""
        return self.about.kind == "RECALL"


def choose(claim: Claim, target: PushTarget, marks: Sequence[EntryMark], push_after_ms: int) -> Choice | None:
    """What to tell a device; None: nothing.

    Args:
        claim: What is new.
        target: The device, and how far it has got.
        marks: The newest messages and recalls of the conversation, ascending; where only mentions wake, what mentions.
        push_after_ms: How long an entry is left to the sockets.
    """
    after = max(target.read_seq, target.delivered_seq, target.join_seq - 1)
    missing = [
        it for it in marks if it.seq > after and it.seq not in target.exact and it.sender_id != target.user_id
    ]
    unread = [it for it in missing if it.kind == "USER" and not it.is_recalled]
    mentioning = [it for it in unread if it.seq in target.mentioned]
    if (
        target.only_mentions
    ):  # whom a message mentioned that was recalled is not known any more: nothing is withdrawn
        unread, missing = mentioning, []
    sent_ms = {it.seq: it.server_ts for it in marks}
    withdrawn = [it for it in missing if _withdraws(claim, it, after, sent_ms, push_after_ms)]
    if not withdrawn and not any(it.seq > claim.after_seq for it in unread):
        return None
    recalled_by = withdrawn[-1].seq if withdrawn else 0
    about = unread[-1] if unread else withdrawn[-1]
    return Choice(about, len(unread), recalled_by, bool(mentioning))


def _withdraws(
    claim: Claim, mark: EntryMark, after: int, sent_ms: Mapping[int, int], push_after_ms: int
) -> bool:
    """Whether an entry recalls a message that the device may have been pushed before: one that was due by then.

    An earlier try may have pushed more than is finished: there may have been no answer, or the worker died.
    """
    seq = mark.recalls_seq
    may_be_pushed = mark.seq if claim.attempt > 1 else claim.after_seq
    if seq is None or mark.seq <= claim.after_seq or not after < seq <= may_be_pushed:
        return False
    return seq not in sent_ms or mark.server_ts >= sent_ms[seq] + push_after_ms


def notice_of(
    claim: Claim, target: PushTarget, choice: Choice, payload: bytes, *, hide_body: bool = False
) -> Notice:
    """What to put into words.

    Args:
        claim: What is new.
        target: The device.
        choice: What to tell it.
        payload: Of the message, as it reads now.
        hide_body: Whether words are hidden, whatever the device asked for.
    """
    hidden = hide_body or target.hide_body
    decoded = _decode(payload)
    return Notice(
        user_id=target.user_id,
        device_id=target.device_id,
        conversation_id=claim.conversation_id,
        conversation_type=claim.type,
        title=claim.title,
        sender_id=choice.about.sender_id,
        message_id=choice.about.message_id,
        sent_at_ms=choice.about.server_ts,
        payload={"type": decoded["type"]} if hidden else decoded,
        count=choice.count,
        recalled=choice.recalled_by > 0,
        hide_body=hidden,
        mentioned=choice.mentioned,
    )
