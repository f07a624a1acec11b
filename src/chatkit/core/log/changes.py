"""What a batch changed, as sets of rows in the order of their statements' columns, each row at most once.

A store writes them as they are, in the order in which they are named here. *Bulk changes* reach rows that nobody
loaded; they come before the rows of the same table that were loaded, which are put over them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from ...types import ConversationType, GrantedRole, History
from ..visibility import Interval
from .blob_rows import BlobChanges
from .outcomes import Revocation
from .state import (
    Act,
    BegunErasure,
    ConversationState,
    DeviceCursor,
    DevicePlace,
    DroppedPush,
    MembershipState,
    MessageRow,
    ModeratedPlace,
    ModeratedRow,
    Place,
    PushTokenRow,
    ReportRow,
    ResolvedRow,
    State,
    StreamRow,
    TokenRow,
)


class Outbox(msgspec.Struct, frozen=True, gc=False):
    """The outbox of one conversation after a batch.

    Attributes:
        stored_seq: Its first seq in the store; None if it has no row there.
        first_seq: Its first seq now; None if nothing is to be delivered.
        may_close: Whether every device may have confirmed more of it now.
    """

    conversation_key: int
    stored_seq: int | None
    first_seq: int | None
    head_seq: int
    may_close: bool


REVOCATION_KEPT_MS: Final = 3_600_000
"""A revocation that has ended is kept so much longer, for every node to have read it."""

HeldOutbox = tuple[int, int, int]
"""(conversation key, first seq, head) of an outbox in the store that a forgotten device may have held open."""


class OutboxRows(NamedTuple):
    """What is to be written of the outbox: the keys that have nothing any more, and (key, first seq) of the others."""

    closed: list[tuple[int]]
    opened: list[tuple[int, int]]


class Changes(msgspec.Struct, frozen=True):
    """Sets of rows.

    Attributes:
        new_conversations: (key, id, type, title, epoch, head, owner, pair, member count, created, last activity,
            blocks, history).
        heads: (head, last activity, key) of conversations that grew.
        conversations: (epoch, member count, title, owner, blocks, history, key).
        messages: New entries.
        recalls: (key, recalled seq, seq of the RECALL entry); the recalled body is to be blanked.
        edits: (key, edited seq, seq of the EDIT entry).
        reactions: (key, seq, user, reaction, seq of the REACTION entry) of those that begin.
        ended_reactions: (key, seq, user, reaction) of those that are taken back.
        mentions: (key, user, seq of the entry that mentions them); what a recalled entry mentions goes.
        pins: (key, seq, seq of the PINNED entry) of what is pinned from now on.
        ended_pins: (key, seq) of what is not any more; what is recalled goes, too.
        descriptions: (description, key).
        streams: Open streams that begin, or grew.
        parts: (key, seq, part, text) of new parts.
        ended_streams: (key, seq) of streams that end, after others have begun and grown. Those below `floors` end by
            themselves.
        ended: (leave seq, key, user, join seq) of memberships that end.
        joined: (key, user, join seq, leave seq, first seq that may be read or None, role, silenced until) of
            memberships that begin.
        standings: (role, silenced until, key, user, join seq) of memberships that had begun before.
        forgotten: Bulk: (user, device) that lose all their rows; one of them may come back as a new one.
        devices: (user, device, first seen, last seen), new ones and others.
        new_member_cursors: (key, user, is member, delivered, read, read_ms, farthest device, has left) of who joined
            or left.
        member_cursors: (delivered, read, read_ms, farthest device, key, user) of others.
        new_device_cursors: (key, user, device, is member, delivered, count of single confirmations, updated) of
            devices that had no row, and of who joined or left; then the row may be there already.
        device_cursors: (delivered, count of single confirmations, updated, key, user, device) of others.
        passed: (key, user, device, cursor): single confirmations up to the cursor are to be dropped.
        exact: (key, user, device, seq) of new single confirmations.
        logins_ended: Bulk: every resume token is dropped.
        dropped_tokens: (user, device) whose resume token goes, before new ones come.
        tokens: Resume tokens; each replaces the device's former one.
        blocks: (user, other, since) of blocks that begin.
        ended_blocks: (user, other) of those that end.
        bans: (key, user, by, since) of bans that begin.
        ended_bans: (key, user) of those that end.
        revocations: By position; each replaces the former one of the same kind and subject.
        revocations_before_ms: Bulk: revocations that ended before this, and were made before it, go; None: none.
        audit: Privileged acts, in order; `audit.chained` makes rows of them.
        woken: (first new entry stored, key) of conversations that grew and have an outbox already, which may sleep: a
            worker is to look at them again, if none is to anyway.
        mutes: (key, user, until, whether a mention wakes them) of members that are not woken; until 0: they are again.
        dropped_push: Push tokens that go, before new ones come.
        dropped_push_logins: Digests of logins whose push tokens go.
        taken_push: Digests of push tokens that go, whoever has them, before new ones come.
        push_tokens: Each replaces the device's former one.
        unmoderated: Held messages that are held no more.
        moderated: Held and refused messages; each replaces the one in its place.
        reports: Each is left out if its user has reported the entry already.
        resolved_reports: The open reports of an entry are resolved so, after new ones have come.
        erasures: (user, whether bodies go, by whom or "" for the host, began) of those that begin; of one that is under
            way only that bodies go can change.
        ended_erasures: (user, whether bodies went) of those that end, after others have begun; one that is to erase
            bodies and did not stays.
        retentions: (how long entries are kept or None, key).
        floors: (up to where entries have expired, key); ranges of the archive that reach above it become stale.
        blobs: Uploaded files, and what names them; None: nothing of it. References below `floors` go by themselves, and
            what they named is due then, as is all that a user of `ended_erasures` uploaded.
        outboxes: By conversation key, where anything may be written; `outboxes_of` adds those of forgotten devices.
    """

    new_conversations: list[
        tuple[int, str, ConversationType, str, str, int, str, str | None, int, int, int, int, History]
    ] = []
    heads: list[tuple[int, int, int]] = []
    conversations: list[tuple[str, int, str, str, int, History, int]] = []
    messages: list[MessageRow] = []
    recalls: list[tuple[int, int, int]] = []
    edits: list[tuple[int, int, int]] = []
    reactions: list[tuple[int, int, str, str, int]] = []
    ended_reactions: list[tuple[int, int, str, str]] = []
    mentions: list[tuple[int, str, int]] = []
    pins: list[tuple[int, int, int]] = []
    ended_pins: list[tuple[int, int]] = []
    descriptions: list[tuple[str, int]] = []
    streams: list[StreamRow] = []
    parts: list[tuple[int, int, int, str]] = []
    ended_streams: list[Place] = []
    ended: list[tuple[int | None, int, str, int]] = []
    joined: list[tuple[int, str, int, int | None, int | None, GrantedRole, int]] = []
    standings: list[tuple[GrantedRole, int, int, str, int]] = []
    forgotten: list[DevicePlace] = []
    devices: list[tuple[str, str, int, int]] = []
    new_member_cursors: list[tuple[int, str, bool, int, int, int, int, bool]] = []
    member_cursors: list[tuple[int, int, int, int, int, str]] = []
    new_device_cursors: list[tuple[int, str, str, bool, int, int, int]] = []
    device_cursors: list[tuple[int, int, int, int, str, str]] = []
    passed: list[tuple[int, str, str, int]] = []
    exact: list[tuple[int, str, str, int]] = []
    logins_ended: bool = False
    dropped_tokens: list[DevicePlace] = []
    tokens: list[TokenRow] = []
    blocks: list[tuple[str, str, int]] = []
    ended_blocks: list[tuple[str, str]] = []
    bans: list[tuple[int, str, str, int]] = []
    ended_bans: list[tuple[int, str]] = []
    revocations: list[Revocation] = []
    revocations_before_ms: int | None = None
    audit: list[Act] = []
    woken: list[tuple[int, int]] = []
    mutes: list[tuple[int, str, int, bool]] = []
    dropped_push: list[DroppedPush] = []
    dropped_push_logins: list[tuple[bytes]] = []
    taken_push: list[tuple[bytes]] = []
    push_tokens: list[PushTokenRow] = []
    unmoderated: list[ModeratedPlace] = []
    moderated: list[ModeratedRow] = []
    reports: list[ReportRow] = []
    resolved_reports: list[ResolvedRow] = []
    erasures: list[BegunErasure] = []
    ended_erasures: list[tuple[str, bool]] = []
    retentions: list[tuple[int | None, int]] = []
    floors: list[tuple[int, int]] = []
    blobs: BlobChanges | None = None
    outboxes: dict[int, Outbox] = {}

    @property
    def has_references(self) -> bool:
        """Whether there is anything of what entries say besides their words."""
        return bool(
            self.edits
            or self.reactions
            or self.ended_reactions
            or self.recalls
            or self.mentions
            or self.pins
            or self.ended_pins
            or self.descriptions
        )


def changes_of(state: State) -> Changes:
    """Everything that the flows left in a state."""
    changes = Changes(
        messages=state.new_messages,
        recalls=state.recalls,
        edits=state.new_edits,
        mentions=state.new_mentions,
        descriptions=[(text, key) for key, text in state.changed_descriptions.items()],
        streams=[*state.changed_streams.values()],
        parts=state.new_parts,
        ended_streams=state.ended_streams,
        logins_ended=state.logins_ended,
        tokens=[*state.new_tokens.values()],
        audit=state.audit,
        mutes=[(*place, *muted) for place, muted in state.mutes.items()],
        dropped_push=state.dropped_push,
        dropped_push_logins=[(digest,) for digest in state.dropped_push_logins],
        taken_push=[(digest,) for digest in sorted(state.taken_push)],
        push_tokens=[*state.push_tokens.values()],
        erasures=state.begun_erasures,
        ended_erasures=state.ended_erasures,
        retentions=[(keep_ms, key) for key, keep_ms in state.retentions.items()],
        floors=[(floor_seq, key) for key, floor_seq in state.floors.items()],
        reports=[*state.reports.values()],
        resolved_reports=state.resolved_reports,
        blobs=state.changed_blobs,
    )
    for moderated_place, row in state.changed_moderated.items():
        if row is None:
            changes.unmoderated.append(moderated_place)
        else:
            changes.moderated.append(row)
    for reacted, seq in state.changed_reactions.items():
        if seq is None:
            changes.ended_reactions.append(reacted)
        else:
            changes.reactions.append((*reacted, seq))
    for pinned, seq in state.changed_pins.items():
        if seq is None:
            changes.ended_pins.append(pinned)
        else:
            changes.pins.append((*pinned, seq))
    if state.devices:
        changes.forgotten.extend(sorted(state.forgotten))
        changes.devices.extend(_devices(state))
    for place, since_ms in state.changed_blocks.items():
        if since_ms is None:
            changes.ended_blocks.append(place)
        else:
            changes.blocks.append((*place, since_ms))
    for ban, by in state.changed_bans.items():
        if by is None:
            changes.ended_bans.append(ban)
        else:
            changes.bans.append((*ban, *by))
    if state.new_revocations:
        changes.dropped_tokens.extend(sorted(state.dropped_tokens))
        changes.revocations.extend(sorted(state.new_revocations.values(), key=lambda it: it.position))
        newest_ms = max(it.at_ms for it in changes.revocations)
        changes = replace(changes, revocations_before_ms=newest_ms - REVOCATION_KEPT_MS)
    for key, conversation in state.conversations.items():
        if conversation is not None and type(key) is int:  # each is there under its id too
            _add_conversation(changes, conversation)
    changes.new_conversations.sort()
    for of_user in state.memberships.values():
        for membership in of_user.values():
            if membership.standing_changed:
                _add_standing(changes, membership)
            if membership.loaded_devices is not None:
                _add_membership(changes, membership)
    return changes


def _devices(state: State) -> Iterator[tuple[str, str, int, int]]:
    for user_id, devices in state.devices.items():
        for device_id, device in devices.items():
            if device.changed:
                yield user_id, device_id, device.first_seen_ms, device.last_seen_ms


def _add_conversation(changes: Changes, it: ConversationState) -> None:
    if it.created_ms is not None:
        changes.new_conversations.append(
            (
                it.key,
                it.conversation_id,
                it.type,
                it.title,
                it.epoch,
                it.head_seq,
                it.owner_id,
                it.pair,
                it.member_count,
                it.created_ms,
                it.last_activity_ms,
                it.blocks,
                it.history,
            )
        )
    else:
        if it.grown_ms is not None:
            changes.heads.append((it.head_seq, it.last_activity_ms, it.key))
            if it.stored_outbox_seq is not None and it.outbox_sleeps:
                changes.woken.append((it.grown_ms, it.key))
        if it.changed:
            changes.conversations.append(
                (it.epoch, it.member_count, it.title, it.owner_id, it.blocks, it.history, it.key)
            )
    if it.may_close or it.outbox_seq != it.stored_outbox_seq:
        changes.outboxes[it.key] = Outbox(
            it.key, it.stored_outbox_seq, it.outbox_seq, it.head_seq, it.may_close
        )


def _add_standing(changes: Changes, it: MembershipState) -> None:
    """Into the row of the last membership that had begun before; those that begin now bring theirs by themselves."""
    before = it.intervals if it.stored is None else it.stored
    if before:
        join_seq = before[-1].join_seq
        changes.standings.append((*it.standing_in(before[-1]), it.conversation.key, it.user_id, join_seq))


def _add_membership(changes: Changes, it: MembershipState) -> None:
    key, user_id, cursors = it.conversation.key, it.user_id, it.cursors
    if it.stored is not None:
        _add_change_of_members(changes, it, it.stored)
    elif cursors is not None and cursors.changed:
        changes.member_cursors.append(
            (cursors.delivered_seq, cursors.read_seq, cursors.read_ms, cursors.device_seq, key, user_id)
        )
    for device_id, device in it.devices.items():
        if device.new or device.changed:
            _add_device(changes, (key, user_id, device_id), it, device)


def _add_change_of_members(changes: Changes, it: MembershipState, stored: tuple[Interval, ...]) -> None:
    _add_intervals(changes, it, stored)
    key, user_id, is_member, cursors = it.conversation.key, it.user_id, it.is_current, it.cursors
    if cursors is not None:
        changes.new_member_cursors.append(
            (
                key,
                user_id,
                is_member,
                cursors.delivered_seq,
                cursors.read_seq,
                cursors.read_ms,
                cursors.device_seq,
                cursors.has_left,
            )
        )


def _add_intervals(changes: Changes, it: MembershipState, stored: tuple[Interval, ...]) -> None:
    key, user_id = it.conversation.key, it.user_id
    for place, interval in enumerate(it.intervals):
        if place >= len(stored):
            changes.joined.append(
                (
                    key,
                    user_id,
                    interval.join_seq,
                    interval.leave_seq,
                    interval.first_seq,
                    *it.standing_in(interval),
                )
            )
        elif interval != stored[place]:
            changes.ended.append((interval.leave_seq, key, user_id, interval.join_seq))


def _add_device(
    changes: Changes, place: tuple[int, str, str], it: MembershipState, device: DeviceCursor
) -> None:
    values = (device.delivered_seq, len(device.exact), device.updated_ms)
    if device.new or it.stored is not None:
        changes.new_device_cursors.append((*place, it.is_current, *values))
    else:
        changes.device_cursors.append((*values, *place))
    if device.passed:
        changes.passed.append((*place, device.delivered_seq))
    changes.exact.extend((*place, seq) for seq in device.added if seq in device.exact)


def outboxes_of(changes: Changes, held: Collection[HeldOutbox]) -> Collection[Outbox]:
    """The outboxes after a batch in which anything may be written.

    Args:
        changes: Of `decide`.
        held: Where a forgotten device had a cursor, as it was before the batch: it may have been the last one missing.
    """
    if not held:
        return changes.outboxes.values()
    outboxes = dict(changes.outboxes)
    heads = {key: head_seq for head_seq, _, key in changes.heads}
    for key, first_seq, head_seq in held:
        it = outboxes.get(key) or Outbox(key, first_seq, first_seq, heads.get(key, head_seq), True)
        outboxes[key] = replace(it, may_close=True)
    return outboxes.values()
