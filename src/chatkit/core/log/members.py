"""What happens to conversations and their members: creation, joining, leaving, a new title, owner, history or epoch.
For each command: what it needs, and what it does."""

from __future__ import annotations

from collections.abc import Sequence

from ...types import GrantedRole
from . import rules
from .acting import acted_on, check_may, name_acting
from .audit import note
from .blocks import blocks_of_pair, check_not_blocked_by
from .commands import AddMembers, CreateConversation, RemoveMember, RenewEpoch, TitleEntry, UpdateConversation
from .keys import Keys
from .messages import add_entry, entry_of
from .outcomes import Conversation, Created, Done, Entry, MembersChanged, Updated
from .state import ConversationState, MemberCursors, MembershipState, State
from .titles import is_news, note_titled, titled_by


def keys_of_create(keys: Keys, command: CreateConversation) -> None:
    """What has this id, or is the SINGLE of this pair, with its members; a number for a new one; who blocked whom."""
    keys.conversations.add(command.conversation_id)
    if command.type == "SINGLE":
        keys.pairs.add(rules.pair_of((*command.member_ids, command.creator_id)))
        keys.blocks.update((command.creator_id, user_id) for user_id in command.member_ids)
    keys.blocks.update((user_id, command.creator_id) for user_id in command.member_ids)
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
    rules.check_title(command.type, command.title)
    if not command.by_host:
        check_not_blocked_by(state, command.creator_id, users)
    conversation = new_conversation(state, command, pair)
    payload = rules.member_payload("CREATED", users)
    made = add_entry(state, conversation, "MEMBER", command.creator_id, payload, command.at_ms)
    for user_id in users:
        join(state, conversation, user_id, made.seq, command.at_ms, "MEMBER")
    note(state, conversation, command.at_ms, command.creator_id, "CREATED", command.conversation_id)
    entry = entry_of(conversation, made, made.payload)
    return Created(describe(state, conversation), True, entry, users)


def _same_group(state: State, command: CreateConversation, users: Sequence[str]) -> ConversationState | None:
    """What has the id already. Raises ConflictError if it is not the group that is asked for."""
    found = state.conversations[command.conversation_id]
    if found is not None:
        as_many = found.type == "GROUP" and found.member_count == len(users)
        rules.check_same_group(command, found.type, sorted(state.member_ids[found.key]) if as_many else ())
    return found


def new_conversation(state: State, command: CreateConversation, pair: str | None) -> ConversationState:
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
        0 if pair is None else blocks_of_pair(state, pair),
        None,
        None,
        command.history if pair is None else "FROM_JOIN",
        created_ms=command.at_ms,
    )
    state.add_conversation(conversation)
    state.member_ids[conversation.key] = set()
    state.elders[conversation.key] = {}
    return conversation


def keys_of_add(keys: Keys, command: AddMembers) -> None:
    """The membership of who adds, and who blocked them; memberships and cursors of who is added, and bans; the first
    members."""
    name_acting(keys, command.conversation_id, command.by)
    if command.by is not None:
        keys.blocks.update((user_id, command.by) for user_id in command.user_ids)
    keys.cursors.update((command.conversation_id, user_id) for user_id in command.user_ids)
    keys.bans.update((command.conversation_id, user_id) for user_id in command.user_ids)
    keys.list_members(command.conversation_id)


def add_members(state: State, command: AddMembers) -> MembersChanged:
    """Add those users to a group who are not in it."""
    conversation = acted_on(state, command.conversation_id, command.by)
    rules.check_is_group(conversation.type)
    check_may(state, conversation, command, "ADD_MEMBERS")
    if command.role != "MEMBER":
        check_may(state, conversation, command, "CHANGE_ROLES", command.role)
    users = sorted(set(command.user_ids))
    added = [user_id for user_id in users if not state.membership(conversation, user_id).is_current]
    rules.check_member_count(conversation.member_count + len(added), command.members_max)
    _check_may_be_added(state, conversation, command, added)
    if not added:
        return MembersChanged(describe(state, conversation), (), (), None)
    new_owner_id = None if conversation.member_count else added[0]
    sender_id = command.by or new_owner_id or conversation.owner_id
    payload = rules.member_payload("ADDED", added)
    made = add_entry(state, conversation, "MEMBER", sender_id, payload, command.at_ms)
    for user_id in added:
        join(state, conversation, user_id, made.seq, command.at_ms, command.role)
        note(state, conversation, command.at_ms, command.by, "ADDED", user_id)
        _note_admission(state, conversation, command, user_id)
    pass_on(state, conversation, new_owner_id, command.by, command.at_ms)
    entry = entry_of(conversation, made, made.payload)
    return MembersChanged(describe(state, conversation), tuple(added), (), entry, new_owner_id)


def _note_admission(state: State, conversation: ConversationState, command: AddMembers, user_id: str) -> None:
    """Write down what a user is added as, and end their ban, which only the host gets as far as."""
    if command.role != "MEMBER":
        note(state, conversation, command.at_ms, command.by, "ROLE_CHANGED", user_id, role=command.role)
    if state.is_banned(conversation, user_id):
        state.end_ban(conversation, user_id)
        note(state, conversation, command.at_ms, command.by, "MEMBER_UNBANNED", user_id)


def _check_may_be_added(
    state: State, conversation: ConversationState, command: AddMembers, user_ids: Sequence[str]
) -> None:
    """Raises BadRequestError or ForbiddenError."""
    for user_id in user_ids:
        membership = state.membership(conversation, user_id)
        rules.check_memberships(len(membership.intervals))
        has_left = membership.cursors is not None and membership.cursors.has_left
        if command.by is not None and has_left and not command.readd_after_leaving:
            raise rules.cannot_be_added()
        if command.by is not None and state.is_banned(conversation, user_id):
            raise rules.cannot_be_added()
    if command.by is not None:
        check_not_blocked_by(state, command.by, user_ids)


def join(
    state: State, conversation: ConversationState, user_id: str, seq: int, at_ms: int, role: GrantedRole
) -> None:
    """Start a membership: cursors go on from where they were, moved over what was written meanwhile."""
    membership = state.membership(conversation, user_id)
    membership.begin(seq, role)
    _move_over_absence(membership, seq, at_ms)
    conversation.member_count += 1
    conversation.changed = True
    state.member_ids[conversation.key].add(user_id)
    state.note_elder(membership)
    listed = state.listed.get(user_id)
    if listed is not None:
        listed[conversation.key] = conversation.snapshot()


def _move_over_absence(membership: MembershipState, seq: int, at_ms: int) -> None:
    intervals = membership.intervals
    cursors = membership.cursors
    if cursors is None:
        cursors = membership.cursors = MemberCursors(seq - 1, seq - 1, at_ms, seq - 1)
    cursors.has_left = False
    cursors.delivered_seq = rules.skip_hidden(cursors.delivered_seq, intervals)
    cursors.read_seq = rules.skip_hidden(cursors.read_seq, intervals)
    cursors.device_seq = rules.skip_hidden(cursors.device_seq, intervals)
    for device in membership.devices.values():
        device.delivered_seq = rules.skip_hidden(device.delivered_seq, intervals)
        device.changed = True


def keys_of_remove(keys: Keys, command: RemoveMember) -> None:
    """The membership of who removes; memberships and cursors of who goes; the first members, and the eldest."""
    keys_of_removal(keys, command.conversation_id, command.by, command.user_id)


def keys_of_removal(keys: Keys, conversation_id: str, by: str | None, user_id: str) -> None:
    """What `remove` needs."""
    name_acting(keys, conversation_id, by)
    keys.cursors.add((conversation_id, user_id))
    keys.list_members(conversation_id, removed=1)
    keys.elders[conversation_id] = 1 + keys.elders.get(conversation_id, 0)


def remove_member(state: State, command: RemoveMember) -> MembersChanged:
    """End a membership; everyone may end their own."""
    conversation = acted_on(state, command.conversation_id, command.by)
    membership = state.joined(command.conversation_id, command.user_id)
    rules.check_is_group(conversation.type)
    if command.by != command.user_id:
        check_may(state, conversation, command, "REMOVE_MEMBERS", membership.role)
    return remove(state, membership, command.by, command.at_ms)


def remove(state: State, membership: MembershipState, by: str | None, at_ms: int) -> MembersChanged:
    """End a membership; the entry that says so is the first one its user does not see."""
    conversation, user_id = membership.conversation, membership.user_id
    new_owner_id = successor(state, conversation, user_id)
    op: rules.MemberOp = "LEFT" if by == user_id else "REMOVED"
    sender_id = by or new_owner_id or conversation.owner_id
    payload = rules.member_payload(op, [user_id])
    made = add_entry(state, conversation, "MEMBER", sender_id, payload, at_ms)
    leave(state, membership, made.seq, has_left=op == "LEFT")
    note(state, conversation, at_ms, by, op, user_id)
    pass_on(state, conversation, new_owner_id, by, at_ms)
    entry = entry_of(conversation, made, made.payload)
    return MembersChanged(describe(state, conversation), (), (user_id,), entry, new_owner_id)


def successor(state: State, conversation: ConversationState, leaving_id: str) -> str | None:
    """Who owns a group after its owner: of the best rank who has been there longest; None if nobody has to, or can."""
    if leaving_id != conversation.owner_id:
        return None
    left = [it for it in state.elders[conversation.key].items() if it[0] != leaving_id]
    return min(left, key=lambda it: (it[1], it[0]))[0] if left else None


def pass_on(
    state: State, conversation: ConversationState, new_owner_id: str | None, by: str | None, at_ms: int
) -> None:
    """Make somebody the owner; None leaves it."""
    if new_owner_id is not None and new_owner_id != conversation.owner_id:
        conversation.owner_id = new_owner_id
        conversation.changed = True
        note(state, conversation, at_ms, by, "OWNER_CHANGED", new_owner_id)


def leave(state: State, membership: MembershipState, seq: int, *, has_left: bool) -> None:
    conversation, user_id = membership.conversation, membership.user_id
    membership.end(seq)
    assert membership.cursors is not None, "every member has cursors"
    membership.cursors.has_left = has_left
    for device in membership.devices.values():
        device.changed = True
    conversation.member_count -= 1
    conversation.changed = conversation.may_close = True  # who goes may have been the last one missing
    state.member_ids[conversation.key].discard(user_id)
    state.elders[conversation.key].pop(user_id, None)
    state.mutes[conversation.key, user_id] = (0, False)
    listed = state.listed.get(user_id)
    if listed is not None:
        del listed[conversation.key]


def keys_of_update(keys: Keys, command: UpdateConversation) -> None:
    """The membership of who changes it, and of the new owner; the first members."""
    name_acting(keys, command.conversation_id, command.by)
    if command.owner_id is not None:
        keys.members.add((command.conversation_id, command.owner_id))
    keys.list_members(command.conversation_id)


def update_conversation(state: State, command: UpdateConversation) -> Updated:
    """Change a group's title, description, owner or history. What is so already any member may ask for."""
    conversation = acted_on(state, command.conversation_id, command.by)
    rules.check_is_group(conversation.type)
    titled = None if command.titled is None else titled_by(command.titled.payload)
    if titled is not None and not is_news(state, conversation, titled):
        titled = None
    owner_id = None if command.owner_id == conversation.owner_id else command.owner_id
    history = None if command.history == conversation.history else command.history
    if titled is not None:
        check_may(state, conversation, command, "CHANGE_TITLE")
    if history is not None:
        check_may(state, conversation, command, "CHANGE_HISTORY")
    if owner_id is not None:
        check_may(state, conversation, command, "TRANSFER_OWNERSHIP")
        state.joined(command.conversation_id, owner_id)
    entry = None
    if command.titled is not None and titled is not None:
        entry = _title(state, conversation, command, command.titled)
        for action, subject in note_titled(state, conversation, titled):
            note(state, conversation, command.at_ms, command.by, action, subject)
    if history is not None:
        conversation.history = history
        note(state, conversation, command.at_ms, command.by, "HISTORY_CHANGED", history)
        conversation.changed = True
    pass_on(state, conversation, owner_id, command.by, command.at_ms)
    changed = (titled, owner_id, history) != (None, None, None)
    return Updated(describe(state, conversation), changed, entry)


def _title(
    state: State, conversation: ConversationState, command: UpdateConversation, titled: TitleEntry
) -> Entry:
    """The entry that says what the group is called from now on."""
    sender_id = command.by or conversation.owner_id
    key = (titled.client_msg_id, titled.payload_mac)
    row = add_entry(state, conversation, "TITLE", sender_id, titled.payload, command.at_ms, *key)
    return entry_of(conversation, row, titled.payload)


def keys_of_renew_epoch(keys: Keys, command: RenewEpoch) -> None:
    """The conversation."""
    keys.conversations.add(command.conversation_id)


def renew_epoch(state: State, command: RenewEpoch) -> Done:
    """Give the log a new identity; entries keep the epoch, and so the id, that they were written under."""
    conversation = state.find(command.conversation_id)
    conversation.epoch = command.epoch
    conversation.changed = True
    note(state, conversation, command.at_ms, None, "EPOCH_RENEWED", command.epoch)
    return Done()


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
        conversation.history,
        state.descriptions.get(conversation.key, ""),
    )
