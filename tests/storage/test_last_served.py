"""What counts as a log that was put back, between the end of one server and the start of the next."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from errno import ENOSPC
from pathlib import Path

import pytest

from chatkit.drivers.birth_time import birth_ns
from chatkit.drivers.file_lock import SUFFIX, FileLock
from chatkit.errors import UnavailableError
from chatkit.storage.base import next_floor
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.last_served import CLOSED_SUFFIX, LastServed, forget_last_served
from chatkit.testing.contracts.storage_commands import device, do, group, seqs

from ..changed_files import pass_a_tick
from .damage import change
from .ids import seeded_ids
from .test_sqlite import opened

Change = Callable[[Path, Path], None]
"""What is done to the folder of a log, given an older copy of that folder."""


async def serve(folder: Path, user_id: str) -> bool:
    """Serve the log once, to a new device; returns whether it counted as put back. Entries stay as they are."""
    store = await opened(str(folder / "chat.db"), threads=False)
    try:
        restored = store.restored
        if not await store.conversation_ids("", 1):
            await do(store, group("g", "ann", "bob"))
        await do(store, device(user_id))
    finally:
        await store.aclose()
    pass_a_tick(folder)
    return restored


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A folder with a log that was served twice; it got as far the first time, as its word says."""
    folder = tmp_path / "data"
    folder.mkdir()
    assert not await serve(folder, "ann")
    shutil.copytree(folder, tmp_path / "older")
    assert not await serve(folder, "bob")
    return folder


@pytest.fixture
def older(folder: Path) -> Path:
    """A copy of the folder from between the two."""
    return folder.with_name("older")


# --- what does not ---


def nothing(folder: Path, older: Path) -> None:
    """A server that merely starts again."""


def change_owner(folder: Path, older: Path) -> None:
    """As with `chown -R app /data` at the start of a container."""
    for path in (folder, *folder.iterdir()):
        os.chown(path, os.getuid(), os.getgid())


def change_mode(folder: Path, older: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o640)


def link_elsewhere(folder: Path, older: Path) -> None:
    """As a tool does that makes backups of hard links."""
    for path in folder.iterdir():
        path.with_name(path.name + ".link").hardlink_to(path)


def move_folder(folder: Path, older: Path) -> None:
    """There and back, on one disk."""
    folder.rename(folder.with_name("elsewhere")).rename(folder)


def read_it(folder: Path, older: Path) -> None:
    """As a backup that copies."""
    shutil.copytree(folder, folder.with_name("newer"))


@pytest.mark.parametrize("handle", [nothing, change_owner, change_mode, link_elsewhere, move_folder, read_it])
async def test_what_leaves_the_contents_is_no_backup(folder: Path, older: Path, handle: Change) -> None:
    if not birth_ns(str(folder / f"chat.db{CLOSED_SUFFIX}")):
        pytest.skip("this file system does not say when a file was made")
    handle(folder, older)
    assert not await serve(folder, "cat")
    assert not await serve(folder, "dan")


async def test_a_server_that_was_killed_left_its_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(LastServed, "leave", lambda self, position: None)
        await serve(folder, "cat")
    assert not await serve(folder, "dan")


# --- what does ---


def copy_log(folder: Path, older: Path) -> None:
    """As with `cp`: the same file, with older contents."""
    shutil.copyfile(older / "chat.db", folder / "chat.db")


def copy_log_with_its_times(folder: Path, older: Path) -> None:
    """As with `cp -p`."""
    shutil.copy2(older / "chat.db", folder / "chat.db")


def move_log_in(folder: Path, older: Path) -> None:
    """As with `mv` or `rsync`: another file, with the times of the older one."""
    shutil.copy2(older / "chat.db", folder / "new")
    (folder / "new").replace(folder / "chat.db")


def change_by_hand(folder: Path, older: Path) -> None:
    """Of what is in no entry, and in no audit row."""
    change(str(folder / "chat.db"), "UPDATE device SET last_seen_ms = last_seen_ms + 1")


def copy_folder(folder: Path, older: Path) -> None:
    """As with `cp`, word and all: every file stays the same one."""
    for path in older.iterdir():
        shutil.copyfile(path, folder / path.name)


def copy_folder_with_its_times(folder: Path, older: Path) -> None:
    """As with `cp -a`."""
    for path in older.iterdir():
        shutil.copy2(path, folder / path.name)


def copy_log_and_word_with_their_times(folder: Path, older: Path) -> None:
    for name in ("chat.db", f"chat.db{SUFFIX}"):
        shutil.copy2(older / name, folder / name)


def sync_folder_by_renaming(folder: Path, older: Path) -> None:
    """As with `rsync -a`."""
    for path in older.iterdir():
        shutil.copy2(path, folder / "new")
        (folder / "new").replace(folder / path.name)


def put_folder_in_place(folder: Path, older: Path) -> None:
    """As with `rm -r` and `cp -a`: files may get the numbers of those that went."""
    shutil.rmtree(folder)
    shutil.copytree(older, folder)


def move_folder_in(folder: Path, older: Path) -> None:
    folder.rename(folder.with_name("former"))
    older.rename(folder)


def lose_word(folder: Path, older: Path) -> None:
    """As on a new machine: nothing but the log."""
    (folder / f"chat.db{SUFFIX}").unlink()


PUT_BACK = [
    copy_folder,
    copy_folder_with_its_times,
    copy_log_and_word_with_their_times,
    sync_folder_by_renaming,
    put_folder_in_place,
    move_folder_in,
    move_log_in,
    lose_word,
]


@pytest.mark.parametrize("put_back", [*PUT_BACK, copy_log, copy_log_with_its_times, change_by_hand])
async def test_an_older_log_counts_as_put_back(folder: Path, older: Path, put_back: Change) -> None:
    """Also one that has as many entries: logins and cursors would go back without a word."""
    put_back(folder, older)
    assert await serve(folder, "cat")


@pytest.mark.parametrize("put_back", PUT_BACK)
async def test_an_older_log_counts_as_put_back_after_a_kill(
    folder: Path, older: Path, put_back: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put back is what was there when the killed server started."""
    shutil.rmtree(older)
    shutil.copytree(folder, older)
    with monkeypatch.context() as patch:
        patch.setattr(LastServed, "leave", lambda self, position: None)
        await serve(folder, "cat")
    put_back(folder, older)
    assert await serve(folder, "dan")


async def test_a_backup_that_is_put_back_twice_is_beyond_what_was_served_from_it(
    folder: Path, older: Path
) -> None:
    """So that no token from between the two renews it once more."""
    positions = []
    for _ in range(2):
        move_log_in(folder, older)
        store = await opened(str(folder / "chat.db"), threads=False)
        await store.confirm_restored()
        positions.append(await store.position())
        await store.aclose()
    assert positions[1] > next_floor(positions[0])


async def test_where_nobody_knows_when_a_file_was_made_every_change_counts(
    folder: Path, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatkit.drivers.birth_time.birth_ns", lambda path: 0)
    await serve(folder, "cat")  # whatever it was before
    store = await opened(str(folder / "chat.db"), threads=False)
    await store.confirm_restored()
    await store.aclose()
    assert not await serve(folder, "dan")
    pass_a_tick(folder)
    change_mode(folder, older)
    assert await serve(folder, "eve")


# --- a word that cannot be written ---


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, no lock file can be written."""

    def fill() -> None:
        def write(self: FileLock, word: bytes, *, durable: bool = False) -> None:
            raise OSError(ENOSPC, "No space left on device")

        monkeypatch.setattr(FileLock, "write", write)

    return fill


async def test_commits_and_the_close_go_on_without_the_word(
    folder: Path, full_disk: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = str(folder / "chat.db")
    store = await opened(path)
    full_disk()
    for user_id in ("cat", "dan"):
        await do(store, device(user_id))
    assert store.healthy
    await store.aclose()
    await store.aclose()

    assert caplog.text.count("cannot write beside the log") == 1, "once, and not with every commit"
    lock = FileLock.acquire(path)
    assert lock is not None
    lock.release()


async def test_what_must_reach_the_disk_is_refused_by_a_typed_error(
    folder: Path, older: Path, full_disk: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    move_log_in(folder, older)
    store = await opened(str(folder / "chat.db"))
    with monkeypatch.context():
        full_disk()
        with pytest.raises(UnavailableError, match="cannot write beside the log"):
            await store.confirm_restored()
        assert store.restored, "the next start begins again"
        await store.aclose()
        monkeypatch.undo()
    again = await opened(str(folder / "chat.db"))
    assert again.restored
    await again.confirm_restored()
    await again.aclose()

    full_disk()
    refused = SqliteStore(str(folder / "chat.db"), ids=seeded_ids())
    with pytest.raises(UnavailableError, match="No space left on device"):
        await refused.migrate()
    monkeypatch.undo()
    assert not await serve(folder, "eve")


async def test_a_close_that_fails_leaves_nothing_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(str(folder / "chat.db"))

    def fail(position: int) -> None:
        raise RuntimeError("broken")

    assert store._last_served is not None
    monkeypatch.setattr(store._last_served, "leave", fail)
    with pytest.raises(RuntimeError, match="broken"):
        await store.aclose()
    await store.aclose()
    again = await opened(str(folder / "chat.db"))
    assert await seqs(again, "g", "ann") == [1]
    await again.aclose()


# --- a place that was served ---


async def test_a_place_that_a_restore_left_without_a_log_is_said_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A power cut may leave it so, if there was no log before."""
    path = str(tmp_path / "chat.db")
    lock = FileLock.acquire(path)
    assert lock is not None
    forget_last_served(lock, path)
    lock.release()
    await (await opened(path)).aclose()
    assert caplog.text.count("one was served from this place before") == 1
    await (await opened(path)).aclose()
    assert caplog.text.count("one was served from this place before") == 1
