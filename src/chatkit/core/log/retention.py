"""How long entries are kept, and their end. For each command: what it needs, and what it does."""

from __future__ import annotations

from .audit import note
from .commands import Expire, SetRetention
from .keys import Keys
from .outcomes import Done
from .state import State


def keys_of_retention(keys: Keys, command: SetRetention | Expire) -> None:
    """The conversation."""
    keys.conversations.add(command.conversation_id)


def set_retention(state: State, command: SetRetention) -> Done:
    """Say how long entries are kept from now on."""
    conversation = state.find(command.conversation_id)
    state.retentions[conversation.key] = command.keep_ms
    subject = "default" if command.keep_ms is None else f"{command.keep_ms} ms"
    note(state, conversation, command.at_ms, command.by, "RETENTION_CHANGED", subject)
    return Done()


def expire(state: State, command: Expire) -> Done:
    """Raise the floor below which nothing can be read; the head stays above it."""
    conversation = state.find(command.conversation_id)
    floor_seq = min(command.up_to_seq, conversation.head_seq - 1)
    if floor_seq > conversation.floor_seq:
        conversation.floor_seq = state.floors[conversation.key] = floor_seq
        note(state, conversation, command.at_ms, command.by, "EXPIRED", str(floor_seq))
    return Done()
