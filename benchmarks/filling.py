"""A log that is filled in this process, before a server is measured on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from pathlib import Path

from chatkit import ChatServer, Limits, ServerConfig, jwt_authenticator, open_store

from .node import SECRET

AT_ONCE = 500


def opened(file: Path) -> ChatServer:
    """A server without limits of one peer, to be entered."""
    return ChatServer(
        store=open_store(f"sqlite:///{file}"),
        authenticate=jwt_authenticator(SECRET),
        config=ServerConfig(limits=Limits.unlimited()),
    )


async def all_of(calls: Iterable[Awaitable[object]]) -> None:
    """Some at once, so that they share transactions."""
    waiting = list(calls)
    for first in range(0, len(waiting), AT_ONCE):
        await asyncio.gather(*waiting[first : first + AT_ONCE])
