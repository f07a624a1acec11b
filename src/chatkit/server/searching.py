"""Full-text search: the index follows the log in steps of its own, and a search looks at what it proposes.

What the index proposes is read from the log, and matches if `core.search` says so. A search looks at so many messages
and for so long at most, and then says where to go on.
"""

from __future__ import annotations

import logging
import re
from typing import Final

import anyio
import anyio.lowlevel
import msgspec

from .._abilities import offers
from ..core.log.marks import edit_of
from ..core.search import Hit, matches
from ..errors import BadRequestError, ConfigurationError, ForbiddenError, RefusedError
from ..ports import Clock
from ..storage.base import Entry, EntryReader, Store
from ..storage.search import PLACE_MAX, Searchable, SearchIndex, Wanted, searched_text

logger = logging.getLogger(__name__)

EXAMINED_MAX: Final = 1_000
"""Messages that one search looks at."""

SEARCH_S: Final = 2.0
"""After so long a search looks at nothing more."""

PAGE_BYTES_MAX: Final = 256 * 1024
"""Of bodies in one page of results, about."""

_PROPOSED: Final = 100
_LOOK_S: Final = 0.2
_REFUSED_S: Final = 5.0
_CURSOR = re.compile(r"[0-9a-f]{1,16}\Z")


class Found(msgspec.Struct, frozen=True):
    """A message that was found, and where in which field of what it says now."""

    entry: Entry
    field: str
    hit: Hit

    @property
    def size_bytes(self) -> int:
        """Of its bodies."""
        return len(self.entry.payload) + (0 if self.entry.edit is None else len(self.entry.edit.payload))


class FoundPage(msgspec.Struct, frozen=True):
    """What was found, the newest first.

    Attributes:
        next_cursor: Where the search goes on; None at its end. A page that is not the last one may be empty.
        up_to_date: Whether all that was stored in the user's conversations when the search began had been taken up by
            the index.
    """

    found: tuple[Found, ...]
    next_cursor: str | None
    up_to_date: bool


class Searching:
    """Search as a part of a server.

    Args:
        store: The log.
        log: Reads of it with the bodies that are in an archive.
        clock: For how long things take.
        is_on: Whether the host switched it on.

    Raises:
        ConfigurationError: It is on, and the store cannot be searched.
    """

    def __init__(self, store: Store, log: EntryReader, clock: Clock, *, is_on: bool) -> None:
        self._index: SearchIndex | None = store.search if offers(store, Searchable) else None
        if is_on and self._index is None:
            raise ConfigurationError("search: this store has no `search`: it is not Searchable")
        self._log = log
        self._clock = clock
        self._is_on = is_on
        self._whole_s: float | None = None

    @property
    def lag_s(self) -> float | None:
        """How long ago the index was seen here to have taken up all there was; 0 while it has; None without search."""
        return None if self._whole_s is None else max(0.0, self._clock.now_s() - self._whole_s - _LOOK_S)

    async def start(self) -> None:
        """Have an index, or, without search, none with words that nobody would take out of it."""
        if self._index is None:
            return
        if self._is_on:
            await self._index.open()
            self._whole_s = self._clock.now_s()
        else:
            await self._index.discard()

    @property
    def is_on(self) -> bool:
        """Whether there is anything to run."""
        return self._is_on

    async def run(self) -> None:
        """Follow the log until cancelled. A step takes no more than half of the time."""
        assert self._index is not None, "it was asked for when the server was made"
        while True:
            pause_s = await self._step(self._index)
            await anyio.sleep(pause_s)

    async def _step(self, index: SearchIndex) -> float:
        """Returns how long to pause: at least as long as it took."""
        began_s = self._clock.now_s()
        try:
            looked_at = await index.follow()
        except RefusedError as error:
            logger.warning("the index of search was refused for now: %s", error)
            return _REFUSED_S
        except Exception:
            logger.exception("a step of the index of search failed, and is tried again")
            return _REFUSED_S
        now_s = self._clock.now_s()
        if looked_at == 0:
            self._whole_s = now_s
        return now_s - began_s if looked_at else max(_LOOK_S, now_s - began_s)

    async def search(self, wanted: Wanted, cursor: str | None, limit: int) -> FoundPage:
        """What a user finds.

        Args:
            wanted: What and where.
            cursor: Where the page before ended.
            limit: Most results.

        Raises:
            BadRequestError: No such cursor.
            ForbiddenError: Search is switched off.
            NotFoundError: The user is no member of that conversation.
            UnavailableError, OverloadedError: Not now; a retry is safe.
        """
        if self._index is None or not self._is_on:
            raise ForbiddenError("search is switched off")
        before = _place(cursor)
        is_behind = await self._index.is_behind(wanted.user_id)
        found: list[Found] = []
        end_s, examined, size = self._clock.now_s() + SEARCH_S, 0, 0
        count = 2 * limit  # most candidates match, so that the first ones are mostly enough
        while True:
            page = await self._index.candidates(wanted, before, count)
            count = _PROPOSED
            for it in page.found:
                await (
                    anyio.lowlevel.checkpoint()
                )  # a long text takes its time, and others are served meanwhile
                one = await self._found(wanted, it.entry)
                if one is not None:
                    found.append(one)
                    size += one.size_bytes
                before = it.place
                if len(found) == limit or size >= PAGE_BYTES_MAX or self._clock.now_s() >= end_s:
                    return FoundPage(tuple(found), f"{before:x}", not is_behind)
            if page.last_place is None:
                return FoundPage(tuple(found), None, not is_behind)
            before, examined = page.last_place, examined + page.examined
            if examined >= EXAMINED_MAX or self._clock.now_s() >= end_s:
                return FoundPage(tuple(found), f"{before:x}", not is_behind)

    async def _found(self, wanted: Wanted, entry: Entry) -> Found | None:
        payload = entry.payload or await self._archived(entry, entry.seq)
        said = entry.edit
        if said is not None and not said.payload:
            edited = await self._archived(entry, said.seq)
            said = edit_of(said.seq, said.server_ts, edited) if edited else None
        if not payload or (said is None) != (entry.edit is None):
            return None
        field, text = searched_text(payload if said is None else said.payload)
        hit = matches(wanted.query, text)
        if hit is None:
            return None
        return Found(msgspec.structs.replace(entry, payload=payload, edit=said), field, hit)

    async def _archived(self, entry: Entry, seq: int) -> bytes:
        """A body of the conversation of an entry that is in an archive; empty if it has just gone."""
        entries = await self._log.entries(entry.conversation_id, seq - 1, 1)
        return entries[0].payload if entries and entries[0].seq == seq else b""


def _place(cursor: str | None) -> int:
    if cursor is None:
        return PLACE_MAX
    if not _CURSOR.match(cursor) or int(cursor, 16) > PLACE_MAX:
        raise BadRequestError("`cursor` must be one that a search returned")
    return int(cursor, 16)
