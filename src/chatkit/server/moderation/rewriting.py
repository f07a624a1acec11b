"""A text in place of the words of a message: what a moderator rewrites, and what is stored of one that was held."""

from __future__ import annotations

from ...types import Payload


def with_text(payload: Payload, text: str) -> Payload:
    """What is stored in place of a message. An EDIT still says which message it is of and whether it ends a stream, a
    TITLE what the group is called, a STREAM is begun; of anything else a TEXT is made. Whom it mentions and what it
    answers stays; its other words go, also those for clients that do not know its type.
    """
    rest = {name: value for name, value in payload.items() if name != "fallbackText"}
    if payload["type"] == "EDIT":
        return {**rest, "payload": _text(payload["payload"], text)}
    if payload["type"] == "TITLE":
        return {**rest, **_titled(payload, text)}
    return {**rest, "text": text} if payload["type"] == "STREAM" else _text(payload, text)


def _text(payload: Payload, text: str) -> Payload:
    kept: Payload = {name: payload[name] for name in ("mentions", "replyTo") if name in payload}
    return {"type": "TEXT", "text": text, **kept}


def _titled(payload: Payload, text: str) -> dict[str, str]:
    """A text in place of the title and description that a TITLE says: nothing stays of what the moderator rewrote.

    Of one with both the first line is the title and the rest the description, empty if there is no more. A title is
    one line: further ones are joined to it.
    """
    if not payload.get("title") and "description" in payload:
        return {"description": text}
    if not payload.get("description"):
        return {"title": " ".join(text.splitlines())}
    title, _, description = text.partition("\n")
    return {"title": " ".join(title.splitlines()), "description": description}
