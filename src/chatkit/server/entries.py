"""From a stored entry to what travels: one place for NEW_MSG and for the rows of a page."""

from __future__ import annotations

from sys import intern  # `omit_defaults` compares words by identity
from typing import TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from ..storage.base import Append, Appended, Command, Entry, ListedHead, Page, Recalled, StoredEdit
from ..types import Notify, Sent
from ..wire import events as ev
from ..wire.codec import Codec
from ..wire.payload import RECALLED

_LoggedT = TypeVar("_LoggedT", ev.NewMsg, ev.LogEntry)


def new_msg(entry: Entry, codec: Codec, *, own: bool) -> bytes:
    """A NEW_MSG encoded for one codec; `own` for the sender's own connections, which learn the clientMsgId."""
    return codec.encode(_logged(ev.NewMsg, entry, codec, entry.client_msg_id if own else None))


def log_entries(page: Page, codec: Codec) -> list[ev.LogEntry]:
    """The entries of a page as they travel."""
    return [log_entry(entry, codec) for entry in page.entries]


def log_entry(entry: Entry, codec: Codec) -> ev.LogEntry:
    """One entry as it travels, with what was said of it later."""
    listed = _logged(ev.LogEntry, entry, codec, entry.client_msg_id)
    if entry.edit is None and not entry.reactions and entry.stream is None:
        return listed
    stream = entry.stream
    return replace(
        listed,
        edit=UNSET if entry.edit is None else _edit(entry.edit, codec),
        reactions=[ev.EntryReactions(it.reaction, it.count, list(it.user_ids)) for it in entry.reactions]
        or UNSET,
        stream=UNSET if stream is None else ev.EntryStream(stream.parts, stream.text),
    )


def _edit(edit: StoredEdit, codec: Codec) -> ev.EntryEdit:
    payload = codec.raw(edit.payload) if edit.payload else UNSET
    return ev.EntryEdit(edit.seq, edit.server_ts, payload, edit.ends or UNSET)


def _logged(kind: type[_LoggedT], entry: Entry, codec: Codec, client_msg_id: str | None) -> _LoggedT:
    return kind(
        conversation_id=entry.conversation_id,
        epoch=entry.epoch,
        message_id=entry.message_id,
        seq=entry.seq,
        sender_id=entry.sender_id,
        server_ts=entry.server_ts,
        payload=codec.raw(entry.payload),
        client_msg_id=UNSET if client_msg_id is None else client_msg_id,
    )


def stored_instead(command: Command, outcome: Appended | Recalled) -> bytes | None:
    """The payload that a moderator had stored in place of the one that was sent; None if it did not.

    Of a message that was recalled meanwhile nobody need be told, nor of one whose body is not at hand any more.
    """
    if type(command) is Append and not outcome.repeat:
        return None  # nobody came between
    if not isinstance(command, Append) or outcome.entry.payload in (command.payload, RECALLED, b""):
        return None
    return outcome.entry.payload


def sent_of(command: Append, outcome: Appended) -> Sent:
    """What is answered to the sender of a message."""
    entry, instead = outcome.entry, stored_instead(command, outcome)
    return Sent(
        entry.conversation_id,
        command.client_msg_id,
        entry.message_id,
        entry.seq,
        entry.server_ts,
        entry.epoch,
        None if instead is None else msgspec.json.decode(instead),
    )


def notify_of(muted_until_ms: int, but_mentions: bool) -> Notify:
    """What of a conversation wakes a user, as long as it is muted; everything where it is not."""
    if not muted_until_ms:
        return "ALL"
    return "MENTIONS" if but_mentions else "NONE"


def head_event(head: ListedHead) -> ev.Head:
    """A conversation as HEADS lists it."""
    return ev.Head(
        head.conversation_id,
        head.type,
        head.epoch,
        head.head_seq,
        head.first_seq,
        head.delivered_seq,
        head.read_seq,
        head.others_delivered_seq,
        head.others_read_seq,
        intern(head.title),
        head.last_activity_ms,
        head.muted_until_ms,
        notify_of(head.muted_until_ms, head.but_mentions),
    )
