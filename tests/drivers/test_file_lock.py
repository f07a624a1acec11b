"""The lock of a file: one holder, until it is released; a forked child is none."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from chatkit.drivers import file_lock as module
from chatkit.drivers.file_lock import SUFFIX, FileLock
from chatkit.errors import ConfigurationError

FORKING = """
import os, sys
from chatkit.drivers.file_lock import FileLock

lock = FileLock.acquire(sys.argv[1])
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
lock.release()
again = FileLock.acquire(sys.argv[1])
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


def test_a_folder_that_is_not_there_is_a_wrong_set_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="missing/x-owner: No such file"):
        FileLock.acquire(str(tmp_path / "missing" / "x"))


def test_a_file_system_without_locks_is_a_wrong_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module, "_locked", refuse)
    with pytest.raises(ConfigurationError, match=r"cannot lock the file .*x-owner: No locks available"):
        FileLock.acquire(str(tmp_path / "x"))
