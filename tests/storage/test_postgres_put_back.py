"""A database that was put back is noticed where that can be seen, and otherwise by a word that outlives every node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatkit.errors import ConfigurationError
from chatkit.storage.postgres import PostgresStore, put_back
from chatkit.storage.postgres.put_back import mark_put_back
from chatkit.testing.contracts.storage_commands import do, group, send
from tests.servers.postgres import PostgresServer, serving

from .ids import seeded_ids
from .test_postgres_verify import run


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(address, ids=seeded_ids())
    await store.migrate()
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
async def log(server: PostgresServer) -> str:
    """The address of a log that was served."""
    address = server.new_database()
    async with opened(address) as store:
        await do(store, group("g", "ann"), send("g", "ann", "k"))
    return address


def name_of(address: str) -> str:
    return address.rsplit("/", 1)[1].partition("?")[0]


async def test_a_log_that_is_where_it_was_is_not_put_back(log: str) -> None:
    for _ in range(2):
        async with opened(log) as store:
            assert not store.restored
            await store.position()
            assert not store.restored


async def test_a_copy_in_another_database_is_put_back_until_it_is_confirmed(
    server: PostgresServer, log: str
) -> None:
    copy = server.new_database(copied_from=name_of(log))
    for _ in range(2):  # a start that was interrupted begins again
        async with opened(copy) as store:
            assert store.restored
    async with opened(copy) as store, opened(copy) as other:
        before = await store.position()
        await store.confirm_restored()
        assert not store.restored
        assert other.restored
        assert await other.position() > before
        assert not other.restored
    async with opened(copy) as store:
        assert not store.restored


async def test_a_dump_in_another_cluster_is_put_back(
    server: PostgresServer, log: str, tmp_path: Path
) -> None:
    dump = server.shared / "log.dump"
    server.dump(name_of(log), dump)
    with serving(alike=False) as other:
        address = other.new_database()
        other.load(dump, name_of(address))
        async with opened(address) as store:
            assert store.restored
            assert (await store.head_seqs(["g"]))["g"][1] == 2


async def test_an_empty_log_that_is_moved_is_just_new(server: PostgresServer) -> None:
    address = server.new_database()
    async with opened(address):
        pass
    async with opened(server.new_database(copied_from=name_of(address))) as store:
        assert not store.restored


async def test_a_log_of_a_former_version_does_not_know_where_it_was(log: str) -> None:
    await run(log, "DELETE FROM setting WHERE name = 'home'")
    async with opened(log) as store:
        assert not store.restored


async def test_who_may_not_see_the_cluster_sees_the_database(
    server: PostgresServer, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(put_back, "_MAY_SEE_CLUSTER", "SELECT FALSE")
    async with opened(log) as store:
        assert not store.restored
    async with opened(log) as store:
        assert not store.restored
    async with opened(server.new_database(copied_from=name_of(log))) as store:
        assert store.restored


async def test_the_word_reaches_a_store_that_is_open_and_one_that_opens(log: str) -> None:
    async with opened(log) as store:
        await mark_put_back(log)
        assert not store.restored
        await store.position()
        assert store.restored
    async with opened(log) as store:
        assert store.restored
        await store.confirm_restored()
    async with opened(log) as store:
        assert not store.restored


async def test_only_a_log_can_be_put_back(server: PostgresServer) -> None:
    with pytest.raises(ConfigurationError, match="has no log of chatkit"):
        await mark_put_back(server.new_database())


async def test_who_may_not_write_is_told(log: str) -> None:
    await run(log, "DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN")
    with pytest.raises(ConfigurationError, match="may not write"):
        await mark_put_back(log.replace("chatkit@", "reader@"))
