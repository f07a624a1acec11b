"""Refusals, cancellation, isolation levels and locks: what the host's transaction is like afterwards, and who waits."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import asyncpg
import pytest

from chatkit import ChatServer
from chatkit.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from chatkit.storage.postgres.write import HOST_SLOTS, NODE_SLOTS

from .hosts import ORDER, connected, keys, log, online, orders, texts, until_waiting

REFUSED: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"sender_id": "mallory"}, NotFoundError),
    ({"conversation_id": "nothing"}, NotFoundError),
    ({"conversation_id": "s"}, ForbiddenError),
    ({"client_msg_id": "known"}, ConflictError),
    ({"content": "x" * 70_000}, TooLargeError),
    ({"content": {"type": "TEXT"}}, BadRequestError),
    ({"client_msg_id": "a\0b"}, BadRequestError),
]


async def test_a_refusal_leaves_the_transaction_as_it_was(server: ChatServer, host: Any) -> None:
    await server.send("g", "ann", "x", client_msg_id="known")
    await server.create_conversation("SINGLE", "ann", ["ben"], conversation_id="s")
    await server.block("ben", "ann")
    given = {"conversation_id": "g", "sender_id": "ann", "content": "no", "client_msg_id": "k"}
    async with host.transaction():
        await host.execute(ORDER, 1)
        for wrong, error in REFUSED:
            with pytest.raises(error):
                await server.send(**{**given, **wrong}, connection=host)
        await server.send("g", "ben", "free", client_msg_id="nobody holds a lock")  # not in the transaction
        await server.send("g", "ann", "yes", client_msg_id="k2", connection=host)

    assert (await keys(server), await orders(host)) == (["known", "nobody holds a lock", "k2"], [1])


async def test_a_send_may_be_cancelled_at_any_moment(server: ChatServer, host: Any) -> None:
    """As `asyncio.timeout` does it: the message is there exactly if `send` returned, and COMMIT commits."""
    sent = []
    for number in range(40):
        await host.execute("BEGIN")
        await host.execute(ORDER, number)
        key = f"k{number}"
        task = asyncio.create_task(server.send("g", "ann", "x", client_msg_id=key, connection=host))
        await asyncio.sleep(0.0002 * number)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            sent.append(task.result().client_msg_id)
        assert await host.execute("COMMIT") == "COMMIT"

    assert await orders(host) == list(range(40))
    assert await keys(server) == sent


async def test_a_send_that_is_cancelled_is_not_in_the_transaction(
    server: ChatServer, host: Any, address: str
) -> None:
    async with connected(address) as other, other.transaction():
        await server.send("g", "ann", "first", client_msg_id="k1", connection=other)
        async with host.transaction():
            await host.execute(ORDER, 1)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(cancel_when_waiting, address, scope)
                    await server.send("g", "ann", "no", client_msg_id="k2", connection=host)
            assert scope.cancelled_caught
            await host.execute(ORDER, 2)

    assert (await keys(server), await orders(host)) == (["k1"], [1, 2])


async def cancel_when_waiting(address: str, scope: anyio.CancelScope) -> None:
    await until_waiting(address)
    scope.cancel()


# --- other transactions ---


@pytest.mark.parametrize("level", ["repeatable_read", "serializable"])
async def test_a_snapshot_in_which_the_conversation_is_not_as_it_is_now_is_refused(
    server: ChatServer, host: Any, level: Any
) -> None:
    """The host rolls back and repeats. Nobody writing meanwhile, there is nothing to repeat."""
    for number in range(2):
        transaction = host.transaction(isolation=level)
        await transaction.start()
        await host.execute(ORDER, number)
        if number == 0:
            await server.send("g", "ben", "meanwhile", client_msg_id="b")
            with pytest.raises(UnavailableError, match="40001"):
                await server.send("g", "ann", "x", client_msg_id="k", connection=host)
            await transaction.rollback()
        else:
            await server.send("g", "ben", "meanwhile", client_msg_id="b")  # a repeat writes nothing
            await server.send("g", "ann", "x", client_msg_id="k", connection=host)
            await transaction.commit()

    assert (await keys(server), await orders(host)) == (["b", "k"], [1])


@pytest.mark.parametrize("level", ["repeatable_read", "serializable"])
async def test_an_outbox_that_was_closed_since_the_snapshot_is_not_taken_for_open(
    server: ChatServer, host: Any, level: Any
) -> None:
    """A confirmation changes no row of the conversation: without a look at the outbox nobody would be sent a push."""
    async with online(server, "ann"), online(server, "ben") as ben:
        await server.send("g", "ann", "first", client_msg_id="a")
        await texts(ben, "first")
        await server.send("g", "ann", "second", client_msg_id="b")
        transaction = host.transaction(isolation=level)
        await transaction.start()
        assert await host.fetchval("SELECT count(*) FROM outbox") == 1
        await texts(ben, "second")
        await until_all_is_confirmed(server)
        with pytest.raises(UnavailableError, match="40001"):
            await server.send("g", "ann", "x", client_msg_id="k", connection=host)
        await transaction.rollback()


async def until_all_is_confirmed(server: ChatServer) -> None:
    head = (await server.store.head_seqs(["g"]))["g"][1]
    with anyio.fail_after(10):
        while await server.store.outbox(1):
            for user in ("ann", "ben"):
                command = server.engine.advance_delivered("g", user, "phone", head)
                await server.store.commit([command])


async def test_serializable_transactions_of_the_hosts_go_on_beside_each_other(
    server: ChatServer, host: Any, address: str
) -> None:
    """In other conversations; whoever is refused, by chatkit or at the commit, repeats."""
    for name in ("c0", "c1"):
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id=name)

    async def write(connection: Any, name: str) -> None:
        for number in range(8):
            await repeat(connection, name, number)

    async def repeat(connection: Any, name: str, number: int) -> None:
        for _ in range(20):
            try:
                async with connection.transaction(isolation="serializable"):
                    await connection.fetchval("SELECT count(*) FROM shop_order WHERE number = $1", number)
                    await server.send(name, "ann", "x", client_msg_id=f"k{number}", connection=connection)
                    return
            except (UnavailableError, asyncpg.SerializationError):
                continue
        raise AssertionError("never got through")

    async with connected(address) as other, anyio.create_task_group() as tasks:
        tasks.start_soon(write, host, "c0")
        tasks.start_soon(write, other, "c1")
        await write_from_nodes(server)

    for name in ("c0", "c1"):
        assert sorted(await keys(server, name)) == [f"k{number}" for number in range(8)]


async def write_from_nodes(server: ChatServer) -> None:
    for number in range(8):
        await server.send("g", "ann", "x", client_msg_id=f"n{number}")


async def test_a_deadlock_is_told_and_the_transaction_may_be_repeated(
    server: ChatServer, host: Any, address: str
) -> None:
    async with connected(address) as other, other.transaction():
        await host.execute("INSERT INTO shop_order VALUES (1), (2)")
        transaction = host.transaction()
        await transaction.start()
        await host.execute("SET LOCAL deadlock_timeout = '20ms'")  # so that it is the one that is told
        await other.execute("SET LOCAL deadlock_timeout = '60s'")
        await host.execute("SELECT FROM shop_order WHERE number = 1 FOR UPDATE")
        await server.send("g", "ben", "x", client_msg_id="other", connection=other)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other.execute, "SELECT FROM shop_order WHERE number = 1 FOR UPDATE")
            await until_waiting(address)
            with pytest.raises(UnavailableError, match="40P01"):
                await server.send("g", "ann", "x", client_msg_id="k", connection=host)
            await transaction.rollback()
    async with host.transaction():
        await server.send("g", "ann", "x", client_msg_id="k", connection=host)

    assert await keys(server) == ["other", "k"]


async def test_a_host_that_forgets_to_commit_stops_only_its_own_conversation(
    server: ChatServer, host: Any
) -> None:
    await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="h")
    transaction = host.transaction()
    await transaction.start()
    await server.send("g", "ann", "forgotten", client_msg_id="k", connection=host)
    answers: dict[str, object] = {}

    async def send(name: str) -> None:
        try:
            answers[name] = await server.send(name, "ben", "x", client_msg_id=f"{name}-1")
        except UnavailableError as error:
            answers[name] = error

    async with online(server, "ben") as ben, anyio.create_task_group() as writing:
        writing.start_soon(ben.send, "g", "from a client, which waits and repeats it")
        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send, "g")
                tasks.start_soon(send, "h")
            refused = answers["g"]
            assert isinstance(refused, UnavailableError)
            assert refused.retry_after_s == 1.0
            assert getattr(answers["h"], "seq", None) == 2
        await transaction.commit()

    assert [it.sender_id for it in await log(server)][1:] == ["ann", "ben"]


async def test_a_host_that_waits_for_another_one_is_told_and_may_go_on(
    server: ChatServer, host: Any, address: str
) -> None:
    async with connected(address) as other, other.transaction():
        await server.send("g", "ann", "x", client_msg_id="k", connection=other)
        async with host.transaction():
            await host.execute(ORDER, 1)
            await host.execute("SET LOCAL lock_timeout = '20ms'")
            with pytest.raises(UnavailableError, match="55P03"):
                await server.send("g", "ann", "x", client_msg_id="k2", connection=host)

    assert (await keys(server), await orders(host)) == (["k"], [1])


async def test_no_node_waits_for_a_host_in_another_conversation(server: ChatServer, host: Any) -> None:
    """The log's position is counted in rows that nodes do not write, and counts what hosts send."""
    await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="h")
    before = await server.store.position()
    async with host.transaction():
        await server.send("g", "ann", "x", client_msg_id="k", connection=host)
        for number in range(3):
            await server.send("h", "ann", "x", client_msg_id=f"n{number}")
        slot = await host.fetchval("SELECT max(slot) FROM log_position")
        assert slot == NODE_SLOTS + host.get_server_pid() % HOST_SLOTS

    assert await server.store.position() == before + 4
