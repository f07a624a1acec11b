"""What happens to cursors and the outbox: confirmations and reading. For each command: what it needs, and what
it does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from ..visibility import is_visible, next_visible, ranges_after
from . import rules
from .commands import AdvanceDelivered, AdvanceRead, ConfirmMessage
from .keys import Keys, Ref
from .messages import find_message, keys_of_message
from .outcomes import Advanced, message_place
from .sessions import register
from .state import DeviceCursor, MemberCursors, MembershipState, State

Confirmation = AdvanceDelivered | ConfirmMessage


def keys_of_advance_delivered(keys: Keys, command: AdvanceDelivered) -> None:
    """The user's memberships, cursors and devices."""
    keys.conversations.add(command.conversation_id)
    keys.cursors.add((command.conversation_id, command.user_id))
    keys.devices.add(command.user_id)


def keys_of_advance_read(keys: Keys, command: AdvanceRead) -> None:
    """The user's memberships and cursors."""
    keys.conversations.add(command.conversation_id)
    keys.cursors.add((command.conversation_id, command.user_id))


def keys_of_confirm(keys: Keys, command: ConfirmMessage) -> None:
    """The message, and the user's memberships and cursors in its conversation, and their devices."""
    if keys_of_message(keys, command.message_id, command.user_id) is not None:
        keys.devices.add(command.user_id)


def keys_after_advance_delivered(state: State, command: AdvanceDelivered, more: Keys) -> None:
    """Who wrote what is newly covered."""
    membership = _loaded(state, command.conversation_id, command.user_id)
    _keys_after_delivery(state, membership, command, command.up_to_seq, more)


def keys_after_confirm(state: State, command: ConfirmMessage, more: Keys) -> None:
    """The same, for the one message: above a gap the cursor stays, so that only its own sender may be asked for."""
    place = message_place(command.message_id)
    if place is not None:
        membership = _loaded(state, place[0], command.user_id)
        _keys_after_delivery(state, membership, command, place[2], more)


def keys_after_advance_read(state: State, command: AdvanceRead, more: Keys) -> None:
    """Who wrote what is newly covered."""
    membership = _loaded(state, command.conversation_id, command.user_id)
    if membership is not None and membership.cursors is not None:
        _name_senders(state, membership, membership.cursors.read_seq, command.up_to_seq, (), more)


def _loaded(state: State, ref: Ref, user_id: str) -> MembershipState | None:
    conversation = state.conversations[ref]
    return None if conversation is None else state.membership(conversation, user_id)


def _keys_after_delivery(
    state: State, membership: MembershipState | None, command: Confirmation, up_to_seq: int, more: Keys
) -> None:
    if membership is not None and membership.cursors is not None:
        device = membership.devices.get(command.device_id)
        exact = () if device is None else device.exact
        after_seq = membership.cursors.delivered_seq
        if type(command) is ConfirmMessage and not _may_absorb(membership, device):
            after_seq = max(after_seq, up_to_seq - 1)
        _name_senders(state, membership, after_seq, up_to_seq, exact, more)


def _may_absorb(membership: MembershipState, device: DeviceCursor | None) -> bool:
    """Whether the cursor can pass its first single confirmation: a membership made since then closed the gap."""
    if device is None or not device.exact:
        return False
    return device.exact[0] == next_visible(membership.intervals, device.delivered_seq)


def _name_senders(
    state: State,
    membership: MembershipState,
    after_seq: int,
    up_to_seq: int,
    exact: Sequence[int],
    more: Keys,
) -> None:
    """Name the stored entries that a cursor moved to `up_to_seq` covers, with what it absorbs there.

    What else moves it in this batch is a command with an `up_to_seq` of its own, or lies among the batch's own entries.
    """
    conversation = membership.conversation
    if conversation.pair is not None or not rules.names_authors(conversation.member_count - state.removals):
        return
    target = min(up_to_seq, conversation.head_seq)
    end, _ = rules.advance_cursor(target, exact, membership.intervals)
    start = rules.author_range(after_seq, target)
    for first, last in ranges_after(membership.intervals, start, min(end, conversation.head_seq)):
        more.senders.append((conversation.key, first, last))


def advance_delivered(state: State, command: AdvanceDelivered) -> Advanced:
    """Move a device's cursor up to a seq."""
    membership = state.joined(command.conversation_id, command.user_id)
    rules.check_up_to(command.up_to_seq, membership.conversation.head_seq)
    device = _device(state, membership, command)
    if command.up_to_seq > device.delivered_seq:
        _move_device(state, membership, device, command.up_to_seq, command.at_ms)
    return _after_delivery(state, membership, command, device)


def confirm_message(state: State, command: ConfirmMessage) -> Advanced:
    """Keep one confirmation, and move the device's cursor over it once nothing is missing before it."""
    conversation, row = find_message(state, command.message_id)
    membership = state.membership(conversation, command.user_id)
    rules.check_visible(membership.intervals, row.seq)
    rules.check_conversation(command, conversation.conversation_id)
    device = _device(state, membership, command)
    was_member = is_visible(
        membership.intervals, row.seq
    )  # else it is of the past, which is read and not delivered
    if was_member and row.seq > device.delivered_seq and not _holds(device.exact, row.seq):
        _confirm(state, membership, device, row.seq, command.at_ms)
    return _after_delivery(state, membership, command, device)


def _device(state: State, membership: MembershipState, command: Confirmation) -> DeviceCursor:
    """The device's cursor, with a row from now on; a device that comes by HTTP may be seen here for the first time."""
    device = membership.devices.get(command.device_id)
    if device is None:
        register(state, command.user_id, command.device_id, command.at_ms, command.rule)
        device = _begin(state, membership, command.device_id)
    return device


def _begin(state: State, membership: MembershipState, device_id: str) -> DeviceCursor:
    """Give a device a row of its own: it is where the farthest of the user's devices is."""
    seen = state.devices[membership.user_id][device_id]
    device = DeviceCursor(_cursors(membership).device_seq, seen.first_seen_ms, new=True)
    membership.devices[device_id] = device
    return device


def _holds(ascending: Sequence[int], seq: int) -> bool:
    index = bisect_left(ascending, seq)
    return index < len(ascending) and ascending[index] == seq


def _confirm(state: State, membership: MembershipState, device: DeviceCursor, seq: int, at_ms: int) -> None:
    if seq == next_visible(membership.intervals, device.delivered_seq) or _may_absorb(membership, device):
        _close_gap(state, membership, device, seq, at_ms)
    else:
        index = bisect_left(device.exact, seq)
        _keep(device, seq, [*device.exact[:index], seq, *device.exact[index:]], at_ms)


def _close_gap(state: State, membership: MembershipState, device: DeviceCursor, seq: int, at_ms: int) -> None:
    """The cursor moves; it may come to rest below this confirmation."""
    cursor, above = rules.advance_cursor(device.delivered_seq, [*device.exact, seq], membership.intervals)
    if seq in above:
        _keep(device, seq, above, at_ms)
    else:
        _move_device(state, membership, device, cursor, at_ms)


def _keep(device: DeviceCursor, seq: int, above: list[int], at_ms: int) -> None:
    """Keep a single confirmation above the cursor."""
    rules.check_exact_count(len(above))
    device.exact = above
    device.added = [*device.added, seq]
    device.updated_ms = at_ms
    device.changed = True


def _move_device(
    state: State, membership: MembershipState, device: DeviceCursor, up_to_seq: int, at_ms: int
) -> None:
    cursor, above = rules.advance_cursor(up_to_seq, device.exact, membership.intervals)
    if len(above) < len(device.exact):
        device.exact = above
        device.passed = True
    device.delivered_seq = cursor
    device.updated_ms = at_ms
    device.changed = True
    membership.conversation.may_close = True
    _raise_farthest(state, membership, cursor)


def _raise_farthest(state: State, membership: MembershipState, cursor: int) -> None:
    """A device got farther than any before: those that were where the farthest was stay there, each with a row."""
    cursors = _cursors(membership)
    if cursor <= cursors.device_seq:
        return
    for device_id in state.devices[membership.user_id]:
        if device_id not in membership.devices:
            _begin(state, membership, device_id)
    cursors.device_seq = cursor
    cursors.changed = True


def _after_delivery(
    state: State, membership: MembershipState, command: Confirmation, device: DeviceCursor
) -> Advanced:
    """Raise the user's delivered cursor to the device's."""
    cursors = _cursors(membership)
    before = cursors.delivered_seq
    if device.delivered_seq > before:
        cursors.delivered_seq = device.delivered_seq
        cursors.changed = True
    return _advanced(state, membership, command.device_id, before, cursors.delivered_seq)


def advance_read(state: State, command: AdvanceRead) -> Advanced:
    """Move the user's read cursor, and with it the delivered one, which is never below."""
    membership = state.joined(command.conversation_id, command.user_id)
    rules.check_up_to(command.up_to_seq, membership.conversation.head_seq)
    cursors = _cursors(membership)
    before = cursors.read_seq
    if command.up_to_seq > before:
        cursors.read_seq = rules.skip_hidden(command.up_to_seq, membership.intervals)
        cursors.delivered_seq = max(cursors.delivered_seq, cursors.read_seq)
        cursors.read_ms = command.at_ms
        cursors.changed = True
    return _advanced(state, membership, None, before, cursors.read_seq)


def _cursors(membership: MembershipState) -> MemberCursors:
    cursors = membership.cursors
    assert cursors is not None, "every member has cursors"
    return cursors


def _advanced(
    state: State, membership: MembershipState, device_id: str | None, before: int, after: int
) -> Advanced:
    cursors = _cursors(membership)
    return Advanced(
        membership.conversation.conversation_id,
        membership.user_id,
        device_id,
        cursors.delivered_seq,
        cursors.read_seq,
        after > before,
        _authors(state, membership, before, after),
        membership.conversation.member_count,
    )


def _authors(state: State, membership: MembershipState, after_seq: int, up_to_seq: int) -> tuple[str, ...]:
    """Who wrote the entries in (after_seq, up_to_seq] that the user sees."""
    conversation, user_id = membership.conversation, membership.user_id
    if after_seq >= up_to_seq or not rules.names_authors(conversation.member_count):
        return ()
    if conversation.pair is not None:
        return (rules.other_of(conversation.pair, user_id),)
    senders = state.senders.get(conversation.key, {})
    ranges = ranges_after(membership.intervals, rules.author_range(after_seq, up_to_seq), up_to_seq)
    found = {senders[seq] for first, last in ranges for seq in range(first, last + 1)}
    return tuple(sorted(filter(None, found - {user_id})))


def outbox_after(first_seq: int, head_seq: int, up_to_seq: int) -> int | None:
    """The first seq of an outbox once everything up to `up_to_seq` is taken out; None if nothing is left."""
    if up_to_seq >= head_seq:
        return None
    return max(first_seq, up_to_seq + 1)
