"""What a message does to a log besides being its next entry: it edits, reacts to, pins or answers an earlier one,
mentions members, gives the group a title, or begins a stream. Nearly all do none of it.

One place for the flows of `messages` and `moderation`: what such a message needs, whether it may, and what is kept.
"""

from __future__ import annotations

import msgspec

from ..policy import Policy
from . import rules, stream_rows
from .audit import AuditAction, note
from .keys import Keys
from .mentions import check_mentions, keys_of_mentions, mentions_of, note_mentions
from .outcomes import message_place
from .references import Reference, check_reference, keys_of_reference, note_reference, reference_of
from .state import ConversationState, MessageRow, Place, State
from .titles import Titled, check_titled, note_titled, titled_by


class Meaning(msgspec.Struct, frozen=True, gc=False):
    """What a message does.

    Attributes:
        reference: What it says of an earlier message.
        titled: What the group is called from now on.
        mentions: Users whom it mentions, or everybody (`*`).
        streamed: The text that a stream begins with.
    """

    reference: Reference | None
    titled: Titled | None
    mentions: frozenset[str]
    streamed: str | None = None

    @property
    def kind(self) -> rules.Kind:
        """What kind of entry the message is."""
        if self.titled is not None:
            return "TITLE"
        if self.reference is None or self.reference.kind == "REPLY":
            return "USER"
        return self.reference.kind

    @property
    def is_edit(self) -> bool:
        """Whether it is an EDIT."""
        return self.reference is not None and self.reference.kind == "EDIT"


def meaning_of(payload: bytes, edit_window_ms: int | None = None) -> Meaning | None:
    """What a checked payload does; None for nearly all.

    Args:
        payload: Canonical JSON of `wire.payload.canonical`.
        edit_window_ms: How long after a message was stored an EDIT of it may come; None: for ever.
    """
    reference, titled = reference_of(payload, edit_window_ms), titled_by(payload)
    is_edit = reference is not None and reference.kind == "EDIT"
    mentions, streamed = mentions_of(payload, is_edit=is_edit), stream_rows.first_text(payload)
    if reference is None and titled is None and not mentions and streamed is None:
        return None
    return Meaning(reference, titled, mentions, streamed)


def keys_of_meaning(keys: Keys, conversation_id: str, sender_id: str, meaning: Meaning) -> None:
    """What the log must show of what is named."""
    if meaning.reference is not None:
        keys_of_reference(keys, conversation_id, sender_id, meaning.reference)
    if meaning.titled is not None:
        keys.descriptions.add(conversation_id)
    if meaning.streamed is not None:
        keys.streamers.add(sender_id)
    if meaning.mentions:
        edited = None
        if meaning.is_edit and meaning.reference is not None:
            place = message_place(meaning.reference.message_id)
            edited = None if place is None else (place[0], place[2])
        keys_of_mentions(keys, conversation_id, sender_id, meaning.mentions, edited)


def check_meaning(
    state: State,
    conversation: ConversationState,
    sender_id: str,
    meaning: Meaning,
    policy: Policy,
    at_ms: int,
) -> None:
    """Whether a member who may write may do this.

    Raises:
        RateLimitedError: Nothing but the bound on open streams is in the way.
        RefusedError: It may not.
    """
    if meaning.reference is not None:
        check_reference(state, conversation, sender_id, meaning.reference, policy, at_ms)
    if meaning.titled is not None:
        check_titled(state, conversation, sender_id, policy)
    if meaning.mentions:
        edited = _edited(conversation, meaning)
        check_mentions(state, conversation, sender_id, meaning.mentions, edited, policy)
    if meaning.streamed is not None:
        stream_rows.check_room(state, sender_id)


def note_meaning(state: State, conversation: ConversationState, meaning: Meaning, row: MessageRow) -> None:
    """The message is stored: keep what it does, which was checked."""
    by, at_ms, reference = row.sender_id, row.server_ts, meaning.reference
    if reference is not None:
        changed = note_reference(state, conversation.key, by, reference, row.seq)
        if changed and reference.kind == "PINNED":
            pinned: AuditAction = "UNPINNED" if reference.removed else "PINNED"
            note(state, conversation, at_ms, by, pinned, reference.message_id)
    if meaning.titled is not None:
        for action, subject in note_titled(state, conversation, meaning.titled):
            note(state, conversation, at_ms, by, action, subject)
    if meaning.streamed is not None:
        stream_rows.begin(state, row, meaning.streamed)
    if meaning.mentions:
        edited = _edited(conversation, meaning)
        note_mentions(state, conversation, by, meaning.mentions, edited, row.seq)


def _edited(conversation: ConversationState, meaning: Meaning) -> Place | None:
    if meaning.reference is None or not meaning.is_edit:
        return None
    return conversation.key, meaning.reference.seq
