"""On PostgreSQL the role that servers log in as cannot change the audit (attack 62)."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest

from chatkit.errors import ConfigurationError
from chatkit.storage import base
from chatkit.storage.postgres import PostgresStore
from chatkit.storage.postgres.grants import grants
from chatkit.storage.postgres.verify import verify_database
from chatkit.storage.verify_audit import check_audit
from chatkit.storage.verify_report import Report
from chatkit.testing.contracts.storage_audit import a_story
from chatkit.testing.contracts.storage_commands import do, group, revoke
from chatkit.testing.contracts.storage_reopening import opened
from tests.servers.postgres import PostgresServer

from .ids import seeded_ids
from .server_role import as_role, serving_a_role


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving_a_role() as server:
        yield server


@pytest.fixture
def owner(server: PostgresServer) -> str:
    return server.empty_log()


@pytest.fixture
def app(owner: str) -> str:
    """The address by which a server logs in, on a database that its owner has made ready."""
    return as_role(owner)


ATTACKS = {
    "change": "UPDATE audit SET actor_id = 'eve'",
    "delete": "DELETE FROM audit WHERE audit_id = 1",
    "truncate": "TRUNCATE audit",
    "empty with others": "TRUNCATE message, audit",
    "disable the triggers": "ALTER TABLE audit DISABLE TRIGGER ALL",
    "drop the trigger": "DROP TRIGGER audit_is_append_only ON audit",
    "replace the function": "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql "
    "AS $$BEGIN END$$",
    "own the function": "ALTER FUNCTION chain_audit() OWNER TO CURRENT_USER",
    "a rule in the way": "CREATE RULE nothing AS ON INSERT TO audit DO INSTEAD NOTHING",
    "drop the table": "DROP TABLE audit CASCADE",
    "rename the table": "ALTER TABLE audit RENAME TO another",
    "set a head back": "UPDATE audit_head SET number = 0",
    "delete a head": "DELETE FROM audit_head",
    "make a head": "INSERT INTO audit_head VALUES (77, 0, decode(repeat('00', 32), 'hex'))",
    "give numbers anew": "SELECT setval('audit_id', 1)",
    "burn numbers": "SELECT nextval('audit_id')",
    "no triggers in this session": "SET session_replication_role = replica",
    "a function of one's own": "CREATE FUNCTION public.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
    "change the login view": "UPDATE login_audit SET user_id = 'eve'",
}


@pytest.mark.parametrize("sql", ATTACKS.values(), ids=ATTACKS)
async def test_62_the_role_of_servers_cannot_change_the_audit(app: str, sql: str) -> None:
    async with opened(lambda: PostgresStore(app, ids=seeded_ids())) as store:
        await a_story(store)
        before = await store.acts(base.AuditFilter(), 0, 100)
        connection = await asyncpg.connect(app)
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.execute(sql)
        await connection.close()
        # not its owner, no right; or, of a view without such a trigger, not possible at all
        assert refused.value.sqlstate in ("42501", "55000"), refused.value
        assert await store.acts(base.AuditFilter(), 0, 100) == before


async def test_62_even_the_owner_is_stopped_by_the_trigger(app: str, owner: str) -> None:
    async with opened(lambda: PostgresStore(app, ids=seeded_ids())) as store:
        await a_story(store)
        connection = await asyncpg.connect(owner)
        for sql in ("UPDATE audit SET seq = 1", "DELETE FROM audit", "TRUNCATE audit"):
            with pytest.raises(asyncpg.RaiseError, match="append-only"):
                await connection.execute(sql)
        await connection.close()


async def test_62_neither_a_place_nor_a_digest_can_be_chosen(app: str) -> None:
    """Who may add may add anything; where it stands the server says, whatever tables a session shadows."""
    async with opened(lambda: PostgresStore(app, ids=seeded_ids())) as store:
        await a_story(store)
        newest = await store.audit_end()
        connection = await asyncpg.connect(app)
        await connection.execute(
            "CREATE TEMP TABLE audit_head (chain bigint PRIMARY KEY, number bigint, digest bytea);"
            "INSERT INTO pg_temp.audit_head VALUES (0, 500, decode(repeat('11', 32), 'hex'));"
            "INSERT INTO public.audit "
            "(audit_id, at_ms, conversation_key, actor_id, action, seq, subject, number, digest) "
            "VALUES (1, 5, 0, 'eve', 'BANNED', 0, 'ann', 900, decode(repeat('22', 32), 'hex'))"
        )
        assert await connection.fetchval("SELECT number FROM pg_temp.audit_head") == 500
        await connection.close()
        (row,) = await store.acts(base.AuditFilter(actor_id="eve"), 0, 9)
        assert (row.audit_id, row.number) == (newest + 1, 5)
        report = Report()
        assert [step async for step in check_audit(store, report)]
        assert report.findings == []


async def test_a_chain_set_back_by_the_owner_is_found(app: str, owner: str) -> None:
    async with opened(lambda: PostgresStore(app, ids=seeded_ids())) as store:
        await a_story(store)
    connection = await asyncpg.connect(owner)
    await connection.execute(
        "ALTER TABLE audit DISABLE TRIGGER USER; DELETE FROM audit WHERE action = 'REMOVED';"
        "ALTER TABLE audit ENABLE TRIGGER USER"
    )
    await connection.close()
    report = Report()
    assert [step async for step in verify_database(owner, report)]
    words = [it.words for it in report.findings if it.check == "audit"]
    assert any("rows are missing at its end" in it for it in words), words


async def test_what_an_older_version_writes_is_chained_too(owner: str) -> None:
    """It runs beside this one for a while, and calls its own function."""
    async with opened(lambda: PostgresStore(owner, ids=seeded_ids())) as store:
        await do(store, group("g", "ann"), revoke("ann"))
        connection = await asyncpg.connect(owner)
        empty = ", ".join(["'{}'"] * 31)
        await connection.execute(
            f"SELECT write_batch_1(0, {empty}, "
            """'{"audit": [[7, 1, "ann", "ADDED", 1, "bob"]], "login_audit": [[8, "BANNED", "eve", "", "eA=="]]}')"""
        )
        assert [
            tuple(row)
            for row in await connection.fetch("SELECT user_id, action, token_hash FROM login_audit")
        ] == [
            ("ann", "REVOKED", b""),
            ("eve", "BANNED", b"x"),
        ]
        await connection.close()
        report = Report()
        assert [step async for step in check_audit(store, report)]
        assert report.findings == []
        assert len(await store.acts(base.AuditFilter(), 0, 9)) == 4


@pytest.mark.parametrize(
    ("role", "schema"), [("", "public"), ("a\nb", "public"), ("a" * 64, "public"), ("a", "")]
)
def test_names_that_are_none_are_refused(role: str, schema: str) -> None:
    with pytest.raises(ConfigurationError):
        grants(role, schema)
