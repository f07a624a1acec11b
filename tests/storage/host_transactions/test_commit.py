"""A message in a transaction of the host's: there exactly if the host's own row is, pushed after the commit."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from chatkit import ChatServer
from chatkit.bus.local import LocalBus
from chatkit.errors import UnavailableError
from chatkit.server import host_sends
from chatkit.storage.postgres import PostgresStore

from .hosts import ORDER, connected, keys, log, node, online, orders, texts, until_waiting


async def test_it_is_there_and_pushed_once_the_host_has_committed(server: ChatServer, host: Any) -> None:
    async with online(server, "ben") as ben:
        async with host.transaction():
            await host.execute(ORDER, 1)
            sent = await server.send("g", "ann", "paid", client_msg_id="k1", connection=host)
            assert await keys(server) == []
        assert await texts(ben, "paid") == ["paid"]

    assert (sent.seq, await keys(server), await orders(host)) == (2, ["k1"], [1])
    assert [it.message_id for it in await log(server)][1:] == [sent.message_id]
    (waiting,) = await server.store.outbox(10)
    assert waiting.last_seq == 2


async def test_nobody_sees_what_was_rolled_back_and_its_number_is_given_again(
    server: ChatServer, host: Any
) -> None:
    async with online(server, "ben") as ben:
        transaction = host.transaction()
        await transaction.start()
        await host.execute(ORDER, 1)
        first = await server.send("g", "ann", "gone", client_msg_id="k1", connection=host)
        await transaction.rollback()
        async with host.transaction():
            second = await server.send("g", "ann", "stays", client_msg_id="k2", connection=host)
        assert await texts(ben, "stays") == ["stays"]

    assert (first.seq, second.seq) == (2, 2)
    assert (await keys(server), await orders(host)) == (["k2"], [])


async def test_what_a_savepoint_of_the_hosts_took_back_is_never_pushed(server: ChatServer, host: Any) -> None:
    async with online(server, "ben") as ben:
        async with host.transaction():
            await host.execute(ORDER, 1)
            await server.send("g", "ann", "before", client_msg_id="k1", connection=host)
            inner = host.transaction()
            await inner.start()
            await server.send("g", "ann", "taken back", client_msg_id="k2", connection=host)
            await inner.rollback()
            await server.send("g", "ann", "after", client_msg_id="k3", connection=host)
        assert await texts(ben, "after") == ["before", "after"]

    assert await keys(server) == ["k1", "k3"]


async def test_several_messages_and_conversations_in_one_transaction(server: ChatServer, host: Any) -> None:
    await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="h")
    async with host.transaction():
        for number in range(3):
            async with host.transaction():  # a savepoint of the host's
                for name in "gh":
                    await server.send(name, "ann", "x", client_msg_id=f"k{number}", connection=host)

    assert await keys(server) == await keys(server, "h") == ["k0", "k1", "k2"]


async def test_the_same_key_gets_the_same_answer_wherever_it_comes(server: ChatServer, host: Any) -> None:
    async with host.transaction():
        first = await server.send("g", "ann", "x", client_msg_id="k", connection=host)
        assert await server.send("g", "ann", "x", client_msg_id="k", connection=host) == first
    async with host.transaction():
        assert await server.send("g", "ann", "x", client_msg_id="k", connection=host) == first
    assert await server.send("g", "ann", "x", client_msg_id="k") == first
    plain = await server.send("g", "ann", "y", client_msg_id="plain")
    async with host.transaction():
        assert await server.send("g", "ann", "y", client_msg_id="plain", connection=host) == plain

    assert await keys(server) == ["k", "plain"]


async def test_two_transactions_with_one_key_make_one_message(
    server: ChatServer, host: Any, address: str
) -> None:
    async with connected(address) as other:
        first, answers = host.transaction(), []
        await first.start()
        await server.send("g", "ann", "x", client_msg_id="k", connection=host)

        async def again() -> None:
            async with other.transaction():
                answers.append(await server.send("g", "ann", "x", client_msg_id="k", connection=other))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(again)
            await until_waiting(address)
            await first.commit()

    assert [it.seq for it in answers] == [2]
    assert await keys(server) == ["k"]


# --- whoever is to hear of it ---


async def test_another_node_hears_of_it_by_the_bus(address: str) -> None:
    bus = LocalBus()
    async with node(address, bus=bus.join()) as one, node(address, bus=bus.join()) as two:
        await one.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        async with online(two, "ben") as ben, connected(address) as host:
            async with host.transaction():
                await one.send("g", "ann", "x", client_msg_id="k", connection=host)
            assert await texts(ben, "x") == ["x"]


async def test_a_node_that_hears_nothing_finds_it_by_its_look_at_the_log(address: str) -> None:
    async with node(address) as one, node(address, heads_check_s=0.1) as two:
        await one.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        async with online(two, "ben") as ben, connected(address) as host:
            async with host.transaction():
                await one.send("g", "ann", "x", client_msg_id="k", connection=host)
            assert await texts(ben, "x") == ["x"]


async def test_what_is_too_much_to_ask_about_the_look_at_the_log_finds(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_sends, "_OPEN_MAX", 1)
    async with node(address, heads_check_s=0.1) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        async with online(server, "ben") as ben, connected(address) as host:
            async with host.transaction():
                for key in ("one", "two", "three"):
                    await server.send("g", "ann", key, client_msg_id=key, connection=host)
                assert len(server._host_sends._open) == 1
            assert await texts(ben, "three") == ["one", "two", "three"]


async def test_what_storage_does_not_say_is_asked_again(
    server: ChatServer, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, asked = PostgresStore.ended, []

    async def refuse_twice(self: PostgresStore, transactions: Any) -> dict[str, bool]:
        asked.append(set(transactions))
        if len(asked) < 3:
            raise UnavailableError("not now")
        return await ended(self, transactions)

    monkeypatch.setattr(PostgresStore, "ended", refuse_twice)
    async with online(server, "ben") as ben:
        async with host.transaction():
            await server.send("g", "ann", "x", client_msg_id="k", connection=host)
        assert await texts(ben, "x") == ["x"]


@pytest.mark.parametrize("broken", ["ended", "entries"])
async def test_what_cannot_be_read_then_is_left_to_the_reconciler(
    server: ChatServer, host: Any, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    whole = getattr(PostgresStore, broken)

    async def break_once(self: PostgresStore, *args: Any) -> Any:
        monkeypatch.undo()
        raise RuntimeError("a fault")

    async with online(server, "ben") as ben:
        monkeypatch.setattr(PostgresStore, broken, break_once)
        async with host.transaction():
            await server.send("g", "ann", "x", client_msg_id="k", connection=host)
        assert await texts(ben, "x") == ["x"]
    assert getattr(PostgresStore, broken) is whole


async def test_nobody_is_asked_about_transactions_once_none_is_open(
    server: ChatServer, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, bool]] = []
    ended = PostgresStore.ended

    async def noted(self: PostgresStore, transactions: Any) -> dict[str, bool]:
        asked.append(await ended(self, transactions))
        return asked[-1]

    monkeypatch.setattr(PostgresStore, "ended", noted)
    transaction = host.transaction()
    await transaction.start()
    await server.send("g", "ann", "x", client_msg_id="k", connection=host)
    with anyio.fail_after(10):
        while len(asked) < 2:
            await anyio.sleep(0.01)
        assert asked == [{}] * len(asked)
        await transaction.rollback()
        while not asked[-1]:
            await anyio.sleep(0.01)

    assert list(asked[-1].values()) == [False]
    assert server._host_sends._open == []
