"""The moderator port: what a host's moderator is given, and what it may answer. Plain values.

    async def moderate(submissions):
        return [Refuse("no links here") if "http" in it.text else Allow() for it in submissions]

Source: docs/moderation.md
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from ...types import Payload


class Submission(msgspec.Struct, frozen=True):
    """A message that waits for its verdict.

    Attributes:
        conversation_id: Where it is to go.
        sender_id: Who sends it: a member there.
        client_msg_id: The sender's key. The three name the message for ever.
        payload: What it says, decoded; a copy that nobody else holds.
        sent_ms: Unix milliseconds when it came.
    """

    conversation_id: str
    sender_id: str
    client_msg_id: str
    payload: Payload
    sent_ms: int

    @property
    def text(self) -> str:
        """All that members read, a line each: the text of a TEXT, what a STREAM begins with, the reaction of a
        REACTION, title and description of a TITLE, name and `alt` of a file, of an EDIT the same of what it puts in
        the place of a message; and of all but a TEXT the `fallbackText`. Empty if there is none."""
        return "\n".join(_words_of(self.payload))


_SHOWN: Final = {
    "TEXT": ("text",),
    "STREAM": ("text", "fallbackText"),
    "CUSTOM": ("fallbackText",),
    "REACTION": ("reaction", "fallbackText"),
    "TITLE": ("title", "description", "fallbackText"),
    "EDIT": ("fallbackText",),
}
_SHOWN_OF_FILES: Final = ("name", "alt", "fallbackText")
"""Which fields members read, by type. Whoever does not know a type reads its `fallbackText`."""


def _words_of(payload: Payload) -> list[str]:
    kind = payload.get("type")
    edited = _words_of(payload["payload"]) if kind == "EDIT" else []
    names = _SHOWN.get(kind, _SHOWN_OF_FILES) if isinstance(kind, str) else _SHOWN_OF_FILES
    return edited + [it for name in names if isinstance(it := payload.get(name), str) and it]


class Allow(msgspec.Struct, frozen=True, tag=True):
    """It is stored as it is."""


class Refuse(msgspec.Struct, frozen=True, tag=True):
    """It is never stored under this key.

    Attributes:
        reason: Told to the sender; at most 256 characters.
    """

    reason: str = "this message is not allowed here"


class Rewrite(msgspec.Struct, frozen=True, tag=True):
    """Something else is stored in its place, which its sender is shown too.

    Attributes:
        content: A text, which takes the place of all words (of an EDIT, a TITLE and a STREAM inside of them; `mentions`
            and `replyTo` stay), or a payload as a client may send it.
    """

    content: str | Payload


class Hold(msgspec.Struct, frozen=True, tag=True):
    """Somebody is to look at it first: `ChatServer.held_messages`. Later ones of its sender there wait behind it.

    Attributes:
        reason: For who reviews it; at most 256 characters.
    """

    reason: str = ""


ModeratorVerdict = Allow | Refuse | Rewrite | Hold
"""What may become of a message."""

Moderator = Callable[[Sequence[Submission]], Awaitable[Sequence[ModeratorVerdict]]]
"""Takes messages, and returns a verdict for each, in their order. What it raises, and what is no such answer, is its
failure: `ModerationConfig.on_failure` says what happens then. It may be called several times at once, never twice at
once for one sender in one conversation, and is cancelled at its deadline."""
