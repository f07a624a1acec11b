"""A real log, and every way to damage it: in its tables, and in its bytes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import anyio

from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import (
    add,
    confirm,
    delivered,
    device,
    do,
    group,
    one,
    read,
    recall,
    remove,
    send,
)
from chatkit.testing.contracts.storage_moderation import hold as hold_in_g
from chatkit.testing.contracts.storage_moderation import report

from .ids import seeded_ids

SECRET = "TOPSECRET"
"""Stands in every body; no words about damage may hold it."""

LENGTH = 300
"""Messages of conversation `h`: more than are read at an opening."""


def make_log(path: str) -> None:
    """Write the log to a file; it is made only once."""
    Path(path).write_bytes(_log())


@cache
def _log() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "chat.db"
        anyio.run(_fill, str(path))
        return path.read_bytes()


async def _fill(path: str) -> None:
    """The log in a file, closed cleanly."""
    store = SqliteStore(path, ids=seeded_ids())
    await store.migrate()
    await fill(store)
    await store.aclose()


async def fill(store: base.Store) -> None:
    """A log of conversations g (1) and h (2).

    Old in it are a recall (g, seq 2 by 3) and memberships that ended; new are the last messages of h and a recall of
    one of them (seq 300 by 304).
    """
    await do(store, device("ann"), device("bob"), group("g", "ann", "bob"))
    sent = await one(store, send("g", "ann", "k", SECRET), base.Appended)
    await do(store, recall(sent.entry.message_id, "ann"), group("h", "ann", "bob"))
    await do(store, add("h", "ann", "cat"), remove("h", "ann", "cat"), add("h", "ann", "cat"))
    texts = [send("h", "ann", f"{n}", f"{SECRET}-{n}-{'x' * 900}") for n in range(LENGTH - 1)]
    outcomes = await do(store, *texts)
    last, exact = outcomes[-4], outcomes[-1]
    assert isinstance(last, base.Appended)
    assert isinstance(exact, base.Appended)
    await do(store, recall(last.entry.message_id, "ann"), confirm(exact.entry.message_id, "bob"))
    await do(store, hold_in_g("bob", "h1"), hold_in_g("bob", "h2"), report(last.entry.message_id, "bob"))
    await do(store, delivered("h", "ann", 303), delivered("h", "bob", 200), read("h", "bob", 100))


def vacuum_into(path: str, target: str) -> None:
    """Make a backup as docs/backup.md says; it has no write-ahead log."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.execute("VACUUM INTO ?", (target,))


def change(path: str, *statements: str) -> None:
    """Damage the tables of a log; triggers are put back."""
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    connection.execute("PRAGMA foreign_keys = 0")
    connection.execute("PRAGMA ignore_check_constraints = 1")
    for sql in (*(f"DROP TRIGGER {name}" for name, _ in triggers), *statements):
        connection.execute(sql)
    for _, sql in triggers:
        connection.execute(sql)
    connection.close()


class Damage(NamedTuple):
    """One way to damage the tables.

    Attributes:
        check: What the full check reports it as.
        found: The words of the full check.
        at_opening: The words at an opening; empty if that does not see it.
    """

    name: str
    sql: str
    check: str
    found: str
    at_opening: str = ""


def _deleted(table: str, where: str = "1") -> str:
    return f"DELETE FROM {table} WHERE {where}"


_BODY = f"""CAST('{{"text":"{SECRET}"}}' AS BLOB)"""

DAMAGES = (
    # The entries and their heads.
    Damage("a row from the middle", _deleted("message", "conversation_key = 2 AND seq = 50"),
           "entries", "conversation h has head 304, but 303 entries up to seq 304"),
    Damage("the first row", _deleted("message", "conversation_key = 2 AND seq = 1"),
           "entries", "conversation h has head 304, but 303 entries up to seq 304"),
    Damage("a row near the end", _deleted("message", "seq = 301"),
           "entries", "conversation h has head 304, but 303 entries up to seq 304",
           "conversation h has only 9 of its newest 10 entries"),
    Damage("the last row", _deleted("message", "seq = 304"),
           "entries", "conversation h has head 304, but 303 entries up to seq 303",
           "conversation h has head 304, but its entries end at seq 303"),
    Damage("all rows", _deleted("message"),
           "entries", "conversation g has head 3, but 0 entries up to seq 0",
           "conversation g has head 3, but its entries end at seq 0"),
    Damage("a head too low", "UPDATE conversation SET head_seq = 2 WHERE conversation_id = 'g'",
           "entries", "conversation g has head 2, but 3 entries up to seq 3",
           "conversation g has head 2, but its entries end at seq 3"),
    Damage("a head too high", "UPDATE conversation SET head_seq = 400 WHERE conversation_id = 'h'",
           "entries", "conversation h has head 400, but 304 entries up to seq 304",
           "conversation h has head 400, but its entries end at seq 304"),
    Damage("an entry beyond the head", "UPDATE message SET seq = 900 WHERE seq = 304",
           "entries", "conversation h has head 304, but 304 entries up to seq 900",
           "conversation h has head 304, but its entries end at seq 900"),
    Damage("a conversation", _deleted("conversation", "conversation_id = 'g'"),
           "entries", "the conversation with number 1 has no row, but 3 entries up to seq 3",
           "the conversation with number 1 has no row, but entries up to seq 3"),
    Damage("the newest conversation", _deleted("conversation", "conversation_id = 'h'"),
           "entries", "the conversation with number 2 has no row, but 304 entries up to seq 304",
           "messages are there of a conversation 2, but conversations only up to 1"),
    Damage("the counter of conversations", "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'conversation'",
           "entries", "conversations are numbered up to 2, but only 1 numbers were given",
           "conversations are numbered up to 2, but only 1 numbers were given"),
    Damage("the secret", _deleted("setting"),
           "secret", "the log's secret is not there", "its secret is not there"),
    # Bodies and recalls.
    Damage("an old body zeroed",
           "UPDATE message SET payload = zeroblob(length(payload)) WHERE conversation_key = 2 AND seq = 7",
           "body", "conversation h has a body that is not JSON, at seq 7"),
    Damage("an old body cut",
           "UPDATE message SET payload = substr(payload, 1, 20) WHERE conversation_key = 2 AND seq = 9",
           "body", "conversation h has a body that is not JSON, at seq 9"),
    Damage("an old body not UTF-8",
           "UPDATE message SET payload = x'7b2261223a22ff227d' WHERE conversation_key = 2 AND seq = 9",
           "body", "conversation h has a body that is not JSON, at seq 9"),
    Damage("an old body no object",
           "UPDATE message SET payload = x'5b5d' WHERE conversation_key = 2 AND seq = 9",
           "body", "conversation h has a body that is not JSON, at seq 9"),
    Damage("a new body cut", "UPDATE message SET payload = substr(payload, 1, 20) WHERE seq = 299",
           "body", "conversation h has a body that is not JSON, at seq 299",
           "conversation h has a body that is not JSON, at seq 299"),
    Damage("an old recalled body",
           f"""UPDATE message SET payload = {_BODY} WHERE conversation_key = 1 AND seq = 2""",
           "recall", "conversation g has a recalled body that was not erased, at seq 2"),
    Damage("a new recalled body", f"""UPDATE message SET payload = {_BODY} WHERE seq = 300""",
           "recall", "conversation h has a recalled body that was not erased, at seq 300",
           "conversation h has a recalled body that was not erased, at seq 300"),
    Damage("an old recall", _deleted("recall", "conversation_key = 1"),
           "body", "conversation g has a body that is not JSON, at seq 2"),
    Damage("a recall whose message is there again",
           f"""UPDATE message SET payload = {_BODY} WHERE conversation_key = 1 AND seq = 2;"""
           + _deleted("recall", "conversation_key = 1"),
           "recall", "conversation g has a recall at seq 3 of a message that is not recalled"),
    Damage("a recall by no recall", "UPDATE recall SET recalled_by_seq = 100 WHERE conversation_key = 2",
           "recall", "conversation h has a recall of seq 300 by seq 100, which are no message and its recall"),
    # Memberships.
    Damage("a join beyond the head",
           "UPDATE conversation_member SET join_seq = 700 WHERE user_id = 'cat' AND leave_seq IS NULL",
           "membership",
           "conversation h has a membership of cat that begins at seq 700, where no change of members is"),
    Damage("a leave beyond the head", "UPDATE conversation_member SET leave_seq = 700 WHERE leave_seq = 3",
           "membership",
           "conversation h has a membership of cat that ends at seq 700, where no change of members is"),
    Damage("memberships that overlap", "UPDATE conversation_member SET leave_seq = 700 WHERE leave_seq = 3",
           "membership", "conversation h has two memberships of cat that hold at seq 4"),
    Damage("a membership", _deleted("conversation_member", "conversation_key = 1 AND user_id = 'bob'"),
           "membership", "conversation g counts 2 members and has 1"),
    Damage("the owner", "UPDATE conversation SET owner_id = 'eve' WHERE conversation_id = 'g'",
           "membership", "conversation g is owned by eve, who is no member"),
    Damage("the blocks of a conversation", "UPDATE conversation SET blocks = 2 WHERE conversation_id = 'g'",
           "block", "conversation g says 2 of the blocks between its members, which say 0"),
    # What is held and reported.
    Damage("a held message that waits for nobody", "UPDATE moderated SET state = 'READY' WHERE held_id = 1",
           "moderation", "conversation g has the held message 1 of bob, which waits behind none"),
    Damage("a report of what is no message", "UPDATE report SET seq = 1",
           "moderation", "conversation h has a report of seq 1, which is no message"),
    Damage("the count of members", "UPDATE conversation SET member_count = 9 WHERE conversation_id = 'h'",
           "membership", "conversation h counts 9 members and has 3"),
    # Cursors and devices.
    Damage("a cursor above the head", "UPDATE member_cursor SET delivered_seq = 305 WHERE user_id = 'ann'",
           "cursor", "conversation h has head 304, and cursors of ann at 0 (read) and 305 (delivered)"),
    Damage("read above delivered",
           "UPDATE member_cursor SET read_seq = 201 WHERE conversation_key = 2 AND user_id = 'bob'",
           "cursor", "conversation h has head 304, and cursors of bob at 201 (read) and 200 (delivered)"),
    Damage("the cursors of a member", _deleted("member_cursor", "user_id = 'cat'"),
           "cursor", "conversation h has no cursors of its member cat"),
    Damage("who is a member", "UPDATE member_cursor SET is_member = 0 WHERE user_id = 'cat'",
           "cursor", "conversation h has cursors of cat that do not say whether they are a member"),
    Damage("a device's cursor", _deleted("device_cursor", "conversation_key = 2 AND user_id = 'bob'"),
           "device", "conversation h has a confirmation of seq 303 by device phone of bob, "
           "which is not between its cursor and the head"),
    Damage("where the farthest device is", "UPDATE member_cursor SET device_seq = 7 WHERE user_id = 'ann'",
           "cursor", "conversation h holds 303 as delivered to ann, which is neither where they read (0) "
           "nor their farthest device (7)"),
    Damage("a device's cursor above the head", "UPDATE device_cursor SET delivered_seq = 305",
           "device", "conversation h has head 304, and a cursor of device phone of ann at 305"),
    Damage("a device's cursor above its user's",
           "UPDATE device_cursor SET delivered_seq = 201 WHERE conversation_key = 2 AND user_id = 'bob'",
           "device",
           "conversation h has a cursor of device phone of bob at 201, above the farthest of their devices"),
    Damage("whose device is a member's", "UPDATE device_cursor SET is_member = 0 WHERE user_id = 'bob'",
           "device",
           "conversation h has a cursor of device phone of bob that does not say whether they are a member"),
    Damage("a device", _deleted("device", "user_id = 'bob'"),
           "device", "conversation h has a cursor of device phone of bob, which is not there"),
    Damage("the device of a resume token", _deleted("device", "user_id = 'bob'"),
           "device", "a resume token is there of device phone of bob, which is not"),
    Damage("a single confirmation", _deleted("device_exact"),
           "device", "conversation h counts 1 single confirmations of device phone of bob and has 0"),
    Damage("a single confirmation below its cursor", "UPDATE device_exact SET seq = 199",
           "device", "conversation h has a confirmation of seq 199 by device phone of bob, "
           "which is not between its cursor and the head"),
    # The outbox and the audit.
    Damage("an outbox beyond the head", "UPDATE outbox SET first_seq = 900 WHERE conversation_key = 2",
           "outbox", "conversation h has head 304, and an outbox from seq 900"),
    Damage("an outbox of no conversation", "INSERT INTO outbox VALUES (77, 1, 1, 0, 1, 0, 0)",
           "outbox", "the conversation with number 77 has no row, but 1 in outbox",
           "the conversation with number 77 has no row, but entries up to seq 0"),
    Damage("a delivery of no conversation", "INSERT INTO delivery VALUES (77, 'ann', 'phone', 1, 1, 0, 0, 1, '')",
           "outbox", "the conversation with number 77 has no row, but 1 in delivery"),
    Damage("a mute of no conversation", "INSERT INTO mute (conversation_key, user_id, until_ms) VALUES (77, 'ann', 1)",
           "outbox", "the conversation with number 77 has no row, but 1 in mute"),
    Damage("a mention of no conversation", "INSERT INTO mention VALUES (77, 'ann', 1)",
           "mention", "the conversation with number 77 has no row, but 1 in mention"),
    Damage("a mention by a change of members", "INSERT INTO mention VALUES (2, 'bob', 1)",
           "mention", "conversation h has a mention of bob by seq 1, which is no message and no edit"),
    Damage("a pin of no conversation", "INSERT INTO pin VALUES (77, 1, 2)",
           "pin", "the conversation with number 77 has no row, but 1 in pin"),
    Damage("a pin that no entry made", "INSERT INTO pin VALUES (2, 3, 4)",
           "pin", "conversation h has seq 3 pinned by seq 4, which are no message and a pin"),
    Damage("a push of no conversation",
           "INSERT INTO push_record VALUES (77, 'ann', 'phone', 1, 'apns', 1, 'TAKEN', '', '', 1, 1)",
           "outbox", "the conversation with number 77 has no row, but 1 in push_record"),
    Damage("a push about nothing",
           "INSERT INTO push_record VALUES (2, 'bob', 'phone', 900, 'apns', 1, 'TAKEN', '', '', 1, 1)",
           "outbox", "conversation h has a push to device phone of bob about seq 900, above its head"),
    Damage("an old audit row", _deleted("audit", "audit_id = 2"),
           "audit", "7 audit rows were written; 6 are there, up to number 7"),
    Damage("the newest audit row", _deleted("audit", "audit_id = 7"),
           "audit", "7 audit rows were written; 6 are there, up to number 6",
           "the newest audit row is 6, but the last one written was 7"),
    Damage("an audit row beyond the head", "UPDATE audit SET seq = 900 WHERE audit_id = 1",
           "audit", "conversation g has head 3, and audit row 1 of seq 900"),
    Damage("what an audit row says", "UPDATE audit SET subject = 'k' WHERE audit_id = 1",
           "audit", "of the audit of the log's own acts, number 1, audit row 1, is not as it was written"),
    Damage("how far a chain of the audit has got", "UPDATE audit_head SET number = 9 WHERE chain = 0",
           "audit", "of the audit of the log's own acts, 7 rows are missing at its end, after number 2"),
    Damage("a chain of the audit", "DELETE FROM audit_head WHERE chain = 2",
           "audit", "conversation h has no chain in the audit"),
    Damage("a chain of no conversation", "INSERT INTO audit_head SELECT 77, 0, digest FROM audit_head WHERE chain = 0",
           "audit", "the conversation with number 77 has no row, but a chain in the audit"),
    # Texts that are none, and the schema.
    Damage("a text that is not UTF-8",
           "UPDATE message SET sender_id = CAST(x'ff41' AS TEXT) WHERE conversation_key = 2 AND seq = 9",
           "row", "conversation h has a text that is not UTF-8 in message.sender_id"),
    Damage("a text that is not UTF-8 behind a zero",
           "UPDATE message SET client_msg_id = CAST(x'4100ff' AS TEXT) WHERE conversation_key = 2 AND seq = 9",
           "row", "conversation h has a text that is not UTF-8 in message.client_msg_id"),
    Damage("a title that is not UTF-8",
           "UPDATE conversation SET title = CAST(x'61ff62' AS TEXT) WHERE conversation_id = 'g'",
           "row", "conversation g has a text that is not UTF-8 in conversation.title"),
    Damage("an owner that is not UTF-8", "UPDATE conversation SET owner_id = CAST(x'80' AS TEXT)",
           "row", "conversation g has a text that is not UTF-8 in conversation.owner_id"),
    Damage("an actor that is not UTF-8", "UPDATE audit SET actor_id = CAST(x'eda080' AS TEXT) WHERE audit_id = 1",
           "row", "conversation g has a text that is not UTF-8 in audit.actor_id"),
    Damage("a device's name that is not UTF-8", "UPDATE device SET device_id = CAST(x'c1' AS TEXT)",
           "row", "the log has a text that is not UTF-8 in device.device_id"),
    # CHECKs.
    Damage("a way of leaving that there is not", "UPDATE member_cursor SET has_left = 3 WHERE conversation_key = 1",
           "row", "conversation g has a row in member_cursor that breaks CHECK (has_left IN (0, 1))"),
    Damage("a type that there is not", "UPDATE conversation SET type = 'GROPU' WHERE conversation_id = 'g'",
           "row", "conversation g has a row in conversation that breaks CHECK (type IN ('SINGLE', 'GROUP'))"),
    Damage("an entry of no kind", "UPDATE message SET kind = 'SYSTEM' WHERE conversation_key = 2 AND seq = 9",
           "row", "conversation h has a row in message that breaks "
           "CHECK (kind = 'USER' OR kind IN ('MEMBER', 'RECALL', 'EDIT', 'REACTION', 'PINNED', 'TITLE'))"),
    # What the server's own entries say.
    Damage("a change of members that names none",
           """UPDATE message SET payload = CAST('{"type":"MEMBER","op":"CREATED"}' AS BLOB) """
           "WHERE conversation_key = 2 AND seq = 1",
           "body", "conversation h has a MEMBER entry that does not say what it must, at seq 1"),
    Damage("a recall that names no message",
           """UPDATE message SET payload = CAST('{"type":"RECALL","seq":2}' AS BLOB) """
           "WHERE conversation_key = 1 AND seq = 3",
           "body", "conversation g has a RECALL entry that does not say what it must, at seq 3"),
    Damage("an index", "DROP INDEX conversation_member_current",
           "schema", "the index conversation_member_current is missing"),
)  # fmt: skip


# --- in the bytes of the file ---


def page_size(data: bytes) -> int:
    return int.from_bytes(data[16:18], "big")


def leaves_of_bodies(data: bytes) -> Iterator[int]:
    """Where table leaves with bodies begin, the oldest first."""
    size = page_size(data)
    for at in range(size, len(data), size):
        if data[at] == 13 and SECRET.encode() in data[at : at + size]:
            yield at


def cut_in_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def cut_in_a_page(data: bytes) -> bytes:
    return data[: -page_size(data) // 2]


def without_last_page(data: bytes) -> bytes:
    return data[: -page_size(data)]


def _zeroed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(page_size(data)) + data[at + page_size(data) :]


def with_old_page_zeroed(data: bytes) -> bytes:
    return _zeroed(data, next(leaves_of_bodies(data)))


def with_newest_page_zeroed(data: bytes) -> bytes:
    return _zeroed(data, [*leaves_of_bodies(data)][-1])


def with_second_half_zeroed(data: bytes) -> bytes:
    """A copy that has its length, and not yet its content."""
    half = len(data) // 2 // page_size(data) * page_size(data)
    return data[:half] + bytes(len(data) - half)


def _flipped(data: bytes, at: int, bits: int) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def with_flipped_pointer(data: bytes) -> bytes:
    return _flipped(data, next(leaves_of_bodies(data)) + 8, 0x80)  # the first cell's place in the page


def with_flipped_body(data: bytes) -> bytes:
    return _flipped(data, data.index(b'{"text":"' + SECRET.encode(), next(leaves_of_bodies(data))), 0x04)


def with_page_over_another(data: bytes, at: int) -> bytes:
    """The root of the messages written over one of its leaves, the given one: a search goes round in it."""
    size = page_size(data)
    root = next(
        start
        for start in range(size, len(data), size)
        if data[start] == 5 and len(_children(data, start)) > at and _is_of_bodies(data, start)
    )
    leaf = (_children(data, root)[at] - 1) * size
    return data[:leaf] + data[root : root + size] + data[leaf + size :]


def _is_of_bodies(data: bytes, interior: int) -> bool:
    size, first = page_size(data), (_children(data, interior)[1] - 1) * page_size(data)
    return SECRET.encode() in data[first : first + size]


def _children(data: bytes, interior: int) -> list[int]:
    """The pages below an interior page of a table, without the last one."""
    count = int.from_bytes(data[interior + 3 : interior + 5], "big")
    places = [
        int.from_bytes(data[at : at + 2], "big") for at in range(interior + 12, interior + 12 + 2 * count, 2)
    ]
    return [int.from_bytes(data[interior + at : interior + at + 4], "big") for at in places]


def with_name_in_schema_broken(data: bytes) -> bytes:
    at = data.index(b"CREATE TABLE outbox") + 7
    return data[:at] + b"\xa0" + data[at + 1 :]


FOUND_AT_OPENING = (
    cut_in_half,
    cut_in_a_page,
    without_last_page,
    with_newest_page_zeroed,
    with_second_half_zeroed,
    with_name_in_schema_broken,
)
FOUND_BY_THE_FULL_CHECK = (with_old_page_zeroed, with_flipped_pointer, with_flipped_body)


def damage_bytes(path: str, damage: Callable[[bytes], bytes]) -> None:
    """Change the bytes of a closed log."""
    file = Path(path)
    file.write_bytes(damage(file.read_bytes()))
