"""Two nodes on one log, one of which stands still between what it has read and what it writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import anyio
import asyncpg
import pytest

from chatkit.drivers.postgres import Deadlines
from chatkit.storage import base
from chatkit.storage.postgres import PostgresStore, reads
from chatkit.storage.postgres import batch as module
from chatkit.testing.contracts.storage_blobs import KEEP_MS, collect, payload_of, received, reserve, show
from chatkit.testing.contracts.storage_commands import (
    NOW,
    add,
    ban,
    confirm,
    delivered,
    device,
    do,
    group,
    one,
    read,
    remove,
    resume,
    revoke,
    send,
)
from tests.servers.postgres import PostgresServer, serving

from .ids import seeded_ids
from .test_postgres_nodes import log, nodes

Two = tuple[PostgresStore, PostgresStore]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
async def two(server: PostgresServer) -> AsyncIterator[Two]:
    async with nodes(server.new_database(), 2) as stores:
        yield stores[0], stores[1]


class Halt:
    """The first batch that is to be written waits before it, until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.may_go_on = anyio.Event(), anyio.Event()
        write = module.write

        async def halted(*args: Any) -> None:
            if not self.reached.is_set():
                self.reached.set()
                await self.may_go_on.wait()
            await write(*args)

        monkeypatch.setattr(module, "write", halted)

    async def cross(
        self, two: Two, first: Sequence[base.Command], second: Sequence[base.Command]
    ) -> tuple[list[base.Outcome], list[base.Outcome]]:
        """The outcomes of both: the second is committed while the first stands still, or waits for it."""
        outcomes: tuple[list[base.Outcome], list[base.Outcome]] = ([], [])

        async def commit(number: int, commands: Sequence[base.Command], done: anyio.Event) -> None:
            outcomes[number].extend(await two[number].commit(commands))
            done.set()

        waiting = await asyncpg.connect(two[0]._database._address)
        second_done = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(commit, 0, first, anyio.Event())
            await self.reached.wait()
            tasks.start_soon(commit, 1, second, second_done)
            with anyio.fail_after(10):
                while not second_done.is_set():
                    if await waiting.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                        break
                    await anyio.sleep(0.005)
            self.may_go_on.set()
        await waiting.close()
        return outcomes


async def test_a_ban_reaches_a_login_under_way(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = device("ann")
    await Halt(monkeypatch).cross(two, [opening], [ban("ann")])

    assert await two[0].resume_hashes([("ann", "phone")]) == {}
    (outcome,) = await two[0].commit([resume(opening.resume_hash)])
    assert isinstance(outcome, base.Refused)


async def test_a_revocation_reaches_a_resume_under_way(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    first = device("ann")
    await do(two[0], first)
    await Halt(monkeypatch).cross(two, [resume(first.resume_hash, following=b"next")], [revoke("ann")])

    assert await two[0].resume_hashes([("ann", "phone")]) == {}


async def test_the_end_of_all_logins_reaches_a_resume_under_way(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = device("ann")
    await do(two[0], first)
    await Halt(monkeypatch).cross(two, [resume(first.resume_hash, following=b"next")], [base.EndLogins(1)])

    assert await two[0].resume_hashes([("ann", "phone")]) == {}


async def test_a_device_that_was_forgotten_holds_nothing_open(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    await do(two[0], device("ann"), device("bob", "d1"), group("g", "ann", "bob"))
    await do(two[0], delivered("g", "bob", 1, "d1"), remove("g", "bob", "bob"), send("g", "ann", "k"))
    rule = base.DeviceRule(devices_max=1)
    other = base.OpenSession("bob", "d2", b"t", NOW + 99, None, "", NOW + 50, rule=rule)
    await Halt(monkeypatch).cross(two, [add("g", None, "bob")], [other])  # the host: no lock for blocks
    head = (await two[0].head_seqs(["g"]))["g"][1]
    known = await asyncpg.connect(two[0]._database._address)
    left = await known.fetch(
        "SELECT device_id FROM device_cursor AS d WHERE NOT EXISTS "
        "(SELECT FROM device AS v WHERE v.user_id = d.user_id AND v.device_id = d.device_id)"
    )
    await known.close()
    await do(two[0], delivered("g", "bob", head, "d2"), delivered("g", "ann", head))

    assert left == []
    assert await two[0].outbox(10) == []


async def test_a_user_without_devices_gets_no_more_than_allowed(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no row yet that the second node could wait for."""
    await do(two[0], group("g", "bob"), group("h", "bob"))
    rule = base.DeviceRule(devices_max=1, online=("d1", "d2"))
    first = base.AdvanceDelivered("g", "bob", "d1", 1, NOW, rule)
    second = base.AdvanceDelivered("h", "bob", "d2", 1, NOW, rule)
    outcomes, others = await Halt(monkeypatch).cross(two, [first], [second])

    assert isinstance(outcomes[0], base.Advanced)
    assert isinstance(others[0], base.Refused)
    assert others[0].error.code == "RATE_LIMITED"


async def test_a_conversation_that_was_made_meanwhile_breaks_nothing(
    two: Two, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await do(two[0], group("g", "ann"))
    _, outcomes = await Halt(monkeypatch).cross(
        two, [send("g", "ann", "first"), group("n", "ann")], [send("g", "ann", "k"), add("n", None, "bob")]
    )

    assert "failed" not in caplog.text, "of a conversation that it has not locked, nothing is loaded"
    assert [type(it) for it in outcomes][:1] == [base.Appended]
    assert not isinstance(outcomes[1], base.Refused) or outcomes[1].error.code == "NOT_FOUND"
    assert len(await log(two[0], "g")) == 3


async def test_a_conversation_may_be_named_in_two_ways(two: Two) -> None:
    await do(two[0], device("bob"), group("g", "ann", "bob"))
    sent = [await one(two[0], send("g", "ann", f"k{n}"), base.Appended) for n in range(8)]
    names = [it.entry.message_id for it in sent]
    await do(two[0], *(confirm(name, "bob") for name in names[2:5]))
    await do(two[0], confirm(names[6], "bob"), read("g", "bob", 1))
    connection = await asyncpg.connect(two[0]._database._address)
    counted = await connection.fetchval("SELECT exact_count FROM device_cursor")
    kept = await connection.fetchval("SELECT count(*) FROM device_exact")
    await connection.close()

    assert counted == kept == 4


async def test_a_renewal_of_another_node_never_takes_the_position_back(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    position, floors = reads.position, []

    async def halted(connection: Any) -> int:
        """Both have read it before the first one writes, who comes with the higher floor."""
        found = await position(connection)
        monkeypatch.undo()
        await two[1].confirm_restored(5 * base.POSITION_STRETCH)
        floors.append(await two[1].position())
        return found

    monkeypatch.setattr(reads, "position", halted)
    await two[0].confirm_restored(0)

    assert await two[0].position() == floors[0] >= 5 * base.POSITION_STRETCH


async def test_a_worker_finishes_what_it_can_while_somebody_holds_a_conversation(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A host's transaction that stays open costs the deliveries of its own conversation, and no other."""
    address = server.new_database()
    store = PostgresStore(address, ids=seeded_ids(), deadlines=Deadlines(lock_s=0.2))
    await store.migrate()
    await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"))
    claims = await store.deliveries.claim(base.ClaimTerms(2 * NOW, 0, 1000, 7), 10)
    holder = await asyncpg.connect(address)
    async with holder.transaction():
        await holder.execute("SELECT FROM conversation WHERE conversation_id = 'g' FOR UPDATE")
        assert await store.deliveries.finish(7, [base.Finished(it, NOW) for it in claims]) == 1
        assert (await store.deliveries.lag()).waiting == 1
    await holder.close()
    assert await store.deliveries.finish(7, [base.Finished(it, NOW) for it in claims]) == 1
    assert (await store.deliveries.lag()).waiting == 0
    await store.aclose()

    assert "a delivery of g cannot be finished" in caplog.text


async def uploaded(store: PostgresStore) -> list[base.DueBlob]:
    """A file of ann that nothing names, and what is due of it."""
    await do(store, group("g", "ann", "bob"))
    await received(store, "b1", "ann")
    return await store.due_blobs(NOW + KEEP_MS, 10)


async def test_the_collector_does_not_take_a_file_from_a_message_under_way(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = await uploaded(two[0])
    sent, found = await Halt(monkeypatch).cross(
        two, [show("g", "ann", "m", payload_of("b1"))], [collect(due, NOW + KEEP_MS)]
    )

    assert isinstance(sent[0], base.Appended)
    assert found == [base.BlobsCollected((), ())]
    assert await two[0].blob("b1", "bob") is not None
    later = await two[0].due_blobs(NOW + 2 * KEEP_MS, 10)  # it was in use, and is looked at again
    assert await one(two[1], collect(later, NOW + 2 * KEEP_MS), base.BlobsCollected) == base.BlobsCollected(
        (), ()
    )
    assert await two[0].due_blobs(NOW + 9 * KEEP_MS, 10) == []


async def test_a_message_finds_no_file_that_the_collector_is_taking(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = await uploaded(two[0])
    found, sent = await Halt(monkeypatch).cross(
        two, [collect(due, NOW + KEEP_MS)], [show("g", "ann", "m", payload_of("b1"))]
    )

    assert found == [base.BlobsCollected(("b1",), ())]
    assert isinstance(sent[0], base.Refused)
    assert sent[0].error.reason == "BLOB"


async def test_two_uploads_of_a_user_share_one_quota(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await Halt(monkeypatch).cross(
        two, [reserve("b1", "ann", "1", size=60_000)], [reserve("b2", "ann", "2", size=60_000)]
    )

    assert isinstance(first[0], base.BlobReserved)
    assert isinstance(second[0], base.Refused)
    assert second[0].error.code == "QUOTA"
