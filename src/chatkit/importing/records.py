"""What a format finds in an export: users, conversations, messages, what it leaves out. All ids are the source's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from ..types import ConversationType, History
from .files import Files
from .times import Zone


class FoundUser(msgspec.Struct, frozen=True, gc=False):
    """Somebody of whom the export knows more than an id."""

    user: str
    name: str = ""
    email: str = ""


class FoundConversation(msgspec.Struct, frozen=True, gc=False):
    """A conversation, before its first message. Told again, it adds members.

    Attributes:
        conversation: Its id there.
        type: SINGLE where it is between two; it becomes a GROUP if anybody else wrote there.
        members: Who is in it now, as far as the export says so; None: whoever wrote.
        owner: Who made it; empty: nobody knows.
        history: FROM_START where anybody could come and read all of it.
    """

    conversation: str
    title: str = ""
    type: ConversationType = "GROUP"
    members: tuple[str, ...] | None = None
    owner: str = ""
    history: History = "FROM_JOIN"


class FoundMember(msgspec.Struct, frozen=True, gc=False):
    """Somebody who is in a conversation, where the export says that of users and not of conversations."""

    conversation: str
    user: str


class FoundMessage(msgspec.Struct, frozen=True, gc=False):
    """A message.

    Attributes:
        at_ms: When it was written, Unix milliseconds.
        key: The source's own id, unique in the conversation and the same in every later export; empty: it has none.
        name: What the author is called, where the source says it here.
    """

    conversation: str
    author: str
    at_ms: int
    text: str
    key: str = ""
    name: str = ""


class LeftOut(msgspec.Struct, frozen=True, gc=False):
    """Something that is not carried over.

    Attributes:
        kind: What it is, in the source's own word.
        reason: Why.
        where: File, and line where there are lines; or the conversation, and the message there.
        is_message: Whether it would have been an entry of its own; else it is a part of a message that is carried over.
    """

    kind: str
    reason: str
    where: str
    is_message: bool = True


Record = FoundUser | FoundConversation | FoundMember | FoundMessage | LeftOut


class Options(msgspec.Struct, frozen=True):
    """What a reader may have to be told, since the files do not say it.

    Attributes:
        zone: In which zone times are that name none.
        encoding: Of text files.
        date_order: Of WhatsApp's dates, such as DMY; empty: found out.
        conversation: Id and title of what a file of one conversation holds; empty: by the file's name.
        me: Who exported it, where their messages name nobody.
    """

    zone: Zone
    encoding: str = "utf-8"
    date_order: str = ""
    conversation: str = ""
    me: str = ""


Format = Callable[[Files, Options], Iterator[Record]]
"""A reader: goes through the files in one order, the same each time."""
