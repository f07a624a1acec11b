"""Whether a log on SQLite is whole. Called by `sqlite` when it opens a file, before anything is served from it.

A log with a hole must not be served: a client could not tell it from entries it may not see. What is checked: the
structure of the file, that every conversation has the entries 1 to its head, and that every stored body is JSON.
What nobody can see here: entries missing at the end, with the counter as old as they (a lost write-ahead log), and
bodies changed into other JSON.
"""

from __future__ import annotations

from ...drivers.sqlite import RETRY_AFTER_S, Connection, DamagedError

_WORDS_MAX = 200  # of SQLite's own finding
_DENSITY = """
SELECT key, max(head), sum(entries), max(top) FROM (
    SELECT conversation_key AS key, head_seq AS head, 0 AS entries, 0 AS top FROM conversation
    UNION ALL
    SELECT conversation_key, -1, count(*), max(seq) FROM message GROUP BY conversation_key
)
GROUP BY key HAVING max(head) <> sum(entries) OR max(head) <> max(top) ORDER BY key LIMIT 1
"""
"""Reads the index of (conversation, seq) only. That one is unique and its seqs are from 1, so a count that is also the
greatest leaves no hole. A head of -1: entries of no conversation."""

_ROWS = (
    "SELECT (SELECT count(*) FROM message NOT INDEXED), (SELECT ifnull(sum(head_seq), 0) FROM conversation)"
)
_BODY = """
SELECT e.conversation_key, e.seq FROM message AS e NOT INDEXED
WHERE NOT json_valid(CAST(e.payload AS TEXT)) AND NOT EXISTS (
    SELECT 1 FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
LIMIT 1
"""
"""Recalled bodies are zeros."""


def check(connection: Connection) -> None:
    """Read all of a log and see that it is whole; nothing is changed.

    The time grows with the file: for a million short messages (350 MB) about 2 s, and 8 s from a slow disk.

    Raises:
        DamagedError: The first thing that is wrong; never with words of a body.
        UnavailableError: The file is busy or cannot be reached; a retry is safe.
    """
    found: str = connection.execute("PRAGMA quick_check(1)")[0][0]
    if found != "ok":
        raise _damaged(" ".join(found.split())[:_WORDS_MAX])
    for key, head_seq, entries, top in connection.execute(_DENSITY):
        held = "no row" if head_seq < 0 else f"head {head_seq}"
        raise _damaged(f"{_name(connection, key)} has {held}, but {entries} entries up to seq {top}")
    ((rows, entries),) = connection.execute(_ROWS)
    if rows != entries:
        raise _damaged(f"{rows} messages are there of {entries}")
    for key, seq in connection.execute(_BODY):
        raise _damaged(f"{_name(connection, key)} has a body that is not JSON, at seq {seq}")


def _name(connection: Connection, key: int) -> str:
    """A conversation for people; by its number if its row is not there."""
    rows = connection.execute("SELECT conversation_id FROM conversation WHERE conversation_key = ?", (key,))
    return f"conversation {rows[0][0]}" if rows else f"the conversation with number {key}"


def _damaged(found: str) -> DamagedError:
    return DamagedError(found, retry_after_s=RETRY_AFTER_S)
