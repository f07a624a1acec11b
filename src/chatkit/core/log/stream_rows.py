"""Open streams, as a batch sees them: begun by a message of the type STREAM, and ended by whatever ends it.

While a stream is open its text is kept beside the log, part by part; what ends it takes that away in the same
transaction. Called by `meaning`, `messages`, `importing`, `references` and `streams`. Why it is so:
docs/design/0033-streamed-messages.md.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ...errors import RateLimitedError
from ...wire.events import STREAM_BYTES_MAX
from ...wire.payload import text_bytes
from .keys import Keys
from .state import MessageRow, Place, State, StreamRow

OPEN_MAX: Final = 100
"""Streams that one user has open at once, in all conversations."""

END_REFUSED_MS: Final = 0
"""When the author of a stream was last heard of whose end a moderator refused: the server ends it at its next look."""

_RETRY_S: Final = 5.0
_TYPE: Final = b'"type":"STREAM"'


class _Typed(msgspec.Struct):
    type: str


class _Stream(msgspec.Struct):
    text: str


_decode_type = msgspec.json.Decoder(_Typed).decode
_decode_stream = msgspec.json.Decoder(_Stream).decode


def is_stream(payload: bytes) -> bool:
    """Whether a message is of the type STREAM, open or ended.

    Args:
        payload: Canonical JSON of `wire.payload.canonical`.
    """
    return _TYPE in payload and _decode_type(payload).type == "STREAM"


def first_text(payload: bytes) -> str | None:
    """The text that a STREAM begins with; None for any other message.

    Args:
        payload: Canonical JSON of `wire.payload.canonical`.
    """
    return _decode_stream(payload).text if is_stream(payload) else None


def keys_of_written(state: State, row: MessageRow, more: Keys) -> None:
    """Of a stream that has ended, its end."""
    if is_stream(row.payload):
        key = row.conversation_key
        more.places.update((key, edit_seq) for edit_seq in state.edits[key, row.seq][:1])


def written_ms(state: State, row: MessageRow, at_ms: int) -> int:
    """When its author had written it: as it was stored; a stream as it ended, and not before now while it is open."""
    place = (row.conversation_key, row.seq)
    if state.streams[place] is not None:
        return at_ms
    edits = state.edits[place]
    if not edits or not is_stream(row.payload):
        return row.server_ts
    end = state.places.get((row.conversation_key, edits[0]))
    return at_ms if end is None else end.server_ts  # without one, it ended in this batch


def check_room(state: State, user_id: str) -> None:
    """Raises RateLimitedError if a user has as many streams open as one may have."""
    if state.stream_counts[user_id] >= OPEN_MAX:
        raise RateLimitedError(f"{OPEN_MAX} streams of this user are open", retry_after_s=_RETRY_S)


def begin(state: State, row: MessageRow, text: str) -> None:
    """The message was stored just now: it takes parts from here on."""
    place = (row.conversation_key, row.seq)
    size = text_bytes(text, STREAM_BYTES_MAX)
    state.streams[place] = state.changed_streams[place] = StreamRow(
        *place, row.sender_id, 0, size, row.server_ts
    )
    state.new_parts.append((*place, 0, text))
    state.stream_counts[row.sender_id] += 1


def end_refused(state: State, place: Place) -> None:
    """The end of the stream at a place, if one is open there, was refused: it takes no parts, for they are in it."""
    stream = state.streams.get(place)
    if stream is not None:
        state.streams[place] = state.changed_streams[place] = stream._replace(at_ms=END_REFUSED_MS)


def end(state: State, place: Place) -> None:
    """The stream at a place, if one is open there, takes no parts any more, and what was kept of it goes."""
    stream = state.streams[place]
    if stream is None:
        return
    state.streams[place] = None
    state.ended_streams.append(place)
    if stream.user_id in state.stream_counts:
        state.stream_counts[stream.user_id] -= 1
