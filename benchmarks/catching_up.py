"""`python -m benchmarks.catching_up [--window N ...]`: a device of many conversations comes back over a long line.

A user of 5,000 conversations was away while something was written in 300 of them. Their client (the SDK, with a file)
comes back through a proxy that adds 50 ms in each direction, to a server with the default limits of one peer. Printed
for each window of SYNCs: the seconds from WELCOME until the client has caught up, and from the first to the last
message. A window of 1 is what it takes to ask for one page after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import anyio
from tests.proof.proxy import FaultyProxy
from tests.proof.toxics import Latency

from chatkit import CaughtUp, ChatClient, ClientConfig, Connected, MessageReceived, sign_token
from chatkit.gateway.memory import MemoryConnector

from .filling import all_of, opened
from .node import SECRET, Node, node

USER, OTHER, DEVICE = "u-returning", "u-other", "phone"
ROUND_TRIP_S = 0.1

Took = dict[str, float]


def token() -> str:
    """The login of the one who comes back."""
    return sign_token(SECRET, user_id=USER, ttl_s=86_400)


async def prepare(folder: Path, names: list[str]) -> None:
    """Conversations, and a device that has caught up with all of them."""
    async with opened(folder / "server.db") as server:
        await all_of(
            server.create_conversation("GROUP", OTHER, [USER], conversation_id=name) for name in names
        )
        client = ChatClient(
            "ws://memory",
            token=token(),
            device_id=DEVICE,
            store=folder / "client.db",
            connector=MemoryConnector(server),
        )
        async with client:
            async for event in client.events():
                if isinstance(event, CaughtUp):
                    break


async def write(folder: Path, names: list[str], key: str) -> None:
    """Something is written in some of them."""
    async with opened(folder / "server.db") as server:
        await all_of(server.send(name, OTHER, "while you were away", client_msg_id=key) for name in names)


async def come_back(server: Node, file: Path, window: int | None, behind: int) -> Took:
    """One return over the long line."""
    config = ClientConfig() if window is None else ClientConfig(sync_window=window)
    messages: list[float] = []
    welcomed_at = caught_up_at = 0.0
    async with FaultyProxy("127.0.0.1", server.port) as proxy:
        proxy.add(Latency(ROUND_TRIP_S / 2))
        chat = ChatClient(proxy.url("ws"), token=token(), device_id=DEVICE, store=file, config=config)
        began = time.perf_counter()
        with anyio.fail_after(300):
            async with chat:
                async for event in chat.events():
                    if isinstance(event, Connected):
                        welcomed_at = time.perf_counter()
                    elif isinstance(event, MessageReceived):
                        messages.append(time.perf_counter())
                    elif isinstance(event, CaughtUp):
                        caught_up_at = time.perf_counter()
                        break
    if len(messages) != behind:
        raise RuntimeError(f"{len(messages)} messages instead of {behind}")
    return {
        "connecting_s": round(welcomed_at - began, 3),
        "caught_up_s": round(caught_up_at - welcomed_at, 3),
        "first_to_last_message_s": round(messages[-1] - messages[0], 3),
    }


def main() -> int:
    """Print each return, and the median for each window."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catching_up", description=__doc__)
    parser.add_argument("--conversations", type=int, default=5_000)
    parser.add_argument("--behind", type=int, default=300)
    parser.add_argument(
        "--window", type=int, nargs="*", default=[], help="instead of the default; 1: in a row"
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    took: dict[int | None, list[Took]] = {}
    names = [f"c-{number:05}" for number in range(options.conversations)]
    behind = names[:: max(1, options.conversations // options.behind)][: options.behind]
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        asyncio.run(prepare(folder, names))
        for turn, window in enumerate((options.window or [None]) * options.rounds):
            asyncio.run(write(folder, behind, f"m-{turn}"))
            with node(limited=True, storage=f"sqlite:///{folder}/server.db") as server:
                found = asyncio.run(come_back(server, folder / "client.db", window, len(behind)))
            print(json.dumps({"window": window or "default", **found}), flush=True)
            took.setdefault(window, []).append(found)
    for window, all_found in took.items():
        median_s = statistics.median(found["caught_up_s"] for found in all_found)
        print(f"window {window or 'default'}: {options.behind} conversations in {median_s:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
