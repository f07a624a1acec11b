"""Messages are deleted for good: what readers, senders and the archive are left with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chatkit import BadRequestError, CaughtUp, ChatClient, ChatServer, MemoryConnector, NotFoundError
from chatkit.archive.memory import MemoryArchive
from chatkit.server import retention_verbs
from chatkit.server.archiving.config import milliseconds_kept
from chatkit.server.person import lines_of
from chatkit.storage import base
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from chatkit.testing.contracts.storage_commands import NOW, device, do, group, read, refused, send
from chatkit.testing.recording import by_name
from tests.storage.ids import seeded_ids

from .archived import StandingClock, archiver_of, objects_in, tiny
from .test_archiver import objects_fit, reader_of, words_held

COUNT = 20


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """A log with 20 messages, a second apart, and one of a year later."""
    made: Any = MemoryStore(ids=seeded_ids())
    if request.param == "sqlite":
        made = SqliteStore(str(tmp_path / "chat.db"), ids=seeded_ids(), threads=False)
    await made.migrate()
    await do(made, group("g", "ann", "bob"), device("bob"))
    for number in range(COUNT):
        await do(made, send("g", "ann", f"k{number}", f"secret words {number}", NOW + 1_000 * number))
    yield made
    await made.aclose()
    if request.param == "sqlite":
        report = full_report(str(tmp_path / "chat.db"))
        assert report.whole, report.findings


def expire(up_to_seq: int, name: str = "g") -> base.Expire:
    return base.Expire(name, up_to_seq, None, NOW)


async def seqs(store: Any, archive: MemoryArchive | None = None, after: int = 0) -> list[int]:
    page = await reader_of(store, archive).page("g", "bob", after, 100, 1_000_000)
    return [it.seq for it in page.entries]


async def expired_by(store: Any, archive: MemoryArchive, clock: StandingClock, **settings: Any) -> Any:
    async def carry_out(command: base.Expire) -> None:
        await do(store, command)

    return await archiver_of(store, archive, tiny(**settings), clock=clock, expire=carry_out).run()


async def test_nobody_reads_below_the_floor_and_everybody_is_told(store: Any) -> None:
    await do(store, expire(8))
    page = await store.page("g", "bob", 0, 100, 1_000_000)
    assert [it.seq for it in page.entries] == list(range(9, COUNT + 2))
    assert (page.floor_seq, page.up_to_seq, page.more) == (8, COUNT + 1, False)
    assert (await store.page("g", "bob", 12, 3, 1_000_000)).floor_seq == 8
    assert [it.seq for it in await store.entries("g", 0, 2)] == [9, 10]
    (head,) = await store.heads("bob", "phone")
    assert head.first_seq == 9
    (row,) = await store.conversations("bob", None, None, 10)
    assert row.unread == COUNT - 7
    await do(store, expire(3))
    assert (await store.page("g", "bob", 0, 1, 1_000_000)).floor_seq == 8, "a floor never falls"


async def test_the_newest_entry_stays(store: Any) -> None:
    await do(store, expire(10_000))
    assert await seqs(store) == [COUNT + 1]
    await refused(store, expire(1, "nowhere"), NotFoundError)


async def test_keys_and_numbers_of_what_was_deleted_stay(store: Any) -> None:
    (old,) = await store.commit([send("g", "ann", "k0", "secret words 0", NOW)])
    await do(store, expire(8))
    archive = MemoryArchive()
    await archiver_of(store, archive, tiny(after_s=1e9)).run()
    (again,) = await store.commit([send("g", "ann", "k0", "secret words 0", NOW)])
    assert (again.repeat, again.entry.seq, again.entry.message_id) == (
        True,
        old.entry.seq,
        old.entry.message_id,
    )
    (other,) = await store.commit([send("g", "ann", "k0", "other words", NOW)])
    assert other.error.code == "CONFLICT"
    (new,) = await store.commit([send("g", "ann", "new", "new", NOW)])
    assert new.entry.seq == COUNT + 2
    await do(store, read("g", "bob", COUNT + 2))


async def test_bodies_leave_the_log_without_an_archive_of_them(store: Any) -> None:
    await do(store, expire(8))
    archive = MemoryArchive()
    done = await archiver_of(store, archive, tiny(after_s=1e9)).run()
    assert (done.moved, done.objects, objects_in(archive)) == (8, 0, {})
    assert [it.seq for it in await store.messages_of("g", "ann", "", 100)] == sorted(
        range(9, COUNT + 2), key=lambda seq: f"k{seq - 2}"
    )


async def test_bodies_leave_the_archive_too(store: Any) -> None:
    archive = MemoryArchive()
    await archiver_of(store, archive).run()
    await do(store, expire(8))
    assert await seqs(store, archive) == list(range(9, COUNT + 2))
    done = await archiver_of(store, archive).run()
    assert (done.expired, done.rewritten) == (2, 1), "of 1-3, 4-6 and 7-9"
    words = await words_held(store, archive)
    assert b"secret words 6" not in words
    assert b"secret words 7" in words
    await objects_fit(store, archive)
    assert await seqs(store, archive) == list(range(9, COUNT + 2))


async def test_what_is_older_than_it_is_kept_ends(store: Any) -> None:
    archive, clock = MemoryArchive(), StandingClock(NOW + 25_000)
    await do(store, base.SetRetention("g", 10_000, None, NOW))
    done = await expired_by(store, archive, clock, after_s=1e9)
    assert done.ended == 1
    assert await seqs(store) == list(range(17, COUNT + 2)), "sent at 15 s and later"
    assert (await expired_by(store, archive, clock, after_s=1e9)).ended == 0
    clock.ms += 1_000_000_000
    await expired_by(store, archive, clock, after_s=1e9)
    assert await seqs(store) == [COUNT + 1]
    assert [it.action for it in await store.audit("g")][1:] == ["RETENTION_CHANGED", "EXPIRED", "EXPIRED"]


async def test_a_conversation_may_keep_what_others_do_not(store: Any) -> None:
    archive, clock = MemoryArchive(), StandingClock(NOW + 25_000)
    await do(store, base.SetRetention("g", 0, None, NOW))
    assert (await expired_by(store, archive, clock, after_s=1e9, keep_s=10.0)).ended == 0
    await do(store, base.SetRetention("g", None, None, NOW))
    assert (await expired_by(store, archive, clock, after_s=1e9, keep_s=10.0)).ended == 1


async def test_a_moment_is_not_for_ever(store: Any) -> None:
    assert (milliseconds_kept(1e-7), milliseconds_kept(0), milliseconds_kept(2.5)) == (1, 0, 2_500)
    done = await expired_by(store, MemoryArchive(), StandingClock(NOW + 25_000), after_s=1e9, keep_s=1e-7)
    assert done.ended == 1
    assert await seqs(store) == [COUNT + 1]


async def caught_up(bob: ChatClient) -> None:
    """Take events until all that there is has come."""
    async for event in bob.events():
        if isinstance(event, CaughtUp):
            return


async def test_a_client_lets_go_of_what_was_deleted(tmp_path: Path) -> None:
    server = ChatServer(store=MemoryStore(ids=seeded_ids()), authenticate=by_name)

    def client(device_id: str) -> ChatClient:
        store = tmp_path / f"{device_id}.db"
        connector = MemoryConnector(server)
        return ChatClient("memory://", token="bob", device_id=device_id, connector=connector, store=store)

    async with server:
        await server.create_conversation("GROUP", "ann", ["bob"], conversation_id="g")
        for number in range(6):
            await server.send("g", "ann", f"{number}", client_msg_id=f"k{number}")
        async with client("phone") as bob:
            await caught_up(bob)
            assert [it.seq for it in await bob.history("g", limit=10)] == [1, 2, 3, 4, 5, 6, 7]
        await server.delete_history("g", 4)
        await server.send("g", "ann", "new", client_msg_id="new")
        for device_id in ("phone", "tablet"):
            async with client(device_id) as bob:
                await caught_up(bob)
                assert [it.seq for it in await bob.history("g", limit=10)] == [5, 6, 7, 8], device_id


async def test_very_many_go_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_verbs, "EXPIRE_MAX", 4)
    async with ChatServer(store=MemoryStore(ids=seeded_ids()), authenticate=by_name) as server:
        await server.create_conversation("GROUP", "ann", ["bob"], conversation_id="g")
        for number in range(12):
            await server.send("g", "ann", f"{number}", client_msg_id=f"k{number}")
        await server.delete_history("g", 10)
        await server.delete_history("g", 8)
        await server.delete_history("g", 2**50)
        expired = [it.subject for it in await server.store.audit("g") if it.action == "EXPIRED"]
        assert expired == ["4", "8", "10", "12"]


async def test_what_a_host_may_say() -> None:
    server = ChatServer(store=MemoryStore(ids=seeded_ids()), authenticate=by_name)
    async with server:
        await server.create_conversation("GROUP", "ann", ["bob"], conversation_id="g")
        await server.set_retention("g", 3600, by="ann")
        await server.set_retention("g", None)
        await server.delete_history("g", 5, by="ann")
        for wrong in (-1, "1", True, float("nan"), 1e300):
            with pytest.raises(BadRequestError):
                await server.set_retention("g", wrong)  # type: ignore[arg-type]
        for seq in (0, -1, True, "1", 1.0):
            with pytest.raises(BadRequestError):
                await server.delete_history("g", seq)  # type: ignore[arg-type]
        with pytest.raises(NotFoundError):
            await server.set_retention("nowhere", 1)
        with pytest.raises(NotFoundError):
            await server.delete_history("nowhere", 1)


async def test_what_ends_while_it_is_exported_is_not_taken_for_its_neighbour(store: Any) -> None:
    archive = MemoryArchive()
    await do(store, send("g", "bob", "k", "words of bob", NOW), send("g", "ann", "last", "last", NOW))
    await archiver_of(store, archive).run()
    log = reader_of(store, archive)

    class Expiring:
        async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[base.Entry]:
            await do(store, expire(COUNT + 1))
            return await log.entries(conversation_id, after_seq, limit)

    lines = [line async for line in lines_of(store, Expiring(), "ann", NOW)]
    assert b"words of bob" not in b"".join(lines)
    told = [found["message"] for line in lines if "message" in (found := json.loads(line))]
    assert {it["payload"]["type"] for it in told if it["seq"] <= COUNT} == {"RECALLED"}
