"""What each row of a table must be by itself, as SQL that returns the rows that are not. Run by `verify`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple


class RowCheck(NamedTuple):
    """What each row of a table must be by itself.

    Attributes:
        sql: Returns at most ?1 rows of which something does not hold: the key of the conversation, or NULL, then for
            each fault whether the row has it.
        faults: The words for each; they follow the name of what has it.
    """

    sql: str
    faults: tuple[str, ...]


def row_check(table: str, sql: str, columns: Sequence[tuple[str, str]]) -> RowCheck | None:
    """The check of a table's rows; None if there is nothing to check.

    SQLite checks no CHECK on a connection that cannot write, and no text at all: any bytes are one to it.

    Args:
        table: Its name.
        sql: Its CREATE TABLE as chatkit makes it.
        columns: Name and type of each.
    """
    faults = {
        f"a text that is not UTF-8 in {table}.{name}": _not_utf8(name)
        for name, type_ in columns
        if type_ == "TEXT"
    }
    for condition in _conditions(sql):
        faults[f"a row in {table} that breaks CHECK ({condition})"] = f"NOT ({condition})"
    if not faults:
        return None
    key = "conversation_key" if "conversation_key" in dict(columns) else "NULL"
    flags = ", ".join(f"({it})" for it in faults.values())
    broken = " OR ".join(f"({it})" for it in faults.values())
    # NOT INDEXED: row by row, in the order of the file
    return RowCheck(f"SELECT {key}, {flags} FROM {table} NOT INDEXED WHERE {broken} LIMIT ?1", tuple(faults))  # noqa: S608


def _not_utf8(column: str) -> str:
    """Whether a text is none. Python is asked only for those that have other bytes than ASCII in them, or a zero."""
    return (
        f"({column} GLOB '*[^' || char(1) || '-' || char(127) || ']*' "
        f"OR length({column}) <> length(CAST({column} AS BLOB))) AND NOT is_utf8(CAST({column} AS BLOB))"
    )


def _conditions(sql: str) -> list[str]:
    """What stands in the parentheses behind each CHECK of a CREATE TABLE."""
    found = []
    for match in re.finditer(r"\bCHECK \(", sql):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(sql[end], 0)
            end += 1
        found.append(sql[match.end() : end - 1])
    return found
