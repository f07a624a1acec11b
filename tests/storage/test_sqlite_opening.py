"""What a SQLite file must be like to be served: whole, and in nobody else's hands."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from chatkit.drivers import sqlite as driver
from chatkit.drivers.file_lock import SUFFIX
from chatkit.drivers.sqlite import DamagedError
from chatkit.errors import ConfigurationError
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import do, group, one, recall, send, seqs

from .ids import seeded_ids
from .test_sqlite import opened, raw

SECRET = "TOPSECRET"


@pytest.fixture
async def path(tmp_path: Path) -> str:
    """A log with two conversations and a recall, closed cleanly."""
    path = str(tmp_path / "chat.db")
    store = await opened(path)
    await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"))
    await do(store, *(send("h", "ann", f"{n}", f"{SECRET}-{n}-{'x' * 900}") for n in range(40)))
    sent = await one(store, send("g", "ann", "k", SECRET), base.Appended)
    await do(store, recall(sent.entry.message_id, "ann"))
    await store.aclose()
    return path


def change(path: str, *statements: str) -> None:
    """Damage the tables of a log."""
    connection = sqlite3.connect(path, isolation_level=None)
    for sql in statements:
        connection.execute(sql)
    connection.close()


async def refusal(path: str) -> str:
    """What the refusal to open a file says is damaged."""
    with pytest.raises(ConfigurationError) as caught:
        await opened(path)
    assert SECRET not in str(caught.value)
    words = rf"the (?:log|SQLite file) {re.escape(path)} is damaged: (.+); restore a backup"
    found = re.fullmatch(words, str(caught.value))
    assert found, caught.value
    return found[1]


async def test_a_whole_log_is_opened_whatever_was_recalled(path: str) -> None:
    store = await opened(path)
    assert await seqs(store, "g", "bob") == [1, 2, 3]
    await store.aclose()


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("DELETE FROM message WHERE seq = 5", "conversation h has head 41, but 40 entries up to seq 41"),
        ("DELETE FROM message WHERE seq = 41", "conversation h has head 41, but 40 entries up to seq 40"),
        (
            "UPDATE conversation SET head_seq = 2 WHERE conversation_id = 'g'",
            "conversation g has head 2, but 3 entries up to seq 3",
        ),
        (
            "UPDATE message SET seq = 90 WHERE seq = 41",
            "conversation h has head 41, but 41 entries up to seq 90",
        ),
        ("DELETE FROM message", "conversation g has head 3, but 0 entries up to seq 0"),
        (
            "DELETE FROM conversation WHERE conversation_id = 'h'",
            "the conversation with number 2 has no row, but 41 entries up to seq 41",
        ),
        (
            "UPDATE message SET payload = zeroblob(length(payload)) WHERE conversation_key = 2 AND seq = 7",
            "conversation h has a body that is not JSON, at seq 7",
        ),
        (
            "UPDATE message SET payload = substr(payload, 1, 20) WHERE conversation_key = 2 AND seq = 9",
            "conversation h has a body that is not JSON, at seq 9",
        ),
        ("DELETE FROM recall", "conversation g has a body that is not JSON, at seq 2"),
    ],
)
async def test_a_log_with_a_hole_or_a_broken_body_is_not_served(path: str, sql: str, found: str) -> None:
    change(path, "PRAGMA foreign_keys = 0", sql)
    assert await refusal(path) == found


async def test_a_row_that_only_its_indexes_still_know_is_missed(path: str) -> None:
    """SQLite's quick check does not compare a table with its indexes."""
    change(
        path,
        "CREATE TABLE rows AS SELECT * FROM message WHERE NOT (conversation_key = 2 AND seq = 6)",
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_schema AS it SET rootpage = swap.rootpage FROM "
        "(SELECT name, rootpage FROM sqlite_schema WHERE name IN ('message', 'rows')) AS swap "
        "WHERE it.name IN ('message', 'rows') AND swap.name <> it.name",
    )
    assert await refusal(path) == "43 messages are there of 44"


def page_size(data: bytes) -> int:
    return int.from_bytes(data[16:18], "big")


def leaf_of_bodies(data: bytes) -> int:
    """Where a table leaf with bodies begins."""
    size = page_size(data)
    starts = range(size, len(data), size)
    return next(at for at in starts if data[at] == 13 and SECRET.encode() in data[at : at + size])


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_last_page(data: bytes) -> bytes:
    return data[: -page_size(data)]


def with_zeroed_page(data: bytes) -> bytes:
    at, size = leaf_of_bodies(data), page_size(data)
    return data[:at] + bytes(size) + data[at + size :]


def with_flipped_pointer(data: bytes) -> bytes:
    at = leaf_of_bodies(data) + 8  # the first cell's place in the page
    return data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]


def with_flipped_body(data: bytes) -> bytes:
    at = data.index(b'{"text":"' + SECRET.encode(), leaf_of_bodies(data))
    return data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage", [cut, without_last_page, with_zeroed_page, with_flipped_pointer, with_flipped_body]
)
async def test_a_file_damaged_on_the_disk_is_not_served(path: str, damage: Callable[[bytes], bytes]) -> None:
    file = Path(path)
    file.write_bytes(damage(file.read_bytes()))
    assert await refusal(path)


async def test_a_refused_file_is_left_alone_and_free(path: str) -> None:
    change(
        path, "CREATE TABLE kept AS SELECT * FROM message WHERE seq = 5", "DELETE FROM message WHERE seq = 5"
    )
    before = Path(path).read_bytes()
    for _ in range(2):
        assert "conversation h" in await refusal(path)
    assert Path(path).read_bytes() == before
    change(path, "INSERT INTO message SELECT * FROM kept")
    store = await opened(path)
    await store.aclose()


@pytest.fixture
async def store(path: str) -> AsyncIterator[SqliteStore]:
    store = await opened(path)
    yield store
    await store.aclose()


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b'{"text":"\xff","type":"TEXT"}', b"\x00\x00", b"{}}"]
)
async def test_a_body_that_breaks_while_served_is_in_no_answer(
    store: SqliteStore, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    raw(store).change("UPDATE message SET payload = ? WHERE conversation_key = 2 AND seq = 9", (body,))
    with pytest.raises(DamagedError, match="conversation h, seq 9"):
        await store.page("h", "bob", 5, 10, 10**6)

    assert "the log is damaged: conversation h, seq 9" in caplog.text
    assert SECRET not in caplog.text
    page = await store.page("h", "bob", 0, 8, 10**6)
    assert [entry.seq for entry in page.entries] == list(range(1, 9))
    assert await seqs(store, "g", "bob") == [1, 2, 3]


async def test_a_text_that_breaks_while_served_is_in_no_answer(store: SqliteStore) -> None:
    sql = "UPDATE message SET sender_id = CAST(x'ff41' AS TEXT) WHERE conversation_key = 2 AND seq = 9"
    raw(store).execute(sql)
    with pytest.raises(DamagedError, match="UTF-8"):
        await store.page("h", "bob", 5, 10, 10**6)


async def test_a_file_has_one_server(path: str, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    first = await opened(path)
    for name in (path, str(link)):
        with pytest.raises(ConfigurationError, match=f"the log {name} is in use by another server"):
            await opened(name)
    assert await seqs(first, "g", "bob") == [1, 2, 3]
    await do(first, send("g", "ann", "still"))

    await first.aclose()
    second = await opened(str(link))
    assert await seqs(second, "g", "bob") == [1, 2, 3, 4]
    await second.aclose()


async def test_who_does_not_ask_for_the_file_alone_gets_it(store: SqliteStore, path: str) -> None:
    other = await opened(path, exclusive=False)
    assert await seqs(other, "g", "bob") == [1, 2, 3]
    await other.aclose()
    with pytest.raises(ConfigurationError, match="in use"):
        await opened(path)


_HOLD = """
import sys, anyio
from chatkit.ports import SystemIds
from chatkit.storage.sqlite import SqliteStore

async def hold():
    await SqliteStore(sys.argv[1], ids=SystemIds()).migrate()
    print("held", flush=True)
    await anyio.sleep_forever()

anyio.run(hold)
"""


async def test_a_killed_process_holds_nothing(path: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", _HOLD, path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationError, match="in use"):
            await opened(path)
    finally:
        process.kill()
        process.communicate()
    store = await opened(path)
    assert await seqs(store, "g", "bob") == [1, 2, 3]
    await store.aclose()


async def test_a_file_that_may_not_be_written_is_named(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = driver._connect
    monkeypatch.setattr(driver, "_connect", lambda path, read_only: connect(path, True))
    keeper = sqlite3.connect(path)
    keeper.execute("SELECT * FROM setting").fetchall()
    with pytest.raises(ConfigurationError, match=f"{path}: attempt to write a readonly database"):
        await SqliteStore(path, ids=seeded_ids()).migrate()
    keeper.close()


async def test_a_lock_file_that_cannot_be_made_is_named(path: str) -> None:
    lock = Path(path + SUFFIX)
    lock.unlink()
    lock.mkdir()
    with pytest.raises(ConfigurationError, match=f"cannot open the lock file {lock}: "):
        await opened(path)
