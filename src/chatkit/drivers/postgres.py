"""A small typed face of asyncpg: transactions on a pool, and the errors of a server translated once.

The only module that imports asyncpg (extra `postgres`). What it adds:

- A connection on which anything but an error told by the server happened (a cut, a cancelled call, a deadline) is
  never used again: a BEGIN that was cancelled on its way leaves every later transaction a mere savepoint.
- Every transaction has its own deadlines, set with its BEGIN, so that they hold behind a pooler too.

Called by `storage.postgres`. Its addresses are in docs/deploying.md.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import anyio
import sniffio

from ..errors import ConfigurationError, UnavailableError

try:
    import asyncpg
except ImportError:  # said when a store is made
    asyncpg = None

_logger = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 1.0
CONNECT_TIMEOUT_S: Final = 10.0
LOCK_TIMEOUT_S: Final = 5.0
"""How long a transaction waits for the locks of another one."""

STATEMENT_TIMEOUT_S: Final = 15.0
"""How long one statement may take on the server."""

TRANSACTION_TIMEOUT_S: Final = 30.0
"""How long a transaction may take from here; then its connection is cut. Longer than any deadline of the server."""

_DEADLINES = (
    f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S:g}s'; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_S:g}s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{TRANSACTION_TIMEOUT_S:g}s'"
)
WRITE: Final = f"BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; {_DEADLINES}"
READ: Final = f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {_DEADLINES}"

_AGAIN: Final = ("40001", "40P01", "23505")
"""serialization_failure, deadlock_detected, unique_violation: another transaction came first, and a retry finds it."""

_UNAVAILABLE: Final = ("08", "53", "57", "58", "25006", "55P03", "XX001", "XX002", "26000", "3D000", "28")
"""SQLSTATEs, by their beginning, of a server that cannot do it now: no connection, no room, going down, starting, a
standby, a lock that was not given in time, a prepared statement that a pooler lost; and of data that is damaged."""


class ConflictError(Exception):
    """Another transaction came first; nothing of this one was stored, and a retry is safe."""


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

    Raises:
        ConfigurationError: asyncpg is not installed, or the address is none.
    """

    def __init__(self, address: str, *, connections: int) -> None:
        if asyncpg is None:
            raise ConfigurationError('PostgreSQL needs asyncpg: pip install "chatkit-engine[postgres]"')
        self._address, self._pooled = _split(address)
        self._connections = connections
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
        if sniffio.current_async_library() != "asyncio":
            raise ConfigurationError("PostgreSQL is served on asyncio only")
        try:
            self._pool = await asyncpg.create_pool(
                self._address,
                min_size=1,
                max_size=self._connections,
                timeout=CONNECT_TIMEOUT_S,
                statement_cache_size=0 if self._pooled else 200,
                max_cached_statement_lifetime=0,
                reset=_keep,
            )
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise ConfigurationError(f"PostgreSQL refused: {error}") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise UnavailableError(f"no PostgreSQL: {_words(error)}", retry_after_s=RETRY_AFTER_S) from error
        except ValueError as error:
            raise ConfigurationError(f"the address of the storage is wrong: {error}") from error

    async def aclose(self) -> None:
        """Close every connection; those in use are cut after a moment."""
        pool, self._pool = self._pool, None
        if pool is not None:
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(RETRY_AFTER_S):
                    await pool.close()
                pool.terminate()

    @asynccontextmanager
    async def transaction(self, begin: str = WRITE) -> AsyncIterator[Connection]:
        """A transaction that is committed at the end of the block, and rolled back by any error in it.

        Args:
            begin: WRITE or READ.

        Raises:
            ConflictError: Another transaction came first.
            UnavailableError: The server cannot do it now. Whether it was stored is unknown.
        """
        inner = await self._acquire()
        usable = False
        try:
            with anyio.fail_after(TRANSACTION_TIMEOUT_S):
                await inner.execute(begin)
                connection = Connection(inner)
                connection.round_trips = 1
                try:
                    yield connection
                except Exception as error:
                    if not _is_dead(error, inner):
                        await inner.execute("ROLLBACK")
                        usable = True
                    raise
                await inner.execute("COMMIT")
                usable = True
        except Exception as error:
            raise _translated(error) from error
        finally:
            if not usable:
                inner.terminate()
            with anyio.CancelScope(shield=True):
                await self._pool_of(inner).release(inner)

    async def _acquire(self) -> Any:
        if self._pool is None:
            raise UnavailableError("the store is not open", retry_after_s=RETRY_AFTER_S)
        try:
            return await self._pool.acquire(timeout=CONNECT_TIMEOUT_S)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise UnavailableError(f"no PostgreSQL: {_words(error)}", retry_after_s=RETRY_AFTER_S) from error

    @staticmethod
    def _pool_of(inner: Any) -> Any:
        return inner._holder._pool


async def _keep(_connection: Any) -> None:
    """Nothing of a session is ever changed, so nothing has to be put back when it returns to the pool."""


def _is_dead(error: BaseException, inner: Any) -> bool:
    """Whether a connection is not known to be in order after an error."""
    return inner.is_closed() or isinstance(error, OSError | TimeoutError) or _is_misuse(error)


def _is_misuse(error: BaseException) -> bool:
    """asyncpg's own errors but for a value that cannot be sent, which was not."""
    return isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)


def _translated(error: Exception) -> Exception:
    """The error as callers know it."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state in _AGAIN:
            return ConflictError(_words(error))
        if state.startswith(_UNAVAILABLE):
            return UnavailableError(f"PostgreSQL refused: {_words(error)}", retry_after_s=RETRY_AFTER_S)
    elif isinstance(error, OSError | TimeoutError) or _is_misuse(error):
        return UnavailableError(f"PostgreSQL failed: {_words(error)}", retry_after_s=RETRY_AFTER_S)
    return error


def _words(error: Exception) -> str:
    """Which error it was. Never its detail, which may hold what was stored."""
    state = getattr(error, "sqlstate", None)
    return f"{type(error).__name__}{f' ({state})' if state else ''}"


def _split(address: str) -> tuple[str, bool]:
    """The address as PostgreSQL takes it, and whether a pooler is in between."""
    parts = urlsplit(address)
    query = parse_qsl(parts.query, keep_blank_values=True)
    poolers = [value for name, value in query if name == "pooler"]
    if any(value != "transaction" for value in poolers):
        raise ConfigurationError("pooler=transaction is the only kind of pooler that has to be named")
    rest = [(name, value) for name, value in query if name != "pooler"]
    return urlunsplit(parts._replace(query=urlencode(rest))), bool(poolers)
