"""The check of the audit, for every store: each chain and its end, and what stands before the chains."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from ..core.log.audit import LOG, START, ChainCheck, ChainedAct, UnchainedRows
from .audit import EVERYTHING, AuditReader, ChainPage
from .verify_report import Progress, Report

ROWS_PER_READ: Final = 1_000


class AuditCheck:
    """Takes the rows from before the chains, then every chain, page by page; memory does not grow.

    Args:
        report: What is wrong goes in there.
        name: A conversation for people, by the store's number of it.

    Attributes:
        unchained: The rows from before the chains go in there, first of all.
    """

    def __init__(self, report: Report, name: Callable[[int], str]) -> None:
        self._report = report
        self._name = name
        self._chains = ChainCheck()
        self.unchained = UnchainedRows()

    @property
    def rows(self) -> int:
        """How many were checked."""
        return self.unchained.count + self._chains.rows

    @property
    def chain(self) -> int:
        """Where the next page is to begin."""
        return self._chains.chain

    @property
    def number(self) -> int:
        """Of the newest row of that chain that was seen."""
        return self._chains.number

    def feed(self, page: ChainPage) -> bool:
        """Take the next page; whether there is another one. One that leads nowhere, in a damaged file, is the last."""
        began = (self.chain, self.number)
        if began == (LOG, START.number):
            self._check_before(page.rows)
        for fault in self._chains.feed(*page):
            where = "the log's own acts" if fault.chain == LOG else self._name(fault.chain)
            self._report.add("audit", f"of the audit of {where}, {fault.words}")
        return page.ends_in is not None and (self.chain, self.number) > began

    def _check_before(self, rows: Sequence[ChainedAct]) -> None:
        """Compare what is there from before the chains with what the log's first act says of it."""
        found = self.unchained.act()
        first = rows[0] if rows and (rows[0].chain, rows[0].number) == (LOG, 1) else None
        stated = first if first is not None and first.action == "CHAIN_STARTED" else None
        if (stated.detail if stated else None) != (found.detail if found else None):
            self._report.add(
                "audit", "the audit rows from before there were chains are not those that were there"
            )


async def check_audit(reader: AuditReader, report: Report) -> AsyncIterator[Progress]:
    """Check every chain, page by page, each as it is then; servers may go on meanwhile.

    Raises:
        UnavailableError: Storage does not answer; a retry is safe.
    """
    check = AuditCheck(report, "the conversation with number {}".format)
    newest = await reader.newest_acts(EVERYTHING, 2**63 - 1, 1)
    total = newest[0].audit_id if newest else 0
    while rows := await reader.unchained_acts(check.unchained.last, ROWS_PER_READ):
        check.unchained.add(rows)
    more = True
    while more:
        yield Progress("chains", min(check.rows, total), total)
        more = check.feed(await reader.audit_chains(check.chain, check.number, ROWS_PER_READ))
    yield Progress("chains", total, total)
