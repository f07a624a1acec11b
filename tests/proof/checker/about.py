"""S29: unread mentions are counted, and what is pinned and what a group is called is what the log says last."""

from __future__ import annotations

from typing import Any

import msgspec

from chatkit.storage.base import Entry

from ..dumps import ListedRow
from .cursors import UNREAD_MAX
from .gather import head_of
from .index import Index
from .log_view import LogView
from .verdict import Findings
from .words import of_call, of_device, of_log


def about_kept(index: Index) -> Findings:
    """By the answers of `list` calls, by the lists of connected devices at rest, and by what the store holds."""
    for call in index.answered("list"):
        for row in call.answer["items"]:
            head = head_of(row)
            log = index.logs.get(head.conversation_id)
            if log is not None and not log.restored:
                least, most = _mentions(log, call.user_id, head.read_seq, head.head_seq)
                wrong = f"{row.unread_mentions} unread mentions after {head.read_seq}, of {least} to {most}"
                fits = least <= row.unread_mentions <= most
                yield of_call(call, None if fits else wrong, log.name, head.head_seq)
    for dump in index.history.devices if index.quiescent else ():
        for shown in dump.listed if dump.online else ():
            log = index.logs.get(shown.conversation_id)
            if log is not None and not log.restored and log.current_stay(dump.user_id) is not None:
                wrong_row = _shown(log, dump.user_id, shown)
                yield of_device(dump.user_id, dump.device_id, log, shown.head_seq, wrong_row)
    for log in index.logs.values():
        yield of_log(log, None, None if log.restored else _stored(log))


def _shown(log: LogView, user_id: str, row: ListedRow) -> str | None:
    """What is wrong with a row of a device that holds all of what is unread."""
    if row.floor_seq > row.read_seq or row.head_seq != log.head_seq:
        return None
    least, most = _mentions(log, user_id, row.read_seq, row.head_seq)
    if least <= row.unread_mentions <= most:
        return None
    return f"its list says {row.unread_mentions} unread mentions after {row.read_seq}, of {least} to {most}"


def _mentions(log: LogView, user_id: str, read_seq: int, head_seq: int) -> tuple[int, int]:
    """At least and at most: of what was recalled above the head nobody knows any more whom it mentioned."""
    known = unknown = 0
    for seq in log.visible_seqs(user_id, read_seq, head_seq):
        row, recall = log.rows.get(seq), log.recalls.get(seq)
        if row is None or row.client_msg_id is None or row.sender_id == user_id:
            continue
        if recall is not None:
            unknown += recall.seq > head_seq
        else:
            known += _is_new(log, row, user_id)
    return min(known, UNREAD_MAX), min(known + unknown, UNREAD_MAX)


def _is_new(log: LogView, row: Entry, user_id: str) -> bool:
    """Whether an entry mentions a user whom what it edits did not mention before, by name or with everybody."""
    named = _named(log, row.seq, user_id)
    if row.seq not in log.said or log.said[row.seq]["type"] != "EDIT":
        return bool(named)
    target = log.said[row.seq]["seq"]
    earlier = [target, *(seq for seq, it in log.said.items() if it["type"] == "EDIT" and it["seq"] == target)]
    before: set[str] = set()
    for seq in earlier:
        before |= _named(log, seq, user_id) if seq < row.seq else set()
    return bool(named - before)


def _named(log: LogView, seq: int, user_id: str) -> set[str]:
    """As what an entry mentions a user who was a member then; not by name where everybody is."""
    said: Any = msgspec.json.decode(log.rows[seq].payload)
    said = said["payload"] if said["type"] == "EDIT" else said
    mentions = set(said.get("mentions", ()))
    if "*" in mentions:
        return {"*"}
    return mentions & {user_id} if log.visible(user_id, seq) else set()


def _stored(log: LogView) -> str | None:
    """What is wrong with the pins and the title that the store holds."""
    about = log.dump.about
    if about is None:
        return None
    pins: dict[int, int] = {}
    said: dict[str, str] = {}
    for seq, payload in sorted(log.said_of_logs.items()):
        if payload["type"] == "TITLE":
            said |= {name: payload[name] for name in ("title", "description") if name in payload}
        elif payload["pinned"]:
            pins.setdefault(payload["seq"], seq)
        else:
            pins.pop(payload["seq"], None)
    seen = {
        seq: by for seq, by in pins.items() if log.readable(about.user_id, seq) and seq not in log.recalls
    }
    expected = sorted(seen.items(), key=lambda it: -it[1])
    if about.pins != expected:
        return f"{about.pins} is pinned for {about.user_id}, and that is {expected}"
    wrong = [name for name, text in said.items() if getattr(about, name) != text]
    return f"its {wrong[0]} is {getattr(about, wrong[0])!r}, not {said[wrong[0]]!r}" if wrong else None
