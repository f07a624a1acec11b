"""What happens to messages: append, recall. For each command: what it needs, and what it does."""

from __future__ import annotations

from functools import partial

from ...errors import RefusedError
from ...wire.payload import RECALLED
from ..policy import Policy
from . import blobs, rules, stream_rows
from .acting import check_may
from .audit import note
from .commands import Append, Recall
from .keys import Keys
from .meaning import check_meaning, keys_of_meaning, meaning_of, note_meaning
from .outcomes import Appended, Entry, Recalled, message_id, message_place
from .references import keys_of_edited, unpin_recalled
from .state import ConversationState, MayBeRepeatError, MessageRow, State

_row = partial(tuple.__new__, MessageRow)
"""A row of all its columns; `MessageRow` itself is a function in Python, and takes three times as long."""


def keys_of_append(keys: Keys, command: Append) -> None:
    """The sender's membership, and what the key has made already."""
    conversation_id, sender_id = command.conversation_id, command.sender_id
    keys.conversations.add(conversation_id)
    keys.members.add((conversation_id, sender_id))
    if not keys.assumes_new:
        keys.sent.add((conversation_id, sender_id, command.client_msg_id))
    if command.is_plain:
        return
    meaning = meaning_of(command.payload)
    if meaning is not None:
        keys_of_meaning(keys, conversation_id, sender_id, meaning)
    if command.blobs:
        blobs.keys_of_named(keys, sender_id, command.payload)


def keys_after_append(state: State, command: Append, more: Keys) -> None:
    """Of an EDIT of a stream, the stream's end."""
    keys_of_edited(state, command.payload, more)


def append(state: State, command: Append) -> Appended:
    """Append a user's message, or find the one that this key already made.

    Raises:
        MayBeRepeatError: It would be refused, which a repeat is not, and nobody looked whether it is one.
    """
    conversation_id, sender_id, client_msg_id = (
        command.conversation_id,
        command.sender_id,
        command.client_msg_id,
    )
    conversation = state.find(conversation_id)
    name = (conversation_id, sender_id, client_msg_id)
    known = state.sent.get(name) if state.assumes_new else state.sent[name]
    if known is not None:
        return repeat(state, conversation, command, known)
    payload = command.payload
    is_plain = command.is_plain
    meaning = None if is_plain else meaning_of(payload, command.edit_window_ms)
    try:
        check_may_write(state, conversation, sender_id, command.policy, command.at_ms)
        if meaning is not None:
            check_meaning(state, conversation, sender_id, meaning, command.policy, command.at_ms)
        if command.blobs and not is_plain:
            blobs.check_named(state, command, command.payload)
    except RefusedError:
        if name not in state.sent:
            raise MayBeRepeatError from None
        raise
    row = add_entry(
        state,
        conversation,
        "USER" if meaning is None else meaning.kind,
        sender_id,
        payload,
        command.at_ms,
        client_msg_id,
        command.payload_mac,
    )
    if meaning is not None:
        note_meaning(state, conversation, meaning, row)
    state.sent[name] = row
    if command.blobs and not is_plain:
        blobs.refer(state, row, payload)
    return Appended(entry_of(conversation, row, payload), False)


def check_may_write(
    state: State, conversation: ConversationState, sender_id: str, policy: Policy, at_ms: int
) -> None:
    """A member whom nothing keeps from writing; else NotFoundError or ForbiddenError."""
    membership = state.membership(conversation, sender_id)
    intervals = membership.intervals
    if not intervals or intervals[-1].leave_seq is not None:
        raise rules.not_found()
    if membership.silenced_until_ms:
        rules.check_not_silenced(membership.silenced_until_ms, at_ms)
    if not policy.allows(membership.role, "SEND_MESSAGES", conversation_type=conversation.type):
        raise rules.not_allowed("SEND_MESSAGES")
    if conversation.blocks and conversation.pair is not None:
        rules.check_not_blocked(conversation.pair, conversation.blocks, sender_id)


def repeat(state: State, conversation: ConversationState, command: Append, known: MessageRow) -> Appended:
    """The stored answer to a key, whoever is a member by now."""
    rules.check_same_payload(command, known.payload_mac)
    recalled = (known.conversation_key, known.seq) in state.recalled
    payload = known.payload or command.payload  # the same, which may be in the archive by now
    return Appended(entry_of(conversation, known, RECALLED if recalled else payload), True)


def add_entry(
    state: State,
    conversation: ConversationState,
    kind: rules.Kind,
    sender_id: str,
    payload: bytes,
    at_ms: int,
    client_msg_id: str | None = None,
    payload_mac: bytes | None = None,
) -> MessageRow:
    """Write the next entry of a log and have the outbox cover it."""
    key, seq = conversation.key, conversation.head_seq + 1
    row = _row((key, seq, conversation.epoch, kind, sender_id, client_msg_id, at_ms, payload_mac, payload))
    state.new_messages.append(row)
    if state.places and (key, seq) in state.places:
        state.places[key, seq] = row
    if conversation.pair is None:
        state.senders.setdefault(key, {})[seq] = sender_id
    conversation.head_seq = seq
    if kind in rules.ACTIVITY and at_ms > conversation.last_activity_ms:  # else the clock was set back
        conversation.last_activity_ms = at_ms
    if conversation.grown_ms is None:
        conversation.grown_ms = at_ms
    if conversation.outbox_seq is None:
        conversation.outbox_seq = seq
    if not conversation.member_count:  # nobody is left who could confirm it
        conversation.may_close = True
    return row


def entry_of(conversation: ConversationState, row: MessageRow, payload: bytes) -> Entry:
    """A row as it is answered to its author: under the epoch it was written in, and with its key."""
    key, seq, epoch, _, sender_id, client_msg_id, server_ts, _, _ = row
    name = message_id(key, epoch, seq)
    return Entry(conversation.conversation_id, epoch, name, seq, sender_id, server_ts, payload, client_msg_id)


def keys_of_recall(keys: Keys, command: Recall) -> None:
    """The message, its edits, and the memberships of who recalls it; the host is no member."""
    place = keys_of_message(keys, command.message_id, command.by)
    if place is not None:
        keys.edited.add(place)


def keys_after_recall(state: State, command: Recall, more: Keys) -> None:
    """Of a message that is recalled already, the entry that did it; of somebody else's, its author's membership; of
    one's own stream, its end.
    """
    place = message_place(command.message_id)
    if place is not None:
        recalled_by = state.recalled.get((place[0], place[2]))
        if recalled_by is not None:
            more.places.add((place[0], recalled_by))
        row = state.places[place[0], place[2]]
        if row is not None and row.sender_id != command.by:
            more.members.add((place[0], row.sender_id))
        elif row is not None:
            stream_rows.keys_of_written(state, row, more)


def recall(state: State, command: Recall) -> Recalled:
    """Blank a message's body and append the RECALL entry, or find the first recall's entry."""
    conversation, row = find_message(state, command.message_id)
    key, seq = row.conversation_key, row.seq
    first = _first_recall(state, key, seq)
    if first is not None and command.by in (row.sender_id, first.sender_id):
        return Recalled(entry_of(conversation, first, first.payload), True)
    _check_may_recall(state, conversation, command, row)
    if first is not None:
        return Recalled(entry_of(conversation, first, first.payload), True)
    sender_id = command.by or _in_whose_name(state, conversation, row.sender_id)
    edits = state.edits[key, seq]
    payload = rules.recall_payload(command.message_id, seq, sender_id, edits)
    made = add_entry(state, conversation, "RECALL", sender_id, payload, command.at_ms)
    state.places[key, made.seq] = made  # for who recalls it again in this batch
    for recalled_seq in (seq, *edits):
        state.recalled[key, recalled_seq] = made.seq
        state.recalls.append((key, recalled_seq, made.seq))
    stream_rows.end(state, (key, seq))
    blobs.drop(state, row, edits)
    unpin_recalled(state, key, seq)
    note(state, conversation, command.at_ms, command.by, "RECALLED", command.message_id)
    return Recalled(entry_of(conversation, made, made.payload), False)


def _first_recall(state: State, key: int, seq: int) -> MessageRow | None:
    """The entry that recalled this one; None if none did."""
    recalled_by = state.recalled.get((key, seq))
    if recalled_by is None:
        return None
    made = state.places[key, recalled_by]
    assert made is not None, "an entry that recalls another one is never removed"
    return made


def _check_may_recall(
    state: State, conversation: ConversationState, command: Recall, row: MessageRow
) -> None:
    """The author may within the window, others by their role, the host always. Raises RefusedError."""
    if command.by is not None:
        rules.check_visible(state.membership(conversation, command.by).intervals, row.seq)
    rules.check_recallable(row.kind)
    if command.by == row.sender_id:
        rules.check_window(command, stream_rows.written_ms(state, row, command.at_ms))
    else:
        author = state.membership(conversation, row.sender_id)
        role = author.role if author.is_current else None
        check_may(state, conversation, command, "RECALL_MESSAGES", role)


def _in_whose_name(state: State, conversation: ConversationState, author_id: str) -> str:
    """Under whose name a recall by the host stands: an entry needs a member, wherever there is one."""
    return author_id if state.membership(conversation, author_id).is_current else conversation.owner_id


def keys_of_message(keys: Keys, name: str, user_id: str | None) -> tuple[int, int] | None:
    """What `find_message` looks for, and the memberships of a user if one asks. Returns where it is, if anywhere."""
    place = message_place(name)
    if place is None:
        return None
    key, _, seq = place
    keys.conversation_keys.add(key)
    keys.places.add((key, seq))
    if user_id is not None:
        keys.cursors.add((key, user_id))
    return key, seq


def find_message(state: State, name: str) -> tuple[ConversationState, MessageRow]:
    """The conversation and the row that a message id names. Raises NotFoundError."""
    place = message_place(name)
    conversation = state.conversations[place[0]] if place is not None else None
    row = state.places[place[0], place[2]] if place is not None else None
    if place is None or conversation is None or row is None or row.epoch != place[1]:
        raise rules.not_found()
    return conversation, row
