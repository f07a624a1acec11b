"""`python -m benchmarks.opening [MESSAGES]`: how long a log takes to open, and to check in full.

Runs with any chatkit, also an older one, so that two can be compared on one machine: call it with the Python of each
from the root of this repository. The file is in a temporary folder that is gone afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chatkit import open_store

try:
    from chatkit.storage.sqlite.verify import full_report
except ImportError:  # a version that reads everything whenever it opens a log
    full_report = None

CONVERSATIONS = 1000
_RUNS = 5
_BODY = '{"text":"%s","type":"TEXT"}' % ("x" * 100)

_CONVERSATIONS = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :conversations)
INSERT INTO conversation
SELECT i, 'c' || i, 'GROUP', '', 'e', :entries, 'ann', NULL, 2, 0, :entries FROM n
"""
_MEMBERS = """
INSERT INTO conversation_member
SELECT conversation_key, value, 1, NULL, iif(value = 'ann', 'CREATOR', 'MEMBER')
FROM conversation, json_each('["ann","bob"]')
"""
_CURSORS = "INSERT INTO member_cursor SELECT conversation_key, user_id, 1, 0, 0, 0 FROM conversation_member"
_AUDIT = (
    "INSERT INTO audit (at_ms, conversation_key, actor_id, action, seq, subject) "
    "SELECT 0, conversation_key, 'ann', 'CREATED', 1, conversation_id FROM conversation"
)
_MESSAGES = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :entries)
INSERT INTO message
SELECT
    conversation_key, i, 'e', iif(i = 1, 'MEMBER', 'USER'), 'ann', iif(i = 1, NULL, hex(randomblob(16))), i,
    zeroblob(32), CAST(:body AS BLOB)
FROM n CROSS JOIN conversation
"""
"""In the order in which conversations that are all busy are written."""


def fill(path: str, messages: int) -> None:
    """Put messages into a log that was just made, as many into each conversation."""
    values = {"conversations": CONVERSATIONS, "entries": messages // CONVERSATIONS, "body": _BODY}
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    for sql in (_CONVERSATIONS, _MEMBERS, _CURSORS, _AUDIT, _MESSAGES):
        connection.execute(sql, values)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


async def open_and_close(path: str) -> float:
    """Seconds from the call until the log could be served."""
    store = open_store(f"sqlite:///{path}")
    began = time.perf_counter()
    await store.migrate()
    took_s = time.perf_counter() - began
    await store.aclose()
    return took_s


def verify(path: str) -> float:
    """Seconds of the full check, which must find nothing."""
    began = time.perf_counter()
    found = full_report(path)
    assert found.whole, found.findings
    return time.perf_counter() - began


def forget(path: str) -> None:
    """Have the kernel drop what it holds of a file, so that the next read comes from the disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def report(
    what: str, measure: Callable[[], float], runs: int, before: Callable[[], None] = lambda: None
) -> None:
    """Measure a few times and print the least, the middle and the most."""
    seconds = []
    for _ in range(runs):
        before()
        seconds.append(measure())
    figures = {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds)}
    print(json.dumps({"what": what, **{name: round(it, 4) for name, it in figures.items()}}), flush=True)


def main(messages: int) -> None:
    """Make a log, open it warm and cold, and check it."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "chat.db")
        asyncio.run(open_and_close(path))
        fill(path, messages)
        size = os.path.getsize(path)
        print(
            json.dumps({"messages": messages, "conversations": CONVERSATIONS, "MB": size // 10**6}),
            flush=True,
        )
        open_once = lambda: asyncio.run(open_and_close(path))  # noqa: E731
        open_once()
        report("open, warm", open_once, _RUNS)
        report("open, cold", open_once, _RUNS, lambda: forget(path))
        if full_report is not None:
            report("verify, warm", lambda: verify(path), 3)
            report("verify, cold", lambda: verify(path), 1, lambda: forget(path))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
