"""What happens when entries of another log come into this one: what it needs, and what it does.

They keep their authors and times and get the next seqs, as everything does. Nobody's rights are asked, nobody is woken,
and no cursor that was at the end falls behind. Why it is so: docs/design/0029-import.md.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from ...errors import BadRequestError, ConflictError
from . import blobs, members, rules, stream_rows
from .audit import note
from .commands import CreateConversation, ImportedEntry, ImportEntries
from .keys import Keys
from .mentions import keys_of_mentions, mentions_of, note_mentions
from .messages import add_entry
from .outcomes import Imported, message_id
from .references import EDITS_MAX, PINS_MAX, REACTIONS_MAX, Reference, note_reference, unpin_recalled
from .state import ConversationState, MembershipState, MessageRow, Place, State
from .titles import note_titled, titled_by

_KEYED: Final = frozenset({"USER", "EDIT", "REACTION", "PINNED", "TITLE"})
_NAMING: Final = frozenset({"EDIT", "REACTION", "PINNED", "RECALL"})
_ALL: Final = 1_000_000
"""More members than any conversation has: the cursors of each of them may move."""


def keys_of_import(keys: Keys, command: ImportEntries) -> None:
    """What the keys have made already, all members, who comes and goes, and what a new conversation needs."""
    conversation_id = command.conversation_id
    keys.conversations.add(conversation_id)
    if command.new is not None:
        members.keys_of_create(keys, command.new)
    removed = 0
    for entry in command.entries:
        if entry.kind in _KEYED:
            keys.members.add((conversation_id, entry.sender_id))  # for who recalls it in this batch
            keys.sent.add((conversation_id, entry.sender_id, entry.client_msg_id))
            mentions = _mentions(entry)
            if mentions:
                keys_of_mentions(keys, conversation_id, entry.sender_id, mentions, None)
        elif entry.kind == "MEMBER":
            keys.cursors.update((conversation_id, user_id) for user_id in entry.user_ids)
            removed += 0 if entry.op == "ADDED" else len(entry.user_ids)
    keys.list_members(conversation_id, _ALL, removed)
    keys.elders[conversation_id] = removed + keys.elders.get(conversation_id, 0)


def keys_after_import(state: State, command: ImportEntries, more: Keys) -> None:
    """The cursors of all members, and the messages that are named, with what is said of them."""
    conversation = state.conversations[command.conversation_id]
    if conversation is None:
        return
    key = conversation.key
    more.cursors.update((command.conversation_id, user_id) for user_id in state.member_ids[key])
    for entry in command.entries:
        if entry.kind not in _NAMING:
            continue
        place = (key, entry.names_seq)
        more.places.add(place)
        if entry.kind == "REACTION":
            more.reactions.add((*place, entry.sender_id))
        elif entry.kind == "PINNED":
            more.pins.add(key)
        else:
            more.edited.add(place)
        if entry.kind == "EDIT" and _mentions(entry):
            more.mentioned.add(place)


def import_entries(state: State, command: ImportEntries) -> Imported:
    """Append what is new of these entries, and move the cursors of who had everything."""
    is_new = state.conversations[command.conversation_id] is None
    conversation = _found_or_made(state, command)
    first_seq = conversation.head_seq + 1
    caught_up_seq = 0 if is_new else conversation.head_seq
    known = changed = 0
    for entry in command.entries:
        if entry.kind == "MEMBER":
            _change_members(state, conversation, entry, caught_up_seq, command)
        elif entry.kind == "RECALL":
            _recall(state, conversation, entry)
        else:
            row = state.sent[command.conversation_id, entry.sender_id, entry.client_msg_id]
            if row is None:
                _append(state, conversation, entry)
            else:
                known += 1
                changed += row.payload_mac != entry.payload_mac
    if conversation.head_seq >= first_seq:
        conversation.grown_ms = command.at_ms  # workers wait from now on, and not from years ago
    _keep_caught_up(state, conversation, caught_up_seq, command)
    added = conversation.head_seq + 1 - first_seq
    return Imported(command.conversation_id, conversation.head_seq, added, known, changed)


def _found_or_made(state: State, command: ImportEntries) -> ConversationState:
    """The conversation, at the head that is meant. All refusals come from here, before anything is changed."""
    conversation = state.conversations[command.conversation_id]
    if conversation is None and command.new is None:
        raise rules.not_found()
    if command.after_seq not in {None, 0 if conversation is None else conversation.head_seq}:
        raise ConflictError("the conversation has another head: somebody else wrote to it")
    _check_named(state, conversation, command)
    _check_members(state, conversation, command)
    if conversation is not None:
        return conversation
    assert command.new is not None, "it was looked at above"
    return _make(state, command.new, command.at_ms)


def _check_named(state: State, conversation: ConversationState | None, command: ImportEntries) -> None:
    """Each names a message that was there before and is not recalled, and says nothing that could not be said."""
    key = 0 if conversation is None else conversation.key
    recalled, said = set(state.recalled), Counter[tuple[str, Place]]()
    pinned = set(state.pins.get(key, ()))
    for entry in command.entries:
        if entry.kind not in _NAMING:
            continue
        place = (key, entry.names_seq)
        row = _named(state, conversation, place, entry.sender_id)
        if row is None or row.kind != "USER" or place in recalled:
            raise BadRequestError(f"seq {entry.names_seq} is no message of which this can be said")
        if entry.kind == "RECALL":
            recalled.add(place)
            pinned.discard(entry.names_seq)
            continue
        if entry.kind == "PINNED":
            (pinned.discard if entry.removed else pinned.add)(entry.names_seq)
            if len(pinned) > PINS_MAX:
                raise BadRequestError(f"at most {PINS_MAX} messages can be pinned")
            continue
        said[entry.kind, place] += 1
        if entry.kind == "EDIT" and row.sender_id != entry.sender_id:
            raise BadRequestError(f"seq {entry.names_seq} is edited by somebody else than its author")
        _check_room(state, place, entry, said[entry.kind, place])


def _named(
    state: State, conversation: ConversationState | None, place: Place, sender_id: str
) -> MessageRow | None:
    """The entry at a place. Of a conversation that this batch made nothing was loaded: all of it is here."""
    if conversation is not None and conversation.created_ms is not None and place not in state.places:
        found = (it for it in state.new_messages if (it.conversation_key, it.seq) == place)
        state.places[place] = next(found, None)
    if conversation is not None and conversation.created_ms is not None:
        state.edits.setdefault(place, [])
        state.mentioned.setdefault(place, set())
        state.pins.setdefault(conversation.key, {})
        state.streams.setdefault(place)
        state.reaction_counts.setdefault(place, 0)
        state.own_reactions.setdefault((*place, sender_id), set())
    return state.places.get(place)


def _check_room(state: State, place: Place, entry: ImportedEntry, more: int) -> None:
    """As many edits and reactions as a message takes, at most; `more` are of this entry's kind, from this batch."""
    if entry.kind == "EDIT" and len(state.edits[place]) + more > EDITS_MAX:
        raise BadRequestError(f"a message can be edited {EDITS_MAX} times")
    if entry.kind == "REACTION" and state.reaction_counts[place] + more > REACTIONS_MAX and not entry.removed:
        raise BadRequestError(f"one message takes {REACTIONS_MAX} reactions")


def _check_members(state: State, conversation: ConversationState | None, command: ImportEntries) -> None:
    """Members come and go in a GROUP alone, and nobody without end; and it alone has a title."""
    kind = command.new.type if conversation is None and command.new is not None else None
    if conversation is not None:
        kind = conversation.type
    joins = Counter(user for it in command.entries if it.kind == "MEMBER" for user in it.user_ids)
    if kind == "SINGLE" and joins:
        raise BadRequestError("the members of a SINGLE conversation never change")
    if kind == "SINGLE" and any(it.kind == "TITLE" for it in command.entries):
        raise BadRequestError("a SINGLE conversation has no title")
    for user_id, count in joins.items():
        before = 0 if conversation is None else len(state.membership(conversation, user_id).intervals)
        rules.check_memberships(before + count - 1)


def _make(state: State, new: CreateConversation, at_ms: int) -> ConversationState:
    users = rules.initial_members(new)
    pair = rules.pair_of(users) if new.type == "SINGLE" else None
    if pair is not None and state.pairs[pair] is not None:
        raise ConflictError("these two users have a conversation already")
    conversation = members.new_conversation(state, new, pair)
    payload = rules.member_payload("CREATED", users)
    made = add_entry(state, conversation, "MEMBER", new.creator_id, payload, new.at_ms)
    for user_id in users:
        members.join(state, conversation, user_id, made.seq, at_ms, "MEMBER")
    note(state, conversation, at_ms, new.creator_id, "CREATED", new.conversation_id)
    return conversation


def _append(state: State, conversation: ConversationState, entry: ImportedEntry) -> None:
    assert entry.kind in _KEYED
    kind: rules.Kind = entry.kind
    values = (entry.sender_id, entry.payload, entry.at_ms, entry.client_msg_id, entry.payload_mac)
    row = add_entry(state, conversation, kind, *values)
    state.sent[conversation.conversation_id, entry.sender_id, entry.client_msg_id] = row
    if entry.kind == "EDIT" or entry.kind == "REACTION" or entry.kind == "PINNED":
        reference = Reference(entry.kind, "", entry.names_seq, entry.reaction, entry.removed)
        note_reference(state, conversation.key, entry.sender_id, reference, row.seq)
    titled = titled_by(entry.payload) if entry.kind == "TITLE" else None
    if titled is not None:
        note_titled(state, conversation, titled)
    mentions = _mentions(entry)
    if mentions:
        edited = (conversation.key, entry.names_seq) if entry.kind == "EDIT" else None
        note_mentions(state, conversation, entry.sender_id, mentions, edited, row.seq)


def _mentions(entry: ImportedEntry) -> frozenset[str]:
    """Whom a message or an edit mentions."""
    if entry.kind not in ("USER", "EDIT"):
        return frozenset()
    return mentions_of(entry.payload, is_edit=entry.kind == "EDIT")


def _change_members(
    state: State,
    conversation: ConversationState,
    entry: ImportedEntry,
    caught_up_seq: int,
    command: ImportEntries,
) -> None:
    """A MEMBER entry, and what it says; nothing where it is so already."""
    memberships = [state.membership(conversation, user_id) for user_id in sorted(set(entry.user_ids))]
    is_joining = entry.op == "ADDED"
    moved = [it for it in memberships if it.is_current != is_joining]
    if not moved:
        return
    if not is_joining:  # else what they had before they went would be missing when they come back
        for membership in moved:
            _catch_up(membership, caught_up_seq, command)
    payload = rules.member_payload(entry.op, [it.user_id for it in moved])
    made = add_entry(state, conversation, "MEMBER", entry.sender_id, payload, entry.at_ms)
    for membership in moved:
        if is_joining:
            _join(state, membership, made.seq, command.at_ms)
        else:
            _leave(state, membership, made.seq, entry.op == "LEFT", command.at_ms)


def _join(state: State, membership: MembershipState, seq: int, now_ms: int) -> None:
    conversation, user_id = membership.conversation, membership.user_id
    new_owner_id = None if conversation.member_count else user_id
    members.join(state, conversation, user_id, seq, now_ms, "MEMBER")
    members.pass_on(state, conversation, new_owner_id, None, now_ms)


def _leave(state: State, membership: MembershipState, seq: int, has_left: bool, now_ms: int) -> None:
    conversation = membership.conversation
    new_owner_id = members.successor(state, conversation, membership.user_id)
    members.leave(state, membership, seq, has_left=has_left)
    members.pass_on(state, conversation, new_owner_id, None, now_ms)


def _recall(state: State, conversation: ConversationState, entry: ImportedEntry) -> None:
    """A RECALL entry, and the end of the body that it withdraws, and of its edits."""
    key, seq = conversation.key, entry.names_seq
    row, edits = state.places[key, seq], state.edits[key, seq]
    assert row is not None, "it was looked at before"
    name = message_id(key, row.epoch, seq)
    payload = rules.recall_payload(name, seq, entry.by or entry.sender_id, edits)
    made = add_entry(state, conversation, "RECALL", entry.sender_id, payload, entry.at_ms)
    state.places[key, made.seq] = made
    for recalled_seq in (seq, *edits):
        state.recalled[key, recalled_seq] = made.seq
        state.recalls.append((key, recalled_seq, made.seq))
    stream_rows.end(state, (key, seq))
    blobs.drop(state, row, edits)
    unpin_recalled(state, key, seq)


def _keep_caught_up(
    state: State, conversation: ConversationState, caught_up_seq: int, command: ImportEntries
) -> None:
    """Whoever had everything has everything still."""
    for user_id in sorted(state.member_ids[conversation.key]):
        _catch_up(state.membership(conversation, user_id), caught_up_seq, command)
    conversation.may_close = True


def _catch_up(membership: MembershipState, from_seq: int, command: ImportEntries) -> None:
    """Move those of a member's cursors to the head that were at the end before the import."""
    head, cursors = membership.conversation.head_seq, membership.cursors
    assert cursors is not None, "every member has cursors"
    for device in membership.devices.values():
        if from_seq <= device.delivered_seq < head:
            device.delivered_seq, device.updated_ms, device.changed = head, command.at_ms, True
            device.passed, device.exact = bool(device.exact), []
    if from_seq <= cursors.device_seq < head:
        cursors.device_seq, cursors.changed = head, True
    if not command.unread and from_seq <= cursors.read_seq < head:
        cursors.read_seq, cursors.read_ms, cursors.changed = head, command.at_ms, True
    cursors.delivered_seq = max(cursors.read_seq, cursors.device_seq)
