"""S19 and S24: who wrote was allowed to, and every privileged change is in the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from chatkit.storage.base import AuditRow, Entry
from chatkit.wire import events as ev

from .index import Index
from .log_view import LogView
from .standings import ENTRY_ACTIONS, Standings
from .streams import is_server_made_end
from .traffic import Arrived
from .verdict import Breach, Findings
from .words import of_event, of_log, of_row

Change = tuple[str, int, str, str, int]
"""(action, seq, actor, subject, Unix ms): what an audit row says of a change."""


# --- S19 ---


def write_permission(index: Index) -> Findings:
    """Who wrote an entry was a member at its place, and not silenced; owner, admins and the host change members, others
    leave by themselves; nobody but the host adds who is banned.

    Those of a SINGLE never change. Who is said to type is a member at some time, and another one than the hearer.
    """
    singles = _singles(index)
    for log in index.logs.values():
        standings = index.standings[log.name]
        for row in log.dump.entries:
            payload = log.made.get(row.seq, {})
            if payload.get("type") == "MEMBER" and payload.get("op") != "CREATED":
                single = "the members of a SINGLE never change" if log.name in singles else None
                yield of_row(log, row, single or _change_not_allowed(log, row, standings))
            else:
                if is_server_made_end(index, log, row):
                    continue
                why = None if log.visible(row.sender_id, row.seq) else f"{row.sender_id} was no member"
                yield of_row(log, row, why or _silenced(row, standings))
    for it in index.traffic.of(ev.TypingPush):
        yield from _typing_allowed(index, it)


def _singles(index: Index) -> set[str]:
    """The conversations that an answer or HEADS called SINGLE."""
    created = (call.answer for call in index.answered("create"))
    found = {it["conversation_id"] for it in created if it.get("type") == "SINGLE"}
    heads = (head for it in index.traffic.of(ev.Heads) for head in it.event.conversations)
    return found.union(head.conversation_id for head in heads if head.type == "SINGLE")


def _typing_allowed(index: Index, it: Arrived[ev.TypingPush]) -> Findings:
    log, user_id = index.logs.get(it.event.conversation_id), it.event.user_id
    if log is not None and not log.restored:
        why = None if user_id in log.stays else f"{user_id} never was a member"
        echoed = f"it is {user_id} himself" if user_id == it.frame.user_id else None
        yield of_event(it, log.name, why or echoed)


REVIEWS: Final = {"release": "HELD_RELEASED", "rewrite": "HELD_REWRITTEN", "refuse": "HELD_REFUSED"}
"""How a decision about a held message stands in the audit."""


def _silenced(row: Entry, standings: Standings) -> str | None:
    """By the clock of the server that took the message; what it made itself is nobody's writing."""
    until_ms = standings.before[row.seq].silenced.get(row.sender_id, 0)
    silenced = row.client_msg_id is not None and row.server_ts < until_ms
    return f"{row.sender_id} was silenced until {until_ms}" if silenced else None


def _change_not_allowed(log: LogView, row: Entry, standings: Standings) -> str | None:
    op, user_ids = log.made[row.seq].get("op"), log.made[row.seq].get("userIds", [])
    by_host, before = row.seq in standings.by_host, standings.before[row.seq]
    if op == "ADDED" and not by_host and before.banned.intersection(user_ids):
        return f"some of {user_ids} were banned"
    if op == "ADDED" and not by_host and before.role(row.sender_id) not in ("OWNER", "ADMIN"):
        return f"{row.sender_id} is neither the owner nor an admin"
    if op == "REMOVED" and not by_host and not before.runs(row.sender_id, user_ids):
        return f"{row.sender_id} may not remove {user_ids}"
    if op == "LEFT" and user_ids != [row.sender_id]:
        return f"{row.sender_id} can leave for himself only"
    if not by_host and not log.visible(row.sender_id, row.seq - 1):
        return f"{row.sender_id} was no member"
    members = [log.visible(user_id, row.seq - 1) for user_id in user_ids]
    if op == "ADDED":
        return f"some of {user_ids} were members already" if any(members) else None
    return None if all(members) else f"some of {user_ids} were no members"


# --- S24 ---


def audited(index: Index) -> Findings:
    """Each privileged change has its audit row, and each row its change."""
    store = index.history.store
    yield from (Breach(what=words) for words in (store.chains if store is not None else ()))
    for log in index.logs.values():
        yield from _changes_audited(log, index.standings[log.name])
        yield from _bans_audited(index, log)
        yield from _renewals_audited(index, log)
        yield from _reviews_audited(index, log)
        for earlier, later in pairwise(log.dump.audit):
            why = None if earlier.audit_id < later.audit_id else f"audit row {later.audit_id} is out of order"
            yield of_log(log, later.seq, why)


def _bans_audited(index: Index, log: LogView) -> Findings:
    """A ban may leave no entry: each answered one is held against the audit."""
    banned = {row.subject for row in log.dump.audit if row.action == "MEMBER_BANNED"}
    for call in index.answered("ban_member"):
        if call.args["conversation_id"] == log.name and not log.restored:
            (user_id,) = call.args["user_ids"]
            yield of_log(
                log, None, None if user_id in banned else f"{user_id} was banned, and it is not audited"
            )


def _changes_audited(log: LogView, standings: Standings) -> Findings:
    done = Counter(_changes(log, standings))
    told = Counter(_told(log, row) for row in log.dump.audit if _leaves_an_entry(row, standings))
    for change in done | told:
        action, seq, actor_id, subject, _ = change
        wrong = (
            f"{action} of {subject} by {actor_id}: done {done[change]} times, audited {told[change]} times"
        )
        yield of_log(log, seq, None if done[change] == told[change] else wrong)


def _leaves_an_entry(row: AuditRow, standings: Standings) -> bool:
    """Whether the log must say it too: not so of renewals, titles, transfers, and of what members are."""
    if row.action == "OWNER_CHANGED":
        return standings.successors.get(row.seq) == row.subject
    return row.action in ENTRY_ACTIONS


def _changes(log: LogView, standings: Standings) -> Iterator[Change]:
    """What the log says was done."""
    for row in log.dump.entries:
        if row.seq in standings.successors:
            yield "OWNER_CHANGED", row.seq, row.sender_id, standings.successors[row.seq], row.server_ts
        match log.made.get(row.seq):
            case {"type": "MEMBER", "op": "CREATED"}:
                yield "CREATED", row.seq, row.sender_id, log.name, row.server_ts
            case {"type": "MEMBER", "op": str(op), "userIds": list(user_ids)}:
                for user_id in user_ids:
                    yield op, row.seq, row.sender_id, user_id, row.server_ts
            case {"type": "RECALL", "messageId": str(message_id)}:
                yield "RECALLED", row.seq, row.sender_id, message_id, row.server_ts


def _told(log: LogView, row: AuditRow) -> Change:
    """What an audit row says; what the host does stands under a member's name in the log."""
    actor_id = row.actor_id or log.rows[row.seq].sender_id
    return row.action, row.seq, actor_id, row.subject, row.at_ms


def _renewals_audited(index: Index, log: LogView) -> Findings:
    """A renewal leaves no entry: its rows are held against the calls, and the last one against the log."""
    rows = [row for row in log.dump.audit if row.action == "EPOCH_RENEWED"]
    epochs = {row.subject for row in rows}
    calls = [call for call in index.calls("renew_epoch") if call.args["conversation_id"] == log.name]
    for call in calls:
        if call.result == "ok":
            epoch = call.answer.get("epoch", call.answer.get("value"))
            yield of_log(
                log, None, None if epoch in epochs else f"epoch {epoch} was given and is not audited"
            )
    asked = sum(call.result != "fail" for call in calls)
    if rows:
        many, last = len(rows), rows[-1].subject
        yield of_log(log, None, None if many <= asked else f"{many} renewals audited, {asked} asked for")
        yield of_log(
            log, None, None if last == log.epoch else f"epoch {log.epoch}, the last audited is {last}"
        )


def _reviews_audited(index: Index, log: LogView) -> Findings:
    """What is decided about a held message of a sender is audited: as often as it took effect, or may have."""
    done: Counter[tuple[str, str]] = Counter()
    asked: Counter[tuple[str, str]] = Counter()
    for call in index.calls("review"):
        if call.args["conversation_id"] == log.name and call.result != "fail":
            act = (REVIEWS[call.args["decision"]], call.args["sender_id"])
            asked[act] += 1
            done[act] += call.result == "ok"
    told = Counter((row.action, row.subject) for row in log.dump.audit if row.action in REVIEWS.values())
    for act in asked | told:
        least, most = done[act], asked[act]
        wrong = f"{act[0]} of a message of {act[1]}: done {least} to {most} times, audited {told[act]} times"
        yield of_log(log, None, None if least <= told[act] <= most else wrong)
