"""Whether a database was put back from a backup: by where it is, or because somebody said so.

A log knows in which cluster and database it was served last. One that was dumped and restored is in another database,
and counts as put back. One that was put back inside its own cluster (by the cluster's files, or by the write-ahead log
up to a moment) looks like any other: whoever did that says so, by `chatkit restore --storage`. A failover is none.

The word that a log was put back is in the database itself, so that it holds until every conversation is renewed,
whichever node does that. Called by `store` and by the command.
"""

from __future__ import annotations

from typing import Final

from ...drivers.postgres import Connection, Database, DatabaseError, Deadlines
from ...errors import ConfigurationError

_MAY_SEE_CLUSTER: Final = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')"
_SELECT_CLUSTER: Final = "SELECT system_identifier::text FROM pg_control_system()"
_SELECT_DATABASE: Final = "SELECT oid::text FROM pg_database WHERE datname = current_database()"
_SELECT_HOME: Final = "SELECT value FROM setting WHERE name = 'home'"
_SET_HOME: Final = """
INSERT INTO setting (name, value) VALUES ('home', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_SELECT_IS_USED: Final = "SELECT EXISTS (SELECT 1 FROM conversation)"
_SELECT_MARK: Final = "SELECT EXISTS (SELECT 1 FROM setting WHERE name = 'put_back')"
_MARK: Final = "INSERT INTO setting (name, value) VALUES ('put_back', '') ON CONFLICT (name) DO NOTHING"
_UNMARK: Final = "DELETE FROM setting WHERE name = 'put_back'"
_SELECT_IS_LOG: Final = (
    "SELECT to_regclass('setting') IS NOT NULL AND to_regclass('conversation') IS NOT NULL"
)


async def notice(connection: Connection) -> bool:
    """Compare where the log is with where it was served last. Returns whether it counts as put back."""
    home = await _home(connection)
    rows = await connection.fetch(_SELECT_HOME)
    former = bytes(rows[0][0]).decode() if rows else home
    if not rows or former != home:
        await connection.fetch(_SET_HOME, home.encode())
    ((is_used,),) = await connection.fetch(_SELECT_IS_USED)
    if is_used and not _may_be_same(former, home):
        await connection.fetch(_MARK)
    return await is_marked(connection)


async def is_marked(connection: Connection) -> bool:
    """Whether the log was put back, and not every conversation is renewed yet."""
    ((found,),) = await connection.fetch(_SELECT_MARK)
    return bool(found)


async def unmark(connection: Connection) -> None:
    """Every conversation is renewed."""
    await connection.fetch(_UNMARK)


async def mark_put_back(address: str) -> None:
    """Have every conversation of a log renewed: by the next server that starts, or within seconds by one that runs.

    Raises:
        ConfigurationError: The address is wrong, there is no log, or the user may not write to it.
        UnavailableError: The server cannot do it now; a retry is safe.
    """
    database = Database(address, connections=1, deadlines=Deadlines())
    await database.open()
    try:
        async with database.transaction() as connection:
            ((is_log,),) = await connection.fetch(_SELECT_IS_LOG)
            if not is_log:
                raise ConfigurationError("this database has no log of chatkit")
            await connection.fetch(_MARK)
    except DatabaseError as error:
        raise ConfigurationError(f"the user may not write to chatkit's tables: {error}") from None
    finally:
        await database.aclose()


async def _home(connection: Connection) -> str:
    """Which cluster, and which database in it; the cluster is empty where this user may not see that."""
    ((may_see,),) = await connection.fetch(_MAY_SEE_CLUSTER)
    cluster = (await connection.fetch(_SELECT_CLUSTER))[0][0] if may_see else ""
    ((database,),) = await connection.fetch(_SELECT_DATABASE)
    return f"{cluster}/{database}"


def _may_be_same(former: str, home: str) -> bool:
    clusters, databases = zip(former.split("/"), home.split("/"), strict=True)
    return databases[0] == databases[1] and (clusters[0] == clusters[1] or "" in clusters)
