"""What full-text search asks of a store: an index that follows the log, and messages that it proposes.

An ability beside `storage.base.Store`: a store that has it is `Searchable`. The index is a hint. It follows the log in
transactions of its own, so it is a little behind; what it proposes is read from the log, in the same snapshot in which
it is judged who may see it, and `core.search.matches` decides whether it matches. So nothing that was recalled, has
expired, or is hidden from a user is ever found, whatever the index says; and it can be thrown away and made again.

Messages are ordered by the time they were sent: each has a place, a number that begins with `server_ts`.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol, runtime_checkable

import msgspec

from ..core.log.marks import StoredMarks
from ..core.search import TERM_MAX, Query, Term, terms_of
from .base import Entry, message_id

INDEX_MAX: Final = 200
"""Entries that are looked at in one step of the index."""

PLACE_BITS: Final = 21
"""Of a place, for messages of the same millisecond."""

TS_MAX: Final = (1 << 42) - 1
"""The last millisecond that has a place of its own: in the year 2109."""

CONVERSATIONS_MAX: Final = 32
"""In so many conversations an index is asked for their messages alone; in more, what it finds is looked through."""

SCAN_MAX: Final = 20_000
"""Messages, of whatever conversation, that are looked through in one step."""

PLACE_MAX: Final = (1 << 63) - 1

_CONVERSATION = "\ue000"
_SENDER = "\ue001"
"""What the terms begin with that say where and by whom a message is: no text has these characters in its terms."""


class Wanted(msgspec.Struct, frozen=True):
    """What is searched for, and where.

    Attributes:
        user_id: Who searches: what they may not read is never found.
        conversation_id: Only there; None: in all that the user is a member of.
        sender_id: Only what this user wrote.
        after_ms: Only what was sent then or later.
        before_ms: Only what was sent earlier.
    """

    user_id: str
    query: Query
    conversation_id: str | None = None
    sender_id: str | None = None
    after_ms: int = 0
    before_ms: int = TS_MAX + 1


class Candidate(msgspec.Struct, frozen=True):
    """A message that may match, as the user sees it. A payload is empty where it is in an archive."""

    place: int
    entry: Entry


class Proposed(NamedTuple):
    """What an index proposes: one version of a message. `seq` is its own entry, of the message or of an edit."""

    place: int
    conversation_key: int
    message_seq: int
    seq: int


class Candidates(msgspec.Struct, frozen=True):
    """Messages that may match, the newest first; the next read goes on before `last_place`, None is the end.

    Attributes:
        examined: How many the index proposed; some of them may not be seen by the user, and are left out.
    """

    found: tuple[Candidate, ...]
    last_place: int | None
    examined: int


class SearchIndex(Protocol):
    """The index of a log. All methods raise UnavailableError if storage refused; a retry is safe."""

    async def open(self) -> None:
        """Have an index, made anew if there is none, it is damaged, or it is of another log or another state of it."""

    async def discard(self) -> None:
        """Remove the index with all words in it. Where nobody searches, nobody keeps it up to date."""

    async def follow(self) -> int | None:
        """Take up what is new in the log, and let go what has gone from it, in one short transaction.

        Returns:
            How many entries it looked at, at most `INDEX_MAX`; 0: all is taken up; None: another node has its turn, and
            what is left is not known here.
        """

    async def is_behind(self, user_id: str) -> bool:
        """Whether the index has not taken up all that was committed to a user's conversations. Where that costs nothing
        more it may say so of all conversations."""

    async def candidates(self, wanted: Wanted, before_place: int, limit: int) -> Candidates:
        """At most `limit` of what the index proposes, the newest first, of those before a place.

        Raises:
            NotFoundError: The user is no member of that conversation.
        """


@runtime_checkable
class Searchable(Protocol):
    """A store that can be searched."""

    @property
    def search(self) -> SearchIndex:
        """Its index."""


class _Body(msgspec.Struct, rename="camel"):
    type: str = ""
    text: str = ""
    name: str | None = None
    fallback_text: str = ""


_decode_body = msgspec.json.Decoder(_Body).decode


class _EditBody(msgspec.Struct):
    seq: int
    payload: msgspec.Raw


_decode_edit = msgspec.json.Decoder(_EditBody).decode


def edit_in(payload: bytes) -> tuple[int, bytes] | None:
    """Of a stored EDIT the message that it names, and what it says now; None if it is damaged, or in an archive."""
    try:
        body = _decode_edit(payload)
    except ValueError:
        return None
    return body.seq, bytes(body.payload)


def searched_text(payload: bytes) -> tuple[str, str]:
    """The field of a body that is searched, and what it says: the text, the name of a file, or a fallback text."""
    try:
        body = _decode_body(payload)
    except ValueError:  # an unknown payload, or a damaged one
        return "", ""
    if body.type == "TEXT":
        return "text", body.text
    if body.type == "CUSTOM":
        return "fallbackText", body.fallback_text
    return ("name", body.name) if body.name else ("", "")


def indexed_terms(conversation_key: int, sender_id: str, payload: bytes) -> list[str]:
    """All terms of a message, in order; none if it says nothing that could be searched."""
    _, text = searched_text(payload)
    terms = terms_of(text)
    if not terms:
        return []
    return sorted((*terms, _conversation_term(conversation_key), _sender_term(sender_id)))


def wanted_terms(wanted: Wanted) -> list[Term]:
    """The terms that a message must have."""
    sender = [] if wanted.sender_id is None else [Term(_sender_term(wanted.sender_id))]
    return [*sender, *wanted.query.terms]


def conversation_terms(conversation_keys: Iterable[int]) -> list[Term]:
    """The terms of which a message must have one."""
    return [Term(_conversation_term(key)) for key in conversation_keys]


def _conversation_term(key: int) -> str:
    return f"{_CONVERSATION}{key:x}"


def _sender_term(sender_id: str) -> str:
    digest = blake2b(sender_id.encode(), digest_size=6).hexdigest()
    assert len(digest) < TERM_MAX
    return _SENDER + digest


def first_place(server_ts: int) -> int:
    """The first place of a millisecond; what was sent before all time, or after it, is put at its ends."""
    return max(0, min(server_ts, TS_MAX)) << PLACE_BITS


def places_of(wanted: Wanted, before_place: int) -> tuple[int, int]:
    """The places that are searched: from the first to the second, which is not included."""
    last = PLACE_MAX if wanted.before_ms > TS_MAX else first_place(wanted.before_ms)
    return first_place(wanted.after_ms), min(before_place, last)


def is_shown(it: Proposed, marks: StoredMarks) -> bool:
    """Whether a version is the one that a user sees: the latest edit that they may read, or the message itself."""
    return it.seq == (it.message_seq if marks.edit is None else marks.edit.seq)


def candidate_of(
    user_id: str,
    marks: StoredMarks,
    place: int,
    key: int,
    seq: int,
    conversation_id: str,
    epoch: str,
    row_epoch: str,
    sender_id: str,
    server_ts: int,
    payload: bytes,
    client_msg_id: str | None,
) -> Candidate:
    """A row of the log as a user gets it: with what was said of it later, and its key if it is theirs."""
    name, own = message_id(key, row_epoch, seq), client_msg_id if sender_id == user_id else None
    said = (marks.edit, marks.reactions, marks.stream)
    return Candidate(
        place, Entry(conversation_id, epoch, name, seq, sender_id, server_ts, payload, own, *said)
    )
