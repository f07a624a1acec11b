"""The audit on SQLite: written inside a write transaction, read inside a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import astuple

from ...core.log.audit import ChainedAct, Head, UnchainedRows, chained, chains_of
from ...core.log.state import Act
from ...drivers.sqlite import Connection
from ..audit import AuditFilter, AuditRow, ChainPage, audit_row, chain_page
from .select import select

INSERT_AUDIT = (
    "INSERT INTO audit (audit_id, at_ms, conversation_key, actor_id, action, seq, subject, detail, number, digest) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SELECT_NEWEST_ID = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit'"
SELECT_HEADS = """
WITH k (chain) AS (VALUES {keys})
SELECT h.chain, h.number, h.digest FROM k CROSS JOIN audit_head AS h ON h.chain = k.chain
"""
SET_HEAD = "INSERT OR REPLACE INTO audit_head (chain, number, digest) VALUES (?, ?, ?)"
_COLUMNS = (
    "a.audit_id, a.at_ms, a.conversation_key, a.actor_id, a.action, a.seq, a.subject, a.detail, a.number, "
    "a.digest"
)
SELECT_AUDIT = f"""
SELECT c.conversation_id, {_COLUMNS} FROM conversation AS c
JOIN audit AS a ON a.conversation_key = c.conversation_key
WHERE c.conversation_id = ? ORDER BY a.audit_id
"""  # noqa: S608 -- joined from constants of this module only
_WANTED = f"""
SELECT ifnull(c.conversation_id, ''), {_COLUMNS} FROM audit AS a
LEFT JOIN conversation AS c ON c.conversation_key = a.conversation_key
WHERE (?2 IS NULL OR a.conversation_key = (
        SELECT k.conversation_key FROM conversation AS k WHERE k.conversation_id = ?2))
    AND (?3 IS NULL OR a.actor_id = ?3 OR a.subject = ?3) AND (?4 IS NULL OR a.actor_id = ?4)
    AND (?5 IS NULL OR a.action = ?5) AND (?6 IS NULL OR a.at_ms >= ?6)
"""  # noqa: S608 -- joined from constants of this module only
SELECT_ACTS = _WANTED + "AND a.audit_id > ?1 ORDER BY a.audit_id LIMIT ?7"
SELECT_NEWEST_ACTS = _WANTED + "AND a.audit_id < ?1 ORDER BY a.audit_id DESC LIMIT ?7"
SELECT_END = "SELECT ifnull(max(audit_id), 0) FROM audit"
_CHAIN = "CASE a.action WHEN 'CREATED' THEN 0 ELSE a.conversation_key END"
SELECT_CHAINS = f"""
SELECT {_COLUMNS} FROM audit AS a
WHERE a.number > 0 AND {_CHAIN} >= ?1 AND ({_CHAIN} > ?1 OR a.number > ?2) ORDER BY {_CHAIN}, a.number LIMIT ?3
"""  # noqa: S608 -- joined from constants of this module only
SELECT_HEADS_FROM = "SELECT chain, number, digest FROM audit_head WHERE chain >= ? ORDER BY chain LIMIT ?"
SELECT_UNCHAINED = f"""
SELECT {_COLUMNS} FROM audit AS a WHERE a.number = 0 AND a.audit_id > ? ORDER BY a.audit_id LIMIT ?
"""  # noqa: S608 -- joined from constants of this module only

SELECT_STARTED = (
    "SELECT number > 0 OR NOT EXISTS (SELECT 1 FROM audit WHERE number = 0) FROM audit_head WHERE chain = 0"
)

_ROWS_PER_READ: Final = 1_000


def write_audit(connection: Connection, acts: Sequence[Act]) -> None:
    """Append rows to their chains."""
    ((newest_id,),) = connection.execute(SELECT_NEWEST_ID)
    wanted = [(chain,) for chain in sorted(chains_of(acts))]
    heads = {chain: Head(*head) for chain, *head in select(connection, SELECT_HEADS, wanted)}
    connection.executemany(INSERT_AUDIT, chained(acts, heads, newest_id))
    connection.executemany(SET_HEAD, [(chain, *head) for chain, head in heads.items()])


def start_chains(connection: Connection) -> None:
    """State once, as the log's first chained row, which rows are there from before there were chains."""
    connection.begin()
    try:
        ((is_started,),) = connection.execute(SELECT_STARTED)
        if not is_started:
            unchained = UnchainedRows()
            add_unchained(connection, unchained)
            stated = unchained.act()
            assert stated is not None, "there are such rows"
            write_audit(connection, [stated])
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def add_unchained(connection: Connection, unchained: UnchainedRows) -> None:
    """Take in all rows from before there were chains."""
    while rows := unchained_rows(connection, unchained.last, _ROWS_PER_READ):
        unchained.add(rows)


def unchained_rows(connection: Connection, after: int, limit: int) -> list[ChainedAct]:
    """Rows from before there were chains, in order."""
    return [ChainedAct(*row) for row in connection.execute(SELECT_UNCHAINED, (after, limit))]


def audit(connection: Connection, conversation_id: str) -> list[AuditRow]:
    """The acts in a conversation, in order."""
    return [_row(*row) for row in connection.execute(SELECT_AUDIT, (conversation_id,))]


def acts(connection: Connection, wanted: AuditFilter, after: int, limit: int) -> list[AuditRow]:
    """What was done, in order."""
    return [_row(*row) for row in connection.execute(SELECT_ACTS, (after, *astuple(wanted), limit))]


def newest_acts(connection: Connection, wanted: AuditFilter, before: int, limit: int) -> list[AuditRow]:
    """What was done last, the newest first."""
    return [_row(*row) for row in connection.execute(SELECT_NEWEST_ACTS, (before, *astuple(wanted), limit))]


def _row(conversation_id: str, *columns: Any) -> AuditRow:
    return audit_row(conversation_id, ChainedAct(*columns))


def audit_end(connection: Connection) -> int:
    """The number of the newest row: there is one writer, so rows are committed in their order."""
    ((newest_id,),) = connection.execute(SELECT_END)
    return int(newest_id)


def audit_chains(connection: Connection, chain: int, number: int, limit: int) -> ChainPage:
    """Rows in the order of their chains."""
    rows = [ChainedAct(*row) for row in connection.execute(SELECT_CHAINS, (chain, number, limit))]
    return chain_page(rows, connection.execute(SELECT_HEADS_FROM, (chain, limit)), limit)
