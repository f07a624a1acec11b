"""Loads the rows of a batch: what `Keys` name, copied from the tables into a `State`. Nothing is decided here."""

from __future__ import annotations

from ...core.log.keys import Keys
from ...core.log.outcomes import MembershipSnapshot
from ...core.log.state import (
    ConversationState,
    DeviceCursor,
    DeviceState,
    MemberCursors,
    MembershipState,
    MessageRow,
    State,
)
from . import blobs, moderation, references
from .tables import Conversation, MemoryState


def load(tables: MemoryState, keys: Keys, state: State) -> None:
    """Put everything that the keys name into the state."""
    state.expect(keys)
    _load_conversations(tables, keys, state)
    with_cursors, others = state.expect_members(keys)
    for membership in others:
        conversation = tables.by_key[membership.conversation.key]
        if conversation.is_member(membership.user_id):
            standing = conversation.standings[membership.user_id]
            interval = conversation.members[membership.user_id][-1]
            membership.load(interval, standing.granted, standing.silenced_until_ms)
    for membership in with_cursors:
        _load_cursors(tables.by_key[membership.conversation.key], membership)
    _load_messages(tables, keys, state)
    for key in state.expect_lists(keys):
        state.member_ids[key].update(tables.by_key[key].member_ids()[: keys.members_max])
    for key in state.expect_elders(keys):
        for rank, join_seq, user_id in tables.by_key[key].by_standing()[: keys.elders_max]:
            state.elders[key][user_id] = (rank, join_seq)
    _load_users(tables, keys, state)
    if keys.names_references:
        references.load(tables, keys, state)
    if keys.names_moderation:
        moderation.load(tables, keys, state)
    if keys.names_blobs:
        blobs.load(tables, keys, state)


def _load_conversations(tables: MemoryState, keys: Keys, state: State) -> None:
    found = {
        *filter(None, (tables.by_id.get(name) for name in keys.conversations)),
        *filter(None, (tables.by_key.get(key) for key in keys.conversation_keys)),
        *filter(None, (tables.by_pair.get(pair) for pair in keys.pairs)),
    }
    for conversation in found:
        state.add_conversation(_state_of(conversation))
    last = len(tables.by_key)
    state.new_keys.extend(range(last + 1, last + 1 + keys.new_conversations))


def _state_of(it: Conversation) -> ConversationState:
    first_seq = None if it.outbox is None else it.outbox[0]
    return ConversationState(
        it.key,
        it.conversation_id,
        it.type,
        it.title,
        it.epoch,
        it.head_seq,
        it.owner_id,
        it.pair,
        it.member_count,
        it.last_activity_ms,
        it.blocks,
        first_seq,
        first_seq,
        it.history,
        it.floor_seq,
    )


def _load_cursors(conversation: Conversation, membership: MembershipState) -> None:
    for interval in conversation.members.get(membership.user_id, ()):
        standing = conversation.standings[membership.user_id]
        membership.load(interval, standing.granted, standing.silenced_until_ms)
    it = conversation.cursors.get(membership.user_id)
    if it is not None:
        membership.cursors = MemberCursors(
            it.delivered_seq, it.read_seq, it.read_ms, it.device_seq, it.has_left
        )
    for device_id, device in conversation.devices_of(membership.user_id):
        membership.devices[device_id] = DeviceCursor(
            device.delivered_seq, device.updated_ms, sorted(device.exact)
        )


def _load_messages(tables: MemoryState, keys: Keys, state: State) -> None:
    for conversation_id, sender_id, client_msg_id in keys.sent:
        conversation = tables.by_id.get(conversation_id)
        seq = conversation.by_client_id.get((sender_id, client_msg_id)) if conversation is not None else None
        if conversation is not None and seq is not None:
            state.sent[conversation_id, sender_id, client_msg_id] = _message(conversation, seq, state)
    for key, seq in keys.places:
        conversation = tables.by_key.get(key)
        if conversation is not None:
            state.places[key, seq] = _message(conversation, seq, state)
    for key, first, last in keys.merged_senders():
        senders = state.senders.setdefault(key, {})
        senders.update((row.seq, row.sender_id) for row in tables.by_key[key].rows[first - 1 : last])


def _message(conversation: Conversation, seq: int, state: State) -> MessageRow | None:
    if seq in conversation.recalled:
        state.recalled[conversation.key, seq] = conversation.recalled[seq]
    return conversation.row(seq)


def _load_users(tables: MemoryState, keys: Keys, state: State) -> None:
    for user_id in keys.devices:
        for device_id, seen in tables.devices.get(user_id, {}).items():
            state.devices[user_id][device_id] = DeviceState(*seen)
    for user_id in keys.listed:
        state.listed[user_id].update((it.key, _snapshot(it)) for it in tables.of_user(user_id))
    state.blocks.update(dict.fromkeys(keys.blocks & tables.blocks.keys(), True))
    for user_id in keys.block_counts:
        state.block_counts[user_id] = sum(blocker == user_id for blocker, _ in tables.blocks)
    for conversation_id, user_id in keys.bans:
        found = tables.by_id.get(conversation_id)
        state.bans[conversation_id, user_id] = found is not None and user_id in found.bans
    for conversation_id in keys.ban_counts & tables.by_id.keys():
        state.ban_counts[conversation_id] = len(tables.by_id[conversation_id].bans)
    for place in keys.tokens & tables.tokens.keys():
        state.tokens[place] = tables.tokens[place]
    for token_hash in keys.token_hashes & tables.token_places.keys():
        place = state.token_places[token_hash] = tables.token_places[token_hash]
        state.tokens[place] = tables.tokens[place]
    _load_access(tables, keys, state)


def _load_access(tables: MemoryState, keys: Keys, state: State) -> None:
    """What was revoked, and the resume tokens that are to be."""
    if keys.token_users or keys.login_hashes:
        for place, token in tables.tokens.items():
            if token.user_id in keys.token_users or token.login_hash in keys.login_hashes:
                state.tokens[place] = token
    if keys.revocations:
        for (subject, kind), revocation in tables.revocations.items():
            if subject in keys.revocations:
                state.revocations[subject][kind] = revocation
    last = tables.last_position
    state.new_positions.extend(range(last + 1, last + 1 + keys.new_revocations))


def _snapshot(it: Conversation) -> MembershipSnapshot:
    return MembershipSnapshot(it.conversation_id, it.type, it.epoch, it.head_seq, it.member_count)
