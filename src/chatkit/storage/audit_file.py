"""An export of the audit: a file of JSON lines that only grows. Used by `chatkit audit export` and `verify --against`.

Each line is a row (`audit.AuditRow`) or a head, `{"head": {...}}`, which ends each run: how many rows stand above it,
the number of the last one, and one digest over all of them in order. What is kept of a head elsewhere says later
whether the rows up to it are still the same, in the file and in the log.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import IO, Final

import msgspec

from ..core.log.audit import ChainedAct, RunningDigest, detail_text
from ..errors import ConfigurationError
from .audit import EVERYTHING, AuditReader, AuditRow
from .verify_report import Progress, Report

ROWS_PER_READ: Final = 1_000
_LINE_BYTES_MAX: Final = 65_536
_NO_END: Final = 2**63 - 1


class ExportHead(msgspec.Struct, frozen=True, rename="camel"):
    """What ends a run of an export.

    Attributes:
        audit_id: Number of the last row; nothing that is committed later has this number or a lower one.
        rows: How many there are up to it, of all runs.
        digest: In hex, over all of them in order.
        exported_ms: When.
    """

    audit_id: int
    rows: int
    digest: str
    exported_ms: int


class _HeadLine(msgspec.Struct, forbid_unknown_fields=True):
    head: ExportHead


class Tally:
    """Rows in order, as they are counted and digested.

    Attributes:
        last: The last one; None at first.
        audit_id: Its number.
        rows: How many.
    """

    def __init__(self) -> None:
        self.last: AuditRow | None = None
        self.audit_id = self.rows = 0
        self._digest = RunningDigest()

    def add(self, row: AuditRow) -> None:
        """Take the next one."""
        self.last, self.audit_id, self.rows = row, row.audit_id, self.rows + 1
        self._digest.add(_act_of(row))

    def head(self, at_ms: int) -> ExportHead:
        """What ends a run here."""
        return ExportHead(self.audit_id, self.rows, self._digest.value.hex(), at_ms)

    def agrees(self, head: ExportHead) -> bool:
        """Whether these are the rows that a head was written over."""
        return self.head(head.exported_ms) == head


def _act_of(row: AuditRow) -> ChainedAct:
    return ChainedAct(
        row.audit_id,
        row.at_ms,
        row.conversation_key,
        row.actor_id,
        row.action,
        row.seq,
        row.subject,
        detail_text(row.detail),
        row.number,
        bytes.fromhex(row.digest),
    )


async def export_audit(reader: AuditReader, path: str, now_ms: int) -> AsyncIterator[Progress]:
    """Append to a file what is in the audit and not in it, then a head; flushed to the disk at the end.

    A run that was cut off is gone on with: half a line at the end is dropped. Memory is bounded.

    Raises:
        ConfigurationError: The file is no export, is not what its heads say, or ends with a row that the audit has not,
            as after a log was put back.
        UnavailableError: Storage does not answer; a retry is safe.
    """
    with _opened(path, os.O_RDWR | os.O_CREAT) as file:
        tally, whole = _read_to_the_end(path, file)
        end = await reader.audit_end()
        if not await _has_last(reader, tally):
            raise ConfigurationError(
                f"{path} ends with row {tally.audit_id}, and that is not in the audit as it is there: keep the file, "
                "and if the log was put back from a backup, name another one"
            )
        file.truncate(whole)
        file.seek(whole)
        async for row in rows_up_to(reader, tally.audit_id, end):
            file.write(msgspec.json.encode(row) + b"\n")
            tally.add(row)
            if tally.rows % ROWS_PER_READ == 0:
                yield Progress("rows", tally.audit_id, end)
        file.write(msgspec.json.encode(_HeadLine(tally.head(now_ms))) + b"\n")
        file.flush()
        os.fsync(file.fileno())
        yield Progress("rows", end, end)


async def _has_last(reader: AuditReader, tally: Tally) -> bool:
    """Whether the audit goes on from where an export ends; the digest of a row stands for those before it."""
    if tally.last is None:
        return True
    return await reader.acts(EVERYTHING, tally.audit_id - 1, 1) == [tally.last]


async def rows_up_to(reader: AuditReader, after: int, end: int) -> AsyncIterator[AuditRow]:
    """The rows above one number and up to another."""
    while after < end and (rows := await reader.acts(EVERYTHING, after, ROWS_PER_READ)):
        for row in rows:
            if row.audit_id > end:
                return
            yield row
        after = rows[-1].audit_id


def _opened(path: str, flags: int) -> IO[bytes]:
    """A file; one that is made is for its owner alone."""
    try:
        return os.fdopen(os.open(path, flags, 0o600), "rb" if flags == os.O_RDONLY else "r+b")
    except OSError as error:
        raise ConfigurationError(f"cannot open the file {path}: {error.strerror}") from error


def _read_to_the_end(path: str, file: IO[bytes]) -> tuple[Tally, int]:
    """What is in a file, and where its last whole line ends."""
    tally, whole = Tally(), 0
    for line, row_or_head in _lines(path, file):
        _take(path, tally, row_or_head)
        whole += len(line)
    return tally, whole


def _take(path: str, tally: Tally, it: AuditRow | ExportHead) -> None:
    if isinstance(it, AuditRow):
        tally.add(it)
    elif not tally.agrees(it):
        raise ConfigurationError(
            f"{path} was changed: the rows up to {it.audit_id} are not those of its head"
        )


def _lines(path: str, file: IO[bytes]) -> Iterator[tuple[bytes, AuditRow | ExportHead]]:
    while line := file.readline(_LINE_BYTES_MAX):
        if not line.endswith(b"\n"):
            if len(line) == _LINE_BYTES_MAX:
                raise ConfigurationError(f"{path} is no export of an audit")
            return  # a run was cut off in the middle of it
        try:
            yield line, _line(line)
        except (msgspec.MsgspecError, ValueError):
            raise ConfigurationError(f"{path} is no export of an audit") from None


def _line(line: bytes) -> AuditRow | ExportHead:
    if line.startswith(b'{"head":'):
        return msgspec.json.decode(line, type=_HeadLine).head
    return msgspec.json.decode(line, type=AuditRow)


async def compare_audit(reader: AuditReader, path: str, report: Report) -> AsyncIterator[Progress]:
    """See that everything in an export is in the audit as it was. A head alone is an export too.

    Args:
        reader: The audit.
        path: The export, or a file with one of its heads.
        report: What is not as it was goes in there.

    Raises:
        ConfigurationError: The file cannot be read, is no export, or is not what its heads say.
        UnavailableError: Storage does not answer; a retry is safe.
    """
    compared = _Compared(reader, report)
    with _opened(path, os.O_RDONLY) as file:
        for _, it in _lines(path, file):
            if not await compared.holds(it):
                return
            yield Progress("export", it.audit_id, it.audit_id)
    if not compared.count:
        raise ConfigurationError(f"{path} is empty: there is nothing to compare")


class _Compared:
    """The rows of the audit, beside those of an export.

    Attributes:
        count: Lines of the export so far.
    """

    def __init__(self, reader: AuditReader, report: Report) -> None:
        self._rows = rows_up_to(reader, 0, _NO_END)
        self._report = report
        self._tally = Tally()
        self.count = 0

    async def holds(self, it: AuditRow | ExportHead) -> bool:
        """Whether everything up to the next line of an export is there; what is not, goes into the report."""
        self.count += 1
        while self._tally.audit_id < it.audit_id:
            row = await anext(self._rows, None)
            if row is None or row.audit_id > it.audit_id:
                return self._differs(f"row {it.audit_id} of the export is not in the audit")
            if isinstance(it, AuditRow) and row != it:
                return self._differs(f"row {row.audit_id} is not in the export as it is in the audit")
            self._tally.add(row)
        if isinstance(it, ExportHead) and not self._tally.agrees(it):
            return self._differs(f"the rows up to {it.audit_id} are not the {it.rows} that were exported")
        return True

    def _differs(self, words: str) -> bool:
        self._report.add("audit", words)
        return False
