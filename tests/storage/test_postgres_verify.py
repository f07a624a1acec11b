"""The full check of a database finds every damage that there is a name for, and none in a log that is whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from chatkit.drivers.postgres import Database, Deadlines
from chatkit.errors import ConfigurationError, UnavailableError
from chatkit.storage import base
from chatkit.storage.postgres import PostgresStore, verify
from chatkit.storage.postgres.verify import verify_database
from chatkit.storage.postgres.verify_schema import made
from chatkit.storage.verify_report import Finding, Progress, Report
from chatkit.testing.contracts.storage_commands import NOW, device, do, group, send, single
from tests.servers.postgres import PostgresServer, serving

from .damage import DAMAGES, SECRET, Damage, fill
from .ids import seeded_ids
from .test_differential import History, Names


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
def address(server: PostgresServer) -> str:
    return server.new_database()


async def opened(address: str) -> PostgresStore:
    store = PostgresStore(address, ids=seeded_ids())
    await store.migrate()
    return store


@pytest.fixture(scope="module")
def filled(server: PostgresServer) -> str:
    """The name of a database with the log of `damage`."""
    address = server.new_database()
    anyio.run(_fill, address)
    return _name(address)


async def _fill(address: str) -> None:
    store = await opened(address)
    await fill(store)
    await store.aclose()


def _name(address: str) -> str:
    return address.rsplit("/", 1)[1].partition("?")[0]


@pytest.fixture
def log(server: PostgresServer, filled: str) -> str:
    """The address of a log of one's own, as that of `damage`."""
    return server.new_database(copied_from=filled)


async def verified(address: str) -> Report:
    report = Report()
    async for _ in verify_database(address, report):
        pass
    assert SECRET not in repr(report)
    return report


async def run(address: str, *statements: str) -> None:
    """Run statements as somebody at a console."""
    database = Database(address, connections=1, deadlines=Deadlines())
    await database.open()
    try:
        async with database.transaction() as connection:
            for sql in statements:
                await connection.execute(sql)
    finally:
        await database.aclose()


_WITHOUT_CHECKS = """
DO $$ DECLARE it record; BEGIN
    FOR it IN SELECT conrelid::regclass::text AS name, conname FROM pg_constraint
        WHERE contype = 'c' AND connamespace = 'public'::regnamespace
    LOOP EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', it.name, it.conname); END LOOP;
END $$
"""
_TRIGGERS = "ALTER TABLE audit {0} TRIGGER USER"


async def change(address: str, *statements: str) -> None:
    """Damage the tables; triggers are on again afterwards."""
    await run(
        address,
        _WITHOUT_CHECKS,
        _TRIGGERS.format("DISABLE"),
        *map(_in_postgres, statements),
        _TRIGGERS.format("ENABLE"),
    )


def _in_postgres(sql: str) -> str:
    """A statement of SQLite in PostgreSQL's words."""
    sql = re.sub(r"CAST\('(.*?)' AS BLOB\)", r"convert_to('\1', 'UTF8')", sql)
    sql = re.sub(r"x'([0-9a-f]*)'", r"'\\x\1'::bytea", sql)
    sql = sql.replace("zeroblob(length(payload))", "decode(repeat('00', length(payload)), 'hex')")
    sql = re.sub(r"WHERE 1$", "WHERE TRUE", sql)
    return sql.replace("is_member = 0", "is_member = FALSE")


# --- whole logs ---

CHECKS = 3


async def test_a_whole_log_is_whole(log: str) -> None:
    report = await verified(log)
    assert (report.findings, report.conversations, report.messages) == ([], 2, 307)


async def test_an_empty_log_is_whole(address: str) -> None:
    await (await opened(address)).aclose()
    assert (await verified(address)).whole


@pytest.mark.parametrize("seed", range(3))
async def test_no_history_of_commands_is_called_damaged_also_while_it_goes_on(
    address: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts are small, so that much is written between any two."""
    monkeypatch.setattr(base, "DEVICES_MAX", 2 + seed % 2)
    for bound in ("_CONVERSATIONS_PER_PART", "_MESSAGES_PER_PART", "_TOKENS_PER_PART"):
        monkeypatch.setattr(verify, bound, 4)
    store, history = await opened(address), History(seed)
    names = Names(store)
    reports: list[Report] = []
    batches = 0

    async def write() -> None:
        nonlocal batches
        while len(reports) < CHECKS or batches < 30:
            outcomes = await store.commit([names.own(command) for command in history.batch()])
            await names.learn()
            history.learn(outcomes, names)
            batches += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        for _ in range(CHECKS):
            reports.append(await verified(address))
    reports.append(await verified(address))
    await store.aclose()
    assert [it for report in reports for it in report.findings] == []


async def test_progress_goes_on_to_the_end(log: str) -> None:
    steps: list[Progress] = [step async for step in verify_database(log, Report())]
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == ["structure", "tokens", "conversations", "audit", "messages"]
    assert all(step.done <= step.total for step in steps)
    assert (steps[-1].done, steps[-1].total) == (307, 307)


# --- damage ---

ONLY_IN_A_FILE = {
    "the counter of conversations",
    "a text that is not UTF-8",
    "a text that is not UTF-8 behind a zero",
    "a title that is not UTF-8",
    "an owner that is not UTF-8",
    "an actor that is not UTF-8",
    "a device's name that is not UTF-8",
    "a way of leaving that there is not",
    "a type that there is not",
    "an entry of no kind",
}
"""PostgreSQL lets no such text in, and checks its CHECKs itself."""

OTHERWISE = {
    "an old audit row": "314 entries and audit rows were written; there are 307 entries and 6 audit rows",
    "the newest audit row": "314 entries and audit rows were written; there are 307 entries and 6 audit rows",
}
PORTABLE = [it for it in DAMAGES if it.name not in ONLY_IN_A_FILE]


@pytest.mark.parametrize("damage", PORTABLE, ids=lambda damage: damage.name)
async def test_a_damaged_table_is_found(log: str, damage: Damage) -> None:
    await change(log, *damage.sql.split(";"))
    found = OTHERWISE.get(damage.name, damage.found)
    assert Finding(damage.check, found) in (await verified(log)).findings  # type: ignore[arg-type]


OWN = {
    "a name": (
        "DELETE FROM conversation_name WHERE conversation_id = 'g'",
        Finding("entries", "conversation g is not found by its name"),
    ),
    "a name that leads elsewhere": (
        "UPDATE conversation_name SET conversation_key = 2 WHERE conversation_id = 'g'",
        Finding("entries", "conversation g is not found by its name"),
    ),
    "a name of nothing": (
        "INSERT INTO conversation_name VALUES ('gone', 77)",
        Finding("entries", "2 conversations have names, and 3 names lead to one"),
    ),
    "a pair of nothing": (
        'INSERT INTO conversation_pair VALUES (\'["a","b"]\', 77)',
        Finding("entries", "0 conversations have pairs, and 1 pairs lead to one"),
    ),
    "numbers that would be given again": (
        "SELECT setval('conversation_key', 1)",
        Finding("entries", "conversations are numbered up to 2, but only 1 numbers were given"),
    ),
    "numbers of audit rows that would be given again": (
        "SELECT setval('audit_id', 3)",
        Finding("entries", "audit rows are numbered up to 7, but only 3 numbers were given"),
    ),
    "a trigger that is off": (
        "ALTER TABLE audit DISABLE TRIGGER audit_is_append_only",
        Finding("schema", "the trigger audit_is_append_only is switched off or not valid"),
    ),
    "a trigger that is gone": (
        "DROP TRIGGER audit_is_chained ON audit",
        Finding("schema", "the trigger audit_is_chained is missing"),
    ),
    "an index that is not valid": (
        "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'message_by_key'::regclass",
        Finding("schema", "the index message_by_key is switched off or not valid"),
    ),
    "a primary key": (
        "ALTER TABLE message DROP CONSTRAINT message_pkey",
        Finding("schema", "the table message has no primary key"),
    ),
    "a function": (
        "DROP FUNCTION refuse_change CASCADE",
        Finding("schema", "the function refuse_change is missing"),
    ),
    "a table": ("DROP TABLE device_exact", Finding("schema", "the table device_exact is missing")),
}


@pytest.mark.parametrize("name", OWN)
async def test_what_only_postgres_has_is_checked(log: str, name: str) -> None:
    sql, finding = OWN[name]
    await run(log, sql)
    assert finding in (await verified(log)).findings


async def test_a_block_that_a_single_does_not_know_of(address: str) -> None:
    store = await opened(address)
    await do(store, device("ann"), single("s", "bob", "ann"), base.BlockUser("bob", "ann", NOW))
    await store.aclose()
    assert (await verified(address)).whole
    await run(address, "UPDATE conversation SET blocks = 1")
    words = "conversation s says 1 of the blocks between its members, which say 2"
    assert (await verified(address)).findings == [Finding("block", words)]
    await run(address, "UPDATE conversation SET blocks = 2", "DELETE FROM conversation_pair")
    words = 'conversation s is not found by its pair ["ann","bob"]'
    assert Finding("entries", words) in (await verified(address)).findings


def test_everything_that_the_migrations_make_is_known() -> None:
    kinds = {it.kind for it in made()}
    assert kinds == {"table", "index", "sequence", "view", "trigger", "function"}
    assert {"message", "message_by_key", "audit_is_append_only", "write_batch_1"} <= {
        it.name for it in made()
    }


# --- a disk that is damaged ---


@pytest.mark.timeout(120)
async def test_pages_that_cannot_be_read_are_told_and_the_rest_is_checked() -> None:
    """One page of the messages and one of the cursors, of which the server finds that their sums are wrong."""
    with serving() as server:
        address = server.new_database()
        store = await opened(address)
        await fill(store)
        for number in range(30):
            await do(store, group(f"after {number}", "ann"), send(f"after {number}", "ann", "k"))
        await store.aclose()
        await run(address, "UPDATE message SET payload = '\\x7b' WHERE conversation_key = 5 AND seq = 2")
        database = _name(address)
        paths = [
            server.query(database, f"CHECKPOINT; SELECT pg_relation_filepath('{table}')")
            for table in ("message", "device_exact")
        ]
        server.stop()
        for path in paths:
            _flip(server.data / path)
        server.start()
        report = await verified(server.address(database))
    assert report.messages > 300
    assert any(it.words.startswith("the message of the conversation with number ") for it in report.findings)
    assert Finding("body", "conversation after 2 has a body that is not JSON, at seq 2") in report.findings
    assert any(it.words.startswith("what the check 'device'") for it in report.findings)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8000] ^= 0xFF  # in a row of the first page
    path.write_bytes(data)


# --- what cannot be checked ---


async def test_a_database_without_a_log(address: str) -> None:
    with pytest.raises(ConfigurationError, match="has no log of chatkit"):
        await verified(address)


async def test_a_log_of_another_version(log: str) -> None:
    await run(log, "INSERT INTO schema_migration VALUES (999, '0999_later.sql')")
    with pytest.raises(ConfigurationError, match="newer version"):
        await verified(log)
    await run(log, "DELETE FROM schema_migration WHERE number IN (2, 999)")
    with pytest.raises(ConfigurationError, match="older version"):
        await verified(log)


async def test_a_user_who_may_not_read(log: str) -> None:
    await run(log, "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN")
    with pytest.raises(ConfigurationError, match="may not read"):
        await verified(log.replace("chatkit@", "stranger@"))


async def test_a_server_that_is_not_there() -> None:
    with pytest.raises(UnavailableError):
        await verified("postgresql://chatkit@127.0.0.1:1/none?sslmode=disable")
