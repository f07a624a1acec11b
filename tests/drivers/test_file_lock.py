"""The lock of a file: one holder, until it is released; a forked child is none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatkit.drivers import file_lock as module
from chatkit.drivers import file_lock_by_inode
from chatkit.drivers.file_lock import SUFFIX, FileLock
from chatkit.errors import ConfigurationError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there is no lock on the file itself")

ACQUIRING = "import sys; from chatkit.drivers.file_lock import FileLock; print(FileLock.acquire(sys.argv[1]))"
FORKING = """
import os, sys
from chatkit.drivers.file_lock import FileLock

lock = FileLock.acquire(sys.argv[1], make=True)
other_name = sys.argv[1] + ".link"
os.link(sys.argv[1], other_name)
ready, say_ready = os.pipe()
ended, say_ended = os.pipe()
child = os.fork()
if child == 0:
    os.close(say_ended)
    os.write(say_ready, b"!")
    os.read(ended, 1)  # lives until the parent is done
    os._exit(0)
os.close(ended)
os.read(ready, 1)
assert FileLock.acquire(sys.argv[1]) is None, "the child released the parent's lock"
assert FileLock.acquire(other_name) is None, "the child released the parent's lock of the file itself"
lock.release()
again = FileLock.acquire(other_name)
os.close(say_ended)
os.waitpid(child, 0)
sys.exit(0 if again is not None else 1)
"""


def test_one_holds_it_until_it_is_released(tmp_path: Path) -> None:
    path = str(tmp_path / "a file")
    first = FileLock.acquire(path)
    assert first is not None
    assert FileLock.acquire(path) is None
    assert FileLock.acquire(path + "2") is not None
    first.release()
    second = FileLock.acquire(path)
    assert second is not None
    first.release()  # releasing twice does not take it from the next one
    assert FileLock.acquire(path) is None
    second.release()
    assert not Path(path).exists()
    assert Path(path + SUFFIX).stat().st_size == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor this lock")
def test_a_forked_child_does_not_hold_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@LINUX
def test_another_name_of_the_file_is_the_same_file(tmp_path: Path) -> None:
    path, link = str(tmp_path / "x"), str(tmp_path / "link")
    first = FileLock.acquire(path, make=True)
    assert first is not None
    os.link(path, link)
    assert FileLock.acquire(link) is None
    other = subprocess.run(
        [sys.executable, "-c", ACQUIRING, link], capture_output=True, text=True, timeout=30
    )
    assert (other.stdout, other.stderr) == ("None\n", "")
    first.release()
    second = FileLock.acquire(link)
    assert second is not None
    assert FileLock.acquire(path) is None
    second.release()


@LINUX
def test_what_is_made_is_for_its_owner_alone_and_what_is_there_stays(tmp_path: Path) -> None:
    made, there = tmp_path / "made", tmp_path / "there"
    there.write_bytes(b"words")
    there.chmod(0o640)
    for path in (made, there):
        lock = FileLock.acquire(str(path), make=True)
        assert lock is not None
        lock.release()
    assert (made.stat().st_mode & 0o777, made.read_bytes()) == (0o600, b"")
    assert (there.stat().st_mode & 0o777, there.read_bytes()) == (0o640, b"words")


def test_where_the_file_itself_has_no_lock_its_name_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> bool:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(file_lock_by_inode, "_locked", refuse)
    path, link = tmp_path / "x", tmp_path / "link"
    first = FileLock.acquire(str(path), make=True)
    link.hardlink_to(path)
    second = FileLock.acquire(str(link))
    assert first is not None
    assert second is not None
    assert FileLock.acquire(str(path)) is None
    first.release()
    second.release()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    """It is left to SQLite to refuse it; opening a device may do something."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lock = FileLock.acquire(str(pipe), make=True)
    assert lock is not None
    with pytest.raises(OSError, match="No such device or address"):  # nobody reads from it
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    lock.release()


def test_a_folder_that_is_not_there_is_a_wrong_set_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="missing/x-owner: No such file"):
        FileLock.acquire(str(tmp_path / "missing" / "x"))


def test_a_file_system_without_locks_is_a_wrong_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module, "lock_handle", refuse)
    with pytest.raises(ConfigurationError, match=r"cannot lock the file .*x-owner: No locks available"):
        FileLock.acquire(str(tmp_path / "x"))
