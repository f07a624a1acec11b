"""What happens to what a member is: their role, silence, and bans. For each command: what it needs, and what it does.

None of it is an entry of the log. Why: docs/design/0017-roles-and-policy.md.
"""

from __future__ import annotations

from ...errors import ForbiddenError
from . import rules
from .acting import acted_on, check_may, name_acting
from .audit import AuditAction, note
from .commands import BanMember, SetRole, SilenceMember, UnbanMember
from .keys import Keys
from .members import describe, keys_of_removal, remove
from .outcomes import MembersChanged, Updated
from .state import ConversationState, MembershipState, State


def keys_of_set_role(keys: Keys, command: SetRole) -> None:
    """Both memberships; the first members; and who follows an owner, since the order of them changes."""
    _name_both(keys, command)
    keys.elders[command.conversation_id] = 1 + keys.elders.get(command.conversation_id, 0)


def set_role(state: State, command: SetRole) -> Updated:
    """Give a member another role."""
    conversation, membership = _both(state, command)
    if membership.role == command.role:
        return Updated(describe(state, conversation), False)
    check_may(state, conversation, command, "CHANGE_ROLES", membership.role)
    check_may(state, conversation, command, "CHANGE_ROLES", command.role)
    if membership.role == "OWNER":
        raise ForbiddenError("the owner's role changes by a transfer of the ownership")
    membership.granted = command.role
    membership.standing_changed = True
    state.note_elder(membership)
    detail = {"role": command.role}
    note(state, conversation, command.at_ms, command.by, "ROLE_CHANGED", command.user_id, **detail)
    return Updated(describe(state, conversation), True)


def keys_of_silence(keys: Keys, command: SilenceMember) -> None:
    """Both memberships; the first members."""
    _name_both(keys, command)


def silence_member(state: State, command: SilenceMember) -> Updated:
    """Take the right to write from a member for a while, or give it back."""
    conversation, membership = _both(state, command)
    if membership.silenced_until_ms == command.until_ms:
        return Updated(describe(state, conversation), False)
    check_may(state, conversation, command, "SILENCE_MEMBERS", membership.role)
    membership.silenced_until_ms = command.until_ms
    membership.standing_changed = True
    action: AuditAction = "SILENCED" if command.until_ms else "UNSILENCED"
    detail = {"until_ms": str(command.until_ms)} if command.until_ms else {}
    note(state, conversation, command.at_ms, command.by, action, command.user_id, **detail)
    return Updated(describe(state, conversation), True)


def keys_of_ban(keys: Keys, command: BanMember) -> None:
    """What a removal needs; whether there is a ban, and how many there are."""
    keys_of_removal(keys, command.conversation_id, command.by, command.user_id)
    keys.bans.add((command.conversation_id, command.user_id))
    keys.ban_counts.add(command.conversation_id)


def ban_member(state: State, command: BanMember) -> MembersChanged:
    """Keep a user out, and remove them if they are in."""
    conversation = acted_on(state, command.conversation_id, command.by)
    rules.check_is_group(conversation.type)
    membership = state.membership(conversation, command.user_id)
    check_may(state, conversation, command, "BAN_MEMBERS", membership.role if membership.is_current else None)
    if not state.is_banned(conversation, command.user_id):
        rules.check_ban_count(state.ban_counts[conversation.conversation_id])
        state.set_ban(conversation, command.user_id, command.by or "", command.at_ms)
        note(state, conversation, command.at_ms, command.by, "MEMBER_BANNED", command.user_id)
    if membership.is_current:
        return remove(state, membership, command.by, command.at_ms)
    return MembersChanged(describe(state, conversation), (), (), None)


def keys_of_unban(keys: Keys, command: UnbanMember) -> None:
    """The membership of who ends it; the ban; the first members."""
    name_acting(keys, command.conversation_id, command.by)
    keys.bans.add((command.conversation_id, command.user_id))
    keys.ban_counts.add(command.conversation_id)
    keys.list_members(command.conversation_id)


def unban_member(state: State, command: UnbanMember) -> MembersChanged:
    """Let a user be added again; without a ban there is nothing to do."""
    conversation = acted_on(state, command.conversation_id, command.by)
    rules.check_is_group(conversation.type)
    check_may(state, conversation, command, "BAN_MEMBERS")
    if state.is_banned(conversation, command.user_id):
        state.end_ban(conversation, command.user_id)
        note(state, conversation, command.at_ms, command.by, "MEMBER_UNBANNED", command.user_id)
    return MembersChanged(describe(state, conversation), (), (), None)


def _name_both(keys: Keys, command: SetRole | SilenceMember) -> None:
    name_acting(keys, command.conversation_id, command.by)
    keys.members.add((command.conversation_id, command.user_id))
    keys.list_members(command.conversation_id)


def _both(state: State, command: SetRole | SilenceMember) -> tuple[ConversationState, MembershipState]:
    """The conversation and the member whom it is about. Raises NotFoundError or, for a SINGLE, ForbiddenError."""
    conversation = acted_on(state, command.conversation_id, command.by)
    rules.check_is_group(conversation.type)
    return conversation, state.joined(command.conversation_id, command.user_id)
