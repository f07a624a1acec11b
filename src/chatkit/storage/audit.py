"""The audit as stores show it: rows for people, and chains for a check. Part of the port; shown again by `base`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from ..core.log.audit import ChainedAct, Head
from ..types import AuditRow as AuditRow

_detail = msgspec.json.Decoder(dict[str, str]).decode


def audit_row(conversation_id: str, act: ChainedAct) -> AuditRow:
    """A row of the table as it is shown."""
    return AuditRow(
        act.audit_id,
        act.at_ms,
        conversation_id,
        act.actor_id,
        act.action,
        act.seq,
        act.subject,
        _detail(act.detail),
        act.conversation_key,
        act.number,
        act.digest.hex(),
    )


class AuditFilter(msgspec.Struct, frozen=True):
    """Which acts are wanted; what is not given does not matter.

    Attributes:
        conversation_id: Those in this conversation.
        user_id: Those that name this user: who did it, or whom it was done to.
        actor_id: Those that this user did; empty for the host.
        action: Those of this kind.
        since_ms: Those from then on.
    """

    conversation_id: str | None = None
    user_id: str | None = None
    actor_id: str | None = None
    action: str | None = None
    since_ms: int | None = None

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return self != AuditFilter()


EVERYTHING = AuditFilter()


class ChainPage(NamedTuple):
    """A piece of the audit in the order of its chains, and how far those chains have got, both at one point.

    Attributes:
        rows: By chain and number; those from before there were chains are in none.
        heads: How far each chain has got, from the chain that the page begins in.
        ends_in: The next page begins in this chain, of which there may be more; None: there is no next page.
    """

    rows: list[ChainedAct]
    heads: dict[int, Head]
    ends_in: int | None


def chain_page(rows: list[ChainedAct], heads: Sequence[tuple[int, int, bytes]], limit: int) -> ChainPage:
    """A page of what was read up to a limit of both: it ends where the shorter of the two does."""
    ends = [rows[-1].chain] if len(rows) == limit else []
    ends += [heads[-1][0]] if len(heads) == limit else []
    ends_in = min(ends, default=None)
    if ends_in is not None:
        rows = [row for row in rows if row.chain <= ends_in]
    return ChainPage(rows, {chain: Head(number, digest) for chain, number, digest in heads}, ends_in)


class AuditReader(Protocol):
    """Reads of who did what."""

    async def audit(self, conversation_id: str) -> list[AuditRow]:
        """The acts in a conversation, in order."""

    async def acts(self, wanted: AuditFilter, after: int, limit: int) -> list[AuditRow]:
        """What was done, in order: the rows above number `after` that are wanted; at most `limit`."""

    async def newest_acts(self, wanted: AuditFilter, before: int, limit: int) -> list[AuditRow]:
        """What was done last, the newest first: the rows below number `before` that are wanted; at most `limit`."""

    async def audit_end(self) -> int:
        """The number of the newest row; nothing committed later ever comes at or below it. 0: there is none.

        Raises:
            UnavailableError: Somebody's transaction has written to the audit and does not end. A retry is safe.
        """

    async def audit_chains(self, chain: int, number: int, limit: int) -> ChainPage:
        """Rows in the order of their chains: in `chain` those above `number`, and those in later chains.

        Args:
            chain: Where the former page ended (`ends_in`); 0 for the first.
            number: Of the newest row of that chain that was seen; 0 if there was none.
            limit: Most rows, and most heads; 2 at least.
        """

    async def unchained_acts(self, after: int, limit: int) -> list[ChainedAct]:
        """Rows from before there were chains, in order: those above number `after`; at most `limit`."""
