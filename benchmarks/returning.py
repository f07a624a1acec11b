"""`python -m benchmarks.returning [--peer FOLDER]`: what it costs the server that 1,000 clients come back at once.

Each has missed 20 messages of one conversation. After a restart of the server all connect at the same moment: login by
token, HEADS, one SYNC, and one confirmation, which is durable. CPU is user and system of the server, from its first
line until the last confirmation is stored; its start is not in it. With `--peer`, a folder with a `bench_sio.py` that
runs socket.io with better-sqlite3 (same numbers; its clients confirm nothing), each round measures both.
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
from typing import Any

from .filling import all_of, opened
from .node import Node, node
from .peer import measure_peer
from .tree import CannotMeasureError, Tree
from .wire_client import WireClient, connect
from .workloads import TEXT

CLIENTS, MISSED = 1_000, 20
DEVICE = "d"
QUIET_S = 0.5
"""After the last answer: confirmations are stored a moment later."""


def conversation_of(number: int) -> str:
    """The one that this client has."""
    return f"r-{number}"


class Returning:
    """One client that comes back, as an app does it.

    Args:
        missed: What it waits for.
    """

    def __init__(self, missed: int) -> None:
        self._missed = missed
        self.messages = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def received(self, client: WireClient, events: list[dict[str, Any]]) -> None:
        """HEADS names what is behind: pull it; and confirm the page."""
        for event in events:
            if event["event"] == "HEADS":
                syncs = [
                    {
                        "event": "SYNC",
                        "conversationId": head["conversationId"],
                        "lastSeq": head["deliveredSeq"],
                        "epoch": head["epoch"],
                    }
                    for head in event["conversations"]
                    if head["headSeq"] > head["deliveredSeq"]
                ]
                if syncs:
                    client.send(syncs)
            elif event["event"] == "SYNC_PAGE":
                self.messages += len(event["messages"])
                client.send(
                    [
                        {
                            "event": "DELIVERED_ACK",
                            "conversationId": event["conversationId"],
                            "upToSeq": event["upToSeq"],
                        }
                    ]
                )
                if not event["more"] and not self.done.done():
                    self.done.set_result(None)


async def come_back(server: Node, missed: int) -> list[WireClient]:
    """All of them at once; each has everything then."""
    waiting = [Returning(missed) for _ in range(CLIENTS)]

    async def one(number: int) -> WireClient:
        token = server.token(f"u-{number}")
        source = f"127.0.0.{2 + number // 500}"
        client = await connect(server.port, token, DEVICE, waiting[number].received, source=source)
        await waiting[number].done
        return client

    clients = await asyncio.gather(*map(one, range(CLIENTS)))
    found = sum(it.messages for it in waiting)
    if found != CLIENTS * missed:
        raise CannotMeasureError(f"{found} messages came instead of {CLIENTS * missed}")
    return clients


async def measured(server: Node, missed: int) -> dict[str, float]:
    """CPU and time of one return."""
    cpu_s, began = server.cpu_s(), time.perf_counter()
    clients = await come_back(server, missed)
    took_s = time.perf_counter() - began
    await asyncio.sleep(QUIET_S)
    cpu_s = server.cpu_s() - cpu_s
    for client in clients:
        client.transport.close()
    return {"cpu_ms_per_client": round(1000 * cpu_s / CLIENTS, 3), "all_back_s": round(took_s, 2)}


async def create(file: Path) -> None:
    """A conversation for each."""
    async with opened(file) as host:
        await all_of(
            host.create_conversation(
                "SINGLE", f"s-{number % 10}", [f"u-{number}"], conversation_id=conversation_of(number)
            )
            for number in range(CLIENTS)
        )


async def write(file: Path) -> None:
    """What they miss."""
    async with opened(file) as host:
        await all_of(
            host.send(
                conversation_of(number), f"s-{number % 10}", TEXT, client_msg_id=f"m-{time.time_ns()}-{turn}"
            )
            for turn in range(MISSED)
            for number in range(CLIENTS)
        )


class Chatkit:
    """A log with devices that are away, and servers on it.

    Args:
        folder: Where the file is.
        tree: Whose server.
    """

    def __init__(self, folder: Path, tree: Tree | None = None) -> None:
        self._file = folder / "returning.db"
        self._tree = tree
        asyncio.run(create(self._file))
        with self._node() as first:  # each device has been here before
            asyncio.run(measured(first, 1))

    def measure(self) -> dict[str, float]:
        """One round."""
        asyncio.run(write(self._file))
        with self._node() as server:
            return asyncio.run(measured(server, MISSED))

    def _node(self) -> Any:
        return node(self._tree, storage=f"sqlite:///{self._file}")


def main() -> int:
    """Print each round, and the ratios of the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.returning", description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout of chatkit")
    parser.add_argument("--peer", type=Path, help="folder with bench_sio.py")
    parser.add_argument("--python", default=sys.executable, help="interpreter for that script")
    parser.add_argument("--node-modules", type=Path, help="folder with socket.io and better-sqlite3")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        sides = {"chatkit": Chatkit(Path(here)).measure}
        if options.against is not None:
            sides[str(options.against)] = Chatkit(Path(there), Tree(options.against)).measure
        if options.peer is not None:
            sides["socket.io"] = lambda: measure_peer(
                options.peer, options.python, options.node_modules, "node-better", "w4"
            )
        for turn in range(options.rounds):
            for name, measure in sides.items():
                found = measure()
                print(json.dumps({"round": turn, "server": name, **found}), flush=True)
                took.setdefault(name, []).append(float(found["cpu_ms_per_client"]))
    medians = {name: statistics.median(all_took) for name, all_took in took.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.2f} ms a client; chatkit takes {medians['chatkit'] / median:.2f} of it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
