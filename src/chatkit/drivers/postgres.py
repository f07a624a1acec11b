"""A small typed face of asyncpg: transactions on a pool, and the errors of a server translated once.

The only module that imports asyncpg (extra `postgres`); `postgres_host` has it from here. What it adds:

- A connection on which anything but an error told by the server happened (a cut, a cancelled call, a deadline) is
  never used again: a BEGIN that was cancelled on its way leaves every later transaction a mere savepoint.
- Every transaction has its own deadlines, set with its BEGIN, so that they hold behind a pooler too.

Called by `storage.postgres`. Its addresses are in docs/deploying.md.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import anyio
import msgspec

from ..errors import ConfigurationError, UnavailableError

try:
    import asyncpg as asyncpg  # for `postgres_host` too
except ImportError:  # said when a store is made
    asyncpg = None

_logger = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 1.0


class Deadlines(msgspec.Struct, frozen=True):
    """How long things may take, in seconds; then it is an UnavailableError, and nothing waits any longer.

    Attributes:
        connect_s: Until there is a connection: a free one of the pool, or a new one.
        lock_s: For the locks of another transaction.
        statement_s: For one statement, on the server.
        transaction_s: For a whole transaction, from here; then its connection is cut. The longest of all.
    """

    connect_s: float = 10.0
    lock_s: float = 2.0
    statement_s: float = 15.0
    transaction_s: float = 30.0

    def begin(self, how: str) -> str:
        """A BEGIN that says so to the server, for this transaction only: a pooler may stand in between."""
        return (
            f"BEGIN {how}; SET LOCAL lock_timeout = {_ms(self.lock_s)}; "
            f"SET LOCAL statement_timeout = {_ms(self.statement_s)}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {_ms(self.transaction_s)}"
        )


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


WRITE: Final = "ISOLATION LEVEL READ COMMITTED, READ WRITE"
READ: Final = "ISOLATION LEVEL REPEATABLE READ, READ ONLY"

_AGAIN: Final = ("40001", "40P01", "23505")
"""serialization_failure, deadlock_detected, unique_violation: another transaction came first, and a retry finds it."""

_LOCKED: Final = "55P03"
"""lock_not_available: not given within `lock_timeout`."""

_UNAVAILABLE: Final = ("08", "53", "57", "58", "25006", "3D000", "28")
"""SQLSTATEs, by their beginning, of a server that cannot do it now: no connection, no room, going down, starting, a
standby."""

_DAMAGED: Final = ("XX001", "XX002")
"""data_corrupted, index_corrupted."""

_KINDS: Final = {"08": "connection", "53": "full", "57": "connection", "58": "disk", "XX": "damaged"}
"""What the classes of those SQLSTATEs come to, in one word. 53 is room of any sort: disk, memory, connections."""

_LOST_STATEMENTS: Final = ("26000", "42P05")
"""invalid_sql_statement_name, duplicate_prepared_statement: what a pooler makes of them."""


_SESSION_ENDS: Final = ("08", "57P", "25P03", "25P04")
"""SQLSTATEs, by their beginning, after which a session is over."""


class ConflictError(UnavailableError):
    """Another transaction came first; nothing of this one was stored, and a retry is safe."""

    kind = "conflict"


class LockedError(UnavailableError):
    """Another transaction kept a lock for longer than was waited; nothing of this one was stored. A retry is safe."""

    kind = "locked"


class DamagedError(UnavailableError):
    """What the server has on its disk is not what was written to it; a backup helps."""


class DatabaseError(Exception):
    """The server or asyncpg refused a statement or a value. Its words hold nothing that was stored.

    Attributes:
        sqlstate: PostgreSQL's name for it; empty if it is asyncpg's.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(words_of(error))
        self.sqlstate: str = getattr(error, "sqlstate", None) or ""


Row = Any
"""A row of a result: a sequence of its columns."""


class Connection:
    """A connection inside one transaction or snapshot."""

    __slots__ = ("_inner", "round_trips")

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.round_trips = 0

    async def fetch(self, sql: str, *values: object) -> list[Row]:
        """All rows of a statement."""
        self.round_trips += 1
        rows: list[Row] = await self._inner.fetch(sql, *values)
        return rows

    async def execute(self, sql: str) -> None:
        """Run statements without values, in one round trip; they may be many."""
        self.round_trips += 1
        await self._inner.execute(sql)


class Database:
    """A pool of connections to one database.

    Args:
        address: `postgresql://USER@HOST:PORT/NAME?...`, several hosts with commas; `pooler=transaction` where a pooler
            such as pgbouncer hands out another connection for each transaction. Other parameters are PostgreSQL's own.
        connections: Most of them at the same time.
        deadlines: How long things may take.

    Raises:
        ConfigurationError: asyncpg is not installed, or the address is none.
    """

    def __init__(self, address: str, *, connections: int, deadlines: Deadlines) -> None:
        if asyncpg is None:
            raise ConfigurationError('PostgreSQL needs asyncpg: pip install "chatkit-engine[postgres]"')
        self._address, self._pooled = _split(address)
        named = "target_session_attrs" in address or "PGTARGETSESSIONATTRS" in os.environ
        self._writable = {} if named else {"target_session_attrs": "read-write"}
        self._connections = connections
        self._deadlines = deadlines
        self._begin = {how: deadlines.begin(how) for how in (WRITE, READ)}
        self._pool: Any = None

    @property
    def is_open(self) -> bool:
        """Whether there is a pool."""
        return self._pool is not None

    async def open(self) -> None:
        """Connect.

        Raises:
            ConfigurationError: The address, user or database is wrong, or this runs on no asyncio event loop.
            UnavailableError: The server cannot be reached; a retry is safe.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError("PostgreSQL is served on asyncio only") from None
        try:
            self._pool = await asyncpg.create_pool(
                self._address,
                min_size=1,
                max_size=self._connections,
                timeout=self._deadlines.connect_s,
                statement_cache_size=0 if self._pooled else 200,
                max_cached_statement_lifetime=0,
                reset=_keep,
                **self._writable,
            )
        except ValueError as error:  # asyncpg's ClientConfigurationError among them
            raise ConfigurationError(f"the address of the storage is wrong: {error}") from None
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise ConfigurationError(f"PostgreSQL refused: {error}") from None
        except _connection_errors() as error:
            words = f"no PostgreSQL: {words_of(error)}"
            raise UnavailableError(words, retry_after_s=RETRY_AFTER_S, kind="connection") from error

    async def aclose(self) -> None:
        """Close every connection; those in use are cut after a moment."""
        pool, self._pool = self._pool, None
        if pool is not None:
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(RETRY_AFTER_S):
                    await pool.close()
                pool.terminate()

    @asynccontextmanager
    async def transaction(
        self, how: str = WRITE, deadlines: Deadlines | None = None
    ) -> AsyncIterator[Connection]:
        """A transaction that is committed at the end of the block, and rolled back by any error in it.

        Args:
            how: WRITE or READ.
            deadlines: Instead of the usual ones.

        Raises:
            ConflictError: Another transaction came first.
            LockTimeoutError: Another transaction holds a lock for too long.
            DatabaseError: It was refused for another reason; nothing was stored.
            UnavailableError: The server cannot do it now. Whether it was stored is unknown.
        """
        pool, inner = await self._acquire()
        usable = False
        try:
            with anyio.fail_after((deadlines or self._deadlines).transaction_s):
                await inner.execute(self._begin[how] if deadlines is None else deadlines.begin(how))
                connection = Connection(inner)
                connection.round_trips = 1
                try:
                    yield connection
                except Exception as error:
                    usable = not _may_be_broken(error) and await _roll_back(inner)
                    raise
                tag = await inner.execute("COMMIT")
                usable = True
                if tag != "COMMIT":
                    raise UnavailableError(f"PostgreSQL did not commit: {tag}", retry_after_s=RETRY_AFTER_S)
        except Exception as error:
            if (known := translated(error)) is error:
                raise
            raise known from None  # asyncpg's own words may hold what was stored
        finally:
            if not usable:
                _cut(inner)
            with anyio.CancelScope(shield=True):
                await pool.release(inner)

    async def _acquire(self) -> tuple[Any, Any]:
        """The pool, which may be closed before the connection returns to it, and a connection."""
        pool = self._pool
        if pool is None:
            raise UnavailableError("the store is not open", retry_after_s=RETRY_AFTER_S)
        try:
            return pool, await pool.acquire(timeout=self._deadlines.connect_s)
        except _connection_errors() as error:
            words = f"no PostgreSQL: {words_of(error)}"
            raise UnavailableError(words, retry_after_s=RETRY_AFTER_S, kind="connection") from error


def _connection_errors() -> tuple[type[Exception], ...]:
    """What connecting and using a connection may raise; InternalClientError: no server among them takes writes."""
    return (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        OSError,
        TimeoutError,
    )


async def _keep(_connection: Any) -> None:
    """Nothing of a session is ever changed, so nothing has to be put back when it returns to the pool."""


def _may_be_broken(error: Exception) -> bool:
    """Whether a connection on which this happened may be out of step with its server."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_SESSION_ENDS)
    return isinstance(error, OSError | TimeoutError) or _is_misuse(error)


def _is_misuse(error: Exception) -> bool:
    """asyncpg's own errors but for a value that cannot be sent, which was not."""
    if isinstance(error, ValueError):
        return False
    return isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError)


async def _roll_back(inner: Any) -> bool:
    """End a transaction; returns whether the connection is in order."""
    try:
        await inner.execute("ROLLBACK")
    except _connection_errors() as error:
        _logger.info("a connection to PostgreSQL is given up: %s", words_of(error))
        return False
    return True


def _cut(inner: Any) -> None:
    """Never use a connection again. Where it is gone already, its pool has taken it back and refuses every call."""
    with suppress(asyncpg.InterfaceError):
        inner.terminate()


def translated(error: Exception) -> Exception:
    """The error as callers know it; what is none of asyncpg's is returned as it is."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state in _AGAIN:
            return ConflictError(words_of(error), retry_after_s=RETRY_AFTER_S)
        if state == _LOCKED:
            return LockedError(words_of(error), retry_after_s=RETRY_AFTER_S)
        if state in _LOST_STATEMENTS:
            words = f"{words_of(error)}: a pooler in transaction mode needs pooler=transaction in the address"
            return UnavailableError(words, retry_after_s=RETRY_AFTER_S)
        if state in _DAMAGED:
            return DamagedError(f"PostgreSQL refused: {words_of(error)}", retry_after_s=RETRY_AFTER_S)
        if state.startswith(_UNAVAILABLE):
            words, kind = f"PostgreSQL refused: {words_of(error)}", _KINDS.get(state[:2])
            return UnavailableError(words, retry_after_s=RETRY_AFTER_S, kind=kind)
        return DatabaseError(error)
    if isinstance(error, OSError | TimeoutError) or _is_misuse(error):
        words = f"PostgreSQL failed: {words_of(error)}"
        return UnavailableError(words, retry_after_s=RETRY_AFTER_S, kind="connection")
    return DatabaseError(error) if isinstance(error, asyncpg.InterfaceError) else error


def words_of(error: Exception) -> str:
    """Which error it was. Never its detail, which may hold what was stored."""
    state = getattr(error, "sqlstate", None)
    return f"{type(error).__name__}{f' ({state})' if state else ''}"


def _split(address: str) -> tuple[str, bool]:
    """The address as PostgreSQL takes it, and whether a pooler is in between."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise ConfigurationError(f"the address of the storage is wrong: {error}") from None
    query = parse_qsl(parts.query, keep_blank_values=True)
    poolers = [value for name, value in query if name == "pooler"]
    if any(value != "transaction" for value in poolers):
        raise ConfigurationError("pooler=transaction is the only kind of pooler that has to be named")
    rest = [(name, value) for name, value in query if name != "pooler"]
    return urlunsplit(parts._replace(query=urlencode(rest))), bool(poolers)
