"""Rows that a writer need not read again: what the batches before left in memory is what the file holds.

Only batches of nothing but `HOT` commands use them and leave any; whatever else writes to the file ends them, and so
does a transaction that fails. Called by `writer`, which sees to that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ...core.log.changes import OutboxRows
from ...core.log.commands import AdvanceDelivered, AdvanceRead, Append, Command
from ...core.log.keys import Keys
from ...core.log.state import ConversationState, DeviceState, MembershipState, State

HOT: Final = frozenset({Append, AdvanceDelivered, AdvanceRead})
"""What changes nothing but logs at their ends, cursors and the outbox."""

ROWS_MAX: Final = 20_000
"""Conversations, memberships and users; once there are more, all are forgotten."""


def are_hot(commands: Iterable[Command]) -> bool:
    """Whether a batch may use what is in memory."""
    return HOT.issuperset(map(type, commands))


class HotRows:
    """Conversations, memberships and users' devices, as they are in the file.

    Args:
        version: Of the file, as `PRAGMA data_version` says it: another one means that somebody else wrote to it.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self._conversations: dict[str, ConversationState] = {}
        self._memberships: dict[tuple[str | int, str], MembershipState] = {}
        self._devices: dict[str, dict[str, DeviceState]] = {}

    def lend(self, keys: Keys, state: State) -> None:
        """Put what is known of the keys into a state, which may change it, before the rest is loaded."""
        for conversation_id in keys.conversations & self._conversations.keys():
            state.add_conversation(self._conversations[conversation_id])
        for name in (keys.members | keys.cursors) & self._memberships.keys():
            membership = self._memberships[name]
            state.memberships.setdefault(membership.user_id, {})[membership.conversation.key] = membership
        for user_id in keys.devices & self._devices.keys():
            state.devices[user_id] = self._devices[user_id]

    def keep(self, state: State, written: OutboxRows) -> bool:
        """Keep what a batch of hot commands loaded and changed, now that it is durable.

        Returns whether anything may be taken from here any more: not if devices came or went, or if it is too much.
        """
        opened: dict[int, int | None] = dict(written.opened)
        opened.update((key, None) for (key,) in written.closed)
        for conversation_id, conversation in state.conversations.items():
            if conversation is not None and type(conversation_id) is str:
                _settle(conversation, opened)
                self._conversations[conversation_id] = conversation
        for user_id, of_user in state.memberships.items():
            for membership in of_user.values():
                _settle_cursors(membership)
                self._memberships[membership.conversation.conversation_id, user_id] = membership
        self._devices.update((user_id, devices) for user_id, devices in state.devices.items() if devices)
        if state.forgotten or any(
            it.changed for of_user in state.devices.values() for it in of_user.values()
        ):
            return False
        count = len(self._conversations) + len(self._memberships) + len(self._devices)
        return count <= ROWS_MAX


def _settle(it: ConversationState, outboxes: dict[int, int | None]) -> None:
    """As the conversation would be loaded now."""
    if it.grown_ms is not None:
        it.outbox_sleeps = False  # it was woken, or its row is new
    it.outbox_seq = it.stored_outbox_seq = outboxes.get(it.key, it.stored_outbox_seq)
    it.grown_ms = None
    it.may_close = False


def _settle_cursors(it: MembershipState) -> None:
    if it.cursors is not None:
        it.cursors.changed = False
    for device in (it.loaded_devices or {}).values():
        device.new = device.changed = device.passed = False
        device.added = ()
