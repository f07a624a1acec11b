"""Two copies of one log, and one archive: what the one wrote, the other leaves alone."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit.archive.memory import MemoryArchive
from chatkit.errors import ConfigurationError, UnavailableError
from chatkit.storage.cold import OWNER_MARKS_MAX
from chatkit.storage.memory import MemoryStore
from chatkit.storage.postgres import PostgresStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import do, group, send
from tests.servers.postgres import serving
from tests.storage.ids import seeded_ids

from .archived import archiver_of, objects_in, restorer_of
from .test_archiver import shown


async def filled(path: Path) -> SqliteStore:
    made = SqliteStore(str(path), ids=seeded_ids(), threads=False)
    await made.migrate()
    await do(made, group("g", "ann", "bob"))
    await more(made, "first")
    return made


async def more(store: Any, tag: str) -> None:
    await do(store, *[send("g", "ann", f"{tag}-{number}", f"words {tag} {number}") for number in range(6)])


@pytest.fixture
async def twins(tmp_path: Path) -> AsyncIterator[tuple[Any, Any, MemoryArchive]]:
    """A log with a part in an archive, and its copy."""
    archive = MemoryArchive()
    original = await filled(tmp_path / "chat.db")
    await archiver_of(original, archive).run()
    with closing(sqlite3.connect(tmp_path / "chat.db")) as connection:
        connection.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    copy = SqliteStore(str(tmp_path / "copy.db"), ids=seeded_ids(7), threads=False)
    await copy.migrate()
    yield original, copy, archive
    await original.aclose()
    await copy.aclose()


async def test_a_copy_removes_nothing_of_what_the_log_archived_since(twins: Any) -> None:
    original, copy, archive = twins
    await more(original, "later")
    await archiver_of(original, archive).run()
    before, there = await shown(original, archive), {**archive.objects}

    with pytest.raises(ConfigurationError, match="another copy of this log"):
        await archiver_of(copy, archive).run()
    with pytest.raises(ConfigurationError, match="another copy of this log"):
        await restorer_of(copy, archive).run()

    assert archive.objects == there
    await archiver_of(original, archive).run()
    assert await shown(original, archive) == before


async def test_a_copy_that_came_first_has_it_and_the_log_leaves_it_alone(twins: Any) -> None:
    original, copy, archive = twins
    await archiver_of(copy, archive).run()
    there = {**archive.objects}
    await more(original, "later")

    with pytest.raises(ConfigurationError, match="chatkit archive run --claim"):
        await archiver_of(original, archive).run()

    assert archive.objects == there


async def test_who_claims_it_goes_on_and_the_other_one_stops(twins: Any) -> None:
    original, copy, archive = twins
    await archiver_of(original, archive).run()
    await archiver_of(copy, archive).run(claim=True)
    await archiver_of(copy, archive).run()

    with pytest.raises(ConfigurationError):
        await archiver_of(original, archive).run()


@pytest.mark.parametrize("dies", ["before", "after"])
async def test_an_archiver_that_ends_between_its_two_marks_is_known(tmp_path: Path, dies: str) -> None:
    class Dying(MemoryArchive):
        async def put(self, name: str, data: bytes) -> None:
            if name.endswith("/owner"):
                if dies == "after":
                    await super().put(name, data)
                raise UnavailableError("the archive is gone", retry_after_s=1.0)
            await super().put(name, data)

    store, archive, dying = await filled(tmp_path / "chat.db"), MemoryArchive(), Dying()
    await archiver_of(store, archive).run()
    dying.objects = archive.objects
    with pytest.raises(UnavailableError):
        await archiver_of(store, dying).run()

    await more(store, "later")
    assert (await archiver_of(store, archive).run()).entries == 6
    assert len(objects_in(archive)) > 2
    await store.aclose()


async def test_an_archive_that_takes_nothing_for_long_stays_its_logs(tmp_path: Path) -> None:
    class Full(MemoryArchive):
        async def put(self, name: str, data: bytes) -> None:
            raise UnavailableError("the disk is full", retry_after_s=1.0)

    store, archive, full = await filled(tmp_path / "chat.db"), MemoryArchive(), Full()
    await archiver_of(store, archive).run()
    full.objects = archive.objects
    for _ in range(3 * OWNER_MARKS_MAX):
        with pytest.raises(UnavailableError):
            await archiver_of(store, full).run()

    await archiver_of(store, archive).run()
    await store.aclose()


async def test_marks_are_kept_in_order_and_bounded(tmp_path: Path) -> None:
    made: list[Any] = [
        MemoryStore(ids=seeded_ids()),
        SqliteStore(str(tmp_path / "chat.db"), ids=seeded_ids(), threads=False),
    ]
    for store in made:
        await store.migrate()
        await marks_are_kept(store)
        await store.aclose()


async def test_marks_are_kept_on_postgresql_by_archivers_side_by_side() -> None:
    with serving() as server:
        store = PostgresStore(server.new_database(), ids=seeded_ids())
        await store.migrate()
        await marks_are_kept(store)
        async with anyio.create_task_group() as tasks:
            for number in range(OWNER_MARKS_MAX):
                tasks.start_soon(store.cold.add_owner_mark, f"{number:016x}")
        assert sorted(await store.cold.owner_marks()) == [f"{n:016x}" for n in range(OWNER_MARKS_MAX)]
        await store.aclose()


async def marks_are_kept(store: Any) -> None:
    assert await store.cold.owner_marks() == []
    for number in range(OWNER_MARKS_MAX + 3):
        await store.cold.add_owner_mark(f"{number:016x}")
    assert await store.cold.owner_marks() == [f"{n:016x}" for n in range(3, OWNER_MARKS_MAX + 3)]
