"""One event for many sessions: encoded once per codec, offered to each. Never waits for a socket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ...storage.base import Entry
from ...wire import events as ev
from ...wire.codec import Codec
from ..entries import new_msg
from ..session import Session

DELIVERIES_PER_TURN: Final = 10_000
"""Pushes after which the event loop gets its turn: about 3 ms of queueing, and the writes that follow from it.

What is pushed to a session in one turn leaves in one frame, so shorter turns cost more. In a group of 500, turns of
2,000 pushes made four frames out of one, at twice the CPU for a delivery.
"""


def push_entry(entry: Entry, sessions: Iterable[Session], origin: Session | None) -> None:
    """Offer a stored entry to sessions of its conversation.

    The one that sent it has its answer instead; only the sender's own sessions learn the clientMsgId.
    """
    conversation_id, seq, sender_id = entry.conversation_id, entry.seq, entry.sender_id
    encoded: dict[Codec, bytes] = {}
    for session in sessions:
        if session is origin:
            session.last_pushed_seq[conversation_id] = seq
        elif session.user_id == sender_id:
            session.push(new_msg(entry, session.codec, own=True), conversation_id, seq)
        else:
            push = encoded.get(session.codec)
            if push is None:
                push = encoded[session.codec] = new_msg(entry, session.codec, own=False)
            session.push(push, conversation_id, seq)


def push_run(entries: Sequence[Entry], sessions: Iterable[Session], origin: Session) -> None:
    """As `push_entry` of each, for entries that follow each other and were all sent by one session."""
    name, first_seq, last_seq = entries[0].conversation_id, entries[0].seq, entries[-1].seq
    encoded: dict[tuple[Codec, bool], tuple[list[bytes], int]] = {}
    for session in sessions:
        if session is origin:
            session.last_pushed_seq[name] = last_seq
            continue
        key = session.codec, session.user_id == origin.user_id
        run = encoded.get(key)
        if run is None:
            pushes = [new_msg(it, session.codec, own=key[1]) for it in entries]
            run = encoded[key] = pushes, sum(map(len, pushes))
        session.push_run(*run, name, first_seq)


def push_presence(event: ev.PresencePush, sessions: Iterable[Session]) -> None:
    """Offer what became of a user; a session whose buffer is full does not get it, and may ask."""
    encoded: dict[Codec, bytes] = {}
    for session in sessions:
        push = encoded.get(session.codec)
        if push is None:
            push = encoded[session.codec] = session.codec.encode(event)
        session.offer(push)


def push_volatile(
    event: ev.ReceiptPush | ev.TypingPush | ev.StreamPartPush | ev.ConversationPush,
    sessions: Iterable[Session],
) -> None:
    """Offer an event that may be lost."""
    encoded: dict[Codec, bytes] = {}
    for session in sessions:
        push = encoded.get(session.codec)
        if push is None:
            push = encoded[session.codec] = session.codec.encode(event)
        session.push_volatile(push, event.conversation_id)
