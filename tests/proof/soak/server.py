"""The server of a soak, as `chatkit serve` runs it; every few seconds it prints what it holds, as a line of JSON.

`python -m tests.proof.soak.server FOLDER PORT EVERY_S`
"""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from msgspec.structs import replace

from chatkit.assemble import open_store
from chatkit.cli.serve import run
from chatkit.cli.web import listen
from chatkit.core.rate_limit import Rate
from chatkit.server.auth import jwt_authenticator
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.server.server import ChatServer

from ..held import sizes

SECRET = "soak-secret-that-is-long-enough-for-hs512-which-asks-for-sixty-four-bytes"

HEARTBEAT_S = 5.0
"""Shorter than the default, so that what hangs is found several times a minute."""

_WIDE = 1_000_000
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


def without_limits() -> Limits:
    """No rate, and bounds that are out of reach: all clients of a soak have one address, and few users send it all."""
    usual = Limits()
    wide: dict[str, Any] = {"commit_share_per_user": 1.0}
    for name in usual.__struct_fields__:
        value = getattr(usual, name)
        if isinstance(value, Rate) or type(value) is int:
            wide[name] = _WIDE if type(value) is int else None
    return replace(usual, **wide)


def sample(server: ChatServer) -> dict[str, float]:
    """What the process and the server hold now."""
    rss, mapped = (int(pages) * _PAGE_MIB for pages in Path("/proc/self/statm").read_text().split()[1:3])
    return {
        "rss_mib": round(rss, 2),
        "sqlite_mib": round(_sqlite_mib(), 2),
        "own_mib": round(rss - mapped, 2),  # without what is mapped from files
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,  # listing them takes one
        "tasks": len(asyncio.all_tasks()),
        "sessions": len(list(server._sessions)),
        "audiences": len(server._hub.conversation_ids()),
        "held": sum(sizes(server).values()),
        "objects": len(gc.get_objects()),  # all that the collector knows, garbage among them
        "queue_bytes": server._committer._waiting.payload_bytes,
    }


def _sqlite_mib() -> float:
    """What SQLite itself holds: nearly all of it are its caches, which fill up to a bound as the log grows."""
    library = ctypes.util.find_library("sqlite3")
    if library is None:
        return 0.0
    used = ctypes.CDLL(library).sqlite3_memory_used
    used.restype = ctypes.c_int64
    return int(used()) / 2**20


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM."""
    folder, port, every_s = Path(arguments[0]), int(arguments[1]), float(arguments[2])
    server = ChatServer(
        store=open_store(f"sqlite:///{folder / 'chat.db'}"),
        authenticate=jwt_authenticator(SECRET),
        config=ServerConfig(heartbeat_s=HEARTBEAT_S, limits=without_limits()),
    )

    async def tell(_address: str) -> None:
        while True:
            print(json.dumps(sample(server)), flush=True)
            await anyio.sleep(every_s)

    run(server, listen("127.0.0.1", port), tell)


if __name__ == "__main__":
    main(sys.argv[1:])
