"""The store on one SQLite file: connections, threads and transactions. The SQL is in the modules beside this one.

One connection writes, a few read. With threads, each transaction runs as a whole in a worker thread, so the event
loop never waits for a disk; without, it runs inside the loop, for simulation and for small tools. Called by
`assemble`; everyone above sees only `storage.base`.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import Concatenate, Final, ParamSpec, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from ...core.log.audit import ChainedAct
from ...core.log.blob_rows import BlobRow, DueBlob
from ...core.policy import Policy
from ...drivers.file_lock import FileInUseError, FileLock
from ...drivers.migrations import check_current, migrate, migration_files
from ...drivers.sqlite import (
    MEMORY,
    RETRY_AFTER_S,
    Connect,
    Connection,
    DamagedError,
    DamagedRowError,
    open_sqlite,
    version_fault,
)
from ...errors import ConfigurationError, UnavailableError
from ...ports import Ids
from .. import base
from ..unread import UnreadCounts
from . import audit, blobs, moderation, person, reads, references
from .cold_store import SqliteCold
from .delivery_store import SqliteDeliveries
from .last_served import LastServed
from .opening import APPLICATION_ID, check_newest
from .read_queue import ReadQueue
from .search_store import SqliteSearch
from .trail import trail
from .verify import check_header, report_of_open
from .watch import FileWatch
from .writer import Writer

logger = logging.getLogger(__name__)

SECRET_BYTES: Final = 32

_P = ParamSpec("_P")
_Result = TypeVar("_Result")


class SqliteStore:
    """`storage.base.Store` on a SQLite file; see there for what each method holds to.

    Args:
        path: The file, made if it is missing; `:memory:` only without threads.
        ids: Where the log's secret comes from, the first time.
        threads: Whether transactions run in worker threads.
        readers: Connections for reading, with threads.
        exclusive: Notice a log that was put back from a backup (`restored`), and refuse to open a file that another
            store holds, here or in another process: a server tells its own sessions only what went through itself, so
            two on one file would push to members whom the other one removed. The lock ends with the process at the
            latest. On Windows there is none. Whatever else has the file open in this process, by SQLite too, is closed
            before the store is: its locks on the file end then.
        connect: Opens a connection as `drivers.sqlite.open_sqlite` does; fault injection puts itself in between.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        ids: Ids,
        threads: bool = True,
        readers: int = 4,
        exclusive: bool = True,
        connect: Connect = open_sqlite,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise ConfigurationError(f"path must be a path, not {type(path).__name__}")
        path = os.fspath(path)
        if path == MEMORY and threads:
            raise ConfigurationError(
                "a SQLite store in memory has one connection; open it with threads=False"
            )
        self._path = path
        self._ids = ids
        self._threads = threads
        self._reader_count = readers if threads else 1
        self._connect = connect
        self._exclusive = exclusive and path != MEMORY
        self._lock: FileLock | None = None
        self._last_served: LastServed | None = None
        self._restored = False
        self._watch: FileWatch | None = None
        self._writer_limit = anyio.CapacityLimiter(1)
        self._reader_limit = anyio.CapacityLimiter(self._reader_count)
        self._reads = ReadQueue(partial(self._run, self._reader_limit), self._reader_count)
        self._writer: Writer | None = None
        self._readers: deque[Connection] = deque()
        self._unread = UnreadCounts()
        self.deliveries = SqliteDeliveries(self._read, self._change, lambda: self._unread)
        self.cold = SqliteCold(self._read, self._change)
        self.search = SqliteSearch(path, connect, self._run, self._read)

    @property
    def commits_in_flight_max(self) -> int:
        """One: SQLite has one writer."""
        return 1

    @property
    def healthy(self) -> bool:
        """Whether the last commit reached the disk, and the path still leads to the file that was opened.

        False after a commit of which no transaction reached it, and for good once the path led elsewhere.
        """
        if self._writer is None or self._watch is None:
            return False
        return self._writer.healthy and not self._watch.look()

    @property
    def wal_bytes(self) -> int:
        """The size of the write-ahead log; beyond 256 MiB a warning is logged. 0 while the store is not open."""
        return 0 if self._watch is None else self._watch.wal_bytes

    @property
    def restored(self) -> bool:
        """Whether the log is, or may be, an older state than the last one served from its place."""
        return self._restored

    async def confirm_restored(self, proved: int = 0) -> None:
        """Take the log as the one of its place, and raise its position beyond every former one."""
        await self._run(self._writer_limit, partial(self._confirm_restored, proved))

    async def migrate(self) -> bytes:
        """Open the file, bring its schema up to date, see that its newest end is whole, and return the log's secret."""
        return await self._run(self._writer_limit, self._open)

    async def open_to_read(self) -> None:
        """Open the file for reads alone, beside the server that serves it: nothing is written, or locked for it."""
        await self._run(self._reader_limit, self._open_to_read)

    async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """Apply a batch in one transaction; after an error of the disk, none until the store is opened anew."""
        return await self._run(self._writer_limit, partial(self._commit, commands))

    async def aclose(self) -> None:
        """Wait for what is running, then close every connection and give the file free."""
        await self.search.aclose()
        borrowers = [object() for _ in range(self._reader_count)]
        with anyio.CancelScope(shield=True):
            async with self._writer_limit:
                for borrower in borrowers:
                    await self._reader_limit.acquire_on_behalf_of(borrower)
                try:
                    self._close()
                finally:
                    for borrower in borrowers:
                        self._reader_limit.release_on_behalf_of(borrower)

    async def pins(self, conversation_id: str, user_id: str, bytes_max: int) -> list[base.PinRow]:
        """What is pinned."""
        return await self._read(reads.pins, conversation_id, user_id, bytes_max)

    async def page(
        self,
        conversation_id: str,
        user_id: str,
        after_seq: int,
        limit: int,
        bytes_max: int,
        *,
        history: bool = False,
    ) -> base.Page:
        """Visible entries after a seq."""
        bounds = (after_seq, limit, bytes_max, history)
        return await self._read(reads.page, conversation_id, user_id, *bounds)

    async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[base.Entry]:
        """The log itself after a seq, whoever may see it."""
        return await self._read(reads.entries, conversation_id, after_seq, limit)

    async def heads(self, user_id: str, device_id: str) -> list[base.ListedHead]:
        """The user's conversations, for one device."""
        return await self._read(reads.heads, user_id, device_id)

    async def head_seqs(self, conversation_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(epoch, head) of each conversation that exists."""
        return await self._read(reads.head_seqs, conversation_ids)

    async def conversation(self, conversation_id: str, user_id: str) -> base.Conversation:
        """One conversation, for a member of it."""
        return await self._read(reads.conversation, conversation_id, user_id)

    async def conversations(
        self, user_id: str, device_id: str | None, after: str | None, limit: int
    ) -> list[base.ListedConversation]:
        """A page of the user's conversations."""
        return await self._read(reads.conversations, self._unread, user_id, device_id, after, limit)

    async def recent(
        self, user_id: str, device_id: str | None, after: base.RecentPlace | None, limit: int, bytes_max: int
    ) -> base.RecentPage:
        """A page of the user's conversations, newest activity first."""
        place = (user_id, device_id, after, limit, bytes_max)
        return await self._read(reads.recent, self._unread, *place)

    async def members(
        self, conversation_id: str, user_id: str, after: str | None, limit: int
    ) -> list[base.MemberCursor]:
        """A page of the current members."""
        return await self._read(reads.members, conversation_id, user_id, after, limit)

    async def bans(
        self, conversation_id: str, user_id: str | None, policy: Policy, after: str | None, limit: int
    ) -> list[base.Ban]:
        """A page of who is banned from a conversation."""
        return await self._read(reads.bans, conversation_id, user_id, policy, after, limit)

    async def blocks(self, user_id: str, after: str | None, limit: int) -> list[base.Block]:
        """A page of whom a user blocked."""
        return await self._read(reads.blocks, user_id, after, limit)

    async def membership_changes(self, after: int | None, limit: int) -> base.MembershipChanges:
        """Who joined any conversation after a position."""
        return await self._read(reads.membership_changes, after, limit)

    async def contacts(self, user_ids: Sequence[str], members_max: int, limit: int) -> dict[str, list[str]]:
        """Who may know of each of these users."""
        return await self._read(reads.contacts, user_ids, members_max, limit)

    async def known_to(self, user_id: str, others: Sequence[str], members_max: int) -> dict[str, int | None]:
        """Whom of the others a user may know of, and when they were last seen."""
        return await self._read(reads.known_to, user_id, others, members_max)

    async def resume_hashes(self, devices: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """Digest of each device's resume token."""
        return await self._read(reads.resume_hashes, devices)

    async def revocations(self, after: int, limit: int) -> list[base.Revocation]:
        """Those above a position."""
        return await self._read(reads.revocations, after, limit)

    async def kept_login(self, token_hash: bytes) -> base.KeptLogin | None:
        """The login of a resume token."""
        return await self._read(reads.kept_login, token_hash)

    async def status(
        self, message_id: str, user_id: str, after: tuple[str, str] | None, limit: int
    ) -> base.Status:
        """The state of a message, for its author."""
        return await self._read(reads.status, message_id, user_id, after, limit)

    async def read_counts(
        self, conversation_id: str, after_seq: int, up_to_seq: int, authors: Sequence[str]
    ) -> list[base.ReadCounts]:
        """Counts for the newest message of each of some authors in a range."""
        return await self._read(reads.read_counts, conversation_id, after_seq, up_to_seq, authors)

    async def trail(self, message_id: str, user_id: str | None, limit: int) -> base.MessageTrail:
        """What became of a message."""
        return await self._read(trail, message_id, user_id, limit)

    async def position(self) -> int:
        """How far the log has got."""
        return await self._read(reads.position)

    async def conversation_ids(self, after: str, limit: int) -> list[str]:
        """The ids of all conversations after one, ascending."""
        return await self._read(reads.conversation_ids, after, limit)

    async def blob(self, blob_id: str, user_id: str) -> BlobRow | None:
        """A file as a user sees it in a message."""
        return await self._read(blobs.blob, blob_id, user_id)

    async def upload(self, blob_id: str) -> BlobRow | None:
        """A file, whoever asks."""
        return await self._read(blobs.upload, blob_id)

    async def due_blobs(self, now_ms: int, limit: int) -> list[DueBlob]:
        """What the collector is to look at."""
        return await self._read(blobs.due_blobs, now_ms, limit)

    async def to_moderate(self, sends: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Which of these a moderator need see."""
        return await self._read(moderation.to_moderate, sends)

    async def held_messages(self, after: int, limit: int) -> list[base.HeldRecord]:
        """What is to be reviewed."""
        return await self._read(moderation.held_messages, after, limit)

    async def held_message(self, held_id: int) -> base.HeldRecord | None:
        """One message that is to be reviewed."""
        return await self._read(moderation.held_message, held_id)

    async def idle_streams(
        self, before_ms: int, after_ms: int, limit: int, *, parts: bool = True
    ) -> list[base.IdleStream]:
        """Open streams of which nothing was heard since."""
        return await self._read(references.idle_streams, before_ms, after_ms, limit, parts=parts)

    async def reports(self, after: int, limit: int) -> list[base.ReportRecord]:
        """Open reports."""
        return await self._read(moderation.reports, after, limit)

    async def outbox(self, limit: int) -> list[base.OutboxEntry]:
        """Open outbox entries, those of the oldest conversations first."""
        return await self._read(reads.outbox, limit)

    async def audit(self, conversation_id: str) -> list[base.AuditRow]:
        """The acts in a conversation, in order."""
        return await self._read(audit.audit, conversation_id)

    async def acts(self, wanted: base.AuditFilter, after: int, limit: int) -> list[base.AuditRow]:
        """What was done, in order."""
        return await self._read(audit.acts, wanted, after, limit)

    async def newest_acts(self, wanted: base.AuditFilter, before: int, limit: int) -> list[base.AuditRow]:
        """What was done last, the newest first."""
        return await self._read(audit.newest_acts, wanted, before, limit)

    async def audit_end(self) -> int:
        """The number of the newest row."""
        return await self._read(audit.audit_end)

    async def audit_chains(self, chain: int, number: int, limit: int) -> base.ChainPage:
        """Rows in the order of their chains."""
        return await self._read(audit.audit_chains, chain, number, limit)

    async def unchained_acts(self, after: int, limit: int) -> list[ChainedAct]:
        """Rows from before there were chains, in order."""
        return await self._read(audit.unchained_rows, after, limit)

    async def erasures(self) -> list[base.Erasure]:
        """Those that have begun and not ended."""
        return await self._read(person.erasures)

    async def devices_of(self, user_id: str) -> list[base.KnownDevice]:
        """The user's devices, by id."""
        return await self._read(person.devices_of, user_id)

    async def places_of(self, user_id: str, after_key: int) -> base.PlacePage:
        """The conversations above a number that the user is or was in."""
        return await self._read(person.places_of, user_id, after_key)

    async def messages_of(
        self, conversation_id: str, user_id: str, after: str, limit: int
    ) -> list[base.OwnMessage]:
        """What the user wrote in a conversation, in the order of their keys."""
        return await self._read(person.messages_of, conversation_id, user_id, after, limit)

    async def _read(
        self, read: Callable[Concatenate[Connection, _P], _Result], *args: _P.args, **kwargs: _P.kwargs
    ) -> _Result:
        return await self._reads.read(lambda: self._snapshot(lambda it: read(it, *args, **kwargs)))

    async def _change(
        self, work: Callable[Concatenate[Connection, _P], _Result], *args: _P.args, **kwargs: _P.kwargs
    ) -> _Result:
        """Something besides commands, in a write transaction of its own."""
        return await self._run(
            self._writer_limit, lambda: self._open_writer().change(lambda it: work(it, *args, **kwargs))
        )

    async def _run(self, limit: anyio.CapacityLimiter, work: Callable[[], _Result]) -> _Result:
        """Run blocking work, in a thread or right here; once begun it ends, whatever becomes of the caller."""
        if self._threads:
            return await anyio.to_thread.run_sync(work, limiter=limit)
        await anyio.lowlevel.checkpoint()
        async with limit:
            result = work()
        await anyio.lowlevel.cancel_shielded_checkpoint()
        return result

    def _open(self) -> bytes:
        if self._writer is not None:
            raise ConfigurationError("this store is open already")
        with ExitStack() as undo:
            lock = self._acquire(
                undo
            )  # first: opening the file writes to it, and its handle must be closed last
            last_served = None if lock is None else LastServed(lock, self._path)
            writer = self._connect(self._path)
            undo.callback(writer.close)
            secret = self._prepare(writer)
            position = reads.position(writer)
            restored = last_served is not None and self._compare(last_served, position)
            readers = []
            for _ in range(self._reader_count):
                readers.append(self._reader(writer))
                undo.callback(readers[-1].close)
            undo.pop_all()
        self._unread = UnreadCounts()
        self._readers.extend(readers)
        self._writer = Writer(writer, position)
        self._lock = lock
        self._last_served = last_served
        self._restored = restored
        self._watch = FileWatch(self._path)
        if self._threads:  # nothing else is served to anybody
            _warn_of_version()
        return secret

    def _open_to_read(self) -> None:
        if self._readers:
            raise ConfigurationError("this store is open already")
        check_header(self._path)
        with ExitStack() as undo:
            readers = []
            for _ in range(self._reader_count):
                readers.append(self._connect(self._path, read_only=True))
                undo.callback(readers[-1].close)
            check_current(readers[0], migration_files(__package__), APPLICATION_ID)
            undo.pop_all()
        self._readers.extend(readers)

    def _acquire(self, undo: ExitStack) -> FileLock | None:
        if not self._exclusive:
            return None
        lock = FileLock.acquire(self._path, make=True)
        if lock is None:
            raise FileInUseError(
                f"the log {self._path} is in use by another server; stop that one, or give another file. One file is"
                " served by one process: run the host with one worker (uvicorn --workers 1)",
                self._path,
            )
        undo.callback(lock.release)
        return lock

    def _prepare(self, writer: Connection) -> bytes:
        """Make an opened file ready to be served, or refuse it; returns its secret."""
        try:
            migrate(writer, migration_files(__package__), APPLICATION_ID)
            check_newest(writer)
            audit.start_chains(writer)
            return self._secret(writer)
        except (DamagedError, DamagedRowError) as error:
            raise ConfigurationError(f"the log {self._path} is damaged: {error}; restore a backup") from error

    def _compare(self, last_served: LastServed, position: int) -> bool:
        """Find out whether the log was put back. One that was is read as a whole before it is served, once."""
        if last_served.is_lost(position):
            logger.critical(
                "the log %s is new and empty, and one was served from this place before: if that was deleted or moved "
                "by mistake, stop the server now and put it back",
                self._path,
            )
        if not last_served.is_older(position):
            last_served.take(position)
            return False
        if not last_served.is_checked:
            self._check_all()
        return True

    def _check_all(self) -> None:
        logger.warning("the log %s was put back or moved here; all of it is checked now", self._path)
        report = report_of_open(self._path)
        if not report.whole:
            raise ConfigurationError(
                f"the log {self._path} was put back, and is damaged: {report.findings[0].words}; "
                "see `chatkit verify`, and restore another backup"
            )

    def _confirm_restored(self, proved: int) -> None:
        writer = self._open_writer()
        served = 0 if self._last_served is None else self._last_served.position
        writer.raise_position(max(proved, served))
        if self._last_served is not None:
            self._last_served.take(writer.position)
        self._restored = False

    def _reader(self, writer: Connection) -> Connection:
        return writer if self._path == MEMORY else self._connect(self._path, read_only=True)

    def _secret(self, writer: Connection) -> bytes:
        """The log's secret, made by whoever opens the file first."""
        writer.change(
            "INSERT INTO setting (name, value) VALUES ('secret', ?) ON CONFLICT (name) DO NOTHING",
            (self._ids.token_bytes(SECRET_BYTES),),
        )
        ((secret,),) = writer.execute("SELECT value FROM setting WHERE name = 'secret'")
        return bytes(secret)

    def _close(self) -> None:
        try:
            self._close_files()
        finally:
            if self._lock is not None:  # last: whoever takes the file next finds it closed
                self._lock.release()
                self._lock = self._last_served = None

    def _close_files(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers.clear()
        if self._writer is not None:
            position = self._writer.position
            whole = self._watch is not None and not self._watch.look()
            self._writer.close()
            self._writer = self._watch = None
            if self._last_served is not None and whole and not self._restored:
                self._last_served.leave(position)

    def _snapshot(self, read: Callable[[Connection], _Result]) -> _Result:
        """Run one read on a free connection, in one transaction: it sees one state of the file."""
        if not self._readers:
            raise UnavailableError("the store is not open", retry_after_s=RETRY_AFTER_S)
        connection = self._readers.popleft()
        try:
            connection.begin()
            try:
                return read(connection)
            finally:
                connection.rollback()
        finally:
            self._readers.append(connection)

    def _commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        writer = self._open_writer()
        assert self._watch is not None
        self._watch.check()
        try:
            outcomes = writer.commit(commands)
        finally:
            if self._last_served is not None and not self._restored:
                self._last_served.note(writer.position)
        self._watch.check()
        if self._watch.wal_is_large():
            self._watch.warn(writer.checkpoint())
        return outcomes

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise UnavailableError("the store is not open", retry_after_s=RETRY_AFTER_S)
        return self._writer


@cache
def _warn_of_version() -> None:
    """Say once in a process what is wrong with its SQLite."""
    if fault := version_fault():
        logger.warning("%s", fault)
