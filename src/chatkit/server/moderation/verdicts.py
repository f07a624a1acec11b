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
        """What members read: the text of a TEXT, what a STREAM begins with, the fallback text of a CUSTOM, the name of
        a file, the reaction of a REACTION, of an EDIT those of what it puts in the place of a message, of a TITLE both
        title and description, a line each; empty if there is none."""
        return _text_of(self.payload)


_SHOWN: Final = {"TEXT": "text", "STREAM": "text", "CUSTOM": "fallbackText", "REACTION": "reaction"}
"""Which field members read, by type; of files it is the name."""


def _text_of(payload: Payload) -> str:
    kind = payload.get("type")
    if kind == "EDIT":
        return _text_of(payload["payload"])
    if kind == "TITLE":
        return "\n".join(text for name in ("title", "description") if (text := payload.get(name)))
    value = payload.get(_SHOWN.get(kind, "name") if isinstance(kind, str) else "name")
    return value if isinstance(value, str) else ""


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
        content: A text, which of an EDIT and a STREAM takes the place of theirs, or a payload as a client may send it.
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
