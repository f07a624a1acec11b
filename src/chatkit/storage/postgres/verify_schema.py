"""Whether a PostgreSQL schema has what chatkit's migrations make. Called by `verify`.

What they make is read from their text: each statement begins a line, and names what it makes or drops.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, Literal, NamedTuple, get_args

from ...drivers.migrations import migration_files
from ...drivers.postgres import Connection
from ..verify_report import Report

Kind = Literal["table", "index", "sequence", "view", "trigger", "function"]

_STATEMENT: Final = re.compile(
    rf"^(CREATE|DROP)(?: OR REPLACE| UNIQUE)* ({'|'.join(get_args(Kind))})(?: IF EXISTS)? (\w+)",
    re.MULTILINE | re.IGNORECASE,
)
_SELECT_FOUND: Final = """
SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' ELSE 'view' END,
    c.relname::text, coalesce(i.indisvalid AND i.indisready, TRUE)
FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
WHERE pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'i', 'S', 'v')
UNION ALL
SELECT 'trigger', t.tgname::text, t.tgenabled IN ('O', 'A') FROM pg_trigger AS t
WHERE NOT t.tgisinternal AND pg_table_is_visible(t.tgrelid)
UNION ALL
SELECT 'function', p.proname::text, TRUE FROM pg_proc AS p WHERE pg_function_is_visible(p.oid)
"""
_SELECT_KEYLESS: Final = """
SELECT k.name FROM unnest($1::text[]) AS k (name) WHERE NOT EXISTS (
    SELECT 1 FROM pg_index AS i WHERE i.indrelid = to_regclass(k.name) AND i.indisprimary AND i.indisvalid)
"""


class _Made(NamedTuple):
    """Something that a migration makes."""

    kind: Kind
    name: str


async def check_schema(connection: Connection, report: Report) -> bool:
    """Note what is missing or switched off. Returns whether all tables are there, so that the rest can be checked."""
    rows = await connection.fetch(_SELECT_FOUND)
    works = {_Made(kind, name): works for kind, name, works in rows}
    for it in made():
        if it not in works:
            report.add("schema", f"the {it.kind} {it.name} is missing")
        elif not works[it]:
            report.add("schema", f"the {it.kind} {it.name} is switched off or not valid")
    tables = [it.name for it in made() if it.kind == "table"]
    for (name,) in await connection.fetch(
        _SELECT_KEYLESS, [it for it in tables if _Made("table", it) in works]
    ):
        report.add("schema", f"the table {name} has no primary key")
    return all(_Made("table", it) in works for it in tables)


@cache
def made() -> tuple[_Made, ...]:
    """What is there once all migrations were applied."""
    found: dict[_Made, None] = {}
    for _, text in migration_files(__package__):
        for verb, kind, name in _STATEMENT.findall(text):
            it = _Made(kind.lower(), name)
            if verb.upper() == "CREATE":
                found[it] = None
            else:
                found.pop(it, None)
    return tuple(found)
