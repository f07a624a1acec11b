"""A damaged local store: one typed error that names the file, and no neighbour suffers from a damaged row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatkit.client.events import Delivery, SendFailed
from chatkit.client.store.base import Progress
from chatkit.client.store.sqlite import SqliteStore
from chatkit.core.resend import PendingSend
from chatkit.drivers.sqlite import open_sqlite
from chatkit.errors import DamagedError
from chatkit.testing.contracts.local_store import change, message
from chatkit.wire import events as ev

from .fake_server import FakeServer, ack, client, head, new, until

TEXT = b'{"text":"hi","type":"TEXT"}'


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "client.db")
    store = SqliteStore(path)
    store.save([change(0, floor=0)])
    store.save([change(3, message(1), message(2), message(3), message(5))])
    for order, key in enumerate("abc"):
        store.add_pending(PendingSend("c-1", key, TEXT, order))
    store.close()
    return path


def spoil(path: str, *statements: str) -> None:
    raw = open_sqlite(path, synchronous="NORMAL")
    for statement in statements:
        raw.execute(statement)
    raw.close()


CALLS: dict[str, Callable[[SqliteStore], Any]] = {
    "records": lambda store: store.records(),
    "messages": lambda store: store.messages("c-1", 99, 99),
    "untaken": lambda store: store.untaken("c-1", 0, 99, 99),
    "save": lambda store: store.save([change(4, message(4))]),
    "advance": lambda store: store.advance([Progress("c-1", "e1", 1)]),
    "floor": lambda store: store.floor("c-1"),
}


def test_damage_that_opening_finds_is_damage_and_no_second_user_of_the_file(path: str) -> None:
    """A page in the middle is gone, which the first look at the file may find or a later one."""
    whole = Path(path).read_bytes()
    page = 4096
    for number in range(1, len(whole) // page):
        Path(path).write_bytes(whole[: number * page] + b"\xff" * page + whole[(number + 1) * page :])
        try:
            SqliteStore(path).close()
        except DamagedError:
            continue


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_table_is_damage(path: str, call: str) -> None:
    spoil(path, "ALTER TABLE message RENAME TO gone", "ALTER TABLE conversation RENAME TO gone_too")
    with pytest.raises(DamagedError, match=rf"{path} is damaged .*move the file away"):
        CALLS[call](SqliteStore(path))


@pytest.mark.parametrize("body", ["x'7b'", "x'5b5d'", "x'ff'", "x''"])
@pytest.mark.parametrize("call", ["records", "messages", "untaken"])
def test_a_body_that_is_none_is_damage(path: str, call: str, body: str) -> None:
    spoil(path, f"UPDATE message SET payload = {body}")
    store = SqliteStore(path)
    with pytest.raises(DamagedError, match="is damaged"):
        CALLS[call](store)
    store.close()


def test_a_text_that_is_none_is_damage(path: str) -> None:
    spoil(path, "UPDATE message SET sender_id = CAST(x'ff' AS TEXT)")
    store = SqliteStore(path)
    with pytest.raises(DamagedError, match="is damaged"):
        store.messages("c-1", 99, 99)
    store.close()


def test_pages_that_were_written_over_are_damage(path: str) -> None:
    size = Path(path).stat().st_size
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (size - 100))
    with pytest.raises(DamagedError, match="is damaged"):
        SqliteStore(path)


async def test_an_app_sees_it_as_it_enters(path: str) -> None:
    spoil(path, "UPDATE message SET payload = x'7b'")
    with pytest.raises(DamagedError, match="move the file away"):
        async with client(FakeServer(), store=path):
            pass


async def test_an_app_sees_it_where_it_reads(path: str) -> None:
    spoil(path, "UPDATE message SET payload = x'7b' WHERE seq = 2")
    server = FakeServer()

    async def handle(delivery: Delivery) -> None:
        """Takes everything."""

    async with client(server, store=path) as chat:
        await (await server.accept()).log_in(head(3, delivered=3))
        with pytest.raises(DamagedError):
            await chat.history("c-1")
        with pytest.raises(DamagedError):
            await chat.consume(handle)


async def test_a_client_that_cannot_save_stops_with_it(path: str) -> None:
    server, store = FakeServer(), SqliteStore(path)

    async def use() -> None:
        async with client(server, store=store) as chat:
            line = await server.accept()
            await line.log_in(head(3, delivered=3))
            store._connection.execute("ALTER TABLE message RENAME TO gone")
            line.push(new(4))
            async for _ in chat.events():
                pass

    with pytest.raises(DamagedError):
        await use()


@pytest.mark.parametrize("body", ["x'7b'", "x'22'", "x'5b5d'", "x'ff'", "x''"])
@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_damaged_message_that_waits_takes_no_neighbour_along(
    path: str, codec: str, body: str
) -> None:
    spoil(path, f"UPDATE pending_send SET payload = {body} WHERE client_msg_id = 'b'")
    server = FakeServer()
    async with client(server, store=path, codec=codec) as chat:
        line = await server.accept()
        await line.log_in(head(5, delivered=5))
        sends = [await line.expect(ev.SendMsg) for _ in range(2)]
        line.push(*(ack(send, seq) for seq, send in enumerate(sends, 6)))
        failed, _ = await until(chat, SendFailed)

        assert [send.client_msg_id for send in sends] == ["a", "c"]
        assert (failed.client_msg_id, type(failed.error)) == ("b", DamagedError)
    store = SqliteStore(path)
    assert store.pending() == []
    store.close()
