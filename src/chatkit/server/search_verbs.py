"""The verb for hosts that searches as a user."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..core.marks import stream_end
from ..core.search import parse_query
from ..storage.base import Entry
from ..storage.search import TS_MAX, Wanted
from ..types import Edit, Marks, Message, Reaction, SearchHit, SearchPage
from ..wire.http import UnixMs
from .host import HostVerbs, check_ids, check_value, named
from .searching import Found, Searching

SEARCH_LIMIT_MAX = 50
"""Results in one page."""

_Limit = Annotated[int, msgspec.Meta(ge=1)]


class SearchVerbs(HostVerbs):
    """What a host may find; `ChatServer` is one.

    Attributes:
        searching: Searches, and keeps the index.
    """

    searching: Searching

    async def search(
        self,
        user_id: str,
        query: str,
        *,
        conversation_id: str | None = None,
        sender_id: str | None = None,
        after_ms: int | None = None,
        before_ms: int | None = None,
        cursor: str | None = None,
        limit: int = 20,
    ) -> SearchPage:
        """Messages that a user may read and that match, the newest first.

        Args:
            user_id: As whom.
            query: Words, all of which must be found; "in quotes" they must follow each other, and `wor*` finds all
                that begin so. At most 256 characters.
            conversation_id: Only there; None: in all that the user is a member of.
            sender_id: Only what this user wrote.
            after_ms: Only what was sent then or later, in Unix milliseconds.
            before_ms: Only what was sent earlier.
            cursor: `next_cursor` of the page before.
            limit: Most results; above 50 it is 50.

        Returns:
            A page; the last one has no `next_cursor`. One that is not the last may have few results, or none.

        Raises:
            BadRequestError: A query of nothing, or another argument that is none.
            ForbiddenError: Search is switched off (`ServerConfig.search`).
            NotFoundError: The user is no member of that conversation.
            UnavailableError, OverloadedError: Not now; a retry is safe.

        Source: docs/search.md
        """
        check_ids(user_id, *named(conversation_id), *named(sender_id))
        check_value(str, "query", query)
        check_value(_Limit, "limit", limit)
        for name, value in (("after_ms", after_ms), ("before_ms", before_ms)):
            check_value(UnixMs | None, name, value)
        check_value(str | None, "cursor", cursor)
        self.engine.check_loop()
        wanted = wanted_of(user_id, query, conversation_id, sender_id, after_ms, before_ms)
        page = await self.searching.search(wanted, cursor, min(limit, SEARCH_LIMIT_MAX))
        return SearchPage(tuple(map(_hit, page.found)), page.next_cursor, page.up_to_date)


def wanted_of(
    user_id: str,
    query: str,
    conversation_id: str | None,
    sender_id: str | None,
    after_ms: int | None,
    before_ms: int | None,
) -> Wanted:
    """What is searched for. Raises BadRequestError for a query of nothing."""
    times = (after_ms or 0, TS_MAX + 1 if before_ms is None else before_ms)
    return Wanted(user_id, parse_query(query), conversation_id, sender_id, *times)


def _hit(it: Found) -> SearchHit:
    entry = it.entry
    message = Message(
        entry.conversation_id,
        entry.seq,
        entry.message_id,
        entry.sender_id,
        entry.server_ts,
        msgspec.json.decode(entry.payload),
        entry.client_msg_id,
        _marks(entry),
    )
    return SearchHit(message, it.field, it.hit.highlights, it.hit.snippet)


def _marks(entry: Entry) -> Marks | None:
    if entry.edit is None and not entry.reactions:
        return None
    said, edit = entry.edit, None
    if said is not None:
        content = msgspec.json.decode(said.payload)
        edit = Edit(said.seq, said.server_ts, content, stream_end(said.ends))
    reactions = tuple(Reaction(it.reaction, it.count, it.user_ids) for it in entry.reactions)
    return Marks(entry.seq if edit is None else edit.seq, edit, reactions)
