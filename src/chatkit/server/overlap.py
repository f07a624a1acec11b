"""Which commands may be in two transactions at the same time: those that share no key here.

A conversation is in one transaction at a time, so that what is sent to it is stored and published in the order of
arrival; so is a user whose devices a command locks, or one slow transaction would soon hold up the next. Logins,
memberships, blocks and revocations see a user's rows wherever they are, and wait for each other as a whole; so do
commands that name an entry by its id, for that holds the conversation's number, which nobody here can tell from its id.

The rule keeps order and keeps slow things apart. Nothing in the store rests on it: there rows are locked.
Used by `commit_queue` and `committer`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

from ..storage.base import (
    AddMembers,
    AdvanceDelivered,
    AdvanceRead,
    Append,
    AppendPart,
    BanMember,
    Command,
    ConfirmMessage,
    CreateConversation,
    EndStream,
    Expire,
    ForgetDevices,
    ImportEntries,
    ModeratedAppend,
    Mute,
    OpenSession,
    Recall,
    RegisterPush,
    RemoveMember,
    RenewEpoch,
    RenewLogin,
    ReportMessage,
    ResolveReports,
    Review,
    SeeDevices,
    SetRetention,
    SetRole,
    SilenceMember,
    UnbanMember,
    UpdateConversation,
)
from .pending import PendingCommand

_LOGINS_AND_MEMBERSHIPS: Final = "logins and memberships"
_BY_ENTRY: Final = "by entry"


def keys_of(command: Command) -> tuple[str, ...]:
    """What a command shares with others; never empty."""
    find = _KEYS.get(type(command))
    return (_LOGINS_AND_MEMBERSHIPS,) if find is None else find(command)


class Batch:
    """Commands in one transaction.

    Attributes:
        commands: At least one.
        slow: Whether it took long enough for others to begin beside it.
    """

    def __init__(self, commands: list[PendingCommand]) -> None:
        self.commands = commands
        self.slow = False

    @cached_property
    def keys(self) -> frozenset[str]:
        """What nothing beside it may share."""
        return frozenset(key for pending in self.commands for key in keys_of(pending.command))


def _conversation(command: Any) -> tuple[str, ...]:
    return ("c " + command.conversation_id,)


def _delivered(command: AdvanceDelivered) -> tuple[str, ...]:
    return ("c " + command.conversation_id, "u " + command.user_id)


def _confirmed(command: ConfirmMessage) -> tuple[str, ...]:
    place = _BY_ENTRY if command.conversation_id is None else "c " + command.conversation_id
    return (place, "u " + command.user_id)


def _by_entry(_: Recall | ReportMessage | ResolveReports) -> tuple[str, ...]:
    return (_BY_ENTRY,)


def _membership(command: Any) -> tuple[str, ...]:
    return ("c " + command.conversation_id, _LOGINS_AND_MEMBERSHIPS)


def _login(command: OpenSession | RenewLogin | RegisterPush | ForgetDevices) -> tuple[str, ...]:
    return ("u " + command.user_id, _LOGINS_AND_MEMBERSHIPS)


def _seen(command: SeeDevices) -> tuple[str, ...]:
    return (*("u " + user_id for user_id, _ in command.devices), _LOGINS_AND_MEMBERSHIPS)


_KEYS: Final[dict[type, Callable[[Any], tuple[str, ...]]]] = {
    Append: _conversation,
    AppendPart: _conversation,
    EndStream: _conversation,
    ModeratedAppend: _conversation,
    ReportMessage: _by_entry,
    ResolveReports: _by_entry,
    Review: _membership,
    AdvanceRead: _conversation,
    UpdateConversation: _conversation,
    RenewEpoch: _conversation,
    SetRole: _conversation,
    SilenceMember: _conversation,
    SetRetention: _conversation,
    Expire: _conversation,
    Mute: _conversation,
    AdvanceDelivered: _delivered,
    ConfirmMessage: _confirmed,
    Recall: _by_entry,
    CreateConversation: _membership,
    ImportEntries: _membership,
    AddMembers: _membership,
    RemoveMember: _membership,
    BanMember: _membership,
    UnbanMember: _membership,
    OpenSession: _login,
    RenewLogin: _login,
    RegisterPush: _login,
    ForgetDevices: _login,
    SeeDevices: _seen,
}
"""Of every other command: logins and memberships."""
