"""One conversation's log as the store holds it at the end, with what the proof asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from chatkit.storage.base import Entry
from chatkit.wire.payload import RECALLED

from ..dumps import LogDump
from ..membership import Stay, stays

ENDS = ("REMOVED", "LEFT")


class LogView:
    """A log and the indexes over it.

    Args:
        dump: The log.
        restored: It was replaced by an older one during the run: what was seen under another epoch than its
            present one proves nothing about it.

    Attributes:
        rows: Entries by seq; of several with one seq the first.
        by_key: Users' messages by (sender, clientMsgId).
        by_message_id: Entries by id.
        made: Payloads of the server-made entries, by seq; {} for one that is no JSON object.
        said: What EDIT and REACTION entries say of which seq; of an edit that was recalled only of which.
        said_of_logs: What PINNED and TITLE entries say, by seq.
        recalls: The first RECALL entry of each recalled seq; edits are recalled with their message.
        stays: Memberships by user.
        reads_from: The first entry that each of them opens, by user: before its own first one where history is open.
        bodies: What each entry said at first, by seq, where that is known.
        renewals: How often the log got a new epoch.
    """

    def __init__(self, dump: LogDump, *, restored: bool = False) -> None:
        self.dump = dump
        self.name = dump.conversation_id
        self.epoch = dump.epoch
        self.head_seq = dump.head_seq
        self.restored = restored
        self.rows: dict[int, Entry] = {}
        self.by_key: dict[tuple[str, str], Entry] = {}
        self.by_message_id: dict[str, Entry] = {}
        for row in dump.entries:
            self.rows.setdefault(row.seq, row)
            self.by_message_id.setdefault(row.message_id, row)
            if row.client_msg_id is not None:
                self.by_key.setdefault((row.sender_id, row.client_msg_id), row)
        self.made = {row.seq: _made(row) for row in dump.entries if row.client_msg_id is None}
        self.said = self._said()
        self.said_of_logs = {
            row.seq: payload
            for row in dump.entries
            if row.client_msg_id is not None and (payload := _made(row)).get("type") in ("PINNED", "TITLE")
        }
        self.recalls = self._recalls()
        self.stays = stays(list(_countable(dump.entries, self.made)))
        self.reads_from = self._reads_from()
        self.bodies = {seq: row.payload for seq, row in self.rows.items() if row.payload != RECALLED}
        self._last_seq = max(self.rows, default=0)
        self._shown = {user_id: set(self.visible_seqs(user_id, 0, self._last_seq)) for user_id in self.stays}
        self.renewals = sum(row.action == "EPOCH_RENEWED" for row in dump.audit)
        self.cursors = {cursor.member.user_id: cursor for cursor in dump.members}

    def binds(self, epoch: str) -> bool:
        """Whether what was seen under an epoch must be in this log; "" is an epoch that was not told."""
        return not self.restored or epoch == self.epoch

    def visible(self, user_id: str, seq: int) -> bool:
        """Whether a membership of this user holds the entry."""
        shown = self._shown.get(user_id)
        if shown is None:
            return False
        return seq in shown or (seq > self._last_seq and self.current_stay(user_id) is not None)

    def readable(self, user_id: str, seq: int) -> bool:
        """Whether this user may read the entry: what was delivered, or what was open when they joined."""
        pairs = zip(self.stays.get(user_id, ()), self.reads_from.get(user_id, ()), strict=True)
        return any(first <= seq and (stay.ended_seq is None or seq < stay.ended_seq) for stay, first in pairs)

    def readable_seqs(self, user_id: str, after_seq: int, up_to_seq: int) -> list[int]:
        """The seqs of (after_seq, up_to_seq] that the user may read, ascending."""
        return [seq for seq in range(after_seq + 1, up_to_seq + 1) if self.readable(user_id, seq)]

    def visible_seqs(self, user_id: str, after_seq: int, up_to_seq: int) -> list[int]:
        """The seqs of (after_seq, up_to_seq] that the user may see, ascending."""
        found: list[int] = []
        for stay in self.stays.get(user_id, ()):
            end = up_to_seq if stay.ended_seq is None else min(up_to_seq, stay.ended_seq - 1)
            found += range(max(stay.first_seq, after_seq + 1), end + 1)
        return found

    def skip_hidden(self, user_id: str, seq: int) -> int:
        """A cursor moved over what its user will never see: to just before the next visible entry."""
        for stay in self.stays.get(user_id, ()):
            following = max(stay.first_seq, seq + 1)
            if stay.holds(following):
                return following - 1
        return seq

    def current_stay(self, user_id: str) -> Stay | None:
        """The membership that lasts; None for who is no member."""
        of_user = self.stays.get(user_id, ())
        return of_user[-1] if of_user and of_user[-1].ended_seq is None else None

    def members(self) -> Iterator[str]:
        """Who is a member at the end."""
        return (user_id for user_id in self.stays if self.current_stay(user_id) is not None)

    def _reads_from(self) -> dict[str, list[int]]:
        """A history that is open when somebody joins opens what was written since they went, or all of it."""
        changes = [(row.seq, row.subject) for row in self.dump.audit if row.action == "HISTORY_CHANGED"]
        found: dict[str, list[int]] = {}
        for user_id, of_user in self.stays.items():
            earlier = 1
            for stay in of_user:
                said = [history for seq, history in changes if seq < stay.first_seq]
                is_open = bool(said) and said[-1] == "FROM_START"
                found.setdefault(user_id, []).append(earlier if is_open else stay.first_seq)
                earlier = stay.ended_seq or stay.first_seq
        return found

    def _said(self) -> dict[int, dict[str, Any]]:
        found = {}
        for row in self.dump.entries:
            payload = _made(row) if row.client_msg_id is not None else {}
            if payload.get("type") in ("EDIT", "REACTION"):
                found[row.seq] = payload
        for payload in self.made.values():
            edits = payload.get("edits") if payload.get("type") == "RECALL" else None
            for edit_seq in edits if isinstance(edits, list) else ():
                if edit_seq in self.rows:
                    found[edit_seq] = {"type": "EDIT", "seq": payload.get("seq")}
        return dict(sorted(found.items()))

    def _recalls(self) -> dict[int, Entry]:
        found: dict[int, Entry] = {}
        for seq, payload in self.made.items():
            if payload.get("type") == "RECALL" and isinstance(payload.get("seq"), int):
                found.setdefault(payload["seq"], self.rows[seq])
                edits = payload.get("edits")
                for edit_seq in edits if isinstance(edits, list) else ():
                    found.setdefault(edit_seq, self.rows[seq])
        return found


def _made(row: Entry) -> dict[str, Any]:
    try:
        payload = msgspec.json.decode(row.payload)
    except msgspec.DecodeError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _countable(entries: Sequence[Entry], made: dict[int, dict[str, Any]]) -> Iterator[Entry]:
    """The membership changes that make sense one after the other; S3 and S19 tell of the others."""
    inside: set[str] = set()
    for row in entries:
        payload = made.get(row.seq, {})
        op, user_ids = payload.get("op"), payload.get("userIds")
        if payload.get("type") != "MEMBER" or not isinstance(user_ids, list):
            continue
        if op in ENDS and not inside.issuperset(user_ids):
            continue
        inside = inside.difference(user_ids) if op in ENDS else inside.union(user_ids)
        yield row
