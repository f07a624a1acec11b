"""What users report to a moderator, and what becomes of that. For each command: what it needs, and what it does."""

from __future__ import annotations

import msgspec

from ...errors import BadRequestError, NotFoundError
from . import rules
from .audit import note
from .commands import ReportMessage, ResolveReports
from .keys import Keys
from .marks import edit_of
from .messages import find_message, keys_of_message
from .outcomes import Done
from .state import ConversationState, MessageRow, State


def keys_of_report(keys: Keys, command: ReportMessage) -> None:
    """The message, the memberships of who reports it, and what it says now."""
    place = keys_of_message(keys, command.message_id, command.user_id)
    if place is not None and command.keep_body:
        keys.edited.add(place)
        keys.stream_texts.add(place)


def keys_after_report(state: State, command: ReportMessage, more: Keys) -> None:
    """Its latest edit."""
    try:
        conversation, row = find_message(state, command.message_id)
    except NotFoundError:
        return
    edit_seq = _latest_edit(state, conversation, row, command) if command.keep_body else None
    if edit_seq is not None:
        more.places.add((conversation.key, edit_seq))


def report(state: State, command: ReportMessage) -> Done:
    """Keep a report; a second one of the same message changes nothing."""
    conversation, row = find_message(state, command.message_id)
    rules.check_visible(state.membership(conversation, command.user_id).intervals, row.seq)
    if row.kind != "USER" or row.sender_id == command.user_id:
        raise BadRequestError("only messages of others can be reported")
    is_gone = (conversation.key, row.seq) in state.recalled or row.seq <= conversation.floor_seq
    body = _now(state, conversation, row, command) if command.keep_body and not is_gone else b""
    place = (conversation.key, row.seq, command.user_id)
    state.reports.setdefault(place, (*place, command.reason, command.note, command.at_ms, body or None))
    return Done()


def _now(state: State, conversation: ConversationState, row: MessageRow, command: ReportMessage) -> bytes:
    """What the message says to who reports it: its latest edit, or of an open stream all of its parts; empty where
    that is in an archive."""
    edit_seq = _latest_edit(state, conversation, row, command)
    if edit_seq is not None:
        edit = next((it for it in state.new_messages if _is_at(it, conversation, edit_seq)), None)
        edit = edit or state.places[conversation.key, edit_seq]
        return b"" if edit is None else edit_of(edit_seq, edit.server_ts, edit.payload).payload
    place = (conversation.key, row.seq)
    if state.streams[place] is None or not row.payload:
        return row.payload
    added = [text for key, seq, _, text in state.new_parts if (key, seq) == place]
    payload = msgspec.json.decode(row.payload)
    return msgspec.json.encode(
        {**payload, "text": "".join([state.stream_texts[place], *added])}, order="sorted"
    )


def _is_at(it: MessageRow, conversation: ConversationState, seq: int) -> bool:
    return (it.conversation_key, it.seq) == (conversation.key, seq)


def _latest_edit(
    state: State, conversation: ConversationState, row: MessageRow, command: ReportMessage
) -> int | None:
    """The last one that who reports it sees."""
    intervals = state.membership(conversation, command.user_id).intervals
    edits = state.edits[conversation.key, row.seq]
    return next((seq for seq in reversed(edits) if rules.sees(intervals, seq)), None)


def keys_of_resolve(keys: Keys, command: ResolveReports) -> None:
    """The message, and how many open reports it has."""
    place = keys_of_message(keys, command.message_id, None)
    if place is not None:
        keys.reported.add(place)


def resolve_reports(state: State, command: ResolveReports) -> Done:
    """Close the open reports of a message."""
    conversation, row = find_message(state, command.message_id)
    place = (conversation.key, row.seq)
    if not state.open_reports.get(place) and not any(it[:2] == place for it in state.reports):
        raise NotFoundError("this message has no open report")
    state.open_reports[place] = 0
    state.resolved_reports.append((command.by or "", command.resolution, command.at_ms, *place))
    note(state, conversation, command.at_ms, command.by, "REPORTS_RESOLVED", command.message_id)
    return Done()
