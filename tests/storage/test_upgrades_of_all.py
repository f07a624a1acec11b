"""A log of the former version that has rows in every table: what was in it, the full check, and that it goes on.

`former/*.sql` hold the rows that one random history left in that version's tables, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatkit.drivers.migrations import migrate, migration_files
from chatkit.drivers.postgres import Database, Deadlines
from chatkit.drivers.sqlite import open_sqlite
from chatkit.errors import ForbiddenError
from chatkit.storage import base
from chatkit.storage.postgres import PostgresStore
from chatkit.storage.postgres.verify import verify_database
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.store import APPLICATION_ID
from chatkit.storage.verify_report import Report
from chatkit.testing.contracts.storage_commands import (
    NOW,
    add,
    do,
    group,
    refused,
    send,
    snapshot,
    text,
    title_entry,
)
from tests.servers.postgres import PostgresServer, serving

from .ids import seeded_ids
from .test_differential import CONVERSATIONS, USERS, Names
from .test_verify import verified

FORMER = Path(__file__).parent / "former"
TABLES_OF_SQLITE = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
TABLES_OF_POSTGRES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> str:
    made = str(tmp_path / "former.db")
    connection = open_sqlite(made)
    migrate(connection, migration_files("chatkit.storage.sqlite")[:4], APPLICATION_ID)
    connection.begin()
    for statement in (FORMER / "sqlite.sql").read_text("utf-8").splitlines():
        connection.execute(statement)
    connection.commit()
    for (table,) in connection.execute(TABLES_OF_SQLITE):
        assert connection.execute(f"SELECT 1 FROM {table} LIMIT 1"), f"{table} is empty"
    connection.close()
    return made


@pytest.fixture
async def address(server: PostgresServer) -> str:
    made = server.new_database()
    database = Database(made, connections=1, deadlines=Deadlines())
    await database.open()
    async with database.transaction() as connection:
        await connection.execute(
            "CREATE TABLE schema_migration (number integer PRIMARY KEY, name text NOT NULL)"
        )
        for number, (name, text) in enumerate(migration_files("chatkit.storage.postgres")[:2], 1):
            await connection.execute(text)
            await connection.fetch("INSERT INTO schema_migration VALUES ($1, $2)", number, name)
        await connection.execute((FORMER / "postgres.sql").read_text("utf-8"))
        for (table,) in map(tuple, await connection.fetch(TABLES_OF_POSTGRES)):
            assert await connection.fetch(f"SELECT 1 FROM {table} LIMIT 1"), f"{table} is empty"
    await database.aclose()
    return made


async def read_of(store: base.Store) -> str:
    """All that can be read of the log, with common ids."""
    names = Names(store)
    await names.learn()
    return names.common(await snapshot(store, CONVERSATIONS, USERS))


async def go_on(store: base.Store) -> None:
    """Of what is new something, in a conversation of before."""
    await do(
        store,
        add("g", None, *USERS),
        base.UpdateConversation("g", None, title_entry("title"), "ann", NOW, history="FROM_START"),
        base.SetRole("g", "ann", "bob", "ADMIN", NOW),
        base.SilenceMember("g", "ann", "bob", NOW + 1, NOW),
        base.BanMember("g", "ann", "bob", NOW),
        add("g", None, "bob"),
        send("g", "ann", "after the upgrade"),
        base.Expire("g", 2, None, NOW),
        group("new", "ann", "bob"),
    )
    page = await store.page("g", "ann", 0, 1_000, 1_000_000, history=True)
    assert page.entries[-1].payload == text("after the upgrade")
    members = {it.member.user_id: it.member.role for it in await store.members("g", "bob", None, 100)}
    assert members == {"ann": "OWNER", "bob": "MEMBER", "cat": "MEMBER", "dan": "MEMBER"}
    await refused(store, send("g", "bob", "silent still"), ForbiddenError)


async def test_a_log_with_rows_in_every_table_is_the_same_on_both_and_whole(path: str, address: str) -> None:
    sqlite = SqliteStore(path, ids=seeded_ids(), threads=False)
    postgres = PostgresStore(address, ids=seeded_ids())
    await sqlite.migrate()
    await postgres.migrate()
    read = await read_of(sqlite)
    assert "words of " in read
    assert read == await read_of(postgres)
    for store in (sqlite, postgres):
        await go_on(store)
        await store.aclose()
    assert verified(path).findings == []
    report = Report()
    async for _ in verify_database(address, report):
        pass
    assert report.findings == []
