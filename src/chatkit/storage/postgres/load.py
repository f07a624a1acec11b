"""Loads the rows of a batch: what `Keys` name, into a `State`, locked, by one call of `load_batch_2`.

Called by `store` inside a write transaction. Nothing is decided here. With what the commands name comes what
`core.log.decide.keys_after` is going to ask for, so that mostly nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from ...core.cursors import RECEIPT_MEMBERS_MAX
from ...core.log import commands as c
from ...core.log.keys import Keys, Ref
from ...core.log.outcomes import MembershipSnapshot, Revocation, message_place
from ...core.log.rules import AUTHOR_ENTRIES_MAX
from ...core.log.state import (
    ConversationState,
    DeviceCursor,
    DeviceState,
    MemberCursors,
    MembershipState,
    MessageRow,
    State,
    TokenRow,
)
from ...core.policy import RANKS
from ...core.visibility import Interval
from ...drivers.postgres import Connection, Row
from .columns import columns

_ARGUMENTS: Final = 47
LOAD_BATCH: Final = f"SELECT * FROM load_batch_2({', '.join(f'${n}' for n in range(1, _ARGUMENTS + 1))})"  # noqa: S608 -- numbers

LOCK_USERS: Final = """
SELECT pg_advisory_xact_lock(1667785076, number)
FROM (SELECT DISTINCT hashtext(name) & 255 AS number FROM unnest($1::text[]) AS name ORDER BY number) AS numbers
"""
"""As `load_batch_2` locks those whose logins are seen."""

(
    _CONVERSATION,
    _PRESENT,
    _MEMBERSHIP,
    _DEVICE_CURSOR,
    _EXACT,
    _SENT,
    _PLACE,
    _SENDER,
    _LISTED_MEMBER,
    _ELDER,
    _DEVICE,
    _LISTED,
    _BLOCK,
    _BLOCK_COUNT,
    _TOKEN,
    _REVOCATION,
    _NEW_KEY,
    _NEW_POSITION,
    _BAN,
    _BAN_COUNT,
) = range(1, 21)
"""What a row is: its first column."""


class Covered(msgspec.Struct, frozen=True):
    """Entries that a command moves a cursor over: of a conversation, for a user, up to a seq; the one of what is read
    or of what is delivered."""

    ref: Ref
    user_id: str
    up_to_seq: int
    is_read: bool


def covered_by(commands: Iterable[c.Command]) -> list[Covered]:
    """What the commands move cursors over: whose entries these are is asked for once it is known where they stand."""
    farthest: dict[tuple[Ref, str, bool], int] = {}
    place: tuple[Ref, str, bool]
    for it in commands:
        if isinstance(it, c.AdvanceDelivered):
            place, seq = (it.conversation_id, it.user_id, False), it.up_to_seq
        elif isinstance(it, c.AdvanceRead):
            place, seq = (it.conversation_id, it.user_id, True), it.up_to_seq
        elif isinstance(it, c.ConfirmMessage) and (named := message_place(it.message_id)) is not None:
            place, seq = (named[0], it.user_id, False), named[2]
        else:
            continue
        farthest[place] = max(seq, farthest.get(place, 0))
    return [Covered(ref, user_id, seq, is_read) for (ref, user_id, is_read), seq in farthest.items()]


async def load(connection: Connection, keys: Keys, state: State, covered: Sequence[Covered] = ()) -> None:
    """Put everything that the keys name into the state, and lock it until the transaction ends.

    Args:
        connection: In a write transaction.
        keys: What is wanted.
        state: Empty, or what an earlier load left.
        covered: Of `covered_by`.
    """
    state.expect(keys)
    rows = await connection.fetch(LOAD_BATCH, *_arguments(keys, covered))
    for row in rows:
        if row[0] == _CONVERSATION:
            state.add_conversation(_conversation(row))
    with_cursors, others = state.expect_members(keys)
    state.expect_lists(keys)
    state.expect_elders(keys)
    _Filler(state, with_cursors, others).fill(rows)
    for token_hash in keys.token_hashes:  # with a token come its user's devices and conversations
        place = state.token_places[token_hash]
        if place is not None:
            state.devices.setdefault(place[0], {})
            state.listed.setdefault(place[0], {})


async def lock_newcomers(connection: Connection, keys: Keys, state: State) -> None:
    """Lock the users whose devices are needed and who have none, so that no other node makes them one meanwhile.

    There is no row to lock for them. They come after the conversations, out of the usual order, since they are rare: a
    deadlock is tried again.
    """
    users = [it for it in keys.devices if it not in keys.listed and not state.devices[it]]
    if users:
        await connection.fetch(LOCK_USERS, users)
        devices = Keys()
        devices.devices.update(users)
        await load(connection, devices, state)


def lacks(state: State, more: Keys) -> bool:
    """Whether a state lacks anything of what `keys_after` named."""
    return (
        bool(more.devices or more.listed or more.names_references)
        or any(not state.knows_member(ref, user_id) for ref, user_id in more.members)
        or any(not state.knows_cursors(ref, user_id) for ref, user_id in more.cursors)
        or any(name not in state.sent for name in more.sent)
        or any(place not in state.places for place in more.places)
        or any(
            seq not in state.senders.get(key, ())
            for key, first, last in more.senders
            for seq in range(first, last + 1)
        )
    )


def _arguments(keys: Keys, covered: Sequence[Covered]) -> tuple[object, ...]:
    blockers, blocked = columns(keys.blocks, 2)
    return (
        sorted(_locked(keys)),
        list(keys.conversations),
        list(keys.conversation_keys),
        list(keys.pairs),
        keys.new_conversations,
        *_places(keys.members),
        *_places(keys.cursors),
        *columns(keys.sent, 3),
        *columns(keys.places, 2),
        *columns(keys.merged_senders(), 3),
        *_places((it.ref, it.user_id) for it in covered),
        [it.up_to_seq for it in covered],
        [it.is_read for it in covered],
        AUTHOR_ENTRIES_MAX,
        RECEIPT_MEMBERS_MAX + keys.removals,
        list(keys.devices),
        list(keys.listed),
        list(keys.member_lists),
        keys.members_max,
        list(keys.elders),
        keys.elders_max,
        blockers,
        blocked,
        list(keys.block_counts),
        *columns(keys.tokens, 2),
        list(keys.token_hashes),
        list(keys.token_users),
        list(keys.login_hashes),
        *columns(keys.revocations, 3),
        keys.new_revocations,
        *columns(keys.bans, 2),
        list(keys.ban_counts),
    )


def _locked(keys: Keys) -> set[str]:
    """Users, and tokens by their digest, of whom the batch sees or changes logins or blocks."""
    names = {*keys.listed, *keys.block_counts, *keys.token_users}
    names.update(user_id for user_id, _ in (*keys.blocks, *keys.tokens))
    names.update(user_id for user_id, _, _ in keys.revocations if user_id)
    digests = {*keys.login_hashes, *(token_hash for _, _, token_hash in keys.revocations if token_hash)}
    return names | {it.hex() for it in digests}


def _places(named: Iterable[tuple[Ref, str]]) -> tuple[list[str | None], list[int | None], list[str]]:
    """Conversations by id or by number, with users."""
    ids: list[str | None] = []
    numbers: list[int | None] = []
    users: list[str] = []
    for ref, user_id in named:
        ids.append(ref if isinstance(ref, str) else None)
        numbers.append(ref if isinstance(ref, int) else None)
        users.append(user_id)
    return ids, numbers, users


def _conversation(row: Row) -> ConversationState:
    _, key, head_seq, member_count, last_activity_ms, blocks, outbox_seq, from_start, floor_seq, *texts = row
    conversation_id, kind, title, epoch, owner_id, pair = texts[:6]
    return ConversationState(
        key,
        conversation_id,
        kind,
        title,
        epoch,
        head_seq,
        owner_id,
        pair,
        member_count,
        last_activity_ms,
        blocks,
        outbox_seq,
        outbox_seq,
        "FROM_START" if from_start else "FROM_JOIN",
        floor_seq,
    )


class _Filler:
    """Puts rows where they belong in a state whose conversations are there."""

    def __init__(
        self, state: State, with_cursors: Sequence[MembershipState], others: Sequence[MembershipState]
    ) -> None:
        self._state = state
        self._with_cursors = {(it.conversation.key, it.user_id): it for it in with_cursors}
        self._seen: set[tuple[object, ...]] = set()  # a conversation may be named by its id and by its number
        self._others = {(it.conversation.key, it.user_id): it for it in others}
        self._put = {
            _PRESENT: self._present,
            _MEMBERSHIP: self._membership,
            _DEVICE_CURSOR: self._device_cursor,
            _EXACT: self._exact,
            _SENT: self._sent,
            _PLACE: self._place,
            _SENDER: self._sender,
            _LISTED_MEMBER: self._listed_member,
            _ELDER: self._elder,
            _DEVICE: self._device,
            _LISTED: self._listed,
            _BLOCK: self._block,
            _BLOCK_COUNT: self._block_count,
            _TOKEN: self._token,
            _REVOCATION: self._revocation,
            _NEW_KEY: self._new_key,
            _NEW_POSITION: self._new_position,
            _BAN: self._ban,
            _BAN_COUNT: self._ban_count,
        }

    def fill(self, rows: Sequence[Row]) -> None:
        """Each row once; what comes in an order is sorted afterwards."""
        for row in rows:
            if row[0] != _CONVERSATION:
                self._put[row[0]](row)
        for membership in self._with_cursors.values():
            for device in membership.devices.values():
                if device.exact:
                    device.exact = sorted(device.exact)

    def _present(self, row: Row) -> None:
        membership = self._others.get((row[1], row[9]))
        if membership is not None:
            membership.load(Interval(row[2], None, row[18]), row[10], row[17])

    def _membership(self, row: Row) -> None:
        membership = self._with_cursors.get((row[1], row[9]))
        if membership is not None and (*row[1:3], row[9]) not in self._seen:
            self._seen.add((*row[1:3], row[9]))
            membership.load(Interval(row[2], row[3], row[18]), row[10], row[17])
            if membership.cursors is None:
                delivered_seq, read_seq, read_ms, device_seq, has_left = row[4:9]
                membership.cursors = MemberCursors(
                    delivered_seq, read_seq, read_ms, device_seq, bool(has_left)
                )

    def _device_cursor(self, row: Row) -> None:
        membership = self._with_cursors.get((row[1], row[9]))
        if membership is not None:
            membership.devices[row[10]] = DeviceCursor(row[2], row[3])

    def _exact(self, row: Row) -> None:
        membership = self._with_cursors.get((row[1], row[9]))
        if membership is not None and (*row[1:3], *row[9:11]) not in self._seen:
            self._seen.add((*row[1:3], *row[9:11]))
            device = membership.devices[row[10]]
            device.exact = [*device.exact, row[2]]

    def _message(self, row: Row) -> MessageRow:
        key, seq, server_ts, recalled_by_seq = row[1:5]
        epoch, kind, sender_id, client_msg_id = row[9:13]
        if recalled_by_seq is not None:
            self._state.recalled[key, seq] = recalled_by_seq
        return MessageRow(key, seq, epoch, kind, sender_id, client_msg_id, server_ts, row[15], row[16])

    def _sent(self, row: Row) -> None:
        message = self._message(row)
        assert message.client_msg_id is not None, "it was found by it"
        self._state.sent[row[13], message.sender_id, message.client_msg_id] = message

    def _place(self, row: Row) -> None:
        message = self._message(row)
        self._state.places[message.conversation_key, message.seq] = message

    def _sender(self, row: Row) -> None:
        self._state.senders.setdefault(row[1], {})[row[2]] = row[9]

    def _listed_member(self, row: Row) -> None:
        self._state.member_ids[row[1]].add(row[9])

    def _elder(self, row: Row) -> None:
        self._state.elders[row[1]][row[9]] = (RANKS[row[10]], row[2])

    def _device(self, row: Row) -> None:
        self._state.devices.setdefault(row[9], {})[row[10]] = DeviceState(row[1], row[2])

    def _listed(self, row: Row) -> None:
        user_id, conversation_id, kind, epoch = row[9:13]
        snapshot = MembershipSnapshot(conversation_id, kind, epoch, row[2], row[3])
        self._state.listed.setdefault(user_id, {})[row[1]] = snapshot

    def _block(self, row: Row) -> None:
        self._state.blocks[row[9], row[10]] = True

    def _block_count(self, row: Row) -> None:
        self._state.block_counts[row[9]] = row[1]

    def _ban(self, row: Row) -> None:
        self._state.bans[row[9], row[10]] = True

    def _ban_count(self, row: Row) -> None:
        self._state.ban_counts[row[9]] = row[1]

    def _token(self, row: Row) -> None:
        user_id, device_id, scope = row[9:12]
        token = TokenRow(user_id, device_id, row[15], row[1], row[2], scope, row[16], row[3])
        self._state.tokens[user_id, device_id] = token
        self._state.token_places[token.token_hash] = (user_id, device_id)

    def _revocation(self, row: Row) -> None:
        position, at_ms, ends_ms = row[1:4]
        kind, user_id, device_id = row[9:12]
        found = Revocation(position, kind, user_id, device_id, row[15], at_ms, ends_ms)
        self._state.revocations[user_id, device_id, found.token_hash][found.kind] = found

    def _new_key(self, row: Row) -> None:
        self._state.new_keys.append(row[1])

    def _new_position(self, row: Row) -> None:
        self._state.new_positions.append(row[1])
