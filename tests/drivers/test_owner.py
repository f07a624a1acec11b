"""The lock that stands for a file: one holder, and it ends when it is closed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from chatkit.drivers import owner as module
from chatkit.drivers.owner import SUFFIX, own
from chatkit.errors import ConfigurationError


def test_one_holds_it_until_it_is_closed(tmp_path: Path) -> None:
    path = str(tmp_path / "a file")
    first = own(path)
    assert first is not None
    assert own(path) is None
    assert own(path + "2") is not None
    first.close()
    second = own(path)
    assert second is not None
    first.close()  # closing twice does not take it from the next one
    assert own(path) is None
    second.close()
    assert not Path(path).exists()
    assert Path(path + SUFFIX).stat().st_size == 0


def test_a_folder_that_is_not_there_is_a_wrong_set_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="missing/x-owner: No such file"):
        own(str(tmp_path / "missing" / "x"))


def test_a_file_system_without_locks_is_a_wrong_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module, "_locked", refuse)
    with pytest.raises(ConfigurationError, match=r"cannot lock the file .*x-owner: No locks available"):
        own(str(tmp_path / "x"))
