"""A log that an earlier version wrote is served by this one, with everything that was in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatkit.drivers.migrations import migrate, migration_files
from chatkit.drivers.sqlite import open_sqlite
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.store import APPLICATION_ID
from chatkit.testing.contracts.storage_commands import NOW, add, delivered, device, do, head, remove, seqs

from .ids import seeded_ids
from .test_verify import verified

_MADE = '{"op":"CREATED","type":"MEMBER","userIds":["ann","bob","cat"]}'
_LEFT = '{"op":"LEFT","type":"MEMBER","userIds":["ann"]}'

FIRST_VERSION = f"""
INSERT INTO setting VALUES ('secret', randomblob(32));
INSERT INTO conversation VALUES (1, 'g', 'GROUP', 'title', 'e1', 2, 'ann', NULL, 2, 5, 9);
INSERT INTO message VALUES (1, 1, 'e1', 'MEMBER', 'ann', NULL, 5, NULL, CAST('{_MADE}' AS BLOB));
INSERT INTO message VALUES (1, 2, 'e1', 'MEMBER', 'ann', NULL, 9, NULL, CAST('{_LEFT}' AS BLOB));
INSERT INTO conversation_member VALUES (1, 'ann', 1, 2, 'CREATOR');
INSERT INTO conversation_member VALUES (1, 'bob', 1, NULL, 'MEMBER');
INSERT INTO conversation_member VALUES (1, 'cat', 1, NULL, 'MEMBER');
INSERT INTO device VALUES ('bob', 'phone', 1, 1);
INSERT INTO device VALUES ('bob', 'tablet', 1, 2);
INSERT INTO member_cursor VALUES (1, 'ann', 0, 1, 1, 6);
INSERT INTO member_cursor VALUES (1, 'bob', 1, 2, 1, 6);
INSERT INTO member_cursor VALUES (1, 'cat', 1, 2, 2, 7);
INSERT INTO device_cursor VALUES (1, 'bob', 'phone', 1, 2, 0, 8);
INSERT INTO device_cursor VALUES (1, 'bob', 'tablet', 1, 0, 0, 2);
INSERT INTO outbox VALUES (1, 1, 5);
INSERT INTO audit VALUES (1, 5, 1, 'ann', 'CREATED', 1, 'g');
INSERT INTO audit VALUES (2, 9, 1, 'ann', 'LEFT', 2, 'ann');
"""
"""A group whose creator has left; bob has two devices, cat none, and has read everything."""


@pytest.fixture
def path(tmp_path: Path) -> str:
    made = str(tmp_path / "old.db")
    connection = open_sqlite(made)
    migrate(connection, migration_files("chatkit.storage.sqlite")[:1], APPLICATION_ID)
    connection.begin()
    for statement in FIRST_VERSION.strip().split(";\n"):
        connection.execute(statement)
    connection.commit()
    connection.close()
    return made


async def test_a_log_of_the_first_version_is_whole_and_goes_on(path: str) -> None:
    store = SqliteStore(path, ids=seeded_ids(), threads=False)
    await store.migrate()
    audit = await store.audit("g")
    members = {it.member.user_id: it.member.role for it in await store.members("g", "bob", None, 9)}

    assert [(row.audit_id, row.action, row.subject) for row in audit] == [
        (1, "CREATED", "g"),
        (2, "LEFT", "ann"),
    ]
    assert members == {"bob": "OWNER", "cat": "MEMBER"}
    assert [(await head(store, "bob", "g", name)).delivered_seq for name in ("phone", "tablet")] == [2, 0]
    assert await store.outbox(9) == [base.OutboxEntry("g", 1, 2, 5)]

    await do(store, device("bob", "new"), device("cat", "new"))
    assert [(await head(store, user, "g", "new")).delivered_seq for user in ("bob", "cat")] == [2, 0]
    await do(store, add("g", "bob", "ann"), remove("g", "bob", "cat"), delivered("g", "bob", 4, at_ms=NOW))
    assert await seqs(store, "g", "ann") == [1, 3, 4]
    first, *rest = await store.acts(base.AuditFilter(), 2, 9)
    assert (first.action, first.number, first.detail["rows"]) == ("CHAIN_STARTED", 1, "2")
    assert [(row.action, row.number) for row in rest] == [("ADDED", 1), ("REMOVED", 2)]
    await store.aclose()
    assert verified(path).findings == []


LOGINS = """
INSERT INTO login_audit (at_ms, action, user_id, device_id, token_hash) VALUES (10, 'BANNED', 'eve', '', x'');
INSERT INTO login_audit (at_ms, action, user_id, device_id, token_hash) VALUES (11, 'REVOKED', 'ann', 'phone', x'');
INSERT INTO login_audit (at_ms, action, user_id, device_id, token_hash) VALUES (12, 'REVOKED', '', '', x'0af1');
"""


@pytest.fixture
async def before_the_chains(path: str) -> str:
    """The same log with the version before the audit was one, and had chains."""
    connection = open_sqlite(path)
    migrate(connection, migration_files("chatkit.storage.sqlite")[:4], APPLICATION_ID)
    connection.begin()
    for statement in LOGINS.strip().split(";\n"):
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


async def test_acts_from_before_the_chains_are_all_there_and_stated(before_the_chains: str) -> None:
    store = SqliteStore(before_the_chains, ids=seeded_ids(), threads=False)
    await store.migrate()
    rows = await store.acts(base.AuditFilter(), 0, 9)

    assert [(row.action, row.subject, row.detail) for row in rows[:-1]] == [
        ("CREATED", "g", {}),
        ("LEFT", "ann", {}),
        ("BANNED", "eve", {}),
        ("REVOKED", "ann", {"device": "phone"}),
        ("REVOKED", "", {"token": "0af1"}),
    ]
    assert (rows[-1].action, rows[-1].detail["rows"], rows[-1].at_ms) == ("CHAIN_STARTED", "5", 12)
    await store.aclose()
    assert verified(before_the_chains).findings == []

    again = SqliteStore(before_the_chains, ids=seeded_ids(), threads=False)
    await again.migrate()
    assert await again.acts(base.AuditFilter(), 0, 9) == rows
    await again.aclose()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET subject = 'bob' WHERE audit_id = 2",
        "DELETE FROM audit WHERE audit_id = 3",
        "INSERT INTO audit SELECT 7, 10, 0, '', 'UNBANNED', 0, 'eve', '{}', 0, x'' ",
    ],
)
async def test_they_cannot_be_changed_any_more(before_the_chains: str, change: str) -> None:
    store = SqliteStore(before_the_chains, ids=seeded_ids(), threads=False)
    await store.migrate()
    await store.aclose()
    connection = open_sqlite(before_the_chains)
    connection.begin()
    for sql in ("DROP TRIGGER audit_is_never_changed", "DROP TRIGGER audit_is_never_deleted", change):
        connection.execute(sql)
    connection.commit()
    connection.close()
    words = "the audit rows from before there were chains are not those that were there"
    assert words in [it.words for it in verified(before_the_chains).findings]
