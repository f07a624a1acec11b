"""A download on its way into a file: what there is of it lies beside the target until it is whole. Used by `media`."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from ..drivers.file_lock import lock_handle
from ..errors import BadRequestError, ConfigurationError
from ._files import BLOCK_BYTES

_Result = TypeVar("_Result")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_OWN_MAX = 1_000


class Part:
    """A file beside its target, which takes the target's place once it is whole.

    What is there is gone on with, by another process too: the name says of which file and for which target it is. One
    download at a time has that part, by a lock that ends with the process; a second one of the same file to the same
    target has a part of its own, which nobody goes on with; if its process is killed, the next download removes it.

    Args:
        target: Where the file is to be.
        blob_id: The file.
    """

    def __init__(self, target: Path, blob_id: str) -> None:
        self._target = target
        self._stem = hashlib.sha256(f"{target.name}\0{blob_id}".encode("utf-8", "surrogatepass")).hexdigest()
        self._path = self._named("")
        self._handle: int | None = None
        self._is_shared = True
        self.received = 0

    async def open(self) -> None:
        """Take the part, before anything is fetched.

        Raises:
            ConfigurationError: The target is a folder, or nothing can be written beside it.
            BadRequestError: No file can have this name.
        """
        await self._do(self._open)

    async def begin(self, size: int) -> None:
        """Learn how much is there of a file of this size; more than that is not of it, and goes."""
        self.received = await self._do(lambda: os.fstat(self._opened).st_size)
        if self.received > size:
            await self.restart()

    async def restart(self) -> None:
        """Forget what is there."""
        await self._do(lambda: os.ftruncate(self._opened, 0))
        self.received = 0

    async def write(self, chunk: bytes) -> None:
        """Add bytes. Raises ConfigurationError; what was written by then stays."""
        await self._do(lambda: _write(self._opened, chunk))
        self.received += len(chunk)

    async def digest(self) -> str:
        """What the server calls the file by, made of all that is there: also of what an earlier process wrote."""
        return await self._do(self._digest)

    def _digest(self) -> str:
        os.lseek(self._opened, 0, os.SEEK_SET)  # what is written goes to the end all the same
        return digest_of(iter(lambda: os.read(self._opened, BLOCK_BYTES), b""))

    async def done(self) -> Path:
        """Put the whole file in the place of the target. Raises ConfigurationError."""
        await self._do(self._place)
        self._let_go()
        return self._target

    def _place(self) -> None:
        if os.fstat(self._opened).st_size != self.received:
            raise OSError("somebody else wrote into it meanwhile")
        self._path.replace(self._target)

    def close(self, *, forget: bool) -> None:
        """Let others go on with it, or remove it: with `forget`, and where nobody could. A second call does nothing."""
        if self._handle is None:
            return
        if forget or not self._is_shared or not os.fstat(self._handle).st_size:
            with suppress(OSError):  # it must not hide what went wrong before
                self._path.unlink()
        self._let_go()

    @property
    def _opened(self) -> int:
        assert self._handle is not None
        return self._handle

    def _let_go(self) -> None:
        handle, self._handle = self._opened, None
        os.close(handle)

    def _named(self, own: str) -> Path:
        """A hidden name of bounded length: it fits wherever the target's does."""
        return self._target.with_name(f".{self._stem[:32]}{own}.part")

    def _open(self) -> None:
        if _is_folder(self._target):
            raise IsADirectoryError("it is a folder")
        self._collect()
        if not self._took():
            self._make_own()

    def _collect(self) -> None:
        """Remove the own parts of downloads of this file to this target whose process was killed: nobody has their
        locks, and nobody would go on with them."""
        for path in self._target.parent.glob(f".{self._stem[:32]}.*.part"):
            with suppress(OSError):
                handle = os.open(path, _FLAGS & ~os.O_CREAT)
                try:
                    if _is_locked(handle) and _is_at(handle, path):
                        path.unlink()
                finally:
                    os.close(handle)

    def _make_own(self) -> None:
        self._is_shared = False
        for number in range(1, _OWN_MAX + 1):
            self._path = self._named(f".{number}")
            with suppress(FileExistsError):
                handle = os.open(self._path, _FLAGS | os.O_EXCL, 0o666)
                if _stays(handle, self._path):
                    self._handle = handle
                    return
                os.close(handle)
        raise OSError("too many downloads of this file to it")

    def _took(self) -> bool:
        """Whether the part that others can go on with is ours now."""
        handle = os.open(self._path, _FLAGS, 0o666)
        try:
            if _is_locked(handle) and _is_at(handle, self._path):
                self._handle, handle = handle, -1
                return True
        finally:
            if handle >= 0:
                os.close(handle)
        return False

    async def _do(self, work: Callable[[], _Result]) -> _Result:
        try:
            return await anyio.to_thread.run_sync(work)
        except OSError as error:
            raise ConfigurationError(f"cannot write {self._target}: {error.strerror or error}") from None
        except ValueError:
            raise BadRequestError("to: no file can have this name") from None


def _is_folder(path: Path) -> bool:
    """Raises OSError where no file can have this name, such as one that is too long."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _is_locked(handle: int) -> bool:
    try:
        return lock_handle(handle)
    except OSError:  # a file system without locks
        return False


def _stays(handle: int, path: Path) -> bool:
    """Whether nobody took a new part for one whose process was killed. Where there are no locks, nobody does."""
    try:
        return lock_handle(handle) and _is_at(handle, path)
    except OSError:
        return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether the file still has this name: who had its lock before may have put it in the place of its target."""
    found = os.fstat(handle)
    try:
        return os.path.samestat(found, path.lstat()) and stat.S_ISREG(found.st_mode)
    except FileNotFoundError:
        return False


def digest_of(blocks: Iterable[bytes | memoryview]) -> str:
    """The SHA-256 of the SHA-256s of all blocks of `BLOCK_BYTES`, in hex."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(hashlib.sha256(block).digest())
    return digest.hexdigest()


def _write(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]
