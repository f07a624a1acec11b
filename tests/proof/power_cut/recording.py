"""A disk for SQLite that works as usual and takes down every change, in order; and that can be made to fail.

The files are real ones: SQLite's own unix VFS reads and writes them, this module only listens. Shared memory (`-shm`)
and unnamed temporary files are no durable state and pass by. One process may have several connections on one disk.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import apsw
import msgspec


class Found(msgspec.Struct, frozen=True):
    """A file that was there before; all of it is durable."""

    file: int
    name: str
    content: bytes


class Created(msgspec.Struct, frozen=True):
    """A new, empty file got a name."""

    file: int
    name: str


class Wrote(msgspec.Struct, frozen=True):
    """Bytes went into a file."""

    file: int
    offset: int
    data: bytes


class Truncated(msgspec.Struct, frozen=True):
    """A file was cut to a size in bytes, or grew to it."""

    file: int
    size: int


class Synced(msgspec.Struct, frozen=True):
    """A file's content is durable; with `folder`, so are all names in its folder."""

    file: int
    folder: bool


class SyncFailed(msgspec.Struct, frozen=True):
    """A sync of a file was tried and ended with an error."""

    file: int


class Deleted(msgspec.Struct, frozen=True):
    """A name is gone; with `folder`, that is durable, and so are all names in its folder."""

    name: str
    folder: bool


Operation = Found | Created | Wrote | Truncated | Synced | SyncFailed | Deleted

FileCall = Literal["open", "read", "write", "truncate", "sync", "delete"]


class Fault(msgspec.Struct, frozen=True):
    """How one call fails.

    Attributes:
        code: SQLite's (extended) result code. SQLITE_IOERR_FSYNC: the disk tried a sync and could not; with any other
            code it was never asked.
        share: Of a write: how much of its bytes reach the file nevertheless, from 0 to 1.
    """

    code: int
    share: float = 0.0


Faults = Callable[[FileCall, str], Fault | None]
"""Asked before every call with its kind and the file's name; None lets it pass."""


class FailAt:
    """`Faults` that let the n-th call of a kind fail, counted from now on.

    Args:
        call: Which calls are counted; None counts them all.
        n: From 1.
        fault: What happens to it.
        lasting: Whether all later ones fail too.

    Attributes:
        struck: Whether there was an n-th call.
    """

    def __init__(self, call: FileCall | None, n: int, fault: Fault, *, lasting: bool = False) -> None:
        self._call = call
        self._left = n
        self._fault = fault
        self._lasting = lasting
        self.struck = False

    def __call__(self, call: FileCall, name: str) -> Fault | None:
        """The fault, if it is this call's turn."""
        if self._call not in (None, call):
            return None
        self._left -= 1
        is_turn = self._left <= 0 if self._lasting else self._left == 0
        self.struck = self.struck or is_turn
        return self._fault if is_turn else None


class RecordedDisk:
    """Real files under SQLite, and the journal of what changed them.

    Args:
        folder: Where all files are; what is in it now is taken as durable.

    Attributes:
        vfs_name: The name under which SQLite knows this disk, as long as the object lives.
        journal: Every operation so far, in order.
        faults: What fails from now on; None if nothing does.
    """

    _numbers = count(1)

    def __init__(self, folder: Path) -> None:
        self.vfs_name = f"chatkit-recorded-{next(self._numbers)}"
        self.journal: list[Operation] = []
        self.faults: Faults | None = None
        self._files: dict[str, int] = {}
        self._file_numbers = count(1)
        self._vfs = _Vfs(self)
        for path in sorted(folder.iterdir()):
            self._files[path.name] = next(self._file_numbers)
            self.journal.append(Found(self._files[path.name], path.name, path.read_bytes()))

    def check(self, call: FileCall, path: str) -> None:
        """Let a call fail if a fault is due. Raises the error of apsw that says so."""
        fault = self.fault(call, path)
        if fault is not None:
            raise failure(fault.code)

    def fault(self, call: FileCall, path: str) -> Fault | None:
        """The fault that is due at this call, if any."""
        return None if self.faults is None else self.faults(call, Path(path).name)

    def opened(self, path: str) -> int:
        """The number of a file that has this name now; a new one is noted."""
        name = Path(path).name
        if name not in self._files:
            self._files[name] = next(self._file_numbers)
            self.journal.append(Created(self._files[name], name))
        return self._files[name]

    def write_anew(self, path: str) -> None:
        """Note that a file was written once more, in place, and synced with its folder; nothing if it is not there."""
        file = Path(path)
        if file.exists():
            self.check("write", path)
            number = self.opened(path)
            self.journal.append(Wrote(number, 0, file.read_bytes()))
            self.check("sync", path)
            self.journal.append(Synced(number, True))

    def deleted(self, path: str, folder: bool) -> None:
        """Note that a name is gone."""
        name = Path(path).name
        del self._files[name]
        self.journal.append(Deleted(name, folder))


def failure(code: int) -> Exception:
    """The error of apsw that makes SQLite see this result code."""
    error = apsw.exception_for(code)
    error.args = (f"a planted fault, result code {code}",)
    return error


class _Vfs(apsw.VFS):
    def __init__(self, disk: RecordedDisk) -> None:
        super().__init__(disk.vfs_name, "")
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 -- apsw's name
        if name is None:
            return super().xOpen(name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk.check("open", path)
        return _File(self._disk, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 -- apsw's name
        self._disk.check("delete", filename)
        super().xDelete(filename, syncdir)
        self._disk.deleted(filename, syncdir)


_SYNCS_FOLDER: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
"""Files with whose first sync SQLite's unix VFS also syncs the folder, if it opened them to create them."""


class _File(apsw.VFSFile):
    def __init__(self, disk: RecordedDisk, path: str, name: str | apsw.URIFilename, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._path = path
        self._number = disk.opened(path)
        self._syncs_folder = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _SYNCS_FOLDER)

    def excepthook(self, etype: Any, evalue: Any, etraceback: Any) -> bool:
        """A planted fault that SQLite has passed over on purpose is nobody's error."""
        return isinstance(evalue, apsw.Error) or super().excepthook(etype, evalue, etraceback)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 -- apsw's name
        self._disk.check("read", self._path)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 -- apsw's name
        fault = self._disk.fault("write", self._path)
        part = data if fault is None else data[: int(len(data) * fault.share)]
        if part:
            super().xWrite(part, offset)
            self._disk.journal.append(Wrote(self._number, offset, bytes(part)))
        if fault is not None:
            raise failure(fault.code)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 -- apsw's name
        self._disk.check("truncate", self._path)
        super().xTruncate(newsize)
        self._disk.journal.append(Truncated(self._number, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 -- apsw's name
        fault = self._disk.fault("sync", self._path)
        if fault is not None:
            if fault.code == apsw.SQLITE_IOERR_FSYNC:
                self._disk.journal.append(SyncFailed(self._number))
            raise failure(fault.code)
        super().xSync(flags)
        self._disk.journal.append(Synced(self._number, self._syncs_folder))
        self._syncs_folder = False
