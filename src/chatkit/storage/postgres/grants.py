"""The rights of a role that serves a log and cannot change its audit: `chatkit postgres grants`.

The owner of the schema runs the migrations and gives these rights after each; servers and workers log in as the role.
"""

from __future__ import annotations

import re
from typing import Final

from ...errors import ConfigurationError
from .verify_schema import made

_READ_ONLY: Final = ("audit_head", "schema_migration")
_ADD_ONLY: Final = ("audit", "login_audit")
_NUMBERS_OF_THE_OWNER: Final = ("audit_id",)
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,63}")


def grants(role: str, schema: str) -> str:
    """SQL that gives a role what a server needs, and takes from it what it had beyond. It may be run again.

    Args:
        role: Its name; it is there, no superuser, and no member of the owner of the schema.
        schema: Where the tables are.

    Raises:
        ConfigurationError: No name of a role or schema.
    """
    to, within = _quoted("role", role), _quoted("schema", schema)
    tables = [it.name for it in made() if it.kind in ("table", "view")]
    sequences = [it.name for it in made() if it.kind == "sequence"]
    changed = [it for it in tables if it not in (*_READ_ONLY, *_ADD_ONLY, "offline_inbox")]
    given = [
        ("SELECT, INSERT, UPDATE, DELETE", "TABLE", changed),
        ("SELECT, INSERT", "TABLE", [it for it in tables if it in _ADD_ONLY]),
        ("SELECT", "TABLE", [*_READ_ONLY, "offline_inbox"]),
        ("USAGE, SELECT", "SEQUENCE", [it for it in sequences if it not in _NUMBERS_OF_THE_OWNER]),
        ("SELECT", "SEQUENCE", [*_NUMBERS_OF_THE_OWNER]),
    ]
    lines = [
        "BEGIN;",
        f"REVOKE CREATE ON SCHEMA {within} FROM PUBLIC, {to};",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {within} FROM PUBLIC, {to};",
        f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {within} FROM PUBLIC, {to};",
        f"GRANT USAGE ON SCHEMA {within} TO {to};",
        *(
            f"GRANT {rights} ON {kind} {', '.join(f'{within}.{name}' for name in names)} TO {to};"
            for rights, kind, names in given
        ),
        "COMMIT;",
    ]
    return "\n".join(lines) + "\n"


def _quoted(what: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name of a {what}: 1 to 63 characters")
    return '"' + name.replace('"', '""') + '"'
