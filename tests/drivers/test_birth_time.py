"""When a file was made: no copy brings it along, and no change of owner, mode or names moves it."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

import pytest

from chatkit.drivers import birth_time as module
from chatkit.drivers.birth_time import birth_ns, born_ns

from ..changed_files import pass_a_tick


def test_a_missing_file_was_never_made(tmp_path: Path) -> None:
    assert born_ns(str(tmp_path / "missing")) == 0
    assert birth_ns(str(tmp_path / "missing")) == 0


def test_a_copy_is_made_when_it_is_copied(tmp_path: Path) -> None:
    file, copy = tmp_path / "file", tmp_path / "copy"
    file.touch()
    pass_a_tick(tmp_path)
    shutil.copy2(file, copy)

    assert copy.stat().st_mtime_ns == file.stat().st_mtime_ns
    assert born_ns(str(copy)) > born_ns(str(file))


def test_owner_mode_names_and_contents_leave_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    before = birth_ns(str(file))
    if not before:
        pytest.skip("this file system does not say when a file was made")
    pass_a_tick(tmp_path)
    file.chmod(0o640)
    os.chown(file, os.getuid(), os.getgid())
    (tmp_path / "name").hardlink_to(file)
    file.write_text("more")
    assert before == birth_ns(str(file)) == born_ns(str(file)) < file.stat().st_ctime_ns


class Library:
    """A C library without the call."""

    def __init__(self, name: None) -> None:
        pass


@pytest.mark.parametrize("missing", ["system", "module", "call"])
def test_where_nobody_says_it_the_last_change_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "system":
        monkeypatch.setattr(sys, "platform", "darwin")
    elif missing == "module":
        monkeypatch.setitem(sys.modules, "ctypes", None)
    else:
        monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(module, "_statx", module._statx.__wrapped__)
    file = tmp_path / "file"
    file.touch()
    assert (birth_ns(str(file)), born_ns(str(file))) == (0, file.stat().st_ctime_ns)
