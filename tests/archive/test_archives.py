"""The archives that chatkit brings, held to their contract; S3 over its real protocol."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatkit import ConfigurationError, UnavailableError, open_archive
from chatkit.archive.base import ArchiveStore
from chatkit.archive.directory import DirectoryArchive
from chatkit.archive.memory import MemoryArchive
from chatkit.archive.s3 import S3Archive
from chatkit.server.blobs.blob_bytes import BlobBytes
from chatkit.testing.contracts.archive import ArchiveContract
from tests.servers.process import ServerProcess, free_port
from tests.servers.s3 import KEY, make_bucket, s3_server

__all__ = ["s3_server"]

_numbers = itertools.count(1)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(s3_server: ServerProcess, key: None) -> str:
    """The address of a bucket of this test's own."""
    name = f"bucket-{next(_numbers)}"
    make_bucket(s3_server, name)
    return f"s3://{name}/chats/2026?endpoint=http://127.0.0.1:{s3_server.port}"


class TestMemory(ArchiveContract):
    @pytest.fixture
    async def archive(self) -> ArchiveStore:
        return MemoryArchive()


class TestDirectory(ArchiveContract):
    @pytest.fixture
    async def archive(self, tmp_path: Path) -> ArchiveStore:
        return DirectoryArchive(tmp_path / "not yet" / "there")


class TestS3(ArchiveContract):
    @pytest.fixture
    async def archive(self, bucket: str) -> AsyncIterator[ArchiveStore]:
        archive = S3Archive(bucket)
        yield archive
        await archive.aclose()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("memory://", MemoryArchive),
        ("file:///srv/chat%20archive", DirectoryArchive),
        ("s3://bucket", S3Archive),
        ("s3://bucket/some/prefix?region=eu-west-1&endpoint=http://127.0.0.1:9000", S3Archive),
    ],
)
def test_an_address_names_an_archive(address: str, kind: type) -> None:
    assert isinstance(open_archive(address), kind)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "memory:",
        "memory://x",
        "file://",
        "file:///",
        "file://relative",
        "/srv",
        "s3://",
        "s3://u:p@b",
        "s3://b?x=1",
    ],
)
def test_other_addresses_are_refused_without_being_shown(address: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        open_archive(address)
    assert "u:p" not in str(refusal.value)


async def test_files_are_for_their_owner_alone_and_whole(tmp_path: Path) -> None:
    archive = DirectoryArchive(tmp_path / "archive")
    await archive.put("log/01/a", b"1")
    await archive.put("log/01/a", b"2")
    (file,) = (tmp_path / "archive" / "log" / "01").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(it.stat().st_mode) == 0o700 for it in (tmp_path / "archive", file.parent))
    (file.parent / ".writing-0123").write_bytes(b"a process that was killed left this")
    assert await archive.names("", "", 10) == ["log/01/a"]


@pytest.mark.parametrize("root", ["absolute", "relative"])
async def test_empty_folders_go_with_their_last_object_and_the_root_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("theirs") if root == "relative" else tmp_path / "theirs"
    folder.mkdir()
    folder.chmod(0o2770)
    before = folder.stat()
    archive = DirectoryArchive(folder)
    for name in ("a", "log/01/a"):
        await archive.put(name, b"x")
        await archive.delete(name)
        assert list(folder.iterdir()) == []
    assert (folder.stat().st_ino, folder.stat().st_mode) == (before.st_ino, before.st_mode)


async def test_what_a_killed_process_left_goes_with_the_last_object_beside_it(tmp_path: Path) -> None:
    """But nothing that may still be written."""
    archive = DirectoryArchive(tmp_path)
    await archive.put("log/01/a", b"1")
    old, new = (tmp_path / "log" / "01" / f".writing-{age}" for age in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"cut off")
    os.utime(old, (0, 0))
    await archive.delete("log/01/a")
    assert (old.exists(), new.exists()) == (False, True)
    os.utime(new, (0, 0))
    await archive.delete("log/01/a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("parts", [0, 1])
async def test_what_a_killed_process_left_of_an_uploaded_file_goes_with_it(
    tmp_path: Path, parts: int
) -> None:
    blobs = BlobBytes(DirectoryArchive(tmp_path))
    for number in range(parts):
        await blobs.put("abcd", number, bytes(32), b"x")
    left = tmp_path / "blobs" / "ab" / "abcd" / ".writing-0123"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"cut off")
    os.utime(left, (0, 0))
    await blobs.delete("abcd")
    assert list(tmp_path.iterdir()) == []


async def test_a_full_or_missing_disk_refuses(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UnavailableError, match="the archive refused"):
        await DirectoryArchive(tmp_path / "loop").put("a", b"x")


async def test_a_file_in_the_place_of_the_folder_is_a_matter_of_set_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match="file is none"):
            await DirectoryArchive(folder).put("a", b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_of_somebody_else_is_a_matter_of_set_up(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o500)
    with pytest.raises(ConfigurationError, match="theirs"):
        await DirectoryArchive(folder).put("a", b"x")


async def test_objects_lie_below_the_prefix(bucket: str, s3_server: ServerProcess) -> None:
    whole = S3Archive(bucket.replace("/chats/2026", ""))
    await S3Archive(bucket).put("log/a", b"x")
    assert await whole.names("", "", 10) == ["chats/2026/log/a"]


async def test_a_bucket_that_does_not_answer_refuses(key: None) -> None:
    archive = S3Archive(f"s3://bucket?endpoint=http://127.0.0.1:{free_port()}", timeout_s=0.3)
    with pytest.raises(UnavailableError) as refusal:
        await archive.get("log/a")
    assert refusal.value.retry_after_s
    assert "127.0.0.1" not in str(refusal.value)
