"""On which connections a message can be sent, whatever the session is set to; and which ones are refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import anyio
import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from chatkit import ChatServer, ConfigurationError, open_store
from chatkit.errors import NotFoundError, UnavailableError
from chatkit.storage.postgres import PostgresStore
from tests.servers.pgbouncer import pooling
from tests.servers.postgres import PostgresServer

from ..ids import seeded_ids
from .hosts import MADE, ORDER, by_name, connected, keys, node, online, orders, texts, until_waiting


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


class OnAnotherDriver:
    """An AsyncConnection of SQLAlchemy on something else than asyncpg."""

    driver_connection = object()

    async def get_raw_connection(self) -> OnAnotherDriver:
        return self


async def test_what_is_no_connection_is_refused(server: ChatServer) -> None:
    wrong: list[Any] = [7, "g", object(), [], asyncpg.Connection, AsyncSession, OnAnotherDriver()]
    for it in wrong:
        with pytest.raises(ConfigurationError, match="give an asyncpg connection"):
            await server.send("g", "ann", "x", client_msg_id="k", connection=it)


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


CODECS: list[tuple[str, Any, Any]] = [
    ("text", str.upper, str),
    ("text", str, str.upper),
    ("int8", lambda it: it.no, int),
    ("bytea", str, bytes),
    ("bool", str, lambda it: it.no),
]


async def test_a_session_with_codecs_for_what_chatkit_sends_is_refused(server: ChatServer, host: Any) -> None:
    for kind, encoder, decoder in CODECS:
        await host.set_type_codec(kind, encoder=encoder, decoder=decoder, schema="pg_catalog")
        async with host.transaction():
            with pytest.raises(ConfigurationError, match="codecs of its own"):
                await server.send("g", "ann", "x", client_msg_id="k", connection=host)
            await host.execute("INSERT INTO shop_order VALUES (1)")
            await host.execute("DELETE FROM shop_order")
        await host.reset_type_codec(kind, schema="pg_catalog")
    async with host.transaction():
        await server.send("g", "ann", "x", client_msg_id="k", connection=host)


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
        "CREATE FUNCTION app.load_batch_2() RETURNS integer LANGUAGE sql AS 'SELECT 1'"
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
