"""A message in a transaction of the host's: there exactly if the host's own row is, pushed after the commit."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import anyio
import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from chatkit import ChatServer, ConfigurationError, open_store
from chatkit.bus.local import LocalBus
from chatkit.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)
from chatkit.storage.postgres import PostgresStore, within
from tests.servers.pgbouncer import pooling
from tests.servers.postgres import PostgresServer, serving

from .hosts import by_name, connected, keys, log, node, online, texts
from .ids import seeded_ids

MADE = "CREATE TABLE shop_order (number integer PRIMARY KEY)"
ORDER = "INSERT INTO shop_order VALUES ($1)"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
async def server(address: str) -> AsyncIterator[ChatServer]:
    """A node with a group of ann and ben, and the host's table."""
    async with node(address) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        async with connected(address) as connection:
            await connection.execute(MADE)
        yield server


@pytest.fixture
async def host(address: str, server: ChatServer) -> AsyncIterator[Any]:
    """A connection of the host's."""
    async with connected(address) as connection:
        yield connection


async def orders(connection: Any) -> list[int]:
    return [row[0] for row in await connection.fetch("SELECT number FROM shop_order ORDER BY number")]


# --- commit, rollback, savepoints ---


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


async def until_waiting(address: str) -> None:
    """Until a session waits for a lock."""
    async with connected(address) as watcher:
        with anyio.fail_after(10):
            while not await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await anyio.sleep(0.01)


# --- on what it may be sent ---


async def test_on_a_connection_of_a_pool(server: ChatServer, address: str) -> None:
    async with asyncpg.create_pool(address, min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection, connection.transaction():
            await server.send("g", "ann", "x", client_msg_id="k", connection=connection)
        with pytest.raises(ConfigurationError, match="cannot be used"):
            await server.send("g", "ann", "x", client_msg_id="k2", connection=connection)

    assert await keys(server) == ["k"]


@pytest.fixture
async def engine(address: str) -> AsyncIterator[Any]:
    engine = create_async_engine(address.replace("postgresql", "postgresql+asyncpg").partition("?")[0])
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("is_begun", [True, False])
async def test_on_a_session_of_sqlalchemy(server: ChatServer, engine: Any, host: Any, is_begun: bool) -> None:
    for number, stays in enumerate([True, False, True]):
        async with AsyncSession(engine) as session:
            if is_begun:
                await session.execute(text("INSERT INTO shop_order VALUES (:n)"), {"n": number})
            await server.send("g", "ann", "x", client_msg_id=f"k{number}", connection=session)
            if not is_begun:
                await session.execute(text("INSERT INTO shop_order VALUES (:n)"), {"n": number})
            await (session.commit() if stays else session.rollback())

    assert (await keys(server), await orders(host)) == (["k0", "k2"], [0, 2])


async def test_on_a_connection_of_sqlalchemy_and_its_savepoints(
    server: ChatServer, engine: Any, host: Any
) -> None:
    async with engine.begin() as connection:
        await server.send("g", "ann", "x", client_msg_id="k1", connection=connection)
        async with connection.begin_nested() as nested:
            await connection.execute(text("INSERT INTO shop_order VALUES (1)"))
            await server.send("g", "ann", "x", client_msg_id="k2", connection=connection)
            await nested.rollback()
        await connection.execute(text("INSERT INTO shop_order VALUES (2)"))

    assert (await keys(server), await orders(host)) == (["k1"], [2])


async def test_a_connection_that_commits_by_itself_is_refused(server: ChatServer, engine: Any) -> None:
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(ConfigurationError, match="no open transaction"):
            await server.send("g", "ann", "x", client_msg_id="k", connection=connection)
    assert await keys(server) == []


@pytest.mark.parametrize("wrong", [7, "g", object(), [], asyncpg.Connection, AsyncSession])
async def test_what_is_no_connection_is_refused(server: ChatServer, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="give an asyncpg connection"):
        await server.send("g", "ann", "x", client_msg_id="k", connection=wrong)


async def test_without_a_transaction_it_is_refused(server: ChatServer, host: Any) -> None:
    with pytest.raises(ConfigurationError, match="no open transaction"):
        await server.send("g", "ann", "x", client_msg_id="k", connection=host)


async def test_a_transaction_that_failed_is_refused(server: ChatServer, host: Any) -> None:
    async with host.transaction():
        with pytest.raises(asyncpg.UndefinedTableError):
            await host.execute("SELECT FROM nothing")
        with pytest.raises(ConfigurationError, match="failed already"):
            await server.send("g", "ann", "x", client_msg_id="k", connection=host)


async def test_a_connection_that_is_closed_is_refused(server: ChatServer, host: Any) -> None:
    await host.execute("BEGIN")
    host.terminate()
    with pytest.raises(UnavailableError, match="closed"):
        await server.send("g", "ann", "x", client_msg_id="k", connection=host)


async def test_a_connection_in_use_is_refused_and_the_use_goes_on(
    server: ChatServer, host: Any, address: str
) -> None:
    async with host.transaction(), connected(address) as other:
        await other.execute("SELECT pg_advisory_lock(7)")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.execute, "SELECT pg_advisory_xact_lock(7)")
            await until_waiting(address)
            with pytest.raises(ConfigurationError, match="another operation"):
                await server.send("g", "ann", "x", client_msg_id="k", connection=host)
            await other.execute("SELECT pg_advisory_unlock(7)")
        await server.send("g", "ann", "x", client_msg_id="k2", connection=host)

    assert await keys(server) == ["k2"]


async def test_another_database_is_refused(server: ChatServer, postgres: PostgresServer) -> None:
    """Without a log, and with a log of its own; the host's transaction goes on there."""
    other = postgres.new_database()
    for _ in range(2):
        async with connected(other) as connection, connection.transaction():
            await connection.execute("CREATE TABLE mine (n integer)")
            with pytest.raises(ConfigurationError, match="another database"):
                await server.send("g", "ann", "x", client_msg_id="k", connection=connection)
            await connection.execute("DROP TABLE mine")
        async with node(other, store=PostgresStore(other, ids=seeded_ids(5))):
            pass


async def test_a_session_whose_commits_may_be_lost_is_refused(server: ChatServer, host: Any) -> None:
    async with host.transaction():
        await host.execute("SET LOCAL synchronous_commit = off")
        with pytest.raises(ConfigurationError, match="synchronous_commit"):
            await server.send("g", "ann", "x", client_msg_id="k", connection=host)
        await host.execute("SET LOCAL synchronous_commit = on")
        await server.send("g", "ann", "x", client_msg_id="k", connection=host)

    assert await keys(server) == ["k"]


@pytest.mark.parametrize(
    ("kind", "encoder", "decoder"),
    [
        ("text", str.upper, str),
        ("text", str, str.upper),
        ("int8", lambda it: it.no, int),
        ("bytea", str, bytes),
        ("bool", str, lambda it: it.no),
    ],
)
async def test_a_session_with_codecs_for_what_chatkit_sends_is_refused(
    server: ChatServer, host: Any, kind: str, encoder: Any, decoder: Any
) -> None:
    await host.set_type_codec(kind, encoder=encoder, decoder=decoder, schema="pg_catalog")
    async with host.transaction():
        with pytest.raises(ConfigurationError, match="codecs of its own"):
            await server.send("g", "ann", "x", client_msg_id="k", connection=host)
        await host.execute("INSERT INTO shop_order VALUES (1)")


async def test_a_user_without_rights_is_told_so(
    server: ChatServer, address: str, postgres: PostgresServer
) -> None:
    async with connected(address) as connection, connection.transaction():
        await connection.execute("CREATE ROLE guest; SET LOCAL ROLE guest")
        with pytest.raises(ConfigurationError, match="no right"):
            await server.send("g", "ann", "x", client_msg_id="k", connection=connection)
        await connection.execute("RESET ROLE; DROP ROLE guest")


async def test_a_store_that_is_no_database_is_told_so() -> None:
    async with ChatServer(store=open_store("memory://"), authenticate=by_name) as server:
        with pytest.raises(ConfigurationError, match="PostgreSQL"):
            await server.send("g", "ann", "x", client_msg_id="k", connection=object())


async def test_a_server_that_drains_refuses(server: ChatServer, host: Any) -> None:
    await server.drain()
    async with host.transaction():
        with pytest.raises(UnavailableError, match="drains"):
            await server.send("g", "ann", "x", client_msg_id="k", connection=host)


# --- sessions with settings of their own ---


async def test_nothing_of_the_hosts_session_matters_and_all_of_it_is_left(
    server: ChatServer, host: Any
) -> None:
    for kind in ("json", "jsonb"):
        await host.set_type_codec(kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await host.execute(
        "CREATE SCHEMA app; SET search_path = app, public; SET lock_timeout = '7s'; SET datestyle = 'German'; "
        "SET bytea_output = 'escape'; SET default_transaction_isolation = 'repeatable read'; SET jit = on; "
        "CREATE TABLE app.message (n integer); CREATE TABLE app.setting (name text, value bytea); "
        "CREATE TEMP TABLE conversation (n integer); "
        "CREATE FUNCTION app.load_batch_1() RETURNS integer LANGUAGE sql AS 'SELECT 1'"
    )
    async with host.transaction():
        await server.send("g", "ann", "x", client_msg_id="k", connection=host)
        left = await host.fetchrow(
            "SELECT current_setting('search_path'), current_setting('lock_timeout'), '{\"a\": 1}'::jsonb"
        )
        await host.execute("INSERT INTO message VALUES (1)")

    assert tuple(left) == ("app, public", "7s", {"a": 1})
    assert await host.fetchval("SELECT current_setting('search_path')") == "app, public"
    assert await host.fetchval("SELECT count(*) FROM app.message") == 1
    assert await keys(server) == ["k"]


async def test_what_is_set_for_the_transaction_stays_set(server: ChatServer, host: Any) -> None:
    async with host.transaction():
        await host.execute("SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = '9s'")
        for key in ("k1", "k2"):
            await server.send("g", "ann", "x", client_msg_id=key, connection=host)
        with pytest.raises(NotFoundError):
            await server.send("g", "mallory", "x", client_msg_id="k", connection=host)
        left = await host.fetchrow("SELECT current_setting('search_path'), current_setting('lock_timeout')")
        assert tuple(left) == ("pg_catalog", "9s")
    left = await host.fetchrow("SELECT current_setting('search_path'), current_setting('lock_timeout')")
    assert tuple(left) == ('"$user", public', "0")


async def test_chatkit_in_a_schema_with_an_odd_name(address: str) -> None:
    async with connected(address) as connection:
        await connection.execute("""CREATE SCHEMA "chat's {Own}" """)
    odd = f"{address}&search_path={quote(chr(34) + 'chat' + chr(39) + 's {Own}' + chr(34))}"
    async with node(odd) as server, connected(address) as connection:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        async with connection.transaction():
            await server.send("g", "ann", "x", client_msg_id="k", connection=connection)
        assert await keys(server) == ["k"]


async def test_behind_a_pooler(address: str) -> None:
    """Server and host behind pgbouncer, which gives each transaction another connection."""
    with pooling(address) as pooled:
        async with (
            node(pooled) as server,
            asyncpg.create_pool(
                pooled.replace("&pooler=transaction", ""), min_size=2, statement_cache_size=0
            ) as pool,
        ):
            await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
            await pool.execute(MADE)
            async with online(server, "ben") as ben:
                for number in range(6):
                    async with pool.acquire() as connection:
                        transaction = connection.transaction()
                        await transaction.start()
                        await connection.execute(ORDER, number)
                        name = f"k{number}"
                        await server.send("g", "ann", name, client_msg_id=name, connection=connection)
                        await (transaction.commit() if number % 2 else transaction.rollback())
                assert await texts(ben, "k5") == ["k1", "k3", "k5"]
            assert await orders(pool) == [1, 3, 5]


# --- refusals ---


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"sender_id": "mallory"}, NotFoundError),
        ({"conversation_id": "nothing"}, NotFoundError),
        ({"conversation_id": "s"}, ForbiddenError),
        ({"client_msg_id": "known"}, ConflictError),
        ({"content": "x" * 70_000}, TooLargeError),
        ({"content": {"type": "TEXT"}}, BadRequestError),
        ({"client_msg_id": "a\0b"}, BadRequestError),
    ],
)
async def test_a_refusal_leaves_the_transaction_as_it_was(
    server: ChatServer, host: Any, address: str, arguments: dict[str, Any], error: type[RefusedError]
) -> None:
    await server.send("g", "ann", "x", client_msg_id="known")
    await server.create_conversation("SINGLE", "ann", ["ben"], conversation_id="s")
    await server.block("ben", "ann")
    given = {"conversation_id": "g", "sender_id": "ann", "content": "no", "client_msg_id": "k", **arguments}
    async with host.transaction():
        await host.execute(ORDER, 1)
        with pytest.raises(error):
            await server.send(**given, connection=host)
        await server.send("g", "ben", "free", client_msg_id="nobody holds a lock")  # not in the transaction
        await server.send("g", "ann", "yes", client_msg_id="k2", connection=host)

    assert (await keys(server), await orders(host)) == (["known", "nobody holds a lock", "k2"], [1])


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

    for _ in range(2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, "g")
            tasks.start_soon(send, "h")
        refused = answers["g"]
        assert isinstance(refused, UnavailableError)
        assert refused.retry_after_s == 1.0
        assert getattr(answers["h"], "seq", None) == 2
    await transaction.commit()
    await send("g")

    assert getattr(answers["g"], "seq", None) == 3
    assert await keys(server) == ["k", "g-1"]


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
        assert slot == within.FIRST_SLOT + host.get_server_pid() % within.SLOTS

    assert await server.store.position() == before + 4


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
