"""The audit on PostgreSQL: read. It is written by `write_batch`, and chained by the server itself (0005_audit.sql)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from ...core.log.audit import ChainedAct, UnchainedRows
from ...core.log.state import Act
from ...drivers.postgres import Connection
from ..audit import AuditFilter, AuditRow, ChainPage, audit_row, chain_page

_COLUMNS = (
    "a.audit_id, a.at_ms, a.conversation_key, a.actor_id, a.action, a.seq, a.subject, a.detail, a.number, "
    "a.digest"
)
SELECT_AUDIT = f"""
SELECT n.conversation_id, {_COLUMNS} FROM conversation_name AS n
JOIN audit AS a ON a.conversation_key = n.conversation_key
WHERE n.conversation_id = $1 ORDER BY a.audit_id
"""  # noqa: S608 -- joined from constants of this module only
_WANTED = f"""
SELECT coalesce(c.conversation_id, ''), {_COLUMNS} FROM audit AS a
LEFT JOIN conversation AS c ON c.conversation_key = a.conversation_key
WHERE ($2::text IS NULL OR a.conversation_key = (
        SELECT n.conversation_key FROM conversation_name AS n WHERE n.conversation_id = $2))
    AND ($3::text IS NULL OR a.actor_id = $3 OR a.subject = $3) AND ($4::text IS NULL OR a.actor_id = $4)
    AND ($5::text IS NULL OR a.action = $5) AND ($6::bigint IS NULL OR a.at_ms >= $6)
    AND a.number >= 0
"""  # noqa: S608 -- joined from constants of this module only
SELECT_ACTS = _WANTED + "AND a.audit_id > $1 ORDER BY a.audit_id LIMIT $7"
SELECT_NEWEST_ACTS = _WANTED + "AND a.audit_id < $1 ORDER BY a.audit_id DESC LIMIT $7"
LOCK_ALONE = "SELECT pg_advisory_xact_lock(1667785077, 5)"
SELECT_END = "SELECT coalesce(max(audit_id), 0) FROM audit WHERE number >= 0"
_CHAIN = "CASE a.action WHEN 'CREATED' THEN 0 ELSE a.conversation_key END"
SELECT_CHAINS = f"""
SELECT {_COLUMNS} FROM audit AS a
WHERE a.number > 0 AND {_CHAIN} >= $1 AND ({_CHAIN} > $1 OR a.number > $2) ORDER BY {_CHAIN}, a.number LIMIT $3
"""  # noqa: S608 -- joined from constants of this module only
SELECT_HEADS_FROM = "SELECT chain, number, digest FROM audit_head WHERE chain >= $1 ORDER BY chain LIMIT $2"
SELECT_UNCHAINED = f"""
SELECT {_COLUMNS} FROM audit AS a WHERE a.number = 0 AND a.audit_id > $1 ORDER BY a.audit_id LIMIT $2
"""  # noqa: S608 -- joined from constants of this module only
SELECT_STARTED = """
SELECT h.number > 0 OR NOT EXISTS (SELECT FROM audit WHERE number = 0) FROM audit_head AS h WHERE h.chain = 0
"""
_ROWS_PER_READ: Final = 1_000

WRITE_AUDIT = "SELECT write_audit_1($1, $2::text::jsonb)"


async def write_audit(connection: Connection, slot: int, acts: Sequence[Act]) -> None:
    """Append rows; the server chains them."""
    await connection.fetch(WRITE_AUDIT, slot, msgspec.json.encode(acts).decode())


async def start_chains(connection: Connection) -> None:
    """State once, as the log's first chained row, which rows are there from before there were chains."""
    ((is_started,),) = await connection.fetch(SELECT_STARTED)
    if not is_started:
        unchained = UnchainedRows()
        while rows := await unchained_rows(connection, unchained.last, _ROWS_PER_READ):
            unchained.add(rows)
        stated = unchained.act()
        assert stated is not None, "there are such rows"
        await write_audit(connection, 0, [stated])


async def unchained_rows(connection: Connection, after: int, limit: int) -> list[ChainedAct]:
    """Rows from before there were chains, in order."""
    return [ChainedAct(*row) for row in await connection.fetch(SELECT_UNCHAINED, after, limit)]


async def audit(connection: Connection, conversation_id: str) -> list[AuditRow]:
    """The acts in a conversation, in order."""
    return [_row(*row) for row in await connection.fetch(SELECT_AUDIT, conversation_id)]


async def acts(connection: Connection, wanted: AuditFilter, after: int, limit: int) -> list[AuditRow]:
    """What was done, in order."""
    return [_row(*row) for row in await connection.fetch(SELECT_ACTS, after, *astuple(wanted), limit)]


async def newest_acts(connection: Connection, wanted: AuditFilter, before: int, limit: int) -> list[AuditRow]:
    """What was done last, the newest first."""
    return [_row(*row) for row in await connection.fetch(SELECT_NEWEST_ACTS, before, *astuple(wanted), limit)]


def _row(conversation_id: str, *columns: Any) -> AuditRow:
    return audit_row(conversation_id, ChainedAct(*columns))


async def audit_end(connection: Connection) -> int:
    """The number of the newest row, once every transaction has ended that wrote a lower one."""
    await connection.fetch(LOCK_ALONE)
    ((newest_id,),) = await connection.fetch(SELECT_END)
    return int(newest_id)


async def audit_chains(connection: Connection, chain: int, number: int, limit: int) -> ChainPage:
    """Rows in the order of their chains."""
    rows = [ChainedAct(*row) for row in await connection.fetch(SELECT_CHAINS, chain, number, limit)]
    return chain_page(rows, await connection.fetch(SELECT_HEADS_FROM, chain, limit), limit)
