"""A message in a transaction of the host's own: there exactly if what the host wrote in it is. Called by `store`.

The session is the host's, so nothing of its settings is relied on: those that matter are looked at, and the search path
is chatkit's own while it works. Why it is so: docs/design/0015-host-transactions.md.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from typing import Final

import msgspec

from ...drivers.postgres import ConflictError as PostgresConflict
from ...drivers.postgres import Connection, DatabaseError
from ...drivers.postgres_host import savepoint
from ...errors import ConfigurationError
from .. import base
from .batch import carry_out
from .write import HOST_SLOTS, NODE_SLOTS

SELECT_SCHEMA: Final = (
    "SELECT quote_ident(n.nspname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE c.oid = 'setting'::regclass"
)

_ENTER: Final = """
WITH found AS MATERIALIZED (
    SELECT
        current_setting('transaction_isolation') AS isolation, current_setting('synchronous_commit') AS durable,
        current_setting('search_path') AS path, current_setting('lock_timeout') AS lock_timeout
)
SELECT
    f.isolation, f.durable, f.path, f.lock_timeout, pg_backend_pid()::bigint, pg_current_xact_id()::text,
    (SELECT value FROM {schema}.setting WHERE name = 'secret'),
    $1::bigint, $2::text, $3::bytea, $4::boolean, $5::bigint[], $6::text[], $7::bytea[], $8::boolean[],
    set_config('search_path', $9, true),
    CASE WHEN f.lock_timeout = '0' THEN set_config('lock_timeout', $10, true) END
FROM found AS f
"""
"""What the session is like, and what it is set to. What goes comes back as it is if it has no codecs of its own."""

_LEAVE: Final = "SELECT set_config('search_path', $1, true), set_config('lock_timeout', $2, true)"

_LOCK_OUTBOX: Final = (
    "SELECT FROM conversation_name AS n JOIN outbox AS o ON o.conversation_key = n.conversation_key "
    "WHERE n.conversation_id = $1 FOR UPDATE OF o"
)
"""Above READ COMMITTED: fails with 40001 if the outbox was changed since the snapshot. What else `load` reads for a
message changes only together with the row of the conversation, whose lock fails then."""

_SELECT_STATUS: Final = "SELECT name, pg_xact_status(name::xid8) FROM unnest($1::text[]) AS k (name)"

_ECHO: Final = (1, "a", b"\0", True, [1, None], ["a", None], [b"\0", None], [True, None])

_ANOTHER_LOG: Final = ("42P01", "3F000", "42703")
"""SQLSTATEs where there is no such table, schema or column."""

_NO_RIGHT: Final = "42501"
_BAD_VALUE: Final = "22"


class _Session(msgspec.Struct):
    """What was found when a host's session was entered."""

    isolation: str
    synchronous_commit: str
    search_path: str
    lock_timeout: str
    process_id: int
    transaction: str
    secret: bytes | None
    echo: tuple[object, ...]

    def check(self, secret: bytes) -> None:
        """Raise ConfigurationError for a session in which a message would not be what it is elsewhere."""
        if self.echo != _ECHO:
            raise own_codecs()
        if not isinstance(self.secret, bytes) or not hmac.compare_digest(self.secret, secret):
            raise another_log()
        if self.synchronous_commit == "off":
            raise ConfigurationError(
                "the connection runs with synchronous_commit = off: a message could be seen and then lost"
            )


def another_log() -> ConfigurationError:
    """The connection leads elsewhere."""
    return ConfigurationError("the connection is to another database than the log of this server")


def own_codecs() -> ConfigurationError:
    """The connection does not say plainly what it is asked."""
    return ConfigurationError(
        "the connection has codecs of its own for bigint, text, bytea or boolean: give one without"
    )


async def append_within(
    given: object, command: base.Append, *, schema: str, secret: bytes, lock_s: float
) -> tuple[base.Appended, str]:
    """As `base.AppendsWithin.append_within`.

    Args:
        given: The host's connection.
        command: The message.
        schema: Where chatkit's tables are, quoted.
        secret: The log's.
        lock_s: How long to wait for the conversation, unless the session has a `lock_timeout`.
    """
    try:
        async with savepoint(given) as connection:
            session = await _enter(connection, schema, lock_s)
            session.check(secret)
            slot = NODE_SLOTS + session.process_id % HOST_SLOTS
            (outcome,) = await carry_out(connection, [command], slot)
            if isinstance(outcome, base.Refused):
                raise outcome.error  # undoes the savepoint, so that the conversation is not locked for nothing
            assert isinstance(outcome, base.Appended)
            if session.isolation not in ("read committed", "read uncommitted"):
                await connection.fetch(_LOCK_OUTBOX, command.conversation_id)
            await connection.fetch(_LEAVE, session.search_path, session.lock_timeout)
    except PostgresConflict as error:
        words = f"another transaction came first ({error}): roll back, and repeat all of it"
        raise PostgresConflict(words, retry_after_s=0.0) from None
    except DatabaseError as error:
        if error.sqlstate in _ANOTHER_LOG:
            raise another_log() from None
        if error.sqlstate.startswith(_BAD_VALUE):
            raise own_codecs() from None
        if error.sqlstate == _NO_RIGHT:
            raise ConfigurationError(
                f"the connection's user has no right to chatkit's tables: {error}"
            ) from None
        raise
    return outcome, session.transaction


async def ended(connection: Connection, transactions: Collection[str]) -> dict[str, bool]:
    """Those that have ended, and whether they were committed; one too old for the server to know may have been."""
    rows = await connection.fetch(_SELECT_STATUS, list(transactions))
    return {name: status != "aborted" for name, status in rows if status != "in progress"}


async def _enter(connection: Connection, schema: str, lock_s: float) -> _Session:
    settings = f"{schema}, pg_temp", f"{max(1, round(lock_s * 1000))}ms"  # else temporary tables come first
    try:
        (row,) = await connection.fetch(_ENTER.format(schema=schema), *_ECHO, *settings)
    except (ValueError, TypeError, LookupError, AttributeError):  # of a codec
        raise own_codecs() from None
    isolation, durable, path, lock_timeout, process_id, transaction, found, *echo, _, _ = row
    return _Session(isolation, durable, path, lock_timeout, process_id, transaction, found, tuple(echo))
