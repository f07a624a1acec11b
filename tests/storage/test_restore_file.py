"""`restore_file` puts all of a backup in place, or changes nothing; whatever fails, and wherever the power is cut."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from errno import EIO, EPERM
from pathlib import Path
from typing import Any

import pytest

from chatkit.client.store.sqlite import SqliteStore as ClientStore
from chatkit.drivers.file_lock import SUFFIX
from chatkit.errors import ConfigurationError
from chatkit.storage.sqlite import restore as module
from chatkit.storage.sqlite import store as store_module
from chatkit.storage.sqlite.restore import restore_file
from chatkit.storage.verify_report import Report
from chatkit.testing.contracts.storage_commands import do, group, send, seqs

from .damage import vacuum_into
from .test_sqlite import opened

KEPT = ".kept"


@pytest.fixture
async def backup(tmp_path: Path) -> str:
    """A log with one message."""
    path = str(tmp_path / "backup.sqlite")
    store = await opened(path, exclusive=False)
    await do(store, group("g", "ann", "bob"), send("g", "ann", "saved"))
    await store.aclose()
    return path


@pytest.fixture
async def place(tmp_path: Path) -> Path:
    """A log of two messages more, the newest of them in its write-ahead log, as a killed server leaves it."""
    path = tmp_path / "data" / "chat.db"
    path.parent.mkdir()
    store = await opened(str(path))
    await do(store, group("g", "ann", "bob"), send("g", "ann", "saved"), send("g", "ann", "lost"))
    await store.aclose()
    store = await opened(str(path))
    await do(store, send("g", "ann", "in the write-ahead log"))
    files = contents(path.parent)
    await store.aclose()
    for name in path.parent.iterdir():
        name.unlink()
    for name, data in files.items():
        (path.parent / name).write_bytes(data)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the shared memory, which SQLite makes anew."""
    return {it.name: it.read_bytes() for it in folder.iterdir() if not it.name.endswith("-shm")}


def messages(path: str | Path) -> int:
    """How many entries a log has, with its write-ahead log."""
    with closing(sqlite3.connect(path)) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM message")
    return int(count)


async def test_the_backup_is_in_place_and_the_former_log_is_kept_whole(backup: str, place: Path) -> None:
    restored = restore_file(backup, str(place), KEPT)
    assert restored.kept == f"{place}{KEPT}"
    assert messages(place) == 2
    assert messages(restored.kept) == 4
    assert not list(place.parent.glob("*-new"))
    word = place.with_name(place.name + SUFFIX).read_text("ascii")
    assert not word.partition(" ")[0].strip("0"), (
        "no file is the one of this word, also one that got the number of the former"
    )
    store = await opened(str(place))
    assert store.restored
    assert await seqs(store, "g", "bob") == [1, 2]
    await store.aclose()


@pytest.mark.parametrize("is_changed", [True, False])
async def test_what_was_checked_is_not_read_a_second_time_at_the_start(
    backup: str, place: Path, monkeypatch: pytest.MonkeyPatch, *, is_changed: bool
) -> None:
    """A log of gigabytes takes minutes to read; one that somebody changed since is read."""
    restore_file(backup, str(place), KEPT)
    if is_changed:
        with closing(sqlite3.connect(place)) as connection:
            connection.execute("UPDATE conversation SET title = 'changed'")
            connection.commit()
    read: list[str] = []
    whole = store_module.report_of_open

    def count(path: str) -> Report:
        read.append(path)
        return whole(path)

    monkeypatch.setattr(store_module, "report_of_open", count)
    store = await opened(str(place))
    assert store.restored
    assert read == ([str(place)] if is_changed else [])
    await store.aclose()
    await (await opened(str(place))).aclose()
    assert len(read) == is_changed + 1, (
        "a start that did not renew it begins again, and has opened the file since"
    )


async def test_a_write_ahead_log_without_its_log_is_not_played_into_the_backup(
    backup: str, place: Path
) -> None:
    place.unlink()
    assert restore_file(backup, str(place), KEPT).kept is None
    assert messages(place) == 2
    assert Path(f"{place}{KEPT}-wal").exists()


async def test_a_link_leads_to_the_backup_afterwards(backup: str, place: Path) -> None:
    link = place.parent.with_name("link.db")
    link.symlink_to(place)
    restore_file(backup, str(link), KEPT)
    assert link.readlink() == place
    assert messages(place) == 2


async def test_a_backup_without_a_write_ahead_log_is_taken(backup: str, place: Path, tmp_path: Path) -> None:
    """As VACUUM INTO makes it."""
    copied = str(tmp_path / "vacuumed.sqlite")
    vacuum_into(backup, copied)
    restore_file(copied, str(place), KEPT)
    store = await opened(str(place))
    assert store.restored
    assert await seqs(store, "g", "bob") == [1, 2]
    await store.aclose()


async def test_a_log_may_be_put_in_its_own_place(place: Path) -> None:
    """Its clients compare what they hold with it then."""
    restore_file(str(place), str(place), KEPT)
    assert messages(place) == messages(f"{place}{KEPT}") == 4
    store = await opened(str(place))
    assert store.restored
    await store.aclose()


async def test_a_log_that_is_served_under_another_name_is_not_replaced(backup: str, place: Path) -> None:
    link = place.with_name("link.db")
    server = await opened(str(place))
    link.hardlink_to(place)
    with pytest.raises(ConfigurationError, match="stop it first"):
        restore_file(backup, str(link), KEPT)
    await do(server, send("g", "ann", "still"))
    await server.aclose()


# --- whose it is ---


def owner(path: str | Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


async def test_the_mode_of_the_former_log_stays(backup: str, place: Path) -> None:
    place.chmod(0o640)
    restore_file(backup, str(place), KEPT)
    assert owner(place) == (os.geteuid(), place.stat().st_gid, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("has_log", [True, False])
async def test_who_served_the_place_can_serve_the_backup(backup: str, place: Path, *, has_log: bool) -> None:
    """Without a log it is whose the folder is; the lock file is new then, too."""
    os.chown(place.parent, 1234, 1235)
    for path in place.parent.iterdir():
        path.chmod(0o640)
        os.chown(path, 1234, 1236)
        if not has_log:
            path.unlink()
    restore_file(backup, str(place), KEPT)
    assert owner(place) == ((1234, 1236, 0o640) if has_log else (1234, 1235, 0o600))
    assert owner(f"{place}{SUFFIX}")[:2] == (1234, 1236 if has_log else 1235)


async def test_a_log_that_cannot_be_given_to_its_owner_is_not_replaced(
    backup: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with another user than root."""
    before = contents(place.parent)

    def refuse(handle: int, user: int, group: int) -> None:
        raise PermissionError(EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(ConfigurationError, match=f"the log is of user {place.stat().st_uid} and group"):
        restore_file(backup, str(place), KEPT)
    assert contents(place.parent) == before


# --- what is in the place ---


def a_pipe(place: Path) -> None:
    os.mkfifo(place)


def a_folder(place: Path) -> None:
    place.mkdir()


def a_lock_file(place: Path) -> None:
    place.write_bytes(place.with_name(place.name + SUFFIX).read_bytes())


def another_programs_file(place: Path) -> None:
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("CREATE TABLE thing (name TEXT)")


def a_clients_file(place: Path) -> None:
    ClientStore(str(place)).close()


@pytest.mark.parametrize("make", [a_pipe, a_folder, a_lock_file, another_programs_file, a_clients_file])
async def test_what_is_no_log_is_not_replaced(backup: str, place: Path, make: Callable[[Path], None]) -> None:
    other = place.with_name("other")
    place.with_name(place.name + SUFFIX).rename(f"{other}{SUFFIX}")
    make(other)
    before = set(place.parent.iterdir()), other.stat().st_ino
    with pytest.raises(ConfigurationError, match=f"{other} is (a folder|no regular file|no server's log)"):
        restore_file(backup, str(other), KEPT)
    assert (set(place.parent.iterdir()), other.stat().st_ino) == before


def cut_off(data: bytes) -> bytes:
    return data[:50]


def emptied(data: bytes) -> bytes:
    return b""


def zeroed_after_its_header(data: bytes) -> bytes:
    return data[:100] + bytes(len(data) - 100)


@pytest.mark.parametrize("damage", [cut_off, emptied, zeroed_after_its_header])
async def test_a_damaged_log_is_replaced(backup: str, place: Path, damage: Callable[[bytes], bytes]) -> None:
    place.write_bytes(damage(place.read_bytes()))
    restore_file(backup, str(place), KEPT)
    assert messages(place) == 2


async def test_a_log_that_is_all_in_its_write_ahead_log_is_one(backup: str, tmp_path: Path) -> None:
    """As a server leaves it that was killed soon after its first start."""
    served, place = tmp_path / "served.db", tmp_path / "place.db"
    store = await opened(str(served))
    for suffix in ("", "-wal"):
        Path(f"{place}{suffix}").write_bytes(Path(f"{served}{suffix}").read_bytes())
    await store.aclose()
    assert place.read_bytes()[68:72] == bytes(4), "its header does not say whose it is"
    restore_file(backup, str(place), KEPT)
    assert messages(place) == 2


# --- what fails ---

STEPS = ("os.fchmod", "os.link", "sync_folder", "forget_last_served", "os.unlink", "os.replace")


class Failing:
    """Fails at one call of a function, and at no other."""

    def __init__(self, function: Callable[..., Any], nth: int) -> None:
        self._function = function
        self._left = nth

    def __call__(self, *args: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise OSError(EIO, "Input/output error")
        return self._function(*args)

    @property
    def has_failed(self) -> bool:
        return self._left <= 0


@pytest.mark.parametrize("has_log", [True, False])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_fails_changes_nothing(
    backup: str, place: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int, *, has_log: bool
) -> None:
    if not has_log:
        for path in place.parent.iterdir():
            path.unlink()
        place.with_name(place.name + SUFFIX).touch()
    before = contents(place.parent)
    owner, _, name = step.rpartition(".")
    target = os if owner else module
    failing = Failing(getattr(target, name), nth)
    with monkeypatch.context() as patch:
        patch.setattr(target, name, failing)
        with suppress(ConfigurationError):
            restore_file(backup, str(place), KEPT)
            assert not failing.has_failed, "it was said that all is in place"
            return
    assert contents(place.parent) == before


class PowerCutError(BaseException):
    """Nothing is done any more."""


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("step", STEPS)
async def test_a_power_cut_leaves_a_log_that_is_whole_or_counts_as_put_back(
    backup: str, place: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    """Each step is taken for durable once it is done."""
    former = messages(place)
    owner, _, name = step.rpartition(".")
    target = os if owner else module
    function, calls = getattr(target, name), []

    def cut(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == nth:
            raise PowerCutError
        return function(*args)

    with monkeypatch.context() as patch:
        patch.setattr(target, name, cut)
        patch.setattr(module, "ExitStack", Forgetful)
        with suppress(PowerCutError):
            restore_file(backup, str(place), KEPT)
    store = await opened(str(place))
    held = len(await seqs(store, "g", "ann"))
    assert store.restored or held == former
    await store.aclose()
    if held != former:
        assert messages(f"{place}{KEPT}") == former


class Forgetful:
    """Takes nothing back."""

    def __enter__(self) -> Forgetful:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def callback(self, *args: object, **options: object) -> None:
        pass

    def pop_all(self) -> None:
        pass
