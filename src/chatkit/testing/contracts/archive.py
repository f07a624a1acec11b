"""The contract of every archive: subclass `ArchiveContract` and override its fixture `archive`.

    class TestMyArchive(ArchiveContract):
        @pytest.fixture
        async def archive(self):
            return MyArchive()

Only the port is used here (`chatkit.archive.base`).
"""

from __future__ import annotations

import anyio
import pytest

from ...archive.base import LIST_MAX, OBJECT_BYTES_MAX, ArchiveStore, ObjectMissingError
from ...errors import BadRequestError, TooLargeError, UnavailableError

BAD_NAMES = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    ".a",
    "a/.b",
    "A",
    "a b",
    "a\n",
    "a?",
    "\u00e9",
    "a" * 201,
]


class ArchiveContract:
    """All that an archive promises, as tests. They run through anyio's pytest plugin, on any backend."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def archive(self) -> ArchiveStore:
        """A fresh and empty archive for each test."""
        raise NotImplementedError("override the fixture `archive`")

    async def test_an_object_is_there_as_it_was_put(self, archive: ArchiveStore) -> None:
        """Any bytes, none among them."""
        for data in (b"", b"\x00", bytes(range(256)) * 5_000):
            await archive.put("log/01/a.zst", data)
            assert await archive.get("log/01/a.zst") == data

    async def test_what_is_not_there_is_missing(self, archive: ArchiveStore) -> None:
        """Also where its name is that of a folder, or below that of an object."""
        await archive.put("log/01/a", b"1")
        for name in ("b", "log/01/b", "log", "log/01", "log/01/a/b"):
            with pytest.raises(ObjectMissingError):
                await archive.get(name)
            await archive.delete(name)
        assert await archive.get("log/01/a") == b"1"

    async def test_a_deleted_object_is_gone(self, archive: ArchiveStore) -> None:
        """From reads and from listings; its neighbours stay, and its name can be used again."""
        await archive.put("log/01/a", b"1")
        await archive.put("log/01/b", b"2")
        await archive.delete("log/01/a")
        with pytest.raises(ObjectMissingError):
            await archive.get("log/01/a")
        assert await archive.names("", "", 10) == ["log/01/b"]
        await archive.delete("log/01/b")
        assert await archive.names("", "", 10) == []
        await archive.put("log/01/a", b"3")
        assert await archive.get("log/01/a") == b"3"

    async def test_names_come_in_order_and_in_parts(self, archive: ArchiveStore) -> None:
        """Ascending by their bytes, each exactly once, whatever the size of a part."""
        names = ["a", "a-b", "a/b", "a/b-c", "a/b/c", "a/b.c", "a/b0", "a.b", "a0", "b/a", "b/b"]
        names = [name for name in names if name not in ("a", "a/b")]  # a folder has no object's name
        for name in names:
            await archive.put(name, b"x")
        for limit in (1, 2, 3, LIST_MAX):
            found: list[str] = []
            while part := await archive.names("", found[-1] if found else "", limit):
                assert len(part) <= limit
                found += part
            assert found == sorted(names)
        below = sorted(name for name in names if name.startswith("a/"))
        assert await archive.names("a/", "", 100) == below
        assert await archive.names("a/", below[0], 100) == below[1:]
        assert await archive.names("c/", "", 100) == []
        assert await archive.names("", "", 0) == []

    async def test_a_wrong_name_is_refused(self, archive: ArchiveStore) -> None:
        """Before anything is done: no name leads out of the archive, and none is changed on its way."""
        for name in BAD_NAMES:
            with pytest.raises(BadRequestError):
                await archive.put(name, b"x")
            with pytest.raises(BadRequestError):
                await archive.get(name)
            with pytest.raises(BadRequestError):
                await archive.delete(name)
        for prefix in ("a", "/", "../", "a//"):
            with pytest.raises(BadRequestError):
                await archive.names(prefix, "", 10)
        assert await archive.names("", "", 10) == []

    async def test_an_object_has_a_greatest_size(self, archive: ArchiveStore) -> None:
        """More is refused before it is written."""
        with pytest.raises(TooLargeError):
            await archive.put("a", bytes(OBJECT_BYTES_MAX + 1))
        assert await archive.names("", "", 10) == []

    async def test_all_may_run_side_by_side(self, archive: ArchiveStore) -> None:
        """Whoever reads while an object is replaced sees one of the two."""
        await archive.put("a/x", b"0" * 100_000)
        seen: list[bytes] = []

        async def read() -> None:
            for _ in range(10):
                data = await archive.get("a/x")
                seen.append(data[:1])
                assert data == data[:1] * 100_000

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(read)
            for digit in b"12345":
                await archive.put("a/x", bytes([digit]) * 100_000)
        assert len(seen) == 20
        assert await archive.get("a/x") == b"5" * 100_000

    async def test_a_closed_archive_takes_nothing(self, archive: ArchiveStore) -> None:
        """Closing twice is nothing."""
        await archive.put("a", b"x")
        await archive.aclose()
        await archive.aclose()
        with pytest.raises(UnavailableError):
            await archive.get("a")
        with pytest.raises(UnavailableError):
            await archive.put("a", b"y")
