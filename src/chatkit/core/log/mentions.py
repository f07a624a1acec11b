"""Whom a message mentions: users by id, or everybody. What that needs, and what is kept of it beside the log.

Kept is a row for each member who is mentioned, at the entry that did it: the message, or the edit that added somebody.
Unread mentions are counted by these. Called by `meaning` and `importing`. Why it is so:
docs/design/0034-mentions-pins-titles.md.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from ...wire.payload import EVERYBODY
from ..policy import Policy
from . import rules
from .keys import Keys
from .state import ConversationState, Place, State


class _Message(msgspec.Struct):
    mentions: frozenset[str] | UnsetType = UNSET


class _Edit(msgspec.Struct):
    payload: _Message


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_edit = msgspec.json.Decoder(_Edit).decode


def mentions_of(payload: bytes, *, is_edit: bool) -> frozenset[str]:
    """Whom a checked payload mentions, of an EDIT what it puts in the place of a message; nobody in nearly all."""
    if b'"mentions":' not in payload:
        return frozenset()
    said = _decode_edit(payload).payload if is_edit else _decode_message(payload)
    return said.mentions if isinstance(said.mentions, frozenset) else frozenset()


def keys_of_mentions(
    keys: Keys, conversation_id: str, sender_id: str, mentions: frozenset[str], edited: Place | None
) -> None:
    """Who of them is a member, and whom an edited message mentions already."""
    keys.members.add((conversation_id, sender_id))
    keys.members.update((conversation_id, user_id) for user_id in mentions if user_id != EVERYBODY)
    if edited is not None:
        keys.mentioned.add(edited)


def check_mentions(
    state: State,
    conversation: ConversationState,
    sender_id: str,
    mentions: frozenset[str],
    edited: Place | None,
    policy: Policy,
) -> None:
    """Whether the sender may mention everybody, if they do and the message did not before. Raises ForbiddenError."""
    if EVERYBODY in mentions and (edited is None or EVERYBODY not in state.mentioned[edited]):
        role = state.membership(conversation, sender_id).role
        rules.check_allowed(policy, role, "MENTION_EVERYBODY", None, conversation.type)


def note_mentions(
    state: State,
    conversation: ConversationState,
    sender_id: str,
    mentions: frozenset[str],
    edited: Place | None,
    seq: int,
) -> None:
    """The entry at `seq` is stored: keep whom of the members it mentions whom the message did not mention before.

    Who is no member at this point, and the sender, are not mentioned, whatever the payload says. Where everybody is,
    nobody is by name.
    """
    if EVERYBODY in mentions:
        named = {EVERYBODY}
    else:
        named = {
            user_id
            for user_id in mentions
            if user_id != sender_id and state.membership(conversation, user_id).is_current
        }
    if edited is not None:
        named -= state.mentioned[edited]
        state.mentioned[edited] |= named
    elif conversation.created_ms is not None or (conversation.key, seq) in state.mentioned:
        state.mentioned[conversation.key, seq] = named  # this batch may hold an edit of it
    state.new_mentions.extend((conversation.key, user_id, seq) for user_id in sorted(named))
