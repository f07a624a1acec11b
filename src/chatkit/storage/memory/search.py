"""Search in memory: no index, all that a user may see is gone through. Never behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter

from ...core.log.marks import NO_MARKS
from ...core.log.rules import not_found
from ...core.log.state import MessageRow
from ...core.search import Query, Term
from ...core.visibility import is_visible, readable
from ...errors import UnavailableError
from ..search import (
    Candidate,
    Candidates,
    Wanted,
    candidate_of,
    edit_in,
    first_place,
    indexed_terms,
    places_of,
)
from .references import marks_in
from .tables import Conversation, MemoryState


class MemorySearch:
    """`storage.search.SearchIndex` over the tables.

    Args:
        tables: The log.
        is_open: Whether it may be read.
    """

    def __init__(self, tables: MemoryState, is_open: Callable[[], bool]) -> None:
        self._tables = tables
        self._is_open = is_open

    async def open(self) -> None:
        """Nothing has to be made."""

    async def discard(self) -> None:
        """Nothing is there."""

    async def follow(self) -> int:
        """Nothing has to be taken up."""
        return 0

    async def is_behind(self, user_id: str) -> bool:
        """Never."""
        return False

    async def candidates(self, wanted: Wanted, before_place: int, limit: int) -> Candidates:
        """What has all terms, the newest first."""
        if not self._is_open():
            raise UnavailableError("the store is not open", retry_after_s=1.0)
        first, end = places_of(wanted, before_place)
        found = [it for it in self._all(wanted) if first <= it.place < end]
        found.sort(key=attrgetter("place"), reverse=True)
        last_place = found[limit - 1].place if len(found) >= limit else None
        return Candidates(tuple(found[:limit]), last_place, len(found[:limit]))

    def _all(self, wanted: Wanted) -> Iterator[Candidate]:
        places: dict[int, int] = {}  # the next one of each millisecond
        for log in self._logs(wanted):
            for row in log.rows:
                first = first_place(row.server_ts)
                place = places[first] = places.get(first, first - 1) + 1
                if _may_be_found(log, row, wanted):
                    intervals = readable(log.members[wanted.user_id])
                    marks = marks_in(log, [(row.seq, row.seq)], intervals).get(row.seq, NO_MARKS)
                    where = (place, log.key, row.seq, log.conversation_id, log.epoch, row.epoch)
                    what = (row.sender_id, row.server_ts, row.payload, row.client_msg_id)
                    yield candidate_of(wanted.user_id, marks, *where, *what)

    def _logs(self, wanted: Wanted) -> list[Conversation]:
        if wanted.conversation_id is None:
            return [log for _, log in sorted(self._tables.by_key.items()) if log.is_member(wanted.user_id)]
        log = self._tables.by_id.get(wanted.conversation_id)
        if log is None or not log.is_member(wanted.user_id):
            raise not_found()
        return [log]


def _may_be_found(log: Conversation, row: MessageRow, wanted: Wanted) -> bool:
    return (
        row.kind == "USER"
        and row.seq > log.floor_seq
        and row.seq not in log.recalled
        and wanted.sender_id in (None, row.sender_id)
        and is_visible(readable(log.members[wanted.user_id]), row.seq)
        and any(not it or _has_terms(wanted.query, indexed_terms(0, "", it)) for it in _versions(log, row))
    )


def _versions(log: Conversation, row: MessageRow) -> list[bytes]:
    """What a message has ever said; empty where that is in an archive."""
    edits = [edit_in(log.rows[seq - 1].payload) for seq in log.edits.get(row.seq, ())]
    return [row.payload, *(b"" if edit is None else edit[1] for edit in edits)]


def _has_terms(query: Query, terms: list[str]) -> bool:
    return all(_is_among(it, terms) for it in query.terms)


def _is_among(term: Term, terms: list[str]) -> bool:
    return any(it.startswith(term.text) for it in terms) if term.is_prefix else term.text in terms
