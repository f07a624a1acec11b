"""The first look at an export: what is in it, what will be made of it, and what is left out. Nothing is written.

What is kept grows with conversations, users and their authors, not with messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ..errors import ImportFileError
from ..types import ConversationType, History
from ._whole import whole
from .names import Names
from .records import FoundConversation, FoundMember, FoundMessage, FoundUser, LeftOut, Record
from .times import checked_ms

TITLE_CHARS_MAX: Final = 256
KINDS_MAX: Final = 500
"""Kinds of what is left out that are counted apart."""

CONVERSATIONS_MAX: Final = 200_000
AUTHORS_MAX: Final = 5_000_000
"""Pairs of a conversation and somebody who is in it or wrote there."""

_KIND_CHARS_MAX: Final = 64
_NAME_CHARS_MAX: Final = 256


class PlannedConversation(msgspec.Struct, gc=False):
    """A conversation as it will be made; all ids but `source` are ours.

    Attributes:
        source: Its id in the export.
        messages: How many it has there.
        first_ms: The earliest of their times.
        last_ms: The latest.
        listed: Who is in it, as the export says; None: it does not say.
        authors: Who wrote, with the number of their last message there.
    """

    source: str
    conversation_id: str
    title: str = ""
    wanted_type: ConversationType = "GROUP"
    history: History = "FROM_JOIN"
    owner: str = ""
    messages: int = 0
    first_ms: int = 0
    last_ms: int = 0
    listed: dict[str, None] | None = None
    authors: dict[str, int] = {}

    @property
    def type(self) -> ConversationType:
        """SINGLE only where just two are in it and nobody else wrote."""
        everybody = {*(self.listed or ()), *self.authors}
        return "SINGLE" if self.wanted_type == "SINGLE" and len(everybody) == 2 else "GROUP"

    def members(self, members_max: int) -> tuple[str, ...]:
        """Who will be in it, its owner first: those listed, else those who wrote; those who wrote last, if too many."""
        everybody = {*(self.listed or ()), *self.authors}
        knows_one = self.wanted_type == "SINGLE" and len(self.listed or ()) < 2  # the other one is not named
        wanted = everybody if self.type == "SINGLE" or knows_one else (self.listed or self.authors)
        by_last = sorted(wanted, key=lambda it: (-self.authors.get(it, 0), it))[:members_max]
        if self.owner in by_last:
            by_last.remove(self.owner)
            by_last.insert(0, self.owner)
        return tuple(by_last)


class Omission(msgspec.Struct, gc=False):
    """What of one kind is not carried over.

    Attributes:
        count: How often.
        where: The first of them.
        is_message: Whether each would have been an entry; else it is a part of one that is carried over.
    """

    kind: str
    reason: str
    is_message: bool
    count: int
    where: str


class Plan:
    """What an import will do.

    Attributes:
        conversations: By the source's id; those without messages too, which are not made.
        users: What is known of each, by the source's id.
        omissions: What is left out.
        messages: How many will be carried over.
        has_keyless: Whether the source has no id for some of them, so that they are known by time, author and words.
    """

    def __init__(self, names: Names) -> None:
        self.names = names
        self.conversations: dict[str, PlannedConversation] = {}
        self.users: dict[str, FoundUser] = {}
        self.omissions: dict[tuple[str, str, bool], Omission] = {}
        self.messages = 0
        self.has_keyless = False
        self._pairs = 0

    def add(self, records: Iterable[Record]) -> Iterator[int]:
        """Take all of it in; yields now and then how many messages there are, so that somebody can be told.

        Raises:
            ImportFileError: Of the format; or there is more than can be kept in mind.
        """
        for record in records:
            if type(record) is FoundMessage:
                self._add_message(record)
                if not self.messages % 1_000:
                    yield self.messages
            elif type(record) is FoundConversation:
                self._add_conversation(record)
            elif type(record) is FoundMember:
                self._add_members(self._conversation(record.conversation), (record.user,))
            elif type(record) is FoundUser:
                self._add_user(record)
            elif type(record) is LeftOut:
                self.omit(record)

    def made(self) -> list[PlannedConversation]:
        """Those that have messages."""
        return [it for it in self.conversations.values() if it.messages]

    def omit(self, left_out: LeftOut) -> None:
        """Count what is not carried over."""
        place = (whole(left_out.kind, _KIND_CHARS_MAX), left_out.reason, left_out.is_message)
        if place not in self.omissions and len(self.omissions) >= KINDS_MAX:
            place = ("others", "there are more kinds than are told apart", left_out.is_message)
        known = self.omissions.get(place)
        if known is None:
            self.omissions[place] = Omission(*place, 1, whole(left_out.where))
        else:
            known.count += 1

    def _add_user(self, found: FoundUser) -> None:
        name, email = whole(found.name, _NAME_CHARS_MAX), whole(found.email, _NAME_CHARS_MAX)
        self.users[found.user] = FoundUser(found.user, name, email)
        self._bound()

    def _add_conversation(self, found: FoundConversation) -> None:
        known = self._conversation(found.conversation)
        known.title = whole(" ".join(found.title.splitlines()), TITLE_CHARS_MAX) or known.title
        known.wanted_type, known.history = found.type, found.history
        known.owner = self.names.user(found.owner) if found.owner else known.owner
        if found.members is not None:
            self._add_members(known, found.members)

    def _add_members(self, known: PlannedConversation, users: Iterable[str]) -> None:
        listed = known.listed = {} if known.listed is None else known.listed
        before = len(listed)
        listed.update((self.names.user(it), None) for it in users if it)
        self._pairs += len(listed) - before
        self._bound()

    def _add_message(self, found: FoundMessage) -> None:
        known = self.conversations.get(found.conversation) or self._conversation(found.conversation)
        at_ms = checked_ms(found.at_ms)
        self.messages += 1
        self.has_keyless = self.has_keyless or not found.key
        known.first_ms = min(known.first_ms, at_ms) if known.messages else at_ms
        known.last_ms = max(known.last_ms, at_ms)
        known.messages += 1
        author = self.names.user(found.author)
        if author not in known.authors:
            self._pairs += 1
            self._bound()
        known.authors[author] = known.messages
        if found.author not in self.users:
            self._add_user(FoundUser(found.author, found.name))

    def _conversation(self, source: str) -> PlannedConversation:
        known = self.conversations.get(source)
        if known is None:
            name = self.names.conversation(source)
            known = self.conversations[source] = PlannedConversation(source, name)
            self._bound()
        return known

    def _bound(self) -> None:
        if len(self.conversations) > CONVERSATIONS_MAX or self._pairs + len(self.users) > AUTHORS_MAX:
            raise ImportFileError(
                "the export has too many conversations or users; import its parts one by one"
            )
