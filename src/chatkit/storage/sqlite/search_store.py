"""The index of search beside a log on SQLite: its file, its connections and its steps. The SQL is in `search`."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar

import anyio

from ...drivers.sqlite import (
    MEMORY,
    RETRY_AFTER_S,
    Connect,
    Connection,
    DiskFailedError,
    SqliteError,
    log_of,
    shared_memory_of,
)
from ...errors import ConfigurationError, OverloadedError, UnavailableError
from ..search import INDEX_MAX, Candidates, Proposed, Wanted, places_of, wanted_terms
from . import search
from .search import IndexState, LogState, NewRow

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

Run = Callable[[anyio.CapacityLimiter, Callable[[], Any]], Awaitable[Any]]
"""Runs blocking work as the store does."""

_READERS: Final = 2
"""Searches at the same time; the log's own readers are not theirs."""

SWEEP_AFTER: Final = 300
"""Steps, a minute of them while nothing is written, after which it is looked for what has expired."""

_WAITING_MAX: Final = 64
"""Searches that wait for one of them; further ones are refused."""


class SqliteSearch:
    """`storage.search.SearchIndex` in the file `PATH-search`.

    Args:
        path: Of the log.
        connect: Opens a connection.
        run: Runs blocking work.
        read: Runs a read of the log in a snapshot.
    """

    def __init__(self, path: str, connect: Connect, run: Run, read: Callable[..., Awaitable[Any]]) -> None:
        self._path = MEMORY if path == MEMORY else os.path.realpath(path) + "-search"
        self._connect = connect
        self._run = run
        self._read = read
        self._write_limit = anyio.CapacityLimiter(1)
        self._read_limit = anyio.CapacityLimiter(1 if path == MEMORY else _READERS)
        self._alone_lock = anyio.Lock()
        self._waiting = 0
        self._writer: Connection | None = None
        self._readers: list[Connection] = []
        self._state = IndexState(b"", 0, 0, 0, 0)
        self._is_damaged = False
        self._merged = 0  # of `taken_out`, by the merge that goes on
        self._floors_after, self._steps = 0, SWEEP_AFTER

    async def open(self) -> None:
        """Have an index of this log as it is."""
        log: LogState = await self._read(search.log_state)
        async with self._alone():
            await self._run(self._write_limit, partial(self._open, log.name))
        if not await self._read(search.is_of_log, self._state):
            await self._make_anew("it is of another log, or of another state of this one")

    async def discard(self) -> None:
        """Remove the file, if there is one."""
        async with self._alone():
            await self._run(self._write_limit, self._remove)

    async def follow(self) -> int:
        """Take up the next rows of the log, and do a part of what keeps words of what has gone from staying."""
        if self._is_damaged:
            await self._make_anew("it is damaged")
        log: LogState
        rows: list[NewRow]
        log, rows = await self._read(search.new_rows, self._state.position, INDEX_MAX)
        if log.name != self._state.log:
            await self._make_anew("the log was put back")
            return 1
        if rows:
            await self._change(lambda it: search.take_up(it, rows))
        swept = await self._merge() if self._state.taken_out else await self._sweep()
        return len(rows) or swept

    async def is_behind(self, user_id: str) -> bool:
        """Whether the log has rows after the last one that was taken up."""
        log: LogState = await self._read(search.log_state)
        return log.end > self._state.position or log.name != self._state.log

    async def candidates(self, wanted: Wanted, before_place: int, limit: int) -> Candidates:
        """What the index proposes, as far as the user may see it."""
        keys = await self._read(search.keys_of, wanted.user_id, wanted.conversation_id)
        first, end = places_of(wanted, before_place)
        if not keys or first >= end:
            return Candidates((), None, 0)
        proposed, last_place = await self._propose(wanted_terms(wanted), keys, first, end, limit)
        found = await self._read(search.visible, wanted.user_id, proposed)
        return Candidates(tuple(found), last_place, len(proposed))

    async def aclose(self) -> None:
        """Wait for what is running, then close the file."""
        async with self._alone():
            await self._run(self._write_limit, self._close)

    # --- steps ---

    async def _sweep(self) -> int:
        """Now and then let go what has expired, some conversations a step; each counts as an entry."""
        if self._steps < SWEEP_AFTER:
            self._steps += 1
            return 0
        floors, self._floors_after = await self._read(search.floors, self._floors_after)
        if floors:
            await self._change(lambda it: search.take_expired(it, floors))
        if self._floors_after == 0:
            self._steps = 0
        return 1

    async def _merge(self) -> int:
        """One step towards an index without words of what was taken out; counts as an entry."""
        begin = self._merged == 0
        if begin:
            self._merged = self._state.taken_out  # what is taken out from here on needs another merge
        is_merged = await self._change(lambda it: search.merge(it, begin=begin))
        if is_merged and await self._run(self._write_limit, self._checkpoint):
            merged, self._merged = self._merged, 0
            await self._change(lambda it: search.note_merged(it, merged))
        return 1

    async def _change(self, work: Callable[[Connection], _Result]) -> _Result:
        """A step in a transaction of the index."""
        result, self._state = await self._run(self._write_limit, lambda: self._guarded(self._transact, work))
        return result  # type: ignore[no-any-return]

    async def _propose(self, *arguments: Any) -> tuple[list[Proposed], int | None]:
        if self._waiting >= _WAITING_MAX:
            raise OverloadedError("too many searches wait", retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        try:
            found: tuple[list[Proposed], int | None] = await self._run(
                self._read_limit, lambda: self._guarded(self._snapshot, *arguments)
            )
        finally:
            self._waiting -= 1
        return found

    def _transact(self, work: Callable[[Connection], _Result]) -> tuple[_Result, IndexState]:
        connection = self._open_writer()
        connection.begin()
        try:
            result, state = work(connection), search.index_state(connection)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        assert state is not None, "it was there when the file was opened"
        return result, state

    def _snapshot(self, *arguments: Any) -> tuple[list[Proposed], int | None]:
        if not self._readers:
            raise UnavailableError("the index of search is not open", retry_after_s=RETRY_AFTER_S)
        connection = self._readers.pop()
        try:
            connection.begin()
            try:
                return search.propose(connection, *arguments)
            finally:
                connection.rollback()
        finally:
            self._readers.append(connection)

    def _guarded(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Note that the index is damaged, which the next step mends; the log is not touched by that."""
        try:
            return work(*arguments)
        except DiskFailedError as error:
            self._is_damaged = True
            logger.warning("the index of search cannot be read, and is made anew: %s", error)
            raise UnavailableError("the index of search is made anew", retry_after_s=RETRY_AFTER_S) from error

    # --- the file ---

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Without any search under way, and none that begins."""
        borrowers = [object() for _ in range(int(self._read_limit.total_tokens))]
        with anyio.CancelScope(shield=True):
            async with self._alone_lock:  # two who take the tokens in turn would wait for each other for ever
                for borrower in borrowers:
                    await self._read_limit.acquire_on_behalf_of(borrower)
                try:
                    yield
                finally:
                    for borrower in borrowers:
                        self._read_limit.release_on_behalf_of(borrower)

    async def _make_anew(self, reason: str) -> None:
        logger.warning("the index of search is made anew: %s", reason)
        log: LogState = await self._read(search.log_state)
        async with self._alone():
            await self._run(self._write_limit, self._remove)
            await self._run(self._write_limit, partial(self._open, log.name))

    def _open(self, log: bytes) -> None:
        """Open the file; one that cannot be used is made anew."""
        self._close()
        try:
            state = self._connected(log)
        except (ConfigurationError, DiskFailedError) as error:
            logger.warning("the index of search cannot be opened, and is made anew: %s", error)
            state = None
        if state is None:
            self._remove()
            state = self._connected(log)
        assert state is not None, "it is new"
        self._state, self._merged, self._is_damaged = state, 0, False
        self._floors_after, self._steps = 0, SWEEP_AFTER

    def _connected(self, log: bytes) -> IndexState | None:
        """Open the connections; None if the file is no index of this version."""
        writer = self._writer = self._connect(self._path)
        writer.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is taken up again
        if writer.execute("SELECT 1 FROM sqlite_schema LIMIT 1"):
            state = search.index_state(writer)
        else:
            writer.begin()
            try:
                state = search.make(writer, log)
            except SqliteError as error:
                raise ConfigurationError(f"search needs a SQLite with FTS5: {error}") from error
            writer.commit()
        memory = self._path == MEMORY
        self._readers = [
            writer if memory else self._connect(self._path, read_only=True)
            for _ in range(int(self._read_limit.total_tokens))
        ]
        return state

    def _checkpoint(self) -> bool:
        """Bring everything into the file, and leave nothing in its write-ahead log; false if a search is in the way."""
        ((is_busy, _, _),) = self._open_writer().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return not is_busy

    def _close(self) -> None:
        for connection in (*self._readers, self._writer):
            if connection is not None:
                connection.close()
        self._writer, self._readers = None, []

    def _remove(self) -> None:
        self._close()
        if self._path != MEMORY:
            for path in (self._path, log_of(self._path), shared_memory_of(self._path)):
                with suppress(FileNotFoundError):
                    os.remove(path)

    def _open_writer(self) -> Connection:
        if self._writer is None:
            raise UnavailableError("the index of search is not open", retry_after_s=RETRY_AFTER_S)
        return self._writer
