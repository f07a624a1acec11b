"""Writes the rows of a batch: what `Changes` holds, put into the tables. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from ...core.log.changes import Changes, HeldOutbox, Outbox, OutboxRows
from ...core.log.rules import least_confirmed
from ...core.log.state import DevicePlace
from ...core.visibility import Interval
from . import blobs, moderation, references
from .audit import write_audit
from .person import write_erasures
from .tables import Conversation, Cursors, Device, MemoryState, Standing, Work


def load_held_outboxes(tables: MemoryState, forgotten: Sequence[DevicePlace]) -> set[HeldOutbox]:
    """The outboxes that these devices may hold open; asked before their cursors are deleted."""
    return {
        (it.key, it.outbox[0], it.head_seq)
        for user_id, device_id in forgotten
        for it in _with_device(tables, user_id, device_id)
        if it.outbox is not None and it.is_member(user_id)
    }


def write(tables: MemoryState, changes: Changes) -> None:
    """Write everything but the outbox."""
    _write_conversations(tables, changes)
    _write_log(tables, changes)
    references.write(tables, changes)
    _write_memberships(tables, changes)
    _forget(tables, changes)
    _register(tables, changes)
    _write_member_cursors(tables, changes)
    _write_device_cursors(tables, changes)
    if changes.logins_ended:
        tables.tokens.clear()
        tables.token_places.clear()
    for user_id, other, since_ms in changes.blocks:
        tables.blocks[user_id, other] = since_ms
    for place in changes.ended_blocks:
        tables.blocks.pop(place, None)
    for place in changes.dropped_tokens:
        _drop_token(tables, place)
    for token in changes.tokens:
        _drop_token(tables, token[:2])
        tables.tokens[token[:2]] = token
        tables.token_places[token.token_hash] = token[:2]
    if changes.revocations:
        _write_access(tables, changes)
    _write_pushing(tables, changes)
    moderation.write(tables, changes)
    for ready_ms, key in changes.woken:
        work = tables.by_key[key].work
        if work is not None and work.ready_ms is None:
            work.ready_ms = ready_ms
    write_audit(tables, changes.audit)
    write_erasures(tables, changes)
    _write_retention(tables, changes)
    blobs.write(tables, changes)


def _write_pushing(tables: MemoryState, changes: Changes) -> None:
    for key, user_id, until_ms, but_mentions in changes.mutes:
        if until_ms:
            tables.by_key[key].muted[user_id] = until_ms
        else:
            tables.by_key[key].muted.pop(user_id, None)
        tables.by_key[key].but_mentions.discard(user_id)
        if but_mentions:
            tables.by_key[key].but_mentions.add(user_id)
    for user_id, device_id, token, before_ms in changes.dropped_push:
        for place, it in list(tables.push_tokens.items()):
            is_meant = place[0] == user_id and device_id in ("", place[1]) and token in (None, it.token)
            if is_meant and (before_ms is None or it.at_ms <= before_ms):
                del tables.push_tokens[place]
    taken = {digest for (digest,) in changes.taken_push}
    logins = {digest for (digest,) in changes.dropped_push_logins}
    for place, it in list(tables.push_tokens.items()) if taken or logins else ():
        if it.token_hash in taken or it.login_hash in logins:
            del tables.push_tokens[place]
    for row in changes.push_tokens:
        tables.push_tokens[row[:2]] = row


def _write_access(tables: MemoryState, changes: Changes) -> None:
    for it in changes.revocations:
        tables.revocations[(it.user_id, it.device_id, it.token_hash), it.kind] = it
        tables.last_position = it.position
    before_ms = changes.revocations_before_ms
    assert before_ms is not None, "it comes with the revocations"
    for key, it in list(tables.revocations.items()):
        if it.ends_ms is not None and it.ends_ms < before_ms and it.at_ms < before_ms:
            del tables.revocations[key]


def _write_conversations(tables: MemoryState, changes: Changes) -> None:
    for row in changes.new_conversations:
        made = Conversation(*row[:9], last_activity_ms=row[10], blocks=row[11], history=row[12])
        tables.by_key[made.key] = tables.by_id[made.conversation_id] = made
        if made.pair is not None:
            tables.by_pair[made.pair] = made
    for head_seq, last_activity_ms, key in changes.heads:
        it = tables.by_key[key]
        it.head_seq, it.last_activity_ms = head_seq, last_activity_ms
    for epoch, member_count, title, owner_id, blocks, history, key in changes.conversations:
        it = tables.by_key[key]
        it.epoch, it.member_count, it.title = epoch, member_count, title
        it.owner_id, it.blocks, it.history = owner_id, blocks, history


def _write_log(tables: MemoryState, changes: Changes) -> None:
    for row in changes.messages:
        conversation = tables.by_key[row.conversation_key]
        conversation.rows.append(row)
        if row.client_msg_id is not None:
            conversation.by_client_id[row.sender_id, row.client_msg_id] = row.seq
    for key, seq, recalled_by in changes.recalls:
        conversation = tables.by_key[key]
        row = conversation.rows[seq - 1]
        conversation.rows[seq - 1] = row._replace(payload=bytes(len(row.payload)))
        conversation.recalled[seq] = recalled_by
        for it in conversation.ranges.values():
            if it.held.first_seq <= seq <= it.held.last_seq:
                it.held = replace(it.held, is_stale=bool(it.held.name))


def _write_retention(tables: MemoryState, changes: Changes) -> None:
    for keep_ms, key in changes.retentions:
        tables.by_key[key].keep_ms = keep_ms
    for floor_seq, key in changes.floors:
        log = tables.by_key[key]
        log.floor_seq = max(log.floor_seq, floor_seq)
        for it in log.ranges.values():
            if it.held.first_seq <= floor_seq < it.held.last_seq:
                it.held = replace(it.held, is_stale=bool(it.held.name))


def _write_memberships(tables: MemoryState, changes: Changes) -> None:
    for leave_seq, key, user_id, join_seq in changes.ended:
        last = tables.by_key[key].members[user_id]
        last[-1] = Interval(join_seq, leave_seq, last[-1].first_seq)
    # first, since only the standing of the last membership is kept here, and one that begins now is later
    for granted, silenced_until_ms, key, user_id, _ in changes.standings:
        tables.by_key[key].standings[user_id] = Standing(granted, silenced_until_ms)
    for key, user_id, join_seq, left_seq, first_seq, granted, silenced_until_ms in changes.joined:
        conversation = tables.by_key[key]
        conversation.members.setdefault(user_id, []).append(Interval(join_seq, left_seq, first_seq))
        conversation.standings[user_id] = Standing(granted, silenced_until_ms)
    for key, user_id, by_id, since_ms in changes.bans:
        tables.by_key[key].bans[user_id] = (by_id, since_ms)
    for key, user_id in changes.ended_bans:
        tables.by_key[key].bans.pop(user_id, None)


def _forget(tables: MemoryState, changes: Changes) -> None:
    """Drop devices with all that they have."""
    for user_id, device_id in changes.forgotten:
        _drop_token(tables, (user_id, device_id))
        tables.push_tokens.pop((user_id, device_id), None)
        tables.devices.get(user_id, {}).pop(device_id, None)
        for it in _with_device(tables, user_id, device_id):
            del it.devices[user_id][device_id]


def _drop_token(tables: MemoryState, place: tuple[str, str]) -> None:
    token = tables.tokens.pop(place, None)
    if token is not None and tables.token_places.get(token.token_hash) == place:
        del tables.token_places[token.token_hash]


def _with_device(tables: MemoryState, user_id: str, device_id: str) -> Iterator[Conversation]:
    return (it for it in tables.by_key.values() if device_id in it.devices.get(user_id, {}))


def _register(tables: MemoryState, changes: Changes) -> None:
    for user_id, device_id, *seen in changes.devices:
        tables.devices.setdefault(user_id, {})[device_id] = (seen[0], seen[1])


def _write_member_cursors(tables: MemoryState, changes: Changes) -> None:
    for row in changes.new_member_cursors:
        tables.by_key[row[0]].cursors[row[1]] = Cursors(*row[3:])
    for delivered_seq, read_seq, read_ms, device_seq, key, user_id in changes.member_cursors:
        tables.by_key[key].cursors[user_id] = Cursors(delivered_seq, read_seq, read_ms, device_seq, False)


def _write_device_cursors(tables: MemoryState, changes: Changes) -> None:
    for key, user_id, device_id, _, delivered_seq, _, updated_ms in changes.new_device_cursors:
        devices = tables.by_key[key].devices.setdefault(user_id, {})
        exact = devices[device_id].exact if device_id in devices else set()
        devices[device_id] = Device(delivered_seq, updated_ms, exact)
    for delivered_seq, _, updated_ms, key, user_id, device_id in changes.device_cursors:
        device = tables.by_key[key].devices[user_id][device_id]
        device.delivered_seq, device.updated_ms = delivered_seq, updated_ms
    for key, user_id, device_id, cursor in changes.passed:
        device = tables.by_key[key].devices[user_id][device_id]
        device.exact = {seq for seq in device.exact if seq > cursor}
    for key, user_id, device_id, seq in changes.exact:
        tables.by_key[key].devices[user_id][device_id].exact.add(seq)


def load_leasts(tables: MemoryState, outboxes: Sequence[Outbox]) -> list[tuple[int, int]]:
    """For `close_confirmed`: how far everybody has got."""
    return [
        (it.conversation_key, least_confirmed(it.head_seq, _confirmed(tables.by_key[it.conversation_key])))
        for it in outboxes
    ]


def _confirmed(conversation: Conversation) -> Iterator[tuple[int, list[int]]]:
    """Where each current member joined, and the cursors of their devices, or the farthest one if none has a row."""
    for user_id in filter(conversation.is_member, conversation.members):
        devices = conversation.devices.get(user_id, {}).values()
        cursors = [it.delivered_seq for it in devices] or [conversation.cursors[user_id].device_seq]
        yield conversation.members[user_id][-1].join_seq, cursors


def write_outbox(tables: MemoryState, rows: OutboxRows) -> None:
    """Write the outbox, after everything else: when its first entry was stored is read from the log."""
    for (key,) in rows.closed:
        tables.by_key[key].outbox = tables.by_key[key].work = None
    for key, first_seq in rows.opened:
        conversation = tables.by_key[key]
        since_ms = conversation.rows[first_seq - 1].server_ts
        conversation.outbox = (first_seq, since_ms)
        work = conversation.work = conversation.work or Work(0, None)
        if work.attempt == 0 and work.handled_seq < first_seq:
            work.ready_ms = since_ms
        work.handled_seq = max(work.handled_seq, first_seq - 1)
