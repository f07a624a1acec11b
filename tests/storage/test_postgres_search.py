"""The index of search on PostgreSQL: one node at a time, and what leaves it without anybody's help."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import anyio
import pytest

from chatkit.errors import UnavailableError
from chatkit.storage import base
from chatkit.storage.postgres import PostgresStore
from chatkit.storage.postgres import search as statements
from chatkit.storage.search import INDEX_MAX
from chatkit.testing.contracts.storage_commands import NOW, do, group, one, recall, remove, send
from chatkit.testing.contracts.storage_search import found, index_all, search_all
from tests.servers.postgres import PostgresServer, serving

from .ids import seeded_ids
from .searched import search_alike


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
def address(server: PostgresServer) -> str:
    return server.empty_log()


@pytest.fixture
async def nodes(address: str) -> AsyncIterator[list[PostgresStore]]:
    """Two stores on one log."""
    async with AsyncExitStack() as stack:
        stores = [PostgresStore(address, ids=seeded_ids()) for _ in range(2)]
        for store in stores:
            await store.migrate()
            stack.push_async_callback(store.aclose)
            await store.search.open()
        yield stores


async def indexed(store: PostgresStore, word: str) -> int:
    """How many rows of the index have this term."""
    async with store.search._reading.transaction() as connection:
        ((count,),) = await connection.fetch(
            "SELECT count(*) FROM search_entry WHERE terms @@ $1::text::tsquery", f"'{word}'"
        )
    return int(count)


async def test_what_leaves_does_so_with_nobody_following(nodes: list[PostgresStore]) -> None:
    store = nodes[0]
    await do(store, group("g", "ann"), send("g", "ann", "k1", "first secret"))
    sent = await one(store, send("g", "ann", "k2", "second secret"), base.Appended)
    await do(store, send("g", "ann", "k3", "third secret"))
    await index_all(store)
    assert await indexed(store, "secret") == 3

    await do(store, recall(sent.entry.message_id, "ann"))
    assert await indexed(store, "secret") == 2
    await do(store, base.Expire("g", 2, None, NOW))
    assert (await indexed(store, "secret"), await indexed(store, "third")) == (1, 1)


async def test_what_was_recalled_while_it_was_taken_up_leaves_with_the_next_step(
    nodes: list[PostgresStore],
) -> None:
    """The trigger does not see the row of a step that has not ended: the entry of the recall takes it out."""
    store, other = nodes
    await do(store, group("g", "ann"))
    sent = await one(store, send("g", "ann", "k", "secret"), base.Appended)
    async with store.search._database.transaction() as connection:
        await statements._take_up(connection, [(1, 1, 2)])
        await do(other, recall(sent.entry.message_id, "ann"))
    assert await indexed(store, "secret") == 1
    assert await search_all(store, "ann", "secret") == []
    await index_all(store)

    assert await indexed(store, "secret") == 0


async def test_one_node_at_a_time_looks_and_takes_up(
    nodes: list[PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = nodes
    await do(first, group("g", "ann"), *(send("g", "ann", f"k{n}", f"word {n}", NOW + n) for n in range(9)))
    async with first.search._database.transaction() as connection:
        assert [tuple(row) for row in await connection.fetch(statements.TRY_LOCK)] == [(True,)]
        with monkeypatch.context() as patched:
            patched.setattr(statements, "SELECT_BEHIND", "SELECT 'it was looked' / $1")
            assert await second.search.follow() is None
            assert await second.search.is_behind("ann")
    assert await second.search.follow() == 10
    assert not await first.search.is_behind("ann")
    assert await first.search.follow() == 0


async def test_a_search_is_behind_only_in_the_conversations_of_its_user(nodes: list[PostgresStore]) -> None:
    store = nodes[0]
    await do(store, group("g", "ann", "bob"), group("h", "ann", "cat"))
    await index_all(store)
    await do(store, send("g", "ann", "k", "word"), remove("g", "ann", "bob"))

    behind = [user for user in ("ann", "bob", "cat", "dan") if await nodes[1].search.is_behind(user)]
    assert behind == ["ann"]


async def test_nodes_that_follow_together_take_up_everything_once(nodes: list[PostgresStore]) -> None:
    count = 3 * INDEX_MAX
    for name in ("g", "h"):
        await do(nodes[0], group(name, "ann"))
        await do(nodes[0], *(send(name, "ann", f"k{n}", f"word {n}", NOW + n) for n in range(count // 2)))
    async with anyio.create_task_group() as tasks:
        for node in nodes:
            tasks.start_soon(index_all, node)
    await index_all(nodes[0])

    assert len(await found(nodes[1], "ann", "word")) == count
    assert await indexed(nodes[0], "word") == count


async def test_a_step_is_bounded(nodes: list[PostgresStore]) -> None:
    store = nodes[0]
    await do(store, group("g", "ann"), group("h", "ann"))
    await do(store, *(send("g", "ann", f"k{n}", "word") for n in range(INDEX_MAX + 50)))

    assert await store.search.follow() <= INDEX_MAX


async def test_a_step_that_fails_is_done_again(nodes: list[PostgresStore]) -> None:
    store = nodes[0]
    await do(store, group("g", "ann"), send("g", "ann", "k", "word"))
    async with nodes[1].search._database.transaction() as connection:
        await connection.execute("LOCK TABLE search_progress")
        with pytest.raises(UnavailableError):
            await store.search.follow()
    assert await found(store, "ann", "word") == ["word"]


async def test_many_conversations_are_searched_at_once(nodes: list[PostgresStore]) -> None:
    store = nodes[0]
    await do(store, *(group(f"g{n}", "ann") for n in range(1500)))
    await do(store, *(send(f"g{n}", "ann", "k", f"word {n}", NOW + n) for n in range(0, 1500, 100)))

    assert len(await found(store, "ann", "word")) == 15


@pytest.mark.parametrize("seed", range(4))
async def test_it_finds_what_the_store_in_memory_finds(seed: int, nodes: list[PostgresStore]) -> None:
    assert await search_alike(nodes[0], seed) > 0
