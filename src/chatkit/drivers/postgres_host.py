"""A transaction that a host began on a connection of its own: what is done in it ends with it.

A savepoint keeps the host's transaction usable, whatever becomes of what is done inside. A connection of a host is
never cut here, and its transaction never ended. Called by `storage.postgres`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from ..errors import ConfigurationError, UnavailableError
from .postgres import Connection, asyncpg, translated, words_of

_logger = logging.getLogger(__name__)

_NAME: Final = "chatkit_savepoint"
"""Released only when it is undone: a release that is cancelled may have taken effect, and going back to a savepoint
that is gone breaks the transaction."""

_UNDO_S: Final = 5.0
"""How long is waited for the end of what was cancelled, and for its undoing."""

_FAILED: Final = "25P02"
"""in_failed_sql_transaction"""


@asynccontextmanager
async def savepoint(given: object) -> AsyncIterator[Connection]:
    """Work inside the host's open transaction: an error in the block undoes what the block did, and nothing else.

    Whoever is cancelled in the block has done nothing either.

    Args:
        given: An `asyncpg.Connection`, of a pool or not, or an `AsyncConnection` or `AsyncSession` of SQLAlchemy on
            asyncpg.

    Raises:
        ConfigurationError: It is none of these, has no open transaction, is in use, or its transaction has failed.
        ConflictError, LockedError: See `drivers.postgres`. After a ConflictError the host rolls its transaction back
            and repeats all of it.
        DatabaseError: A statement was refused for another reason.
        UnavailableError: The server cannot do it now.
    """
    inner = await _driver_connection(given)
    try:
        _check_open(inner)
        await inner.execute(f"SAVEPOINT {_NAME}")
    except Exception as error:
        raise _known(inner, error) from None
    try:
        yield Connection(inner)
    except BaseException as error:
        await _undo(inner)
        if not isinstance(error, Exception) or (known := _known(inner, error)) is error:
            raise
        raise known from None  # asyncpg's own words may hold what was stored


async def _driver_connection(given: Any) -> Any:
    """asyncpg's connection behind what a host gave; SQLAlchemy begins its transaction here if it has not yet."""
    if _has(given, "connection"):  # AsyncSession
        given = await given.connection()
    return await _of_sqlalchemy(given) if _has(given, "get_raw_connection") else _checked(given)


def _has(given: object, method: str) -> bool:
    """Whether it has a coroutine of this name: SQLAlchemy is known by its methods, so that nobody needs it."""
    return inspect.iscoroutinefunction(getattr(type(given), method, None))


async def _of_sqlalchemy(connection: Any) -> Any:
    inner = _checked((await connection.get_raw_connection()).driver_connection)
    if not inner.is_in_transaction():  # it is begun with the first statement
        await connection.exec_driver_sql("SELECT 1")
    return inner


def _checked(given: object) -> Any:
    if isinstance(given, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
        return given
    raise ConfigurationError(
        f"connection={type(given).__name__} is none: give an asyncpg connection, or an AsyncSession or "
        "AsyncConnection of SQLAlchemy on asyncpg"
    )


def _check_open(inner: Any) -> None:
    if inner.is_closed():
        raise UnavailableError("the connection is closed: repeat the transaction on another one")
    if not inner.is_in_transaction():
        raise ConfigurationError("the connection has no open transaction: begin one first")


def _known(inner: Any, error: Exception) -> Exception:
    """The error as callers know it."""
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate == _FAILED:
        return ConfigurationError("the transaction has failed already: roll it back")
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError) and not _is_cut(inner):
        return ConfigurationError(f"the connection cannot be used: {error}")
    return translated(error)


def _is_cut(inner: Any) -> bool:
    try:
        return bool(inner.is_closed())
    except asyncpg.InterfaceError:  # it went back to its pool
        return False


async def _undo(inner: Any) -> None:
    """Have the transaction as it was before the savepoint. Where that fails it can only be rolled back."""
    with anyio.move_on_after(_UNDO_S, shield=True):
        try:
            await inner.execute(f"ROLLBACK TO SAVEPOINT {_NAME}; RELEASE SAVEPOINT {_NAME}")
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
            TimeoutError,
        ) as error:
            _logger.info("a transaction of the host cannot go on: %s", words_of(error))
