"""Several nodes on one PostgreSQL log, and a server that fails: no number twice, no hole, no false answer."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
from msgspec.structs import replace

from chatkit.drivers.postgres import ConflictError as Lost
from chatkit.drivers.postgres import Deadlines
from chatkit.errors import ConfigurationError, UnavailableError
from chatkit.storage import base
from chatkit.storage.postgres import PostgresStore, locked
from chatkit.testing.contracts.storage_commands import (
    add,
    confirm,
    delivered,
    device,
    do,
    group,
    one,
    revoke,
    send,
    single,
)
from chatkit.testing.contracts.storage_reopening import opened
from tests.servers.postgres import PostgresServer, serving

from .ids import seeded_ids

NODES = 3


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
def address(server: PostgresServer) -> str:
    return server.new_database()


@asynccontextmanager
async def nodes(address: str, count: int = NODES, **options: Any) -> AsyncIterator[list[PostgresStore]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                opened(lambda: PostgresStore(address, ids=seeded_ids(), **options))  # type: ignore[misc]
            )
            for _ in range(count)
        ]


async def log(store: base.Store, name: str) -> list[base.Entry]:
    """All of a log; its numbers have no hole."""
    entries = await store.entries(name, 0, 10_000)
    assert [it.seq for it in entries] == list(range(1, len(entries) + 1))
    return entries


def name_of(address: str) -> str:
    """The database of an address."""
    return urlsplit(address).path[1:]


def keys(entries: list[base.Entry]) -> Counter[tuple[str, str]]:
    return Counter((it.sender_id, it.client_msg_id) for it in entries if it.client_msg_id is not None)


async def test_nodes_that_start_together_make_one_log(address: str) -> None:
    stores = [PostgresStore(address, ids=seeded_ids()) for _ in range(NODES)]
    secrets = await asyncio.gather(*(it.migrate() for it in stores))

    assert len(set(secrets)) == 1
    for store in stores:
        await store.aclose()


async def test_nodes_number_one_log_without_a_hole_and_answer_a_resend_alike(address: str) -> None:
    rng = random.Random(1)
    async with nodes(address) as stores:
        await do(stores[0], group("g", "ann", "bob", "cat"), group("h", "ann", "bob", "cat"))
        answers: dict[tuple[str, str, str], set[int]] = {}

        async def send_some(store: PostgresStore, seed: int) -> None:
            sender_rng = random.Random(seed)
            for _ in range(30):
                batch = [
                    send(
                        sender_rng.choice("gh"),
                        sender_rng.choice(["ann", "bob", "cat"]),
                        f"k{sender_rng.randrange(60)}",
                    )
                    for _ in range(sender_rng.choice([1, 3, 10]))
                ]
                for command, outcome in zip(batch, await store.commit(batch), strict=True):
                    assert isinstance(outcome, base.Appended), outcome
                    place = (command.conversation_id, command.sender_id, command.client_msg_id)
                    answers.setdefault(place, set()).add(outcome.entry.seq)

        async with anyio.create_task_group() as tasks:
            for store in stores:
                for _ in range(2):
                    tasks.start_soon(send_some, store, rng.randrange(1000))

        assert {len(seqs) for seqs in answers.values()} == {1}
        for name in "gh":
            entries = await log(stores[1], name)
            assert set(keys(entries).values()) == {1}
            assert len(entries) - 1 == sum(place[0] == name for place in answers)


async def test_one_name_and_one_pair_are_made_once(address: str) -> None:
    async with nodes(address) as stores:
        for turn in range(10):
            made = await asyncio.gather(
                *(one(it, group(f"g{turn}", "ann", "bob"), base.Created) for it in stores),
                *(
                    one(it, single(f"s{turn}-{n}", "ann", f"u{turn}"), base.Created)
                    for n, it in enumerate(stores)
                ),
            )
            assert [it.created for it in made[:NODES]].count(True) == 1
            assert [it.created for it in made[NODES:]].count(True) == 1
            assert len({it.conversation.conversation_id for it in made[NODES:]}) == 1


async def test_joins_and_revocations_that_were_read_up_to_are_all_that_there_will_be(address: str) -> None:
    """Positions come in the order of commits, whichever node gives them."""
    async with nodes(address) as stores:
        seen: list[base.MembershipChange] = []
        revoked: list[base.Revocation] = []
        done = anyio.Event()

        async def make(store: PostgresStore, name: int) -> None:
            for turn in range(15):
                await do(store, group(f"g{name}-{turn}", "ann"), add(f"g{name}-{turn}", "ann", "bob"))
                await do(store, revoke(f"u{name}-{turn}"))

        async def watch() -> None:
            position, last = 0, 0
            while True:
                ended = done.is_set()
                found = await stores[0].membership_changes(position, 5)
                position = found.position
                seen.extend(found.changes)
                some = await stores[0].revocations(last, 5)
                last = some[-1].position if some else last
                revoked.extend(some)
                if ended and len(found.changes) < 5 and not some:
                    return

        async with anyio.create_task_group() as watching:
            watching.start_soon(watch)
            async with anyio.create_task_group() as tasks:
                for number, store in enumerate(stores * 2):
                    tasks.start_soon(make, store, number)
            done.set()

        assert Counter((it.conversation_id, it.reason) for it in seen) == Counter(
            (f"g{name}-{turn}", reason)
            for name in range(6)
            for turn in range(15)
            for reason in ("CREATED", "JOINED")
        )
        assert sorted(it.user_id for it in revoked) == sorted(
            f"u{n}-{t}" for n in range(6) for t in range(15)
        )


async def test_a_deadlock_with_another_program_is_tried_again(address: str) -> None:
    async with nodes(address, 1) as (store,):
        await do(store, group("g", "ann"), group("h", "ann"))
        other = await asyncpg.connect(address)
        await other.execute(
            "BEGIN; SET LOCAL deadlock_timeout = '10s'"
        )  # so that it is the store that is cut
        lock = "SELECT FROM conversation WHERE conversation_id = $1 FOR UPDATE"
        await other.fetch(lock, "h")
        async with anyio.create_task_group() as tasks:
            outcomes: list[base.Outcome] = []

            async def commit() -> None:
                outcomes.extend(await store.commit([send("g", "ann", "k"), send("h", "ann", "k")]))

            tasks.start_soon(commit)
            await until_waiting(address)
            await other.fetch(lock, "g")
            await other.execute("COMMIT")
        await other.close()

        assert [type(it) for it in outcomes] == [base.Appended, base.Appended]
        assert [len(await log(store, name)) for name in "gh"] == [2, 2]


async def until_waiting(address: str) -> None:
    """Somebody waits for a lock."""
    watcher = await asyncpg.connect(address)
    with anyio.fail_after(10):
        while not await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await anyio.sleep(0.01)
    await watcher.close()


async def hold(address: str, *conversation_ids: str) -> asyncpg.Connection:
    """Open a transaction that holds these conversations, as a host's might; closing the connection ends it."""
    other = await asyncpg.connect(address)
    await other.execute("BEGIN")
    await other.fetch(
        "SELECT FROM conversation WHERE conversation_id = ANY ($1) FOR UPDATE", conversation_ids
    )
    return other


async def test_a_conversation_that_somebody_holds_is_refused_alone(address: str) -> None:
    async with nodes(address, 1, deadlines=Deadlines(lock_s=0.1)) as (store,):
        await do(store, device("ann"), *(group(name, "ann") for name in "gh"), single("s", "ann", "bob"))
        entry = (await one(store, send("h", "ann", "before"), base.Appended)).entry
        other = await hold(address, "h", "s")
        outcomes = await store.commit(
            [
                send("g", "ann", "k"),
                send("h", "ann", "k"),
                confirm(entry.message_id, "ann"),
                single("t", "ann", "bob"),
                send("g", "ann", "l"),
                send("nowhere", "ann", "k"),
            ]
        )

        assert [_code(it) for it in outcomes] == [None, *["UNAVAILABLE"] * 3, None, "NOT_FOUND"]
        assert all(it.error.retry_after_s for it in outcomes[1:4] if isinstance(it, base.Refused))
        assert store.healthy
        await other.close()
        assert len(await log(store, "h")) == 2
        answers = await do(store, send("h", "ann", "k"), single("t", "ann", "bob"), send("g", "ann", "k"))
        assert [type(it) for it in answers] == [base.Appended, base.Created, base.Appended]
        assert len(await log(store, "g")) == 3


def _code(outcome: base.Outcome) -> str | None:
    return outcome.error.code if isinstance(outcome, base.Refused) else None


async def test_a_node_whose_every_command_is_held_up_is_healthy(address: str) -> None:
    async with nodes(address, 1, deadlines=Deadlines(lock_s=0.1)) as (store,):
        await do(store, group("g", "ann"))
        other = await hold(address, "g")
        (outcome,) = await store.commit([send("g", "ann", "k")])
        assert _code(outcome) == "UNAVAILABLE"
        assert store.healthy
        await other.close()


async def test_a_row_that_is_held_for_a_moment_refuses_nobody(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of another node may hold it at one look: it has let go by the next."""
    async with nodes(address, 1, deadlines=Deadlines(lock_s=0.1)) as (store,):
        await do(store, group("g", "ann"), group("h", "ann"))
        other, moment = await hold(address, "h"), await hold(address, "g")
        look = locked._not_free
        looks = 0

        async def counted(*args: Any) -> set[locked.Name]:
            nonlocal looks
            looks += 1
            found = await look(*args)
            if looks == 1:
                assert found == {("id", "g"), ("id", "h")}
                await moment.close()
            return found

        monkeypatch.setattr(locked, "_not_free", counted)
        outcomes = await store.commit([send("g", "ann", "k"), send("h", "ann", "k")])
        assert [_code(it) for it in outcomes] == [None, "UNAVAILABLE"]
        await other.close()


async def test_another_lock_that_is_held_for_long_is_no_wait_without_end(address: str) -> None:
    async with nodes(address, 1, deadlines=Deadlines(lock_s=0.1)) as (store,):
        await do(store, group("g", "ann"), device("ann"))
        other = await asyncpg.connect(address)
        await other.execute("BEGIN")
        await other.fetch("SELECT FROM device FOR UPDATE")
        with pytest.raises(UnavailableError) as caught:
            await store.commit([delivered("g", "ann", 1)])
        assert caught.value.retry_after_s
        assert not store.healthy
        await do(store, send("g", "ann", "k"))
        assert store.healthy
        await other.close()
        await do(store, delivered("g", "ann", 1))


async def test_what_is_known_to_be_locked_is_not_waited_for(address: str) -> None:
    """However it is named: by its id, by a message in it, by the pair of its members."""
    async with nodes(address, 1, deadlines=Deadlines(lock_s=0.1)) as (store,):
        await do(store, group("g", "ann"), single("s", "ann", "ben"))
        first = await one(store, send("s", "ann", "k"), base.Appended)
        other = await asyncpg.connect(address)
        await other.execute("BEGIN")
        await other.fetch("SELECT FROM conversation WHERE conversation_id = 's' FOR UPDATE")
        named = [
            send("s", "ann", "k2"),
            confirm(first.entry.message_id, "ben"),
            single("other", "ann", "ben"),
        ]
        for _ in range(2):
            *outcomes, sent = await store.commit([*named, send("g", "ann", "k")])
            assert [type(it) for it in outcomes] == [base.Refused] * 3
            assert isinstance(sent, base.Appended)
            store._impatient = replace(store._deadlines, lock_s=60.0)  # whoever waits now waits for too long
        await other.close()
        again = await store.commit(named)
        assert [type(it) for it in again] == [base.Appended, base.Advanced, base.Created]
        assert store._locked.known_among(named) == set()


async def test_a_lock_that_is_no_conversations_is_unavailable(address: str) -> None:
    async with nodes(address, 1, deadlines=Deadlines(lock_s=0.1)) as (store,):
        await do(store, group("g", "ann"))
        other = await asyncpg.connect(address)
        await other.execute("BEGIN; LOCK TABLE message")
        with pytest.raises(UnavailableError):
            await store.commit([send("g", "ann", "k")])
        assert not store.healthy
        await other.close()
        await do(store, send("g", "ann", "k"))


async def test_a_pool_that_is_used_up_refuses(address: str) -> None:
    async with nodes(address, 1, connections=1, deadlines=Deadlines(connect_s=0.1, lock_s=20)) as (store,):
        await do(store, group("g", "ann"))
        other = await asyncpg.connect(address)
        await other.execute("BEGIN")
        await other.fetch("SELECT FROM conversation FOR UPDATE")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(do, store, send("g", "ann", "first"))
            await until_waiting(address)
            with pytest.raises(UnavailableError):
                await store.commit([send("g", "ann", "second")])
            assert len(await log(store, "g")) == 1  # reads have connections of their own
            await other.close()
        assert len(await log(store, "g")) == 2


async def test_a_cut_after_the_commit_is_unknown_and_a_resend_finds_it(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = asyncpg.Connection.execute

    async def cut(self: Any, query: str, *args: Any, **kwargs: Any) -> str:
        said = await execute(self, query, *args, **kwargs)
        if query == "COMMIT" and cutting:
            cutting.clear()
            self.terminate()
            raise ConnectionResetError
        return str(said)

    cutting: set[str] = set()
    async with nodes(address, 1) as (store,):
        await do(store, group("g", "ann"))
        monkeypatch.setattr(asyncpg.Connection, "execute", cut)
        cutting.add("the next one")
        with pytest.raises(UnavailableError):
            await store.commit([send("g", "ann", "k")])
        monkeypatch.undo()
        assert not cutting
        again = await one(store, send("g", "ann", "k"), base.Appended)

        assert again.repeat
        assert len(await log(store, "g")) == 2


async def test_sessions_that_are_ended_in_a_loop_lose_and_double_nothing(address: str) -> None:
    """`pg_terminate_backend` again and again: whatever the answer was, a resend is answered, and there is one row."""
    stopped = anyio.Event()

    async def end_sessions() -> None:
        killer = await asyncpg.connect(address)
        while not stopped.is_set():
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
            )
            await anyio.sleep(0.02)
        await killer.close()

    async def send_until_answered(store: PostgresStore, name: int, refusals: list[Exception]) -> None:
        for turn in range(40):
            for _ in range(200):
                try:
                    (outcome,) = await store.commit([send("g", "ann", f"{name}-{turn}")])
                except UnavailableError as error:
                    refusals.append(error)
                    await anyio.lowlevel.checkpoint()
                else:
                    assert isinstance(outcome, base.Appended), outcome
                    break
            else:
                raise AssertionError("never answered")

    async with nodes(address) as stores:
        await do(stores[0], group("g", "ann"))
        refusals: list[Exception] = []
        async with anyio.create_task_group() as ending:
            ending.start_soon(end_sessions)
            async with anyio.create_task_group() as tasks:
                for number, store in enumerate(stores):
                    tasks.start_soon(send_until_answered, store, number, refusals)
            stopped.set()

        assert refusals
        found = keys(await log(stores[0], "g"))
        assert found == Counter(("ann", f"{name}-{turn}") for name in range(NODES) for turn in range(40))


async def test_a_server_that_crashes_is_found_again(address: str) -> None:
    with serving() as server:
        async with nodes(server.new_database(), 2) as stores:
            await do(stores[0], group("g", "ann"), send("g", "ann", "before"))
            server.stop(signal.SIGQUIT)
            for store in stores:
                with pytest.raises(UnavailableError):
                    await store.commit([send("g", "ann", "while it was away")])
                with pytest.raises(UnavailableError):
                    await store.page("g", "ann", 0, 10, 1000)
                assert not store.healthy
            server.start()
            for number, store in enumerate(stores):
                await until_answered(store, f"after {number}")
                assert store.healthy

            texts = [it.client_msg_id for it in await log(stores[0], "g")][1:]
            assert texts == ["before", "after 0", "after 1"]


async def until_answered(store: PostgresStore, key: str) -> None:
    with anyio.fail_after(20):
        while True:
            try:
                await do(store, send("g", "ann", key))
            except UnavailableError:
                await anyio.sleep(0.05)
            else:
                return


async def test_no_server_is_said_at_the_start(server: PostgresServer) -> None:
    for address, error in (
        ("postgresql://chatkit@127.0.0.1:1/chat", UnavailableError),
        (server.address("no_such_database"), ConfigurationError),
        (f"{server.address('postgres')}&pooler=session", ConfigurationError),
    ):
        with pytest.raises(error):
            await PostgresStore(address, ids=seeded_ids()).migrate()


@pytest.mark.parametrize("setting", ["synchronous_commit"])
async def test_a_server_that_acknowledges_early_is_refused(
    server: PostgresServer, address: str, setting: str
) -> None:
    name = name_of(address)
    server.query(name, f"ALTER DATABASE {name} SET {setting} = off")
    with pytest.raises(ConfigurationError, match=setting):
        await PostgresStore(address, ids=seeded_ids()).migrate()


async def test_a_newer_schema_is_refused_and_left_alone(server: PostgresServer, address: str) -> None:
    async with nodes(address, 1):
        pass
    name = name_of(address)
    server.query(name, "INSERT INTO schema_migration VALUES (999, '0999_newer.sql')")
    with pytest.raises(ConfigurationError, match="newer"):
        await PostgresStore(address, ids=seeded_ids()).migrate()


async def test_a_caller_that_is_cancelled_leaves_a_whole_batch_and_a_clean_pool(address: str) -> None:
    async with nodes(address, 1, connections=2) as (store,):
        await do(store, group("g", "ann"), device("ann"))
        for turn in range(30):
            with anyio.move_on_after(0.0005 * (turn % 7)):
                await store.commit([send("g", "ann", f"a{turn}"), send("g", "ann", f"b{turn}")])
            with anyio.move_on_after(0.0003 * (turn % 7)):
                await store.page("g", "ann", 0, 5, 1000)
            await do(store, delivered("g", "ann", 1))
        found = keys(await log(store, "g"))
        assert {key for _, key in found if key[0] == "a"} == {
            f"a{key[1:]}" for _, key in found if key[0] == "b"
        }


async def test_a_conflict_that_never_ends_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unique violation that no retry helps is a fault of ours: the command is refused, and its neighbours are not."""
    async with nodes(address, 1) as (store,):
        await do(store, group("g", "ann"))
        transaction = PostgresStore._transaction

        async def broken(self: PostgresStore, commands: Any) -> list[base.Outcome]:
            if any(getattr(it, "client_msg_id", "") == "bad" for it in commands):
                raise store_conflict()
            return await transaction(self, commands)

        monkeypatch.setattr(PostgresStore, "_transaction", broken)
        outcomes = await store.commit([send("g", "ann", "bad"), base.AdvanceRead("g", "ann", 1, 1)])
        assert isinstance(outcomes[0], base.Refused)
        assert outcomes[0].error.code == "INTERNAL"
        assert isinstance(outcomes[1], base.Advanced)


def store_conflict() -> Exception:
    return Lost("23505", retry_after_s=1)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_is_told_that_it_is_not_served() -> None:
    with pytest.raises(ConfigurationError, match="asyncio"):
        await PostgresStore("postgresql://chatkit@127.0.0.1:1/chat", ids=seeded_ids()).migrate()
