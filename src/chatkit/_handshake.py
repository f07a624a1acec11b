"""Closes a connection whose TLS handshake is cancelled: httpcore 1.0.9 leaves its socket open.

A peer that takes connections and never says anything would cost a descriptor with each request that has a deadline.
Known as encode/httpcore discussion 1128. Called wherever a request is made with httpx or httpcore: `push`, `client`,
`drivers`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

Trace = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""What httpcore calls before and after each step of a request that has one as its extension `trace`."""


@asynccontextmanager
async def handshake_guarded() -> AsyncIterator[Trace]:
    """Make one request inside, with this trace: nothing of a connection that it began and gave up stays open."""
    begun: Any = None

    async def trace(name: str, info: Mapping[str, Any]) -> None:
        nonlocal begun
        if name.endswith("connect_tcp.complete"):
            begun = info["return_value"]
        elif name.endswith("start_tls.complete"):
            begun = None  # the pool knows it from here on

    try:
        yield trace
    except BaseException:
        if begun is not None:
            await anyio.aclose_forcefully(begun)
        raise
