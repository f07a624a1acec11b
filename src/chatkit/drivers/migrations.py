"""Numbered SQL files that bring a database up to date, once each, in order, in one transaction.

Called by `storage.sqlite` and by the client's local store, each with its own folder of files and its own
application id, so that neither ever writes into a file that is not its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files as package_files

from ..errors import ConfigurationError
from .sqlite import Connection, is_complete_statement

MigrationFile = tuple[str, str]
"""A file name that begins with its number (`0001_initial.sql`), and the file's text."""

_TABLE = "CREATE TABLE IF NOT EXISTS schema_migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT"
_FOREIGN = "this SQLite file was made by another program; name another file"


def migration_files(package: str) -> list[MigrationFile]:
    """The `.sql` files in a package's folder `migrations`, by number."""
    folder = package_files(package) / "migrations"
    found = [
        (entry.name, entry.read_text("utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql")
    ]
    return sorted(found)


def migrate(connection: Connection, files: Sequence[MigrationFile], application_id: int) -> None:
    """Apply the files that this database has not seen, in one transaction; nothing to do is fine.

    Args:
        connection: Opened for writing, in no transaction.
        files: All files of this program, by number from 1 without holes.
        application_id: SQLite's application id of this kind of file, not 0.

    Raises:
        ConfigurationError: The database belongs to another program, or to a newer version of this one; no
            table of it was changed.
        UnavailableError: The database is busy or full; a retry is safe.
    """
    connection.begin()
    try:
        _claim(connection, application_id)
        connection.execute(_TABLE)
        for number, (name, text) in _pending(connection, files):
            for statement in _statements(text):
                connection.execute(statement)
            connection.execute("INSERT INTO schema_migration VALUES (?, ?)", (number, name))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def check_current(connection: Connection, files: Sequence[MigrationFile], application_id: int) -> None:
    """See that a database is of this kind and has seen exactly these files; nothing is changed.

    Raises:
        ConfigurationError: It belongs to another program, or to a newer or an older version of this one.
        UnavailableError: The database is busy or damaged.
    """
    ((found,),) = connection.execute("PRAGMA application_id")
    known = connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migration'"
    )
    if found != application_id or not known:
        raise ConfigurationError(_FOREIGN)
    if _pending(connection, files):
        raise ConfigurationError(
            "this SQLite file was made by an older version; it is upgraded when it is served"
        )


def is_ours(connection: Connection, application_id: int) -> bool:
    """Whether a database is of this kind, or is empty and belongs to nobody."""
    ((found,),) = connection.execute("PRAGMA application_id")
    if found == application_id:
        return True
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_schema")
    return found == 0 and not tables


def _claim(connection: Connection, application_id: int) -> None:
    """Make sure that the file is ours, or an empty one that becomes ours."""
    if not is_ours(connection, application_id):
        raise ConfigurationError(_FOREIGN)
    if connection.execute("PRAGMA application_id") != [(application_id,)]:
        connection.execute(f"PRAGMA application_id = {application_id}")


def _pending(connection: Connection, files: Sequence[MigrationFile]) -> list[tuple[int, MigrationFile]]:
    numbered = {int(file[0].split("_", 1)[0]): file for file in files}
    applied: dict[int, str] = dict(connection.execute("SELECT number, name FROM schema_migration"))
    for number, name in applied.items():
        if number not in numbered or numbered[number][0] != name:
            raise ConfigurationError(
                f"this SQLite file was made by a newer version (it has {name}); upgrade first"
            )
    return [(number, file) for number, file in sorted(numbered.items()) if number not in applied]


def _statements(text: str) -> Iterator[str]:
    """The statements of a file, one by one, since there is no other way to run many in one transaction."""
    buffer = ""
    for line in text.splitlines(keepends=True):
        buffer += line
        if is_complete_statement(buffer):
            yield buffer
            buffer = ""
    if buffer.strip():
        yield buffer
