"""What a database file holds, so that the files of two runs can be compared; and whether it is whole.

Left out is what differs from run to run: times, and the epochs that make ids unguessable.

A file is read from a copy: opening the original would repair it before the server does.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from chatkit.drivers.file_lock import SUFFIX

from ..changed_files import count_as_served

Row = tuple[Any, ...]
Rows = tuple[Row, ...]

QUERIES = {
    "conversations": "SELECT conversation_id, type, title, head_seq, owner_id, member_count "
    "FROM conversation ORDER BY 1",
    "memberships": "SELECT c.conversation_id, m.user_id, m.join_seq, m.leave_seq "
    "FROM conversation_member AS m JOIN conversation AS c USING (conversation_key) ORDER BY 1, 2, 3",
    "messages": "SELECT c.conversation_id, e.seq, e.kind, e.sender_id, e.client_msg_id, e.payload "
    "FROM message AS e JOIN conversation AS c USING (conversation_key) ORDER BY 1, 2",
    "recalls": "SELECT c.conversation_id, r.seq, r.recalled_by_seq "
    "FROM recall AS r JOIN conversation AS c USING (conversation_key) ORDER BY 1, 2",
    "user_cursors": "SELECT c.conversation_id, u.user_id, u.is_member, u.delivered_seq, u.read_seq "
    "FROM member_cursor AS u JOIN conversation AS c USING (conversation_key) ORDER BY 1, 2",
    "device_cursors": "SELECT c.conversation_id, v.user_id, v.device_id, u.is_member, "
    "ifnull(d.delivered_seq, u.device_seq) "  # without a row it is where the farthest device is
    "FROM member_cursor AS u JOIN conversation AS c USING (conversation_key) JOIN device AS v USING (user_id) "
    "LEFT JOIN device_cursor AS d ON d.conversation_key = u.conversation_key AND d.user_id = u.user_id "
    "AND d.device_id = v.device_id ORDER BY 1, 2, 3",
    "outbox": "SELECT c.conversation_id, o.first_seq "
    "FROM outbox AS o JOIN conversation AS c USING (conversation_key) ORDER BY 1",
    "audit": "SELECT c.conversation_id, a.actor_id, a.action, a.seq, a.subject "
    "FROM audit AS a JOIN conversation AS c USING (conversation_key) ORDER BY a.audit_id",
}


@dataclass(frozen=True)
class State:
    """The rows of a file, each table in a fixed order; the columns are those of `QUERIES`."""

    conversations: Rows
    memberships: Rows
    messages: Rows
    recalls: Rows
    user_cursors: Rows
    device_cursors: Rows
    outbox: Rows
    audit: Rows

    def head(self, conversation: str) -> int:
        """The highest seq by the conversation's own row."""
        return next(int(row[3]) for row in self.conversations if row[0] == conversation)

    def log(self, conversation: str) -> list[Row]:
        """The entries of a conversation: seq, kind, sender, clientMsgId, payload."""
        return [row[1:] for row in self.messages if row[0] == conversation]

    def up_to(self, conversation: str, head: int) -> State:
        """This state as it would be without the messages after a seq; they must be plain messages."""
        rows = [(*row[:3], head, *row[4:]) if row[0] == conversation else row for row in self.conversations]
        kept = [row for row in self.messages if row[0] != conversation or row[1] <= head]
        return replace(self, conversations=tuple(rows), messages=tuple(kept))


def read_state(database: Path) -> State:
    """What a file would hold for whoever opened it now; the file itself is left as it is."""
    with tempfile.TemporaryDirectory(prefix="chatkit-state-") as folder:
        copied = _copy_files(database, Path(folder))
        with closing(sqlite3.connect(copied)) as connection:
            findings = connection.execute("PRAGMA integrity_check").fetchall()
            assert findings == [("ok",)], f"the file is damaged: {findings}"
            return State(**{name: tuple(connection.execute(sql)) for name, sql in QUERIES.items()})


def copy_database(database: Path, folder: Path) -> Path:
    """Copy a database that nobody writes to now, with its write-ahead log. Returns the copy.

    To a server the copy is the file that was last served from its place: it may not count as put back from a backup.
    """
    copied = _copy_files(database, folder)
    word = database.with_name(database.name + SUFFIX).read_text("ascii")
    assert int(word.split()[0]) == database.stat().st_ino, f"{database} is not what was last served there"
    copied.with_name(copied.name + SUFFIX).write_text(word, "ascii")
    count_as_served(copied)
    return copied


def _copy_files(database: Path, folder: Path) -> Path:
    for suffix in ("", "-wal"):
        source = database.with_name(database.name + suffix)
        if source.exists():
            shutil.copyfile(source, folder / source.name)
    return folder / database.name


def check_whole(state: State) -> None:
    """S4, S5, S13, S15, S20 and S24 of one state, by its own rows alone; and that its log was never renewed.

    Only a log that was put back from a backup is. A server that died and starts again on its own file does not.
    """
    assert not [row for row in state.audit if row[2] == "EPOCH_RENEWED"], (
        "renewed, and nobody had put it back"
    )
    for conversation, _, _, head, *_ in state.conversations:
        log = state.log(conversation)
        assert [row[0] for row in log] == list(range(1, head + 1)), f"S5: {conversation} is not 1..{head}"
        keys = [row[2:4] for row in log if row[3] is not None]
        assert len(set(keys)) == len(keys), f"S4: a key is there twice in {conversation}"
        _check_outbox(state, conversation, head)
        _check_recalls(state, conversation, log)
        made = [row[0] for row in log if row[1] != "USER"]
        assert [row[3] for row in state.audit if row[0] == conversation] == made, "S24: audit and log differ"
    _check_cursors(state)


def _check_outbox(state: State, conversation: str, head: int) -> None:
    """S13: what some member's device has not confirmed is in the outbox, and nothing else."""
    devices = [row for row in state.device_cursors if row[0] == conversation and row[3]]
    joined = {row[1]: row[2] for row in state.memberships if row[0] == conversation and row[3] is None}
    without = joined.keys() - {row[1] for row in devices}
    least = min([row[4] for row in devices] + [joined[user] - 1 for user in without], default=head)
    rows = [first for name, first in state.outbox if name == conversation]
    if least >= head:
        assert not rows, f"S13: {conversation} is confirmed and still in the outbox"
    else:
        assert len(rows) == 1 and rows[0] <= least + 1, (
            f"S13: {conversation} waits from {least + 1}, outbox {rows}"
        )


def _check_recalls(state: State, conversation: str, log: list[Row]) -> None:
    """S20: a recalled body is gone, and each recall has its entry."""
    recalls = {by: seq for name, seq, by in state.recalls if name == conversation}
    made = {row[0]: msgspec.json.decode(row[4])["seq"] for row in log if row[1] == "RECALL"}
    assert recalls == made, f"S20: recalls {recalls}, their entries {made}"
    assert not any(any(log[seq - 1][4]) for seq in recalls.values()), "S20: a recalled body is still there"


def _check_cursors(state: State) -> None:
    """S15: read is not above delivered, and that is not above the head."""
    for conversation, user, _, delivered, read in state.user_cursors:
        assert 0 <= read <= delivered <= state.head(conversation), f"S15: {user} {read} {delivered}"
    for conversation, user, device, _, delivered in state.device_cursors:
        assert 0 <= delivered <= state.head(conversation), f"S15: {user} {device} {delivered}"
