"""Random batches on `decide`, judged by a model that thinks with the checker's arithmetic."""

from __future__ import annotations

from hypothesis import HealthCheck, event, given, settings

from chatkit.core.log import commands as c
from chatkit.core.log.outcomes import Refused
from chatkit.core.log.rules import ACTIVITY
from chatkit.core.visibility import readable
from chatkit.storage.memory.tables import Device, MemoryState

from . import batches
from .model import Log, Model
from .tables import commit


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches.batches)
def test_every_outcome_is_what_the_checker_expects(history: list[list[c.Command]]) -> None:
    tables, model = MemoryState(), Model()
    for batch in history:
        for command, outcome in zip(batch, commit(tables, batch), strict=True):
            model.judge(command, outcome)
            word = outcome.error.code if isinstance(outcome, Refused) else "done"
            event(f"{type(command).__name__}: {word}")

    check_tables(tables, model)


def check_tables(tables: MemoryState, model: Model) -> None:
    """What is left is what the model holds."""
    assert tables.by_id.keys() == model.logs.keys()
    assert tables.blocks.keys() == model.blocks
    assert {place: row.token for place, row in tables.push_tokens.items()} == model.reached
    for name, log in model.logs.items():
        check_log(tables, name, log)
    left = {it.conversation_id: it for it in tables.by_key.values() if it.outbox is not None}
    assert {name: (it.outbox[0], it.head_seq) for name, it in left.items() if it.outbox} == model.outbox()
    for it in left.values():
        assert it.outbox is not None and it.outbox[1] == it.rows[it.outbox[0] - 1].server_ts


def check_log(tables: MemoryState, name: str, log: Log) -> None:
    """Entries, memberships, cursors and the audit of one conversation."""
    it = tables.by_id[name]
    assert (it.epoch, it.head_seq, it.member_count) == (log.epoch, log.head, len(log.members()))
    assert (it.title, it.owner_id, it.history) == (log.title, log.owner, log.history)
    assert {user: at.granted for user, at in it.standings.items()} == log.granted
    assert {user: at.silenced_until_ms for user, at in it.standings.items() if at.silenced_until_ms} == {
        user: until_ms for user, until_ms in log.silenced.items() if until_ms
    }
    assert it.bans == log.banned
    assert not set(it.bans) & set(it.member_ids())
    assert {
        user: [a.join_seq for a in readable(found)] for user, found in it.members.items()
    } == log.reads_from
    times = [row.server_ts for row in it.rows if row.kind in ACTIVITY]
    assert it.last_activity_ms == max(times)
    assert [row.seq for row in it.rows] == list(range(1, log.head + 1))
    for row, entry in zip(it.rows, log.entries, strict=True):
        shown = (row.sender_id, row.client_msg_id, row.server_ts)
        assert shown == (entry.sender_id, entry.client_msg_id, entry.server_ts)
        recall = log.recall_of(row.seq)
        assert it.recalled.get(row.seq) == (recall.seq if recall is not None else None)
        assert row.payload == (entry.payload if recall is None else bytes(len(row.payload)))
    assert it.edits == log.edits
    assert {seq: there for seq, there in it.reactions.items() if there} == {
        seq: there for seq, there in log.reactions.items() if there
    }
    assert it.member_ids() == log.members()
    stays = {
        user: [(stay.first_seq, stay.ended_seq) for stay in found] for user, found in log.view.stays.items()
    }
    assert {user: [(a.join_seq, a.leave_seq) for a in found] for user, found in it.members.items()} == stays
    assert {user: (at.delivered_seq, at.read_seq) for user, at in it.cursors.items()} == {
        user: (log.delivered[user], log.read[user]) for user in log.delivered
    }
    for user, found in log.devices.items():
        for device_id, cursor in found.items():
            at = it.devices.get(user, {}).get(device_id) or Device(it.cursors[user].device_seq, 0)
            assert (at.delivered_seq, frozenset(at.exact)) == cursor
        assert it.devices.get(user, {}).keys() <= found.keys()
        assert not log.is_member(user) or found.keys() == tables.devices.get(user, {}).keys()
    muted = {user: (until_ms, user in it.but_mentions) for user, until_ms in it.muted.items()}
    assert muted == log.muted
    assert (it.mentions, it.pins, it.description) == (log.mentions, log.pins, log.description)
    audit = [
        (row.action, row.actor_id, row.seq, row.subject)
        for row in tables.audit
        if row.conversation_key == it.key
    ]
    assert audit == log.audit
