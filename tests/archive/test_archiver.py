"""The archiver: what leaves, in which order, and what becomes of whatever ends it or goes wrong."""

from __future__ import annotations

import itertools
import json
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from chatkit.archive.base import ArchiveStore
from chatkit.archive.format import decode, encode, log_name
from chatkit.archive.memory import MemoryArchive
from chatkit.core.log.cold import ColdRange, object_name
from chatkit.errors import UnavailableError
from chatkit.server.archiving.archiver import Archived
from chatkit.server.archiving.reader import ArchiveReader
from chatkit.storage import base
from chatkit.storage.cold import ColdTerms
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from chatkit.testing.contracts.storage_commands import NOW, do, group, one, recall, send
from chatkit.wire.payload import RECALLED
from tests.storage.ids import seeded_ids

from .archived import LATER_MS, SECRET, StandingClock, archiver_of, objects_in, restorer_of, tiny

COUNT = 20
KINDS = ("memory", "sqlite")


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """A log with one group, and 20 messages of ann's and bob's in it."""
    made: Any = MemoryStore(ids=seeded_ids())
    if request.param == "sqlite":
        made = SqliteStore(str(tmp_path / "chat.db"), ids=seeded_ids(), threads=False)
    await made.migrate()
    await do(made, group("g", "ann", "bob"))
    for number in range(COUNT):
        await do(made, send("g", ("ann", "bob")[number % 2], f"k{number}", f"secret words {number}"))
    yield made
    await made.aclose()
    if request.param == "sqlite":
        report = full_report(str(tmp_path / "chat.db"))
        assert report.whole, report.findings


@pytest.fixture
def archive() -> MemoryArchive:
    return MemoryArchive()


def reader_of(store: Any, archive: ArchiveStore | None, **settings: Any) -> ArchiveReader:
    return ArchiveReader(store, archive, tiny(**settings))


async def shown(store: Any, archive: ArchiveStore | None, user: str = "bob") -> list[base.Entry]:
    """All that a user sees, in pages of seven."""
    reader, entries, after = reader_of(store, archive), [], 0
    while True:
        page = await reader.page("g", user, after, 7, 1_000_000)
        entries += page.entries
        after = page.up_to_seq
        if not page.more:
            return entries


async def names_held(store: Any) -> set[str]:
    return {it.name for it in await store.cold.ranges((0, 0), 1_000)}


async def words_held(store: Any, archive: MemoryArchive) -> bytes:
    """All bodies in the archive."""
    ranges = await store.cold.ranges((0, 0), 100)
    return b" ".join(entry.payload or b"" for it in ranges for entry in decode(archive.objects[it.name], it))


async def objects_fit(store: Any, archive: MemoryArchive) -> None:
    """The archive has the objects that the ranges name, a manifest that lists them, and nothing else."""
    ranges = await store.cold.ranges((0, 0), 1_000)
    manifests = {name for name in objects_in(archive) if name.endswith("/manifest.json")}
    assert objects_in(archive).keys() - manifests == {it.name for it in ranges}
    assert len(manifests) == bool(ranges)
    for it in ranges:
        decode(archive.objects[it.name], it)
    for name in manifests:
        listed = json.loads(archive.objects[name])["objects"]
        assert [(it["name"], it["sha256"]) for it in listed] == [(it.name, it.digest.hex()) for it in ranges]


async def test_all_but_the_newest_leave_and_are_read_as_before(store: Any, archive: MemoryArchive) -> None:
    before = await shown(store, None)
    done = await archiver_of(store, archive, tiny(keep_entries=5)).run()
    assert (done.entries, done.moved, done.objects) == (16, 16, 6)
    hot = await store.page("g", "bob", 0, 100, 1_000_000)
    assert [it.seq for it in hot.entries if it.payload] == [1, 17, 18, 19, 20, 21], (
        "1 is the server's own entry"
    )
    assert await shown(store, archive) == before
    await objects_fit(store, archive)
    assert await archiver_of(store, archive, tiny(keep_entries=5)).run() == Archived()


async def test_what_is_young_stays(store: Any, archive: MemoryArchive) -> None:
    config = tiny(after_s=100.0)
    clock = StandingClock(NOW + 99_999)
    assert await archiver_of(store, archive, config, clock=clock).run() == Archived()
    clock.ms = NOW + 100_001
    assert (await archiver_of(store, archive, config, clock=clock).run()).moved == COUNT


async def test_a_few_entries_wait_until_they_are_twice_as_old(store: Any, archive: MemoryArchive) -> None:
    config = tiny(after_s=100.0, object_entries=100, object_entries_min=50)
    clock = StandingClock(NOW + 199_000)
    assert await archiver_of(store, archive, config, clock=clock).run() == Archived()
    clock.ms = NOW + 200_000
    assert (await archiver_of(store, archive, config, clock=clock).run()).objects == 1


async def test_objects_are_bounded_by_their_bytes(store: Any, archive: MemoryArchive) -> None:
    await do(store, *[send("g", "ann", f"large {number}", "x" * 40_000) for number in range(4)])
    done = await archiver_of(store, archive, tiny(object_entries=1_000, object_bytes=100_000)).run()
    assert done.objects > 1
    ranges = await store.cold.ranges((0, 0), 100)
    sizes = [sum(len(it.payload or b"") for it in decode(archive.objects[of.name], of)) for of in ranges]
    assert max(sizes) <= 100_000


async def test_a_key_a_year_old_gets_its_old_answer(store: Any, archive: MemoryArchive) -> None:
    old = (await store.commit([send("g", "ann", "k0", "secret words 0")]))[0]
    await archiver_of(store, archive).run()
    (again,) = await store.commit([send("g", "ann", "k0", "secret words 0", LATER_MS)])
    assert again == old
    (other,) = await store.commit([send("g", "ann", "k0", "other words", LATER_MS)])
    assert isinstance(other, base.Refused)
    assert other.error.code == "CONFLICT"


class DyingError(Exception):
    """The process ends here."""


class Dying:
    """Passes calls on to its parts until a number of them is reached; from then on every call dies.

    Args:
        calls: How many are carried out.
        after: Whether the one that dies is carried out too: the process ended before it heard of it.
    """

    def __init__(self, calls: int, *, after: bool) -> None:
        self._left = calls
        self._after = after
        self.died = False

    def of(self, part: Any) -> Any:
        outer = self

        class Part:
            def __getattr__(self, name: str) -> Any:
                return outer.wrapped(getattr(part, name))

        return Part()

    def wrapped(self, call: Callable[..., Awaitable[Any]]) -> Any:
        async def carry_out(*args: Any, **kwargs: Any) -> Any:
            if self.died:
                raise DyingError
            if self._left == 0:
                self.died = True
                if self._after:
                    await call(*args, **kwargs)
                raise DyingError
            self._left -= 1
            return await call(*args, **kwargs)

        return carry_out


class OneLog:
    def __init__(self, cold: Any) -> None:
        self.cold = cold


@pytest.mark.parametrize("after", [False, True])
async def test_whatever_ends_an_archiver_the_next_one_goes_on(
    store: Any, archive: MemoryArchive, after: bool
) -> None:
    """Wherever it ends, readers see everything at once, and the next run leaves nothing half done."""
    before, clock, config = await shown(store, None), StandingClock(), tiny(object_entries=9, move_entries=5)
    for calls in itertools.count():
        process = Dying(calls, after=after)
        archiver = archiver_of(OneLog(process.of(store.cold)), process.of(archive), config, clock=clock)
        with suppress(DyingError):
            await archiver.run()
        assert await shown(store, archive) == before, f"after {calls} calls"
        clock.ms += 1_000_000  # longer than a claim holds
        await archiver_of(store, archive, config, clock=clock).run()
        assert await shown(store, archive) == before, f"after {calls} calls and another run"
        await objects_fit(store, archive)
        if not process.died:
            assert calls > 25
            return
        await restorer_of(store, archive).run()
        await archiver_of(store, archive, tiny(after_s=1e9), clock=clock).run()
        assert await shown(store, None) == before


async def test_two_archivers_at_once_share_the_work(store: Any, archive: MemoryArchive) -> None:
    before = await shown(store, None)
    done: list[Archived] = []

    async def work() -> None:
        done.append(await archiver_of(store, archive).run())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(work)
    assert sum(it.entries for it in done) == COUNT
    assert await shown(store, archive) == before
    await archiver_of(store, archive).run()
    await objects_fit(store, archive)


async def test_an_archiver_that_was_too_slow_changes_nothing(store: Any, archive: MemoryArchive) -> None:
    """Its claim was taken over while it wrote; what it confirms is refused, and its object is swept up."""
    before, clock = await shown(store, None), StandingClock()

    class SlowArchive(MemoryArchive):
        async def put(self, name: str, data: bytes) -> None:
            if name.endswith(".zst"):
                clock.ms += 1_000_000
                await archiver_of(store, archive, clock=clock).run()
            archive.objects[name] = data

        async def get(self, name: str) -> bytes:
            return await archive.get(name)

    slow = archiver_of(store, SlowArchive(), clock=clock)
    assert (await slow.run(sweep=False)).entries == 0
    assert await shown(store, archive) == before
    assert (await archiver_of(store, archive, clock=clock).run()).unknown == 1
    await objects_fit(store, archive)


async def test_a_recalled_body_leaves_the_archive(store: Any, archive: MemoryArchive) -> None:
    await archiver_of(store, archive).run()
    reader = reader_of(store, archive)
    page = await reader.page("g", "bob", 1, 3, 1_000_000)
    message_id = page.entries[0].message_id
    await one(store, recall(message_id, "ann", NOW), base.Recalled)

    again = await reader.page("g", "bob", 1, 3, 1_000_000)
    assert again.entries[0].payload == b'{"type":"RECALLED"}', (
        "at once, whatever the archive and the memory hold"
    )
    assert b"secret words 0" in await words_held(store, archive), (
        "until the next run it is there, and not read"
    )
    old = await names_held(store)
    done = await archiver_of(store, archive, forget=reader.forget).run()
    assert done.rewritten == 1
    assert len(old - await names_held(store)) == 1
    await objects_fit(store, archive)
    words = await words_held(store, archive)
    assert b"secret words 0" not in words
    assert b"secret words 1" in words
    assert (await reader.page("g", "bob", 1, 3, 1_000_000)).entries == again.entries
    assert (await shown(store, archive))[2].payload == b'{"text":"secret words 1","type":"TEXT"}'


async def test_a_recall_while_an_object_is_written_is_not_forgotten(
    store: Any, archive: MemoryArchive
) -> None:
    first = (await shown(store, None))[1]

    class RecallingArchive(MemoryArchive):
        async def put(self, name: str, data: bytes) -> None:
            if not objects_in(archive) and name.endswith(".zst"):
                await one(store, recall(first.message_id, "ann", NOW), base.Recalled)
            await archive.put(name, data)

        async def get(self, name: str) -> bytes:
            return await archive.get(name)

    await archiver_of(store, RecallingArchive()).run(sweep=False)
    assert (await shown(store, archive))[1].payload == b'{"type":"RECALLED"}'
    assert (await archiver_of(store, archive).run()).rewritten == 1
    (it, *_) = await store.cold.ranges((0, 0), 1)
    assert [entry.payload is None for entry in decode(archive.objects[it.name], it)] == [False, True, False]


async def test_only_objects_that_no_log_knows_are_removed(store: Any, archive: MemoryArchive) -> None:
    await archiver_of(store, archive).run()
    kept = objects_in(archive)
    other = log_name(b"another log")
    for name in ("notes.txt", f"{other}/0000000000000001/x.jsonl.zst", object_name(other, 1, 1, 3, "0" * 16)):
        kept[name] = archive.objects[name] = b"not ours"
    archive.objects[object_name(log_name(SECRET), 1, 1, 3, "0" * 16)] = b"ours, and nobody's"
    archive.objects[object_name(log_name(SECRET), 99, 1, 3, "0" * 16)] = (
        b"of a conversation that is not there"
    )
    assert (await archiver_of(store, archive).run()).unknown == 2
    assert objects_in(archive) == kept


async def test_a_log_from_a_backup_finds_objects_that_were_written_anew(
    store: Any, archive: MemoryArchive
) -> None:
    """The backup names the objects of its time; the archive has newer ones for the same entries."""
    before = await shown(store, None)
    await archiver_of(store, archive).run()
    for it in await store.cold.ranges((0, 0), 100):
        place = (it.conversation_key, it.first_seq, it.last_seq)
        archive.objects[object_name(log_name(SECRET), *place, os.urandom(8).hex())] = archive.objects.pop(
            it.name
        )
    with pytest.raises(UnavailableError):
        await shown(store, archive)
    assert (await archiver_of(store, archive).run()).unknown == 0
    assert await shown(store, archive) == before
    await archiver_of(store, archive).run()
    await objects_fit(store, archive)


class Broken(MemoryArchive):
    """Does not do what it is asked; `how` says what it does."""

    def __init__(self, inner: MemoryArchive, how: str) -> None:
        super().__init__()
        self.objects = inner.objects
        self.how = how
        self.gets = 0

    async def put(self, name: str, data: bytes) -> None:
        if self.how == "refuses":
            raise UnavailableError("the archive does not answer", retry_after_s=1.0)
        await super().put(name, data[:-3] if self.how == "cuts" else data)

    async def get(self, name: str) -> bytes:
        self.gets += 1
        if self.how == "hangs":
            await anyio.sleep_forever()
        if self.how == "refuses":
            raise UnavailableError("the archive does not answer", retry_after_s=1.0)
        return await super().get(name)


@pytest.mark.parametrize("how", ["refuses", "cuts"])
async def test_nothing_leaves_for_an_archive_that_does_not_keep_it(
    store: Any, archive: MemoryArchive, how: str
) -> None:
    before = await shown(store, None)
    with pytest.raises(UnavailableError):
        await archiver_of(store, Broken(archive, how)).run()
    assert await shown(store, None) == before, "all bodies are still in the log"
    clock = StandingClock(LATER_MS + 1_000_000)
    await archiver_of(store, archive, clock=clock).run()
    assert await shown(store, archive) == before
    await objects_fit(store, archive)


@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_only_pages_that_need_it_wait_for_an_archive(
    store: Any, archive: MemoryArchive, how: str
) -> None:
    await archiver_of(store, archive, tiny(keep_entries=5)).run()
    reader = reader_of(store, Broken(archive, how), read_timeout_s=0.05)
    assert [it.seq for it in (await reader.page("g", "bob", 16, 100, 1_000_000)).entries] == [
        17,
        18,
        19,
        20,
        21,
    ]
    with pytest.raises(UnavailableError) as refusal:
        await reader.page("g", "bob", 10, 100, 1_000_000)
    assert refusal.value.retry_after_s
    assert [it.seq for it in (await reader.page("g", "bob", 16, 100, 1_000_000)).entries] == [
        17,
        18,
        19,
        20,
        21,
    ]
    with pytest.raises(UnavailableError):
        await reader_of(store, None).page("g", "bob", 10, 100, 1_000_000)


@pytest.mark.parametrize("spoil", ["lost", "damaged", "another"])
async def test_a_lost_or_damaged_object_is_never_served(
    store: Any, archive: MemoryArchive, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    await archiver_of(store, archive).run()
    first, second, *_ = await store.cold.ranges((0, 0), 100)
    if spoil == "lost":
        del archive.objects[first.name]
    elif spoil == "damaged":
        archive.objects[first.name] = archive.objects[first.name][:-1] + b"?"
    else:
        archive.objects[first.name] = archive.objects[second.name]
    with pytest.raises(UnavailableError), caplog.at_level(logging.ERROR):
        await reader_of(store, archive).page("g", "bob", 0, 7, 1_000_000)
    assert "secret" not in caplog.text
    assert caplog.records
    page = await reader_of(store, archive).page("g", "bob", first.last_seq, 3, 1_000_000)
    assert [it.seq for it in page.entries] == [4, 5, 6]


async def test_an_object_is_read_once_for_all_who_wait(store: Any, archive: MemoryArchive) -> None:
    await archiver_of(store, archive, tiny(object_entries=1_000)).run()
    counting = Broken(archive, "counts")
    reader = reader_of(store, counting)
    pages: list[base.Page] = []

    async def read() -> None:
        pages.append(await reader.page("g", "bob", 0, 7, 1_000_000))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(read)
    assert len(pages) == 10
    assert counting.gets == 1
    reader = reader_of(store, counting, cache_bytes=0)
    await reader.page("g", "bob", 0, 7, 1_000_000)
    await reader.page("g", "bob", 0, 7, 1_000_000)
    assert counting.gets == 3, "nothing is kept where nothing may be"


async def test_a_page_holds_so_many_bytes_wherever_they_come_from(store: Any, archive: MemoryArchive) -> None:
    sizes: list[list[int]] = []
    for where in (None, archive):
        found, after = [], 0
        if where is not None:
            await archiver_of(store, archive).run()
        while True:
            page = await reader_of(store, where).page("g", "bob", after, 100, 120)
            found.append(len(page.entries))
            after = page.up_to_seq
            if not page.more:
                break
        sizes.append(found)
    assert sizes[0] == sizes[1]
    assert max(sizes[0]) < 5


async def test_what_comes_back_is_as_it_was(store: Any, archive: MemoryArchive) -> None:
    before = await shown(store, None)
    await archiver_of(store, archive).run()
    (first, *_) = await store.cold.ranges((0, 0), 1)
    kept = archive.objects[first.name]
    archive.objects[first.name] = b"damaged"
    done = await restorer_of(store, archive).run()
    assert done.failed == ["g"]
    assert done.entries == COUNT - first.last_seq, "the damaged one and what is older stay"
    archive.objects[first.name] = kept
    assert (await restorer_of(store, archive).run("g")).failed == []
    assert await shown(store, None) == before
    await archiver_of(store, archive, tiny(after_s=1e9)).run()
    assert objects_in(archive) == {}


async def test_an_unconfirmed_claim_is_nobodys_for_as_long_as_its_lease(
    store: Any, archive: MemoryArchive
) -> None:
    (conversation,) = (await store.cold.due(ColdTerms(LATER_MS, 1), 0)).conversations
    key, name = conversation.conversation_key, conversation.conversation_id
    mine = ColdRange(key, name, 1, 3, next_name="a")
    assert await store.cold.claim(mine, now_ms=10, taken_before_ms=0)
    assert not await store.cold.claim(
        ColdRange(key, name, 1, 3, next_name="b"), now_ms=11, taken_before_ms=10
    )
    assert not await store.cold.claim(
        ColdRange(key, name, 2, 4, next_name="b"), now_ms=99, taken_before_ms=98
    )
    assert await store.cold.claim(ColdRange(key, name, 1, 3, next_name="b"), now_ms=12, taken_before_ms=11)
    assert await store.cold.known(["a", "b", "c"]) == {"b"}
    assert await store.cold.move(key, 100) == 0, "nothing leaves for what is not confirmed"


async def test_what_was_recalled_after_the_backup_stays_gone_and_hides_nothing_else(
    store: Any, archive: MemoryArchive
) -> None:
    """The log of the backup knows no recall; the object that was written anew after it has no such body any more."""
    before = await shown(store, None)
    await archiver_of(store, archive).run()
    (it, *_) = await store.cold.ranges((0, 0), 1)
    entries = decode(archive.objects.pop(it.name), it)
    entries[1] = replace(entries[1], payload=None)
    place = (it.conversation_key, it.first_seq, it.last_seq)
    archive.objects[object_name(log_name(SECRET), *place, "0" * 16)] = encode("g", entries)
    assert (await archiver_of(store, archive).run()).unknown == 0
    expected = [
        replace(entry, payload=RECALLED) if entry.seq == entries[1].seq else entry for entry in before
    ]
    assert await shown(store, archive) == expected
    assert (await restorer_of(store, archive).run()).failed == []
    assert await shown(store, None) == expected


async def test_a_damaged_body_keeps_its_own_range_alone_from_the_archive(
    tmp_path: Path, archive: MemoryArchive, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "damaged.db")
    store = SqliteStore(path, ids=seeded_ids(), threads=False)
    await store.migrate()
    await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"))
    await do(store, *(send(name, "ann", f"k{number}") for name in "gh" for number in range(6)))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE message SET payload = x'6e6f' WHERE conversation_key = 1 AND seq = 4")
        connection.commit()
    for _ in range(2):
        await archiver_of(store, archive).run()
    assert "conversation g, seqs 4 to 6: a body in the log is damaged" in caplog.text
    assert [(it.conversation_id, it.first_seq) for it in await store.cold.ranges((0, 0), 9)] == [
        ("g", 1),
        ("h", 1),
        ("h", 4),
    ]
    await store.aclose()
