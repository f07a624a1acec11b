"""What happens to open streams: a part more, the end by the server. For each command: what it needs, what it does."""

from __future__ import annotations

from ...errors import (
    ConflictError,
    PartOutOfOrderError,
    StreamEndedError,
    TooLargeError,
)
from ...wire.events import STREAM_AGE_MAX_S, STREAM_BYTES_MAX, STREAM_PARTS_MAX
from . import rules, stream_rows
from .commands import AppendPart, EndStream
from .keys import Keys
from .messages import add_entry, check_may_write, entry_of, find_message, keys_of_message
from .outcomes import Appended, PartAppended
from .references import note_reference, reference_of
from .state import ConversationState, MessageRow, State, StreamRow


def keys_of_part(keys: Keys, command: AppendPart) -> None:
    """The message, its stream, and the author's membership."""
    place = keys_of_message(keys, command.message_id, None)
    if place is not None:
        keys.edited.add(place)
    keys.conversations.add(command.conversation_id)
    keys.members.add((command.conversation_id, command.sender_id))


def append_part(state: State, command: AppendPart) -> PartAppended:
    """Keep the next part, or find that it is there; the author was heard of either way."""
    named = state.find(command.conversation_id)
    if not state.membership(named, command.sender_id).is_current:
        raise rules.not_found()
    conversation, row = find_message(state, command.message_id)
    if conversation is not named:
        raise rules.not_found()
    stream = _open_stream(state, conversation, row, command)
    is_new = command.part > stream.parts
    stream = _grown(state, stream, command) if is_new else stream
    stream = stream._replace(at_ms=max(stream.at_ms, command.at_ms))
    place = (conversation.key, row.seq)
    state.streams[place] = state.changed_streams[place] = stream
    return PartAppended(
        conversation.conversation_id,
        conversation.epoch,
        command.message_id,
        row.seq,
        stream.parts,
        conversation.head_seq,
        not is_new,
    )


def _open_stream(
    state: State, conversation: ConversationState, row: MessageRow, command: AppendPart
) -> StreamRow:
    """The stream, if it is the sender's own and they may write there now."""
    if row.sender_id != command.sender_id:
        raise rules.not_found()  # whoever may see it has it from the log
    place = (conversation.key, row.seq)
    stream = state.streams[place]
    if place in state.recalled:
        raise StreamEndedError("the message was recalled", reason="RECALLED")
    if stream is None:
        raise StreamEndedError("no stream is open here")
    if stream.at_ms == stream_rows.END_REFUSED_MS:
        raise StreamEndedError("its end was refused, and the server ends it")
    if command.at_ms - row.server_ts > STREAM_AGE_MAX_S * 1000:
        raise StreamEndedError(f"a stream takes parts for {STREAM_AGE_MAX_S} s; send its end")
    check_may_write(state, conversation, command.sender_id, command.policy, command.at_ms)
    return stream


def _grown(state: State, stream: StreamRow, command: AppendPart) -> StreamRow:
    expected = stream.parts + 1
    if command.part != expected:
        raise PartOutOfOrderError(f"part {expected} comes next", expected_part=expected)
    size = stream.size + command.size
    if expected > STREAM_PARTS_MAX or size > STREAM_BYTES_MAX:
        raise TooLargeError(
            f"a stream takes {STREAM_PARTS_MAX} parts and {STREAM_BYTES_MAX} bytes; the rest comes with its end"
        )
    state.new_parts.append((stream.conversation_key, stream.seq, expected, command.text))
    return stream._replace(parts=expected, size=size)


def keys_of_end(keys: Keys, command: EndStream) -> None:
    """The message and its stream, and whether the key is known."""
    place = keys_of_message(keys, command.message_id, None)
    if place is not None:
        keys.edited.add(place)
    keys.conversations.add(command.conversation_id)
    keys.sent.add((command.conversation_id, command.author_id, command.client_msg_id))


def end_stream(state: State, command: EndStream) -> Appended:
    """End a stream of which nothing was heard for long, by an EDIT entry as its author would write it."""
    conversation, row = find_message(state, command.message_id)
    stream = state.streams[conversation.key, row.seq]
    if stream is None or stream.at_ms > command.idle_ms or stream.parts != command.parts:
        raise ConflictError("the stream has ended, or goes on")
    reference = reference_of(command.payload)
    assert reference is not None, "the server made it"
    if state.sent[command.conversation_id, row.sender_id, command.client_msg_id] is not None:
        raise ConflictError("a message of the author has this key")
    values = (row.sender_id, command.payload, command.at_ms, command.client_msg_id, command.payload_mac)
    made = add_entry(state, conversation, "EDIT", *values)
    note_reference(state, conversation.key, row.sender_id, reference, made.seq)
    state.sent[command.conversation_id, row.sender_id, command.client_msg_id] = made
    return Appended(entry_of(conversation, made, command.payload), False)
