"""Numbered SQL files that bring a PostgreSQL schema up to date, once each, in order, in one transaction.

Called by `storage.postgres`. Nodes that start at the same time wait for each other by an advisory lock.
"""

from __future__ import annotations

from typing import Final

from ..errors import ConfigurationError
from .migrations import migration_files
from .postgres import Connection

_LOCK: Final = "SELECT pg_advisory_xact_lock(1667785077, 3)"
_TABLE: Final = "CREATE TABLE schema_migration (number integer PRIMARY KEY, name text NOT NULL)"


async def migrate(connection: Connection, package: str) -> None:
    """Apply the files of a package's folder `migrations` that this schema has not seen; nothing to do is fine.

    Raises:
        ConfigurationError: The schema was made by a newer version; nothing was changed.
    """
    await connection.fetch(_LOCK)
    if not await _is_known(connection):  # even IF NOT EXISTS needs the right to make one
        await connection.execute(_TABLE)
    for number, name, text in await _pending(connection, package):
        await connection.execute(text)
        await connection.fetch("INSERT INTO schema_migration VALUES ($1, $2)", number, name)


async def check_current(connection: Connection, package: str) -> None:
    """See that this version made the schema; nothing is changed.

    Raises:
        ConfigurationError: There is none, or it was made by a newer or an older version.
    """
    if not await _is_known(connection):
        raise ConfigurationError("this database has no log of chatkit")
    if await _pending(connection, package):
        raise ConfigurationError(
            "this database was made by an older version; it is upgraded when it is served"
        )


async def _is_known(connection: Connection) -> bool:
    ((known,),) = await connection.fetch("SELECT to_regclass('schema_migration') IS NOT NULL")
    return bool(known)


async def _pending(connection: Connection, package: str) -> list[tuple[int, str, str]]:
    """Number, name and text of the files that were not applied yet, in order."""
    applied = {row[0]: row[1] for row in await connection.fetch("SELECT number, name FROM schema_migration")}
    files = {int(name.split("_", 1)[0]): (name, text) for name, text in migration_files(package)}
    for number, name in applied.items():
        if files.get(number, ("",))[0] != name:
            raise ConfigurationError(
                f"this database was made by a newer version (it has {name}); upgrade first"
            )
    return [(number, *file) for number, file in sorted(files.items()) if number not in applied]
