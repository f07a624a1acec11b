"""Streamed messages, as the server that ends the silent ones reads them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec


class IdleStream(msgspec.Struct, frozen=True):
    """An open stream whose author is silent.

    Attributes:
        seq: Of the message.
        at_ms: When its author was last heard of.
        parts: How many it has, with or without them in `text`.
        text: What there is of it.
    """

    conversation_id: str
    message_id: str
    seq: int
    author_id: str
    at_ms: int
    parts: int
    text: str


@runtime_checkable
class StreamReader(Protocol):
    """An ability beside `Store`: the server finds streams to end. Without it they stay open."""

    async def idle_streams(
        self, before_ms: int, after_ms: int, limit: int, *, parts: bool = True
    ) -> list[IdleStream]:
        """Open streams of which nothing was heard after `before_ms`, the longest silent first.

        Args:
            before_ms: Unix milliseconds.
            after_ms: Those that were heard of later than this count too: it was by a clock that was set back since.
            limit: At most so many; their texts are at most 60 KiB each.
            parts: Whether `text` holds their parts; else it is only what they began with.
        """
