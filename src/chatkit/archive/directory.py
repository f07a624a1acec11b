"""The archive in a folder of this machine, or one that is mounted. Needs nothing else.

Written by hand: obstore's LocalStore (0.12.1) returns from a put before anything is on the disk, and gives files the
mode that the umask leaves. Here a file is synced, renamed into its place, and the folder synced, before a put returns.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from ..errors import ConfigurationError, UnavailableError
from ..ports import SystemClock
from . import base

_Result = TypeVar("_Result")

_THREADS: Final = 8
_TEMPORARY: Final = ".writing-"
"""Begins the names of files that are being written; no object's name begins with a dot."""
_LEFT_MS: Final = 600_000
"""Who wrote a file last so long ago was killed. One who was not is refused, and tries again."""


class DirectoryArchive:
    """`archive.base.ArchiveStore` in a folder, made if it is missing; for this user alone (0700, files 0600).

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = Path(path)
        self._limit: anyio.CapacityLimiter | None = None
        self._closed = False

    async def put(self, name: str, data: bytes) -> None:
        """Write an object and sync it."""
        base.check_name(name)
        base.check_size(len(data))
        await self._run(lambda: _write(self._root, name, data))

    async def get(self, name: str) -> bytes:
        """The bytes of an object."""
        base.check_name(name)
        return await self._run(lambda: _read(self._root / name, name))

    async def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Names that begin with a prefix, ascending."""
        base.check_prefix(prefix)
        return await self._run(lambda: _names(self._root, prefix, after, min(limit, base.LIST_MAX)))

    async def delete(self, name: str) -> None:
        """Remove an object, and its folder if nothing else is in it but what a process that was killed left."""
        base.check_name(name)
        await self._run(lambda: _delete(self._root, name))

    async def aclose(self) -> None:
        """Take nothing more."""
        self._closed = True

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        """In a thread; a caller that gives up leaves it to end."""
        if self._closed:
            raise base.closed()
        if self._limit is None:
            self._limit = anyio.CapacityLimiter(_THREADS)
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limit, abandon_on_cancel=True)
        except OSError as error:
            if isinstance(error, PermissionError) or error.errno == errno.EROFS:
                raise ConfigurationError(
                    f"the archive {self._root} does not let this program in: {error.strerror}"
                ) from None
            if (file := self._no_folder()) is not None:
                raise ConfigurationError(
                    f"the archive {self._root} cannot be a folder: {file} is none"
                ) from None
            raise UnavailableError(
                f"the archive refused: {error.strerror or type(error).__name__}",
                retry_after_s=base.RETRY_AFTER_S,
            ) from error

    def _no_folder(self) -> Path | None:
        """What stands where the folder or one above it should be; None if nothing does."""
        return next((it for it in (self._root, *self._root.parents) if it.exists() and not it.is_dir()), None)


def _write(root: Path, name: str, data: bytes) -> None:
    target = root / name
    _make_folder(target.parent)
    handle, name_now = tempfile.mkstemp(prefix=_TEMPORARY, dir=target.parent)  # 0600
    temporary = Path(name_now)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(target.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durable before the next."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            base.check_size(os.fstat(file.fileno()).st_size)
            return file.read(base.OBJECT_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise base.missing(name) from None


def _delete(root: Path, name: str) -> None:
    path = root / name
    try:
        path.unlink()
    except FileNotFoundError:
        if not path.parent.is_dir():
            return
    except (NotADirectoryError, IsADirectoryError):
        return
    _remove_left(path.parent)
    for folder in path.parents[: name.count("/")]:  # the root is the operator's: it stays as they made it
        try:
            folder.rmdir()
        except OSError:  # something else is in it
            break
    if path.parent.is_dir():
        _sync(path.parent)


def _remove_left(folder: Path) -> None:
    """Remove what was never written to its end, once it is all that is there."""
    before_ms = SystemClock().now_ms() - _LEFT_MS
    with suppress(FileNotFoundError):  # somebody else removed it, or it is in its place now
        with os.scandir(folder) as found:
            left = list(takewhile(lambda it: it.name.startswith(_TEMPORARY), found))
        for file in left:
            if file.stat().st_mtime * 1000 < before_ms:
                os.unlink(file)


def _names(root: Path, prefix: str, after: str, limit: int) -> list[str]:
    names: list[str] = []
    for name in _walk(root, prefix):
        if len(names) == limit:
            break
        if name > after:
            names.append(name)
    return names


def _walk(root: Path, prefix: str) -> Iterator[str]:
    """All names in a folder, ascending by their bytes: a folder stands where its name with a slash does."""
    try:
        found = [
            it.name + "/" * it.is_dir() for it in os.scandir(root / prefix) if not it.name.startswith(".")
        ]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in sorted(found):
        if name.endswith("/"):
            yield from _walk(root, prefix + name)
        else:
            yield prefix + name
