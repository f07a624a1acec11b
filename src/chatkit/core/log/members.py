"""What happens to conversations and their members: creation, joining, leaving, a new epoch. For each command: what it
needs, and what it does."""

from __future__ import annotations

from collections.abc import Sequence

from . import rules
from .commands import AddMembers, CreateConversation, RemoveMember, RenewEpoch
from .keys import Keys
from .messages import add_entry, entry_of
from .outcomes import Conversation, Created, Done, MembersChanged
from .sessions import start_of_device
from .state import ConversationState, DeviceCursor, MemberCursors, MembershipState, State


def keys_of_create(keys: Keys, command: CreateConversation) -> None:
    """What has this id, or is the SINGLE of this pair, with its members; and a number for a new one."""
    keys.conversations.add(command.conversation_id)
    if command.type == "SINGLE":
        keys.pairs.add(rules.pair_of((*command.member_ids, command.creator_id)))
    keys.list_members(command.conversation_id, len(command.member_ids) + 1)
    keys.new_conversations += 1


def create_conversation(state: State, command: CreateConversation) -> Created:
    """Create a conversation with its first entry, or find the one that is meant."""
    users = rules.initial_members(command)
    pair = rules.pair_of(users) if command.type == "SINGLE" else None
    existing = state.pairs[pair] if pair is not None else None
    existing = existing or _same_group(state, command, users)
    if existing is not None:
        return Created(describe(state, existing), False, None, ())
    conversation = _new_conversation(state, command, pair)
    payload = rules.member_payload("CREATED", users)
    made = add_entry(state, conversation, "MEMBER", command.creator_id, payload, command.at_ms)
    for user_id in users:
        _join(state, conversation, user_id, made.seq, command.at_ms)
    _audit(state, conversation, command.at_ms, command.creator_id, "CREATED", command.conversation_id)
    entry = entry_of(conversation, made, made.payload)
    return Created(describe(state, conversation), True, entry, users)


def _same_group(state: State, command: CreateConversation, users: Sequence[str]) -> ConversationState | None:
    """What has the id already. Raises ConflictError if it is not the group that is asked for."""
    found = state.conversations[command.conversation_id]
    if found is not None:
        as_many = found.type == "GROUP" and found.member_count == len(users)
        rules.check_same_group(command, found.type, sorted(state.member_ids[found.key]) if as_many else ())
    return found


def _new_conversation(state: State, command: CreateConversation, pair: str | None) -> ConversationState:
    conversation = ConversationState(
        state.new_keys.pop(0),
        command.conversation_id,
        command.type,
        command.title,
        command.epoch,
        0,
        command.creator_id,
        pair,
        0,
        command.at_ms,
        None,
        None,
        command.at_ms,
    )
    state.add_conversation(conversation)
    state.member_ids[conversation.key] = set()
    return conversation


def keys_of_add(keys: Keys, command: AddMembers) -> None:
    """The membership of who adds; memberships and cursors of who is added; the first members."""
    keys.conversations.add(command.conversation_id)
    keys.members.add((command.conversation_id, command.by))
    keys.cursors.update((command.conversation_id, user_id) for user_id in command.user_ids)
    keys.list_members(command.conversation_id)


def add_members(state: State, command: AddMembers) -> MembersChanged:
    """Add those users to a group who are not in it."""
    conversation = state.joined(command.conversation_id, command.by).conversation
    rules.check_may_add(conversation.type, conversation.creator_id, command.by)
    users = sorted(set(command.user_ids))
    added = [user_id for user_id in users if not state.membership(conversation, user_id).is_current]
    rules.check_member_count(conversation.member_count + len(added), command.members_max)
    if not added:
        return MembersChanged(describe(state, conversation), (), (), None)
    payload = rules.member_payload("ADDED", added)
    made = add_entry(state, conversation, "MEMBER", command.by, payload, command.at_ms)
    for user_id in added:
        _join(state, conversation, user_id, made.seq, command.at_ms)
        _audit(state, conversation, command.at_ms, command.by, "ADDED", user_id)
    entry = entry_of(conversation, made, made.payload)
    return MembersChanged(describe(state, conversation), tuple(added), (), entry)


def _join(state: State, conversation: ConversationState, user_id: str, seq: int, at_ms: int) -> None:
    """Start a membership: cursors go on from where they were, moved over what is not visible."""
    membership = state.membership(conversation, user_id)
    membership.begin(seq)
    _move_over_absence(membership, seq, at_ms)
    _join_devices(state, membership, at_ms)
    conversation.member_count += 1
    conversation.changed = True
    state.member_ids[conversation.key].add(user_id)
    listed = state.listed.get(user_id)
    if listed is not None:
        listed[conversation.key] = conversation.snapshot()


def _move_over_absence(membership: MembershipState, seq: int, at_ms: int) -> None:
    intervals = membership.intervals
    cursors = membership.cursors
    if cursors is None:
        cursors = membership.cursors = MemberCursors(seq - 1, seq - 1, at_ms)
    cursors.delivered_seq = rules.skip_hidden(cursors.delivered_seq, intervals)
    cursors.read_seq = rules.skip_hidden(cursors.read_seq, intervals)
    for device in membership.devices.values():
        device.delivered_seq = rules.skip_hidden(device.delivered_seq, intervals)
        device.changed = True
    if membership.others is not None:
        cursor, updated_ms = membership.others
        membership.others = (rules.skip_hidden(cursor, intervals), updated_ms)


def _join_devices(state: State, membership: MembershipState, at_ms: int) -> None:
    """Give a cursor to every device of a new member that has none: where the farthest of the user's devices is.

    Where the devices are not loaded, the store does it for all of them in one statement.
    """
    start = start_of_device(membership)
    known = state.devices.get(membership.user_id)
    if known is None:
        membership.others = membership.others or (start, at_ms)
        return
    for device_id in known:
        if device_id not in membership.devices:
            membership.devices[device_id] = DeviceCursor(start, at_ms, new=True)


def keys_of_remove(keys: Keys, command: RemoveMember) -> None:
    """The membership of who removes; membership and cursors of who goes; the first members."""
    keys.conversations.add(command.conversation_id)
    keys.members.add((command.conversation_id, command.by))
    keys.cursors.add((command.conversation_id, command.user_id))
    keys.list_members(command.conversation_id, removed=1)


def remove_member(state: State, command: RemoveMember) -> MembersChanged:
    """End a membership; the entry that says so is the first one its user does not see."""
    conversation = state.joined(command.conversation_id, command.by).conversation
    membership = state.joined(command.conversation_id, command.user_id)
    rules.check_may_remove(conversation.type, conversation.creator_id, command.by, command.user_id)
    op: rules.MemberOp = "LEFT" if command.by == command.user_id else "REMOVED"
    payload = rules.member_payload(op, [command.user_id])
    made = add_entry(state, conversation, "MEMBER", command.by, payload, command.at_ms)
    _leave(state, membership, made.seq)
    _audit(state, conversation, command.at_ms, command.by, op, command.user_id)
    entry = entry_of(conversation, made, made.payload)
    return MembersChanged(describe(state, conversation), (), (command.user_id,), entry)


def _leave(state: State, membership: MembershipState, seq: int) -> None:
    conversation, user_id = membership.conversation, membership.user_id
    membership.end(seq)
    for device in membership.devices.values():
        device.changed = True
    conversation.member_count -= 1
    conversation.changed = conversation.may_close = True  # who goes may have been the last one missing
    state.member_ids[conversation.key].discard(user_id)
    listed = state.listed.get(user_id)
    if listed is not None:
        del listed[conversation.key]


def keys_of_renew_epoch(keys: Keys, command: RenewEpoch) -> None:
    """The conversation."""
    keys.conversations.add(command.conversation_id)


def renew_epoch(state: State, command: RenewEpoch) -> Done:
    """Give the log a new identity; entries keep the epoch, and so the id, that they were written under."""
    conversation = state.find(command.conversation_id)
    conversation.epoch = command.epoch
    conversation.changed = True
    _audit(state, conversation, command.at_ms, "", "EPOCH_RENEWED", command.epoch)
    return Done()


def _audit(
    state: State, conversation: ConversationState, at_ms: int, actor_id: str, action: str, subject: str
) -> None:
    """Write down a change; its entry is the newest."""
    state.audit.append((at_ms, conversation.key, actor_id, action, conversation.head_seq, subject))


def keys_of_description(conversation_id: str, user_id: str) -> Keys:
    """What `describe` needs to answer a user: the conversation, their membership, and the first members."""
    keys = Keys()
    keys.conversations.add(conversation_id)
    keys.members.add((conversation_id, user_id))
    keys.list_members(conversation_id)
    return keys


def describe(state: State, conversation: ConversationState) -> Conversation:
    """The conversation with its first members."""
    pair = conversation.pair
    members = rules.members_of_pair(pair) if pair is not None else sorted(state.member_ids[conversation.key])
    return Conversation(
        conversation.conversation_id,
        conversation.type,
        conversation.title,
        conversation.epoch,
        conversation.head_seq,
        conversation.member_count,
        tuple(members[: rules.MEMBERS_SHOWN_MAX]),
    )
