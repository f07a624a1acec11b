"""The audit of the store in memory: written, and read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...core.log.audit import ChainedAct, chained
from ...core.log.state import Act
from .. import base
from ..audit import audit_row, chain_page
from .tables import MemoryState


def write_audit(tables: MemoryState, acts: Sequence[Act]) -> None:
    """Append rows to their chains."""
    tables.audit.extend(chained(acts, tables.audit_heads, len(tables.audit)))


class MemoryAuditReads:
    """`storage.audit.AuditReader` over the tables."""

    def __init__(self, tables: MemoryState) -> None:
        self._tables = tables

    async def audit(self, conversation_id: str) -> list[base.AuditRow]:
        """The acts in a conversation, in order."""
        return [*self._wanted(base.AuditFilter(conversation_id=conversation_id), self._tables.audit)]

    async def acts(self, wanted: base.AuditFilter, after: int, limit: int) -> list[base.AuditRow]:
        """What was done, in order."""
        return [*self._wanted(wanted, self._tables.audit[after:])][:limit]

    async def newest_acts(self, wanted: base.AuditFilter, before: int, limit: int) -> list[base.AuditRow]:
        """What was done last, the newest first."""
        return [*self._wanted(wanted, self._tables.audit[: max(0, before - 1)][::-1])][:limit]

    async def audit_end(self) -> int:
        """The number of the newest row."""
        return len(self._tables.audit)

    async def audit_chains(self, chain: int, number: int, limit: int) -> base.ChainPage:
        """Rows in the order of their chains."""
        rows = sorted(self._tables.audit, key=lambda row: (row.chain, row.number))
        behind = [row for row in rows if (row.chain, row.number) > (chain, number)][:limit]
        heads = [(name, *head) for name, head in sorted(self._tables.audit_heads.items()) if name >= chain]
        return chain_page(behind, heads[:limit], limit)

    async def unchained_acts(self, after: int, limit: int) -> list[ChainedAct]:
        """None: there always were chains."""
        return []

    def _wanted(self, wanted: base.AuditFilter, acts: Sequence[ChainedAct]) -> Iterator[base.AuditRow]:
        for act in acts:
            log = self._tables.by_key.get(act.conversation_key)
            row = audit_row("" if log is None else log.conversation_id, act)
            if _is_wanted(row, wanted):
                yield row


def _is_wanted(row: base.AuditRow, wanted: base.AuditFilter) -> bool:
    return (
        wanted.conversation_id in (None, row.conversation_id)
        and wanted.user_id in (None, row.actor_id, row.subject)
        and wanted.actor_id in (None, row.actor_id)
        and wanted.action in (None, row.action)
        and (wanted.since_ms is None or row.at_ms >= wanted.since_ms)
    )
