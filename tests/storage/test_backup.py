"""`backup_file` makes a whole copy of one moment, or nothing has the name of the backup; whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from errno import EIO
from pathlib import Path
from typing import Any

import pytest

from chatkit.drivers import sqlite as driver
from chatkit.drivers.file_lock import SUFFIX, lock_handle
from chatkit.errors import ConfigurationError, UnavailableError
from chatkit.storage.sqlite import backup as module
from chatkit.storage.sqlite.backup import PARTIAL_SUFFIX, BackedUp, DamagedLogError, backup_file
from chatkit.storage.sqlite.last_served import CLOSED_SUFFIX
from chatkit.storage.sqlite.restore import restore_file
from chatkit.storage.sqlite.verify import full_report
from chatkit.storage.verify_report import Progress
from chatkit.testing.contracts.storage_commands import do, group, send, seqs

from .damage import SECRET, change, damage_bytes, make_log, with_old_page_zeroed
from .test_sqlite import opened


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = str(tmp_path / "chat.db")
    make_log(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where backups go."""
    made = tmp_path / "backups"
    made.mkdir()
    return made


@pytest.fixture
def target(folder: Path) -> str:
    return str(folder / "backup.db")


@pytest.fixture
def page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_PAGES_PER_STEP", 1)


def titles(path: str) -> list[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return [title for (title,) in connection.execute("SELECT title FROM conversation ORDER BY 1")]


# --- what a backup is ---


def test_all_of_the_log_is_in_one_private_file(log: str, target: str, folder: Path) -> None:
    made = backup_file(log, target)
    assert made == BackedUp(target, os.path.getsize(target), True, 2, 307)
    assert full_report(target).whole
    assert os.listdir(folder) == ["backup.db"]
    found = os.stat(target)
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())


def test_the_log_is_not_changed(log: str, target: str) -> None:
    before = Path(log).read_bytes()
    backup_file(log, target)
    assert Path(log).read_bytes() == before


async def test_what_is_in_the_write_ahead_log_is_in_the_backup(tmp_path: Path, target: str) -> None:
    path = str(tmp_path / "served.db")
    store = await opened(path)
    await do(store, group("g", "ann", "bob"), send("g", "ann", "k"))
    done = subprocess.run([sys.executable, "-c", _BACKUP, path, target], check=False)
    await store.aclose()
    assert done.returncode == 0
    copy = await opened(target)
    assert await seqs(copy, "g", "bob") == [1, 2]
    await copy.aclose()


_BACKUP = "import sys; from chatkit.storage.sqlite.backup import backup_file; backup_file(*sys.argv[1:])"


@pytest.mark.usefixtures("page_by_page")
def test_it_is_of_one_moment_and_ends_although_each_step_finds_the_log_changed(log: str, target: str) -> None:
    before, writer = titles(log), sqlite3.connect(log, isolation_level=None)
    copied: list[Progress] = []

    def write(step: Progress) -> None:
        if step.stage == "copy":
            copied.append(step)
            writer.execute("UPDATE conversation SET title = title || 'x'")

    with closing(writer):
        backup_file(log, target, on_step=write)

    assert titles(target) == before
    assert titles(log) != before
    assert [it.done for it in copied] == sorted({it.done for it in copied})
    assert (copied[0].done, copied[-1].done) == (0, copied[-1].total)
    assert len(copied) > 50


def test_it_can_be_read_where_nothing_can_be_written(log: str, target: str, folder: Path) -> None:
    """As on a disk that is mounted for reading: a file in WAL mode could not be opened there."""
    backup_file(log, target)
    with closing(sqlite3.connect(f"file:{target}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert os.listdir(folder) == ["backup.db"]


async def test_it_is_restored(log: str, target: str, tmp_path: Path) -> None:
    backup_file(log, target)
    place = str(tmp_path / "other.db")
    restore_file(target, place, ".kept")
    store = await opened(place)
    assert store.restored
    await store.aclose()


def test_a_check_can_be_left_out(log: str, target: str) -> None:
    change(log, "DELETE FROM device_exact")
    assert backup_file(log, target, verify=False) == BackedUp(target, os.path.getsize(target), False, 0, 0)


# --- where it may go ---


def test_a_name_that_is_taken_is_left_alone(log: str, target: str) -> None:
    Path(target).write_bytes(b"precious")
    with pytest.raises(ConfigurationError, match="is there already"):
        backup_file(log, target)
    with pytest.raises(ConfigurationError, match="is no backup of a log"):
        backup_file(log, target, replace=True)
    assert Path(target).read_bytes() == b"precious"


def test_an_older_backup_is_replaced_on_demand(log: str, target: str) -> None:
    backup_file(log, target)
    change(log, "UPDATE conversation SET title = 'newer'")
    backup_file(log, target, replace=True)
    assert titles(target) == ["newer", "newer"]


@pytest.mark.parametrize("replace", [True, False])
def test_the_log_itself_is_no_place_under_any_name(log: str, folder: Path, *, replace: bool) -> None:
    link = folder / "link.db"
    link.symlink_to(log)
    for name in (log, str(link)):
        with pytest.raises(ConfigurationError, match="is the log itself"):
            backup_file(log, name, replace=replace)


@pytest.mark.parametrize("suffix", [SUFFIX, CLOSED_SUFFIX])
def test_the_place_of_a_server_is_no_place(log: str, target: str, suffix: str) -> None:
    """Swapped names must not put an old log in the place of the newest one, unnoticed."""
    backup_file(log, target)
    Path(target + suffix).touch()
    with pytest.raises(ConfigurationError, match="is the place of a server's log"):
        backup_file(log, target, replace=True)


def linked(partial: Path, elsewhere: Path) -> None:
    partial.symlink_to(elsewhere)


def of_two_names(partial: Path, elsewhere: Path) -> None:
    partial.hardlink_to(elsewhere)


@pytest.mark.parametrize("plant", [linked, of_two_names])
def test_nobody_can_make_it_write_elsewhere(
    log: str, target: str, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    """In a folder for everybody, such as /tmp."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    plant(Path(target + PARTIAL_SUFFIX), elsewhere)
    with pytest.raises(ConfigurationError):
        backup_file(log, target)
    assert elsewhere.read_bytes() == b"precious"


def test_two_do_not_write_to_one_name(log: str, target: str) -> None:
    other = os.open(target + PARTIAL_SUFFIX, os.O_RDWR | os.O_CREAT)
    assert lock_handle(other)
    with pytest.raises(ConfigurationError, match="another backup is just being written"):
        backup_file(log, target)
    os.close(other)
    assert backup_file(log, target).verified


def test_a_disk_without_room_is_told_of_before(
    log: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.statvfs_result((4096, 4096, 1000, 10, 10, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(UnavailableError, match="has 0 MiB free, and it needs 1 MiB"):
        backup_file(log, target)
    assert not os.path.exists(target)


# --- a log that is damaged ---


def rows_deleted(log: str) -> None:
    change(log, "DELETE FROM message WHERE conversation_key = 2 AND seq = 50")


def page_zeroed(log: str) -> None:
    damage_bytes(log, with_old_page_zeroed)


def half_of_it(log: str) -> None:
    damage_bytes(log, lambda data: data[: len(data) // 2])


@pytest.mark.parametrize("damage", [rows_deleted, page_zeroed, half_of_it])
def test_of_a_damaged_log_there_is_no_backup_and_the_older_one_stays(
    log: str, target: str, folder: Path, damage: Callable[[str], None]
) -> None:
    backup_file(log, target)
    before = Path(target).read_bytes()
    damage(log)
    with pytest.raises(DamagedLogError) as caught:
        backup_file(log, target, replace=True)
    assert SECRET not in str(caught.value)
    assert os.listdir(folder) == ["backup.db"]
    assert Path(target).read_bytes() == before


# --- what fails, and what is broken off ---

STEPS = ("ftruncate", "fchmod", "fsync", "replace")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.usefixtures("page_by_page")
def test_a_step_that_fails_leaves_nothing(
    log: str, target: str, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fails(*args: Any, **options: Any) -> None:
        raise OSError(EIO, "Input/output error")

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(ConfigurationError, match="Input/output error"):
        backup_file(log, target)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("stage", ["copy", "conversations"])
@pytest.mark.usefixtures("page_by_page")
def test_ctrl_c_leaves_nothing(log: str, target: str, folder: Path, stage: str) -> None:
    def interrupt(step: Progress) -> None:
        if step.stage == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup_file(log, target, on_step=interrupt)
    assert os.listdir(folder) == []


_KILLED = """
import os, signal, sys
from chatkit.drivers import sqlite
from chatkit.storage.sqlite import backup

sqlite._PAGES_PER_STEP = 1
stage, log, target = sys.argv[1:]

def kill(step):
    if step.stage == stage and step.done:
        os.kill(os.getpid(), signal.SIGKILL)

backup.backup_file(log, target, on_step=kill)
"""


@pytest.mark.parametrize("stage", ["copy", "messages"])
def test_what_a_kill_leaves_has_another_name_and_is_taken_over(
    log: str, target: str, folder: Path, stage: str
) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, stage, log, target], check=False)
    assert done.returncode == -signal.SIGKILL
    assert "backup.db.partial" in os.listdir(folder)
    assert "backup.db" not in os.listdir(folder)
    assert backup_file(log, target).verified
    assert os.listdir(folder) == ["backup.db"]


def test_it_has_its_name_once_it_is_on_the_disk_and_the_name_too(
    log: str, target: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        what = os.readlink(f"/proc/self/fd/{handle}")
        done.append(f"sync {'partial' if what == target + PARTIAL_SUFFIX else what}")
        fsync(handle)

    def replaced(source: str, to: str) -> None:
        done.append("replace")
        replace(source, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    backup_file(log, target)
    assert done == ["sync partial", "replace", f"sync {folder}"]


def test_another_that_renames_the_file_first_keeps_it(
    log: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one ends between the opening and the locking of its file: that is the finished backup then."""
    partial = target + PARTIAL_SUFFIX
    Path(partial).write_bytes(b"whole")

    def late(handle: int) -> bool:
        os.replace(partial, target)
        return lock_handle(handle)

    monkeypatch.setattr(module, "lock_handle", late)
    with pytest.raises(ConfigurationError, match="another backup"):
        backup_file(log, target)
    assert Path(target).read_bytes() == b"whole"
